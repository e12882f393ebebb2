"""How much each option of a tuning decides: nothing is said where nothing can be."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import optuna
import pytest

from playfield.experiments.study import Study


@pytest.mark.parametrize(
    ("values", "known"),
    [
        ([0.0] * 28 + [0.5, 1.0], False),  # no one can tell the best tenth from the rest
        ([0.0] * 30, False),
        ([float(n) for n in range(30)], True),
    ],
)
def test_no_importance_is_made_up_where_most_trials_are_alike(values, known):
    """Of options that were drawn at random, of which the first decides the value where the values differ."""
    study, rng = optuna.create_study(direction="maximize"), np.random.default_rng(0)
    space = {name: optuna.distributions.FloatDistribution(0.0, 1.0) for name in ("gamma", "lr", "epochs")}
    for value in values:
        params = {"gamma": value / 30, "lr": rng.random(), "epochs": rng.random()}
        study.add_trial(optuna.trial.create_trial(value=value, params=params, distributions=space))
    trials = [SimpleNamespace(state="finished", value=value) for value in values]
    found = Study.importances(SimpleNamespace(trials=lambda: trials, study=study))
    assert bool(found) == known
    if known:
        assert sum(found.values()) == pytest.approx(1)
        assert found["gamma"] > 0.7
