"""Atari 2600 games over the vector contract, emulated by ale-py's native threads.

`AtariVectorEnv` in SAME_STEP mode is the emulator; what it leaves open is decided here:

* A lost life is detected as a drop of `lives`, never by a reset: the game goes on (ale-py's `episodic_life` would
  start a new game instead, and is not used).
* Rewards stay raw; the learner may clip them.
* Under `fire_reset`, the first step after a lost life presses FIRE whatever the action, as the game would
  otherwise wait for ever. To the learner this is a step in which its action had no effect.
* An episode is truncated here, at the end of the step that reaches the cap. The emulator would break off in the
  middle of that step, and the successor to bootstrap from would be a stale frame.
* `restore` executes the logged actions again (see `playfield.envs.action_log`).
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import ale_py
import cv2
import numpy as np
from ale_py import ALEInterface, AtariVectorEnv, LoggerMode, roms

from playfield.envs.action_log import AtariLog
from playfield.envs.atari_protocol import PROTOCOLS, AtariProtocol
from playfield.envs.base import EnvSpec, Episode, Step
from playfield.envs.checks import check_actions, check_num_envs, check_seeds, not_reset
from playfield.errors import UsageError, unknown

ALEInterface.setLoggerMode(LoggerMode.Error)  # its banner would end up in --json output

NO_CAP = 2**30  # frames; the emulator's own limit is out of reach


def rom(game: str) -> Path:
    """The ROM file of `game`. Raises UsageError for an unknown game."""
    path = roms.get_rom_path(game) if game in roms.get_all_rom_ids() else None
    if path is None:
        raise unknown("game", game, roms.get_all_rom_ids(), "(`playfield games` lists all)")
    return path


@functools.cache
def action_names(game: str, full: bool) -> tuple[str, ...]:
    """Names of the actions of `game`, in the order of its action numbers.

    The first call for a game starts an emulator, which takes about 0.1 s; they are kept for all later ones.

    Args:
        game: ROM name; UsageError if there is no such game.
        full: all 18 actions instead of the game's minimal action set.
    """
    ale = ALEInterface()
    ale.loadROM(rom(game))
    return tuple(a.name for a in (ale.getLegalActionSet() if full else ale.getMinimalActionSet()))


class Atari:
    """`num_envs` copies of one game, observed as pixels.

    Observations are uint8 [N, H, W, C]: grey frames stacked, the newest last, or RGB frames likewise.

    Args:
        game: ROM name in ale-py, such as `breakout`.
        num_envs: games at once.
        protocol: what scores depend on.
        threads: emulator threads that share the games (0: one per core).
        raw: RGB frames of the 210x160 screen instead of the protocol's observations. The same seeds and actions give
            the same games (for films).

    Attributes:
        life_lost: bool [N], where the last step lost a life and the game goes on.

    Raises:
        UsageError: unknown game, bad protocol, one for single emulators (see `atari_modes`), fewer than one env.
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
        if protocol.single:
            raise UsageError(f"{game}: make_envs plays it in another mode or with a random skip, this class does not")
        self.game, self.num_envs, self.protocol = game, num_envs, protocol
        self.rgb = raw or protocol.colour == "rgb"
        names = action_names(game, protocol.full_actions)
        self._fire = names.index("FIRE") if protocol.fire_reset and "FIRE" in names else -1
        stack = 1 if raw else protocol.stack
        height, width = (210, 160) if raw else protocol.screen
        self._log: AtariLog | None = None
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
            protocol={"env": game, **protocol.stored(), "ale_py": ale_py.__version__},
        )

    @property
    def held(self) -> np.ndarray:
        """Frames of each game's last step, int64 [N]. A step that ends a game may have fewer."""
        return np.full(self.num_envs, self.protocol.skip, np.int64)

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
        """Start a new episode in every env, env i seeded with `seeds[i]`; returns obs uint8 [N, H, W, C].

        Raises UsageError for seeds of another shape or below 0.
        """
        return self._start(AtariLog(np.array(check_seeds(seeds, self.num_envs), np.int64)))

    def _start(self, log: AtariLog) -> np.ndarray:
        """Reset all envs with the seeds of `log`, whose actions (if any) are executed next."""
        n = self.num_envs
        self._log = log
        raw, info = self._ale.reset(seed=log.seed)
        self._obs = self._channels_last(raw)
        self._lives = info["lives"].copy()
        self._score = np.zeros(n, np.int64)
        self._length = np.zeros(n, np.int64)
        self.life_lost = np.zeros(n, bool)
        return self._obs

    def _started(self) -> AtariLog:
        if self._log is None:
            raise not_reset()
        return self._log

    def step(self, actions: np.ndarray) -> Step:
        """Apply `actions` int64 [N]. Raises EnvError before the first `reset` and for actions out of range."""
        log = self._started()
        # The emulator's threads would hang at an action out of range.
        actions = check_actions(actions, self.num_envs, self.spec.num_actions).copy()
        if self._fire >= 0:
            actions[self.life_lost] = self._fire
        log.add(actions)
        return self._play(actions, log)

    def _play(self, actions: np.ndarray, log: AtariLog | None) -> Step:
        """Execute `actions` unchanged. With `log`, the next episode of an env may start from a new anchor."""
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
            seeds = np.full(self.num_envs, -1, np.int64)  # -1: the env's own generator continues
            for i in np.flatnonzero(ended).tolist():
                episodes.append(Episode(i, float(self._score[i]), int(self._length[i])))
                self._score[i] = self._length[i] = 0
                if log is not None and (seed := log.next_seed(i)) is not None:
                    seeds[i] = seed
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
        """Start new episodes in the envs marked in `which`; returns the obs [N, ...] and lives [N] of all envs."""
        raw, info = self._ale.reset(seed=seeds, options={"reset_mask": which})
        return self._channels_last(raw), info["lives"]

    def state(self) -> dict[str, Any]:
        """A snapshot: see `action_log.AtariLog.state`. Raises EnvError before the first `reset`."""
        return self._started().state(self.spec.protocol, self._obs)

    def restore(self, state: dict[str, Any]) -> np.ndarray:
        """Continue from `state` by executing its actions again: see `action_log.AtariLog.replay`."""
        return AtariLog.replay(state, self.spec, self.num_envs, self._replay)

    def _replay(self, log: AtariLog) -> np.ndarray:
        """Execute the actions in `log`; returns the obs after them [N, ...]."""
        self._start(log)
        lengths = log.lengths
        longest = int(lengths.max())
        # All envs finish in the same step: a shorter log begins later, after another reset of its env. Until then
        # its env gets action 0. The logged actions are what was executed, so FIRE is not pressed a second time.
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
        """Release the emulators."""
        close = getattr(self._ale, "close", None)
        if close is not None:
            close()
