"""The compiled loop over episodes of small problems that all linear methods share.

Functions as arguments, or in a closure, would not be kept on disk. So each method gets a copy of the function `play`
below in which `begin`, `learn` and `after` are its own, as if it had been written in the method's file.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from playfield.linear.features import encode
from playfield.linear.jit import jit, piece
from playfield.linear.kernels import ENDLESS, ONGOING, TERMINATED, TRUNCATED
from playfield.linear.problems import STATE, observe, start, step

Piece = Callable[..., Any]


@piece
def nothing(m, coder, obs, index, value, episode):
    """What most methods do after an episode."""


# Names for `play` as it stands here; in a method's copy they are its own.
begin: Piece = nothing
learn: Piece = nothing
after: Piece = nothing


def loop(begin: Piece, learn: Piece, after: Piece = nothing) -> Any:
    """`play` for a method, compiled: its first action, how it learns, and what it does after each episode."""
    return _own(play, begin=begin, learn=learn, after=after)


@functools.cache
def entries(begin: Piece, learn: Piece) -> tuple[Piece, Piece]:
    """`begin` and `learn` to be called from Python, where a `piece` would keep a reference to `rng` at every call."""
    return _own(first, begin=begin, learn=learn), _own(further, begin=begin, learn=learn)


def _own(function: Callable[..., Any], **pieces: Piece) -> Any:
    """`function`, compiled as if it stood in the file that `learn` stands in."""
    where = pieces["learn"].__module__
    made = FunctionType(function.__code__, globals() | pieces | {"__name__": where})
    made.__doc__, made.__qualname__ = function.__doc__, f"{where}.{function.__name__}"  # names the file on disk
    return jit(made)


def first(m, h, rng, index, value, on):
    """The first action of an episode."""
    return begin(m, h, rng, index, value, on)


def further(m, h, rng, reward, index, value, on, ended):
    """Learn from what came of the last action; returns the next."""
    return learn(m, h, rng, reward, index, value, on, ended)


def play(problem, coder, m, h, rng, decay, max_steps, stop, steps, returns):
    """Episodes of a problem of `linear.problems`; fills `steps` and `returns` [episodes], to an endless one.

    It ends at the next step when another thread sets stop[0].
    """
    state, obs = np.zeros(STATE), np.zeros(len(coder.low))
    index, value = np.zeros(coder.active, np.int64), np.zeros(coder.active)
    for episode in range(len(steps)):
        start(problem, rng, state)
        observe(problem, state, obs)
        action = begin(m, h, rng, index, value, encode(coder, obs, index, value))
        ended, t, score = ONGOING, 0, 0.0
        while ended == ONGOING:
            reward, over = step(problem, rng, state, action)
            observe(problem, state, obs)
            t += 1
            if stop[0]:
                return
            score += reward
            ended = TERMINATED if over else TRUNCATED if t == max_steps else ONGOING
            action = learn(m, h, rng, reward, index, value, encode(coder, obs, index, value), ended)
        m.epsilon[0] *= decay
        steps[episode], returns[episode] = t, score
        if t == ENDLESS:
            return
        after(m, coder, obs, index, value, episode)
