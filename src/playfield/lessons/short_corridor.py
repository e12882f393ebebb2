"""Figure 13.1: REINFORCE in a short corridor where left and right are switched.

Three squares in a row and the goal; a step costs 1. In the second square the action "right" goes left, and "left"
goes right; but all squares look alike, so a policy is a single number, the probability of "right". With an
epsilon-greedy choice that number is near 0 or near 1, and both are bad (with epsilon 0.1: -82 and -44). The best is
in between, 2 - sqrt(2), about 0.59, with a return of -11.6. REINFORCE follows the gradient of the return, and comes
close.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from playfield.lessons import _rows
from playfield.lessons._outcome import Outcome
from playfield.lessons._panels import Curves, Line, Mark
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import Row, mean_row
from playfield.lessons._tabular import play_all
from playfield.linear.jit import Bools, Floats, jit

BUDGET = Budget(runs=100, episodes=1_000)
POWERS = (-13, -14, -15)  # of two: the step sizes; with -12 some runs end in a policy that never reaches the goal
COMPARED = -13
FIRST = 0.05  # probability of "right" before learning
BEST_RETURN, BEST_RIGHT = -11.6, 0.59
LAST = 100  # episodes in the mean that is compared
MOST = 100_000  # steps after which an episode is truncated
SMOOTH = 5  # episodes in a point of the curves


@jit
def learn(
    alpha: float, rng: np.random.Generator, stop: Bools, theta: Floats, actions: Bools, returns: Floats, right: Floats
) -> None:
    """REINFORCE on the preferences theta [2] of left and right.

    Args:
        actions: room for those of an episode, True for right.
        returns, right [episodes]: the return of each episode, and the probability of "right" before it.
    """
    for episode in range(len(returns)):
        if stop[0]:
            return
        square, steps = 0, 0
        p = 1 / (1 + math.exp(theta[0] - theta[1]))
        right[episode] = p
        while square < 3 and steps < len(actions):
            actions[steps] = rng.random() < p
            forward = actions[steps] != (square == 1)
            square = square + 1 if forward else max(square - 1, 0)
            steps += 1
        returns[episode] = -steps
        for t in range(steps):
            p = 1 / (1 + math.exp(theta[0] - theta[1]))
            up = alpha * (t - steps) * ((1.0 if actions[t] else 0.0) - p)  # the return from step t is t - steps
            theta[1] += up
            theta[0] -= up


def value(p: float) -> float:
    """The expected return where "right" has the probability p, from the equations of the three squares."""
    moves = np.array([[1 - p, p, 0], [p, 0, 1 - p], [0, 1 - p, 0]])
    return float(np.linalg.solve(np.eye(3) - moves, -np.ones(3))[0])


def run(request: Request) -> Outcome:
    """100 runs of 1000 episodes for each of three step sizes."""
    request.progress.parts(len(POWERS))
    start = np.array([0.0, math.log(FIRST / (1 - FIRST))])
    last = min(LAST, request.episodes)
    blocks = np.array_split(np.arange(request.episodes), -(-request.episodes // SMOOTH))
    x = np.array([block.mean() + 1 for block in blocks])
    rows: list[Row] = []
    returned, chances = [], []
    for power in POWERS:

        def play(rng: np.random.Generator, stop: Bools, alpha: float = 2.0**power) -> tuple[Floats, Floats]:
            returns, right = np.zeros(request.episodes), np.zeros(request.episodes)
            learn(alpha, rng, stop, start.copy(), np.zeros(MOST, np.bool_), returns, right)
            return returns, right

        label = f"alpha 2^{power}"
        found, seconds = play_all(request, label, play)
        returns, right = (np.stack(part) for part in zip(*found, strict=True))
        published = BEST_RETURN if power == COMPARED else None
        ends, chance = returns[:, -last:].mean(axis=1), right[:, -last:].mean(axis=1)
        rows.append(mean_row(label, f"return, {_rows.last(last, 'episode')}", published, ends, seconds_here=seconds))
        rows.append(mean_row(label, 'probability of "right"', None, chance))
        returned.append(Line(label, x, np.stack([returns[:, block].mean(axis=1) for block in blocks], axis=1)))
        chances.append(Line(label, x, right[:, [int(block[-1]) for block in blocks]]))
    both = max(value(FIRST), value(1 - FIRST))
    ours = rows[2 * POWERS.index(COMPARED)].ours
    claim = "above 0: better than the best epsilon-greedy policy"
    rows.append(
        Row(f"alpha 2^{COMPARED}", f"return minus {both:.1f}", None, ours - both, claim=claim, holds=ours > both)
    )
    grid = np.linspace(0.02, 0.98, 97)
    values = np.array([value(p) for p in grid])
    top = 2 - math.sqrt(2)
    rows.append(Row("the best policy", "expected return", BEST_RETURN, value(top), tolerance=0.01))
    rows.append(
        Row("the best policy", 'probability of "right"', BEST_RIGHT, float(grid[values.argmax()]), tolerance=0.02)
    )
    at = POWERS.index(COMPARED)
    ends_x = (1.005 * request.episodes, 1.03 * request.episodes)
    mark = [Mark(at, *ends_x, BEST_RETURN)] if request.as_published else []
    xlabel = f"episode ({request.runs_text()})"
    panels = [
        Curves("Return", xlabel, f"return, mean of {SMOOTH} episodes", returned, mark, ylim=(-90, 0)),
        Curves('Probability of "right"', xlabel, "probability", chances, ylim=(0, 1)),
        Curves(
            "The expected return of every policy",
            'probability of "right"',
            "expected return",
            [Line("", grid, values[None])],
            [Mark(0, BEST_RIGHT, BEST_RIGHT, BEST_RETURN)],
            ylim=(-90, 0),
        ),
    ]
    rows = [dataclasses.replace(row, compared=request.as_published) for row in rows]
    notes = [f'"right" has the probability {FIRST:g} before learning.']
    return Outcome("short-corridor", "Figure 13.1: REINFORCE in a short corridor", rows, panels, notes=notes)
