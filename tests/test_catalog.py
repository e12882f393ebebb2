"""What the catalogue says of games agrees with the emulator, the ROM files and the literature."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from playfield.envs import catalog
from playfield.envs.atari_facts import LIVES_AND_ACTIONS
from playfield.envs.family import family
from playfield.envs.scores import SCORES
from playfield.errors import DataError, UsageError


def test_breakout() -> None:
    info = catalog.game_info("breakout")
    assert info.title == "Breakout"
    assert info.md5 == "f34f08e5eb96e500e851a80be3277a56"  # printed by ALE's banner
    assert (info.rom, info.rom_bytes, info.lives, info.ram_bytes) == ("breakout.bin", 2048, 5, 128)
    assert info.actions == ((0, "NOOP"), (1, "FIRE"), (3, "RIGHT"), (4, "LEFT"))
    assert (info.screen, info.rgb_bytes, info.grey_bytes) == ((210, 160), 100_800, 33_600)
    assert (info.random_score, info.human_score) == (1.7, 30.5)
    assert info.difficulties == (0, 1)


def test_action_numbers_are_those_of_the_ale_manual() -> None:
    names = "noop fire up right left down upright upleft downright downleft upfire rightfire leftfire"
    names += " downfire uprightfire upleftfire downrightfire downleftfire"
    actions = catalog.game_info("pong").all_actions
    assert actions == tuple(enumerate(names.upper().split()))
    assert (catalog.PLAYER_B_OFFSET, catalog.RESET_ACTION) == (18, 40)


def test_screens_of_other_sizes_are_measured_not_assumed() -> None:
    info = catalog.game_info("journey_escape")
    assert info.screen == (230, 160)
    assert info.rgb_bytes == 230 * 160 * 3
    assert info.human_score is None


def test_md5_of_every_rom_is_the_one_ale_py_ships() -> None:
    import ale_py

    expected = json.loads((Path(ale_py.__file__).parent / "roms" / "md5.json").read_text())
    for game in catalog.list_games():
        assert catalog.rom_md5(catalog.rom_path(game)) == expected[f"{game}.bin"]


def test_list_is_what_ale_supports() -> None:
    from ale_py import ALEInterface
    from ale_py.roms import get_all_rom_ids, get_rom_path

    supported = [rom for rom in get_all_rom_ids() if ALEInterface.isSupportedROM(get_rom_path(rom))]
    assert catalog.list_games() == sorted(supported)


@pytest.mark.parametrize("game", ["adventure", "breakout", "freeway", "haunted_house", "pong", "up_n_down"])
def test_the_written_table_agrees_with_the_emulator(game: str) -> None:
    info = catalog.game_info(game)
    assert LIVES_AND_ACTIONS[game] == (info.lives, len(info.actions))


def test_the_written_table_is_complete() -> None:
    assert set(catalog.list_games()) == set(LIVES_AND_ACTIONS)


def test_reference_scores() -> None:
    assert len(SCORES) == 57
    assert set(SCORES) <= set(catalog.list_games())
    assert all(human > random for random, human in SCORES.values())
    # sums of two other transcriptions of the tables guard each number against a slip of the hand
    assert round(sum(random for random, _ in SCORES.values()), 1) == 50_864.9
    assert round(sum(human for _, human in SCORES.values()), 1) == 606_494.2


def test_human_normalized() -> None:
    assert family("atari").human_normalized("breakout", 1.7) == 0.0
    assert family("atari").human_normalized("breakout", 30.5) == 1.0
    assert family("atari").human_normalized("pong", 20.0) == pytest.approx((20.0 + 20.7) / (14.6 + 20.7))
    assert family("atari").human_normalized("tetris", 10.0) is None  # nobody published a score


def test_an_unknown_game() -> None:
    with pytest.raises(UsageError, match="breakout"):
        catalog.game_info("brekout")


def test_a_damaged_rom_is_an_error(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ALE itself would end the process."""
    good = catalog.rom_path("breakout").read_bytes()
    (tmp_path / "breakout.bin").write_bytes(good[:1000] + bytes([good[1000] ^ 1]) + good[1001:])
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    with pytest.raises(DataError, match=r"breakout\.bin is damaged"):
        catalog.game_info("breakout")


def test_no_banner(capfd: pytest.CaptureFixture[str]) -> None:
    catalog.game_info("breakout")
    assert capfd.readouterr() == ("", "")


def test_open_game_is_seeded_and_takes_a_sticky_probability() -> None:
    def play(seed: int, sticky: float) -> bytes:
        ale = catalog.open_game("breakout", seed=seed, sticky=sticky)
        actions = ale.getMinimalActionSet()
        for i in range(200):
            ale.act(actions[i * 7 % 4])
        return ale.getRAM().tobytes()

    assert play(1, 0.0) == play(2, 0.0)
    assert play(1, 0.25) == play(1, 0.25)
    assert len({play(seed, 0.25) for seed in range(4)}) > 1
