"""What a family of environments answers, and that nobody else compares kinds."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import playfield
from playfield.envs import make_envs, make_from, protocol_line
from playfield.envs.base import EnvSpec, env_seeds
from playfield.envs.family import FAMILIES, Family, family, family_of_protocol
from playfield.envs.names import resolve
from playfield.errors import DataError
from playfield.play.player import fps_of

ROOT = Path(playfield.__file__).parent
NAMES = {
    "breakout": "atari",
    "ALE/Pong-ram-v5": "atari",
    "CartPole-v1": "classic",
    "CartPole-v1-pixels": "classic",
    "Taxi-v4": "gymnasium",
}


@pytest.mark.parametrize("name", NAMES)
def test_name_spec_and_protocol_lead_to_the_same_family(name: str) -> None:
    env = make_envs(name, 1)
    spec = env.spec
    env.close()
    assert spec.family is resolve(name).family is FAMILIES[NAMES[name]]
    assert spec.kind == spec.family.kind
    assert protocol_line(spec.protocol) == spec.family.protocol_line(spec.protocol)
    assert hasattr(type(env), "render") == spec.family.can_render(spec.protocol)
    assert hasattr(type(env), "lives") == spec.family.has_lives
    again = make_from(spec, 1)
    assert again.spec == spec
    again.close()


def test_a_view_and_parts_of_a_protocol_are_made_again() -> None:
    env = make_envs("breakout", 1, view="mono,trim", sticky=0.1, cap=900)
    again = make_from(env.spec, 1)
    assert (again.spec, type(again)) == (env.spec, type(env))
    assert again.spec.protocol["name"] == "custom"
    assert not env.spec.family.obs_covers_frame(env.spec.protocol)
    raw = make_from(env.spec, 1, raw=True)
    assert raw.spec.obs_shape == (210, 160, 3)


def test_what_families_answer() -> None:
    atari, classic, gym = (family(kind) for kind in ("atari", "classic", "gymnasium"))
    stored = {"sticky": 0.0, "skip": 3, "cap": 3000}
    assert family_of_protocol(stored) is atari
    assert family_of_protocol({"env": "CartPole-v1", "time_limit": 500}) is not atari
    assert (atari.frames_per_step(stored), atari.fps("pong", stored)) == (3, 20.0)
    assert (classic.frames_per_step({}), classic.fps("CartPole-v0", {})) == (None, 50.0)
    assert (classic.fps("MountainCar-v0", {}), gym.fps("Taxi-v4", {})) == (30.0, 30.0)
    assert atari.preset_kinds("pong", pixels=True) == ("atari", "atari")
    assert atari.preset_kinds("pong", pixels=False) == ("atari", "ram")
    assert classic.preset_kinds("CartPole-v1", pixels=False) == ("vector", "CartPole")
    assert gym.preset_kinds("Some-v3", pixels=True) == ("vector", "pixels")
    assert classic.reference_scores("breakout") == gym.reference_scores("breakout") == (None, None)


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(DataError, match="'arcade': atari, classic, gymnasium"):
        _ = EnvSpec("x", "arcade", (1,), "float32", 2, ("a", "b"), {}).family


def test_a_family_is_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new one is asked by all, once it is listed."""

    class Grid(Family):
        kind = "grid"

        def fps(self, id: str, protocol: Mapping[str, Any]) -> float:
            return 7.0

    monkeypatch.setitem(FAMILIES, "grid", Grid())
    spec = EnvSpec("grid", "grid", (1,), "float32", 2, ("a", "b"), {"size": 4})
    assert fps_of(spec) == 7.0
    assert spec.family.protocol_line(spec.protocol) == "size 4"


def test_seeds_of_environments() -> None:
    """The numbers that runs have always begun with."""
    seeds = env_seeds(np.random.SeedSequence([3, 7]), 4)
    expected = np.random.SeedSequence([3, 7]).generate_state(4, np.uint32).astype(np.int64) % (2**31 - 1)
    assert seeds.dtype == np.int64
    assert seeds.tolist() == expected.tolist()


def test_nobody_compares_kinds() -> None:
    """`x.kind == "atari"`, `"sticky" in protocol` and the like stand in `envs/family.py` alone."""
    found = []
    for file in ROOT.rglob("*.py"):
        if file.name == "family.py":
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.Compare):
                continue
            constants = {n.value for n in (node.left, *node.comparators) if isinstance(n, ast.Constant)}
            words = {*FAMILIES, "sticky", "skip"} if isinstance(node.ops[0], ast.In | ast.NotIn) else set(FAMILIES)
            if constants & words:
                found.append(f"{file.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}")
    assert not found
