"""What a tuning is: its settings, which lie in `tune.json` in its directory, and what a trial's trainings are worth.

Trial N's trainings are the run directories `trials/N/SEED`. Its value is the median, or the lower quartile, over
seeds of one number for each training:

- score: the mean raw score of the last games of the training, 100 unless asked otherwise, or another statistic of
  them;
- time: how long it took until their mean reached a target. A training that does not reach it counts as more than its
  budget, up to twice (as PAR2 does in the configuration of algorithms): the more, the further its last mean is from
  the target on the way from its first one, so that there is something to follow where no trial gets there. Time is
  counted in steps where the budget is in steps, which repeats exactly, and in seconds of training where it is in
  minutes.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from playfield.errors import DataError, UsageError
from playfield.experiments.job import Job
from playfield.options import Option, Search
from playfield.play.statistics import named
from playfield.runs import catalog
from playfield.runs.info import WRONG, read_info, unusable
from playfield.runs.logger import read_monitor
from playfield.runs.storage import as_storage_error, atomic_write, read_json

FILE = "tune.json"
OVER = ("median", "lower-quartile")


@dataclass(frozen=True)
class Settings:
    """What a tuning does; every process that joins it has the same.

    Attributes:
        env, algo: what is trained.
        words: arguments of `playfield train` for all trials, with the environment and the algorithm.
        preset, config: what the tuning begins from: a preset, and options that are given beside it.
        steps, minutes: length of a training; one of them is None.
        until: the target of the time objective; None: the objective is the score.
        window: games that count.
        over: how the trainings of a trial become one number, see `OVER`.
        seeds: one training of a trial for each.
        seed: of the sampler.
        startup: trials before the sampler follows what it has seen.
        prune: whether trials that do badly early are stopped.
        space: what is searched.
        default: of these options, the values that trial 0 has.
        trials: how many there are to be; the one setting that may grow.
        statistic: of the games of a training, which is its score; see `play.statistics.named`.
    """

    env: str
    algo: str
    words: tuple[str, ...]
    preset: str
    config: dict[str, Any]
    steps: int | None
    minutes: float | None
    until: float | None
    window: int
    over: str
    seeds: tuple[int, ...]
    seed: int
    startup: int
    prune: bool
    space: dict[str, Search]
    default: dict[str, Any]
    trials: int
    statistic: str = "mean"

    @property
    def higher(self) -> bool:
        """Whether higher values are better."""
        return self.until is None

    @property
    def unit(self) -> str:
        """What a value is counted in: score (which names its statistic, unless it is the mean), steps or seconds."""
        score = "score" if self.statistic == "mean" else named(self.statistic).title
        return score if self.until is None else "steps" if self.steps is not None else "seconds"

    def score(self, games: Sequence[float]) -> float | None:
        """The statistic of the last of these games; None of none."""
        last = games[-self.window :]
        return named(self.statistic).value(last) if last else None

    def objective(self) -> str:
        """What is optimised, in words."""
        over = f", {self.over.replace('-', ' ')} over {len(self.seeds)} seeds" if len(self.seeds) > 1 else ""
        length = f"{self.steps:,} steps" if self.steps is not None else f"{self.minutes:g} minutes"
        if self.until is None:
            what = "mean score" if self.statistic == "mean" else f"{named(self.statistic).words} of the scores"
            return f"{what} of the last {self.window} games after {length}{over}"
        return f"{self.unit} until the mean of {self.window} games reaches {self.until:g}, at most {length}{over}"

    def options(self) -> dict[str, Option]:
        """The options that are searched."""
        known = {o.name: o for o in catalog.options(self.algo)}
        return {name: known[name] for name in self.space}

    def jobs(self, number: int, params: Mapping[str, Any], folder: Path) -> list[Job]:
        """The trainings of a trial. Raises DataError for values that are none of these options."""
        options = self.options()
        try:
            for name, value in params.items():
                options[name].check(value)
        except (KeyError, UsageError) as error:
            raise DataError(f"trial {number} of {folder.parent.parent} has unusable values: {error}") from None
        words = [*self.words, *option_words(params)]
        if self.until is not None:
            words += [f"--target-score={self.until!r}", "--target-games", str(self.window)]
        label = f"trial {number}"
        return [
            Job(self.env, label, tuple(words), seed, self.steps or 0, folder / str(seed), minutes=self.minutes)
            for seed in self.seeds
        ]


def option_words(values: Mapping[str, Any]) -> list[str]:
    """Options as words of `playfield train`, so that they are read back exactly."""
    return [
        f"--{name.replace('_', '-')}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in values.items()
    ]


def agreed(directory: Path, settings: Settings) -> Settings:
    """The settings as they are used: where the directory has a tuning already, it decides when the sampler follows.

    Raises UsageError where it has the tuning of other settings, or other files.
    """
    if (directory / FILE).exists() or (directory / FILE).is_symlink():
        stored = load(directory)
        settings = dataclasses.replace(settings, startup=stored.startup)
        new, old = _plain(settings), _plain(stored)
        differing = sorted(k for k in new if new[k] != old[k] and k != "trials")
        if differing:
            told = "; ".join(f"{k} is {_brief(old[k])}, not {_brief(new[k])}" for k in differing)
            raise UsageError(f"{directory} has a tuning with other settings ({told}): use those, or another --dir")
    elif directory.is_dir() and any(not path.name.startswith(".") for path in directory.iterdir()):
        raise UsageError(f"{directory} is not empty and has no tuning: use another --dir")
    return settings


def save(directory: Path, settings: Settings) -> Settings:
    """Write `tune.json`, or with it more trials than before; see `agreed`, whose settings it returns."""
    settings = agreed(directory, settings)
    if (directory / FILE).exists() and settings.trials <= load(directory).trials:
        return settings
    with as_storage_error(f"create {directory}"):
        directory.mkdir(parents=True, exist_ok=True)
    told = {k: v for k, v in _plain(settings).items() if (k, v) != ("statistic", "mean")}  # earlier versions read it
    atomic_write(directory / FILE, json.dumps({"format": 1, **told}, indent=2) + "\n")
    return settings


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _plain(settings: Settings) -> dict[str, Any]:
    """Settings as JSON gives them back."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(settings)))
    return plain


def load(directory: Path) -> Settings:
    """The settings in `tune.json`. Raises UsageError where there is no tuning, DataError for a damaged file."""
    if not (directory / FILE).is_symlink() and not (directory / FILE).exists():
        raise UsageError(f"there is no tuning in {directory}: start one, see playfield tune --help")
    path = directory / FILE
    try:
        stored = read_json(directory, FILE)[1]
        if not isinstance(stored, dict) or stored.pop("format", None) != 1:
            raise DataError("it is no tuning, or of another version")
        space = {name: Search(**{**s, "choices": tuple(s["choices"])}) for name, s in stored["space"].items()}
        lists = {"words": tuple(stored["words"]), "seeds": tuple(stored["seeds"]), "space": space}
        settings = Settings(**{**stored, **lists})
        _check(settings)
    except (DataError, UsageError) as error:
        raise DataError(f"cannot read {path}: {error}") from None
    except WRONG as error:
        raise unusable(str(path), error) from None
    return settings


def _check(s: Settings) -> None:
    """Raise DataError or UsageError for settings that no tuning can have."""
    known = {o.name: o for o in catalog.options(s.algo)}
    for name, search in s.space.items():
        for value in search.choices or (search.low, search.high):
            known[name].check(int(value) if known[name].type == "int" else value)
    fits = (
        all(isinstance(w, str) for w in (s.env, s.preset, *s.words))
        and (s.steps is None) != (s.minutes is None)
        and all(type(n) is int and 0 < n < 1e12 for n in (s.window, s.trials, s.startup, s.steps or 1))
        and all(type(n) is int and n >= 0 for n in (s.seed, *s.seeds))
        and all(v is None or math.isfinite(v) for v in (s.minutes, s.until))
        and s.over in OVER
        and named(s.statistic).name == s.statistic
        and (s.until is None or s.statistic == "mean")
        and isinstance(s.prune, bool)
        and isinstance(s.config, dict)
        and bool(s.seeds)
        and s.default.keys() == s.space.keys() != set()
    )
    if not fits:
        raise DataError("its values are of other kinds")


def games_of(directory: Path, last: float) -> list[float]:
    """The scores of a run's games that ended up to a step, in order."""
    path = directory / "monitor.csv"
    return [g[1] for g in sorted(read_monitor(path) if path.exists() else []) if g[0] <= last]


def value_of(settings: Settings, job: Job) -> float | None:
    """What one finished training is worth; None where no game has ended in it. Raises DataError for a damaged run."""
    info = read_info(job.directory)
    result = info["result"]
    if settings.until is None:
        return settings.score(games_of(job.directory, info["steps"]))
    if result.get("stop") != "target":
        budget = settings.steps if settings.steps is not None else 60 * (settings.minutes or 0.0)
        return budget * (1 + _missing(settings, games_of(job.directory, info["steps"])))
    return float(result["steps"] if settings.steps is not None else result["seconds"])


def _missing(settings: Settings, scores: Sequence[float]) -> float:
    """The part of the way from the first games' mean to the target that the last games' mean has not come, 0 to 1."""
    if not scores or settings.until is None:
        return 1.0
    first, last = statistics.fmean(scores[: settings.window]), statistics.fmean(scores[-settings.window :])
    way = settings.until - first
    return min(max((settings.until - last) / way, 0.0), 1.0) if way > 0 else 1.0


def together(settings: Settings, values: Sequence[float | None]) -> float | None:
    """The value of a trial from those of its trainings, where None is the worst; None where it is the worst."""
    worst = -math.inf if settings.higher else math.inf
    known = [worst if v is None else v for v in values]
    if settings.over == "median":
        found = statistics.median(known)
    elif settings.higher:
        found = float(np.quantile(known, 0.25, method="lower"))
    else:  # the slower ones
        found = float(np.quantile(known, 0.75, method="higher"))
    return found if math.isfinite(found) else None
