"""Results of trials: a JSON file that single trials are merged into, and the page with the table made from it."""

from __future__ import annotations

import datetime
import fcntl
import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import playfield
from trials.registry import TRIALS, Seen, Trial

DOCS = Path(__file__).parent.parent.parent / "docs" / "design"
RESULTS = DOCS / "trials.json"
SHOWN = 3  # failures in a cell of the table

HEAD = """# Trials

What the package promises about crashes, damaged and hostile files, signals, environments and the live page is tried,
many times, against the installed package. This page has the results; `scripts/trials` writes it.

```bash
scripts/trials --list                                  # the trials, and how often each is tried
scripts/trials                                         # the short set: less than a minute, also run by the tests
scripts/trials --long                                  # all of them, as often as the table asks for: hours
scripts/trials --long --minutes 30                     # as many tries as fit in 30 minutes
scripts/trials kill-in-save --count 200 --part ppo     # one trial, for one algorithm
scripts/trials --table                                 # write this page again from trials.json
```

Every command but `--list` merges what it saw into `docs/design/trials.json` and writes this page (the short set only
with `--write`). The code is in `tests/trials`: a trial is a function that tries something `count` times and returns
the number of tries, a line for each failure, and what it measured. It needs Linux; some trials need root (to mount a
small disk, or to have no network) and say "not run" otherwise.

How to read the table: *tries* are those that were made, of those owed. *Held*: no try failed. *Failed*: how many
did, and the first of them. *Not run*: why not; nothing is claimed. Numbers are measured, by the command and on the
date in the last column.
"""


def versions() -> dict[str, str]:
    """Versions of what was tried."""
    names = ("playfield", "torch", "numpy", "gymnasium", "ale-py")
    found = {name: metadata.version(name) for name in names if name != "playfield"}
    return {"playfield": playfield.__version__, **found, "python": platform.python_version()}


@contextmanager
def _locked(path: Path) -> Iterator[dict[str, Any]]:
    """The results in `path`, to change while no other process does; written at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        data: dict[str, Any] = json.loads(text) if text else {}
        yield data
        file.seek(0)
        file.truncate()
        file.write(json.dumps(data, indent=1, sort_keys=True) + "\n")


def merge(found: Trial, part: str, seen: Seen, seconds: float, command: str, path: Path = RESULTS) -> None:
    """Put the result of a trial, or of one part of it, into the file."""
    entry = {
        "count": seen.count,
        "failures": seen.failures[:20],
        "failed": len(seen.failures),
        "figures": seen.figures,
        "not_run": seen.not_run,
        "all_there_is": seen.all_there_is,
        "seconds": round(seconds, 1),
        "command": command,
        "date": datetime.date.today().isoformat(),
        "versions": versions(),
    }
    with _locked(path) as data:
        data.setdefault(found.name, {})[part] = entry


def verdict(entries: list[dict[str, Any]]) -> str:
    """`held`, `failed`, or `not run`, for all parts together."""
    if not entries:
        return "not run yet"
    if all(e["not_run"] for e in entries):
        return f"not run: {entries[0]['not_run']}"
    failed = sum(e["failed"] for e in entries)
    return f"**failed: {failed}**" if failed else "held"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def _figures(parts: dict[str, dict[str, Any]]) -> str:
    """Figures of one part as they are; of several, the range of each number."""
    names = sorted({name for e in parts.values() for name in e["figures"]})
    words = []
    for name in names:
        values = [e["figures"][name] for e in parts.values() if name in e["figures"]]
        numbers = [v for v in values if isinstance(v, int | float)]
        if len(numbers) == len(values) and len(values) > 1 and min(numbers) != max(numbers):
            words.append(f"{name} {min(numbers):g} to {max(numbers):g}")
        elif len(numbers) == len(values):
            words.append(f"{name} {numbers[0]:g}")
        else:
            words.append(f"{name} {values[0]}")
    return "; ".join(words)


def row(found: Trial, parts: dict[str, dict[str, Any]]) -> str:
    """One line of the table."""
    entries = list(parts.values())
    every = found.parts() or [""]
    owed = sum(
        parts[part]["count"] if part in parts and parts[part].get("all_there_is") else found.owed(part)
        for part in every
    )
    tried = sum(e["count"] for e in entries)
    failures = [f"{part}: {line}" if part else line for part, e in parts.items() for line in e["failures"]]
    seen = _figures(parts)
    if failures:
        shown = "; ".join(failures[:SHOWN]) + (" ..." if len(failures) > SHOWN else "")
        seen = f"{seen}. {shown}" if seen else shown
    ran = [e for e in entries if not e["not_run"]]
    last = max(entries, key=lambda e: e["date"]) if entries else None
    tries = f"{tried:,}" if tried >= owed else f"{tried:,} of {owed:,}"
    when = ""
    if last is not None:
        which = f" ({len(entries)} parts)" if len(entries) > 1 else ""
        when = f"`{last['command']}`{which}, {last['date']}, {sum(e['seconds'] for e in entries):.0f} s"
    cells = [str(found.number), found.name, found.expected, tries if ran else "", verdict(entries), seen, when]
    return "| " + " | ".join(_cell(c) for c in cells) + " |"


def page(data: dict[str, Any]) -> str:
    """The page, from the results."""
    lines = [HEAD]
    used = {json.dumps(e["versions"], sort_keys=True) for parts in data.values() for e in parts.values()}
    for text in sorted(used):
        lines.append("Versions: " + ", ".join(f"{k} {v}" for k, v in json.loads(text).items()) + ".\n")
    lines.append("| # | trial | expected | tries | verdict | seen | command, date, time |")
    lines.append("|---|---|---|---|---|---|---|")
    for found in sorted(TRIALS.values(), key=lambda t: (t.number, t.name)):
        lines.append(row(found, data.get(found.name, {})))
    return "\n".join(lines) + "\n"


def write(path: Path = RESULTS) -> Path:
    """Write the page beside the results in `path`."""
    data = json.loads(path.read_text("utf-8")) if path.exists() else {}
    out = path.with_suffix(".md")
    out.write_text(page(data), encoding="utf-8")
    return out
