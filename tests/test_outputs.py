"""Where standard output is full or closed: exit code 5 if it is what was asked for, 0 if the work is saved."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import playfield

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    quiet = {"games": 0, "film": False, "tensorboard": False, "console": False}
    playfield.train("CartPole-v1", "ppo", num_envs=2, num_steps=64, steps=256, run=folder / "r", **quiet)
    return folder


def done(words: str, where: str, folder: Path) -> tuple[int, list[str]]:
    line = f"{sys.executable} -m playfield {words} {where}"
    ended = subprocess.run(["bash", "-c", line], cwd=folder, timeout=120, capture_output=True, text=True)
    return ended.returncode, ended.stderr.splitlines()


@pytest.mark.parametrize("where", ["> /dev/full", ">&-"])
@pytest.mark.parametrize(
    "words",
    ["--help", "train --help", "compare --help", "lesson", "lesson figure-10-3 --about", "compare --dir r --json"],
)
def test_what_is_asked_for_its_output_ends_with_5(words, where, place):
    code, said = done(words, where, place)
    assert code == 5, said
    assert len([line for line in said if line.startswith("playfield: cannot write to standard output")]) == 1 + (
        "--about" in words and "full" in where
    )
    assert not any("Traceback" in line or "Exception" in line for line in said)


@pytest.mark.parametrize("where", ["> /dev/full", ">&-", "| head -c 0; exit ${PIPESTATUS[0]}"])
def test_what_is_saved_ends_with_0(where, place):
    code, said = done("compare --dir r --out c.png", where, place)
    assert code == 0, said
    assert (place / "c.png").stat().st_size
    assert len(said) == (1 if "full" in where else 0), said
    (place / "c.png").unlink()


def test_a_reader_that_leaves_help_ends_quietly(place):
    assert done("train --help", "| head -c 1 > /dev/null; exit ${PIPESTATUS[0]}", place) == (0, [])
