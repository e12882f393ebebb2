"""`playfield tune`."""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playfield import compute
from playfield.cli.compare import OURS, check_words, split_label
from playfield.cli.parser import check_env, directory, env_kwargs, make, say_line, seed, seed_list, whole
from playfield.cli.train import understand
from playfield.envs.names import default_algo, resolve
from playfield.errors import PlayfieldError, UsageError, unknown
from playfield.runs import algorithm, catalog
from playfield.runs.console import console, format_value, table
from playfield.runs.goal import parse_score
from playfield.runs.preset_file import is_file, read_preset
from playfield.training.prepare import check, fit_together, prepare
from playfield.training.request import TAKES, Request

if TYPE_CHECKING:
    from playfield.experiments.study import Study
    from playfield.experiments.tuning import Settings

EXAMPLES = """examples:
  playfield tune CartPole-v1 --algo ppo --trials 40 --steps 50k
  playfield tune CartPole-v1 --algo ppo --steps 100k --until 475 --seeds 3 --over lower-quartile
  playfield tune breakout --algo pqn --trials 20 --minutes 5 -- --net nips
  playfield tune CartPole-v1 --steps 50k --space space.toml    lr = {low = 1e-4, high = 1e-2, log = true}
  playfield tune --dir runs/tune/CartPole-v1/ppo               what there is
  playfield train CartPole-v1 --preset runs/tune/CartPole-v1/ppo/best.toml

The same command goes on after any stop; in a second terminal it shares the work. Words after -- go to every
training. Needs Optuna: pip install 'playfield[tune]'."""
ROOT = Path("runs/tune")
LISTED = 15  # trials in the table at the end
logger = logging.getLogger(__name__)


def tune(words: list[str]) -> int:
    """Search good hyper-parameters: many trainings, the best as a preset file."""
    cut = words.index("--") if "--" in words else len(words)
    p = make("tune", tune.__doc__ or "", EXAMPLES)
    p.add_argument("env", nargs="?", help="the environment; without it: show what there is in --dir")
    p.add_argument(
        "--algo", metavar="WORDS", help='an algorithm, with options that stay: --algo "ppo --preset cleanrl"'
    )
    p.add_argument("--trials", type=whole("--trials", 1, 100_000), help="how many there are to be (default 40)")
    p.add_argument("--steps", type=TAKES["steps"].parse, help="length of each training")
    p.add_argument("--minutes", type=TAKES["minutes"].parse, help="length of each training, instead of --steps")
    p.add_argument("--seeds", type=seed_list("--seeds"), metavar="N|LIST", help="trainings of each trial (default 1)")
    p.add_argument("--over", choices=("median", "lower-quartile"), help="of the seeds' values (default median)")
    p.add_argument("--objective", choices=("score", "time"), help="the score at the end, or the time --until a score")
    p.add_argument("--until", type=parse_score, metavar="SCORE", help="how long it takes to this mean score")
    p.add_argument("--window", type=whole("--window", 1, 1e6), help="games in the mean (default 100)")
    p.add_argument("--space", type=directory("--space"), metavar="FILE", help="what to search, a TOML file")
    p.add_argument("--no-prune", action="store_true", help="stop no trial early")
    p.add_argument("--seed", type=seed("--seed"), help="of the sampler (default 1)")
    p.add_argument("--jobs", type=whole("--jobs", 1, 1024), help="trainings at once (default: the cores)")
    p.add_argument("--dir", type=directory("--dir"), help="where it lies (default runs/tune/ENV/ALGO)")
    p.add_argument("--yes", action="store_true", help="start even if it takes more than a day")
    p.add_argument("--format", choices=("png", "svg", "pdf"), default="png", help="of the pictures (default png)")
    p.add_argument("--json", action="store_true", help="JSON on standard output, nothing else")
    env_kwargs(p)
    a, extra = p.parse(words[:cut]), words[cut + 1 :]
    if importlib.util.find_spec("optuna") is None:
        raise UsageError("tuning needs Optuna: pip install 'playfield[tune]'")
    if a.env is None:
        return _show(a, extra)
    if a.env_kwargs:
        extra = ["--env-kwargs", *a.env_kwargs, *extra]
    return _tune(a, extra, shlex.join(["playfield", "tune", *words]))


def _show(a: argparse.Namespace, extra: Sequence[str]) -> int:
    if a.dir is None:
        raise UsageError("which environment? For example: playfield tune CartPole-v1 --algo ppo --steps 50k")
    names = ("algo", "trials", "steps", "minutes", "seeds", "until", "space", "jobs")
    given = [f"--{n}" for n in names if getattr(a, n) is not None] + ["--"] * bool(extra)
    if given:
        raise UsageError(f"{given[0]} is for tuning: name the environment, too")
    from playfield.experiments import tuning
    from playfield.experiments.study import Study

    settings = tuning.load(a.dir)
    return _report(a, a.dir, settings, _open(Study, a.dir, settings, only_read=True), write=False)


def _open(study: Any, directory: Path, settings: Settings, only_read: bool = False) -> Any:
    options = settings.options()
    space = {name: (search, options[name]) for name, search in settings.space.items()}
    return study(
        directory, space, settings.default, settings.higher, settings.seed, settings.startup, only_read=only_read
    )


def _tune(a: argparse.Namespace, extra: Sequence[str], command: str) -> int:
    settings, request, where = _settings(a, extra)
    ready = prepare(request)
    fit_together([ready.need] * settings.trials, a.jobs or compute.cores(), where)
    from playfield.experiments import local, tune_progress, tuning
    from playfield.experiments import tune as running
    from playfield.experiments.estimate import confirm, measure, seconds_for
    from playfield.experiments.study import Study

    parallel, count = a.jobs or compute.cores(), settings.trials * len(settings.seeds)
    length = settings.steps / measure(ready) if settings.steps is not None else 60 * float(settings.minutes or 0)
    told = confirm(seconds_for([length] * count, parallel), f"at most {count} trainings", a.yes)
    if not a.json:
        say_line(f"{told}, {parallel} at a time, and seconds to start each")
        say_line(f"{settings.algo} on {settings.env}: {settings.objective()}")
        say_line(f"searched: {', '.join(name.replace('_', '-') for name in settings.space)}")
    tuning.save(where, settings)
    study = _open(Study, where, settings)
    try:
        with tune_progress.Progress(settings, study) as progress:
            running.run(settings, study, parallel, progress)
    except local.Interrupted as stop:
        stop.args = (f"{stop}; what was trained is saved. Go on with: {command}",)
        raise
    finally:
        _save(where, settings, study)
    return _report(a, where, settings, study, write=True)


def _settings(a: argparse.Namespace, extra: Sequence[str]) -> tuple[Settings, Request, Path]:
    """What the words ask for, checked; the request of trial 0; and the directory. Nothing here imports Optuna."""
    check_env(a.env)
    algo, *own = split_label(a.algo or default_algo(a.env))
    if algo not in catalog.algorithms():
        raise unknown("algorithm", algo, catalog.algorithms())
    check_words(own, f"in --algo {a.algo!r}", "the algorithm comes first, then its options", OURS, "a tuning")
    check_words(extra, "after --", f"{extra[0]!r} is no option" if extra else "", OURS, "a tuning")
    if (a.steps is None) == (a.minutes is None):
        raise UsageError("how long is each training? Give --steps or --minutes, for example --steps 50k")
    if (a.objective or ("time" if a.until is not None else "score")) != ("score" if a.until is None else "time"):
        why = "--objective time needs --until SCORE" if a.until is None else "--until is the objective time"
        raise UsageError(f"{why}: what is optimised is then how long it takes to that score")
    words = [a.env, "--workers", "1", "--algo", algo, *extra, *own]
    length = ["--steps", str(a.steps)] if a.steps is not None else ["--minutes", f"{a.minutes:g}"]
    options = understand([*words, *length])[0]
    where = a.dir or ROOT / resolve(a.env).id.replace("/", "-").replace(":", "-") / algo
    request = Request(**{**options, "run": where})
    values = check(request)[1]
    known = {o.name: o for o in catalog.options(algo)}
    from playfield.experiments.space import space_of
    from playfield.experiments.tuning import Settings

    cfg = algorithm.load(algo).Config(**values)
    space = space_of(cfg, a.space, known)
    if a.space is None:  # what was given stays as it was given
        space = {name: search for name, search in space.items() if name not in request.config}
        if not space:
            raise UsageError("there is nothing to search: every option worth trying was given")
    preset, config = request.preset, dict(request.config)
    if is_file(preset):
        file = read_preset(Path(preset), algo)
        preset, config = file.preset, {**file.options, **config}
    trials = a.trials or 40
    settings = Settings(
        env=a.env,
        algo=algo,
        words=tuple(words),
        preset=preset,
        config=config,
        steps=a.steps,
        minutes=a.minutes,
        until=a.until,
        window=a.window or 100,
        over=a.over or "median",
        seeds=tuple(a.seeds or [1]),
        seed=1 if a.seed is None else a.seed,
        startup=max(2, min(10, trials // 4)),
        prune=not a.no_prune,
        space=space,
        default={name: getattr(cfg, name) for name in space},
        trials=trials,
    )
    return settings, request, where


def _save(where: Path, settings: Settings, study: Study) -> None:
    from playfield.experiments import tune_results

    tune_results.write(where, settings, study, study.best())


def _report(a: argparse.Namespace, where: Path, settings: Settings, study: Study, write: bool) -> int:
    from playfield.experiments import tune_results

    best, made = study.best(), []
    if write:
        try:
            made = [str(path) for path in tune_results.pictures(where, settings, study, a.format)]
        except Exception as error:  # the table comes first: it is what the trials were for
            logger.warning("no pictures: %s", error if isinstance(error, PlayfieldError) else repr(error))
    found = study.importances()
    preset = where / tune_results.BEST
    if a.json:
        told: dict[str, Any] = {"objective": settings.objective(), "trials": tune_results.rows(settings, study)}
        told |= {"best": None, "preset": None, "importances": found, "pictures": made}
        if best is not None:
            told |= {"best": best.number, "preset": str(preset), "command": tune_results.command(settings, best)}
        print(json.dumps(told))
        return 0
    _print(settings, study)
    if found:
        shares = ", ".join(f"{name.replace('_', '-')} {share:.0%}" for name, share in found.items())
        say_line(f"importances: {shares}")
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


def _print(settings: Settings, study: Study) -> None:
    from playfield.experiments.tune_results import differing

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
