"""Figure 10.1: what Sarsa learns on MountainCar, drawn as a surface over position and velocity, and its policy.

The height is the cost to go: minus the value of the best action, the steps that the agent expects to need. In the
first episode it rises where the car has been, so that the agent goes where it has not: weights of 0 promise more
than can be had. In the end the surface shows the problem itself: a ridge where the car can hardly know which way is
shorter.

Below, the action that the agent would take: it drives the way it rolls, left or right, and so swings higher; where
it never was, all actions look alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from playfield.lessons._linear import game, warm
from playfield.lessons._outcome import Ask, Budget, Outcome
from playfield.lessons._panels import Areas, Panel, Surface
from playfield.lessons._rows import Row

BUDGET = Budget(episodes=9_000, film=True)
AFTER = (1, 12, 104, 1_000, 9_000)  # episodes, as in the book but for its first picture, after 428 steps
FEATURES = "tilings:tilings=8,tiles=8"
OPTIONS: dict[str, Any] = {"alpha": 0.5 / 8, "epsilon": 0.0, "gamma": 1.0, "n_step": 1}
GRID = 50
START, STEEP = 106.0, 0.25  # steps of a good policy from the valley's floor, and how far the estimate may be off


def run(ask: Ask) -> Outcome:
    """One run, looked at after 1, 12, 104, 1000 and 9000 episodes."""
    from playfield.linear.many import experiment, values

    x, v = np.linspace(-1.2, 0.5, GRID), np.linspace(-0.07, 0.07, GRID)
    states = np.stack([a.ravel() for a in np.meshgrid(x, v)], axis=1)
    shown = sorted({min(episodes, ask.episodes) for episodes in AFTER})
    ask.progress.parts(len(shown))
    surfaces: list[Panel] = []
    rows, policies, out = [], [], None
    warm("sarsa", "mountain-car", FEATURES)
    for episodes in shown:
        # The same seed plays the same episodes, so a shorter run is the beginning of a longer one.
        done = ask.progress.part(f"{episodes} episodes")
        out = experiment("sarsa", "mountain-car", FEATURES, seeds=[1], episodes=episodes, progress=done, **OPTIONS)
        q = values(out.coders[0], out.weights[0], states).reshape(GRID, GRID, -1)
        cost, word = -q.max(axis=2), f"{episodes:,} episode{'s' * (episodes > 1)}"
        surfaces.append(Surface(f"After {word}", x, v, cost, ("position", "velocity", "cost to go")))
        # What the weights say of the valley's floor, beside what happened there.
        floor = float(-values(out.coders[0], out.weights[0], np.array([[-0.5, 0.0]])).max())
        taken = float(out.steps[0, -100:].mean())
        rows.append(Row(word, "cost to go at the floor", None, floor, seconds_here=out.seconds))
        rows.append(Row(word, f"steps, last {min(100, episodes)} episodes", None, taken))
        policies.append((word, q.argmax(axis=2), cost))
    assert out is not None
    at_floor, taken = rows[-2].ours, rows[-1].ours
    near = abs(at_floor - taken) <= STEEP * taken
    claim = f"1, within {STEEP:.0%}"
    rows.append(
        Row(rows[-1].setting, "cost to go at the floor / steps", None, at_floor / taken, claim=claim, holds=near)
    )
    drawn = sorted({0, len(shown) // 2, len(shown) - 1})
    names = ("left", "nothing", "right")
    areas = [
        Areas(f"Best action after {word}", x, v, chosen, names, ("position", "velocity"))
        for word, chosen, _ in (policies[i] for i in drawn)
    ]
    return Outcome(
        "figure-10-1",
        "Figure 10.1: cost to go on MountainCar, one-step Sarsa, 8 tilings of 8x8",
        [row if ask.as_published else _unjudged(row) for row in rows],
        [*(surfaces[i] for i in drawn), *areas],
        film=game("mountain-car", out),
    )


def _unjudged(row: Row) -> Row:
    import dataclasses

    return dataclasses.replace(row, judged=False)
