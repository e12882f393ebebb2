"""`scripts/trials`: runs trials, shows how far they are, and writes the table."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
import time
import traceback
from pathlib import Path

from trials import environments, exact, files, oracles, page, places, processes, saves, storage, words  # noqa: F401
from trials.registry import TRIALS, Ask, Seen, Trial
from trials.table import RESULTS, merge, write


def _plan(a: argparse.Namespace) -> list[tuple[Trial, str, int]]:
    """(trial, part, tries) of what is asked for."""
    chosen = [TRIALS[name] for name in a.names] or sorted(TRIALS.values(), key=lambda t: (t.number, t.name))
    plan = []
    for found in chosen:
        parts = found.parts()
        if not a.long and not a.names:
            parts = list(found.short_parts) or parts[:1]
        if a.part:
            parts = [p for p in parts if p in a.part]
        for part in parts:
            count = found.owed(part) if a.long or a.names else found.short
            plan.append((found, part, count if a.count is None else a.count))
    return [(found, part, count) for found, part, count in plan if count]


def run_one(found: Trial, part: str, count: int, seconds: float) -> Seen:
    """One trial in an empty directory. An error of the trial itself is a failure that says so."""
    label = f"{found.number:>2} {found.name}" + (f" {part}" if part else "")
    with tempfile.TemporaryDirectory(prefix="trial-", ignore_cleanup_errors=True) as folder:
        ask = Ask(count, part, Path(folder), time.monotonic() + seconds, label)
        try:
            return found.run(ask)
        except Exception as error:
            traceback.print_exc()
            return Seen(1, [f"the trial itself ended with {type(error).__name__}: {error}"[:300]])


def _list() -> None:
    print(f"{'':>2} {'trial':<20} {'short':>6} {'long':>6}  parts")
    for found in sorted(TRIALS.values(), key=lambda t: (t.number, t.name)):
        parts = found.parts()
        named = ", ".join(parts) if parts != [""] else ""
        print(f"{found.number:>2} {found.name:<20} {found.short:>6} {found.long:>6}  {named}")


def main(argv: list[str] | None = None) -> int:
    """Run the trials that are asked for; 1 if one failed."""
    p = argparse.ArgumentParser("scripts/trials", description="Trials of the installed package.")
    p.add_argument("names", nargs="*", metavar="TRIAL", help="default: the short set")
    p.add_argument("--list", action="store_true", help="name the trials, and stop")
    p.add_argument("--table", action="store_true", help="write the page from the results, and stop")
    p.add_argument("--long", action="store_true", help="the long set, or the long count of those named")
    p.add_argument("--count", type=int, help="tries of each")
    p.add_argument("--part", "--algo", action="append", help="only this part (an algorithm, a verb, ...); repeatable")
    p.add_argument("--minutes", type=float, default=600.0, help="stop starting tries after this time, shared out")
    p.add_argument("--write", action="store_true", help="write results of the short set, too")
    p.add_argument("--results", type=Path, default=RESULTS, help="the JSON file (the page lies beside it)")
    a = p.parse_args(argv)
    if unknown := [name for name in a.names if name not in TRIALS]:
        p.error(f"no trial {', '.join(unknown)}: scripts/trials --list")
    if a.list:
        _list()
        return 0
    if a.table:
        print(write(a.results))
        return 0
    command = "scripts/trials " + shlex.join(sys.argv[1:] if argv is None else argv)
    plan = _plan(a)
    end, failed, before = time.monotonic() + 60 * a.minutes, 0, os.getcwd()
    for n, (found, part, count) in enumerate(plan):
        start = time.monotonic()
        seen = run_one(found, part, count, max(1.0, (end - start) / (len(plan) - n)))
        os.chdir(before)
        took = time.monotonic() - start
        failed += bool(seen.failures)
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr)
        outcome = f"FAILED {len(seen.failures)}" if seen.failures else (seen.not_run and "not run") or "held"
        left = f"{n + 1} of {len(plan)} done, at most {max(0.0, end - time.monotonic()) / 60:.0f} min left"
        print(f"{found.number:>2} {found.name:<20} {part:<14} {seen.count:>6} {outcome:<10} {took:6.1f} s  {left}")
        for line in seen.failures[:5]:
            print(f"     {line}")
        sys.stdout.flush()
        if a.long or a.names or a.write:
            merge(found, part, seen, took, command, a.results)
            write(a.results)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
