"""`playfield games`: tables that fit, JSON that parses, a check that can fail."""

from __future__ import annotations

import json

import pytest

from playfield.envs import catalog
from playfield.envs.atari_facts import LIVES_AND_ACTIONS
from playfield.errors import UsageError
from playfield.show import games


def test_the_list_fits_and_is_plain(capfd: pytest.CaptureFixture[str]) -> None:
    games.print_games()
    out, err = capfd.readouterr()
    assert err == ""
    assert max(len(line) for line in out.splitlines()) <= 80
    assert "\x1b" not in out
    assert out.isascii()
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert rows["breakout"] == ["5", "4", "1.7", "30.5"]
    assert rows["tetris"] == ["-", "5", "-", "-"]
    assert rows["CartPole-v1"] == ["2", "4", "500", "475.0"]
    assert "47 games have none" in out


def test_the_list_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    games.print_games(json=True)
    data = json.loads(capfd.readouterr().out)
    assert [row["id"] for row in data["atari"]] == catalog.list_games()
    breakout = next(row for row in data["atari"] if row["id"] == "breakout")
    assert breakout == {
        "id": "breakout", "title": "Breakout", "lives": 5, "actions": 4, "random": 1.7, "human": 30.5
    }  # fmt: skip
    classic = ["Acrobot-v1", "CartPole-v1", "CartPole-v0", "MountainCar-v0"]
    assert [row["id"] for row in data["classic"]] == classic


def test_one_game(capfd: pytest.CaptureFixture[str]) -> None:
    games.print_game("ALE/Breakout-v5")
    out, err = capfd.readouterr()
    assert err == ""
    assert max(len(line) for line in out.splitlines()) <= 80
    assert "f34f08e5eb96e500e851a80be3277a56" in out
    for text in ("v5 protocol", "100,800", "RIGHT*", "LEFT*", "UP ", "128 bytes"):
        assert text in out


KINDS = [("breakout", "atari"), ("CartPole-v0", "classic"), ("Taxi-v4", "gymnasium")]


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_one_game_as_json(name: str, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    games.print_game(name, json=True)
    data = json.loads(capfd.readouterr().out)
    assert (data["id"], data["kind"]) == (name, kind)


def test_check_plays_games(capfd: pytest.CaptureFixture[str]) -> None:
    results = games.check_games(["breakout", "ALE/Pong-v5", "journey_escape"], frames=60)
    assert [game for game, _, _ in results] == ["breakout", "pong", "journey_escape"]
    assert all(ok for _, ok, _ in results)
    assert "210x160, 4 actions" in results[0][2]
    assert capfd.readouterr() == ("", "")


def test_check_finds_a_damaged_rom(tmp_path, monkeypatch, capfd: pytest.CaptureFixture[str]) -> None:
    rom = catalog.rom_path("pong").read_bytes()
    (tmp_path / "pong.bin").write_bytes(rom)
    (tmp_path / "breakout.bin").write_bytes(rom[:-1])
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    assert not games.print_check(json=True)
    data = json.loads(capfd.readouterr().out)
    assert [(row["game"], row["ok"]) for row in data["games"]] == [("breakout", False), ("pong", True)]
    assert "damaged" in data["games"][0]["detail"]
    assert not games.print_check()
    out = capfd.readouterr().out
    assert out.startswith("breakout: breakout.bin is damaged")
    assert "1 of 2 games played 100 frames" in out


def test_check_refuses_what_is_no_rom() -> None:
    with pytest.raises(UsageError, match="not an Atari game"):
        games.check_games(["CartPole-v1"])


@pytest.mark.slow
def test_every_rom_runs_and_agrees_with_the_written_table(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {}
    open_game = catalog.open_game

    def watched(game: str):
        ale = open_game(game)
        facts[game] = (ale.lives(), len(ale.getMinimalActionSet()))
        return ale

    monkeypatch.setattr(catalog, "open_game", watched)
    results = games.check_games(frames=100)
    assert [game for game, ok, _ in results if ok] == catalog.list_games()
    assert facts == LIVES_AND_ACTIONS
