"""Training runs for measurements, without logs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from playfield.compute import Compute
from playfield.envs import make_envs
from playfield.envs.base import EnvSpec, VectorEnv
from playfield.runs.run import Run


def measured_run(
    algo: str,
    config: Any,
    spec: EnvSpec,
    compute: Compute,
    steps: int,
    *,
    make: Callable[[int], VectorEnv] = lambda count: make_envs("breakout", count),
    seed: int = 1,
    **more: Any,
) -> Run:
    """A run of `algo` on environments with this `spec`, for `steps` steps.

    Args:
        config: the algorithm's `Config`.
        make: makes so many environments.
        more: arguments of `Run`, such as `directory`, `sinks` and `on_rollout`.
    """
    info = {
        "env": spec.id,
        "algo": algo,
        "spec": spec,
        "seed": seed,
        "steps": steps,
        "compute": dataclasses.asdict(compute),
        "config": dataclasses.asdict(config),
        "protocol": spec.protocol,
    }
    return Run(info, make, **more)


def breakout_spec() -> EnvSpec:
    """The spec of Breakout as `playfield train breakout` has it."""
    probe = make_envs("breakout", 1)
    probe.close()
    return probe.spec
