"""playfield's sides of the DQN benchmark, each in its own process: `python -m playfield.bench._child_dqn SIDE ...`.

All sides learn from the same number of samples per step with the hyper-parameters that SB3's zoo has for Atari. The
first `--part` steps are a warm-up: learning starts halfway through it, so every measured step learns.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import torch

from playfield import compute
from playfield.algos import dqn
from playfield.bench import _settings
from playfield.bench._child import Stopwatch, parser, send
from playfield.bench._run import breakout_spec, measured_run
from playfield.envs import protocol_line
from playfield.runs.run import Run


def ours(intervals: int, part: int, watch: Stopwatch, fused: int = 1, concurrent: bool = False) -> dict[str, Any]:
    """playfield's DQN with the compute that `playfield train` would choose.

    Args:
        intervals: measured after the warm-up, each of `part` steps.
        part: steps of the warm-up and of each interval.
        fused: minibatches merged into one.
        concurrent: collect with the target network in parallel with learning.
    """
    compute.setup()
    cfg = dqn.Config(
        num_envs=_settings.DQN_ENVS,
        rollout_steps=_settings.DQN_ROLLOUT,
        capacity=_settings.CAPACITY,
        learning_starts=part // 2,
        train_period=_settings.TRAIN_PERIOD * fused,
        batch_size=_settings.BATCH * fused,
        target_period=_settings.TARGET_PERIOD,
        lr=_settings.LR,
        adam_eps=_settings.ADAM_EPS,
        max_grad_norm=_settings.MAX_GRAD_NORM,
        gamma=_settings.GAMMA,
        epsilon_start=_settings.EPSILON,  # acting costs what it costs after exploration has ended
        epsilon_end=_settings.EPSILON,
        net="nature",
        concurrent=concurrent,
    )
    choice, spec = compute.choose(num_envs=cfg.num_envs), breakout_spec()

    def tick(run: Run) -> None:
        if run.step % part == 0:
            watch.tick({**run.phases, **run.parts["learner"].seconds, "updates": run.updates})

    run = measured_run("dqn", cfg, spec, choice, (intervals + 1) * part, on_rollout=tick)
    dqn.train(run, cfg)
    run.close()
    steps, updates = intervals * part, round(watch.seconds["updates"])
    return {
        "steps": steps,
        "seconds": watch.seconds["total"],
        "updates": updates,
        "samples_per_step": updates * cfg.batch_size / steps,
        "phases": concurrent_phases(watch.seconds) if concurrent else phases(watch.seconds),
        "device": choice.device,
        "precision": choice.precision,
        "workers": choice.workers,
        "torch_threads": torch.get_num_threads(),
        "protocol": protocol_line(spec.protocol),
        "replay": {"capacity": cfg.capacity, "packed": cfg.packed},
        "config": dataclasses.asdict(cfg),
    }


def phases(s: dict[str, float]) -> dict[str, float]:
    """A run's clocks in seconds, as parts that add up to `total`; `... rest` is time that no inner clock measured."""
    return {
        "emulation": s["emulation"],
        "inference": s["inference"],
        "rollout rest": s["rollout"] - s["emulation"] - s["inference"],
        **_learning(s),
    }


def concurrent_phases(s: dict[str, float]) -> dict[str, float]:
    """The parts of a run that collects in parallel with learning: collecting counts where learning waited for it."""
    return {"waiting for collection": s["rollout"], **_learning(s)}


def _learning(s: dict[str, float]) -> dict[str, float]:
    return {
        "sampling and targets": s["targets"],
        "gradients": s["gradient"],
        "optimizer": s["optimizer"],
        "training rest": s["training"] - s["gradient"] - s["optimizer"],
        "rest": s["total"] - s["rollout"] - s["targets"] - s["training"],
    }


def main(argv: list[str]) -> None:
    """Measure one side, and send the result to the parent."""
    p = parser()
    p.add_argument("side", choices=("ours", "fused", "concurrent"))
    p.add_argument("--intervals", type=int, default=4, help="intervals of --part steps to measure")
    p.add_argument("--part", type=int, default=_settings.PART, help="steps of the warm-up and of each interval")
    a = p.parse_args(argv)
    fused = _settings.FUSED if a.side == "fused" else 1
    watch = Stopwatch(a.intervals, a.parent)
    send({"result": ours(a.intervals, a.part, watch, fused, a.side == "concurrent")})


if __name__ == "__main__":
    main(sys.argv[1:])
