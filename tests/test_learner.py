"""The team of workers and its updates, against plain torch with torch.optim.Adam and clip_grad_norm_."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from playfield.algos._actor_critic import ActorCritic
from playfield.compute import Compute
from playfield.envs.base import EnvSpec
from playfield.errors import DivergedError
from playfield.nets import bodies
from playfield.nets.learner import Learner, Team
from playfield.runs import checkpoint

BATCH = 24


def spec(shape: tuple[int, ...]) -> EnvSpec:
    dtype = "uint8" if len(shape) == 3 else "float32"
    return EnvSpec("toy", "gymnasium", shape, dtype, 3, ("a", "b", "c"), {})


def make_net(pixels: bool, seed: int = 0) -> ActorCritic:
    torch.manual_seed(seed)
    if pixels:
        return ActorCritic(spec((36, 44, 2)), "nips", shared=True)
    return ActorCritic(spec((5,)), "mlp", shared=False)


def data(pixels: bool, step: int) -> tuple[Tensor, Tensor, Tensor]:
    random = np.random.default_rng([step, 9])
    if pixels:
        obs = torch.from_numpy(random.integers(0, 256, (BATCH, 36, 44, 2), np.uint8))
    else:
        obs = torch.from_numpy(random.normal(size=(BATCH, 5)).astype(np.float32))
    actions = torch.from_numpy(random.integers(0, 3, BATCH))
    return obs, actions, torch.from_numpy(random.normal(size=BATCH).astype(np.float32) * 3)


def objective(net: nn.Module, obs: Tensor, actions: Tensor, targets: Tensor) -> Tensor:
    logits, values = net(obs)
    chosen = torch.log_softmax(logits, -1).gather(1, actions[:, None]).squeeze(1)
    return ((values - targets).square() - chosen * targets).sum() / BATCH


def fused_adam(params: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.Adam(params, 1.0, eps=1e-5, fused=True)


def learner_for(pixels: bool, workers: int, precision: str = "fp32", norm: float = 0.5) -> Learner:
    return Learner(make_net(pixels), fused_adam, Compute("cpu", precision, workers), norm)


def step_of(learner: Learner, pixels: bool, step: int, lr: float = 1e-3) -> float:
    """One update, its batch cut into equal shares."""
    batch = data(pixels, step)
    share = BATCH // learner.compute.workers

    def loss(k: int, net: nn.Module) -> tuple[Tensor, int]:
        return objective(net, *(part[k * share : (k + 1) * share] for part in batch)), k

    extras, norm = learner.update(loss, lr)
    assert extras == list(range(learner.compute.workers))
    return norm


def weights(learner: Learner) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in learner.net.named_parameters()}


def difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max((a[name].detach().double() - b[name].detach().double()).abs().max().item() for name in a)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("norm", [0.0, 0.5, 1e9])
def test_one_worker_equals_plain_torch(pixels, norm):
    learner = learner_for(pixels, 1, norm=norm)
    net = make_net(pixels)
    optimizer = torch.optim.Adam(net.parameters(), eps=1e-5)
    for step in range(6):
        lr = 1e-3 * (1 - step / 10)
        found = step_of(learner, pixels, step, lr)
        optimizer.zero_grad()
        objective(net, *data(pixels, step)).backward()
        expected = nn.utils.clip_grad_norm_(net.parameters(), norm or float("inf"))
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        assert found == pytest.approx(expected.item(), rel=1e-3)
        # Adam's steps are about lr = 1e-3 each, whatever the gradient: 2e-5 is 2 % of one of them.
        assert difference(weights(learner), dict(net.named_parameters())) < 2e-5
    assert difference(weights(learner), dict(make_net(pixels).named_parameters())) > 2e-3  # it did learn
    learner.team.close()


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("workers", [2, 4])
def test_more_workers_equal_one_but_for_rounding(pixels, workers):
    one, many = learner_for(pixels, 1), learner_for(pixels, workers)
    for step in range(5):
        a, b = step_of(one, pixels, step), step_of(many, pixels, step)
        assert a == pytest.approx(b, rel=1e-3)
        assert difference(weights(one), weights(many)) < 2e-5
    many.team.close()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_repeats_are_equal_bit_for_bit(precision, workers):
    runs = []
    for _ in range(2):
        learner = learner_for(True, workers, precision)
        norms = [step_of(learner, True, step) for step in range(4)]
        runs.append((norms, checkpoint.tree_hash(learner.state())))
        learner.team.close()
    assert runs[0] == runs[1]


@pytest.mark.parametrize("workers", [1, 3])
def test_bf16_replicas_follow_the_float32_master(workers):
    learner = learner_for(True, workers, "bf16")
    start = weights(learner)
    for step in range(4):
        step_of(learner, True, step)
        master = weights(learner)
        for replica in learner.replicas:
            own = dict(replica.named_parameters())
            for name, p in master.items():
                kind = torch.bfloat16 if name.startswith("body.") else torch.float32
                assert p.dtype == torch.float32
                assert own[name].dtype == kind
                assert (own[name] == p.to(kind)).all()
                assert own[name].stride() == p.stride()
    moved = {name: (master[name] != start[name]).any() for name in master}
    assert all(moved.values()), moved  # no parameter is left behind
    learner.team.close()


def test_bf16_updates_are_near_the_float32_ones():
    """Same batch, same weights: the gradient's direction is right, whatever slices the workers own."""
    a, b = learner_for(True, 1), learner_for(True, 2, "bf16")
    start = weights(a)
    step_of(a, True, 0), step_of(b, True, 0)
    va = torch.cat([(weights(a)[n] - start[n]).flatten() for n in start])
    vb = torch.cat([(weights(b)[n] - start[n]).flatten() for n in start])
    assert torch.cosine_similarity(va, vb, dim=0) > 0.9
    grad_a, grad_b = a.flat.grad, b.flat.grad
    assert torch.cosine_similarity(grad_a, grad_b, dim=0) > 0.99
    b.team.close()


def test_small_steps_are_not_lost_in_bfloat16():
    """Steps of 1e-5 add up in float32; on a bfloat16 weight of about 1 none would count."""
    learner = learner_for(True, 1, "bf16")
    start = weights(learner)
    for _ in range(30):
        step_of(learner, True, 0, lr=1e-5)
    gains = "body.6.weight"  # LayerNorm's, which start at 1
    assert (learner.net.get_parameter(gains) - start[gains]).abs().max() > 1e-4


def test_the_master_shares_memory_with_fp32_replicas():
    learner = learner_for(False, 2)
    for replica in learner.replicas:
        for name, p in learner.net.named_parameters():
            assert replica.get_parameter(name).data_ptr() == p.data_ptr()
    learner.team.close()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_restored_state_goes_on_bit_for_bit(tmp_path, workers, precision):
    a = learner_for(True, workers, precision)
    for step in range(3):
        step_of(a, True, step)
    checkpoint.save(tmp_path, 3, {"learner": a.state()}, {})
    b = Learner(make_net(True, seed=77), fused_adam, a.compute, 0.5)
    assert checkpoint.tree_hash(a.state()) != checkpoint.tree_hash(b.state())
    b.restore(checkpoint.load(tmp_path).tree["learner"])
    assert checkpoint.tree_hash(a.state()) == checkpoint.tree_hash(b.state())
    for step in range(3, 6):
        assert step_of(a, True, step) == step_of(b, True, step)
    assert checkpoint.tree_hash(a.state()) == checkpoint.tree_hash(b.state())
    a.team.close(), b.team.close()


def test_state_is_a_copy_and_restore_goes_back():
    learner = learner_for(False, 2)
    step_of(learner, False, 0)
    state = learner.state()
    digest = checkpoint.tree_hash(state)
    first = [step_of(learner, False, step) for step in (1, 2)]
    assert checkpoint.tree_hash(state) == digest
    learner.restore(state)
    assert [step_of(learner, False, step) for step in (1, 2)] == first
    learner.team.close()


def test_state_moves_between_worker_numbers_and_formats():
    """Not the same bits afterwards, but the same weights and moments."""
    a = learner_for(True, 1, "bf16")
    step_of(a, True, 0)
    b = learner_for(True, 3, "fp32")
    b.restore(a.state())
    assert checkpoint.tree_hash(a.state()) == checkpoint.tree_hash(b.state())
    b.team.close()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_bad_gradient_leaves_everything_as_it_was(bad, workers, precision):
    learner = learner_for(True, workers, precision)
    step_of(learner, True, 0)
    before = checkpoint.tree_hash(learner.state())
    obs, actions, targets = data(True, 1)

    def loss(k: int, net: nn.Module) -> tuple[Tensor, None]:
        value = objective(net, obs, actions, targets)
        return (value * bad if k == workers - 1 else value), None

    with pytest.raises(DivergedError, match="learning rate"):
        learner.update(loss, 1e-3)
    assert checkpoint.tree_hash(learner.state()) == before
    assert learner.weights_finite()
    other = learner_for(True, workers, precision)
    step_of(other, True, 0)
    assert step_of(learner, True, 1) == step_of(other, True, 1)  # nothing of the bad gradient stays
    assert checkpoint.tree_hash(learner.state()) == checkpoint.tree_hash(other.state())
    learner.team.close(), other.team.close()


def test_an_error_in_one_worker_is_raised_and_the_team_goes_on():
    learner = learner_for(False, 3)
    before = checkpoint.tree_hash(learner.state())

    def loss(k: int, net: nn.Module) -> tuple[Tensor, None]:
        if k == 1:
            raise ZeroDivisionError("worker one")
        return objective(net, *data(False, 0)), None

    with pytest.raises(ZeroDivisionError, match="worker one"):
        learner.update(loss, 1e-3)
    assert checkpoint.tree_hash(learner.state()) == before
    fresh = learner_for(False, 3)
    assert step_of(learner, False, 0) == step_of(fresh, False, 0)
    learner.team.close(), fresh.team.close()


def test_weights_finite():
    learner = learner_for(False, 1)
    assert learner.weights_finite()
    with torch.no_grad():
        next(learner.net.parameters()).view(-1)[3] = float("nan")
    assert not learner.weights_finite()


@pytest.mark.parametrize("size", [1, 2, 5])
def test_team_runs_each_number_once_and_in_order(size):
    team = Team(size)
    assert [team.run(lambda k: k * k) for _ in range(3)] == [[k * k for k in range(size)]] * 3
    team.close()


def test_a_team_of_one_leaves_the_callers_threads_as_they_were():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        team = Team(1)
        assert team.run(lambda k: torch.get_num_threads()) == [1], "like any worker"
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_team_works_at_once_and_raises_the_first_workers_error():
    team = Team(3)
    barrier = threading.Barrier(3, timeout=10)  # passes only if three threads are in it at the same time
    team.run(lambda k: barrier.wait())
    finished = []

    def fail(k: int) -> None:
        finished.append(k)
        if k:
            raise ValueError(f"worker {k}")

    with pytest.raises(ValueError, match="worker 1"):
        team.run(fail)
    assert sorted(finished) == [0, 1, 2]
    assert team.run(lambda k: k) == [0, 1, 2]
    team.close()


def test_close_ends_the_threads():
    before = threading.active_count()
    team = Team(4)
    assert threading.active_count() == before + 4
    team.close()
    assert threading.active_count() == before
    team.close()  # once more does no harm


def test_a_closed_team_says_so():
    team = Team(2)
    team.close()
    with pytest.raises(RuntimeError, match="closed"):
        team.run(lambda k: k)


def test_a_net_keeps_its_values_and_its_names():
    net = make_net(True)
    start = {name: p.detach().clone() for name, p in net.named_parameters()}
    learner = Learner(copy.deepcopy(net), fused_adam, Compute("cpu", "bf16", 2), 0.5)
    assert set(learner.state()["weights"]) == set(start)
    assert difference(learner.state()["weights"], start) == 0
    assert isinstance(learner.net.body, bodies.Body)
    learner.team.close()
