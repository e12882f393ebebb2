"""The compiled loop over episodes of small problems that all linear methods share.

Functions as arguments, or in a closure, could not be cached on disk. So each method gets a copy of the function
`play` below in which `begin`, `learn` and `after` are its own, as if it had been written in the method's file.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any, Protocol

import numpy as np

from playfield.linear.features import Coder, encode
from playfield.linear.jit import Bools, Floats, Ints, jit, kernel
from playfield.linear.kernels import ENDLESS, ONGOING, TERMINATED, TRUNCATED
from playfield.linear.problems import STATE, observe, start, step


class Memory(Protocol):
    """What a method keeps while it learns, as a NamedTuple of arrays; these two are in all of them."""

    @property
    def w(self) -> Floats:
        """[rows, F] weights."""

    @property
    def epsilon(self) -> Floats:
        """[1] probability of a random action."""


Kernel = Callable[..., Any]  # compiled; a method's own NamedTuples are among the arguments
Rates = Any  # a method's NamedTuple of step sizes and other numbers from its Config


@kernel
def no_op(m: Memory, coder: Coder, obs: Floats, index: Ints, value: Floats, episode: int) -> None:
    """What most methods do after an episode."""


# Placeholders in the functions below: a method's copy has its own in their place.
begin: Kernel = no_op
learn: Kernel = no_op
after: Kernel = no_op


def episode_loop(begin: Kernel, learn: Kernel, after: Kernel = no_op) -> Kernel:
    """`play` for a method, compiled.

    Args:
        begin: resets traces and returns the first action of an episode, see `first_action`.
        learn: updates the weights and returns the next action, see `next_action`.
        after: called at the end of each episode with (m, coder, obs, index, value, episode).
    """
    return _compiled_copy(play, begin=begin, learn=learn, after=after)


@functools.cache
def entry_points(begin: Kernel, learn: Kernel) -> tuple[Kernel, Kernel]:
    """`begin` and `learn` as functions to be called from Python.

    A `kernel` itself would leak a reference to `rng` at every such call.
    """
    return _compiled_copy(first_action, begin=begin, learn=learn), _compiled_copy(
        next_action, begin=begin, learn=learn
    )


def _compiled_copy(function: Callable[..., Any], **own: Kernel) -> Kernel:
    """`function`, compiled as if it stood in the file of `own["learn"]`, with the functions `own`."""
    module = own["learn"].__module__
    copy = FunctionType(function.__code__, globals() | own | {"__name__": module})
    copy.__doc__, copy.__qualname__ = function.__doc__, f"{module}.{function.__name__}"  # names the file on disk
    return jit(copy)


def first_action(m: Memory, h: Rates, rng: np.random.Generator, index: Ints, value: Floats, active: int) -> int:
    """The first action of an episode, from the features of its first state."""
    action: int = begin(m, h, rng, index, value, active)
    return action


def next_action(
    m: Memory,
    h: Rates,
    rng: np.random.Generator,
    reward: float,
    index: Ints,
    value: Floats,
    active: int,
    ended: int,
) -> int:
    """Learn from the reward of the last action and the features of the next state; returns the next action."""
    action: int = learn(m, h, rng, reward, index, value, active, ended)
    return action


def play(
    problem: int,
    coder: Coder,
    m: Memory,
    h: Rates,
    rng: np.random.Generator,
    epsilon_decay: float,
    max_steps: int,
    stop: Bools,
    steps: Ints,
    returns: Floats,
) -> None:
    """Learn from episodes of a problem of `linear.problems`; fills `steps` and `returns` [episodes].

    It ends early after an episode of `ENDLESS` steps, and at the next step when another thread sets stop[0].
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
        m.epsilon[0] *= epsilon_decay
        steps[episode], returns[episode] = t, score
        if t == ENDLESS:
            return
        after(m, coder, obs, index, value, episode)
