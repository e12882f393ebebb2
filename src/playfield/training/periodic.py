"""Evaluations during a training (`--eval-every`), which change nothing of it.

Between two rollouts the weights of then play full games, with environments and random numbers of their own. The rows
of eval/evaluations.csv depend on nothing but the weights: a run that is killed and resumed has the same ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from playfield.envs.base import EnvSpec
from playfield.play.evaluate import evaluate
from playfield.play.policy import ProbabilityPolicy
from playfield.runs.algorithm import Algorithm, Config
from playfield.runs.console import format_scores
from playfield.runs.logger import EVALUATIONS, MetricsCsv
from playfield.runs.run import Run
from playfield.runs.storage import as_storage_error
from playfield.training.plan import LINES

COLUMNS = ("mean", "median", "lower_quartile", "std", "min", "max", "games")


class Periodic:
    """Evaluates the agent of a run every `every` steps; called after each rollout.

    Args:
        directory: of the run.
        info: its `run.json`, with `eval_every` and `eval_games`.
        module, cfg, spec: of its agent.
        step: of the checkpoint that the run goes on from: rows after it are dropped.

    Raises StorageError where the table cannot be written.
    """

    def __init__(
        self, directory: Path, info: dict[str, Any], module: Algorithm, cfg: Config, spec: EnvSpec, step: int
    ) -> None:
        self.every, self.games = int(info["eval_every"]), int(info.get("eval_games", 10))
        self.module, self.cfg, self.spec = module, cfg.kept(directory), spec
        path = directory / EVALUATIONS
        with as_storage_error(f"write to {path.parent}"):
            path.parent.mkdir(exist_ok=True)
        self.table = MetricsCsv(path)
        self.table.truncate_after(step)
        self._before = step
        self._gap = max(self.every, -(-int(info["steps"]) // LINES))
        self._printed: int | None = None  # step of the last line

    def __call__(self, run: Run) -> None:
        before, self._before = self._before, run.step
        if run.step // self.every == before // self.every:
            return
        weights: Any = run.parts["learner"].state()["weights"] if self.cfg.learns else {}
        with torch.random.fork_rng(devices=[]):  # networks are made with random weights first
            network = self.module.load(self.spec, self.cfg, weights, "cpu")
            policy = ProbabilityPolicy(self.spec, network, "", self.cfg.evaluation_temperature)
            found = evaluate(policy, self.games).summary()
        run.fence.check()  # the games may have taken minutes
        low, high = found["ci95"] or (None, None)
        ends = {"low": low, "high": high} if found["ci95"] else {}
        self.table.log(run.step, {name: found[name] for name in COLUMNS} | ends)
        self.table.flush()
        if run.sinks is not None and self._worth_a_line(run):
            mean, *interval = format_scores(found["mean"], *(found["ci95"] or ()))
            of = f" ({' to '.join(interval)})" if interval else ""
            run.sinks.console.note(f"evaluation at step {run.step:,}: mean score {mean}{of} over {self.games} games")
        if run.sinks is not None and run.sinks.tensorboard is not None:
            run.sinks.tensorboard.log(run.step, {"eval/mean_reward": found["mean"]})

    def _worth_a_line(self, run: Run) -> bool:
        before = self._printed
        if before is not None and run.step // self._gap == before // self._gap and run.step < run.total_steps:
            return False
        self._printed = run.step
        return True

    def close(self) -> None:
        self.table.close()
