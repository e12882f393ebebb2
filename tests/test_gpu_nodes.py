"""Worker processes that compute on a GPU, as far as that can be tried without one.

Such a worker has weights and gradients in the memory of its GPU and copies them from and to those that processes
share. Here the copies are made on a CPU, where they change no bit.
"""

from __future__ import annotations

import dataclasses
import json
import socket
import sys
from pathlib import Path

import pytest
import torch

from playfield import compute
from playfield.cli import main
from playfield.compute import Compute
from playfield.errors import UsageError
from playfield.experiments import together
from playfield.nets import learner
from playfield.runs import checkpoint
from playfield.runs.algorithm import load
from playfield.runs.run import Run
from playfield.training import prepare, rendezvous
from playfield.training.plan import envs_of
from playfield.training.processes import Pool
from playfield.training.rendezvous import greet
from simulated_gpu import SimulatedGpu
from test_nodes import SECRET, line_to, machines, waiting
from test_worker_processes import BATCH, PIXELS, SMALL, Q, result, spec_of, trained, until

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(sys.platform != "linux", reason="memory is shared as Linux has it"),
]
ENV = "apart_envs:Apart-v0"
GPU = {"name": "NVIDIA H200", "bf16": True}


@pytest.fixture
def apart(monkeypatch):
    """In this process, too, workers of a group have copies of their own."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setattr(learner, "_shareable", lambda device: False)


@pytest.fixture(scope="module")
def pool():
    made = Pool(3)
    yield made
    made.close()


@pytest.fixture(scope="module", params=["processes", "machines"])
def three(request):
    if request.param == "machines":
        with machines(3) as (found, _):
            yield found
    else:
        yield request.getfixturevalue("pool")


@pytest.mark.parametrize(
    ("algo", "cfg"), [("ppo", SMALL), ("a2c", BATCH), ("pqn", dataclasses.replace(Q, optimizer="radam"))]
)
def test_copies_change_no_bit(apart, three, algo, cfg):
    assert result(algo, ENV, cfg, pool=three) == result(algo, ENV, cfg)


def test_copies_of_bodies_in_bf16_change_no_bit(apart, three):
    assert result("ppo", "breakout", PIXELS, "bf16", pool=three) == result("ppo", "breakout", PIXELS, "bf16")


def test_copies_are_those_of_restored_and_of_given_weights(apart, three, tmp_path):
    whole = result("ppo", ENV, SMALL, rounds=6)
    run = trained("ppo", ENV, SMALL, rounds=6, pool=three, directory=tmp_path, save_seconds=0.0)
    run.close()
    middle = checkpoint.load(checkpoint.checkpoints(tmp_path / "checkpoints")[-2])
    weights = middle.tree["parts"]["learner"]["weights"]
    assert result("ppo", ENV, SMALL, rounds=6, pool=three, resume=middle)[:2] == whole[:2]
    assert result("ppo", ENV, SMALL, pool=three, begin=weights) == result("ppo", ENV, SMALL, begin=weights)


def test_a_worker_computes_on_weights_of_its_own(apart):
    pool = Pool(2)
    try:
        run = trained("ppo", ENV, SMALL, pool=pool, workers=2)
        own = run.parts["learner"]
        (mine, _), shared = own.replicas, own.net
        for ours, theirs in zip(mine.parameters(), shared.parameters(), strict=True):
            assert ours.data_ptr() != theirs.data_ptr()
            assert ours.grad.abs().max() > 0
            assert theirs.grad is None
        run.close()
    finally:
        pool.close()


@pytest.mark.parametrize(
    ("algo", "env", "cfg", "fmt"),
    [("ppo", "breakout", PIXELS, "bf16"), ("a2c", "CartPole-v1", BATCH, "fp32"), ("pqn", "CartPole-v1", Q, "fp32")],
)
def test_one_of_three_processes_computes_on_a_simulated_gpu(pool, algo, env, cfg, fmt):
    spec, chosen = spec_of(env), Compute("cpu", fmt, 3)
    info = {"env": spec.id, "algo": algo, "spec": spec, "seed": 1, "steps": 4 * cfg.batch}
    info |= {"compute": dataclasses.asdict(chosen), "config": dataclasses.asdict(cfg), "protocol": spec.protocol}
    pool.ready(algo, spec)
    group = pool.begin(algo, info, cfg)
    info["compute"] = dataclasses.asdict(Compute("cuda", fmt, 3))  # of this process alone
    with SimulatedGpu() as gpu:
        run = Run(info, envs_of(spec, chosen), group=group)
        load(algo).train(run, cfg)
    assert gpu.calls > 500
    own = run.parts["learner"]
    assert all(p in gpu for p in own.replicas[0].parameters())
    assert not any(p in gpu for p in own.net.parameters())
    assert run.final_hash() == result(algo, env, cfg, fmt)[0]
    run.close()


def test_workers_of_a_machine_take_its_gpus_in_turn(monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for worker in range(4):
        compute.take_gpu(worker)
    assert taken == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("own", "there", "precision", "why"),
    [
        (GPU, {}, "fp32", "torch finds no CUDA device there, and this training uses one: --device cpu"),
        (GPU, {**GPU, "bf16": False}, "bf16", "its GPU has no bfloat16, and this training uses it: --precision fp32"),
        (GPU, {**GPU, "bf16": False}, "fp32", ""),
        (GPU, GPU, "bf16", ""),
    ],
)
def test_a_machine_without_the_gpu_of_a_training_is_told_why(monkeypatch, own, there, precision, why):
    monkeypatch.setattr(compute, "gpu", lambda: own)
    with waiting(monkeypatch, chosen=Compute("cuda", precision, 2)) as (where, said, _):
        line = line_to(where)
        greet(line, SECRET.encode(), {**rendezvous.facts(), "gpu": there})
        answer = line.receive()
        assert answer.get("refused", "") == why
        if why:
            until(lambda: any(why in text for text in said), 5.0)


def test_workers_on_a_gpu_may_be_processes_of_several_machines(monkeypatch):
    monkeypatch.setattr(compute, "has_cuda", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    chosen = compute.choose("auto", nodes=2, num_envs=SMALL.num_envs)
    assert (chosen.device, chosen.precision, chosen.workers) == ("cuda", "bf16", 2)
    assert prepare.workers_as("auto", "ppo", SMALL, chosen, 2) == "processes"
    assert prepare.workers_as("processes", "ppo", SMALL, chosen) == "processes"
    assert prepare.workers_as("auto", "ppo", SMALL, chosen) == "threads"


def test_a_machine_of_a_training_on_gpus_takes_one_of_its_node():
    here = socket.gethostname()
    nodes = [
        {"id": "0", "host": here, "cpus": 8, "gpus": 1},
        {"id": "1", "host": "a", "cpus": 8},
        {"id": "2", "host": "b", "cpus": 8, "gpus": 2, "taken": [1, 1]},
    ]
    assert [one["host"] for one in together.places(nodes, 2, 1, 1)] == ["b", here]
    with pytest.raises(UsageError, match=r"2 machines of 1 core and a GPU .* cores or GPUs \(1 of 8 on b\)"):
        together.places(nodes, 3, 1, 1)
    nodes[2]["taken"] = [0, 1]
    with pytest.raises(UsageError, match=r"others use cores or GPUs \(1 of 2 GPUs on b\): .* or use --device cpu"):
        together.places(nodes, 3, 1, 1)
    with pytest.raises(UsageError, match="room for 3 machines of 8 cores and a GPU beside this one: add nodes"):
        together.places([{**nodes[2], "taken": [0, 0], "gpus": 3, "cpus": 24}], 4, 8, 1)


def test_a_ray_task_of_a_training_on_gpus_asks_for_one(tmp_path, monkeypatch):
    from test_nodes_on_ray import Pretended

    asked = []
    monkeypatch.setattr(Pretended, "submit", lambda self, *what: asked.append(what) or 1)
    monkeypatch.setattr(together.ray_link, "RayLink", Pretended)
    monkeypatch.setenv("PLAYFIELD_TOKEN", SECRET)
    monkeypatch.setattr(together, "places", lambda *a: [{"id": "n", "host": "h"}])
    with together.gathered("local", None, 1, 3, lambda _: None, 1):
        pass
    ((do, node, text, cores, gpus),) = asked
    assert (do, node, cores, gpus) == ("join", "n", 3, 1)
    assert json.loads(text)["words"][:2] == ["train", "--join"]


def test_where_there_is_no_cuda_device_a_training_says_so_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLAYFIELD_TOKEN", SECRET)
    monkeypatch.setattr(compute, "has_cuda", lambda: False)
    words = "train breakout --nodes 2 --rendezvous 127.0.0.1:29500 --device cuda --run r"
    assert main(words.split()) == 2
    assert "--device cuda: torch finds no CUDA device here; use --device cpu" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
