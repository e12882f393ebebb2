"""Atari 2600 games over the vector contract, emulated by ale-py's native threads.

`AtariVectorEnv` in SAME_STEP mode is the emulator; what it leaves open is decided here, once:

* A lost life is seen as a drop of `lives`, never as a reset: the game goes on (ale-py's `episodic_life` would
  start a new game instead, and is not used).
* Rewards stay raw; clipping is the learner's business.
* Under `fire_reset`, the first step after a lost life presses FIRE whatever the action, as the game would
  otherwise wait for ever. To the learner this is a step in which its action had no effect.
* Every env logs its actions since its last explicitly seeded reset. `restore` replays them: the emulator cannot
  be saved exactly (it forgets the previous action that a sticky frame repeats), but it can be replayed exactly.
  A game that ends with a long log starts the next one from an explicit seed, so logs and replays stay short.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import ale_py
import cv2
import numpy as np
from ale_py import ALEInterface, AtariVectorEnv, LoggerMode, roms

from playfield.envs.base import Episode, EnvSpec, Step
from playfield.errors import UsageError, unknown

ALEInterface.setLoggerMode(LoggerMode.Error)  # its banner would end up in --json output

ANCHOR_STEPS = 1024  # a game that ends with a longer action log is followed by an explicitly seeded reset


@dataclass(frozen=True)
class AtariProtocol:
    """What a score on an Atari game depends on.

    Attributes:
        name: `classic`, `v5`, or `custom` when a part was changed.
        sticky: probability that a frame repeats the previous action (Machado et al. 2018).
        skip: frames per step.
        maxpool: the last two frames of a step are max-pooled.
        noop: a game starts after 0 to `noop` random no-op frames.
        cap: frames after which a game is truncated.
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
    # Machado et al. 2018: sticky actions, no life-loss signal, every action.
    "v5": AtariProtocol(name="v5", sticky=0.25, noop=0, life_loss=False, fire_reset=False),
}


def protocol(name: str = "classic", **parts: Any) -> AtariProtocol:
    """The protocol called `name`, with parts changed. Raises UsageError for unknown names and bad values."""
    if name not in PROTOCOLS:
        raise unknown("protocol", name, PROTOCOLS)
    return PROTOCOLS[name].changed(**parts)


def action_names(game: str, full: bool) -> tuple[str, ...]:
    """Names of the actions of `game`, in the order of its action numbers."""
    ale = ALEInterface()
    ale.loadROM(roms.get_rom_path(game))
    return tuple(a.name for a in (ale.getLegalActionSet() if full else ale.getMinimalActionSet()))


def check_no_double_skip(game: str, skip: int) -> None:
    """The emulator itself must advance one frame at a time, so that `skip` is the whole frame skip."""
    if skip < 1:
        raise UsageError(f"frame skip must be at least 1, not {skip}")
    ale = ALEInterface()
    ale.setInt("frame_skip", 1)
    ale.loadROM(roms.get_rom_path(game))
    before = ale.getFrameNumber()
    ale.act(0)
    if ale.getFrameNumber() != before + 1:
        raise UsageError(f"the emulator advanced {ale.getFrameNumber() - before} frames for one")


class Atari:
    """`num_envs` copies of one game. `threads` emulator threads share them (0: as many as cores).

    Args:
        game: ROM name in ale-py, such as `breakout`.
        num_envs: games at once.
        protocol: what scores depend on.
        threads: emulator threads.
        raw: RGB frames of 210x160 as they appear on the screen instead of the protocol's observations
            (same games, same seeds: for films).
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
        if num_envs < 1:
            raise UsageError(f"the number of environments must be at least 1, not {num_envs}")
        if game not in roms.get_all_rom_ids():
            raise unknown("game", game, roms.get_all_rom_ids(), "(`playfield games` lists all)")
        protocol.check()
        self.game, self.num_envs, self.protocol = game, num_envs, protocol
        self.rgb = raw or protocol.colour == "rgb"
        names = action_names(game, protocol.full_actions)
        self._fire = names.index("FIRE") if protocol.fire_reset and "FIRE" in names else -1
        stack = 1 if raw else protocol.stack
        height, width = (210, 160) if raw else protocol.screen
        self._ale = AtariVectorEnv(
            game,
            num_envs,
            num_threads=threads,
            max_num_frames_per_episode=protocol.cap,
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
        n = self.num_envs
        seeds = np.asarray(seeds, np.int64) % (2**31 - 1)
        obs, info = self._ale.reset(seed=seeds)
        self._obs = self._channels_last(obs)
        self._lives = info["lives"].copy()
        self._press = np.zeros(n, bool)
        self._score = np.zeros(n, np.int64)
        self._length = np.zeros(n, np.int64)
        self._first_seed = seeds.copy()
        self._seed = seeds.copy()
        self._anchors = np.zeros(n, np.int64)
        self._log: list[list[int]] = [[] for _ in range(n)]
        return self._obs

    def step(self, actions: np.ndarray) -> Step:
        actions = np.array(actions, np.int64)
        if self._fire >= 0 and self._press.any():
            actions[self._press] = self._fire
        raw, reward, terminated, truncated, info = self._ale.step(actions)
        obs = self._channels_last(raw)
        for log, action in zip(self._log, actions.tolist(), strict=True):
            log.append(action)
        self._score += reward
        self._length += 1
        lives = info["lives"]
        ended = terminated | truncated
        lost = (lives < self._lives) & ~ended
        episodes: list[Episode] = []
        next_obs = obs
        if ended.any():
            next_obs = obs.copy()
            final = self._channels_last(info["final_obs"])
            restart = []
            for i in np.flatnonzero(ended).tolist():
                next_obs[i] = final[i]
                episodes.append(Episode(i, float(self._score[i]), int(self._length[i])))
                self._score[i] = self._length[i] = 0
                if len(self._log[i]) > ANCHOR_STEPS:
                    restart.append(i)
            if restart:
                obs, lives = self._anchor(obs, restart)
        self._press = lost
        self._lives = lives.copy()
        self._obs = obs
        return Step(
            obs=obs,
            next_obs=next_obs,
            reward=reward.astype(np.float32),
            terminated=(terminated | lost) if self.protocol.life_loss else terminated,
            truncated=truncated & ~terminated,
            episodes=episodes,
        )

    def _anchor(self, obs: np.ndarray, envs: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Start the next game of `envs` from explicit seeds and forget their logs."""
        mask = np.zeros(self.num_envs, bool)
        for i in envs:
            self._anchors[i] += 1
            sequence = np.random.SeedSequence([int(self._first_seed[i]), int(self._anchors[i])])
            self._seed[i] = int(sequence.generate_state(1)[0]) % (2**31 - 1)
            self._log[i] = []
            mask[i] = True
        fresh, info = self._ale.reset(seed=self._seed[mask], options={"reset_mask": mask})
        obs = obs.copy()
        obs[mask] = self._channels_last(fresh)[mask]
        return obs, info["lives"]

    def state(self) -> dict[str, Any]:
        return {
            "seed": self._seed.copy(),
            "first_seed": self._first_seed.copy(),
            "anchors": self._anchors.copy(),
            "length": np.array([len(log) for log in self._log], np.int64),
            "log": np.array([a for log in self._log for a in log], np.uint8),
        }

    def restore(self, state: dict[str, Any]) -> np.ndarray:
        ends = np.cumsum(state["length"])
        logs = [chunk.tolist() for chunk in np.split(state["log"].astype(np.int64), ends[:-1])]
        longest = max(map(len, logs))
        seeds = np.asarray(state["seed"], np.int64)
        self.reset(seeds)
        # All envs reach the present together: a shorter log starts later, after a seeded reset of its env.
        # The logged actions are what was executed, FIRE presses included, so nothing is pressed twice.
        fire, self._fire = self._fire, -1
        start = longest - np.array([len(log) for log in logs])
        for t in range(longest):
            due = start == t
            if t and due.any():
                _, info = self._ale.reset(seed=seeds[due], options={"reset_mask": due})
                self._lives[due] = info["lives"][due]
                self._score[due] = self._length[due] = 0
                for i in np.flatnonzero(due):
                    self._log[i] = []
            actions = [log[t - s] if t >= s else 0 for log, s in zip(logs, start.tolist(), strict=True)]
            self._replay(np.array(actions, np.int64))
        if longest and (start == longest).any():
            due = start == longest
            fresh, info = self._ale.reset(seed=seeds[due], options={"reset_mask": due})
            self._obs = self._channels_last(fresh)
            self._lives = info["lives"].copy()
            self._score[due] = self._length[due] = 0
            self._press[due] = False
        self._fire = fire
        self._seed = seeds.copy()
        self._first_seed = np.array(state["first_seed"], np.int64)
        self._anchors = np.array(state["anchors"], np.int64)
        self._log = [list(log) for log in logs]
        return self._obs

    def _replay(self, actions: np.ndarray) -> None:
        """One step that keeps the books but never anchors."""
        raw, reward, terminated, truncated, info = self._ale.step(actions)
        self._obs = self._channels_last(raw)
        ended = terminated | truncated
        self._score = np.where(ended, 0, self._score + reward)
        self._length = np.where(ended, 0, self._length + 1)
        self._press = (info["lives"] < self._lives) & ~ended
        self._lives = info["lives"].copy()

    def close(self) -> None:
        close = getattr(self._ale, "close", None)
        if close is not None:
            close()
