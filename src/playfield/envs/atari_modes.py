"""Modes and difficulties of Atari games, and steps of a random number of frames.

A cartridge holds several games: its modes, chosen by the console's select switch. Its difficulty switches change them
further. ale-py's vector emulator always plays the first mode at difficulty 0, with one number of frames for all
steps, so the others are played by N single emulators in a loop, as RAM is (see `atari_ram`): the rules of the
protocol are the same, but the same seed plays another game, and one thread steps them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from ale_py import ALEInterface

from playfield.envs.atari import Atari, rom
from playfield.envs.atari_protocol import AtariProtocol
from playfield.envs.atari_ram import AtariRam, Game
from playfield.errors import UsageError, shown


def chosen(game: str, parts: Mapping[str, Any]) -> dict[str, Any]:
    """Parts of a protocol without a mode or difficulty that is the emulator's default.

    Raises UsageError for one that the emulator says the game does not have.
    """
    kept = {k: v for k, v in parts.items() if k not in ("mode", "difficulty") or v is not None}
    if not {"mode", "difficulty"} & kept.keys():
        return kept
    ale = ALEInterface()
    ale.loadROM(rom(game))
    modes, difficulties = ale.getAvailableModes(), ale.getAvailableDifficulties()
    for what, known, default in (("mode", modes, modes[0]), ("difficulty", difficulties, 0)):
        if what not in kept:
            continue
        value = kept[what]
        if isinstance(value, bool) or not isinstance(value, int) or value not in known:
            raise UsageError(f"{game} has no {what} {shown(value, plain=True)}: choose from {ranges(known)}")
        if value == default:
            del kept[what]
    return kept


def ranges(numbers: list[int] | tuple[int, ...]) -> str:
    """`0, 1, 2, 5` -> `0-2, 5`; a very long list is cut in the middle."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    texts = [str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts]
    if len(texts) > 15:  # video_cube has 153 modes
        texts = [*texts[:5], "...", f"{texts[-1]} ({len(numbers)} in all)"]
    return ", ".join(texts)


def pixels(
    game: str, num_envs: int, protocol: AtariProtocol, *, threads: int = 1, raw: bool = False
) -> Atari | AtariModes:
    """`num_envs` games observed as pixels, in the mode and with the steps of `protocol`: see `Atari`."""
    if protocol.single:
        return AtariModes(game, num_envs, protocol, raw=raw)
    return Atari(game, num_envs, protocol, threads=threads, raw=raw)


class AtariModes(AtariRam):
    """`num_envs` copies of one game in a mode or with steps of its own; observations are those of `Atari`.

    Args:
        game: ROM name in ale-py, such as `breakout`.
        num_envs: games at once.
        protocol: what scores depend on, with `mode`, `difficulty` or `skip_min`.
        raw: RGB frames of the 210x160 screen instead of the protocol's observations; the same seeds and actions give
            the same games.

    Raises:
        UsageError: unknown game, bad protocol, fewer than one env.
    """

    def __init__(self, game: str, num_envs: int, protocol: AtariProtocol, *, raw: bool = False) -> None:
        self._raw = raw
        super().__init__(game, num_envs, protocol)

    def _settled(self, protocol: AtariProtocol) -> AtariProtocol:
        protocol.check()
        return protocol

    def _emulator(self, game: str, fire: int) -> Game:
        return Screen(game, self.protocol, fire, self._raw)


class Screen(Game):
    """One emulator, observed as a stack of its last screens."""

    def __init__(self, game: str, protocol: AtariProtocol, fire: int, raw: bool) -> None:
        super().__init__(game, protocol, fire, screens=True)
        self.rgb = raw or protocol.colour == "rgb"
        self.height, self.width = (210, 160) if raw else protocol.screen
        self.channels = 3 if self.rgb else 1
        self.shape = (self.height, self.width, self.channels * (1 if raw else protocol.stack))

    def now(self) -> np.ndarray:
        """The screen, uint8 [210, 160], or [210, 160, 3] in colour."""
        return self.ale.getScreenRGB() if self.rgb else self.ale.getScreenGrayscale()

    def start(self) -> None:
        super().start()
        self.stack = np.zeros(self.shape, np.uint8)
        self._push()

    def step(self, action: int) -> tuple[int, bool, bool]:
        told = super().step(action)
        self._push()
        return told

    def _push(self) -> None:
        """The screen becomes the last of the stack."""
        screen = self.screen()
        if screen.shape[:2] != (self.height, self.width):
            screen = cv2.resize(screen, (self.width, self.height), interpolation=cv2.INTER_AREA)
        screen = screen.reshape(self.height, self.width, self.channels)
        self.stack = np.concatenate([self.stack[..., self.channels :], screen], axis=-1)

    def observation(self) -> np.ndarray:
        """The stack, uint8 [H, W, C]."""
        return self.stack
