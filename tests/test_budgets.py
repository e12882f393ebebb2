"""How long a training is by default: as long on every machine, however busy it is."""

from __future__ import annotations

from typing import Any

import pytest

import playfield
from playfield.envs import make_envs
from playfield.errors import UsageError
from playfield.runs import algorithm, catalog
from playfield.runs.algorithm import BUDGETS, Budget
from playfield.training import plan, train
from playfield.training.request import Request

KINDS = {
    "breakout": ("atari", "atari"),
    "Breakout-ram-v4": ("atari", "ram"),
    "CartPole-v1": ("vector", "CartPole"),
    "CartPole-v1-pixels": ("vector", "pixels"),
    "MountainCar-v0": ("vector", "MountainCar"),
}


def budget(algo: str, env: str, preset: str = "default") -> Budget:
    return algorithm.load(algo).Config.budget(KINDS[env], preset)


def test_the_defaults() -> None:
    expected = {
        ("ppo", "breakout"): (1_200_000, 10),
        ("ppo", "CartPole-v1"): (200_000, 0.5),
        ("ppo", "CartPole-v1-pixels"): (200_000, 3),
        ("ppo", "breakout", "long"): (3_000_000, 65),
        ("a2c", "CartPole-v1"): (500_000, 0.5),
        ("a2c", "CartPole-v1-pixels"): (200_000, 3),  # what is seen matters more than whose table it is
        ("dqn", "breakout"): (500_000, 10),
        ("dqn", "breakout", "nature"): (150_000, 10),
        ("dqn", "CartPole-v1"): (100_000, 0.5),
        ("dqn", "CartPole-v1", "sparse"): (100_000, 2),
        ("dqn", "MountainCar-v0"): (100_000, 2),
        ("rainbow", "Breakout-ram-v4"): (400_000, 10),
        ("dqn", "Breakout-ram-v4"): (500_000, 10),
        ("sarsa", "MountainCar-v0"): (200_000, 1),
        ("random", "breakout"): (100_000, 0.5),
    }
    assert {key: (budget(*key).steps, budget(*key).minutes) for key in expected} == expected


@pytest.mark.parametrize("algo", algorithm.own_names())
def test_every_default_trains(algo: str) -> None:
    """Longer than the time before the first update; kinds and presets in the table exist."""
    module = algorithm.load(algo)
    for name, kinds in KINDS.items():
        env = make_envs(name, 1)
        assert env.spec.family.preset_kinds(env.spec.id, env.spec.pixels) == kinds
        env.close()
        for preset, values in catalog.presets_for(algo, kinds).items():
            cfg = module.Config(**values)
            assert cfg.budget(kinds, preset).steps >= max(1.25 * cfg.first_update, 10 * cfg.batch)
    for key in module.Config.budgets:
        kind, _, preset = key.partition("/")
        assert kind in {*module.PRESETS, *BUDGETS}
        assert not preset or any(preset in table for table in module.PRESETS.values())


def planned(monkeypatch: pytest.MonkeyPatch, speed: float, **asked: Any) -> tuple[list[str], dict[str, Any]]:
    """(lines that a person sees, what run.json would hold) of a training at a measured speed."""
    told: list[str] = []
    held: dict[str, Any] = {}

    class Seen(Exception):
        pass

    def stop(*_: Any) -> None:
        raise Seen

    info_for = train.info_for

    def kept(*arguments: Any) -> dict[str, Any]:
        held.update(info_for(*arguments))
        return dict(held)

    monkeypatch.setattr(train, "measure_speed", lambda *_: speed)
    monkeypatch.setattr(train, "info_for", kept)
    monkeypatch.setattr(train, "make_directory", stop)
    with pytest.raises(Seen):
        playfield.train(say=told.append, **asked)
    return told, held


def test_the_speed_of_the_machine_changes_neither_steps_nor_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [planned(monkeypatch, speed, env="CartPole-v1") for speed in (150.0, 5_000.0, 40_000.0)]
    assert {info["steps"] for _, info in runs} == {200_000}
    assert len({info["fingerprint"] + info["schedule"] for _, info in runs}) == 1
    slow = "\n".join(runs[0][0])
    assert "note: the default of 200,000 steps is meant for about 30 s and will take about 22 min" in slow
    assert "--minutes 0.5" in slow
    for told, _ in runs[1:]:
        assert not [line for line in told if "is meant for" in line]
    assert "about 40 s at the measured 5,000 steps/s" in "\n".join(runs[1][0])


def test_minutes_are_for_those_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    told, info = planned(monkeypatch, 1_234.0, env="CartPole-v1", minutes=2)
    assert info["steps"] == 140_000  # 148,080, rounded down to two digits
    assert not [line for line in told if "is meant for" in line]
    _, info = planned(monkeypatch, 1.0, env="CartPole-v1", steps=5_000)
    assert info["steps"] == 5_000
    with pytest.raises(UsageError, match="not both"):
        playfield.train("CartPole-v1", steps=5, minutes=1)


@pytest.mark.parametrize(("speed", "warned"), [(200_000 / 89, False), (200_000 / 91, True), (None, False)])
def test_the_warning_begins_at_three_times_the_planned_time(speed: float | None, warned: bool) -> None:
    spec = make_envs("CartPole-v1", 1).spec
    cfg = algorithm.load("ppo").PRESETS["vector"]["default"]
    steps, note = plan.steps_of(Request("CartPole-v1"), cfg, spec, speed)
    assert steps == 200_000
    assert bool(note) == warned


def test_an_algorithm_that_says_nothing_has_the_defaults_of_the_kind() -> None:
    class bare(algorithm.Config):
        pass

    assert bare.budget(("atari", "atari"), "default") == BUDGETS["atari"]
    assert bare.budget(("vector", "Acrobot"), "x") == bare.budget(("grid", "grid"), "x") == BUDGETS["vector"]
