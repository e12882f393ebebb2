"""Export the agent of a finished run into the package: `python scripts/ship_agent.py RUN NAME [COMMIT]`.

Writes src/playfield/play/agents/NAME/: the weights (matrices in bfloat16) and card.json with the command, commit,
seed, protocol, learning curve, and the evaluation of exactly the exported weights over 100 full games: of the policy
that was trained, and beside it, where actions are sampled, at temperature 0.5 (`greedier`). COMMIT is the one that
the run was trained with; HEAD by default. `python scripts/ship_agent.py NAME` evaluates a shipped agent again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from playfield import compute
from playfield.play.agent import SHIPPED, export_agent, load_policy
from playfield.play.evaluate import evaluate, report
from playfield.runs.info import read_info
from playfield.runs.logger import read_monitor
from playfield.runs.storage import atomic_write
from playfield.runs.weights import export_weights, import_weights

GAMES = 100  # of the evaluation on the card


def main(run: Path, name: str, commit: str | None = None) -> None:
    """Export the last checkpoint of `run` as the agent `name`, evaluate what was exported, and write its card."""
    compute.setup()
    info = read_info(run)
    if commit is None:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
    games = read_monitor(run / "monitor.csv")
    edges = np.array_split(np.arange(len(games)), 40)
    curve = [[games[e[-1]][0], round(float(np.mean([games[i][1] for i in e])), 2)] for e in edges if len(e)]
    card: dict[str, Any] = {
        "command": info["command"],
        "commit": commit,
        "seed": info["seed"],
        "training": info["result"],
        "curve": {"what": "mean score of successive fortieths of the training games", "points": curve},
    }
    export_agent(run, name, card)
    card |= evaluations(name)
    path = export_agent(run, name, card)  # the same weights, now with the evaluation
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
    print(json.dumps(card["training"]))


def evaluations(name: str) -> dict[str, Any]:
    """What the card of a shipped agent says of its scores."""
    found = {}
    for key, temperature in (("evaluation", None), ("greedier", 0.5)):
        policy = load_policy(name, temperature=temperature)
        if key == "evaluation" or getattr(policy, "rule", "").startswith("sampled"):
            result = evaluate(policy, GAMES, seed=0)
            print(report(result))
            found[key] = {k: v for k, v in result.summary().items() if k != "scores"}
    return found


def again(name: str) -> None:
    """Evaluate a shipped agent again and write its card; its weights stay."""
    compute.setup()
    path = SHIPPED / name / "agent.safetensors"
    weights, meta = import_weights(path)
    kept = {k: v for k, v in meta["card"].items() if k not in ("evaluation", "greedier")}
    meta["card"] = kept | evaluations(name)
    export_weights(path, weights, meta)
    atomic_write(path.with_name("card.json"), json.dumps(meta, indent=2) + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 2:
        again(sys.argv[1])
    elif len(sys.argv) in (3, 4):
        main(Path(sys.argv[1]), sys.argv[2], *sys.argv[3:4])
    else:
        sys.exit(__doc__)
