"""The ways a command can fail, each with the exit code it ends with.

The command line prints `str(error)` on one line and exits with `error.exit_code`; library users catch the
classes. A message says what is wrong and how to mend it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class PlayfieldError(Exception):
    """Base of every error that playfield raises on purpose."""

    exit_code = 1


class UsageError(PlayfieldError):
    """The user asked for something that does not exist or cannot be."""

    exit_code = 2


class DataError(PlayfieldError):
    """A file or run directory is damaged, unsafe, of another kind, or locked by another process."""

    exit_code = 3


class DivergedError(PlayfieldError):
    """A number that must be finite is NaN or infinite."""

    exit_code = 4


class StorageError(PlayfieldError):
    """Writing failed: disk full, read-only, no permission."""

    exit_code = 5


class EnvError(PlayfieldError):
    """An environment raised, or broke its contract."""

    exit_code = 6


def visible(text: str) -> str:
    r"""`text` for a terminal: control characters, which files and names may hold, stand as \x1b and the like."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def nearest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """Up to `n` of `known` that look most like `name`, best first; none much less than the best."""
    candidates = {k.lower(): k for k in known}
    likeness = {k: _likeness(name.lower(), k) for k in candidates}
    best = max(likeness.values(), default=0.0)
    close = [k for k in candidates if likeness[k] >= max(0.5, best - 0.2)]
    return [candidates[k] for k in sorted(close, key=lambda k: -likeness[k])[:n]]


def _likeness(name: str, known: str) -> float:
    """From 0 to 1: by the parts in common, or where only the order of letters differs, which such parts miss."""
    if len(name) > 2 and sorted(name) == sorted(known):
        return 0.9
    return difflib.SequenceMatcher(None, known, name).ratio()


def shown(value: object, plain: bool = False) -> str:
    """What a user gave, for a message: on one line and cut where it is long; words in quotes unless `plain`."""
    try:
        text = value if plain and isinstance(value, str) else repr(value)
    except Exception:  # an object that cannot show itself, an int of 5,000 digits
        text = f"a value of type {type(value).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def cut(message: str) -> str:
    """A message whose very long words, such as a number of 5,000 digits that the user gave, are cut."""
    return re.sub(r"\S{500,}", lambda word: f"{word[0][:100]}...", message)


def unknown(kind: str, name: str, known: Iterable[str], hint: str = "") -> UsageError:
    """A UsageError for a name that is not among `known`, with the nearest right names."""
    known = list(known)
    close = nearest(name, known) if isinstance(name, str) else []
    if close:
        text = f"no {kind} called {shown(name)}: did you mean {', '.join(close)}?"
    else:
        text = f"no {kind} called {shown(name)}: choose from {', '.join(known[:12])}"
    return UsageError(f"{text} {hint}".rstrip())
