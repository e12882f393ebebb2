"""An experiment as a job array of SLURM, with an `sbatch` in PATH that runs what it is given."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from playfield.cli import _slurm, main
from playfield.errors import DataError, EnvError
from playfield.experiments import grid, slurm, slurm_task
from playfield.experiments.cluster_state import Pins
from playfield.experiments.job import Job
from playfield.runs import fence

C = "CartPole-v1"
WORDS = ["compare", C, "--algo", "random", "--steps", "600", "--seeds", "2"]
SBATCH = """#!{python}
import os, re, shlex, subprocess, sys
text = open(sys.argv[1]).read()
lines = re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", text, re.M)
options = {{name: "".join(shlex.split(value, comments=True)) for name, value in lines}}
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
    for one in grid.plan(here, grid.from_words([C], ["random"], [], [1, 2], 600)):
        assert main(one.command()) == 0
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
    assert "\n# 1 training; the same command" in (there / "slurm.sh").read_text()
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
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho 'Requested node configuration is not available' >&2\nexit 1\n")
    assert main(words) == 6
    assert re.search(
        r"not available; a task asks for 1 core, [0-9,]+ MB of memory: ask for less, as in -- --workers 2 ",
        capsys.readouterr().err,
    )
    (tmp_path / "sbatch").write_text("#!/nothing\n")
    assert main(words) == 6
    assert capsys.readouterr().err.splitlines()[-1].startswith("playfield: sbatch cannot be run: No such file")
    assert main([*WORDS, "--dir", str(tmp_path / "x"), "--submit"]) == 2
    assert capsys.readouterr().err == "playfield: --submit is for --on slurm\n"
    assert main(["tune", C, "--steps", "500", "--on", "slurm"]) == 2
    assert "use --on ray" in capsys.readouterr().err


def test_an_sbatch_that_does_not_end_is_left_and_none_waits_for_the_trainings(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho wait=$SBATCH_WAIT\n[ -z $HANG ] || exec /bin/sleep 60\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("SBATCH_WAIT", "1")
    array = slurm.Array(tmp_path / "slurm.sh", "")
    assert slurm.submit(array) == "wait="
    monkeypatch.setenv("HANG", "1")
    monkeypatch.setattr(slurm, "ANSWER", 0.3)
    with pytest.raises(EnvError, match=r"sbatch did not end in 0 s .* squeue --me tells"):
        slurm.submit(array)


def test_a_directory_that_sbatch_cannot_write_to_and_a_script_without_sbatch_are_said(tmp_path, capsys):
    where = tmp_path / "a\\b"
    assert main([*WORDS, "--dir", str(where), "--on", "slurm"]) == 2
    assert "choose a --dir without backslash" in capsys.readouterr().err
    assert not list(where.glob("slurm*"))
    assert _slurm.run(tmp_path / "slurm.jsonl", "") == 2
    assert capsys.readouterr().err == "playfield: this script is a job array: submit it with sbatch\n"


def test_a_run_that_has_begun_is_given_the_cores_and_the_device_that_it_has(tmp_path):
    job = Job(C, "random", (C, "--algo", "random"), 1, 500, tmp_path / "1")
    new = Pins("cpu", "fp32", 8, 1e9)
    assert "8 cores, " in slurm.write(tmp_path, [job], lambda _: new, None).asks
    assert main(job.command()) == 0
    info = json.loads((job.directory / "run.json").read_text())
    info["compute"] |= {"device": "cuda", "workers": 2}
    (job.directory / "run.json").write_text(json.dumps(info))
    array = slurm.write(tmp_path, [job], lambda _: new, None)
    assert re.fullmatch("2 cores, [0-9,]+ MB of memory and a GPU", array.asks)
    assert "#SBATCH --gres=gpu:1\n" in array.script.read_text()


@pytest.mark.parametrize("text", ["", "x\n", "[]\n", "{}\n", '{"pins": [], "words": []}\n'])
def test_a_damaged_file_of_trainings_is_said(text, tmp_path, capsys):
    path = tmp_path / "slurm.jsonl"
    path.write_text(text)
    assert _slurm.run(path, "1") == 3
    assert capsys.readouterr().err == f"playfield: {path} has no training in line 1\n"
    with pytest.raises(DataError), slurm_task.begun(tmp_path / "nothing", 1):
        pytest.fail("it has begun")
