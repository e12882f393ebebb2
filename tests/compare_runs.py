"""Run directories as a comparison finds them, made without training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from playfield.experiments import grid

PROTOCOLS: dict[str, dict[str, Any]] = {
    "CartPole-v1": {"time_limit": 500},
    "Acrobot-v1": {"time_limit": 500},
    "breakout": {"name": "classic", "sticky": 0.0, "skip": 4, "noop": 30, "cap": 108000, "life_loss": True},
}


def write_run(
    directory: Path, env: str, algo: str, seed: int, games: list[tuple[int, float]], steps: int, **more: Any
) -> Path:
    """A run of `steps` steps with these (step, score) games; `more` goes into run.json."""
    directory.mkdir(parents=True)
    kind = "atari" if env == "breakout" else "classic"
    info = {
        "env": env,
        "algo": algo,
        "seed": seed,
        "steps": steps,
        "spec": {"kind": kind},
        "protocol": PROTOCOLS[env],
        "result": {"steps": steps, "seconds": steps / 500, "stop": "steps"},
        **more,
    }
    (directory / "run.json").write_text(json.dumps({k: v for k, v in info.items() if v is not None}))
    rows = [f"{score},10,{step / 500},{step}" for step, score in games]
    (directory / "monitor.csv").write_text("\n".join(['#{"t_start": 0}', "r,l,t,step", *rows, ""]))
    last = more.get("reached", steps)
    (directory / "metrics.csv").write_text(f"step,time/time_elapsed\n{last},{last / 500}\n")
    return directory


def write_label(root: Path, env: str, label: str, place: int, seeds: int, steps: int, level: float) -> None:
    """Seeds of one label whose scores rise to about `level`."""
    from playfield.experiments.grid import from_words

    (kind,) = from_words([env], [label], [], [1], steps)
    home = kind.home(root)
    for seed in range(1, seeds + 1):
        rng = np.random.default_rng([seed, place, steps])
        at = np.sort(rng.integers(1, steps, 500))
        top = level * (1 + 0.25 * rng.standard_normal())
        scores = top * (1 - np.exp(-4 * at / steps)) + abs(level) * 0.3 * rng.standard_normal(500)
        games = [(int(s), float(r)) for s, r in zip(at, scores, strict=True)]
        write_run(home / str(seed), env, label.split()[0], seed, games, steps)
    told = {"label": label, "place": place, "words": list(kind.train_words)}
    (home / "compare.json").write_text(json.dumps(told))


def runs(root: Path, scores: dict[str, dict[str, Any]], **more: Any) -> None:
    """Runs of one game each; scores: label -> env -> scores of seeds 1, 2, ..."""
    for place, (label, by_env) in enumerate(scores.items()):
        for env, values in by_env.items():
            home = root / env / grid.slug(label)
            for seed, score in enumerate(values, 1):
                if score is not None:
                    write_run(home / str(seed), env, "dqn", seed, [(100, score)], 100, **more)
            told = {
                "label": label,
                "place": place,
                "words": list(grid.from_words([env], [label], [], [1], 1)[0].train_words),
            }
            (home / "compare.json").write_text(json.dumps(told))
