"""Facts of each Atari game, read from the emulator and from the ROM file itself.

Actions are numbered as in the ALE manual: 0 to 17 for player A, the same plus 18 for player B, 40 to reset.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ale_py import ALEInterface, LoggerMode

from playfield.envs.names import HINT, atari_games, gym_name, roms_dir
from playfield.envs.scores import SCORES
from playfield.errors import DataError, unknown

PLAYER_B_OFFSET = 18
RESET_ACTION = 40


@dataclass(frozen=True, slots=True)
class GameInfo:
    """One Atari game.

    Attributes:
        id: the ROM's name, `ms_pacman`.
        title: the name in Gymnasium's ids, `MsPacman`.
        rom: file name of the ROM.
        md5: hexadecimal digest of the ROM file: its identity.
        rom_bytes: size of the ROM file.
        lives: lives at the start; 0 if ALE counts none in this game.
        modes, difficulties: the numbers that ALE accepts.
        actions: the minimal action set as (number, name) pairs.
        all_actions: the 18 actions of player A, likewise.
        screen: (height, width) in pixels.
        ram_bytes: size of the console's memory.
        random_score, human_score: raw scores from the literature (`scores.py`), or None if there are none.
    """

    id: str
    title: str
    rom: str
    md5: str
    rom_bytes: int
    lives: int
    modes: tuple[int, ...]
    difficulties: tuple[int, ...]
    actions: tuple[tuple[int, str], ...]
    all_actions: tuple[tuple[int, str], ...]
    screen: tuple[int, int]
    ram_bytes: int
    random_score: float | None
    human_score: float | None

    @property
    def grey_bytes(self) -> int:
        """Bytes of one screen with one number per pixel (33,600 for 210 x 160)."""
        return self.screen[0] * self.screen[1]

    @property
    def rgb_bytes(self) -> int:
        """Bytes of one screen in colour (100,800 for 210 x 160 x 3)."""
        return 3 * self.grey_bytes


def list_games() -> list[str]:
    """The ids of all one-player Atari games in the installed ale-py, sorted."""
    return atari_games()


def rom_path(game: str) -> Path:
    """The ROM file of `game` (a canonical id); UsageError if there is no such game."""
    path = roms_dir() / f"{game}.bin"
    if game not in atari_games():
        raise unknown("Atari game", game, atari_games(), HINT)
    return path


def open_game(game: str, seed: int = 0, sticky: float = 0.0) -> ALEInterface:
    """A new emulator with `game` loaded, its banner silenced.

    Args:
        game: a canonical id.
        seed: of the emulator's random numbers.
        sticky: probability of repeating the previous action, per frame.

    Raises:
        UsageError: no such game.
        DataError: the ROM file is not one that ale-py knows; ALE itself would end the process.
    """
    path = rom_path(game)
    ALEInterface.setLoggerMode(LoggerMode.Error)
    if ALEInterface.isSupportedROM(path) is None:
        raise DataError(f"{path.name} is damaged or of another game: ale-py does not know MD5 {rom_md5(path)}")
    ale = ALEInterface()
    ale.setInt("random_seed", seed)
    ale.setFloat("repeat_action_probability", sticky)
    ale.loadROM(path)
    return ale


def rom_md5(path: Path) -> str:
    """MD5 of a ROM file; the Atari community names ROMs by it."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def game_info(game: str) -> GameInfo:
    """All facts of `game` (a canonical id, see `names.resolve`). Starts an emulator: about 0.1 s.

    Raises UsageError for an unknown game, DataError for a damaged ROM.
    """
    path = rom_path(game)
    ale = open_game(game)
    height, width = ale.getScreenDims()
    random_score, human_score = SCORES.get(game, (None, None))
    return GameInfo(
        id=game,
        title=gym_name(game),
        rom=path.name,
        md5=rom_md5(path),
        rom_bytes=path.stat().st_size,
        lives=ale.lives(),
        modes=tuple(ale.getAvailableModes()),
        difficulties=tuple(ale.getAvailableDifficulties()),
        actions=tuple((a.value, a.name) for a in ale.getMinimalActionSet()),
        all_actions=tuple((a.value, a.name) for a in ale.getLegalActionSet()),
        screen=(height, width),
        ram_bytes=ale.getRAMSize(),
        random_score=random_score,
        human_score=human_score,
    )
