"""Algorithms side by side: equal steps, several seeds, one picture and one table.

Runs lie in ROOT/ENV/SLUG/SEED, the slug made from the algorithm's words. `compare.json` in ROOT/ENV/SLUG holds what
the picture calls it (the label), the words of `playfield train` that its runs were started with, and its place.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from playfield.envs import protocol_line
from playfield.envs.family import family
from playfield.envs.names import resolve
from playfield.errors import DataError, UsageError, unknown
from playfield.experiments.many import Training, finished, reached
from playfield.play.statistics import t_interval
from playfield.runs.info import read_info
from playfield.runs.logger import read_monitor
from playfield.runs.storage import as_storage_error, atomic_write
from playfield.show.compare_plot import BAND, FEW, Line, Panel, comparison
from playfield.show.plots import moving_mean, on_common_steps

WINDOW = 100  # games in the moving mean, as everywhere


def slug(label: str) -> str:
    """A label as a directory's name: `dqn --double true` -> `dqn-double-true`."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", label).strip("-.") or "run"


def folder(env: str) -> str:
    """An environment's name as a directory's: `ALE/Breakout-v5` -> `breakout`."""
    return re.sub(r"[/:]", "-", resolve(env).id)


def plan(
    root: Path, envs: Sequence[str], labels: Sequence[str], extra: Sequence[str], seeds: int, steps: int
) -> list[Training]:
    """All trainings of a comparison, in the order in which they run: first seed 1 of everything.

    Raises UsageError where two of them would have one directory, or it holds runs made with other words.
    """
    found: dict[Path, tuple[str, str]] = {}
    trainings = []
    for env in envs:
        for seed in range(1, seeds + 1):
            for label in labels:
                home = root / folder(env) / slug(label)
                if found.setdefault(home, (env, label)) != (env, label):
                    other = " on ".join(reversed(found[home]))
                    raise UsageError(
                        f"{label} on {env} and {other} would both lie in {home}: compare them in two --dir"
                    )
                words = train_words(env, label, extra)
                trainings.append(Training(env, label, tuple(words), seed, steps, home / str(seed)))
    for home, (env, label) in found.items():
        if not _has_runs(home):
            continue
        told = _told(home)
        if told is None:
            raise UsageError(f"{home} holds runs that `playfield compare` did not start: use another --dir")
        if told["words"] != train_words(env, label, extra):
            raise UsageError(
                f"{home} holds runs made with other words (playfield train {shlex.join(told['words'])}): "
                "use those, or another --dir"
            )
    return trainings


def train_words(env: str, label: str, extra: Sequence[str] = ()) -> list[str]:
    """The words of `playfield train` for a label; its own options come last, so they win over `extra`."""
    algo, *own = shlex.split(label)
    return [env, "--workers", "1", "--algo", algo, *extra, *own]


def remember(root: Path, trainings: Sequence[Training]) -> None:
    """Write `compare.json` where there are no runs yet. A new label comes after all that `root` knows."""
    places: dict[str, int] = {}
    for path in root.glob("*/*/compare.json"):
        if told := _told(path.parent):
            places[told["label"]] = max(told["place"], places.get(told["label"], 0))
    for training in trainings:
        home = training.directory.parent
        place = places.setdefault(training.label, max(places.values(), default=-1) + 1)
        if not _has_runs(home):
            with as_storage_error(f"create {home}"):
                home.mkdir(parents=True, exist_ok=True)
            told = {"label": training.label, "place": place, "words": list(training.words)}
            atomic_write(home / "compare.json", json.dumps(told, indent=2) + "\n")


def _has_runs(home: Path) -> bool:
    return any(home.glob("*/run.json"))


def _told(home: Path) -> dict[str, Any] | None:
    """What `compare.json` says; None where there is none. Raises DataError where it is damaged."""
    path = home / "compare.json"
    try:
        told = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read {path}: {error}") from None
    match told:
        case {"label": str(), "place": int(), "words": list()}:
            return dict(told)
    raise DataError(f"{path} is damaged: it lacks label, place or words")


@dataclass(frozen=True)
class Finding:
    """One run as it lies on the disk: moving mean of the scores of its games, and how far it is."""

    env: str
    label: str
    place: int
    seed: int
    directory: Path
    info: dict[str, Any]
    steps: np.ndarray  # [n] at which games ended, and how far the run is
    means: np.ndarray  # [n]
    speed: float  # steps per second of training
    seconds: float

    @property
    def last(self) -> int:
        return int(self.steps[-1])

    def mean_at(self, step: int) -> float:
        """The moving mean at a step; before the first game ended, the score of that game."""
        return float(self.means[max(int(np.searchsorted(self.steps, step, side="right")) - 1, 0)])

    @property
    def finished(self) -> bool:
        return finished(self.info)


def read(root: Path, window: int = WINDOW) -> list[Finding]:
    """All runs in `root` with a game that has ended, by environment, label and seed.

    Raises UsageError where there is none, DataError for a damaged one.
    """
    found = []
    for path in sorted(root.glob("*/*/*/run.json")):
        directory, info = path.parent, read_info(path.parent)
        games = sorted(read_monitor(directory / "monitor.csv")) if (directory / "monitor.csv").exists() else []
        total = info.get("steps", 0)
        games = [g for g in games if g[0] <= total]  # the last round may go beyond: equal steps for all
        if not games:
            continue
        told = _told(directory.parent) or {"label": directory.parent.name, "place": 1_000_000}
        at, seconds = reached(directory)
        if finished(info):
            at, seconds = int(info["result"]["steps"]), float(info["result"]["seconds"])
        speed, at = at / seconds if seconds else 0.0, min(at, total)
        steps = np.array([g[0] for g in games], float)
        means = moving_mean([g[1] for g in games], window)
        if at > steps[-1]:
            steps, means = np.append(steps, at), np.append(means, means[-1])
        found.append(
            Finding(
                str(info.get("env", directory.parent.parent.name)),
                told["label"],
                told["place"],
                int(info.get("seed", 0)),
                directory,
                info,
                steps,
                means,
                speed,
                seconds,
            )
        )
    if not found:
        raise UsageError(f"no run with a finished game in {root}: train some first, see playfield compare --help")
    return found


def choose(findings: Sequence[Finding], envs: Sequence[str], labels: Sequence[str], steps: int = 0) -> list[Finding]:
    """Those of some environments and labels, in that order; all of them where none are named."""
    known = list(dict.fromkeys(f.env for f in findings))
    wanted = [resolve(env).id for env in envs]
    for env in wanted:
        if env not in known:
            raise unknown("environment in these runs", env, known)
    places = {label: i for i, label in enumerate(labels)} or {f.label: f.place for f in findings}
    kept = [f for f in findings if (not wanted or f.env in wanted) and f.label in places]
    if not kept:
        raise UsageError("none of these runs has a finished game")
    order = wanted or known
    return sorted(kept, key=lambda f: (order.index(f.env), places[f.label], f.label, f.seed))


def rows(findings: Sequence[Finding], window: int = WINDOW) -> list[dict[str, Any]]:
    """The table: for each environment and label, the mean score at the last step that all its runs have reached."""
    made = []
    for env, runs in _grouped(findings, lambda f: f.env).items():
        at = min(f.last for f in runs)
        for label, group in _grouped(runs, lambda f: f.label).items():
            scores = np.array([f.mean_at(at) for f in group])
            low, high = t_interval(scores)
            speeds = [f.speed for f in group if f.speed]
            made.append(
                {
                    "env": env,
                    "label": label,
                    "algo": group[0].info["algo"],
                    "seeds": [f.seed for f in group],
                    "step": at,
                    "window": window,
                    "mean": float(scores.mean()),
                    "low": float(low) if len(group) > 1 else None,
                    "high": float(high) if len(group) > 1 else None,
                    "scores": scores.tolist(),
                    "steps_per_second": float(np.mean(speeds)) if speeds else None,
                    "seconds": float(np.mean([f.seconds for f in group])),
                    "finished": [f.finished for f in group],
                    "runs": [str(f.directory) for f in group],
                }
            )
    return made


def draw(findings: Sequence[Finding], out: Path, window: int = WINDOW) -> None:
    """The picture. Labels have the same colour in every panel."""
    labels = list(dict.fromkeys(f.label for f in sorted(findings, key=lambda f: (f.place, f.label))))
    panels = []
    for env, runs in _grouped(findings, lambda f: f.env).items():
        lines = []
        for label, group in _grouped(runs, lambda f: f.label).items():
            grid, values = on_common_steps([(f.steps, f.means) for f in group])
            if not grid.size:
                raise UsageError(f"the runs of {label} on {env} have no step in common yet")
            lines.append(Line(label, labels.index(label), grid, values))
        low, high = family(runs[0].info["spec"]["kind"]).reference_scores(env)
        panels.append(Panel(env, lines, human=high, random=low))
    comparison(out, panels, foot=foot(findings, window), ylabel=f"score, mean of the last {window} games")


def foot(findings: Sequence[Finding], window: int) -> str:
    """How the picture was made: what a line and a band are, how many seeds, and each protocol."""
    counts = sorted({len(g) for g in _grouped(findings, lambda f: (f.env, f.label)).values()})
    seeds = " or ".join(str(n) for n in counts) + (" seeds" if counts[-1] > 1 else " seed")
    line = f"Line: mean over {seeds} of the mean raw score of the last {window} full training games"
    band = "; band: 95 % interval of that mean over seeds, Student's t" if counts[-1] >= BAND else ""
    thin = "; thin: each seed" if any(1 < n <= FEW for n in counts) else ""
    two = " (no band for two)" if 2 in counts else ""
    told = [line + band + thin + two + "."]
    for env, runs in _grouped(findings, lambda f: f.env).items():
        protocols = _grouped(runs, lambda f: protocol_line(f.info["protocol"]))
        for protocol, group in protocols.items():
            whose = "" if len(protocols) == 1 else f" ({', '.join(dict.fromkeys(f.label for f in group))})"
            told.append(f"{env}{whose}: {protocol}.")
    if unfinished := sum(not f.finished for f in findings):
        told.append(f"{unfinished} of {len(findings)} runs are not finished.")
    return "\n".join(told)


def _grouped(items: Sequence[Finding], key: Any) -> dict[Any, list[Finding]]:
    groups: dict[Any, list[Finding]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
