"""Prediction with eligibility traces on the 19-state random walk: shared by three lessons."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from playfield.lessons._outcome import Outcome
from playfield.lessons._request import Request
from playfield.lessons._rows import Row, mean_row
from playfield.lessons._sweep import Branch, curves, sweep
from playfield.linear.problems import WALK_STATES

FEATURES = f"grid:cells={WALK_STATES}"  # a table: one feature per state
LAMBDAS = (0.0, 0.4, 0.8, 0.9, 0.95, 0.975, 0.99, 1.0)
SIZES = (0.001, 0.004, 0.007, 0.011, 0.031, 0.051, 0.071, 0.091, 0.131, 0.171, 0.211, *np.arange(0.25, 1.001, 0.05))
PUBLISHED = (0.24, 0.56)  # range of the axis in the lesson's figure


def predict(request: Request, name: str, title: str, trace: str, *, later: int = 0, **own: Any) -> Outcome:
    """RMS error over all states, mean over the episodes, for every lambda and step size.

    Args:
        later: parts of the progress that the caller runs afterwards.
        own: more options of td_lambda.
    """
    request.progress.parts(len(LAMBDAS) * len(SIZES) + later)
    options, sizes = {"gamma": 1.0, "trace": trace, **own}, [round(float(a), 3) for a in SIZES]
    branches = [Branch(f"{lam:g}", "td_lambda", {**options, "lam": lam}, sizes) for lam in LAMBDAS]
    found = sweep(request, branches, "random-walk", FEATURES, lambda out: out.errors.mean(axis=1), count_parts=False)
    rows = []
    for lam, f in zip(LAMBDAS, found, strict=True):
        size, values = f.best()
        measure = "RMS error, best alpha"
        rows.append(mean_row(f"lambda {lam:g}, alpha {size:g}", measure, None, values, seconds_here=f.seconds))
    errors = [row.ours for row in rows]
    winner = int(np.argmin(errors))
    # The book: an intermediate lambda is best.
    label, claim = f"lambda {LAMBDAS[winner]:g}", "a lambda between 0 and 1 is best"
    holds = LAMBDAS[winner] in LAMBDAS[1:-1]
    rows.append(Row(label, "lowest error", None, errors[winner], claim=claim, holds=holds))
    if not own.get("offline"):
        holds = PUBLISHED[0] <= min(errors) and max(errors) <= PUBLISHED[1]
        claim = f"all in {PUBLISHED[0]:g} to {PUBLISHED[1]:g}, the lesson's axis"
        rows.append(Row("all lambdas", "highest of the best", None, max(errors), claim=claim, holds=holds))
    rows = [dataclasses.replace(row, compared=request.as_published) for row in rows]
    xlabel, ylabel = f"alpha ({request.runs_text()})", f"RMS error, first {request.episodes} episodes"
    return Outcome(name, title, rows, [curves("Lambda, over the step size", xlabel, ylabel, found, (0.22, 0.56))])
