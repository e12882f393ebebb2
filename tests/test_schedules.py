"""Schedules as values of options: their values, what is refused, and that they reach what they name."""

from __future__ import annotations

import dataclasses
import importlib
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import playfield
from playfield.algos import a2c, c51, dqn, hlgauss, mrp, ppo, pqn, qrdqn, rainbow, sarsa
from playfield.cli import main
from playfield.errors import UsageError
from playfield.linear import online
from playfield.linear.many import experiment
from playfield.options import FORMS, Schedule
from playfield.runs import algorithm, catalog
from playfield.training.request import sort_options
from ppo_runs import SMALL as PPO
from ppo_runs import named, run_for
from test_passed_on import LINEAR, ROUNDS, rates
from test_ppo_learning import Identity

pytestmark = pytest.mark.usefixtures("one_thread")


# Values and text -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("const:1e-3", [1e-3] * 5),
        ("linear:6e-4..2e-4", [6e-4, 5e-4, 4e-4, 3e-4, 2e-4]),
        ("linear:0..1", [0, 0.25, 0.5, 0.75, 1]),
        ("exp:1e-2..1e-4", [10 ** -(2 + 2 * f) for f in (0, 0.25, 0.5, 0.75, 1)]),
        ("exp:1e-2,rate=0.01", [10 ** -(2 + 2 * f) for f in (0, 0.25, 0.5, 0.75, 1)]),
        ("cosine:1..0", [(1 + math.cos(math.pi * f)) / 2 for f in (0, 0.25, 0.5, 0.75, 1)]),
        ("cosine:0.2..0.6", [0.2, 0.4 - 0.2 * math.sqrt(0.5), 0.4, 0.4 + 0.2 * math.sqrt(0.5), 0.6]),
        ("steps:0=6e-4,0.5=3e-4,1=1e-4", [6e-4, 6e-4, 3e-4, 3e-4, 1e-4]),
        ("piecewise:0=1,0.5=0.5,0.75=0.1", [1, 0.75, 0.5, 0.1, 0.1]),
    ],
)
def test_the_value_at_each_quarter(text: str, expected: list[float]) -> None:
    schedule = Schedule.parse(text)
    assert [schedule.at(f) for f in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx(expected, rel=1e-14, abs=0)
    assert (schedule.at(-1), schedule.at(2)) == (schedule.at(0), schedule.at(1))
    assert schedule.at(1) == expected[-1] or "rate" in text, "the last value exactly"
    assert schedule.at(0) == expected[0], "and the first"


def test_an_exponential_per_steps_does_not_depend_on_the_total() -> None:
    schedule = Schedule.parse("exp:1e-3,rate=0.5,per=1M")
    assert [schedule.at(f, 2_000_000) for f in (0.2, 0.9)] == [2.5e-4, 2.5e-4]
    assert schedule.at(0.5, 500_000) == pytest.approx(1e-3 / math.sqrt(2), rel=1e-14)


VALUES = st.floats(0, 1e38)
ABOVE = st.floats(1e-300, 1e38)
FRACTIONS = st.lists(st.floats(1e-9, 1), min_size=1, max_size=5, unique=True).map(lambda xs: (0.0, *sorted(xs)))


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    kind = draw(st.sampled_from([*FORMS, "rate", "per"]))
    if kind == "const":
        return Schedule(kind, ((0.0, draw(VALUES)),))
    if kind in ("rate", "per"):
        rate, per = draw(st.floats(1e-9, 1)), draw(st.integers(1, 10**9)) if kind == "per" else 0
        return Schedule("exp", ((0.0, draw(VALUES)),), rate, per)
    if kind in ("steps", "piecewise"):
        return Schedule(kind, tuple((x, draw(VALUES)) for x in draw(FRACTIONS)))
    value = ABOVE if kind == "exp" else VALUES
    return Schedule(kind, ((0.0, draw(value)), (1.0, draw(value))))


@given(schedules(), st.floats(0, 1), st.integers(0, 10**12))
@example(Schedule("linear", ((0.0, 0.3), (1.0, 0.1))), 0.999999999, 0)
def test_its_text_stands_for_it_and_its_values_stay_between_its_points(schedule, fraction, step) -> None:
    assert Schedule.parse(str(schedule)) == schedule
    value = schedule.at(fraction, step)
    assert isinstance(value, float)
    points = [v for _, v in schedule.points]
    low = 0.0 if schedule.kind == "exp" else min(points)
    assert low <= value <= max(points) * (1 + 1e-12)


@pytest.mark.parametrize("text", ["linear:1", "nope:1..2", "", "linear", "0.1", "exp:0..1", "steps:0.1=1"])
def test_other_texts_are_no_schedule(text: str) -> None:
    with pytest.raises(UsageError):
        Schedule.parse(text)


# What is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algo", "words", "told"),
    [
        ("ppo", "--lr linear:1", "--lr linear:1: linear is written linear:A..B"),
        ("ppo", "--lr linear:-1..1", "its start must be at least 0, not -1"),
        ("ppo", "--lr linear:1..nan", "its end takes a finite number, not nan"),
        ("ppo", "--lr linear:1..2..3", "its end takes a number"),
        ("ppo", "--lr lin:1..2", "--lr lin:1..2: no schedule called 'lin': did you mean linear"),
        ("ppo", "--lr cosine", "cosine is written cosine:A..B"),
        ("ppo", "--lr const:1..2", "const is written const:A"),
        ("ppo", "--lr exp:0..1", "exp takes values above 0"),
        ("ppo", "--lr exp:1,rate=0", "its rate must be above 0"),
        ("ppo", "--lr exp:1,rate=2,per=1k", "with per its rate is at most 1"),
        ("ppo", "--lr exp:1,rate=0.1,rate=0.2", "exp is written"),
        ("ppo", "--lr exp:1", "exp is written exp:A..B, exp:A,rate=R or exp:A,rate=R,per=STEPS"),
        ("ppo", "--lr linear:1..0,per=5", "linear is written"),
        ("ppo", "--lr steps:0=1,0.5", "steps is written steps:0=A,0.5=B"),
        ("ppo", "--lr steps:0.1=1", "fractions begin with 0 and ascend"),
        ("ppo", "--lr piecewise:0=1,0.5=2,0.5=3", "fractions begin with 0 and ascend"),
        ("ppo", "--lr piecewise:0=1,2=3", "a fraction must be between 0 and 1, not 2"),
        ("ppo", "--clip linear:0.2..1.5", "its end must be between 0 and 1, not 1.5"),
        ("ppo", "--clip exp:0.5,rate=3", "its end must be between 0 and 1, not 1.5"),
        ("ppo", "--gamma linear:0.9..0.99", "--gamma takes a number, not a schedule such as linear:0.9..0.99"),
        ("ppo", "--epochs linear:1..4", "--epochs takes a number, not a schedule"),
        ("ppo", "--lr linear:1e-3..0 --anneal", "--lr linear:0.001..0 and --anneal exclude each other"),
        ("ppo", "--clip const:0.2 --anneal-clip", "--clip const:0.2 and --anneal-clip exclude each other"),
        ("ppo", "--ent-coef const:0.2 --anneal-ent", "--ent-coef const:0.2 and --anneal-ent exclude each other"),
        ("dqn", "--epsilon 0.1 --epsilon-start 1", "--epsilon 0.1 and --epsilon-start exclude each other"),
        ("dqn", "--epsilon linear:1..0 --epsilon-share 1", "--epsilon linear:1..0 and --epsilon-share exclude"),
        ("pqn", "--epsilon linear:1..0 --epsilon-end 1", "--epsilon linear:1..0 and --epsilon-end exclude"),
        ("dqn", "--epsilon -0.5", "--epsilon takes a number between 0 and 1, or a schedule, not -0.5"),
        ("pqn", "--epsilon exp:1,rate=0.5,per=1k", "per= has no last value, which evaluation needs"),
        ("rainbow", "--epsilon linear:1..0", "--noisy true explores by noise: --epsilon has no meaning"),
        ("sarsa", "--epsilon linear:1..0 --epsilon-decay 0.9", "and --epsilon-decay exclude each other"),
        ("sarsa", "--epsilon linear:1..2", "its end must be between 0 and 1, not 2"),
        ("linear_ac", "--epsilon linear:1..0", "--epsilon is not used by this method"),
        ("td_lambda", "--epsilon linear:1..0", "--epsilon is not used by this method"),
    ],
)
def test_what_is_no_schedule_of_an_option_is_refused_in_one_line(algo, words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "CartPole-v1", "--algo", algo, "--steps", "1k", *words.split()]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.strip().splitlines()) == 1, error
    assert not list(tmp_path.iterdir())


def test_experiments_of_episodes_take_no_schedule() -> None:
    with pytest.raises(UsageError, match="--alpha is a number here"):
        experiment("sarsa", "mountain-car-gym", "tilings", seeds=[1], episodes=1, alpha="linear:0.1..0")


def test_the_switch_of_a_preset_gives_way_to_a_schedule_and_others_stay() -> None:
    assert catalog.agree("ppo", {"lr": "linear:0.001..0"}) == {"lr": "linear:0.001..0", "anneal": False}
    assert catalog.agree("ppo", {"lr": 1e-3}) == {"lr": 1e-3}, "a number is annealed as before"
    assert catalog.agree("ppo", {"clip": "const:0.1", "anneal": True})["anneal_clip"] is False
    assert catalog.agree("dqn", {"epsilon": -1.0, "epsilon_start": 0.5}) == {"epsilon": -1.0, "epsilon_start": 0.5}
    with pytest.raises(UsageError, match="--lr is a schedule: turn --anneal off"):
        ppo.Config(lr="linear:0.001..0").check()


def test_only_these_options_take_schedules() -> None:
    found = {a: {o.name for o in catalog.options(a) if o.quantity} for a in algorithm.own_names()}
    deep, linear = {"lr", "epsilon"}, {"alpha", "epsilon"}
    assert found == {
        "a2c": {"lr", "ent_coef"}, "ppo": {"lr", "clip", "ent_coef"}, "mrp": {"lr"}, "random": set(),
        **dict.fromkeys(("dqn", "c51", "qrdqn", "hlgauss", "rainbow", "pqn"), deep),
        **dict.fromkeys(("sarsa", "sarsa_lambda", "qlearning", "td_lambda"), linear),
        "linear_ac": linear | {"alpha_actor"},
    }  # fmt: skip


@pytest.mark.parametrize("given", ["linear:1e-3..0", Schedule("linear", ((0.0, 1e-3), (1.0, 0.0)))])
def test_python_takes_its_text_or_a_schedule(given, tmp_path: Path) -> None:
    assert sort_options("ppo", {}, {"learning_rate": given})["config"] == {"lr": given}
    short = {"games": 0, "console": False, "tensorboard": False}
    run = tmp_path / "run"
    playfield.train("CartPole-v1", steps=256, run=run, config={"num_envs": 2, "net": "mlp"}, lr=given, **short)
    assert playfield.play.agent.read_info(run)["config"]["lr"] == "linear:0.001..0"
    assert "--lr linear:0.001..0" in (run / "command.txt").read_text()
    for wrong in ("0.001", "linear:-1..0", Schedule("const", ((0.0, -1.0),))):
        with pytest.raises(UsageError):
            playfield.train("CartPole-v1", steps=256, lr=wrong, **short)


# It reaches what it names --------------------------------------------------------------------------------

KINDS = ["linear:1e-3..1e-4", "exp:1e-3,rate=0.1", "exp:1e-3..1e-5", "cosine:1e-3..0", "steps:0=1e-3,0.5=1e-4",
         "piecewise:0=1e-3,0.25=2e-3,1=0", "exp:1e-3,rate=0.5,per=64", "const:2e-3"]  # fmt: skip


def told(text: str, rounds: int, batch: int) -> list[float]:
    return [Schedule.parse(text).at(k / rounds, k * batch) for k in range(rounds)]


@pytest.mark.parametrize("text", KINDS)
def test_ppos_optimizer_has_the_scheduled_learning_rate(text: str) -> None:
    cfg = dataclasses.replace(PPO, lr=text, anneal=False, epochs=1)
    assert rates(ppo, cfg) == told(text, ROUNDS, cfg.batch)


@pytest.mark.parametrize("module", [pqn, dqn, c51, qrdqn, hlgauss, rainbow, mrp, a2c], ids=lambda m: m.__name__[17:])
def test_every_optimizer_has_the_scheduled_learning_rate(module) -> None:
    text = "linear:1e-3..1e-4"
    own = {"num_envs": 8, "net": "mlp", "lr": text, "anneal": False, "clip_reward": False}
    if module in (pqn, a2c):
        own |= {"rollout_steps": 8} | ({"minibatches": 2} if module is pqn else {})
    else:
        own |= {"rollout_steps": 4, "capacity": 2_000, "learning_starts": 64, "batch_size": 32, "train_period": 16}
        own |= {"policy": "random"} if module is mrp else {"packed": False}
    own |= {"n_step": 1} if module is rainbow else {}
    cfg, rounds = module.Config(**own), 8
    seen = rates(module, cfg, rounds)
    first = 0 if module in (pqn, a2c) else 2  # rounds before the first update
    assert seen[first:] == told(text, rounds, cfg.batch)[first:]


def test_ppos_clip_range_and_bonus_are_those_of_the_schedule_and_are_logged(monkeypatch) -> None:
    cfg = dataclasses.replace(PPO, clip="linear:0.3..0.1", ent_coef="exp:0.1..0.001", epochs=1)
    used, loss, rows = [], ppo.ppo_loss, []

    def spied(net, batch, cfg, clip, size, ent_coef):
        used.append((clip, ent_coef))
        return loss(net, batch, cfg, clip, size, ent_coef)

    monkeypatch.setattr(ppo, "ppo_loss", spied)
    run = run_for(Identity(1).spec, Identity, cfg, ROUNDS * cfg.batch)
    run.on_rollout = lambda r: rows.append(r._row())
    ppo.train(run, cfg)
    run.close()
    expected = [told(text, ROUNDS, cfg.batch) for text in (cfg.clip, cfg.ent_coef)]
    np.testing.assert_array_equal(np.array(used).reshape(ROUNDS, -1, 2)[:, 0].T, expected)
    assert [row["train/clip_range"] for row in rows] == expected[0]
    assert [row["train/ent_coef"] for row in rows] == expected[1]
    plain = run_for(Identity(1).spec, Identity, PPO, PPO.batch)
    plain.on_rollout = lambda r: rows.append(r._row())
    ppo.train(plain, PPO)
    plain.close()
    assert "train/ent_coef" not in rows[-1], "runs without a schedule keep their columns"


def test_a2cs_bonus_is_that_of_the_schedule(monkeypatch) -> None:
    cfg = a2c.Config(num_envs=4, net="mlp", ent_coef="linear:0.2..0", anneal=False)
    used, loss = [], a2c.a2c_loss

    def spied(net, batch, cfg, size, ent_coef):
        plain, found = (loss(net, batch, cfg, size, e)[0].item() for e in (0.0, ent_coef))
        used.append((ent_coef, plain - found))
        return loss(net, batch, cfg, size, ent_coef)

    monkeypatch.setattr(a2c, "a2c_loss", spied)
    rates(a2c, cfg)
    assert [e for e, _ in used] == told("linear:0.2..0", ROUNDS, cfg.batch)
    assert all(gain > 0.05 * e for e, gain in used), "the loss is lower by the bonus"


@pytest.mark.parametrize("module", [dqn, pqn], ids=["dqn", "pqn"])
@pytest.mark.parametrize("epsilon", ["piecewise:0=0.9,0.5=0.3", 0.25])
def test_actions_are_random_as_often_as_the_schedule_says(module, epsilon, monkeypatch) -> None:
    used = []
    if module is pqn:
        cfg = pqn.Config(num_envs=4, rollout_steps=8, minibatches=2, epochs=1, net="mlp", epsilon=epsilon)
        act = pqn.epsilon_greedy
        monkeypatch.setattr(pqn, "epsilon_greedy", lambda q, e: (used.append(e), act(q, e))[1])
    else:
        own = {"rollout_steps": 8, "capacity": 500, "learning_starts": 64, "batch_size": 32, "train_period": 16}
        cfg = dqn.Config(num_envs=4, net="mlp", packed=False, epsilon=epsilon, **own)
        monkeypatch.setattr(
            dqn, "act", lambda actor, net, q, e, zeta, obs: (used.append(e), np.zeros(len(obs), int))[1]
        )
    rates(module, cfg, 8)
    text = epsilon if isinstance(epsilon, str) else f"const:{epsilon}"
    expected = told(text, 8, cfg.batch)
    if module is dqn:
        expected[:2] = [expected[0]] * 2  # as at the start, until learning starts
    assert used[:: len(used) // 8] == expected
    assert cfg.epsilons == (Schedule.parse(text).at(1),) * 2, "evaluation has the last one"
    assert dataclasses.replace(cfg, eval_epsilon=0.07).epsilons[0] == 0.07


@pytest.mark.parametrize("algo", LINEAR)
def test_linear_methods_learn_with_the_scheduled_step_sizes_and_epsilon(algo: str, monkeypatch) -> None:
    module = importlib.import_module(f"playfield.algos.{algo}")
    own = {"alpha": "linear:0.2..0.1", "features": "identity", "rollout_steps": 8, "num_envs": 2}
    own |= {"linear_ac": {"alpha_actor": "exp:0.3..0.003"}, "td_lambda": {"policy": "random"}}.get(
        algo, {"epsilon": "cosine:0.9..0.1"}
    )
    cfg = module.Config(**own)
    used, points = [], online.entry_points

    def spied(begin, learn):
        first, following = points(begin, learn)

        def learning(m, h, *rest):
            used.append((h.alpha, getattr(h, "alpha_actor", 0.0), m.epsilon[0]))
            return following(m, h, *rest)

        return first, learning

    monkeypatch.setattr(online, "entry_points", spied)
    run = named("CartPole-v1", cfg, ROUNDS * cfg.batch)
    module.train(run, cfg)
    run.close()
    found = np.array(used).reshape(ROUNDS, cfg.batch, 3)
    assert np.ptp(found, axis=1).max() == 0
    np.testing.assert_array_equal(found[:, 0, 0], told(cfg.alpha, ROUNDS, cfg.batch))
    if algo == "linear_ac":
        np.testing.assert_array_equal(found[:, 0, 1], told(cfg.alpha_actor, ROUNDS, cfg.batch))
    elif algo != "td_lambda":
        np.testing.assert_array_equal(found[:, 0, 2], told(cfg.epsilon, ROUNDS, cfg.batch))


def test_it_learns_with_schedules() -> None:
    given = {"lr": "cosine:5e-3..1e-4", "clip": "linear:0.3..0.1", "ent_coef": "linear:0.02..0"}
    cfg = dataclasses.replace(PPO, anneal=False, **given)
    run = run_for(Identity(1).spec, Identity, cfg, 40 * cfg.batch)
    ppo.train(run, cfg)
    run.close()
    assert run.score > 7.5, "of 8, and 2 at random"


def test_a_tuning_leaves_alone_what_a_schedule_decides() -> None:
    plain, fixed = ppo.Config().searches(), ppo.Config(lr="linear:1e-3..0", anneal=False).searches()
    assert plain.keys() - fixed.keys() == {"lr", "anneal"}
    plain, fixed = dqn.Config().searches(), dqn.Config(epsilon=0.1).searches()
    assert {n for n in plain if n.startswith("epsilon")} == plain.keys() - fixed.keys() != set()
    assert sarsa.Config(alpha="linear:0.1..0").searches().keys().isdisjoint({"alpha", "correction", "anneal"})
