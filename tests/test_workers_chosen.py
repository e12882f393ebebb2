"""How many workers a training has by default: what is predicted from what was measured."""

from __future__ import annotations

import itertools

import pytest

from playfield import compute
from playfield.compute import Compute, best_workers, predicted_ms
from playfield.training import prepare
from playfield.training.request import Request


def usual(cores, num_envs, nodes=1):
    """As many as cores, as far as they divide the environments: what playfield has always done on few cores."""
    most = max(nodes, min(nodes * cores, num_envs))
    return max((n for n in range(nodes, most + 1, nodes) if num_envs % n == 0), default=nodes)


@pytest.fixture
def machine(monkeypatch):
    """Sets the cores of this machine, which then has much memory and no CUDA device."""

    def setter(cores):
        monkeypatch.setattr(compute, "cores", lambda: cores)
        monkeypatch.setattr(compute, "free_memory", lambda: int(64e9))
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
    slower = (1 * 745 + 3 * 1551 + 7 * 3280 + 15 * 6692) / 284
    assert predicted_ms(16, "threads", 16, "fp32") == pytest.approx((5615 + 15 * slower) / 16)  # longer than the lock


def test_no_other_divisor_is_predicted_to_be_faster():
    for cores, num_envs in itertools.product(range(1, 65), range(1, 129)):
        others = [n for n in range(1, cores + 1) if num_envs % n == 0]
        for precision in ("bf16", "fp32"):
            predicted = {n: predicted_ms(n, "threads", cores, precision) for n in others}
            assert predicted[best_workers(cores, num_envs, precision=precision)] == min(predicted.values())


def test_up_to_ten_cores_all_are_used_as_ever_and_on_several_machines_too():
    for num_envs in range(1, 257):
        for cores in range(1, 11):
            assert best_workers(cores, num_envs) == usual(cores, num_envs)
            assert best_workers(cores, num_envs, precision="fp32") == usual(cores, num_envs)
        for cores in (1, 2, 8, 16, 64):
            for nodes in (2, 3):
                assert best_workers(nodes * cores, num_envs, nodes) == usual(cores, num_envs, nodes)


def test_fewer_workers_than_cores_are_explained(machine):
    machine(16)
    few = compute.choose("cpu", "bf16", num_envs=16)
    assert (few.workers, few.note) == (8, "more workers are predicted to be slower, see docs/design/workers.md")
    assert compute.choose("cpu", "fp32", num_envs=16) == Compute("cpu", "fp32", 16)
    assert compute.choose("cpu", "fp32", num_envs=8) == Compute("cpu", "fp32", 8)
    assert compute.choose("cpu", "fp32", workers=16, num_envs=16).note == ""


def test_more_workers_than_cores_are_told(machine):
    machine(4)
    assert compute.choose("cpu", "fp32", workers=4, num_envs=16).note == ""
    assert compute.choose("cpu", "fp32", workers=8, num_envs=16).note == "more workers than cores: they take turns"
    assert compute.choose("cpu", "fp32", workers=8, num_envs=16, nodes=2).note == ""  # four on each machine
    with compute.elsewhere():
        assert compute.choose("cpu", "fp32", workers=8, num_envs=16).note == ""


@pytest.mark.parametrize("asked", [{}, {"algo": "dqn", "config": {"num_envs": 16}}, {"workers_as": "processes"}])
def test_the_number_on_sixteen_cores_does_not_depend_on_what_workers_are(asked, machine):
    machine(16)
    ready = prepare.prepare(Request(**{"env": "breakout", "device": "cpu", "precision": "bf16", **asked}))
    assert (ready.compute.workers, ready.workers_as) == (8, asked.get("workers_as", "threads"))
