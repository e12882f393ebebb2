"""Atari games observed as the console's 128 bytes of RAM, over the vector contract.

The native vector emulator gives no RAM, so N single emulators are stepped in a loop. The rules are those of
`playfield.envs.atari` (skip, sticky frames, random no-ops, FIRE, lives, cap, logs and replay); the random numbers
of a seed are not: the same seed plays another game than with pixels.

With `screens` the same games give their grey screens too, which is how bytes and pictures of one moment are had.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import ale_py
import numpy as np
from ale_py import ALEInterface

from playfield.envs.action_log import MAX_SEED, ActionLog, restore, started
from playfield.envs.atari import AtariProtocol, action_names, rom
from playfield.envs.base import EnvSpec, Episode, Step
from playfield.envs.checks import check_actions, check_num_envs, check_seeds

RAM_BYTES = 128


class AtariRam:
    """`num_envs` copies of one game; observations are uint8 [N, 128].

    A frame stack of bytes is not offered: `spec.protocol` always says `obs: ram` and `stack: 1`.

    Args:
        screens: keep the grey screens that belong to the bytes.

    Attributes:
        life_lost: bool [N], where the last step lost a life and the game goes on.
        screens, next_screens: uint8 [N, 210, 160] (a few games: 250 high), those of `obs` and of `next_obs`,
            max-pooled as the protocol says; empty lists without `screens`.

    Raises:
        UsageError: unknown game, bad protocol, fewer than one env.
    """

    spec: EnvSpec
    num_envs: int

    def __init__(self, game: str, num_envs: int, protocol: AtariProtocol, *, screens: bool = False) -> None:
        self.num_envs = check_num_envs(num_envs)
        self._shows = screens
        self.screens: list[np.ndarray] = []
        self.next_screens: list[np.ndarray] = []
        self.game, self.protocol = game, protocol.changed(obs="ram", stack=1)
        names = action_names(game, protocol.full_actions)
        fire = names.index("FIRE") if protocol.fire_reset and "FIRE" in names else -1
        self._fire = fire
        self._games = [_Game(game, self.protocol, fire, screens) for _ in range(num_envs)]
        self.life_lost = np.zeros(num_envs, bool)
        self._log: ActionLog | None = None
        self.spec = EnvSpec(
            id=game,
            kind="atari",
            obs_shape=(RAM_BYTES,),
            obs_dtype="uint8",
            num_actions=len(names),
            action_names=names,
            protocol={"env": game, **dataclasses.asdict(self.protocol), "ale_py": ale_py.__version__},
        )

    @property
    def lives(self) -> np.ndarray:
        """Lives left in each game [N]; 0 in games that count none."""
        return np.array([game.lives for game in self._games])

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """Start every env anew, env i from `seeds[i]`. Raises UsageError for seeds of another shape or below 0."""
        self._log = ActionLog(np.array(check_seeds(seeds, self.num_envs), np.int64))
        for game, seed in zip(self._games, self._log.seed.tolist(), strict=True):
            game.seed(seed)
        return self._begin()

    def _begin(self) -> np.ndarray:
        self.life_lost = np.array([game.life_lost for game in self._games])
        self._obs = np.stack([game.ram() for game in self._games])
        self.screens = self.next_screens = self._screens()
        return self._obs

    def _screens(self) -> list[np.ndarray]:
        return [game.screen() for game in self._games] if self._shows else []

    def executed(self, actions: np.ndarray) -> np.ndarray:
        """What `step` will press for `actions`: FIRE where a life was lost under `fire_reset`."""
        return np.where(self.life_lost, self._fire, actions) if self._fire >= 0 else actions.copy()

    def step(self, actions: np.ndarray) -> Step:
        """Apply `actions`. Raises EnvError before the first `reset` and for actions out of range."""
        log = started(self._log)
        actions = self.executed(check_actions(actions, self.num_envs, self.spec.num_actions))
        log.add(actions)
        n = self.num_envs
        reward = np.empty(n, np.float32)
        over, capped, lost = np.zeros(n, bool), np.zeros(n, bool), np.zeros(n, bool)
        for i, (game, action) in enumerate(zip(self._games, actions.tolist(), strict=True)):
            reward[i], over[i], capped[i] = game.step(action)
            lost[i] = game.life_lost
        obs = next_obs = np.stack([game.ram() for game in self._games])
        self.screens = self.next_screens = self._screens()
        episodes = []
        for i in np.flatnonzero(over | capped).tolist():
            if obs is next_obs:
                obs, self.screens = next_obs.copy(), list(self.next_screens)
            game = self._games[i]
            episodes.append(Episode(i, float(game.score), game.length))
            if log.long(i):
                game.seed(log.anchor(i))
            else:
                game.start()
            obs[i] = game.ram()
            if self._shows:
                self.screens[i] = game.screen()
        self.life_lost = np.array([game.life_lost for game in self._games])
        self._obs = obs
        return Step(
            obs=obs,
            next_obs=next_obs,
            reward=reward,
            terminated=(over | lost) if self.protocol.life_loss else over,
            truncated=capped,
            episodes=episodes,
        )

    def state(self) -> dict[str, Any]:
        return started(self._log).state(self.spec.protocol, self._obs)

    def restore(self, state: dict[str, Any]) -> np.ndarray:
        """Go back to `state` by playing its actions again: see `action_log.restore`."""
        return restore(state, self.spec, self.num_envs, self._replay)

    def _replay(self, log: ActionLog) -> np.ndarray:
        """Play what `log` holds; returns the obs [N, ...] that it leads to."""
        self._log = log
        for game, seed, actions in zip(self._games, log.seed.tolist(), log.actions, strict=True):
            game.seed(seed)
            for action in actions:
                _, over, capped = game.step(action)
                if over or capped:
                    game.start()
        return self._begin()

    def render(self, env_index: int) -> np.ndarray:
        """The screen of one env now, uint8 RGB [210, 160, 3] (a few games: [250, 160, 3])."""
        started(self._log)
        return self._games[env_index].ale.getScreenRGB()

    def close(self) -> None: ...


class _Game:
    """One emulator with the protocol's rules; does not press FIRE by itself but at the start."""

    def __init__(self, game: str, protocol: AtariProtocol, fire: int, screens: bool) -> None:
        self.protocol, self.fire = protocol, fire
        self.pools = screens and protocol.maxpool and protocol.skip > 1
        self.before: np.ndarray | None = None  # the screen before the last frame
        self.rom = rom(game)
        self.ale = ALEInterface()
        self.ale.setFloat("repeat_action_probability", protocol.sticky)
        self.ale.setInt("frame_skip", 1)
        self.ale.loadROM(self.rom)
        self.actions = self.ale.getLegalActionSet() if protocol.full_actions else self.ale.getMinimalActionSet()
        self.life_lost = False

    def seed(self, seed: int) -> None:
        """A new game that depends on `seed` alone."""
        self.ale.setInt("random_seed", seed % MAX_SEED)
        self.ale.loadROM(self.rom)  # only this makes the emulator take its new seed
        self.generator = np.random.default_rng(seed)
        self.start()

    def start(self) -> None:
        """A new game: FIRE where the protocol says so, then a random number of no-ops."""
        self.ale.reset_game()
        noops = int(self.generator.integers(max(self.protocol.noop, 1)))
        if self.fire >= 0:
            self.ale.act(self.actions[self.fire])
            noops -= 1
        for _ in range(noops):
            self.ale.act(0)
            if self.ale.game_over():
                self.ale.reset_game()
        self.before = None
        self.lives = self.ale.lives()
        self.life_lost = False
        self.score = self.length = 0

    def step(self, action: int) -> tuple[int, bool, bool]:
        """(reward, game over, cap reached) of one action held for `skip` frames."""
        reward, over = 0, False
        for k in range(self.protocol.skip):
            if self.pools and k:
                self.before = self.ale.getScreenGrayscale()
            reward += self.ale.act(self.actions[action])
            over = self.ale.game_over()
            if over:
                break
        self.score += reward
        self.length += 1
        lives = self.ale.lives()
        self.life_lost = lives < self.lives and not over
        self.lives = lives
        return reward, over, not over and self.length * self.protocol.skip >= self.protocol.cap

    def ram(self) -> np.ndarray:
        return self.ale.getRAM()

    def screen(self) -> np.ndarray:
        now = self.ale.getScreenGrayscale()
        return now if self.before is None else np.maximum(self.before, now)
