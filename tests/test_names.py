"""Every usual spelling of a name resolves to the right environment and protocol; a wrong one helps."""

from __future__ import annotations

import subprocess
import sys

import pytest

from playfield.envs.names import HINT, TWO_PLAYER, atari_games, classic_games, gym_name, resolve, roms_dir
from playfield.errors import EnvError, UsageError

STICKY = {"sticky": 0.25}
RAM = {"obs": "ram"}

ATARI = [
    ("breakout", "breakout", None, {}),
    ("Breakout", "breakout", None, {}),
    ("BREAKOUT", "breakout", None, {}),
    (" breakout ", "breakout", None, {}),
    ("ms_pacman", "ms_pacman", None, {}),
    ("MsPacman", "ms_pacman", None, {}),
    ("ms-pacman", "ms_pacman", None, {}),
    ("mspacman", "ms_pacman", None, {}),
    ("space invaders", "space_invaders", None, {}),
    ("pitfall-2", "pitfall2", None, {}),
    ("TicTacToe3D", "tic_tac_toe_3d", None, {}),
    ("breakout-ram", "breakout", None, RAM),
    ("ALE/Breakout-v5", "breakout", "v5", {}),
    ("ale/breakout-v5", "breakout", "v5", {}),
    ("ALE/Breakout", "breakout", "v5", {}),
    ("Breakout-v5", "breakout", "v5", {}),
    ("ALE/MsPacman-v5", "ms_pacman", "v5", {}),
    ("ALE/Breakout-ram-v5", "breakout", "v5", RAM),
    ("ALE/Blackjack-v5", "blackjack", "v5", {}),
    ("BreakoutNoFrameskip-v4", "breakout", "classic", {}),
    ("breakoutnoframeskip-v4", "breakout", "classic", {}),
    ("BreakoutNoFrameskip", "breakout", "classic", {}),
    ("BreakoutNoFrameskip-v0", "breakout", "classic", STICKY),
    ("Breakout-v4", "breakout", "v4", {}),
    ("Breakout-v0", "breakout", "v4", STICKY),
    ("BreakoutDeterministic-v4", "breakout", "classic", {}),
    ("BreakoutDeterministic-v0", "breakout", "classic", STICKY),
    ("SpaceInvadersDeterministic-v4", "space_invaders", "classic", {"skip": 3}),
    ("SpaceInvadersNoFrameskip-v4", "space_invaders", "classic", {}),
    ("Breakout-ram-v4", "breakout", "v4", RAM),
    ("Breakout-ram-v0", "breakout", "v4", RAM | STICKY),
    ("Breakout-ramNoFrameskip-v4", "breakout", "classic", RAM),
    ("Breakout-ramDeterministic-v0", "breakout", "classic", RAM | STICKY),
]

CLASSIC = [
    ("CartPole-v1", "CartPole-v1"),
    ("CartPole-v0", "CartPole-v0"),
    ("Cartpole-v1", "CartPole-v1"),
    ("cartpole", "CartPole-v1"),
    ("CartPole", "CartPole-v1"),
    ("cart_pole", "CartPole-v1"),
    ("acrobot", "Acrobot-v1"),
    ("Acrobot-v1", "Acrobot-v1"),
    ("mountain_car", "MountainCar-v0"),
    ("MountainCar", "MountainCar-v0"),
    ("mountain-car-v0", "MountainCar-v0"),
]

# name, the first suggestion
WRONG = [
    ("Brekout", "breakout"),
    ("brekout", "breakout"),
    ("ponk", "pong"),
    ("invaders", "space_invaders"),
    ("Brekout-v5", "breakout"),
    ("ALE/Brekout-v5", "ALE/Breakout-v5"),
    ("ALE/Breakout-v4", "ALE/Breakout-v5"),
    ("ALE/BreakoutNoFrameskip-v4", "BreakoutNoFrameskip-v4"),
    ("BrekoutNoFrameskip-v4", "BreakoutNoFrameskip-v4"),
    ("BrekoutDeterministic-v0", "BreakoutDeterministic-v4"),
    ("BreakoutNoFrameskip-v5", "BreakoutNoFrameskip-v4"),
    ("Breakout-v9", "breakout"),
    ("CartPole-v2", "CartPole-v1"),
    ("CartPoll-v1", "CartPole-v1"),
    ("Acrobot-v0", "Acrobot-v1"),
    ("LunarLandr-v3", "LunarLander-v3"),
    ("lunarlander-v3", "LunarLander-v3"),
]

NONSENSE = ["", "  ", "xyzzy", "../../etc/passwd", ":x", "a:b:c", "x" * 100_000, "nul\0", "--help", "-v4"]
NONSENSE += ["ALE/", "ALE/-v5", "Breakout-v٤", "Breakout-v"]


@pytest.mark.parametrize(("name", "game", "protocol", "overrides"), ATARI)
def test_atari_spellings(name: str, game: str, protocol: str | None, overrides: dict[str, object]) -> None:
    found = resolve(name)
    assert (found.id, found.kind) == (game, "atari")
    assert (found.protocol, found.overrides) == (protocol, overrides)
    if protocol or overrides:  # whoever names a protocol is told which
        assert found.note is not None
        assert (protocol or "RAM") in found.note


@pytest.mark.parametrize(("name", "env_id"), CLASSIC)
def test_classic_spellings(name: str, env_id: str) -> None:
    found = resolve(name)
    assert (found.id, found.kind, found.protocol, found.overrides) == (env_id, "classic", None, {})


@pytest.mark.parametrize("name", ["Taxi-v4", "Blackjack-v1", "my.module:Thing-v0", "Pendulum-v1"])
def test_gymnasium_ids_pass_through(name: str) -> None:
    found = resolve(name)
    assert (found.id, found.kind) == (name, "gymnasium")


@pytest.mark.parametrize(("name", "first"), WRONG)
def test_a_wrong_name_gets_the_nearest(name: str, first: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(name)
    text = str(caught.value)
    assert "did you mean " in text
    suggestions = text.partition("did you mean ")[2].partition("?")[0].split(", ")
    assert suggestions[0] == first
    assert len(suggestions) <= 3
    assert HINT in text
    for suggestion in suggestions:  # what is suggested exists
        resolve(suggestion)


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_a_short_usage_error(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(name)
    assert HINT in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["combat", "ALE/Joust-v5", "MazeCraze"])
def test_two_player_games_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="two players"):
        resolve(name)


def test_an_unknown_namespace_says_how_to_load_it() -> None:
    with pytest.raises(UsageError, match="write module:myplace/Thing-v0"):
        resolve("myplace/Thing-v0")


def test_random_skip_is_not_hidden() -> None:
    note = resolve("Breakout-v4").note
    assert note is not None
    assert "2 to 4 frames, at random" in note
    assert "random" not in (resolve("BreakoutNoFrameskip-v4").note or "")


def test_every_id_that_ale_py_registers_resolves() -> None:
    """Oracle: ale_py's own registrations, sticky probability and game name included."""
    import ale_py
    import gymnasium

    gymnasium.register_envs(ale_py)
    seen = set()
    for env_id, spec in gymnasium.registry.items():
        if not str(spec.entry_point).startswith("ale_py"):
            continue
        found = resolve(env_id)
        assert (found.kind, found.id) == ("atari", spec.kwargs["game"])
        sticky = found.overrides.get("sticky", {"v5": 0.25, "v4": 0.0, "classic": 0.0}[str(found.protocol)])
        assert sticky == spec.kwargs["repeat_action_probability"], env_id
        assert (spec.kwargs["frameskip"] == (2, 5)) == (found.protocol == "v4"), env_id
        if env_id.startswith("ALE/"):
            assert env_id == f"ALE/{gym_name(found.id)}-v5"
            seen.add(found.id)
    assert seen == set(atari_games())


def test_the_lists() -> None:
    assert len(atari_games()) >= 100
    assert not TWO_PLAYER & set(atari_games())
    assert all(resolve(name).id == name for name in [*atari_games(), *classic_games()])


def test_the_rom_folder_can_be_moved(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    assert roms_dir() == tmp_path
    assert atari_games() == []
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path / "none"))
    with pytest.raises(EnvError, match="no ROM folder"):
        atari_games()


def test_light_imports() -> None:
    code = (
        "import sys\n"
        "from playfield.envs.names import resolve\n"
        "from playfield.errors import UsageError\n"
        "resolve('ALE/Breakout-v5'); resolve('cartpole')\n"
        "try: resolve('ALE/Brekout-v5')\n"
        "except UsageError: pass\n"
        "print([m for m in ('torch', 'gymnasium', 'ale_py', 'cv2', 'PIL', 'rich') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
