"""What `playfield tune` does once its words are understood. It imports Optuna, and torch."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from playfield import compute
from playfield.cli.parser import say_line
from playfield.cli.places import here, nodes_of, opened
from playfield.cli.train import understand
from playfield.errors import PlayfieldError
from playfield.experiments import local, tune, tune_progress, tune_results, tuning
from playfield.experiments.estimate import confirm, measure, unmeasured
from playfield.experiments.job import Job
from playfield.experiments.places import Place
from playfield.experiments.ready import check_nodes
from playfield.experiments.study import JOURNAL, Study
from playfield.experiments.tune_results import differing
from playfield.experiments.tuning import Settings
from playfield.play.statistics import named
from playfield.runs.console import console, format_value, table
from playfield.runs.output import complain
from playfield.training.prepare import Prepared, fit_together, prepare
from playfield.training.request import Request

LISTED = 15  # trials in the table at the end
logger = logging.getLogger(__name__)


def show(a: argparse.Namespace, where: Path) -> int:
    """Tell what there is."""
    settings = tuning.load(where)
    return _report(a, where, settings, open_study(where, settings, only_read=True), write=False)


def open_study(directory: Path, settings: Settings, only_read: bool = False) -> Study:
    """The trials of a tuning, from its journal."""
    options = settings.options()
    space = {name: (search, options[name]) for name, search in settings.space.items()}
    return Study(
        directory, space, settings.default, settings.higher, settings.seed, settings.startup, only_read=only_read
    )


def search(a: argparse.Namespace, settings: Settings, request: Request, where: Path, command: str) -> int:
    """Run the trials, then tell what was found."""
    with contextlib.nullcontext() if here(a) else compute.elsewhere():
        ready = prepare(request)
    known: dict[tuple[str, ...], Prepared] = {}

    def prepared(job: Job) -> Prepared:
        if job.words not in known:
            known[job.words] = own(ready, job)
        return known[job.words]

    with opened(a, where, prepared) as (place, slots):
        return _search(a, settings, ready, where, command, place, slots)


def own(ready: Prepared, job: Job) -> Prepared:
    """What a trial's training needs: the memory of its own options, with what was chosen for all trials."""
    length = ["--steps", str(job.steps)] if job.minutes is None else ["--minutes", f"{job.minutes:g}"]
    try:
        with compute.elsewhere():
            found = prepare(Request(**{**understand([*job.words, *length])[0], "run": ready.request.run}))
    except PlayfieldError:  # the training itself says what is wrong with its options
        return ready
    return dataclasses.replace(found, compute=ready.compute)


def _search(
    a: argparse.Namespace,
    settings: Settings,
    ready: Prepared,
    where: Path,
    command: str,
    place: Place[Any] | None,
    slots: Callable[[], int],
) -> int:
    parallel = a.jobs or slots()
    need = ready.need if place is None else dataclasses.replace(ready.need, memory=0.0)
    fit_together([need] * settings.trials, parallel, where)
    if place is not None and (line := check_nodes(ready, nodes_of(place))):
        complain(line)
    ended = 0
    if (where / JOURNAL).exists():
        ended = sum(t.state not in ("waiting", "running") for t in open_study(where, settings, True).trials())
    count = max(settings.trials - ended, 0) * len(settings.seeds)
    length = 60 * (settings.minutes or 0.0)
    why = unmeasured(ready) if place is not None and settings.steps is not None and count else ""
    if settings.steps is not None and count and not why:
        length = settings.steps / measure(ready)
    told = f"at most {count} trainings (how long they take is not measured: {why})"
    told = told if why else confirm(-(-count // parallel) * length, f"at most {count} trainings", a.yes)
    if not a.json:
        say_line(f"{told}, {parallel} at a time, and seconds to start each")
        say_line(f"{settings.algo} on {settings.env}: {settings.objective()}")
        if settings.prune and named(settings.statistic).less:
            say_line(
                "note: scores that rise fast deviate most, and early ones decide what is stopped: see --no-prune"
            )
        say_line(f"searched: {', '.join(name.replace('_', '-') for name in settings.space)}")
    settings = tuning.save(where, settings)
    study = open_study(where, settings)
    try:
        with tune_progress.Progress(settings, study) as progress:
            share = place is None and a.jobs is None
            tune.run(settings, study, a.jobs or slots, progress, place, share)
    except local.Interrupted as stop:
        stop.args = (f"{stop}; what was trained is saved. Go on with: {command}",)
        raise
    finally:
        _save(where, settings, study)
    return _report(a, where, settings, study, write=True)


def _save(where: Path, settings: Settings, study: Study) -> None:
    tune_results.write(where, settings, study, study.best())


def _report(a: argparse.Namespace, where: Path, settings: Settings, study: Study, write: bool) -> int:
    best, made = study.best(), []
    if write:
        try:
            made = [str(path) for path in tune_results.pictures(where, settings, study, a.format)]
        except Exception as error:  # the table comes first: it is what the trials were for
            logger.warning("no pictures: %s", error if isinstance(error, PlayfieldError) else repr(error))
    found, finished = study.importances(), sum(t.state == "finished" for t in study.trials())
    preset = where / tune_results.BEST
    if a.json:
        told: dict[str, Any] = {"objective": settings.objective(), "statistic": settings.statistic}
        told |= {"trials": tune_results.rows(settings, study)}
        told |= {"best": None, "preset": None, "importances": found, "pictures": made}
        told["importances_note"] = (tune_results.few(finished) or None) if found else None
        if best is not None:
            told |= {"best": best.number, "preset": str(preset), "command": tune_results.command(settings, best)}
        print(json.dumps(told))
        return 0
    _print(settings, study)
    if found:
        say_line(importances(found, finished))
    if best is None:
        say_line("no trial is finished yet")
        return 0
    say_line(f"best: trial {best.number}, {settings.unit} {format_value(best.value)}: {settings.objective()}")
    say_line(f"  {tune_results.command(settings, best)}")
    if write or preset.exists():
        say_line(f"preset: playfield train {settings.env} --preset {preset}")
    for picture in made:
        say_line(f"picture: {picture}")
    return 0


def importances(found: Mapping[str, float], finished: int) -> str:
    """A line on how much each option decides, without those that decide nothing; few trials cannot say it."""
    shares = [f"{name.replace('_', '-')} {share:.0%}" for name, share in found.items() if share >= 0.005]
    few = tune_results.few(finished)
    return f"importances{f' ({few})' if few else ''}: {', '.join(shares)}"


def _print(settings: Settings, study: Study) -> None:
    sign = -1 if settings.higher else 1
    trials = [t for t in study.trials() if t.state != "waiting"]
    order = sorted(
        trials, key=lambda t: (t.state != "finished", sign * (t.value or 0.0) if t.state == "finished" else t.number)
    )
    output = console(110)
    lines = table(output, "trial", "state", "differs from the default", settings.unit, texts=3)
    for t in order[:LISTED]:
        value = "-" if t.value is None else format_value(t.value)
        lines.add_row(str(t.number), t.state, differing(settings, t), value)
    output.print(lines)
    if len(order) > LISTED:
        say_line(f"and {len(order) - LISTED} more: see trials.csv, or --json")
    counts = [f"{sum(t.state == s for t in trials)} {s}" for s in ("finished", "pruned", "failed", "running")]
    say_line(f"{len(trials)} of {settings.trials} trials: {', '.join(c for c in counts if not c.startswith('0'))}")
