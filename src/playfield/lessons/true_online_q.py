"""True online Q(lambda) on MountainCar: Q-learning with a Dutch trace, which is cut where an action explores.

Q-learning learns about the greedy policy, whatever is done. A trace carries an error back to earlier states; it is an
error of the greedy policy only as long as actions are greedy, so the trace is reset before every other one (Watkins).
Without exploration nothing is reset, and Q(lambda) is Sarsa(lambda), to the last step. With epsilon = 0.1 a trace is
cut after some 15 steps; it still helps in the first episodes. Sarsa's is never cut.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from playfield.lessons._linear import TILINGS, Setting, game, greedy, last_rows, run_all, steps_curves
from playfield.lessons._outcome import Outcome
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import Row, mean_row

BUDGET = Budget(
    runs=20, episodes=500, film=True, methods=("sarsa_lambda", "qlearning"), own=("alpha", "lam", "trace", "epsilon")
)
EPSILON, FIRST = 0.1, 50
ALPHA = {0.0: 0.5, 0.8: 0.3}  # by lambda, times 8: those of lesson true-online-sarsa
PUBLISHED = {0.0: 118.0, 0.8: 108.0}  # of Sarsa(lambda), which greedy Q(lambda) is; read off a figure


def run(request: Request) -> Outcome:
    """20 runs of 500 episodes of each."""

    def setting(method: str, lam: float, epsilon: float) -> Setting:
        name = {"qlearning": "Q", "sarsa_lambda": "Sarsa"}[method]
        label = f"{name}({lam:g}), {f'epsilon {epsilon:g}' if epsilon else 'greedy'}"
        options = greedy(ALPHA[lam] / 8, lam=lam, trace="dutch") | {"epsilon": epsilon}
        known = None if epsilon or method == "sarsa_lambda" else PUBLISHED[lam]
        return Setting(label, method, "mountain-car", TILINGS, options, known)

    asked = [(method, lam, 0.0) for method in ("qlearning", "sarsa_lambda") for lam in PUBLISHED]
    asked += [("qlearning", 0.0, EPSILON), ("qlearning", 0.8, EPSILON), ("sarsa_lambda", 0.8, EPSILON)]
    settings = [setting(*one) for one in asked]
    outs = run_all(request, settings)
    rows = last_rows(request, settings, outs)
    apart = max(int(np.abs(outs[i].steps - outs[i + 2].steps).max()) for i in (0, 1))
    claim = "0: the same episodes"
    rows.append(Row("greedy Q and Sarsa", "largest difference of steps", None, apart, claim=claim, holds=apart == 0))
    early = [out.steps[:, :FIRST].mean(axis=1) for out in outs[4:]]
    measure = f"steps, first {min(FIRST, request.episodes)} episodes"
    for i, (s, values) in enumerate(zip(settings[4:], early, strict=True)):
        claims = {"claim": "fewer than Q(0)", "holds": bool(values.mean() < early[0].mean())} if i == 1 else {}
        rows.append(mean_row(s.label, measure, None, values, **claims))
    rows = [dataclasses.replace(row, compared=request.as_published) for row in rows]
    panels = [
        steps_curves(request, f"{what}, 8 tilings of 8x8", settings[part], outs[part], ylim=(90, 1000))
        for what, part in (("Greedy", slice(0, 2)), (f"Epsilon {EPSILON:g}", slice(4, 7)))
    ]
    return Outcome(
        "true-online-q",
        "True online Q(lambda) on MountainCar (the lesson's)",
        rows,
        panels,
        film=game("mountain-car", outs[1]),
    )
