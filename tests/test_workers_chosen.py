"""How many workers a training has by default, and of which kind: what is predicted from what was measured."""

from __future__ import annotations

import json
import os

import pytest

import playfield
from playfield import compute
from playfield.compute import Compute, best_kind, best_workers, predicted_ms
from playfield.envs import make_envs
from playfield.runs import algorithm
from playfield.training import prepare, processes
from playfield.training.request import Request

posix = pytest.mark.skipif(os.name != "posix", reason="workers are threads only")


def usual(cores, num_envs, nodes=1):
    """As many as cores, as far as they divide the environments: what playfield has always done on few cores."""
    most = max(nodes, min(nodes * cores, num_envs))
    return max((n for n in range(nodes, most + 1, nodes) if num_envs % n == 0), default=nodes)


@pytest.fixture
def machine(monkeypatch):
    """Sets the cores and the free bytes of this machine, which then has no CUDA device."""

    def setter(cores, free=64e9):
        monkeypatch.setattr(compute, "cores", lambda: cores)
        monkeypatch.setattr(compute, "free_memory", lambda: int(free))
        monkeypatch.setattr(compute, "has_cuda", lambda: False)

    return setter


def test_the_prediction_follows_from_what_was_measured():
    assert predicted_ms(1, "threads", 1) == predicted_ms(1, "processes", 8) == 1285
    threads, apart = 18_720 / 284, 38_845 / 284  # ms a worker more: sum of (n - 1) * (ms - 1285) over (n - 1) ** 2
    assert predicted_ms(8, "threads", 8) == pytest.approx((1285 + 7 * threads) / 8)
    assert predicted_ms(8, "processes", 8) == pytest.approx((1285 + 7 * apart) / 8)
    assert predicted_ms(16, "processes", 16) == pytest.approx((1285 + 15 * apart) / 16)
    assert predicted_ms(16, "threads", 16) == pytest.approx(135 + 8 * 85 / 6)  # for so long they hold the lock
    assert predicted_ms(4, "threads", 3) == pytest.approx(2 * (1285 + 3 * threads) / 4)  # in two turns


@pytest.mark.parametrize("apart", [False, True])
def test_no_other_divisor_is_predicted_to_be_faster(apart):
    def ms(n, cores):
        return predicted_ms(n, best_kind(n, cores) if apart else "threads", cores)

    for cores in range(1, 65):
        for num_envs in range(1, 129):
            found = best_workers(cores, num_envs, apart)
            others = [n for n in range(1, cores + 1) if num_envs % n == 0]
            assert found in others
            assert all(ms(found, cores) <= ms(n, cores) for n in others), (cores, num_envs)


@pytest.mark.parametrize("apart", [False, True])
def test_up_to_ten_cores_all_are_used_as_ever_and_on_several_machines_too(apart):
    for num_envs in range(1, 257):
        for cores in range(1, 11):
            assert best_workers(cores, num_envs, apart) == usual(cores, num_envs)
        for cores in (1, 2, 8, 16, 64):
            for nodes in (2, 3):
                assert best_workers(nodes * cores, num_envs, apart, nodes) == usual(cores, num_envs, nodes)


def test_processes_are_chosen_only_where_many_cores_make_them_clearly_faster():
    assert {best_kind(n, cores) for cores in range(1, 11) for n in range(1, 1025)} == {"threads"}
    assert [best_kind(n, n) for n in (12, 14, 15, 16, 32, 64)] == ["threads"] * 3 + ["processes"] * 3
    assert best_kind(16, 15) == "threads"  # they would take turns
    assert [best_workers(16, 16, apart) for apart in (False, True)] == [8, 16]


def test_fewer_workers_than_cores_are_explained(machine):
    machine(16)
    why = "more workers are predicted to be slower, see docs/design/workers.md"
    few, all_of_them = (compute.choose("cpu", "fp32", num_envs=16, processes=apart) for apart in (False, True))
    assert (few.workers, few.note) == (8, why)
    assert (all_of_them.workers, all_of_them.note) == (16, "")
    assert compute.choose("cpu", "fp32", num_envs=8) == Compute("cpu", "fp32", 8)
    assert compute.choose("cpu", "fp32", workers=16, num_envs=16).note == ""


CHOSEN = [
    ({}, 16, "processes"),
    ({"workers_as": "threads"}, 16, "threads"),  # the number, which decides bits, does not depend on what was asked
    ({"workers": 8}, 8, "threads"),
    ({"algo": "dqn", "config": {"num_envs": 16}}, 8, "threads"),
    ({"env": "CartPole-v1", "workers": 16, "config": {"num_envs": 16}}, 16, "threads"),
]


@pytest.mark.parametrize(("asked", "workers", "kind"), CHOSEN)
@posix
def test_what_is_trained_on_sixteen_cores(asked, workers, kind, machine):
    machine(16)
    ready = prepare.prepare(Request(**{"env": "breakout", "device": "cpu", **asked}))
    assert (ready.compute.workers, ready.workers_as) == (workers, kind)
    machine(2)
    pinned = prepare.prepare(Request(**{"env": "breakout", "device": "cpu", **asked, "workers": workers}))
    assert pinned.workers_as == "threads"


@posix
def test_processes_that_do_not_fit_are_threads_unless_they_were_asked_for(machine):
    need = 15 * prepare.PROCESS_BYTES
    machine(16, free=need)
    ready = prepare.prepare(Request("breakout", device="cpu"))
    assert (ready.compute.workers, ready.workers_as) == (16, "threads")
    assert ready.need.memory < need
    with pytest.raises(prepare.UsageError, match="15 worker processes more needs"):
        prepare.prepare(Request("breakout", device="cpu", workers_as="processes"))


@posix
def test_a_run_goes_on_as_is_best_here_unless_it_was_told_what_workers_are(machine, tmp_path):
    env = make_envs("breakout", 1)
    env.close()
    cfg, chosen = algorithm.load("ppo").Config(num_envs=16), Compute("cpu", "fp32", 16)

    def kind(cores, after):
        machine(cores)
        return prepare.remembered_workers({"algo": "ppo", "after": after}, cfg, env.spec, chosen, tmp_path)

    assert [kind(cores, {"workers_as": "auto"}) for cores in (2, 16)] == ["threads", "processes"]
    assert [kind(cores, {}) for cores in (2, 16)] == ["threads", "processes"]
    assert kind(16, {"workers_as": "threads"}) == "threads"
    assert kind(2, {"workers_as": "processes"}) == "processes"


@posix
@pytest.mark.usefixtures("one_thread")
def test_what_auto_chose_is_trained_and_decides_no_bits(tmp_path, monkeypatch):
    ends = []
    for kind in ("threads", "processes"):
        monkeypatch.setattr(compute, "best_kind", lambda _workers, _cores, kind=kind: kind)
        said: list[str] = []
        run = tmp_path / kind
        quiet = {"games": 0, "film": False, "console": False, "tensorboard": False, "device": "cpu"}
        small = {"num_envs": 2, "rollout_steps": 8, "minibatches": 1}
        result = playfield.train("breakout", steps=32, workers=2, run=run, say=said.append, config=small, **quiet)
        assert any("2 workers as processes: " in line for line in said) == (kind == "processes")
        assert any("2 workers, processes" in line for line in said) == (kind == "processes")
        assert json.loads((run / "run.json").read_text())["after"]["workers_as"] == "auto"
        ends.append(result.hash)
    assert ends[0] == ends[1]


def test_it_is_said_why_workers_are_processes(machine):
    machine(16)
    said: list[str] = []
    for asked, how in (("auto", "processes"), ("auto", "threads"), ("processes", "processes")):
        processes.tell_kind(asked, how, Compute("cpu", "fp32", 16), said.append)
    assert said == [
        "16 workers as processes: 1.2 times as fast as threads, which wait for the interpreter's lock; predicted, "
        "see docs/design/workers.md"
    ]
