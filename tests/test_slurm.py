"""An experiment as a job array of SLURM, with an `sbatch` in PATH that runs what it is given."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from playfield.cli import _slurm, main
from playfield.errors import DataError
from playfield.experiments import slurm
from playfield.runs import fence

C = "CartPole-v1"
WORDS = ["compare", C, "--algo", "random", "--steps", "600", "--seeds", "2"]
SBATCH = """#!{python}
import os, re, subprocess, sys
text = open(sys.argv[1]).read()
options = dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", text, re.M))
assert "=" not in options["mem"] and options["mem"].endswith("M"), options
first, last = re.match(r"(\\d+)-(\\d+)", options["array"]).groups()
for n in range(int(first), int(last) + 1):
    output = options["output"].replace("%A", "77").replace("%a", str(n))
    with open(output, "ab") as file:
        env = {{**os.environ, "SLURM_ARRAY_TASK_ID": str(n)}}
        subprocess.run(["bash", sys.argv[1]], cwd="/", env=env, stdout=file, stderr=file)
print("Submitted batch job 77")
"""


@pytest.fixture
def _sbatch(tmp_path, monkeypatch):
    path = tmp_path / "bin" / "sbatch"
    path.parent.mkdir()
    path.write_text(SBATCH.format(python=sys.executable))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")


def hashes(root):
    found = sorted(root.glob("*/*/*/run.json"))
    return {str(p.parent.relative_to(root)): json.loads(p.read_text())["result"]["hash"] for p in found}


@pytest.mark.usefixtures("_sbatch")
def test_the_array_trains_the_same_bits_as_this_machine_and_only_what_is_left(tmp_path, capsys):
    here, there = tmp_path / "here", tmp_path / "there"
    assert main([*WORDS, "--dir", str(here), "--jobs", "1"]) == 0
    capsys.readouterr()
    assert main([*WORDS, "--dir", str(there), "--on", "slurm", "--submit", "--jobs", "3"]) == 0
    told = capsys.readouterr().err
    assert f"{there / 'slurm.sh'}: 2 trainings\nSubmitted batch job 77\n" in told
    assert f"playfield compare --dir {there}" in told
    script = (there / "slurm.sh").read_text()
    assert "#SBATCH --array=1-2%3\n" in script
    assert "#SBATCH --cpus-per-task=1\n" in script
    assert hashes(there) == hashes(here) != {}
    assert len(hashes(there)) == 2
    assert {fence.read(p.parent) for p in there.glob("*/*/*/run.json")} == {1}
    assert [p.read_bytes() for p in (there / ".logs").iterdir() if b"Traceback" in p.read_bytes()] == []

    run = there / C / "random" / "2"
    info = json.loads((run / "run.json").read_text())
    del info["result"]
    (run / "run.json").write_text(json.dumps(info))
    assert main([*WORDS, "--dir", str(there), "--on", "slurm"]) == 0
    assert "slurm.sh: 1 training\nsubmit it with: sbatch " in capsys.readouterr().err
    subprocess.run(["sbatch", str(there / "slurm.sh")], check=True, capture_output=True)
    assert hashes(there) == hashes(here)
    assert fence.read(run) == 2, "it was resumed as the next attempt"
    assert main([*WORDS, "--dir", str(there), "--on", "slurm"]) == 0
    assert "95 % interval" in capsys.readouterr().out, "nothing is left: it is drawn"


def test_what_cannot_be_submitted_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    words = [*WORDS, "--dir", str(tmp_path / "x"), "--on", "slurm", "--submit"]
    assert main(words) == 2
    script = tmp_path / "x" / "slurm.sh"
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"playfield: there is no sbatch here: where there is one, run sbatch {script}"
    )
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho one >&2\necho 'no partition' >&2\nexit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    assert main(words) == 6
    assert capsys.readouterr().err.splitlines()[-1] == f"playfield: sbatch refuses {script}: no partition"
    assert main([*WORDS, "--dir", str(tmp_path / "x"), "--submit"]) == 2
    assert capsys.readouterr().err == "playfield: --submit is for --on slurm\n"
    assert main(["tune", C, "--steps", "500", "--on", "slurm"]) == 2
    assert "use --on ray" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "x\n", "[]\n", "{}\n", '{"pins": [], "words": []}\n'])
def test_a_damaged_file_of_trainings_is_said(text, tmp_path, capsys):
    path = tmp_path / "slurm.jsonl"
    path.write_text(text)
    assert _slurm.run(path, 1) == 3
    assert capsys.readouterr().err == f"playfield: {path} has no training in line 1\n"
    with pytest.raises(DataError):
        slurm.begin(tmp_path / "nothing", 1)
