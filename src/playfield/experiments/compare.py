"""Compares algorithms: the same number of steps, several seeds, one plot and one table.

Runs are pooled by their settings (see `replicates`), whatever directory they lie in, with one run for each seed.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from playfield.envs.family import family
from playfield.envs.names import resolve
from playfield.errors import UsageError, unknown
from playfield.experiments import replicates
from playfield.experiments.grid import Kind, stored_label
from playfield.experiments.job import finished, reached
from playfield.experiments.replicates import LeftOut
from playfield.play.statistics import MEAN, Statistic, t_interval
from playfield.runs.info import read_info, runs_under
from playfield.runs.logger import WINDOW, read_monitor

K = TypeVar("K", bound=Hashable)
NEARLY = 0.95  # of the longest run: scores that are compared earlier than that need a word
TUNING = "tune.json"  # lies in the folder of a tuning
NAMED = 3  # lines of an earlier version of a file, at most
UNPLACED = 1_000_000  # the place of runs that no comparison has trained: after all others


@dataclass(frozen=True)
class LearningCurve:
    """The learning curve of one run: the moving mean, or another statistic, of the scores of its games.

    Attributes:
        env, label, place, seed: of the run; runs with the same environment and label are replicates.
        asked: the label that `playfield compare` trained it under; None for other runs.
        directory, info: the run directory and its run.json.
        steps: [n] steps at which games ended; the last one is how far the run is.
        values: [n] moving statistic of the scores.
        speed: steps per second of training.
        seconds: of training.
        clock: [n] seconds of training at `steps`.
        statistic: that the values are.
        games: that have ended; where the run is further than its last game, a point more is in `steps` and `values`.
    """

    env: str
    label: str
    place: int
    seed: int
    directory: Path
    info: dict[str, Any]
    steps: np.ndarray
    values: np.ndarray
    speed: float
    seconds: float
    clock: np.ndarray
    asked: str | None = None
    statistic: Statistic = MEAN
    games: int = 0

    @property
    def last(self) -> int:
        """How far the run is, steps; 0 before its first game has ended."""
        return int(self.steps[-1]) if self.steps.size else 0

    def value_at(self, step: int) -> float:
        """The moving statistic at a step; before the end of the first game, that of this game."""
        return float(self.values[max(int(np.searchsorted(self.steps, step, side="right")) - 1, 0)])

    @property
    def finished(self) -> bool:
        """Whether the run has all its steps."""
        return finished(self.info)


@dataclass(frozen=True)
class Found:
    """The learning curves under a directory, and the runs that are not among them.

    Attributes:
        curves: sorted by environment, place, label and seed.
        left_out: with the reason.
        alike: (environment, labels) whose runs have the same settings.
        more: sentences on what is shown.
    """

    curves: tuple[LearningCurve, ...]
    left_out: tuple[LeftOut, ...] = ()
    alike: tuple[tuple[str, tuple[str, ...]], ...] = ()
    more: tuple[str, ...] = ()

    @property
    def notes(self) -> list[str]:
        """Sentences for the reader of the picture and of the table."""
        counts = Counter(x.brief for x in self.left_out)
        diverged = sum("diverged" in c.info for c in self.curves)
        listed = "; ".join(f"{n} run{'s' * (n > 1)} {brief}" for brief, n in counts.items())
        same = [f"On {env}, {' and '.join(labels)} have the same settings." for env, labels in self.alike]
        told = [f"{diverged} run{'s' * (diverged > 1)} diverged: the last score counts to the end."] * bool(diverged)
        told += self._shortest() + self._versions()
        return told + [f"Left out: {listed}."] * bool(counts) + same + [*self.more]

    @property
    def versions(self) -> list[dict[str, Any]]:
        """The lines whose runs were made with different versions: env, label, and see `replicates.mixed`."""
        lines = grouped(self.curves, lambda c: (c.env, c.label))
        mixed = {line: replicates.mixed([c.info for c in group]) for line, group in lines.items()}
        return [{"env": env, "label": label, "differ": found} for (env, label), found in mixed.items() if found]

    def _versions(self) -> list[str]:
        """A sentence for each of these."""
        told = []
        for line in self.versions:
            each = [
                f"{package} {version} (seed{'s' * (len(seeds) > 1)} {', '.join(map(str, sorted(seeds)))})"
                for package, versions in line["differ"].items()
                for version, seeds in versions.items()
            ]
            told.append(f"Runs of {line['label']} on {line['env']} have different versions: {', '.join(each)}.")
        return told

    def _shortest(self) -> list[str]:
        """A sentence for each environment whose scores are compared long before its longest runs end."""
        found = []
        for env, group in grouped(self.curves, lambda c: c.env).items():
            at = compared_at(group)
            if at["step"] >= NEARLY * at["longest"]:
                continue
            first = at["limited_by"][0]
            more = len(at["limited_by"]) - 1
            others = f", nor have {more} others" if more > 1 else ", nor has another one" if more else ""
            found.append(
                f"Scores on {env} are compared at step {at['step']:,} of {at['longest']:,}, since {first} has come "
                f"no further{others}."
            )
        return found


def read(root: Path, window: int = WINDOW, statistic: Statistic = MEAN) -> Found:
    """The learning curves of the runs in `root`, in groups of replicates with one run for each seed.

    `root` is a run itself, or has runs in it at any depth, as `runs/ENV/ALGO/1`; links are not followed. The
    trainings of tunings further down are left out: each has options of its own.

    Raises UsageError where no run has a finished game, DataError for a damaged run.
    """
    found, left = [], []
    for directory in sorted(runs_under(root)):
        if tuning := _tuning_of(directory, root):
            why = f"a training of the tuning in {tuning}: to compare those, name that folder"
            left.append(LeftOut(directory, "", "", why, "of tunings"))
            continue
        info = read_info(directory)
        curve = read_curve(directory, info, window, statistic)
        if replicates.edited(info):
            why = "its run.json was changed by hand, so it does not say what was trained"
            left.append(LeftOut(directory, curve.env, curve.label, why, "whose run.json was changed by hand"))
        elif not curve.steps.size:
            why = "it diverged before a game had ended" if "diverged" in info else "no game has ended yet"
            left.append(LeftOut(directory, curve.env, curve.label, why, "without a finished game"))
        else:
            found.append(curve)
    if not found:
        tuned = next((x.why for x in left if x.brief == "of tunings"), "")
        if tuned:
            raise UsageError(f"no run with a finished game in {root} but {tuned}")
        raise UsageError(f"no run with a finished game in {root}: train some first, see playfield compare --help")
    return pooled(found, left)


def _tuning_of(directory: Path, root: Path) -> Path | None:
    """The folder of the tuning below `root` that a run belongs to; None where it belongs to none."""
    between = [one for one in directory.parents if one != root and one.is_relative_to(root)]
    return next((one for one in between if (one / TUNING).is_file()), None)


def compared_at(curves: Sequence[LearningCurve]) -> dict[str, Any]:
    """Where the scores of an environment's runs are compared: the last `step` that all have reached, how far the
    `longest` is, and the runs that it is `limited_by`: those not half of the way between, the shortest first."""
    step, longest = min(c.last for c in curves), max(c.last for c in curves)
    short = sorted((c for c in curves if 2 * c.last < step + longest), key=lambda c: c.last)
    return {"step": step, "longest": longest, "limited_by": [str(c.directory) for c in short]}


def pooled(found: Sequence[LearningCurve], left_out: Sequence[LeftOut] = ()) -> Found:
    """These curves with their labels, sorted: one for each seed of a group of replicates; the others are left out."""
    left = list(left_out)
    groups = _replicates(found)
    kept: list[LearningCurve] = []
    alike: dict[tuple[str, Hashable], list[str]] = {}
    for label, group in zip(replicates.labels([(g[0].asked, g[0].info) for g in groups]), groups, strict=True):
        alike.setdefault((group[0].env, replicates.same(group[0].info)), []).append(label)
        for runs in grouped(group, lambda c: c.seed).values():
            best, *others = sorted(runs, key=lambda c: (not c.finished, -c.last))
            kept.append(replace(best, label=label, place=group[0].place, asked=group[0].asked))
            why = f"the same settings and seed as {best.directory}"
            brief = "with the settings and the seed of another"
            left += [LeftOut(c.directory, c.env, group[0].asked or label, why, brief) for c in others]
    kept.sort(key=lambda c: (c.env, c.place, c.label, c.seed))
    same = [(env, tuple(labels)) for (env, _), labels in alike.items() if len(labels) > 1]
    return Found(tuple(kept), tuple(left), tuple(same))


def read_curve(directory: Path, info: dict[str, Any], window: int, statistic: Statistic = MEAN) -> LearningCurve:
    """The learning curve of a run; without steps before its first game has ended."""
    games = sorted(read_monitor(directory / "monitor.csv")) if (directory / "monitor.csv").exists() else []
    total = info.get("steps", 0)
    games = [g for g in games if g[0] <= total]  # the last rollout may go beyond; all runs have equal steps
    steps = np.array([g[0] for g in games], float)
    values = statistic.moving([g[1] for g in games], window)
    clock = np.maximum.accumulate(np.array([g[3] for g in games], float))
    return curve_of(directory, info, steps, values, clock, statistic)


def curve_of(
    directory: Path,
    info: dict[str, Any],
    steps: np.ndarray,
    values: np.ndarray,
    clock: np.ndarray,
    statistic: Statistic = MEAN,
) -> LearningCurve:
    """The learning curve of a run with these points [n], up to where the run is; see `LearningCurve`."""
    total = info.get("steps", 0)
    told = stored_label(directory.parent) or {"label": None, "place": UNPLACED}
    games = len(steps)
    at, seconds = reached(directory)
    if finished(info):
        at, seconds = int(info["result"]["steps"]), float(info["result"].get("seconds") or 0)
    speed, at = at / seconds if seconds else 0.0, min(at, total)
    if "diverged" in info:
        at = total  # its last score counts to the end: to leave it out would flatter the algorithm
    if steps.size and at > steps[-1]:
        steps, values = np.append(steps, at), np.append(values, values[-1])
        clock = np.append(clock, max(seconds, clock[-1]))
    return LearningCurve(
        str(info.get("env", directory.parent.parent.name)),
        told["label"] or info["algo"],
        told["place"],
        int(info.get("seed", 0)),
        directory,
        info,
        steps,
        values,
        speed,
        seconds,
        clock,
        told["label"],
        statistic,
        games,
    )


def _replicates(curves: Sequence[LearningCurve]) -> list[list[LearningCurve]]:
    """Groups with the same settings and the same label; runs without a label join those of their settings."""
    groups: dict[tuple[Hashable, str | None], list[LearningCurve]] = {}
    first: dict[Hashable, str | None] = {}
    for curve in sorted(curves, key=lambda c: (c.asked is None, c.place)):
        settings = replicates.same(curve.info)
        asked = curve.asked if curve.asked is not None else first.get(settings)
        first.setdefault(settings, asked)
        groups.setdefault((settings, asked), []).append(curve)
    return list(groups.values())


def choose(found: Found, envs: Sequence[str], labels: Sequence[str]) -> Found:
    """What is of these environments and labels, in that order; all of it where none are given.

    A label stands for all groups of runs that a comparison has trained under it.
    """
    known = list(dict.fromkeys(c.env for c in found.curves))
    wanted = [resolve(env).id for env in envs]
    unfinished = {x.env for x in found.left_out}
    for env in wanted:
        if env not in known and env not in unfinished:
            raise unknown("environment in these runs", env, known)
    order = wanted or known
    places = {label: i for i, label in enumerate(labels)}
    kept = [c for c in found.curves if c.env in order and (not labels or c.asked in places or c.label in places)]
    if not kept:
        raise UsageError("none of these runs has a finished game")

    def place(c: LearningCurve) -> int:
        return places.get(c.asked or c.label, c.place)

    kept.sort(key=lambda c: (order.index(c.env), place(c), c.label, c.seed))
    left = [x for x in found.left_out if (not wanted or x.env in wanted) and (not labels or x.label in places)]
    return Found(tuple(kept), tuple(left), _alike(found, kept))


def _alike(found: Found, kept: Sequence[LearningCurve]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """What is left of `found.alike` where only these curves are shown."""
    shown = {(c.env, c.label) for c in kept}
    alike = [(env, tuple(n for n in names if (env, n) in shown)) for env, names in found.alike]
    return tuple(pair for pair in alike if len(pair[1]) > 1)


def of_file(found: Found, kinds: Sequence[Kind], file: str, root: Path) -> Found:
    """What is of the kinds of an experiment's file. Runs of others, as of an earlier version of it, are left out.

    Seeds that the file does not name count, and are told.

    Args:
        found: what lies in `root`.
        kinds: those of the file.
        file: its path.

    Raises UsageError where none of its runs has a finished game.
    """
    seeds: dict[tuple[str, str | None], set[int]] = {}
    for kind in kinds:
        seeds.setdefault((resolve(kind.env).id, kind.label), set()).update(kind.seeds)
    kept = tuple(c for c in found.curves if (c.env, c.asked) in seeds)
    if not kept:
        raise UsageError(f"none of the runs of {file} has a finished game")
    others = [c for c in found.curves if (c.env, c.asked) not in seeds]
    lines = list(dict.fromkeys(f"{c.label} on {c.env}" for c in others))
    named = ", ".join(lines[:NAMED]) + f" and {len(lines) - NAMED} more" * (len(lines) > NAMED)
    brief = f"not in {file} ({named}; all: playfield compare --dir {shlex.quote(str(root))})"
    left = [LeftOut(c.directory, c.env, c.label, f"{c.label} on {c.env} is not in {file}", brief) for c in others]
    more = []
    for (env, label), group in grouped(kept, lambda c: (c.env, c.label)).items():
        if extra := [c.seed for c in group if c.seed not in seeds[env, c.asked]]:
            listed = ", ".join(map(str, extra))
            more.append(f"{label} on {env}: seed{'s' * (len(extra) > 1)} {listed}, not in {file}, counted too.")
    return Found(kept, (*found.left_out, *left), _alike(found, kept), (*found.more, *more))


def rows(
    curves: Sequence[LearningCurve], window: int = WINDOW, chosen: Mapping[Path, float] | None = None
) -> list[dict[str, Any]]:
    """The table: per environment and label, the score at the last step that all runs of the environment reached.

    The score of a run is its curve there: a moving mean, or the other `statistic` of the curve. `mean` is over seeds.
    `chosen`: another score of each run directory, by the same statistic (see `chosen.choose`).
    `low` and `high` are Student's 95 % interval over seeds, within the possible scores; None for a single seed.
    """
    made = []
    for env, in_env in grouped(curves, lambda c: c.env).items():
        at = compared_at(in_env)["step"]
        for label, group in grouped(in_env, lambda c: c.label).items():
            scores = np.array([c.value_at(at) if chosen is None else chosen[c.directory] for c in group])
            low, high = t_interval(scores, limits=limits(env, group[0]))
            speeds = [c.speed for c in group if c.speed]
            made.append(
                {
                    "env": env,
                    "label": label,
                    "algo": group[0].info["algo"],
                    "seeds": [c.seed for c in group],
                    "step": at,
                    "window": window,
                    "statistic": group[0].statistic.name,
                    "mean": float(scores.mean()),
                    "low": float(low) if len(group) > 1 else None,
                    "high": float(high) if len(group) > 1 else None,
                    "scores": scores.tolist(),
                    "steps_per_second": float(np.mean(speeds)) if speeds else None,
                    "seconds": float(np.mean([c.seconds for c in group])),
                    "finished": [c.finished for c in group],
                    "diverged": sum("diverged" in c.info for c in group),
                    "runs": [str(c.directory) for c in group],
                }
            )
    return made


def limits(env: str, curve: LearningCurve) -> tuple[float, float]:
    """The lowest and highest possible value of the statistic of a curve."""
    return curve.statistic.limits(*family(curve.info["spec"]["kind"]).score_limits(env))


def grouped(curves: Sequence[LearningCurve], key: Callable[[LearningCurve], K]) -> dict[K, list[LearningCurve]]:
    """The curves by `key`, in order."""
    groups: dict[K, list[LearningCurve]] = {}
    for curve in curves:
        groups.setdefault(key(curve), []).append(curve)
    return groups
