"""Figure 10.1: the cost-to-go function that Sarsa learns on MountainCar as a surface, and its greedy policy.

The height is the cost to go: minus the value of the greedy action, the expected number of steps to the goal. In the
first episode it rises where the car has been, so the agent explores other states: initial values of 0 are optimistic.
In the end the surface has a ridge where both ways to the goal are about equally long.

Below, the greedy action: the car accelerates in the direction in which it moves, and so swings higher; in states that
were never visited all actions have the same value.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from playfield.lessons import _rows
from playfield.lessons._linear import TILINGS, game, greedy, warm
from playfield.lessons._outcome import Outcome
from playfield.lessons._panels import Areas, Panel, Surface
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import Row
from playfield.linear import many

BUDGET = Budget(episodes=9_000, film=True, methods=("sarsa",))
AFTER = (1, 12, 104, 1_000, 9_000)  # episodes, as in the book except its first panel, after 428 steps
OPTIONS = greedy(0.5 / 8, n_step=1)
GRID = 50
TOLERANCE = 0.25  # relative error of the estimate that passes


def run(request: Request) -> Outcome:
    """One run, shown after 1, 12, 104, 1000 and 9000 episodes."""
    x, v = np.linspace(-1.2, 0.5, GRID), np.linspace(-0.07, 0.07, GRID)
    states = np.stack([a.ravel() for a in np.meshgrid(x, v)], axis=1)
    shown = sorted({min(episodes, request.episodes) for episodes in AFTER})
    request.progress.parts(len(shown))
    options = {**OPTIONS, **request.options}
    surfaces: list[Panel] = []
    rows, policies, out = [], [], None
    warm("sarsa", "mountain-car", TILINGS)
    for episodes in shown:
        # The same seed gives the same episodes, so a shorter run is the beginning of a longer one.
        done = request.progress.part(f"{episodes} episodes")
        out = many.experiment(
            "sarsa", "mountain-car", TILINGS, seeds=[1], episodes=episodes, progress=done, **options
        )
        q = many.values(out.coders[0], out.weights[0], states).reshape(GRID, GRID, -1)
        cost, word = -q.max(axis=2), f"{episodes:,} episode{'s' * (episodes > 1)}"
        surfaces.append(Surface(f"After {word}", x, v, cost, ("position", "velocity", "cost to go")))
        # The estimate at the bottom of the valley, beside the steps that episodes took.
        bottom = float(-many.values(out.coders[0], out.weights[0], np.array([[-0.5, 0.0]])).max())
        taken = float(out.steps[0, -100:].mean())
        rows.append(Row(word, "cost to go at the bottom", None, bottom, seconds_here=out.seconds))
        rows.append(Row(word, f"steps, {_rows.last(min(100, episodes), 'episode')}", None, taken))
        policies.append((word, q.argmax(axis=2), cost))
    assert out is not None
    estimate, taken = rows[-2].ours, rows[-1].ours
    near = abs(estimate - taken) <= TOLERANCE * taken
    claim = f"1, within {TOLERANCE:.0%}"
    rows.append(
        Row(rows[-1].setting, "cost to go at the bottom / steps", None, estimate / taken, claim=claim, holds=near)
    )
    plotted = sorted({0, len(shown) // 2, len(shown) - 1})
    names = ("left", "no push", "right")
    areas = [
        Areas(f"Greedy action after {word}", x, v, chosen, names, ("position", "velocity"))
        for word, chosen, _ in (policies[i] for i in plotted)
    ]
    return Outcome(
        "figure-10-1",
        "Figure 10.1: cost to go on MountainCar, one-step Sarsa, 8 tilings of 8x8",
        [dataclasses.replace(row, compared=request.as_published) for row in rows],
        [*(surfaces[i] for i in plotted), *areas],
        film=game("mountain-car", out),
    )
