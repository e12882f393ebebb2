"""Random command lines: no traceback, one line for a mistake, nothing left behind."""

from __future__ import annotations

import os

from fuzz_words import Lines, fuzz

COUNT = int(os.environ.get("FUZZ_WORDS", "120"))


def test_random_command_lines_end_as_promised(monkeypatch):
    monkeypatch.delenv("PLAYFIELD_DEBUG", raising=False)
    ended, failed = fuzz(COUNT, seed=COUNT)
    assert not failed, "\n".join(f"{words}\n    {wrong}" for words, wrong in failed)
    assert ended["reached"] > 0.1 * COUNT, "the lines are wrong too early"
    assert ended["2"] > 0.3 * COUNT


def test_the_lines_reach_every_command_and_depend_on_the_seed_alone():
    lines = [Lines(3), Lines(3)]
    first = [lines[0].line() for _ in range(2000)]
    assert first == [lines[1].line() for _ in range(2000)]
    assert {words[0] for words in first if words} >= {"train", "eval", "compare", "lesson", "bench", "nets", "replay"}
