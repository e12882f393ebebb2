"""Figure 11.2: Baird's counterexample, where off-policy TD with linear features diverges.

Seven states, eight weights; all rewards are 0, so weights of 0 are exact. The behaviour goes to one of the first six
states with the probability 6/7, to the seventh with 1/7; the policy to be evaluated always goes to the seventh. With
importance sampling the weights of semi-gradient TD(0) grow without bound, and so do those of dynamic programming,
which has no sampling at all. With the same features, but on policy, they stay bounded.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from playfield.lessons._outcome import Outcome
from playfield.lessons._panels import Curves, Line
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import Row, mean_row
from playfield.lessons._tabular import play_all
from playfield.linear.jit import Bools, Floats, jit
from playfield.linear.kernels import sample_uniform

BUDGET = Budget(runs=20, steps=1_000)
STATES = 7
ALPHA, GAMMA = 0.01, 0.99
GROWN = 2.0  # times the first norm: diverging


def features() -> Floats:
    """Features [7, 8]: 2 w[i] + w[7] in the first six states, w[6] + 2 w[7] in the seventh."""
    x = np.zeros((STATES, STATES + 1))
    x[np.arange(6), np.arange(6)] = 2.0
    x[:6, 7], x[6, 6], x[6, 7] = 1.0, 1.0, 2.0
    return x


def first_weights() -> Floats:
    """Weights [8]: all 1 but that of the seventh state, 10."""
    w = np.ones(STATES + 1)
    w[6] = 10.0
    return w


@jit
def sample(
    on_policy: bool,
    alpha: float,
    gamma: float,
    rng: np.random.Generator,
    stop: Bools,
    x: Floats,
    w: Floats,
    path: Floats,
) -> None:
    """Semi-gradient TD(0) of w [8]; `path` [T, 8]: the weights after each step."""
    count, last = len(x), len(x) - 1
    state = sample_uniform(rng, count)
    for t in range(len(path)):
        if stop[0]:
            return
        following = last
        if not on_policy and rng.random() * count >= 1.0:
            following = sample_uniform(rng, last)
        ratio = 1.0 if on_policy else float(count) if following == last else 0.0
        error = 0.0
        for i in range(len(w)):
            error += (gamma * x[following, i] - x[state, i]) * w[i]
        for i in range(len(w)):
            w[i] += alpha * ratio * error * x[state, i]
        path[t] = w
        state = following


def sweeps(steps: int) -> Floats:
    """Semi-gradient dynamic programming: weights [steps, 8] after each sweep over all states."""
    x, w = features(), first_weights()
    path = np.zeros((steps, len(w)))
    for t in range(steps):
        errors = GAMMA * (x[6] @ w) - x @ w
        w = w + ALPHA / STATES * errors @ x
        path[t] = w
    return path


def run(request: Request) -> Outcome:
    """20 runs of 1000 steps, and as many sweeps of dynamic programming."""
    request.progress.parts(2)
    x = np.arange(1, request.steps + 1)
    paths = {}
    seconds = {}
    for on_policy, label in enumerate(("semi-gradient TD", "on policy")):

        def play(rng: np.random.Generator, stop: Bools, on: bool = bool(on_policy)) -> Floats:
            path = np.zeros((request.steps, STATES + 1))
            sample(on, ALPHA, GAMMA, rng, stop, features(), first_weights(), path)
            return path

        found, seconds[label] = play_all(request, label, play)
        paths[label] = np.stack(found)
    paths["dynamic programming"] = sweeps(request.steps)[None]
    begun = float(np.linalg.norm(first_weights()))
    rows: list[Row] = []
    norms = []
    for label, path in paths.items():
        norm = np.linalg.norm(path, axis=2)
        norms.append(Line(label, x, norm))
        times, grows = norm[:, -1] / begun, label != "on policy"
        measure, claim = "last norm / first", f"above {GROWN:g} and rising" if grows else "at most 1"
        rising = float(norm[:, -1].mean()) > float(norm[:, len(x) // 2].mean())
        holds = times.mean() > GROWN and rising if grows else times.mean() <= 1
        rows.append(
            mean_row(label, measure, None, times, claim=claim, holds=bool(holds), seconds_here=seconds.get(label))
        )
    names = ("w1 to w6", "w7", "w8")
    parts = (slice(0, 6), slice(6, 7), slice(7, 8))
    panels = [
        Curves(
            label,
            "sweep" if label == "dynamic programming" else f"step ({request.runs_text()})",
            "weight",
            [Line(name, x, paths[label][:, :, part].mean(axis=2)) for name, part in zip(names, parts, strict=True)],
        )
        for label in ("semi-gradient TD", "dynamic programming")
    ]
    panels.append(Curves("Norm of the weights", "step or sweep", "norm", norms, log=True))
    rows = [dataclasses.replace(row, compared=request.as_published) for row in rows]
    notes = [f"alpha {ALPHA}, gamma {GAMMA}; the weights begin with 1, w7 with 10."]
    return Outcome("baird", "Figure 11.2: Baird's counterexample", rows, panels, notes=notes)
