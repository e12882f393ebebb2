"""The development tool that changes the code and sees whether a test fails: it lists its mutants, and kills one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "scripts" / "mutants"


def mutants(*words):
    return subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, timeout=280)


def test_every_group_has_mutants():
    done = mutants("--list")
    assert done.returncode == 0
    counts = {name: int(n) for name, n in re.findall(r"^(\w+)\D+(\d+)", done.stdout, re.M)}
    assert {"returns", "replay", "checkpoint", "learner", "offpolicy", "linear", "atari"} <= counts.keys()
    assert min(counts.values()) > 5


def test_a_mutant_of_the_returns_is_killed(tmp_path):
    done = mutants("returns", "--sample", "1", "--seed", "3", "--work", str(tmp_path / "w"))
    assert done.returncode == 0, done.stdout + done.stderr
    (told,) = [json.loads(line) for line in (tmp_path / "w" / "results.jsonl").read_text().splitlines()]
    assert told["group"] == "returns"
    assert told["how"] == "failed"


def test_an_unknown_group_is_named():
    done = mutants("retruns", "--list")
    assert done.returncode == 2
    assert "retruns" in done.stderr
