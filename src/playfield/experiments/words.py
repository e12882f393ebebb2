"""Words of `playfield train` inside an experiment: an algorithm with its options, in a command or in a file."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from playfield.arguments import ALIASES
from playfield.errors import UsageError
from playfield.runs import catalog

# What an experiment sets itself, or no training of one may have.
OURS = frozenset(
    {
        "algo",
        "steps",
        "minutes",
        "seed",
        "run",
        "resume",
        "games",
        "target-score",
        "target-games",
        "film",
        "no-film",
        "tensorboard",
        "no-tensorboard",
        "quiet",
        "profile",
        "help",
        "trust",
        "debug",
    }
)

# One training on several machines: each would wait for others.
TOGETHER = frozenset({"nodes", "rendezvous", "on", "join"})


def split_label(label: str) -> list[str]:
    """An algorithm and its options, as in `dqn --double true`."""
    try:
        words = shlex.split(label)
    except ValueError as error:
        raise UsageError(f"--algo {label!r}: {error}") from None
    if not words:
        raise UsageError(f"--algo takes an algorithm and its options: {', '.join(catalog.algorithms())}")
    return words


def check_words(words: Sequence[str], where: str, why: str, who: str = "a comparison") -> None:
    """Raise UsageError for words that stand after an algorithm, or at the end of a command, and may not.

    Args:
        where: they stand.
        why: what is wrong if the first one is no option.
        who: sets the other options itself.
    """
    if words and not words[0].startswith("-"):
        raise UsageError(f"{where}: {why}")
    for word in words:
        flag = word.partition("=")[0]
        name = flag.removeprefix("--").replace("_", "-")
        meant = {name, *ALIASES.get(name, ())}
        if word.startswith("-") and (meant & OURS or word == "-h"):
            raise UsageError(f"{flag} {where}: {who} sets that itself")
        if word.startswith("-") and meant & TOGETHER:
            raise UsageError(f"{flag} {where}: each training of {who} is on one machine")
