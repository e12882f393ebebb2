"""What a tuning has found: the best trial as a preset file and as a command, all trials as CSV, and pictures."""

from __future__ import annotations

import csv
import io
import shlex
from pathlib import Path
from typing import Any

from playfield.experiments.study import Study, Trial
from playfield.experiments.tuning import Settings, option_words
from playfield.runs.console import format_value
from playfield.runs.preset_file import preset_text
from playfield.runs.storage import atomic_write
from playfield.show import tune_plots

BEST, TRIALS = "best.toml", "trials.csv"
ENOUGH = 20
"""Trials from which importances are worth more than a guess."""
PICTURES = ("history", "importances", "slices")


def write(directory: Path, settings: Settings, study: Study, best: Trial | None) -> None:
    """Write `trials.csv`, and `best.toml` where a trial is finished. Raises StorageError."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    seeds = [str(seed) for seed in settings.seeds]
    names = list(settings.space)
    table.writerow(["trial", "state", "value", *names, *(f"seed {s}" for s in seeds), "note", "runs"])
    for t in study.trials():
        values = ["" if v is None else repr(v) for v in (t.value, *(t.seeds.get(s) for s in seeds))]
        params = [t.params.get(name, "") for name in names]
        folder = f"trials/{t.number:04d}" if study.folder(t.number).is_dir() else ""
        table.writerow([t.number, t.state, values[0], *params, *values[1:], t.note, folder])
    atomic_write(directory / TRIALS, text.getvalue())
    if best is not None:
        atomic_write(directory / BEST, best_text(settings, best))


def best_text(settings: Settings, best: Trial) -> str:
    """The preset file of the best trial."""
    notes = [
        f"Found by playfield tune: trial {best.number} of {settings.trials} on {settings.env}.",
        f"Value {best.value:g}: {settings.objective()}.",
        "It is the best of many on the same seeds, so expect less on fresh ones: compare it with the default there.",
    ]
    return preset_text(settings.algo, settings.preset, {**settings.config, **best.params}, notes)


def command(settings: Settings, best: Trial) -> str:
    """The training of the best trial as a command, for another seed."""
    length = f"--steps {settings.steps}" if settings.steps is not None else f"--minutes {settings.minutes:g}"
    words = shlex.join([*settings.words, *option_words(best.params)])
    return f"playfield train {words} {length}"


def few(finished: int) -> str:
    """What to say of importances from this number of finished trials; empty where they are enough."""
    trials = f"{finished} trial{'s' * (finished != 1)}"
    return f"from {trials}, too few to rely on" if finished < ENOUGH else ""


def pictures(directory: Path, settings: Settings, study: Study, ending: str = "png") -> list[Path]:
    """Draw the history of the tuning, the importances of options, and a slice for each; the files that were made.

    Raises UsageError for an ending that no picture has, StorageError.
    """
    finished = [t for t in study.trials() if t.state == "finished" and t.value is not None]
    if not finished:
        return []
    points = [(t.number, float(t.value or 0.0)) for t in finished]
    foot = f"{settings.algo} on {settings.env}: {settings.objective()}."
    label = (
        "mean score" if settings.unit == "score" else settings.unit + ("" if settings.higher else " to the target")
    )
    made = [directory / f"history.{ending}"]
    others = [t.number for t in study.trials() if t.state in ("pruned", "failed")]
    tune_plots.history(made[0], points, others, settings.higher, label, foot)
    if found := study.importances():
        made.append(directory / f"importances.{ending}")
        note = few(len(finished))
        tune_plots.importances(made[-1], found, f"{foot} {note[0].upper()}{note[1:]}." if note else foot)
    slices = []
    for name, search in settings.space.items():
        pairs = [(t.params[name], float(t.value or 0.0)) for t in finished if name in t.params]
        slices.append(
            tune_plots.Slice(name.replace("_", "-"), pairs, search.low, search.high, search.log, search.choices)
        )
    made.append(directory / f"slices.{ending}")
    tune_plots.slices(made[-1], slices, settings.higher, label, foot)
    return made


def rows(settings: Settings, study: Study) -> list[dict[str, Any]]:
    """All trials as plain values, for JSON and tables."""
    return [
        {
            "trial": t.number,
            "state": t.state,
            "value": t.value,
            "params": t.params,
            "differs": {k: v for k, v in t.params.items() if v != settings.default[k]},
            "seeds": t.seeds,
            "note": t.note,
            "runs": str(study.folder(t.number)),
        }
        for t in study.trials()
    ]


def differing(settings: Settings, trial: Trial, most: int = 4) -> str:
    """The parameters in which a trial differs from what the tuning began from, in words."""
    changed = {k: v for k, v in trial.params.items() if v != settings.default.get(k)}
    words = [f"{k.replace('_', '-')} {brief(v)}" for k, v in changed.items()]
    more = [f"{len(words) - most} more"] if len(words) > most else []
    return ", ".join([*words[:most], *more]) or ("the default" if trial.params else "")


def brief(value: Any) -> str:
    """An option's value in a few characters."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value).lower() if isinstance(value, bool) else format_value(value) if isinstance(value, int) else value
