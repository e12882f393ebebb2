"""`playfield eval`, `record`, `watch`, `explain` and `collect`: what is done with a trained agent."""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from playfield.cli.parser import Parser, check_env, directory, env_timeout, make, real, say_line, seed, whole
from playfield.cli.statistic import add_statistic
from playfield.cli.train import protocol_options, protocol_parts
from playfield.datasets.dataset import refuse_existing
from playfield.errors import UsageError, shown
from playfield.play.agent import is_one_checkpoint, locate
from playfield.play.statistics import CHOICES, MEAN, named
from playfield.runs.info import is_run, runs_under


def _parser(verb: str, about: str | None, examples: str, more: str = "") -> Parser:
    """The parser of a verb, with the options that say which agent plays and how; RUN may be something `more`."""
    p = make(verb, about or "", f"examples:\n{examples}")
    p.add_argument(
        "agent_name", metavar="RUN", help=f"a run directory, best, last, or a shipped agent such as breakout{more}"
    )
    p.add_argument("--checkpoint", help="last, best or a step of the run (default last)")
    p.add_argument("--agent", help="random: a random agent; RUN may be an environment name")
    p.add_argument(
        "--temperature",
        type=real("--temperature", 0, 100),
        help="of sampling: 1 as in training, less is greedier, 0 greedy (default 1)",
    )
    p.add_argument("--greedy", action="store_true", help="the same as --temperature 0")
    p.add_argument("--seed", type=seed("--seed"), default=0, help="of games and sampling (default 0)")
    p.add_argument("--trust", action="store_true", help="import the module of the module:Id that RUN names")
    env_timeout(p)
    return p


def _parse(p: Parser, words: list[str]) -> tuple[argparse.Namespace, dict[str, Any]]:
    """The options of a verb; and those of `_parser` as the arguments that the functions behind all verbs take.

    Mistakes in the name of an agent fail here, before torch is loaded.
    """
    a, who = _options(p, words)
    _known(a, a.agent_name)
    return a, who


def _watched(p: Parser, words: list[str]) -> tuple[argparse.Namespace, dict[str, Any], bool]:
    """As `_parse`, and whether a folder of runs is named. What is an agent, too (`breakout`), is the agent."""
    a, who = _options(p, words)
    try:
        _known(a, a.agent_name)
    except UsageError:
        if not os.path.isdir(a.agent_name):
            raise
        name = shown(a.agent_name, plain=True)
        if a.agent is not None:
            raise UsageError(f"{name} is a folder: with --agent random name a game, or one run") from None
        if next(runs_under(a.agent_name), None) is None:
            raise UsageError(f"there is no run in {name}: train one first, or name another folder") from None
        return a, who, True
    return a, who, False


def _options(p: Parser, words: list[str]) -> tuple[argparse.Namespace, dict[str, Any]]:
    a = p.parse(words)
    if a.agent not in (None, "random"):
        raise UsageError(f"--agent takes only random, not {a.agent!r}; a trained agent is named by its run directory")
    if a.checkpoint is not None:
        if a.agent is not None:
            raise UsageError("--agent random has no checkpoints: leave out --checkpoint")
        for name in (a.agent_name, *getattr(a, "more", ())):
            if is_one_checkpoint(name):
                where = shown(name, plain=True)
                raise UsageError(f"{where} names one checkpoint: leave out --checkpoint, or name the run")
    return a, {
        "source": a.agent_name,
        "which": "last" if a.checkpoint is None else a.checkpoint,
        "agent": a.agent,
        "temperature": 0.0 if a.greedy else a.temperature,
        "seed": a.seed,
        "trust": a.trust,
    }


def _known(a: argparse.Namespace, name: str) -> None:
    """Raise UsageError for a name that leads nowhere."""
    if a.agent is None:
        locate(name)
    elif not is_run(name):
        check_env(name)


def evaluate(words: list[str]) -> int:
    """Evaluate an agent over full games: raw scores and their protocol."""
    p = _parser(
        "eval",
        evaluate.__doc__,
        "  playfield eval breakout               the agent that ships with playfield\n"
        "  playfield eval runs/breakout/ppo/1 --games 100\n"
        "  playfield eval best --greedy --json   the best checkpoint of the newest run\n"
        "  playfield eval breakout --sticky 0.25 another protocol than that of the training\n"
        "  playfield eval breakout --random-steps 30\n"
        "  playfield eval runs/pong/dqn/*        several runs, and a table\n"
        "  playfield eval breakout --statistic mean-1std\n"
        "  playfield eval pong --agent random",
    )
    p.add_argument("--games", type=whole("--games", 1, 1e6), default=30, help="full games (default 30)")
    p.add_argument("--json", action="store_true", help="JSON on standard output, nothing else; of several RUN a list")
    p.add_argument(
        "--statistic",
        action="append",
        default=[],
        metavar="NAME",
        help=f"tell this of the scores, too, with an interval; may be given several times: {CHOICES}",
    )
    p.add_argument(
        "--max-steps",
        type=whole("--max-steps", 1, 1e9),
        metavar="N",
        help="cut a game off after N steps (default 10,000 where the environment has no time limit)",
    )
    p.add_argument(
        "--random-steps",
        type=whole("--random-steps", 0, 1e6),
        default=0,
        metavar="N",
        help="begin each game with N random actions before the agent plays; their rewards count to its score, and "
        "the result is stored apart (default 0)",
    )
    p.add_argument("more", nargs="*", metavar="RUN", help="more runs, evaluated in the same way")
    protocol_options(p)
    a, who = _parse(p, words)
    for name in a.statistic:
        named(name, "--statistic")
    for name in a.more:
        _known(a, name)
    parts = protocol_parts(a) | ({"view": a.view} if a.view is not None else {})
    from playfield.play.evaluate import all_can_play, evaluate_and_save, table

    if a.more:  # what is wrong with one is said before the games of another are played
        all_can_play(**{**who, "source": (a.agent_name, *a.more)}, protocol=a.protocol, parts=parts)
    asked = {**who, "games": a.games, "say": None if a.json else say_line, "protocol": a.protocol, "parts": parts}
    asked |= {"max_steps": a.max_steps, "statistic": a.statistic, "random_steps": a.random_steps}
    results = [evaluate_and_save(**{**asked, "source": source}) for source in (a.agent_name, *a.more)]
    if a.json:
        summaries = [result.summary() for result in results]
        print(json.dumps(summaries if a.more else summaries[0]))
    elif a.more:
        say_line(table(results))
    return 0


def record(words: list[str]) -> int:
    """Film an agent: MP4 and GIF."""
    p = _parser(
        "record",
        record.__doc__,
        "  playfield record breakout\n"
        "  playfield record runs/breakout/ppo/1 --show all --out film.mp4\n"
        "  playfield record best --mosaic 9\n"
        "  playfield record breakout --agent random --steps 100 --fps 30 --show plain --out random-action.gif",
    )
    p.add_argument("--out", type=directory("--out"), help="a .gif or .mp4 file (default: both, in the run's films/)")
    p.add_argument("--show", default="bars", help="plain, net (the observation), bars (action probabilities), all")
    p.add_argument("--games", type=whole("--games", 1, 1e4), default=1, help="games to film (default 1)")
    p.add_argument("--steps", type=whole("--steps", 1), help="film this many steps instead of whole games")
    p.add_argument("--start", type=whole("--start", 0), default=0, help="steps to play before the film begins")
    p.add_argument("--mosaic", type=whole("--mosaic", 1, 100), default=0, help="4, 9 or 25 games side by side")
    p.add_argument("--fps", type=real("--fps", 1, 240), help="pictures per second (default: the game's own speed)")
    p.add_argument("--human", action="store_true", help="show it in a window")
    a, who = _parse(p, words)
    from playfield.show.record import record as film

    film(
        **who,
        out=a.out,
        style=a.show,
        games=a.games,
        steps=a.steps,
        start=a.start,
        mosaic=a.mosaic,
        fps=a.fps,
        human=a.human,
        say=say_line,
    )
    return 0


def watch(words: list[str]) -> int:
    """Watch an agent play, live in the browser, or all runs of a folder while they train."""
    p = _parser(
        "watch",
        watch.__doc__,
        "  playfield watch breakout\n"
        "  playfield watch last        follows the newest run while it trains\n"
        "  playfield watch runs        all runs of a folder: a table, and their learning curves together\n"
        "  playfield watch runs --statistic median\n"
        "  playfield watch CartPole-v1 --agent random --port 8000",
        "; or a folder of runs, at any depth",
    )
    p.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    p.add_argument("--port", type=whole("--port", 0, 65535), default=0, help="port (default: a free one)")
    p.add_argument("--allow-host", action="append", default=[], help="another name the page may be reached under")
    p.add_argument("--no-browser", action="store_true", help="only print the address")
    add_statistic(p, "of a run's games, its score and what learning curves show", MEAN)
    a, who, folder = _watched(p, words)
    from playfield.cli._watch import serve

    serve(
        **who,
        folder=folder,
        host=a.host,
        port=a.port,
        allow_host=tuple(a.allow_host),
        open_browser=not a.no_browser,
        statistic=a.statistic,
    )
    return 0


def explain(words: list[str]) -> int:
    """Explain an agent: saliency maps, and what would change its action."""
    p = _parser(
        "explain",
        explain.__doc__,
        "  playfield explain breakout\n  playfield explain runs/breakout/ppo/1 --moments 3 --out why",
    )
    p.add_argument("--moments", type=whole("--moments", 1, 50), default=6, help="moments of a game (default 6)")
    p.add_argument("--method", default="occlusion", help="occlusion or gradient")
    p.add_argument("--out", type=directory("--out"), help="directory of the report (default: explain/ of the run)")
    a, who = _parse(p, words)
    from playfield.show.explain import explain as report

    path = report(
        **who,
        out=a.out,
        moments=a.moments,
        method=a.method,
        say=say_line,
    )
    say_line(f"wrote {path}")
    return 0


def collect(words: list[str]) -> int:
    """Record a dataset of an agent's play: screens, RAM, actions, rewards."""
    p = _parser(
        "collect",
        collect.__doc__,
        "  playfield collect breakout --steps 40000      the agent that ships, one action in ten at random\n"
        "  playfield collect pong --agent random --out datasets/pong-random\n"
        "  playfield collect runs/breakout/ppo/1 --epsilon 0 --steps 100k",
    )
    p.add_argument("--steps", type=whole("--steps", 1, 1e8), default=40_000, help="of all games (default 40,000)")
    p.add_argument(
        "--epsilon",
        type=real("--epsilon", 0, 1),
        default=0.1,
        help="probability of a random action (default 0.1)",
    )
    p.add_argument(
        "--num-envs",
        type=whole("--num-envs", 1, 1024),
        default=8,
        help="games at once, part of what the seed fixes (default 8)",
    )
    p.add_argument("--out", type=directory("--out"), metavar="DIR", help="a new directory (default datasets/GAME)")
    p.add_argument("--quiet", action="store_true", help="only the directory's name")
    a, who = _parse(p, words)
    if a.out is not None:
        refuse_existing(a.out)
    from playfield.datasets.collect import collect as run

    path = run(
        **who,
        steps=a.steps,
        epsilon=a.epsilon,
        num_envs=a.num_envs,
        out=a.out,
        say=None if a.quiet else say_line,
    )
    if a.quiet:
        print(path)
    return 0
