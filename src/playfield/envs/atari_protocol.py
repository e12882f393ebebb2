"""The protocol of an Atari game: the settings that a score depends on. Imports no emulator."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from playfield.errors import UsageError, shown, unknown


@dataclass(frozen=True)
class AtariProtocol:
    """What a score on an Atari game depends on.

    Attributes:
        name: `classic`, `v4`, `v5`, or `custom` when a part was changed.
        sticky: probability of repeating the previous action, per frame (Machado et al. 2018).
        skip: frames per step (frame skip).
        skip_min: None, or fewest frames of a step: how many is then drawn for every step, from `skip_min` to `skip`.
        maxpool: the last two frames of a step are max-pooled.
        noop: an episode starts after fewer than `noop` random no-op frames (a FIRE at the start counts as one).
        cap: frames, counted from the first observation, after which an episode is truncated (whole steps).
        life_loss: a lost life is `terminated` for the learner (the game goes on).
        fire_reset: FIRE is pressed at the start of an episode and of each life.
        full_actions: all 18 actions instead of the game's minimal action set.
        stack: number of successive frames in an observation (frame stack), 1 to 8.
        size: side of the square that a frame is resized to; 0 leaves the full screen, 210x160.
        colour: `grey` or `rgb`.
        obs: `pixels`, or `ram` for the console's 128 bytes.
        mode: number of a mode of the game; None: the game's first, which is the emulator's default.
        difficulty: position of the console's difficulty switches; None: 0, the emulator's default.
    """

    name: str = "classic"
    sticky: float = 0.0
    skip: int = 4
    maxpool: bool = True
    noop: int = 30
    cap: int = 108_000
    life_loss: bool = True
    fire_reset: bool = True
    full_actions: bool = False
    stack: int = 4
    size: int = 84
    colour: str = "grey"
    obs: str = "pixels"
    mode: int | None = None
    difficulty: int | None = None
    skip_min: int | None = None

    @classmethod
    def from_stored(cls, protocol: Mapping[str, Any]) -> AtariProtocol:
        """The protocol in `EnvSpec.protocol`, which holds other facts too (game, ale-py's version, view)."""
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{k: v for k, v in protocol.items() if k in known})

    def stored(self) -> dict[str, Any]:
        """The parts for `EnvSpec.protocol`; mode and difficulty only where they are not the emulator's default."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v is not None}

    @property
    def other_game(self) -> bool:
        """Is it played in another mode, or at another difficulty, than the emulator's default?"""
        return self.mode is not None or self.difficulty is not None

    @property
    def single(self) -> bool:
        """Does it take single emulators? ale-py's vector emulator plays the first mode, with one number of frames."""
        return self.other_game or self.skip_min is not None

    def changed(self, **parts: Any) -> AtariProtocol:
        """This protocol with some parts changed; a real change makes its name `custom`.

        Raises UsageError for an unknown part and for a value out of range.
        """
        known = [f.name for f in dataclasses.fields(self) if f.name != "name"]
        for part in parts:
            if part not in known:
                raise unknown("protocol option", part, known)
        new = dataclasses.replace(self, **parts)
        if new != self:
            new = dataclasses.replace(new, name="custom")
        new.check()
        return new

    def check(self) -> None:
        """Raise UsageError where a part is out of range."""
        for part, low, high in (
            ("sticky", 0, 0.99),
            ("skip", 1, 60),
            ("noop", 0, 300),
            ("cap", 100, 10_000_000),
            ("stack", 1, 8),
            ("size", 36 if self.size else 0, 210),
        ):
            value = getattr(self, part)
            if isinstance(value, bool) or not isinstance(value, (int, float) if part == "sticky" else int):
                kind = "a number" if part == "sticky" else "a whole number"
                raise UsageError(f"protocol option {part} must be {kind}, not {shown(value)}")
            if not low <= value <= high:
                raise UsageError(f"protocol option {part} must be between {low} and {high}, not {value}")
        for part in ("mode", "difficulty"):
            value = getattr(self, part)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise UsageError(f"protocol option {part} must be a whole number, not {shown(value)}")
        fewest = self.skip_min
        if fewest is not None and (
            isinstance(fewest, bool) or not isinstance(fewest, int) or not 1 <= fewest < self.skip
        ):
            raise UsageError(
                f"protocol option skip_min must be a whole number from 1 and below skip, {self.skip}, "
                f"not {shown(fewest)} (classic and v5 have none: all steps are of {self.skip} frames)"
            )
        for part in ("maxpool", "life_loss", "fire_reset", "full_actions"):
            if not isinstance(getattr(self, part), bool):
                raise UsageError(f"protocol option {part} must be True or False, not {shown(getattr(self, part))}")
        if self.colour not in ("grey", "rgb"):
            raise unknown("colour", self.colour, ("grey", "rgb"))
        if self.obs not in ("pixels", "ram"):
            raise unknown("observation kind", self.obs, ("pixels", "ram"))

    @property
    def screen(self) -> tuple[int, int]:
        """Height and width of an observation in pixels."""
        return (self.size, self.size) if self.size else (210, 160)

    def line(self) -> str:
        """The protocol in one line, for reports."""
        height, width = self.screen
        parts = [
            f"sticky {self.sticky:g}",
            f"skip {self.skip if self.skip_min is None else f'{self.skip_min} to {self.skip} at random'}"
            + ("" if self.maxpool else " without max-pooling"),
            f"noop {self.noop}",
            f"cap {self.cap:,} frames",
            f"life loss {'terminal' if self.life_loss else 'ignored'}",
            f"fire reset {'on' if self.fire_reset else 'off'}",
            "18 actions" if self.full_actions else "minimal actions",
            "RAM" if self.obs == "ram" else f"{height}x{width} {self.colour}",
            f"stack {self.stack}",
            *(f"{part} {value}" for part in ("mode", "difficulty") if (value := getattr(self, part)) is not None),
        ]
        return f"{self.name}: " + ", ".join(parts)


PROTOCOLS = {
    # What the Nature DQN paper trained with, and CleanRL and the SB3 Zoo still do.
    "classic": AtariProtocol(),
    # What Gym's `GAME-v4` did (ALE's frame skip of 2 to 4, drawn for every step), below the wrappers of `classic`.
    "v4": AtariProtocol(name="v4", skip_min=2),
    # Machado et al. 2018: sticky actions, no life-loss signal; with the minimal action set, as `ALE/*-v5` has it.
    "v5": AtariProtocol(name="v5", sticky=0.25, noop=0, life_loss=False, fire_reset=False),
}


def protocol(name: str = "classic", **parts: Any) -> AtariProtocol:
    """The protocol called `name`, with parts changed. Raises UsageError for unknown names and bad values."""
    if name not in PROTOCOLS:
        raise unknown("protocol", name, PROTOCOLS)
    return PROTOCOLS[name].changed(**parts)
