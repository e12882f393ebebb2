"""Put the agent of a finished run into the package: `python scripts/ship_agent.py RUN NAME`.

Writes src/playfield/agents/NAME/: the weights (matrices in bfloat16) and a card with the command, commit, seed,
protocol, learning curve, and the score of 100 full games of exactly the shipped weights.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from playfield import compute
from playfield.play.agent import export_agent, load_policy
from playfield.play.evaluate import evaluate, report
from playfield.runs.info import read_info
from playfield.runs.logger import read_monitor


def main(run: Path, name: str, commit: str | None = None) -> None:
    """Export the last checkpoint of `run`, judge what was exported, and write its card."""
    compute.setup()
    info = read_info(run)
    if commit is None:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
    games = read_monitor(run / "monitor.csv")
    edges = np.array_split(np.arange(len(games)), 40)
    curve = [[games[e[-1]][0], round(float(np.mean([games[i][1] for i in e])), 2)] for e in edges if len(e)]
    card = {
        "command": info["command"],
        "commit": commit,
        "seed": info["seed"],
        "training": info["result"],
        "curve": {"what": "mean score of successive fortieths of the training games", "points": curve},
    }
    export_agent(run, name, card)
    result = evaluate(load_policy(name), 100, seed=0)
    summary = {k: v for k, v in result.summary().items() if k != "scores"}
    card["evaluation"] = summary
    path = export_agent(run, name, card)
    print(report(result))
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
    print(json.dumps(card["training"]))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2], *sys.argv[3:4])
