"""Export the agent of a finished run into the package: `python scripts/ship_agent.py RUN NAME [COMMIT]`.

Writes src/playfield/play/agents/NAME/: the weights (matrices in bfloat16) and card.json with the command, commit,
seed, protocol, learning curve, and the evaluation of exactly the exported weights over 100 full games. COMMIT is the
one that the run was trained with; HEAD by default.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from playfield import compute
from playfield.play.agent import export_agent, load_policy
from playfield.play.evaluate import evaluate, report
from playfield.runs.info import read_info
from playfield.runs.logger import read_monitor

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
    result = evaluate(load_policy(name), GAMES, seed=0)
    card["evaluation"] = {k: v for k, v in result.summary().items() if k != "scores"}
    path = export_agent(run, name, card)  # the same weights, now with the evaluation
    print(report(result))
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
    print(json.dumps(card["training"]))


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2], *sys.argv[3:4])
