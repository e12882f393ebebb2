"""Trainings for other machines: the one where the command is typed has no GPU, little memory, and other cores."""

from __future__ import annotations

import importlib.util
import json
import shlex

import pytest

from cluster_link import HERE, Told
from playfield import compute
from playfield.cli import main
from playfield.experiments import estimate, node, ray_link, ready

C, B = "CartPole-v1", "breakout"
FILE = f'envs = ["{C}"]\n{{}}\n[options]\n{{}}\n[[algorithms]]\nalgo = "ppo"\n'
DEVICE = ["--", "--device", "cuda"]


class Ending(Told):
    """Trainings on its nodes fail at once, without a training."""

    def begin(self, number):
        self.end(number, text='{"code": 1, "line": "it ended"}')


@pytest.fixture(autouse=True)
def _facts(monkeypatch):
    monkeypatch.setattr(node, "facts", lambda mark: HERE)
    monkeypatch.setattr(compute, "has_cuda", lambda: False)
    monkeypatch.setattr(compute, "bf16_is_faster", lambda: False)


@pytest.fixture
def cluster(monkeypatch):
    """Makes the nodes of a cluster; returns the link to them."""

    def made(**nodes):
        link = Ending({**HERE, "memory": None}, **nodes)
        monkeypatch.setattr(ray_link, "require_ray", lambda: None)
        monkeypatch.setattr(ray_link, "RayLink", lambda address: (link.tell_nodes(), link)[1])
        return link

    return made


def compare(tmp_path, *words, env=C, algo="ppo", on="head:6379", steps="1000"):
    asked = ["compare", env, "--algo", algo, "--steps", steps, "--seeds", "1", "--dir", str(tmp_path / "x")]
    return main([*asked, "--on", on, *words])


def last(capsys):
    return capsys.readouterr().err.splitlines()[-1]


def test_a_gpu_of_a_node_can_be_asked_for_where_there_is_none(tmp_path, cluster, capsys):
    link = cluster(a={}, b={"gpus": 1})
    assert compare(tmp_path, *DEVICE, env=B) == 1
    (run,) = link.runs()
    assert (run["node"], run["gpus"]) == ("b", 1)
    assert run["text"]["words"][-6:] == ["--device", "cuda", "--precision", "bf16", "--workers", "1"]
    assert "note: " not in capsys.readouterr().err
    link = cluster(a={})
    assert compare(tmp_path, *DEVICE) == 2
    assert last(capsys) == f"playfield: ppo on {C}: --device cuda, and no node has a GPU: use -- --device cpu"
    assert not link.runs()
    assert compare(tmp_path, *DEVICE, on="local") == 2, "here it is still a mistake"
    assert "torch finds no CUDA device here" in last(capsys)


def test_a_gpu_that_this_machine_has_and_no_node(tmp_path, cluster, monkeypatch, capsys):
    monkeypatch.setattr(compute, "has_cuda", lambda: True)
    cluster(a={})
    assert compare(tmp_path, "--", "--precision", "fp32", env=B) == 2
    assert last(capsys) == (
        f"playfield: ppo on {B}: --device auto has chosen the GPU of this machine, and no node has a GPU: "
        "use -- --device cpu"
    )


def test_gpus_of_nodes_that_are_left_unused_are_said(tmp_path, cluster, capsys):
    note = "note: nodes have GPUs, which are not used: --device auto follows this machine, which has none (use "
    link = cluster(a={"gpus": 1})
    assert compare(tmp_path, env=B) == 1
    assert f"{note}-- --device cuda for them)\n" in capsys.readouterr().err
    assert link.runs()[0]["gpus"] == 0
    assert compare(tmp_path, "--", "--device", "cpu", env=B) == 1
    assert compare(tmp_path) == 1
    cluster(a={})
    assert compare(tmp_path, env=B) == 1
    assert note not in capsys.readouterr().err, "it was asked for, is of no use, or is not there"


def test_more_workers_than_a_node_has_cores(tmp_path, cluster, capsys):
    link = cluster(a={"cpus": 3}, b={"cpus": 2}, c={"cpus": 1, "gpus": 1})
    assert compare(tmp_path, "--", "--workers", "8") == 2
    assert last(capsys) == (
        f"playfield: ppo on {C}: 8 workers need as many cores on one node, and none has more than 3: "
        "use -- --workers 2"
    )
    assert compare(tmp_path, "--", "--workers", "2", "--device", "cuda") == 2
    assert last(capsys).endswith("none has more than 1: use -- --workers 1"), "those with a GPU count"
    assert not link.runs()
    assert compare(tmp_path, "--", "--workers", "2") == 1
    path = tmp_path / "grid.toml"
    path.write_text(FILE.format("steps = 1000", "workers = 4"))
    assert main(["compare", str(path), "--dir", str(tmp_path / "y"), "--on", "head:6379"]) == 2
    assert last(capsys).endswith("none has more than 3: use workers = 2 in the file")


def test_memory_of_nodes_counts_and_not_that_of_this_machine(tmp_path, cluster, monkeypatch, capsys):
    monkeypatch.setattr(compute, "free_memory", lambda: 10**9)
    large = ["--", "--capacity", "1000000", "--packed", "false"]
    assert compare(tmp_path, *large, env=B, algo="dqn", on="local", steps="300k") == 2
    assert "1.00 GB are free" in last(capsys)
    link = cluster(a={})
    assert compare(tmp_path, *large, env=B, algo="dqn", steps="300k") == 1
    assert "1 training, 1 at a time: how long they take is not measured: it takes " in capsys.readouterr().err
    assert len(link.runs()) == 1
    link.facts |= {"memory": 4 * 10**9, "total": 4 * 10**9}
    assert compare(tmp_path, *large, env=B, algo="dqn", steps="300k") == 2
    assert "no node can take it: node a: it takes " in last(capsys)


def test_minutes_are_measured_here(tmp_path, cluster, capsys):
    cluster(a={"gpus": 1})
    path = tmp_path / "grid.toml"
    path.write_text(FILE.format("minutes = 1", 'device = "cuda"'))
    assert main(["compare", str(path), "--dir", str(tmp_path / "x"), "--on", "head:6379"]) == 2
    assert last(capsys).endswith(
        f"ppo on {C}: minutes are measured where the command is typed: this machine has no GPU; give steps"
    )


def test_slurm_is_asked_for_what_the_trainings_need(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compute, "free_memory", lambda: 10**9)
    words = ["--capacity", "1000000", "--packed", "false"]
    assert compare(tmp_path, *DEVICE, *words, env=B, algo="dqn", on="slurm", steps="300k") == 0
    told = capsys.readouterr().err
    assert "how long they take is not measured: this machine has no GPU\n" in told
    script = (tmp_path / "x" / "slurm.sh").read_text()
    assert "#SBATCH --gres=gpu:1\n" in script
    (megabytes,) = (int(line[len("#SBATCH --mem=") : -1]) for line in script.splitlines() if "--mem=" in line)
    assert megabytes > 7_000
    jobs = next(word for word in shlex.split(script) if word.endswith(".jsonl"))
    with open(jobs) as file:
        assert json.loads(file.readline())["pins"][:4] == ["--device", "cuda", "--precision", "bf16"]
    assert compare(tmp_path / "auto", env=B, on="slurm") == 0
    assert (
        "note: GPUs of nodes are not used: --device auto follows this machine, which has none "
        "(use -- --device cuda for them)\n"
    ) in capsys.readouterr().err
    assert "gres" not in (tmp_path / "auto" / "x" / "slurm.sh").read_text()


@pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="needs Optuna")
def test_a_tuning_on_nodes_is_limited_by_them_too(tmp_path, cluster, capsys):
    words = ["tune", C, "--algo", "ppo", "--steps", "1000", "--trials", "1", "--dir", str(tmp_path / "x")]
    cluster(a={})
    assert main([*words, "--on", "head:6379", *DEVICE]) == 2
    assert last(capsys) == "playfield: --device cuda, and no node has a GPU: use -- --device cpu"
    link = cluster(a={"gpus": 1})
    main([*words, "--on", "head:6379", *DEVICE])
    assert "at most 1 trainings (how long they take is not measured: this machine has no GPU)" in (
        "".join(capsys.readouterr())
    )
    assert link.runs()[0]["gpus"] == 1


def test_what_fits_at_once_counts_cores_and_slurm_decides_itself(tmp_path, cluster, monkeypatch, capsys):
    monkeypatch.setattr(ready, "QUICK", 1)
    monkeypatch.setattr(estimate, "measure", lambda prepared: 1000.0)
    cluster(a={"cpus": 5}, b={"cpus": 3})
    words = ["compare", C, "--algo", "ppo", "--steps", "60000", "--seeds", "6", "--dir", str(tmp_path / "x"), "--on"]
    assert main([*words, "head:6379", "--", "--workers", "2"]) == 1
    assert "6 trainings, 3 at a time: about 2 min 00 s at the measured speed\n" in capsys.readouterr().err
    assert main([*words, "slurm", "--", "--workers", "2"]) == 0
    assert "6 trainings, 6 at a time if SLURM has room for them: about 1 min 00 s at" in capsys.readouterr().err
