"""A package that is missing is named in one line, with the command that installs it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from playfield.__main__ import PACKAGES

BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {name!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
"""


@pytest.mark.parametrize("module", ["rich", "numba", "PIL", "torch", "tensorboard"])
def test_one_line_names_it(module, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BLOCK.format(name=module))
    words = [sys.executable, "-m", "playfield", "train", "MountainCar-v0", "--algo", "sarsa", "--steps", "300"]
    words += ["--run", str(tmp_path / "r")]
    path = ":".join([str(tmp_path), *sys.path])
    done = subprocess.run(words, capture_output=True, text=True, env={"PYTHONPATH": path, "PATH": ""}, timeout=120)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"playfield: the package {PACKAGES[module]} is missing ({module}): pip install {PACKAGES[module]}"
    )
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "r" / "run.json").exists()


def test_every_package_that_is_needed_is_known():
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text("utf-8"))["project"]
    needed = {re.split(r"[<>=\[]", line)[0] for line in project["dependencies"]}
    assert set(PACKAGES.values()) == needed
