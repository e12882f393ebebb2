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
from types import SimpleNamespace

import pytest
import torch

from playfield import compute
from playfield.cli import main
from playfield.compute import Compute
from playfield.errors import EnvError, UsageError
from playfield.experiments import together
from playfield.nets import learner
from playfield.runs import checkpoint
from playfield.runs.algorithm import load
from playfield.runs.run import Run
from playfield.training import prepare, processes, rendezvous, train
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
GPU, OLD = {"name": "NVIDIA H200", "bf16": True}, {"name": "Tesla T4", "bf16": False}


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
            found.ready("ppo", spec_of(ENV))  # from now on all have copies
            yield found
    else:
        request.getfixturevalue("pool").ready("ppo", spec_of(ENV))
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


@pytest.fixture
def gpus(monkeypatch):
    """Two GPUs, as far as torch says; which ones were taken."""
    taken = []
    monkeypatch.setattr(compute, "has_cuda", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: GPU["name"])
    return taken


def test_workers_of_a_machine_take_its_gpus_in_turn(gpus):
    spec = dataclasses.asdict(spec_of("CartPole-v1"))
    with SimulatedGpu():
        for worker in range(4):
            assert processes._ready("ppo", spec, None, 60.0, [], worker) == {}
    assert gpus == [0, 1, 0, 1]
    assert processes._ready("ppo", spec, None, 60.0, [], None) == {}
    assert gpus == [0, 1, 0, 1]


def test_a_worker_is_told_its_place_on_its_machine():
    class Told(SimpleNamespace):
        def send(self, message):
            self.said.append(message)

        def receive(self):
            return {}

    found = [
        Told(rank=rank, home=home, said=[]) for rank, home in ((1, range(2)), (2, range(2, 4)), (3, range(2, 4)))
    ]
    asked = Pool(1)
    asked._links = found
    try:
        for device, places in (("cuda", [1, 0, 1]), ("cpu", [None] * 3)):
            asked.ready("ppo", spec_of("CartPole-v1"), SMALL, device)
            assert [one.said.pop()[-1] for one in found] == places
    finally:
        asked._links = []
        asked.close()


def test_a_gpu_that_cannot_be_used_is_one_line(gpus, monkeypatch):
    def full(*size, device):
        raise RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`")

    monkeypatch.setattr(torch, "zeros", full)
    with pytest.raises(EnvError, match=r"^the GPU of worker 3 cannot be used: CUDA error: out of memory$"):
        compute.take_gpu(3)


def test_a_gpu_that_cannot_be_used_hinders_no_training_on_the_cpu(gpus, monkeypatch):
    assert compute.gpu() == GPU

    def lost():
        raise RuntimeError("CUDA error: the GPU has fallen off the bus")

    monkeypatch.setattr(torch.cuda, "get_device_name", lost)
    assert compute.gpu() == {}
    assert rendezvous.facts()["gpu"] == {}


OTHER = "use another machine, or begin the training with"


@pytest.mark.parametrize(
    ("own", "there", "precision", "why"),
    [
        (GPU, {}, "fp32", f"torch finds no CUDA device there, and this training uses one: {OTHER} --device cpu"),
        ({}, {}, "fp32", f"torch finds no CUDA device there, and this training uses one: {OTHER} --device cpu"),
        (GPU, OLD, "bf16", f"its GPU has no bfloat16, and this training uses it: {OTHER} --precision fp32"),
        (GPU, OLD, "fp32", ""),
        (OLD, OLD, "bf16", ""),
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
        note = "has another GPU, Tesla T4 instead of NVIDIA H200: all wait for the slower one"
        told = why or (note if own != there else "")
        if told:
            until(lambda: any(told in text for text in said), 5.0)
        else:
            line.close()
            until(lambda: any("is gone" in text for text in said), 5.0)
            assert not any("GPU" in text for text in said)


def test_workers_on_a_gpu_may_be_processes_of_several_machines(gpus):
    chosen = compute.choose("auto", nodes=2, num_envs=SMALL.num_envs)
    assert (chosen.device, chosen.precision, chosen.workers) == ("cuda", "bf16", 2)
    assert prepare.workers_as("auto", "ppo", SMALL, chosen, 2) == "processes"
    assert prepare.workers_as("processes", "ppo", SMALL, chosen) == "processes"
    assert prepare.workers_as("auto", "ppo", SMALL, chosen) == "threads"
    for kept, nodes, now in (("auto", 1, "threads"), ("processes", 1, "processes"), ("auto", 2, "processes")):
        info = {"after": {"workers_as": kept}}
        assert prepare.remembered_workers(info, "ppo", SMALL, chosen, nodes) == now


def test_a_machine_of_a_training_on_gpus_takes_a_node_of_another_host_that_has_one():
    here = {"id": "0", "host": socket.gethostname(), "cpus": 8, "gpus": 1}
    a, b = {"id": "1", "host": "a", "cpus": 8}, {"id": "2", "host": "b", "cpus": 8, "gpus": 2, "taken": [1, 1]}
    c = {"id": "3", "host": "c", "cpus": 8, "gpus": 1}
    assert [one["host"] for one in together.places([c, here, a, b], 2, 1, True)] == ["b", "c"]
    less = "lower --nodes, or begin the training with --device cpu"
    for nodes, count, cores, why in (
        (
            [here, a, b, c],
            3,
            1,
            f"the cluster has room for 2 machines of 1 core and a GPU beside this one: .* {less}",
        ),
        (
            [b, c],
            2,
            8,
            r"there is room for 1 .* others use cores or GPUs \(1 of 8 on b, 1 of 2 GPUs on b\): try again",
        ),
        (
            [{**b, "taken": [0, 2]}],
            1,
            8,
            r"for others use cores or GPUs \(2 of 2 GPUs on b\): .* nodes, lower --nodes",
        ),
        (
            [here, a],
            1,
            1,
            "the cluster has room for 0 machines of 1 core and a GPU beside this one: add nodes, lower",
        ),
    ):
        with pytest.raises(UsageError, match=why):
            together.places(nodes, count, cores, True)


@pytest.mark.parametrize("resume", [False, True])
def test_train_asks_for_gpus_where_the_training_computes_on_one(resume, gpus, monkeypatch, tmp_path):
    asked = []

    def gathered(*what):
        asked.append(what)
        raise UsageError("that was asked")

    monkeypatch.chdir(tmp_path)
    words = "breakout --nodes 2 --workers 4 --on ray --run b"
    if resume:
        monkeypatch.setattr(train, "check_resume", lambda **options: (Compute("cuda", "bf16", 4), True))
        monkeypatch.setattr("playfield.cli.train.run_to_resume", lambda path: path)
        words = "--resume b --nodes 2 --on ray"
    monkeypatch.setattr(together, "gathered", gathered)
    monkeypatch.setattr(together.ray_link, "require_ray", lambda: None)
    for name in ("PLAYFIELD_TOKEN", "PLAYFIELD_TOKEN_FILE", "RAY_ADDRESS"):
        monkeypatch.setenv(name, "")  # what the command sets is taken back
    assert main(["train", *words.split()]) == 2
    assert [(count, cores, gpu) for _, _, count, cores, _, gpu in asked] == [(1, 2, True)]


def test_a_ray_task_of_a_training_on_gpus_asks_for_as_many_as_it_has_workers(monkeypatch):
    from test_nodes_on_ray import Pretended

    asked = []
    monkeypatch.setattr(Pretended, "submit", lambda self, *what: asked.append(what) or 1)
    monkeypatch.setattr(together.ray_link, "RayLink", Pretended)
    monkeypatch.setenv("PLAYFIELD_TOKEN", SECRET)
    monkeypatch.setattr(together, "places", lambda *a: [{"id": "n", "host": "h", "gpus": 4, "taken": [0, 2]}])
    for workers, computing, takes in ((3, True, 2), (1, True, 1), (3, False, 0)):
        with together.gathered("local", None, 1, workers, lambda _: None, computing):
            pass
        ((do, node, text, cores, gpus),) = asked
        assert (do, node, cores, gpus) == ("join", "n", workers, takes)
        assert json.loads(text)["words"][:2] == ["train", "--join"]
        asked.clear()


def test_where_there_is_no_cuda_device_a_training_says_so_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLAYFIELD_TOKEN", SECRET)
    monkeypatch.setattr(compute, "has_cuda", lambda: False)
    words = "train breakout --nodes 2 --rendezvous 127.0.0.1:29500 --device cuda --run r"
    assert main(words.split()) == 2
    assert "--device cuda: torch finds no CUDA device here; use --device cpu" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
