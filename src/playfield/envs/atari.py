"""Atari 2600 games over the vector contract, emulated by ale-py's native threads.

`AtariVectorEnv` in SAME_STEP mode is the emulator; what it leaves open is decided here, once:

* A lost life is seen as a drop of `lives`, never as a reset: the game goes on (ale-py's `episodic_life` would
  start a new game instead, and is not used).
* Rewards stay raw; clipping is the learner's business.
* Under `fire_reset`, the first step after a lost life presses FIRE whatever the action, as the game would
  otherwise wait for ever. To the learner this is a step in which its action had no effect.
* A game is truncated here, at the end of the step that reaches the cap. The emulator would break off in the middle
  of that step, and the successor to bootstrap from would be a stale picture.
* `restore` plays the logged actions again (see `playfield.envs.action_log`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ale_py
import cv2
import numpy as np
from ale_py import ALEInterface, AtariVectorEnv, LoggerMode, roms

from playfield.envs.action_log import ActionLog, restore, started
from playfield.envs.base import EnvSpec, Episode, Step
from playfield.envs.checks import check_actions, check_num_envs, check_seeds
from playfield.errors import UsageError, unknown

ALEInterface.setLoggerMode(LoggerMode.Error)  # its banner would end up in --json output

NO_CAP = 2**30  # frames; the emulator's own limit is out of reach


@dataclass(frozen=True)
class AtariProtocol:
    """What a score on an Atari game depends on.

    Attributes:
        name: `classic`, `v5`, or `custom` when a part was changed.
        sticky: probability that a frame repeats the previous action (Machado et al. 2018).
        skip: frames per step.
        maxpool: the last two frames of a step are max-pooled.
        noop: a game starts after fewer than `noop` random no-op frames (a FIRE at the start counts as one).
        cap: frames, counted from the first observation, after which a game is truncated (whole steps).
        life_loss: a lost life is `terminated` for the learner (the game goes on).
        fire_reset: FIRE is pressed at the start of a game and of each life.
        full_actions: all 18 actions instead of the game's own.
        stack: number of successive observations that the agent sees, 1 to 8.
        size: side of the square that a frame is resized to; 0 leaves the full screen, 210x160.
        colour: `grey` or `rgb`.
        obs: `pixels`, or `ram` for the console's 128 bytes.
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

    def changed(self, **parts: Any) -> AtariProtocol:
        """This protocol with some parts changed; a real change makes its name `custom`."""
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
                raise UsageError(f"protocol option {part} must be {kind}, not {value!r}")
            if not low <= value <= high:
                raise UsageError(f"protocol option {part} must be between {low} and {high}, not {value}")
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
            f"skip {self.skip}" + ("" if self.maxpool else " without max-pooling"),
            f"noop {self.noop}",
            f"cap {self.cap:,} frames",
            f"life loss {'terminal' if self.life_loss else 'ignored'}",
            f"fire reset {'on' if self.fire_reset else 'off'}",
            "18 actions" if self.full_actions else "minimal actions",
            "RAM" if self.obs == "ram" else f"{height}x{width} {self.colour}",
            f"stack {self.stack}",
        ]
        return f"{self.name}: " + ", ".join(parts)


PROTOCOLS = {
    # What the Nature DQN paper trained with, and CleanRL and the SB3 Zoo still do.
    "classic": AtariProtocol(),
    # Machado et al. 2018: sticky actions, no life-loss signal; with the game's own actions, as `ALE/*-v5` has them.
    "v5": AtariProtocol(name="v5", sticky=0.25, noop=0, life_loss=False, fire_reset=False),
}


def protocol(name: str = "classic", **parts: Any) -> AtariProtocol:
    """The protocol called `name`, with parts changed. Raises UsageError for unknown names and bad values."""
    if name not in PROTOCOLS:
        raise unknown("protocol", name, PROTOCOLS)
    return PROTOCOLS[name].changed(**parts)


def rom(game: str) -> Path:
    """The ROM file of `game`. Raises UsageError for an unknown game."""
    path = roms.get_rom_path(game) if game in roms.get_all_rom_ids() else None
    if path is None:
        raise unknown("game", game, roms.get_all_rom_ids(), "(`playfield games` lists all)")
    return path


def action_names(game: str, full: bool) -> tuple[str, ...]:
    """Names of the actions of `game`, in the order of its action numbers."""
    ale = ALEInterface()
    ale.loadROM(rom(game))
    return tuple(a.name for a in (ale.getLegalActionSet() if full else ale.getMinimalActionSet()))


class Atari:
    """`num_envs` copies of one game. `threads` emulator threads share them (0: as many as cores).

    Args:
        game: ROM name in ale-py, such as `breakout`.
        num_envs: games at once.
        protocol: what scores depend on.
        threads: emulator threads.
        raw: RGB frames of 210x160 as they appear on the screen instead of the protocol's observations
            (same games, same seeds: for films).

    Attributes:
        life_lost: bool [N], where the last step lost a life and the game goes on.
    """

    def __init__(
        self,
        game: str,
        num_envs: int,
        protocol: AtariProtocol = PROTOCOLS["classic"],
        *,
        threads: int = 1,
        raw: bool = False,
    ) -> None:
        check_num_envs(num_envs)
        protocol.check()
        self.game, self.num_envs, self.protocol = game, num_envs, protocol
        self.rgb = raw or protocol.colour == "rgb"
        names = action_names(game, protocol.full_actions)
        self._fire = names.index("FIRE") if protocol.fire_reset and "FIRE" in names else -1
        stack = 1 if raw else protocol.stack
        height, width = (210, 160) if raw else protocol.screen
        self._log: ActionLog | None = None
        self._ale = AtariVectorEnv(
            game,
            num_envs,
            num_threads=threads,
            max_num_frames_per_episode=NO_CAP,
            repeat_action_probability=protocol.sticky,
            full_action_space=protocol.full_actions,
            autoreset_mode="SameStep",
            img_height=height,
            img_width=width,
            grayscale=not self.rgb,
            stack_num=stack,
            frameskip=protocol.skip,
            maxpool=protocol.maxpool and protocol.skip > 1,
            noop_max=protocol.noop,
            episodic_life=False,
            life_loss_info=False,
            reward_clipping=False,
            use_fire_reset=protocol.fire_reset,
        )
        self.spec = EnvSpec(
            id=game,
            kind="atari",
            obs_shape=(height, width, stack * (3 if self.rgb else 1)),
            obs_dtype="uint8",
            num_actions=len(names),
            action_names=names,
            protocol={"env": game, **dataclasses.asdict(protocol), "ale_py": ale_py.__version__},
        )

    @property
    def lives(self) -> np.ndarray:
        """Lives left in each game [N]; 0 in games that count none."""
        return self._lives

    def _channels_last(self, obs: np.ndarray) -> np.ndarray:
        """[N, K, H, W] (or [N, K, H, W, 3]) to [N, H, W, K] (or [N, H, W, 3K]); 5x faster than a transpose."""
        n = len(obs)
        if self.rgb:
            return np.ascontiguousarray(obs.transpose(0, 2, 3, 1, 4)).reshape(n, *self.spec.obs_shape)
        if obs.shape[1] == 1:
            return obs.reshape(n, *self.spec.obs_shape)
        out = np.empty((n, *self.spec.obs_shape), np.uint8)
        for i in range(n):
            cv2.merge(list(obs[i]), dst=out[i])
        return out

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """Start every env anew, env i from `seeds[i]`. Raises UsageError for seeds of another shape or below 0."""
        return self._start(ActionLog(np.array(check_seeds(seeds, self.num_envs), np.int64)))

    def _start(self, log: ActionLog) -> np.ndarray:
        """Begin the games that `log` begins with; it is empty or about to be replayed."""
        n = self.num_envs
        self._log = log
        raw, info = self._ale.reset(seed=log.seed)
        self._obs = self._channels_last(raw)
        self._lives = info["lives"].copy()
        self._score = np.zeros(n, np.int64)
        self._length = np.zeros(n, np.int64)
        self.life_lost = np.zeros(n, bool)
        return self._obs

    def step(self, actions: np.ndarray) -> Step:
        """Apply `actions`. Raises EnvError before the first `reset` and for actions out of range."""
        log = started(self._log)
        # The emulator's threads would hang at an action out of range.
        actions = check_actions(actions, self.num_envs, self.spec.num_actions).copy()
        if self._fire >= 0:
            actions[self.life_lost] = self._fire
        log.add(actions)
        return self._play(actions, log)

    def _play(self, actions: np.ndarray, log: ActionLog | None) -> Step:
        """Execute `actions` as they are. With `log`, games that end may start their next one from a new anchor."""
        raw, reward, over, _, info = self._ale.step(actions)
        obs = next_obs = self._channels_last(raw)
        lives = info["lives"]
        self._score += reward
        self._length += 1
        lost = (lives < self._lives) & ~over  # where a game is over, `lives` are already the next game's
        capped = ~over & (self._length * self.protocol.skip >= self.protocol.cap)
        ended = over | capped
        episodes = []
        if ended.any():
            next_obs = obs.copy()
            if over.any():
                next_obs[over] = self._channels_last(info["final_obs"][over])
            seeds = np.full(self.num_envs, -1, np.int64)  # -1: go on with the env's own generator
            for i in np.flatnonzero(ended).tolist():
                episodes.append(Episode(i, float(self._score[i]), int(self._length[i])))
                self._score[i] = self._length[i] = 0
                if log is not None and log.long(i):
                    seeds[i] = log.anchor(i)
            restart = capped | (seeds >= 0)
            if restart.any():
                obs, lives = self._restart(restart, seeds[restart])
        self.life_lost = lost & ~ended
        self._lives = lives.copy()
        self._obs = obs
        return Step(
            obs=obs,
            next_obs=next_obs,
            reward=reward.astype(np.float32),
            terminated=(over | lost) if self.protocol.life_loss else over,
            truncated=capped,
            episodes=episodes,
        )

    def _restart(self, which: np.ndarray, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Start new games in the envs marked in `which`; returns the obs [N, ...] and lives [N] of all envs."""
        raw, info = self._ale.reset(seed=seeds, options={"reset_mask": which})
        return self._channels_last(raw), info["lives"]

    def state(self) -> dict[str, Any]:
        return started(self._log).state(self.spec.protocol, self._obs)

    def restore(self, state: dict[str, Any]) -> np.ndarray:
        """Go back to `state` by playing its actions again: see `action_log.restore`."""
        return restore(state, self.spec, self.num_envs, self._replay)

    def _replay(self, log: ActionLog) -> np.ndarray:
        """Play what `log` holds; returns the obs [N, ...] that it leads to."""
        self._start(log)
        lengths = np.array([len(actions) for actions in log.actions])
        longest = int(lengths.max())
        # All envs reach the present together: a shorter log begins later, after another reset of its env. Until
        # then its env idles. The logged actions are what was executed, so FIRE is not pressed a second time.
        begin = longest - lengths
        for t in range(longest):
            actions = [a[t - b] if t >= b else 0 for a, b in zip(log.actions, begin.tolist(), strict=True)]
            self._play(np.array(actions, np.int64), None)
            due = begin == t + 1
            if due.any():
                self._obs, lives = self._restart(due, log.seed[due])
                self._lives = lives.copy()
                self._score[due] = self._length[due] = 0
                self.life_lost[due] = False
        return self._obs

    def close(self) -> None:
        close = getattr(self._ale, "close", None)
        if close is not None:
            close()
