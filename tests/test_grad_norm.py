"""`train/grad_norm`: the mean norm of a rollout's gradients before clipping; and what a run asks of its parts."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

import test_a2c
import test_dqn
import test_mrp
import test_pqn
from playfield.algos import a2c, c51, dqn, hlgauss, mrp, ppo, pqn, qrdqn, rainbow
from playfield.errors import DivergedError
from playfield.nets.learner import Learner
from playfield.runs.run import Run
from ppo_runs import SMALL, run_for
from test_ppo_learning import Identity

pytestmark = pytest.mark.usefixtures("one_thread")

SHARED = {f.name: getattr(test_dqn.SMALL, f.name) for f in dataclasses.fields(c51._dqn_config.Config)}
RUNS: dict[str, tuple[Any, Any]] = {
    "ppo": (ppo, dataclasses.replace(SMALL, epochs=2)),
    "a2c": (a2c, test_a2c.SMALL),
    "pqn": (pqn, test_pqn.SMALL),
    "mrp": (mrp, test_mrp.SMALL),
    "dqn": (dqn, dataclasses.replace(test_dqn.SMALL, concurrent=True)),
    "c51": (c51, c51.Config(**SHARED)),
    "qrdqn": (qrdqn, qrdqn.Config(**SHARED)),
    "hlgauss": (hlgauss, hlgauss.Config(**SHARED)),
    "rainbow": (rainbow, rainbow.Config(**SHARED | {"noisy": True, "alpha": 0.5, "dueling": True})),
}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("algo", RUNS)
def test_the_logged_norm_is_that_of_autograds_gradients(algo: str, workers: int, monkeypatch) -> None:
    """Gradients of each worker's loss by `torch.autograd.grad`, summed by parameter, in float64."""
    module, cfg = RUNS[algo]
    cfg = dataclasses.replace(cfg, max_grad_norm=1e-3)  # far below the norm: logged is the one before clipping
    norms: list[float] = []
    rows: list[tuple[float, float]] = []
    update = Learner.update

    def watched(self: Learner, loss: Any, lr: float) -> Any:
        shares: dict[int, list[torch.Tensor]] = {}

        def loss_and_gradients(k: int, replica: torch.nn.Module) -> Any:
            value, metrics = loss(k, replica)
            params = list(replica.parameters())
            found = torch.autograd.grad(value, params, retain_graph=True, materialize_grads=True)
            shares[k] = [g.double() for g in found]
            return value, metrics

        out = update(self, loss_and_gradients, lr)
        sums = [sum(grads) for grads in zip(*shares.values(), strict=True)]
        norms.append(float(sum(g.square().sum() for g in sums)) ** 0.5)
        return out

    def logged(run: Run) -> None:
        if "train/grad_norm" in run._metrics and norms:
            rows.append((run._metrics["train/grad_norm"], float(np.mean(norms))))
            norms.clear()

    monkeypatch.setattr(Learner, "update", watched)
    steps = max(4 * cfg.batch, getattr(cfg, "learning_starts", 0) + 4 * cfg.batch)
    run = run_for(Identity(1).spec, Identity, cfg, steps, workers=workers, on_rollout=logged)
    module.train(run, cfg)
    run.close()
    assert len(rows) >= 4
    assert min(expected for _, expected in rows) > 10 * cfg.max_grad_norm
    np.testing.assert_allclose([found for found, _ in rows], [expected for _, expected in rows], rtol=1e-4)


class Counter:
    def __init__(self) -> None:
        self.count, self.closed, self.good = 0, 0, True

    def state(self) -> dict[str, Any]:
        return {"count": self.count}

    def restore(self, state: dict[str, Any]) -> None:
        self.count = state["count"]

    def close(self) -> None:
        self.closed += 1


def test_a_part_of_any_name_may_refuse_a_save_and_is_closed_once(tmp_path) -> None:
    run = run_for(Identity(1).spec, Identity, SMALL, 100, directory=tmp_path)
    counter, other = Counter(), Counter()
    assert run.track("counter", counter, finite=lambda: counter.good, close=counter.close) is counter
    run.track("learner", other)  # no name is special: it is neither asked nor closed
    run.save()
    counter.good = False
    with pytest.raises(DivergedError, match="not finite"):
        run.save()
    assert dict(run.parts) == {"counter": counter, "learner": other}
    run.close()
    assert (counter.closed, other.closed) == (1, 0)
