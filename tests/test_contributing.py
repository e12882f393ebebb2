"""CONTRIBUTING.md: its code runs, and the files and commands that it names exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from playfield.cli import main

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
SMALL = ["--games", "1", "--no-film", "--no-tensorboard", "--quiet"]


def code(start: str) -> str:
    """The Python block that begins with `start`."""
    return next(block for block in re.findall(r"```python\n(.*?)```", TEXT, re.S) if block.startswith(start))


def test_the_files_it_names_exist():
    paths = re.findall(r"`((?:src|tests|scripts|docs|\.ci|\.github)/[\w./-]*)[` ]", TEXT)
    paths += re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT)
    assert len(paths) > 10
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_the_table_has_every_folder_of_the_package():
    table = re.findall(r"^\| (`.*?) \|", TEXT, re.M)
    named = {name for cell in table for name in re.findall(r"`(\w+)`", cell)}
    assert named == {p.parent.name for p in (ROOT / "src/playfield").glob("*/__init__.py")}


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`(playfield [a-z]+)", TEXT))))
def test_its_commands_exist(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*shlex.split(command)[1:], "--help"])
    assert stop.value.code == 0
    assert capsys.readouterr().out


def test_its_environment_trains_and_resumes(tmp_path, monkeypatch, capsys):
    (tmp_path / "corridor.py").write_text(code("import gymnasium"), encoding="utf-8")
    command = re.findall(r"^playfield train (corridor.*)$", TEXT, re.M)[0]
    words = shlex.split(command.replace("20k", "2048"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["train", *words, *SMALL]) == 0
    run = next(Path("runs").glob("**/run.json")).parent
    assert main(["train", "--resume", str(run), "--steps", "4096", *SMALL]) == 0
    assert (run / "checkpoints/last").read_text("utf-8").strip().endswith("4096")
