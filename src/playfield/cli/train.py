"""`playfield train`."""

from __future__ import annotations

import argparse
import contextlib
import itertools
from pathlib import Path
from typing import Any

import playfield
from playfield.cli import defaults
from playfield.cli.parser import (
    BOOL,
    NoOption,
    Parser,
    check_env,
    directory,
    env_kwargs,
    env_timeout,
    make,
    real,
    say_line,
    seed,
    whole,
)
from playfield.cli.profiling import profiled
from playfield.envs import arguments
from playfield.envs.names import default_algo
from playfield.errors import UsageError, unknown
from playfield.experiments import ray_link, together
from playfield.options import FORMS, Option
from playfield.runs import catalog
from playfield.runs.goal import parse_score, requested
from playfield.runs.info import run_to_resume
from playfield.runs.output import complain
from playfield.runs.preset_file import file_hint, is_file, read_preset
from playfield.training import meeting
from playfield.training.request import PROTOCOL_PARTS, TAKES, Request

TRAIN_EXAMPLES = """examples:
  playfield train breakout                              about ten minutes on two cores
  playfield train breakout --preset cleanrl --steps 3M  CleanRL's hyper-parameters
  playfield train CartPole-v1 --algo a2c --seed 3
  playfield train ALE/Pong-v5 --minutes 30 --lr 3e-4
  playfield train CartPole-v1 --target-score 475        until the last 100 games reach 475 on average
  playfield train --resume runs/breakout/ppo/1          go on after any stop
  playfield train --resume runs/breakout/ppo/1 --steps 10M
  playfield train breakout --nodes 2 --rendezvous 10.0.0.1:29500
                                                        two machines, this one is 10.0.0.1; on the other:
  playfield train --join 10.0.0.1:29500
  playfield train --algo ppo --help                     with PPO's own options"""


def train(words: list[str]) -> int:
    """Train an agent, or resume a run."""
    options, say, profile = understand(words)
    if "join" in options:
        meeting.connect(options["join"]).close()  # a wrong address is reported at once, before torch is imported

        from playfield.training.join import join

        join(options["join"], say or (lambda _: None))
        return 0
    on, given = options.pop("on", None), options.get("rendezvous")
    if on is not None:
        together.secret()
        options.setdefault("rendezvous", f":{meeting.PORT}")  # or another one: that is known once the nodes are
    if "resume" in options:
        run_to_resume(Path(options["resume"]))
    else:
        from playfield.training.prepare import check

        check(Request(**options))
    if on is None:
        return _train(options, say, profile)
    return _train_on(ray_link.asked(on), given, options, say, profile)


def _train_on(cluster: str, given: str | None, options: dict[str, Any], say: Any, profile: bool) -> int:
    """Train with the other machines on a Ray cluster. What is wrong with the words is said before that is asked."""
    from playfield.training.train import check_resume, check_start

    nodes = options["nodes"]
    if "resume" in options:
        chosen, left = check_resume(**options)
        if not left:
            return _train(options, say, profile)
    else:
        chosen = check_start(Request(**options)).compute
    where = meeting.address("--rendezvous", given) if given else None
    told = complain if say else (lambda _: None)
    cores, gpu = max(1, chosen.workers // nodes), chosen.device == "cuda"
    with together.gathered(cluster, where, nodes - 1, cores, told, gpu) as found:
        return _train({**options, "rendezvous": str(found)}, say, profile)


def understand(words: list[str]) -> tuple[dict[str, Any], Any, bool]:
    """What the words of `train` ask for: the arguments of `playfield.train`, `say`, and whether to profile.

    Raises UsageError for a mistake. Nothing here imports torch.
    """
    algo = ""
    for i, word in enumerate(words):
        if word == "--algo" and i + 1 < len(words):
            algo = words[i + 1]
        elif word.startswith("--algo="):
            algo = word[7:]
    if not algo and (file := _preset_file(words)):
        algo = read_preset(Path(file)).algo
        words = [*words, "--algo", algo]
    if chosen := not algo:
        named = [w for before, w in zip(["", *words], words, strict=False) if before != "--run"]
        algo = next((best for w in named if (best := default_algo(w)) != "ppo"), "ppo")
    own = catalog.options(algo)
    p = make("train", train.__doc__ or "", TRAIN_EXAMPLES)
    p.add_argument("env", nargs="?", help="breakout, ALE/Pong-v5, CartPole-v1, any Gymnasium id")
    p.add_argument(
        "--algo",
        default=algo,
        help=f"{', '.join(catalog.algorithms())} (default ppo; MountainCar: sarsa; toy texts: qlearning)",
    )
    known = ", ".join(catalog.presets(algo))
    p.add_argument("--preset", default="default", help=f"hyper-parameters: {known}; or a file, FILE.toml")
    p.add_argument(
        "--steps",
        type=TAKES["steps"].parse,
        help="total timesteps (1M, 500k); default: fixed by environment, algorithm and preset",
    )
    p.add_argument("--minutes", type=TAKES["minutes"].parse, help="length of the training, at the measured speed")
    p.add_argument(
        "--target-score",
        type=parse_score,
        metavar="SCORE",
        help="stop early when the mean raw score of the last K games reaches this (none: no target)",
    )
    p.add_argument(
        "--target-games",
        type=TAKES["target_games"].parse,
        metavar="K",
        help="the K of --target-score (default 100)",
    )
    p.add_argument("--seed", type=seed("--seed"), default=1, help="seed of everything random (default 1)")
    p.add_argument(
        "--run", type=directory("--run"), metavar="DIR", help="run directory (default: the next one under runs/)"
    )
    p.add_argument(
        "--resume",
        type=directory("--resume"),
        metavar="DIR",
        help="resume a run, exactly; --steps and --target-score may change",
    )
    p.add_argument(
        "--init-from",
        metavar="RUN",
        help="start from the weights of a run, one of its checkpoints, or a shipped agent",
    )
    p.add_argument("--trust", action="store_true", help="with --resume: import the module that an id module:Id names")
    p.add_argument("--device", default="auto", help="auto, cpu or cuda")
    p.add_argument("--precision", default="auto", help="auto, bf16 or fp32 (network bodies)")
    p.add_argument("--workers", type=TAKES["workers"].parse, default=0, help="workers (0: choose)")
    p.add_argument(
        "--workers-as",
        choices=TAKES["workers_as"].choices,
        help="what workers are: threads (auto) or processes, with the same bits on a CPU; also with --resume",
    )
    p.add_argument(
        "--nodes",
        type=TAKES["nodes"].parse,
        metavar="N",
        help="machines that train together, this one included (PPO, A2C, PQN); with --resume, too",
    )
    p.add_argument(
        "--rendezvous",
        metavar="HOST:PORT",
        help="with --nodes: the address of this machine at which it waits for the others (port 29500 if left out)",
    )
    p.add_argument(
        "--on",
        metavar="PLACE",
        help="with --nodes: start the others on a Ray cluster; ray: that of RAY_ADDRESS or one on this machine; "
        "HOST:PORT or ray://HOST:PORT: that cluster",
    )
    p.add_argument(
        "--join",
        metavar="HOST:PORT",
        help="on the other machines, alone: take part in the training that waits there. All need the same secret in "
        "PLAYFIELD_TOKEN, or in the file that PLAYFIELD_TOKEN_FILE names",
    )
    p.add_argument(
        "--save-seconds", type=TAKES["save_seconds"].parse, help="maximum seconds between checkpoints (default 60)"
    )
    p.add_argument("--keep", type=TAKES["keep"].parse, help="checkpoints to keep (default 3)")
    p.add_argument(
        "--eval-every",
        type=TAKES["eval_every"].parse,
        metavar="STEPS",
        help="evaluate every so many steps, at most once a rollout, into eval/evaluations.csv; the training stays "
        "the same",
    )
    p.add_argument("--eval-games", type=TAKES["eval_games"].parse, default=10, help="games of each (default 10)")
    p.add_argument("--games", type=TAKES["games"].parse, help="games of the final evaluation (default 30)")
    p.add_argument(
        "--film", type=_switch("--film"), metavar=BOOL, help="film its best game (default; --no-film: not)"
    )
    p.add_argument(
        "--tensorboard",
        type=_switch("--tensorboard"),
        metavar=BOOL,
        help="write TensorBoard events (default; --no-tensorboard: not)",
    )
    env_kwargs(p)
    env_timeout(p)
    p.add_argument("--quiet", action="store_true", help="print only the result")
    p.add_argument("--profile", action="store_true", help="at the end: the 20 functions with the most own time")
    protocol_options(p)
    group = p.add_argument_group(f"{algo}'s own options")
    flags = {o.name: group.add_argument(o.flag, type=o.parse, metavar=o.metavar) for o in own}
    if {"-h", "--help"} & set(words):
        env, preset, values = _values(p, algo, words)
        whose = f"for {env}" if env else "where environments differ, for each kind"
        group.description = (
            f"[value in the preset {preset}, {whose}]. BOOL is true or false; --NAME alone is true, --no-NAME false."
        )
        if any(o.quantity for o in own):
            group.description += f" SCHEDULE, over the fraction of steps done: {'; '.join(FORMS.values())}."
        for o in own:
            flags[o.name].help = f"{o.help} [{values.get(o.name, o.default)}]".replace("%", "%%")
    try:
        a = p.parse(words)
    except NoOption as error:
        if error.word in catalog.algorithms():
            raise UsageError(f"{error.start} An algorithm is named with --algo {error.word}") from None
        if not error.word.startswith("--"):
            raise
        why = catalog.why_not(algo, error.word[2:], ())
        if why.startswith("it is one"):
            raise UsageError(f"{error.start}: {why} (--algo NAME)") from None
        note = f" (the algorithm is {algo} here, unless --algo names another)" if chosen and algo != "ppo" else ""
        raise UsageError(f"{error}{note}") from None
    config = {o.name: getattr(a, o.name) for o in own if getattr(a, o.name) is not None}
    parts = protocol_parts(a)
    common = {"steps": a.steps, "console": not a.quiet}
    asked = ["save_seconds", "keep", "target_score", "target_games", "games", "film", "tensorboard", "workers_as"]
    asked += ["nodes", "rendezvous"]
    common |= {k: getattr(a, k) for k in asked if getattr(a, k) is not None}
    say = None if a.quiet else say_line
    if a.on is not None:
        if a.nodes in (None, 1):
            raise UsageError("--on is for several machines: say how many with --nodes")
        if a.on in ("local", "slurm"):
            raise UsageError(
                f"--on {a.on} is for playfield compare: with --nodes it is ray or HOST:PORT, a Ray cluster; without "
                "Ray use --rendezvous here and --join on the others"
            )
        ray_link.asked(a.on)
        ray_link.require_ray()
        common |= {"on": a.on}
    given = {w.partition("=")[0] for w in p.canonical(words) if w.startswith("--")}
    if a.join is not None:
        if a.env is not None or (more := given - {"--join", "--quiet", "--debug"}):
            what = a.env or ", ".join(sorted(more))
            raise UsageError(f"{what}: the first machine says what is trained: give --join alone")
        meeting.token()
        return {"join": meeting.address("--join", a.join)}, say, False
    if a.resume is not None:
        fixed = given - {"--resume", "--quiet", "--profile"} - {"--" + k.replace("_", "-") for k in (*common, *asked)}
        fixed -= {"--trust", "--env-timeout", "--debug", "--on"}
        if a.env is not None or fixed:
            what = ", ".join(sorted(fixed)) or a.env
            raise UsageError(f"{what} is part of the run and cannot be given with --resume")
        return {"resume": a.resume, "trust": a.trust, **common}, say, a.profile
    if a.env is None:
        raise UsageError("which environment? For example: playfield train breakout (`playfield games` lists all)")
    check_env(a.env)
    if chosen and default_algo(a.env) != algo:
        return understand([*words, "--algo", default_algo(a.env)])
    requested(a.target_score, a.target_games)
    if is_file(a.preset):
        a.preset = str(Path(a.preset))
    elif a.preset not in catalog.presets(algo):
        raise unknown(f"{algo} preset", a.preset, catalog.presets(algo), file_hint(a.preset))
    catalog.agree(algo, config)
    options = {
        "env": a.env,
        "algo": a.algo,
        "preset": a.preset,
        "minutes": a.minutes,
        "seed": a.seed,
        "init_from": a.init_from,
        "eval_every": a.eval_every,
        "eval_games": a.eval_games,
        "run": a.run,
        "device": a.device,
        "precision": a.precision,
        "workers": a.workers,
        "protocol": a.protocol,
        "view": a.view,
        "env_kwargs": arguments.parse(a.env_kwargs or ()),
        "parts": parts,
        "config": config,
        **common,
    }
    return options, say, a.profile


def _preset_file(words: list[str]) -> str | None:
    """The file that `--preset` names, if it names one."""
    following = dict(itertools.pairwise(words))
    named = [
        following.get("--preset", ""),
        *(w.removeprefix("--preset=") for w in words if w.startswith("--preset=")),
    ]
    return next((name for name in named if is_file(name)), None)


def _values(p: Parser, algo: str, words: list[str]) -> tuple[str | None, str, dict[str, str]]:
    """The environment and the preset that are given beside --help, and what the preset's values are for it."""
    env, preset, obs = None, "default", None
    with contextlib.suppress(UsageError):  # help comes first
        a = p.parse([w for w in words if w not in ("-h", "--help")])
        preset, obs = a.preset if a.preset in catalog.presets(algo) else "default", a.obs
        if a.env is not None:
            check_env(a.env)
            env = a.env
    return env, preset, defaults.values_in_words(algo, preset, env, obs)


def _train(options: dict[str, Any], say: Any, profile: bool) -> int:
    if profile:
        with profiled():
            result = playfield.train(say=say, **options)
    else:
        result = playfield.train(say=say, **options)
    if say is None:
        say_line(f"{result.directory} steps {result.steps} score {result.score:g} hash {result.hash}")
    return 0


def protocol_options(p: Parser) -> None:
    group = p.add_argument_group("Atari protocol")
    group.add_argument(
        "--protocol",
        help="classic (Nature DQN, CleanRL), v4 (2 to 4 frames a step, at random) or v5 (Machado et al. 2018)",
    )
    group.add_argument("--view", help="observation view, such as mono,trim,aimbot")
    group.add_argument(
        "--sticky",
        type=real("--sticky", 0, 0.99),
        help="probability of repeating the previous action (sticky actions)",
    )
    group.add_argument("--skip", type=whole("--skip", 1, 60), help="frames per step")
    group.add_argument(
        "--skip-min", type=whole("--skip-min", 1, 59), help="fewest: how many is drawn for every step, up to --skip"
    )
    group.add_argument("--noop", type=whole("--noop", 0, 300), help="random no-ops at a game's start")
    group.add_argument("--cap", type=whole("--cap", 100, 1e7), help="frames until a game is truncated")
    group.add_argument(
        "--life-loss",
        type=_switch("--life-loss"),
        metavar=BOOL,
        help="losing a life is terminal for the learner",
    )
    group.add_argument(
        "--fire-reset", type=_switch("--fire-reset"), metavar=BOOL, help="press FIRE automatically when a life starts"
    )
    group.add_argument("--full-actions", type=_switch("--full-actions"), metavar=BOOL, help="all 18 actions")
    group.add_argument("--stack", type=whole("--stack", 1, 8), help="frames in an observation")
    group.add_argument("--size", type=whole("--size", 0, 210), help="side of the square frame (0: the full screen)")
    group.add_argument("--colour", help="grey or rgb")
    group.add_argument(
        "--mode", type=whole("--mode", 0, 255), help="mode of the game (playfield games GAME lists them)"
    )
    group.add_argument("--difficulty", type=whole("--difficulty", 0, 255), help="its difficulty, likewise")
    group.add_argument("--obs", help="pixels or ram (128 bytes); CartPole: state or pixels")


def _switch(flag: str) -> Any:
    return Option(flag[2:], "bool", False, "").parse


def protocol_parts(a: argparse.Namespace) -> dict[str, Any]:
    return {n: getattr(a, n) for n in PROTOCOL_PARTS if getattr(a, n) is not None}
