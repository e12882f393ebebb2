"""Acting by the target network in parallel with learning: which network acts, what is stored when, and no race."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest

from playfield.algos import dqn
from playfield.algos._actor import Actor, Target
from playfield.errors import DivergedError
from playfield.nets.learner import Team
from playfield.replay.buffer import Replay
from playfield.training.prepare import need_of
from ppo_runs import named, run_for
from test_dqn import SMALL
from test_dqn_runs import BREAKOUT
from test_ppo_learning import Identity

pytestmark = pytest.mark.usefixtures("one_thread")

CONCURRENT = dataclasses.replace(SMALL, concurrent=True)
ATARI = dataclasses.replace(BREAKOUT, concurrent=True, noisy=True)


def players() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("worker-")]


def test_a_team_in_the_background_works_while_its_caller_does() -> None:
    team, gate = Team(1, background=True), threading.Event()
    team.start(lambda k: gate.wait(10))
    gate.set()  # the caller goes on, or this is never reached
    assert team.wait() == [True]
    assert team.run(lambda k: threading.current_thread().name) == ["worker-0"]
    with pytest.raises(ZeroDivisionError):
        team.run(lambda k: 1 // k)
    team.close()
    with pytest.raises(RuntimeError, match="closed"):
        team.start(lambda k: None)


@pytest.mark.parametrize(
    ("env", "cfg", "workers", "fmt", "rounds"),
    [
        ("CartPole-v1", CONCURRENT, 1, "fp32", 80),
        ("CartPole-v1", dataclasses.replace(CONCURRENT, alpha=0.6, n_step=3, noisy=True), 1, "fp32", 80),
        ("breakout", ATARI, 2, "bf16", 16),
    ],
)
def test_threads_at_once_end_as_one_after_the_other(env, cfg, workers, fmt, rounds, monkeypatch) -> None:
    """The same run twice: as it is, and with all playing done before learning begins."""
    start, wait, hashes = Team.start, Team.wait, []

    def finished(self: Team, fn) -> None:
        start(self, fn)
        self.found = wait(self)

    for at_once in (True, False):
        if not at_once:
            monkeypatch.setattr(Team, "start", finished)
            monkeypatch.setattr(Team, "wait", lambda self: self.found)
        run = named(env, cfg, rounds * cfg.batch, workers=workers, fmt=fmt)
        dqn.train(run, cfg)
        assert run.updates > 0
        hashes.append(run.final_hash())
        run.close()
    assert hashes[0] == hashes[1]


def test_the_target_network_acts_and_the_memory_waits(monkeypatch) -> None:
    """Every action is by the target network; while it plays, the memory stays as the learner samples from it."""
    acted, sizes, targets = [], [], []
    collect, make, sample = Actor.collect, Target.__init__, Replay.sample

    def made(self, net) -> None:
        make(self, net)
        targets.append(self.net)

    def collected(self, act, *rest, stage) -> None:
        before = int(self.replay.count.sum())
        collect(self, act, *rest, stage=stage)
        acted.append((act.args[1], stage, int(self.replay.count.sum()) - before))

    def sampled(self, batch, beta=1.0):
        sizes.append(int(self.count.sum()))
        return sample(self, batch, beta)

    monkeypatch.setattr(Target, "__init__", made)
    monkeypatch.setattr(Actor, "collect", collected)
    monkeypatch.setattr(Replay, "sample", sampled)
    run = run_for(Identity(1).spec, Identity, CONCURRENT, 30 * CONCURRENT.batch)
    dqn.train(run, CONCURRENT)
    count, entries = len(run._parts["actor-0"].replay.count), run._parts["actor-0"].replay.count
    run.close()
    assert all(net is targets[0] for net, _, _ in acted)
    random = 256 // CONCURRENT.batch
    assert [stage for _, stage, _ in acted] == [False] * random + [True] * (30 - random)
    assert all(added == 0 for _, stage, added in acted if stage)
    assert sizes == [256 + r * CONCURRENT.batch for r in range(30 - random)]
    np.testing.assert_array_equal(entries, np.full(count, 30 * CONCURRENT.batch // 8))


def test_a_serial_run_acts_by_the_learning_network(monkeypatch) -> None:
    targets, acted = [], []
    act, make = dqn.act, Target.__init__
    monkeypatch.setattr(Target, "__init__", lambda self, net: (make(self, net), targets.append(self.net))[0])
    monkeypatch.setattr(dqn, "act", lambda actor, net, *rest: (acted.append(net), act(actor, net, *rest))[1])
    run = run_for(Identity(1).spec, Identity, SMALL, 20 * SMALL.batch)
    dqn.train(run, SMALL)
    run.close()
    assert acted
    assert not any(net is targets[0] for net in acted)


@pytest.mark.parametrize("workers", [1, 2])
def test_learns_and_leaves_no_thread(workers: int) -> None:
    before = len(players())
    cfg = dataclasses.replace(CONCURRENT, epsilon_end=0.0, epsilon_share=0.5)
    run = run_for(Identity(1).spec, Identity, cfg, 200 * cfg.batch, workers=workers)
    dqn.train(run, cfg)
    assert np.mean([score for _, score in run.history[-48:]]) / 8 > 0.95
    run.close()
    assert len(players()) == before


@pytest.mark.parametrize("where", ["playing", "learning"])
def test_an_error_in_either_thread_ends_the_run(where: str, monkeypatch) -> None:
    before, rounds, collect = len(players()), [], Actor.collect

    def fails(self, *args, **kwargs) -> None:
        rounds.append(1)
        if len(rounds) == 20:
            raise DivergedError("a value is not finite")
        collect(self, *args, **kwargs)

    if where == "playing":
        monkeypatch.setattr(Actor, "collect", fails)
    cfg = dataclasses.replace(CONCURRENT, lr=1e38 if where == "learning" else 1e-3)
    run = run_for(Identity(1).spec, Identity, cfg, 100 * cfg.batch)
    with pytest.raises(DivergedError):
        dqn.train(run, cfg)
    run.close()
    assert len(players()) == before


def test_a_round_that_waits_counts_as_memory(tmp_path) -> None:
    spec = named("breakout", BREAKOUT, 64).spec
    need = [need_of(dataclasses.replace(BREAKOUT, concurrent=c), spec, tmp_path).memory for c in (False, True)]
    assert need[1] - need[0] == 3 * BREAKOUT.batch * 84 * 84 * 4
