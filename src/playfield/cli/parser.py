"""How words are parsed: one line for a mistake, with the nearest right name."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from playfield.envs.names import resolve
from playfield.errors import UsageError, nearest
from playfield.options import number
from playfield.runs.console import print_line

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
        found, extra = self.parse_known_args(negative(kebab(w) for w in words))
        if extra:
            flags = [f for a in self._actions for f in a.option_strings if f.startswith("--")]
            if not extra[0].startswith("-"):
                raise UsageError(f"{self.prog}: what is {extra[0]!r}? See {self.prog} --help")
            close = ALIASES.get(extra[0].split("=")[0].lstrip("-")) or nearest(extra[0].split("=")[0], flags)
            hint = f"did you mean {', '.join(close)}?" if close else f"see {self.prog} --help"
            raise UsageError(f"{self.prog} has no option {extra[0].split('=')[0]}: {hint}")
        return found


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
    return lambda text: number(flag, text, whole=True, low=low, high=high)


def real(flag: str, low: float = 0, high: float | None = None) -> Any:
    return lambda text: number(flag, text, whole=False, low=low, high=high)


def make(verb: str, about: str, examples: str) -> Parser:
    return Parser(
        prog=f"playfield {verb}",
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def check_env(name: str) -> None:
    """A wrong name fails here, before torch is loaded."""
    resolve(name)


def say_line(line: str) -> None:
    print_line(line)
