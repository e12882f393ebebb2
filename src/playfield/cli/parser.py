"""How words are parsed: one line for a mistake, with the nearest right name."""

from __future__ import annotations

import argparse
import contextvars
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from playfield import arguments as takes
from playfield.arguments import ALIASES, seeds
from playfield.envs import hang
from playfield.envs.names import resolve
from playfield.errors import UsageError, nearest, shown
from playfield.options import BOOLEANS, MOST_SEED, number
from playfield.runs.output import print_line, want

ELSEWHERE = {"dir": "run", "run": "dir"}
"""Options of some commands that others have by another name."""
POSITIONAL = {"env-id": "ENV, without a flag", "env": "ENV, without a flag"}


_BUILD_ONLY: contextvars.ContextVar[bool] = contextvars.ContextVar("build only", default=False)


class Built(Exception):
    """Carries the parser of a command, see `parser_of`."""

    def __init__(self, parser: Parser) -> None:
        self.parser = parser


def parser_of(command: Callable[[list[str]], int], words: Sequence[str] = ()) -> Parser:
    """The parser that a command has for these words; they are not parsed, and the command does not run."""
    token = _BUILD_ONLY.set(True)
    try:
        command(list(words))
    except Built as built:
        return built.parser
    finally:
        _BUILD_ONLY.reset(token)
    raise AssertionError("this command parses no words")


class NoOption(UsageError):
    """A word that a command does not know.

    Attributes:
        word: it, without a value.
        start: of the message: what is wrong, before what to do.
    """

    word, start = "", ""


def no_option(start: str, word: str, hint: str) -> NoOption:
    """The error for a word that a command does not know."""
    error = NoOption(f"{start}: {hint}" if start[-1] != "?" else f"{start} {hint[0].upper()}{hint[1:]}")
    error.word, error.start = word, start
    return error


class Parser(argparse.ArgumentParser):
    """Mistakes are one line with the nearest right name, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message[0].lower() + message[1:])

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        flag, known = max([*action.option_strings, action.dest], key=len), [str(one) for one in action.choices]
        if close := nearest(str(value), known):
            raise UsageError(f"{flag} {shown(value, plain=True)}: did you mean {' or '.join(close)}?")
        raise UsageError(f"{flag} takes {', '.join(known[:-1])} or {known[-1]}, not {shown(value)}")

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse; an option nobody knows is named with the options that look like it."""
        if _BUILD_ONLY.get():
            raise Built(self)
        several = any(action.nargs == "*" and not action.option_strings for action in self._actions)
        # Names may then stand on both sides of options.
        parse = self.parse_known_intermixed_args if several else self.parse_known_args
        found, extra = parse(self.canonical(words))
        hang.limit(getattr(found, "env_timeout", None))
        if getattr(found, "json", False) or getattr(found, "table", None):
            want()
        if extra:
            if not extra[0].startswith("-"):
                before = kebab(dict(zip(words[1:], words, strict=False)).get(extra[0], ""))
                if before in self.actions_by_flag() and self.actions_by_flag()[before].metavar == BOOL:
                    raise UsageError(f"{before} takes true or false, not {shown(extra[0])}")
                raise no_option(f"{self.prog}: what is {shown(extra[0])}?", extra[0], f"see {self.prog} --help")
            name = extra[0].split("=")[0]
            positional = POSITIONAL.get(name.lstrip("-"))
            close = [positional] if positional else self._nearest(name)
            hint = f"did you mean {', '.join(close)}?" if close else f"see {self.prog} --help"
            raise no_option(f"{self.prog} has no option {shown(name, plain=True)}", name, hint)
        return found

    def actions_by_flag(self) -> dict[str, argparse.Action]:
        """Each option as it is written, with its action."""
        return {flag: action for action in self._actions for flag in action.option_strings}

    def _nearest(self, name: str) -> list[str]:
        """The options that look like `name`, also by what other libraries call them."""
        own = {flag: flag for flag in self.actions_by_flag() if flag.startswith("--")}
        others = {
            f"--{alias}": f"--{n}" for alias, names in ALIASES.items() for n in reversed(names) if f"--{n}" in own
        }
        others |= {f"--{name}": f"--{here}" for name, here in ELSEWHERE.items() if f"--{here}" in own}
        bare = {flag[2:]: target for flag, target in (others | own).items()}  # all options begin alike
        return list(dict.fromkeys(bare[found] for found in nearest(name.lstrip("-"), bare)))

    def canonical(self, words: Iterable[str]) -> list[str]:
        """The words with this command's own names of options, and a value for each switch.

        `--learning-rate 1e-3` is `--lr 1e-3`, `--double` is `--double=true` and `--no-double` is `--double=false`.
        """
        flags = self.actions_by_flag()
        plain, out = negative(kebab(w) for w in words), []
        for i, word in enumerate(plain):
            flag, sign, value = word.partition("=")
            if flag.startswith("--") and flag not in flags:
                own = [f"--{name}" for name in ALIASES.get(flag[2:], ()) if f"--{name}" in flags]
                switch = f"--{flag[5:]}" if flag.startswith("--no-") else ""
                if own:
                    flag = own[0]
                elif not sign and switch in flags and flags[switch].metavar == BOOL:
                    flag, sign, value = switch, "=", "false"
            if not sign and flag in flags and flags[flag].metavar == BOOL:
                following = plain[i + 1] if i + 1 < len(plain) else ""
                if following.lower() not in BOOLEANS:
                    sign, value = "=", "true"
            out.append(flag + sign + value)
        return out


BOOL = "BOOL"
"""The metavar of options that take true or false; without a value they are true, and --no-NAME makes them false."""


def kebab(word: str) -> str:
    """--clip_value means --clip-value."""
    if not word.startswith("--"):
        return word
    flag, sign, value = word.partition("=")
    return flag.replace("_", "-") + sign + value


def negative(words: Iterable[str]) -> list[str]:
    """`--v-min -1e3` as `--v-min=-1e3`: argparse takes what begins with a dash for an option, unless it is as plain
    as -1 or -1.5."""
    joined: list[str] = []
    for word in words:
        if joined and re.match(r"--[^=]+$", joined[-1]) and re.match(r"-(\.?\d|inf|nan)", word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def whole(flag: str, low: int = 0, high: float | None = None) -> Any:
    return lambda text: number(flag, text, whole=True, low=low, high=high, commas=True)


def real(flag: str, low: float = 0, high: float | None = None) -> Any:
    return lambda text: number(flag, text, whole=False, low=low, high=high)


def seed(flag: str, high: float = MOST_SEED) -> Any:
    """One seed: no commas, since 1,2 would be two."""
    return lambda text: number(flag, text, whole=True, high=high)


def seed_list(flag: str) -> Any:
    return lambda text: seeds(flag, text)


def directory(flag: str) -> Any:
    """The path of a file or a directory."""

    def parse(text: str) -> Path:
        takes.path(flag, text)
        return Path(text)

    return parse


def make(verb: str, about: str, examples: str) -> Parser:
    parser = Parser(
        prog=f"playfield {verb}",
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error (or PLAYFIELD_DEBUG=1)")
    return parser


def env_kwargs(parser: Parser) -> None:
    """Add the option for arguments of an environment."""
    parser.add_argument(
        "--env-kwargs",
        nargs="+",
        action="extend",
        metavar="NAME=VALUE",
        help="arguments of the environment, after its name: --env-kwargs is_slippery=false map_name=8x8; or as JSON",
    )


def env_timeout(parser: Parser) -> None:
    """Add the option that limits what one call of an environment may take."""
    parser.add_argument(
        "--env-timeout",
        type=real("--env-timeout", 0, 1e6),
        metavar="SECONDS",
        help="stop where a step, reset or start of an environment takes longer (default 60; 0: never)",
    )


def check_env(name: str) -> None:
    """A wrong name fails here, before torch is loaded."""
    resolve(name)


def say_line(line: str) -> None:
    print_line(line)
