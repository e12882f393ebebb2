"""Protocols of Atari games: their names, their parts, and what a spec says of them."""

from __future__ import annotations

import pytest
from ale_py import ALEInterface

from playfield.envs import atari, make_envs, make_from
from playfield.envs.atari_protocol import protocol
from playfield.errors import UsageError


def test_a_changed_protocol_is_custom():
    assert protocol("classic").name == "classic"
    assert protocol("v5", sticky=0.25).name == "v5"
    assert protocol("classic", sticky=0.25).name == "custom"


@pytest.mark.parametrize("name", ["classic", "v5"])
@pytest.mark.parametrize("parts", [{}, {"sticky": 0.1, "stack": 2}, {"obs": "ram"}, {"size": 0, "colour": "rgb"}])
def test_a_spec_makes_its_environment_again(name, parts):
    env = make_envs("breakout", 1, protocol=name, **parts)
    assert make_from(env.spec, 1).spec == env.spec


@pytest.mark.parametrize(
    ("name", "parts", "message"),
    [
        ("clasic", {}, "did you mean classic"),
        ("v5", {"stiky": 0.1}, "did you mean sticky"),
        ("v5", {"sticky": 1.0}, "sticky must be between"),
        ("v5", {"sticky": "lots"}, "sticky must be a number"),
        ("v5", {"skip": 0}, "skip must be between"),
        ("v5", {"skip": 2.5}, "skip must be a whole number"),
        ("v5", {"noop": -1}, "noop must be between"),
        ("v5", {"cap": 0}, "cap must be between"),
        ("v5", {"stack": 9}, "stack must be between"),
        ("v5", {"size": 8}, "size must be between"),
        ("v5", {"colour": "gray"}, "did you mean grey"),
        ("v5", {"obs": "rams"}, "did you mean ram"),
    ],
)
def test_bad_names_and_values(name, parts, message):
    with pytest.raises(UsageError, match=message):
        protocol(name, **parts)


@pytest.mark.parametrize(
    ("part", "low", "high"),
    [("skip", 1, 60), ("noop", 0, 300), ("cap", 100, 10_000_000), ("stack", 1, 8), ("size", 36, 210)],
)
def test_the_ends_of_a_range_are_part_of_it_and_no_number_beyond(part, low, high):
    for value in (low, high):
        assert getattr(protocol("v5", **{part: value}), part) == value
    for value in (low - 1, high + 1):
        with pytest.raises(UsageError, match=f"{part} must be between {low} and {high}"):
            protocol("v5", **{part: value})


def test_a_protocol_in_one_line_names_every_part():
    line = protocol("v5").line()
    for text in (
        "v5",
        "sticky 0.25",
        "skip 4",
        "cap 108,000 frames",
        "life loss ignored",
        "fire reset off",
        "stack 4",
    ):
        assert text in line


def test_a_protocol_in_one_line_says_what_is_seen():
    assert "84x84 grey" in protocol("v5").line()
    assert "210x160 rgb" in protocol("v5", size=0, colour="rgb").line()
    line = protocol("v5", obs="ram").line()
    assert "RAM" in line
    assert "84x84" not in line


def test_the_names_of_actions_start_one_emulator_for_each_set(monkeypatch):
    """Not one for every group of games that is made: it takes as long as making a game."""
    started = []
    monkeypatch.setattr(atari, "ALEInterface", lambda: started.append(1) or ALEInterface())
    atari.action_names.cache_clear()
    for _ in range(2):
        few, all_of_them = (atari.action_names("pong", full) for full in (False, True))
        assert few == ("NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE")
        assert (len(all_of_them), all_of_them[-1]) == (18, "DOWNLEFTFIRE")
        assert atari.Atari("pong", 1).spec.action_names == few
    assert len(started) == 2
