"""`playfield tune`."""

from __future__ import annotations

import argparse
import importlib.util
import shlex
from collections.abc import Sequence
from pathlib import Path

from playfield.cli.parser import check_env, directory, env_kwargs, make, real, seed, seed_list, whole
from playfield.cli.places import SLURM, add_on, check_on
from playfield.cli.statistic import add_statistic
from playfield.cli.train import understand
from playfield.envs.names import default_algo, resolve
from playfield.errors import UsageError, unknown
from playfield.experiments.space import read_space, space_of
from playfield.experiments.tuning import Settings, agreed, load
from playfield.experiments.words import check_words, split_label
from playfield.play.statistics import MEAN
from playfield.runs import algorithm, catalog
from playfield.runs.preset_file import is_file, read_preset
from playfield.training.prepare import check
from playfield.training.request import TAKES, Request

EXAMPLES = """examples:
  playfield tune CartPole-v1 --algo ppo --trials 40 --steps 50k
  playfield tune CartPole-v1 --algo ppo --steps 100k --until 475 --seeds 3 --over lower-quartile
  playfield tune CartPole-v1 --steps 50k --statistic lower-quartile
  playfield tune breakout --algo pqn --trials 20 --minutes 5 -- --net nips
  playfield tune CartPole-v1 --steps 50k --space space.toml    lr = {low = 1e-4, high = 1e-2, log = true}
  playfield tune --dir runs/tune/CartPole-v1/ppo               what there is
  playfield train CartPole-v1 --preset runs/tune/CartPole-v1/ppo/best.toml

The same command goes on after any stop; in a second terminal it shares the work. Words after -- go to every
training. Needs Optuna: pip install 'playfield[tune]'."""
ROOT = Path("runs/tune")


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
    p.add_argument(
        "--until", type=real("--until", -1e38), metavar="SCORE", help="how long it takes to this mean score"
    )
    p.add_argument("--window", type=whole("--window", 1, 1e6), help="last games that count (default 100)")
    add_statistic(p, "of these games, the score of a training")
    p.add_argument("--space", type=directory("--space"), metavar="FILE", help="what to search, a TOML file")
    p.add_argument("--no-prune", action="store_true", help="stop no trial early")
    p.add_argument("--seed", type=seed("--seed"), help="of the sampler (default 1)")
    p.add_argument(
        "--jobs", type=whole("--jobs", 1, 1024), help="trainings at once (default: the cores that are free)"
    )
    add_on(p, slurm=False)
    p.add_argument("--dir", type=directory("--dir"), help="where it lies (default runs/tune/ENV/ALGO)")
    p.add_argument("--yes", action="store_true", help="start even if it takes more than a day")
    p.add_argument("--format", choices=("png", "svg", "pdf"), default="png", help="of the pictures (default png)")
    p.add_argument("--json", action="store_true", help="JSON on standard output, nothing else")
    env_kwargs(p)
    a, extra = p.parse(words[:cut]), words[cut + 1 :]
    if importlib.util.find_spec("optuna") is None:
        raise UsageError("tuning needs Optuna: pip install 'playfield[tune]'")
    check_on(a, slurm=False)
    if a.on == SLURM:
        raise UsageError(
            "--on slurm: a tuning decides each trial from those before it, which a job array cannot: use --on ray"
        )
    if a.env is None:
        _nothing_but_dir(a, extra)
    asked = None if a.env is None else _settings(a, extra)
    from playfield.cli import _tuning

    if asked is None:
        return _tuning.show(a, a.dir)
    return _tuning.search(a, *asked, shlex.join(["playfield", "tune", *words]))


def _nothing_but_dir(a: argparse.Namespace, extra: Sequence[str]) -> None:
    """Raise UsageError unless there is a tuning to show, and nothing is asked of it."""
    if a.dir is None:
        raise UsageError("which environment? For example: playfield tune CartPole-v1 --algo ppo --steps 50k")
    names = ["algo", "trials", "steps", "minutes", "seeds", "over", "objective", "until", "window", "statistic"]
    names += ["space", "seed", "jobs", "on", "store"]
    given = [f"--{n}" for n in names if getattr(a, n) is not None] + ["--"] * bool(extra)
    if given:
        raise UsageError(f"{given[0]} is for tuning: name the environment, too")
    load(a.dir)


def _settings(a: argparse.Namespace, extra: Sequence[str]) -> tuple[Settings, Request, Path]:
    """What the words ask for, checked; the request of trial 0; and the directory. Nothing here imports Optuna."""
    check_env(a.env)
    if a.env_kwargs:
        extra = ["--env-kwargs", *a.env_kwargs, *extra]
    algo, *own = split_label(a.algo or default_algo(a.env))
    if algo not in catalog.algorithms():
        raise unknown("algorithm", algo, catalog.algorithms())
    check_words(own, f"in --algo {a.algo!r}", "the algorithm comes first, then its options", "a tuning")
    check_words(extra, "after --", f"{extra[0]!r} is no option" if extra else "", "a tuning")
    if (a.steps is None) == (a.minutes is None):
        raise UsageError("how long is each training? Give --steps or --minutes, for example --steps 50k")
    if (a.objective or ("time" if a.until is not None else "score")) != ("score" if a.until is None else "time"):
        why = "--objective time needs --until SCORE" if a.until is None else "--until is the objective time"
        raise UsageError(f"{why}: what is optimised is then how long it takes to that score")
    if a.until is not None and a.statistic not in (None, MEAN):
        raise UsageError(f"--statistic {a.statistic.name} is for the score at the end: --until waits for a mean")
    words = [a.env, "--workers", "1", "--algo", algo, *extra, *own]
    length = ["--steps", str(a.steps)] if a.steps is not None else ["--minutes", f"{a.minutes:g}"]
    options = understand([*words, *length])[0]
    where = a.dir or ROOT / resolve(a.env).id.replace("/", "-").replace(":", "-") / algo
    request = Request(**{**options, "run": where})
    values = check(request)[1]
    known = {o.name: o for o in catalog.options(algo)}
    if a.space is not None:
        read_space(a.space, known)  # its mistakes are told at once: to load an algorithm takes seconds
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
        statistic=(a.statistic or MEAN).name,
    )
    return agreed(where, settings), request, where
