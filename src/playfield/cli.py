"""The command line: words to calls. No logic lives here, and nothing heavy is imported before it is needed."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from playfield import __version__, options
from playfield.errors import PlayfieldError, UsageError, nearest
from playfield.options import number

TRAIN_EXAMPLES = """examples:
  playfield train breakout                              about ten minutes on two cores
  playfield train breakout --preset cleanrl --steps 3M  CleanRL's hyper-parameters
  playfield train CartPole-v1 --algo a2c --seed 3
  playfield train ALE/Pong-v5 --minutes 30 --lr 3e-4
  playfield train --resume runs/breakout/ppo/1          go on after any stop
  playfield train --resume runs/breakout/ppo/1 --steps 10M
  playfield train --algo ppo --help                     with PPO's own options"""


# What other libraries call these options.
ALIASES = {
    "learning-rate": ["--lr"],
    "lerning-rate": ["--lr"],
    "total-timesteps": ["--steps"],
    "n-timesteps": ["--steps"],
    "timesteps": ["--steps"],
    "n-envs": ["--num-envs"],
    "n-steps": ["--rollout-steps"],
    "num-steps": ["--rollout-steps"],
    "n-epochs": ["--epochs"],
    "update-epochs": ["--epochs"],
    "num-minibatches": ["--minibatches"],
    "clip-range": ["--clip"],
    "clip-coef": ["--clip"],
    "env-id": ["ENV, without a flag"],
    "env": ["ENV, without a flag"],
}


class Parser(argparse.ArgumentParser):
    """Mistakes are one line with the nearest right name, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message[0].lower() + message[1:])

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse; an option nobody knows is named with the options that look like it."""
        found, extra = self.parse_known_args([_kebab(w) for w in words])
        if extra:
            flags = [f for a in self._actions for f in a.option_strings if f.startswith("--")]
            if not extra[0].startswith("-"):
                raise UsageError(f"{self.prog}: what is {extra[0]!r}? See {self.prog} --help")
            close = ALIASES.get(extra[0].split("=")[0].lstrip("-")) or nearest(extra[0].split("=")[0], flags)
            hint = f"did you mean {', '.join(close)}?" if close else f"see {self.prog} --help"
            raise UsageError(f"{self.prog} has no option {extra[0].split('=')[0]}: {hint}")
        return found


def _kebab(word: str) -> str:
    """--clip_value means --clip-value."""
    if not word.startswith("--"):
        return word
    flag, sign, value = word.partition("=")
    return flag.replace("_", "-") + sign + value


def _whole(flag: str, low: int = 0, high: float = 1e12) -> Any:
    return lambda text: number(flag, text, whole=True, low=low, high=high)


def _real(flag: str, low: float = 0, high: float = 1e12) -> Any:
    return lambda text: number(flag, text, whole=False, low=low, high=high)


def _parser(verb: str, about: str, examples: str) -> Parser:
    return Parser(
        prog=f"playfield {verb}",
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def train(words: list[str]) -> int:
    """Train an agent, or go on with a run."""
    algo = "ppo"
    for i, word in enumerate(words):
        if word == "--algo" and i + 1 < len(words):
            algo = words[i + 1]
        elif word.startswith("--algo="):
            algo = word[7:]
    own = options.options(algo)
    p = _parser("train", train.__doc__ or "", TRAIN_EXAMPLES)
    p.add_argument("env", nargs="?", help="breakout, ALE/Pong-v5, CartPole-v1, any Gymnasium id")
    p.add_argument("--algo", default="ppo", help=f"{', '.join(options.algorithms())} (default ppo)")
    p.add_argument(
        "--preset", default="default", help=f"hyper-parameters: {', '.join(options.presets(algo))}"
    )
    p.add_argument(
        "--steps",
        type=_whole("--steps", 1),
        help="agent steps in all (1M, 500k); default: what fits --minutes",
    )
    p.add_argument(
        "--minutes", type=_real("--minutes", 0.01, 1e6), help="budget of time at the measured speed"
    )
    p.add_argument("--seed", type=_whole("--seed", 0, 2**63), default=1, help="fixes everything (default 1)")
    p.add_argument(
        "--run", type=Path, metavar="DIR", help="run directory (default: the next one under runs/)"
    )
    p.add_argument("--resume", metavar="DIR", help="go on with a run, exactly; --steps sets a new total")
    p.add_argument("--device", default="auto", help="auto, cpu or cuda")
    p.add_argument("--precision", default="auto", help="auto, bf16 or fp32 (network bodies)")
    p.add_argument(
        "--workers", type=_whole("--workers", 0, 1024), default=0, help="worker threads (0: choose)"
    )
    p.add_argument(
        "--save-seconds", type=_real("--save-seconds", 0), default=60.0, help="time between checkpoints"
    )
    p.add_argument("--keep", type=_whole("--keep", 1, 1e6), default=3, help="checkpoints to keep (default 3)")
    p.add_argument(
        "--games", type=_whole("--games", 0, 1e6), default=30, help="games of the final evaluation"
    )
    p.add_argument("--no-film", action="store_true", help="no film at the end")
    p.add_argument("--no-tensorboard", action="store_true", help="no TensorBoard events")
    p.add_argument("--quiet", action="store_true", help="only the result")
    p.add_argument(
        "--profile", action="store_true", help="at the end: the 20 functions with the most own time"
    )
    _protocol_options(p)
    group = p.add_argument_group(f"{algo}'s own options")
    for o in own:
        default = str(o.default).lower() if isinstance(o.default, bool) else o.default
        group.add_argument(
            o.flag, type=o.parse, metavar=o.type.upper(), help=f"{o.help} [{default}]".replace("%", "%%")
        )
    a = p.parse(words)
    config = {o.name: getattr(a, o.name) for o in own if getattr(a, o.name) is not None}
    parts = _protocol_parts(a)
    common = {
        "steps": a.steps,
        "save_seconds": a.save_seconds,
        "keep": a.keep,
        "games": a.games,
        "film": not a.no_film,
        "tensorboard": not a.no_tensorboard,
        "console": not a.quiet,
    }
    say = None if a.quiet else _say
    if a.resume is not None:
        given = {w.partition("=")[0] for w in map(_kebab, words) if w.startswith("--")}
        fixed = given - {"--resume", "--quiet", "--profile"} - {"--" + k.replace("_", "-") for k in common}
        fixed -= {"--no-film", "--no-tensorboard"}
        if a.env is not None or fixed:
            what = ", ".join(sorted(fixed)) or a.env
            raise UsageError(f"{what} is part of the run and cannot be given with --resume")
        return _train({"resume": a.resume, **common}, say, a.profile)
    if a.env is None:
        raise UsageError(
            "which environment? For example: playfield train breakout (`playfield games` lists all)"
        )
    _check_env(a.env)
    wishes = {
        "env": a.env,
        "algo": a.algo,
        "preset": a.preset,
        "minutes": a.minutes,
        "seed": a.seed,
        "run": a.run,
        "device": a.device,
        "precision": a.precision,
        "workers": a.workers,
        "protocol": a.protocol,
        "view": a.view,
        "parts": parts,
        "config": config,
        **common,
    }
    return _train(wishes, say, a.profile)


def _train(wishes: dict[str, Any], say: Any, profile: bool) -> int:
    from playfield.session import train as run

    if profile:
        from playfield.profiling import profiled

        with profiled():
            result = run(say=say, **wishes)
    else:
        result = run(say=say, **wishes)
    if say is None:
        print(f"{result.directory} steps {result.steps} score {result.score:g} hash {result.hash}")
    return 0


def _protocol_options(p: Parser) -> None:
    group = p.add_argument_group("Atari protocol")
    group.add_argument("--protocol", help="classic (Nature DQN, CleanRL) or v5 (Machado et al. 2018)")
    group.add_argument("--view", help="observation view, such as mono,trim,aimbot")
    group.add_argument(
        "--sticky", type=_real("--sticky", 0, 0.99), help="probability that a frame repeats the action"
    )
    group.add_argument("--skip", type=_whole("--skip", 1, 60), help="frames per step")
    group.add_argument("--noop", type=_whole("--noop", 0, 300), help="random no-ops at a game's start")
    group.add_argument("--cap", type=_whole("--cap", 100, 1e7), help="frames until a game is truncated")
    group.add_argument(
        "--life-loss", type=_switch("--life-loss"), help="a lost life is terminal for the learner"
    )
    group.add_argument(
        "--fire-reset", type=_switch("--fire-reset"), help="press FIRE for the agent when a life starts"
    )
    group.add_argument("--full-actions", type=_switch("--full-actions"), help="all 18 actions")
    group.add_argument("--stack", type=_whole("--stack", 1, 8), help="frames in an observation")
    group.add_argument(
        "--size", type=_whole("--size", 0, 210), help="side of the square frame (0: the full screen)"
    )
    group.add_argument("--colour", help="grey or rgb")
    group.add_argument("--obs", help="pixels or ram (128 bytes)")


def _switch(flag: str) -> Any:
    return options.Option(flag[2:], "bool", False, "").parse


def _protocol_parts(a: argparse.Namespace) -> dict[str, Any]:
    names = (
        "sticky",
        "skip",
        "noop",
        "cap",
        "life_loss",
        "fire_reset",
        "full_actions",
        "stack",
        "size",
        "colour",
        "obs",
    )
    return {n: getattr(a, n) for n in names if getattr(a, n) is not None}


def _check_env(name: str) -> None:
    """A wrong name fails here, before torch is loaded."""
    from playfield.envs.names import resolve

    resolve(name)


def _agent_options(p: Parser) -> None:
    p.add_argument(
        "agent_name", metavar="RUN", help="a run directory, best, last, or a shipped agent such as breakout"
    )
    p.add_argument("--checkpoint", default="last", help="last, best or a step of the run (default last)")
    p.add_argument("--agent", help="random: a random agent; RUN may then be an environment")
    p.add_argument(
        "--temperature", type=_real("--temperature", 0, 100), default=1.0, help="1 samples as in training"
    )
    p.add_argument("--greedy", action="store_true", help="the same as --temperature 0")
    p.add_argument(
        "--seed", type=_whole("--seed", 0, 2**63), default=0, help="of games and sampling (default 0)"
    )


def evaluate(words: list[str]) -> int:
    """Play full games and report raw scores with their protocol."""
    p = _parser(
        "eval",
        evaluate.__doc__ or "",
        "examples:\n  playfield eval breakout               the agent that ships with playfield\n"
        "  playfield eval runs/breakout/ppo/1 --games 100\n"
        "  playfield eval best --greedy --json   the best checkpoint of the newest run\n"
        "  playfield eval pong --agent random",
    )
    _agent_options(p)
    p.add_argument("--games", type=_whole("--games", 1, 1e6), default=30, help="full games (default 30)")
    p.add_argument("--json", action="store_true", help="JSON on standard output, nothing else")
    a = p.parse(words)
    _check_agent(a)
    from playfield.show import evaluate_and_save

    result = evaluate_and_save(
        a.agent_name,
        a.checkpoint,
        a.games,
        seed=a.seed,
        temperature=0.0 if a.greedy else a.temperature,
        agent=a.agent,
        say=None if a.json else _say,
    )
    if a.json:
        print(json.dumps(result.summary()))
    return 0


def record(words: list[str]) -> int:
    """Film an agent: MP4 and GIF."""
    p = _parser(
        "record",
        record.__doc__ or "",
        "examples:\n  playfield record breakout\n  playfield record runs/breakout/ppo/1 --show all --out film.mp4\n"
        "  playfield record best --mosaic 9\n"
        "  playfield record breakout --agent random --steps 100 --fps 30 --show plain --out random-action.gif",
    )
    _agent_options(p)
    p.add_argument("--out", type=Path, help="a .gif or .mp4 file (default: both, in the run's films/)")
    p.add_argument(
        "--show", default="bars", help="plain, net (what the net sees), bars (action probabilities), all"
    )
    p.add_argument("--games", type=_whole("--games", 1, 1e4), default=1, help="games to film (default 1)")
    p.add_argument("--steps", type=_whole("--steps", 1), help="film this many steps instead of whole games")
    p.add_argument(
        "--mosaic", type=_whole("--mosaic", 0, 100), default=0, help="4, 9 or 25 games side by side"
    )
    p.add_argument(
        "--fps", type=_real("--fps", 1, 240), help="pictures per second (default: the game's own speed)"
    )
    p.add_argument("--human", action="store_true", help="show it in a window")
    a = p.parse(words)
    _check_agent(a)
    from playfield.show import record as film

    film(
        a.agent_name,
        which=a.checkpoint,
        out=a.out,
        style=a.show,
        games=a.games,
        steps=a.steps,
        mosaic=a.mosaic,
        agent=a.agent,
        temperature=0.0 if a.greedy else a.temperature,
        seed=a.seed,
        fps=a.fps,
        human=a.human,
        say=_say,
    )
    return 0


def watch(words: list[str]) -> int:
    """Watch an agent play and think, live in the browser."""
    p = _parser(
        "watch",
        watch.__doc__ or "",
        "examples:\n  playfield watch breakout\n  playfield watch last        follows the newest run while it trains\n"
        "  playfield watch CartPole-v1 --agent random --port 8000",
    )
    _agent_options(p)
    p.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    p.add_argument("--port", type=_whole("--port", 0, 65535), default=0, help="port (default: a free one)")
    p.add_argument(
        "--allow-host", action="append", default=[], help="another name the page may be reached under"
    )
    p.add_argument("--no-browser", action="store_true", help="only print the address")
    a = p.parse(words)
    _check_agent(a)
    from playfield.watch.server import watch as serve

    serve(
        a.agent_name,
        which=a.checkpoint,
        host=a.host,
        port=a.port,
        allow_host=tuple(a.allow_host),
        temperature=0.0 if a.greedy else a.temperature,
        seed=a.seed,
        agent=a.agent,
        open_browser=not a.no_browser,
    )
    return 0


def explain(words: list[str]) -> int:
    """Show what an agent looks at, and what would change its mind."""
    p = _parser(
        "explain",
        explain.__doc__ or "",
        "examples:\n  playfield explain breakout\n  playfield explain runs/breakout/ppo/1 --moments 3 --out why",
    )
    _agent_options(p)
    p.add_argument(
        "--moments", type=_whole("--moments", 1, 50), default=6, help="moments of a game (default 6)"
    )
    p.add_argument("--method", default="occlusion", help="occlusion or gradient")
    p.add_argument("--out", type=Path, help="directory of the report (default: explain/ of the run)")
    a = p.parse(words)
    _check_agent(a)
    from playfield.explain import explain as report

    path = report(
        a.agent_name,
        which=a.checkpoint,
        out=a.out,
        moments=a.moments,
        seed=a.seed,
        method=a.method,
        temperature=0.0 if a.greedy else a.temperature,
    )
    _say(f"wrote {path}")
    return 0


def _check_agent(a: argparse.Namespace) -> None:
    """Mistakes in the name of an agent fail here, before torch is loaded."""
    if a.agent not in (None, "random"):
        raise UsageError(
            f"--agent takes only random, not {a.agent!r}; a trained agent is named by its run directory"
        )
    if a.agent == "random":
        if not (Path(a.agent_name) / "run.json").exists():
            _check_env(a.agent_name)
        return
    from playfield.policy import locate

    locate(a.agent_name)


def games(words: list[str]) -> int:
    """List all games, or tell everything about one."""
    p = _parser(
        "games",
        games.__doc__ or "",
        "examples:\n  playfield games\n  playfield games breakout\n  playfield games --check   plays every ROM for 100 frames",
    )
    p.add_argument("name", nargs="?", help="one game")
    p.add_argument("--check", action="store_true", help="play every ROM (or the one named) for 100 frames")
    p.add_argument("--json", action="store_true", help="JSON on standard output, nothing else")
    a = p.parse(words)
    if a.name is not None:
        _check_env(a.name)
    from playfield import games as listing

    if a.check:
        return 0 if listing.print_check([a.name] if a.name else None, json=a.json) else 6
    if a.name is not None:
        listing.print_game(a.name, json=a.json)
    else:
        listing.print_games(json=a.json)
    return 0


def bench(words: list[str]) -> int:
    """Measure speed beside a peer, both in one run."""
    p = _parser(
        "bench",
        bench.__doc__ or "",
        "examples:\n  playfield bench ppo --vs sb3         needs pip install 'playfield[bench]'\n"
        "  playfield bench ppo --vs sb3 --busy  beside a second busy process\n  playfield bench howto\n"
        "  playfield bench kill --env breakout --kills 5",
    )
    p.add_argument("name", help="a file of bench/: ppo, howto, kill")
    p.add_argument("--vs", help="the peer: sb3 or none")
    p.add_argument("--busy", action="store_true", help="also measure beside a second busy process")
    p.add_argument("--steps", type=_whole("--steps", 1), help="steps of each side in each round")
    p.add_argument("--rounds", type=_whole("--rounds", 1, 100), help="rounds of each side")
    p.add_argument("--env", help="environment of bench kill")
    p.add_argument("--kills", type=_whole("--kills", 1, 10_000), help="kills of bench kill (default 20)")
    p.add_argument("--json", action="store_true", help="JSON on standard output, nothing else")
    a = p.parse(words)
    from playfield.bench import main as run

    names = ("vs", "busy", "steps", "rounds", "env", "kills", "json")
    run(a.name, **{name: getattr(a, name) for name in names})
    return 0


VERBS = {
    "train": train,
    "eval": evaluate,
    "record": record,
    "watch": watch,
    "explain": explain,
    "games": games,
    "bench": bench,
}


def _usage() -> str:
    lines = [
        f"playfield {__version__}: train, evaluate, watch and explain agents that learn to play",
        "",
        "usage: playfield VERB ...      (playfield VERB --help tells more)",
        "",
        *(f"  {verb:<8}{fn.__doc__}" for verb, fn in VERBS.items()),
        "",
        "examples:",
        "  playfield train breakout      learns Breakout from the screen in about ten minutes",
        "  playfield eval breakout       plays full games with the agent that ships with playfield",
        "  playfield watch breakout      the same agent, live in the browser",
        "  playfield games               every game there is",
    ]
    return "\n".join(lines)


def _say(line: str) -> None:
    from playfield.session import print_line

    print_line(line)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see `playfield.errors`)."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            print(_usage())
            return 0
        if words[0] in ("-V", "--version", "version"):
            print(__version__)
            return 0
        if words[0] not in VERBS:
            close = nearest(words[0], VERBS)
            hint = f"did you mean {', '.join(close)}?" if close else f"choose from {', '.join(VERBS)}"
            raise UsageError(f"no verb {words[0]!r}: {hint}")
        return VERBS[words[0]](words[1:])
    except PlayfieldError as error:
        print(f"playfield: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("playfield: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    raise SystemExit(main())
