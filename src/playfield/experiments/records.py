"""The runs under a directory as records: what each trained, how far it is, its score, and its state."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from playfield import arguments as takes
from playfield.envs import protocol_line
from playfield.envs.family import family
from playfield.envs.names import resolve
from playfield.errors import PlayfieldError, UsageError, unknown
from playfield.experiments.job import evaluation, finished, reached
from playfield.play.evaluate import FEW
from playfield.play.statistics import MEAN, Statistic, interval, named, one_statistic, t_interval
from playfield.runs import origin
from playfield.runs.info import read_info, runs_under
from playfield.runs.lock import holder
from playfield.runs.logger import WINDOW, read_monitor

STATES = ("running", "finished", "stopped", "diverged", "damaged")
COLUMNS = (
    "run",
    "env",
    "algo",
    "preset",
    "seed",
    "step",
    "steps",
    "score",
    "low",
    "high",
    "games",
    "scored",
    "statistic",
    "seconds",
    "state",
    "protocol",
    "init_from",
    "replay_failures",
    "playfield",
    "created",
    "note",
)
"""The keys of a record, in order."""
SORTS = ("run", "env", "algo", "preset", "seed", "step", "score", "seconds", "state", "created")
LARGEST_FIRST = {"score"}

Record = dict[str, Any]


def _folders(name: str, value: Any) -> None:
    for one in value if isinstance(value, list | tuple) else [value]:
        takes.path(name, one)


def _seeds(name: str, value: Any) -> None:
    for one in value if isinstance(value, list | tuple | range) else [value]:
        takes.seed(name, one)


@takes.checked(
    folder=_folders,
    env=takes.text(),
    algo=takes.text(),
    preset=takes.text(),
    seed=_seeds,
    state=takes.text(*STATES),
    sort=takes.text(*SORTS),
    reverse=takes.switch,
    statistic=one_statistic,
)
def list_runs(
    folder: str | Path | Sequence[str | Path] = "runs",
    *,
    env: str | None = None,
    algo: str | None = None,
    preset: str | None = None,
    seed: int | Sequence[int] | None = None,
    state: str | None = None,
    sort: str = "run",
    reverse: bool = False,
    statistic: str = "mean",
) -> list[Record]:
    """The runs under a directory, one dictionary each; `pandas.DataFrame` takes the list.

    Nothing is changed: a run may be training meanwhile.

    Args:
        folder: where to look, at any depth; or a run itself; or several of these.
        env, algo, preset, seed, state: only runs of this environment, algorithm, preset, seed (or one of several
            seeds), or state: `running`, `finished`, `stopped`, `diverged` or `damaged`.
        sort: by which key; runs by their names, scores from the best on.
        reverse: the other way round.
        statistic: of its games, the score of a run: `mean`, `median`, `lower-quartile`, or such as `mean-1std`.

    Returns:
        Dictionaries with the keys `run` (its directory), `env`, `algo`, `preset`, `seed`, `step` (reached), `steps`
        (asked for), `score` with the 95 % interval `low` to `high`, `games` of that score, `scored` (`evaluation`:
        full games of the evaluation of the last checkpoint over the most games; `training`: the last 100 training
        games), `statistic` (what of these games the score is), `seconds` of training, `state`, `protocol`,
        `init_from` (the run or agent whose weights the training began from), `replay_failures` (the share of training
        games that begin shortly before a lost life), `playfield` (version), `created` and `note` (what is wrong with
        a damaged or diverged run). What is not known, or is no option of the algorithm, is None.

    Raises:
        UsageError: no such directory, or no such statistic.

    Example:
        >>> pandas.DataFrame(playfield.list_runs("runs", env="breakout", sort="score"))
    """
    folders = [folder] if isinstance(folder, str | Path) else list(folder)
    runs = dict.fromkeys(run for one in folders for run in find(Path(one)))
    records = [record(run, statistic=named(statistic)) for run in runs]
    wanted: dict[str, Callable[[Any], bool]] = {}
    if env is not None:
        same = {env, _canonical(env)}
        wanted["env"] = lambda value: value in same
        _known("environment", env, same, records, "env")
    for key, one in (("algo", algo), ("preset", preset), ("state", state)):
        if one is not None:
            wanted[key] = one.__eq__
            if key != "state":
                _known({"algo": "algorithm"}.get(key, key), one, {one}, records, key)
    if seed is not None:
        seeds = {seed} if isinstance(seed, int) else set(seed)
        wanted["seed"] = lambda value: value in seeds
    return ordered([r for r in records if all(fits(r[key]) for key, fits in wanted.items())], sort, reverse)


def _canonical(env: str) -> str:
    """The name under which runs of `env` are kept; itself for what is registered elsewhere."""
    with contextlib.suppress(UsageError):
        return resolve(env).id
    return env


def _known(kind: str, name: str, names: set[str], records: Sequence[Record], key: str) -> None:
    """Raise UsageError for a name that none of the runs has: it may be misspelt."""
    known = sorted({str(r[key]) for r in records if r[key] is not None})
    if known and not names & set(known):
        raise unknown(f"{kind} among these runs", name, known)


def ordered(records: Sequence[Record], sort: str, reverse: bool = False) -> list[Record]:
    """Records by one of their keys; those without a value come last."""
    found = sorted(records, key=lambda r: natural(r["run"]))
    have = [r for r in found if r[sort] is not None]
    rest = [r for r in found if r[sort] is None]
    backwards = (sort in LARGEST_FIRST) != reverse
    have.sort(key=lambda r: natural(r[sort]) if isinstance(r[sort], str) else r[sort], reverse=backwards)
    return have + rest


def natural(text: str) -> tuple[tuple[int, str], ...]:
    """A key by which `runs/10` comes after `runs/9`."""
    return tuple((int(p), "") if p.isdecimal() and p.isascii() else (-1, p) for p in text.replace("/", " / ").split())


def find(folder: Path) -> Iterator[Path]:
    """Run directories at or under `folder`, by name; links are not followed. Raises UsageError where it is none."""
    if not folder.is_dir():
        raise UsageError(f"there is no directory {folder}: train first, or name where the runs are")
    yield from runs_under(folder)


def record(
    run: Path, last_scores: Callable[[], Sequence[float]] | None = None, statistic: Statistic = MEAN
) -> Record:
    """What there is to say about one run; see `list_runs`.

    `last_scores` gives the scores of its last `WINDOW` training games, where they are known already.
    """
    found: Record = dict.fromkeys(COLUMNS)
    found |= {"run": str(run), "note": ""}
    try:
        busy = holder(run) is not None
        info = read_info(run)
        found |= {key: info.get(key) for key in ("env", "algo", "preset", "seed", "steps")}
        found |= {key: info[key] for key in ("playfield", "created") if isinstance(info.get(key), str)}
        if "went_on" in info:
            found["playfield"] = origin.made_with(info, "playfield")
        found["env"] = found["env"] or info["spec"].get("id")
        found["protocol"] = protocol_line(info["protocol"]) if "protocol" in info else None
        found["init_from"] = info["init_from"]["run"] if "init_from" in info else None
        share = (info.get("config") or {}).get("replay_failures")
        found["replay_failures"] = share if _finite(share) else None
        found["step"], found["seconds"] = reached(run)
        if isinstance(result := info.get("result"), dict) and not busy:
            found["step"], found["seconds"] = result["steps"], result.get("seconds")
        diverged = info.get("diverged")
        found["state"] = (
            "running" if busy else "finished" if finished(info) else "diverged" if diverged else "stopped"
        )
        if diverged and found["state"] == "diverged":
            found |= {"step": diverged["step"], "note": diverged["why"]}
        scores = last_scores or (lambda: _last_scores(run))
        found |= _score(run, info, found["state"] == "finished", scores, statistic)
    except (PlayfieldError, OSError) as error:
        found |= {"state": "damaged", "note": str(error)}
    return found


def other_games(record: Record) -> list[str]:
    """The options of a record by which its training was another one than its algorithm's alone: for tables."""
    begun = [f"init-from {record['init_from']}"] if record["init_from"] else []
    share = [f"replay-failures {record['replay_failures']:g}"] if record["replay_failures"] else []
    return begun + share


def _last_scores(run: Path) -> list[float]:
    if not os.path.lexists(run / "monitor.csv"):
        return []
    return [score for _, score, _, _ in sorted(read_monitor(run / "monitor.csv"))][-WINDOW:]


def _score(
    run: Path,
    info: dict[str, Any],
    ended: bool,
    last_scores: Callable[[], Sequence[float]],
    statistic: Statistic,
) -> Record:
    """The evaluation at the end of a finished run, or else the last training games."""
    if ended and (told := evaluation(run, info["result"]["steps"])) is not None:
        value, ends = _evaluated(told, statistic)
        if value is not None:
            low, high = ends or (None, None)
            found = {"score": value, "low": low, "high": high, "games": told["games"], "scored": "evaluation"}
            return found | {"statistic": statistic.name}
    games = last_scores()
    if not games:
        return {}
    limits = family(info["spec"]["kind"]).score_limits(str(info.get("env", "")))
    many = len(games) >= max(FEW, 0 if statistic == MEAN else statistic.enough)
    low, high = (None, None) if not many else _ends(games, statistic, limits)
    value = float(np.mean(games)) if statistic == MEAN else statistic.value(games)
    found = {"score": value, "low": low, "high": high, "games": len(games), "scored": "training"}
    return found | {"statistic": statistic.name}


def _ends(games: Sequence[float], statistic: Statistic, limits: tuple[float, float]) -> tuple[float, float]:
    """Student's interval of a mean, a bootstrap interval of another statistic."""
    if statistic != MEAN:
        return interval(games, statistic=statistic)
    low, high = t_interval(np.array(games), limits=limits)
    return float(low), float(high)


def _evaluated(told: dict[str, Any], statistic: Statistic) -> tuple[float | None, Sequence[float] | None]:
    """The statistic of an evaluation and its interval; no value where the evaluation does not say it."""
    if statistic == MEAN:
        return told["mean"], told["ci95"]
    scores = told.get("scores")
    if not isinstance(scores, list) or len(scores) != told["games"] or not all(_finite(one) for one in scores):
        return statistic.told(told), None
    return statistic.value(scores), interval(scores, statistic=statistic) if len(scores) >= statistic.enough else None


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def size(run: Path) -> int:
    """Bytes of a run's files."""
    return sum(path.lstat().st_size for path in run.rglob("*") if not path.is_dir())
