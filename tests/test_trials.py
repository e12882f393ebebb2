"""The short set of the trials, and the table that is made of results. The long set: `scripts/trials --long`."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from trials import __main__, table
from trials.registry import TRIALS, Seen, Trial

SHORT = [t.name for t in TRIALS.values() if t.short]
SCRIPT = Path(__file__).parent.parent / "scripts" / "trials"


FEW = ["wrong-names", "run-names", "moved-run", "--count", "1"]
WHOLE = pytest.param(["--write"], SHORT, marks=pytest.mark.slow)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the trials need Linux")
@pytest.mark.parametrize(("words", "names"), [(FEW, FEW[:3]), WHOLE], ids=["few", "short set"])
def test_they_hold(words, names, tmp_path):
    # In a process of its own: trials fork, and leave imported what they load.
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words, "--results", str(tmp_path / "trials.json")],
        capture_output=True, text=True, timeout=580, cwd=tmp_path, env={**os.environ, "PYTHONWARNINGS": "default"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "FAILED" not in done.stdout
    for name in names:
        assert f" {name} " in done.stdout
    page = (tmp_path / "trials.md").read_text("utf-8")
    assert len(re.findall(r"\| held |\d of \d+ \| held ", page)) >= len(names) - (
        2 if names == SHORT else 0
    )  # two need root


def fake(count: int = 3) -> Trial:
    return Trial(99, "fake", "it | works", lambda ask: Seen(ask.count), 1, count, lambda: ["a", "b"])


def entry(**changes):
    return {"count": 3, "failures": [], "failed": 0, "figures": {}, "not_run": "", "seconds": 1.0, "command": "c",
            "date": "2026-01-01", "versions": {}} | changes  # fmt: skip


def test_a_row_tells_what_failed_what_is_owed_and_what_was_not_run():
    good, bad = entry(figures={"x": 1}), entry(failed=2, failures=["one|two", "three"], figures={"x": 2})
    row = table.row(fake(), {"a": good, "b": bad})
    assert "| 6 | **failed: 2** | x 1 to 2. b: one\\|two; b: three |" in row
    assert "it \\| works" in row
    assert "| 3 of 6 | held | x 1 |" in table.row(fake(), {"a": good})
    assert "not run: no root" in table.row(fake(), {"a": entry(count=0, not_run="no root")})
    assert "not run yet" in table.row(fake(), {})


def test_what_is_owed_is_less_for_slow_parts_and_where_no_more_can_be_tried():
    slow = dataclasses.replace(fake(100), fewer={"b": 30})
    full, slow_one = entry(count=100), entry(count=30)
    assert "| 130 | held |" in table.row(slow, {"a": full, "b": slow_one})
    assert "| 129 of 130 | held |" in table.row(slow, {"a": full, "b": entry(count=29)})
    assert "| 107 of 200 | held |" in table.row(fake(100), {"a": full, "b": entry(count=7)})
    assert "| 107 | held |" in table.row(fake(100), {"a": full, "b": entry(count=7, all_there_is=True)})


def test_results_of_one_part_are_merged_into_those_of_others(tmp_path):
    path = tmp_path / "r.json"
    table.merge(fake(), "a", Seen(3), 1.0, "c", path)
    table.merge(fake(), "b", Seen(3, ["no"]), 1.0, "c", path)
    table.merge(fake(), "b", Seen(4), 1.0, "again", path)
    found = table.json.loads(path.read_text())["fake"]
    assert (found["a"]["count"], found["b"]["count"], found["b"]["failed"]) == (3, 4, 0)


def test_a_trial_that_raises_has_failed():
    def broken(ask):
        raise ValueError("oh")

    seen = __main__.run_one(Trial(99, "x", "", broken, 1, 1, lambda: [""]), "", 1, 1.0)
    assert seen.failures == ["the trial itself ended with ValueError: oh"]


def test_a_trial_ends_when_its_time_is_over_and_counts_what_it_tried():
    def tries(ask):
        seen = Seen()
        for n in ask.rounds():
            seen.check(n % 2 == 0, f"try {n}")
        return seen

    found = Trial(99, "x", "", tries, 1, 1, lambda: [""])
    assert __main__.run_one(found, "", 10**9, -1.0).count == 1
    seen = __main__.run_one(found, "", 5, 60.0)
    assert (seen.count, seen.failures) == (5, ["try 1", "try 3"])


def test_every_trial_of_the_list_has_a_number_and_there_is_none_without():
    assert {t.number for t in TRIALS.values()} == set(range(1, 39))
    assert all(t.expected and t.long for t in TRIALS.values())


def test_the_page_is_what_the_results_say():
    """`scripts/trials --table` was run after the last change of the trials."""
    assert table.RESULTS.with_suffix(".md").read_text("utf-8") == table.page(
        table.json.loads(table.RESULTS.read_text("utf-8")) if table.RESULTS.exists() else {}
    )
