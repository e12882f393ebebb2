"""Atari games observed as the console's 128 bytes of RAM, over the vector contract.

The native vector emulator gives no RAM, so N single emulators are stepped in a loop. The rules are those of
`playfield.envs.atari` (frame skip, sticky actions, random no-ops, FIRE, lives, cap, logs and replay); the random
numbers of a seed are not: the same seed plays another game than with pixels.

With `screens` the same games give their grey screens too: RAM and screen of the same step.
"""

from __future__ import annotations

from typing import Any

import ale_py
import numpy as np
from ale_py import ALEInterface

from playfield.envs.action_log import AtariLog
from playfield.envs.atari import action_names, rom
from playfield.envs.atari_protocol import AtariProtocol
from playfield.envs.base import MAX_SEED, EnvSpec, Episode, Step
from playfield.envs.checks import check_actions, check_num_envs, check_seeds, not_reset

RAM_BYTES = 128


class AtariRam:
    """`num_envs` copies of one game; observations are uint8 [N, 128].

    A frame stack of bytes is not offered: `spec.protocol` always says `obs: ram` and `stack: 1`.

    Args:
        game: ROM name in ale-py, such as `breakout`.
        num_envs: games at once.
        protocol: what scores depend on.
        screens: keep the grey screens of the same steps.

    Attributes:
        life_lost: bool [N], where the last step lost a life and the game goes on.
        screens, next_screens: uint8 [N, 210, 160] (a few games: 250 high), those of `obs` and of `next_obs`,
            max-pooled as the protocol says; empty without `screens`.

    Raises:
        UsageError: unknown game, bad protocol, fewer than one env.
    """

    spec: EnvSpec
    num_envs: int

    def __init__(self, game: str, num_envs: int, protocol: AtariProtocol, *, screens: bool = False) -> None:
        self.num_envs = check_num_envs(num_envs)
        self._keep_screens = screens
        self.screens: list[np.ndarray] = []
        self.next_screens: list[np.ndarray] = []
        self.game, self.protocol = game, self._settled(protocol)
        names = action_names(game, protocol.full_actions)
        fire = names.index("FIRE") if protocol.fire_reset and "FIRE" in names else -1
        self._fire = fire
        self._games = [self._emulator(game, fire) for _ in range(num_envs)]
        self.life_lost = np.zeros(num_envs, bool)
        self._log: AtariLog | None = None
        self.spec = EnvSpec(
            id=game,
            kind="atari",
            obs_shape=self._games[0].shape,
            obs_dtype="uint8",
            num_actions=len(names),
            action_names=names,
            protocol={"env": game, **self.protocol.stored(), "ale_py": ale_py.__version__},
        )

    def _settled(self, protocol: AtariProtocol) -> AtariProtocol:
        """The protocol with what these observations decide."""
        return protocol.changed(obs="ram", stack=1)

    def _emulator(self, game: str, fire: int) -> Game:
        return Game(game, self.protocol, fire, self._keep_screens)

    @property
    def lives(self) -> np.ndarray:
        """Lives left in each game [N]; 0 in games that count none."""
        return np.array([game.lives for game in self._games])

    @property
    def held(self) -> np.ndarray:
        """Frames of each game's last step [N]; 0 before the first. A step that ends a game may have fewer."""
        return np.array([game.held for game in self._games], np.int64)

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """Start a new episode in every env, env i seeded with `seeds[i]`; returns obs uint8 [N, 128].

        Raises UsageError for seeds of another shape or below 0.
        """
        self._log = self._new_log(np.array(check_seeds(seeds, self.num_envs), np.int64))
        for game, seed in zip(self._games, self._log.seed.tolist(), strict=True):
            game.seed(seed)
        return self._begin()

    def _new_log(self, seeds: np.ndarray) -> AtariLog:
        return AtariLog(seeds)

    def _begin(self) -> np.ndarray:
        self.life_lost = np.array([game.life_lost for game in self._games])
        self._obs = np.stack([game.observation() for game in self._games])
        self.screens = self.next_screens = self._screens()
        return self._obs

    def _screens(self) -> list[np.ndarray]:
        return [game.screen() for game in self._games] if self._keep_screens else []

    def executed(self, actions: np.ndarray) -> np.ndarray:
        """The actions that `step` will execute for `actions`: FIRE where a life was lost under `fire_reset`."""
        return np.where(self.life_lost, self._fire, actions) if self._fire >= 0 else actions.copy()

    def _started(self) -> AtariLog:
        if self._log is None:
            raise not_reset()
        return self._log

    def step(self, actions: np.ndarray) -> Step:
        """Apply `actions` int64 [N]. Raises EnvError before the first `reset` and for actions out of range."""
        log = self._started()
        actions = self.executed(check_actions(actions, self.num_envs, self.spec.num_actions))
        log.add(actions)
        n = self.num_envs
        reward = np.empty(n, np.float32)
        over, capped, lost = np.zeros(n, bool), np.zeros(n, bool), np.zeros(n, bool)
        for i, (game, action) in enumerate(zip(self._games, actions.tolist(), strict=True)):
            reward[i], over[i], capped[i] = game.step(action)
            lost[i] = game.life_lost
        obs = next_obs = np.stack([game.observation() for game in self._games])
        self.screens = self.next_screens = self._screens()
        episodes = []
        for i in np.flatnonzero(over | capped).tolist():
            if obs is next_obs:
                obs, self.screens = next_obs.copy(), list(self.next_screens)
            game = self._games[i]
            episodes.append(Episode(i, float(game.score), game.length, game.replayed))
            self._next(i, log)
            obs[i] = game.observation()
            if self._keep_screens:
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

    def _next(self, i: int, log: AtariLog) -> None:
        """Start the next game of env `i`."""
        if (seed := log.next_seed(i)) is not None:
            self._games[i].seed(seed)
        else:
            self._games[i].start()

    def state(self) -> dict[str, Any]:
        """A snapshot: see `action_log.AtariLog.state`. Raises EnvError before the first `reset`."""
        return self._started().state(self.spec.protocol, self._obs)

    def restore(self, state: dict[str, Any]) -> np.ndarray:
        """Continue from `state` by executing its actions again: see `action_log.AtariLog.replay`."""
        return AtariLog.replay(state, self.spec, self.num_envs, self._replay)

    def _replay(self, log: AtariLog) -> np.ndarray:
        """Execute the actions in `log`; returns the obs after them [N, 128]."""
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
        self._started()
        return self._games[env_index].ale.getScreenRGB()

    def close(self) -> None:
        """Nothing to release."""


class Game:
    """One emulator under the protocol; by itself it presses FIRE only at the start of a game."""

    shape: tuple[int, ...] = (RAM_BYTES,)  # of an observation
    replayed = False  # it started from a kept state, see `endgames`

    def __init__(self, game: str, protocol: AtariProtocol, fire: int, screens: bool) -> None:
        self.protocol, self.fire = protocol, fire
        self.max_pools = screens and protocol.maxpool and protocol.skip > 1
        self.before: np.ndarray | None = None  # the screen before the last frame
        self.rom = rom(game)
        self.ale = ALEInterface()
        self.ale.setFloat("repeat_action_probability", protocol.sticky)
        self.ale.setInt("frame_skip", 1)
        self.load()
        self.actions = self.ale.getLegalActionSet() if protocol.full_actions else self.ale.getMinimalActionSet()
        self.life_lost = False
        self.held = 0

    def load(self) -> None:
        """Load the ROM. That forgets mode and difficulty; a new game does not."""
        self.ale.loadROM(self.rom)
        if self.protocol.mode is not None:
            self.ale.setMode(self.protocol.mode)
        if self.protocol.difficulty is not None:
            self.ale.setDifficulty(self.protocol.difficulty)

    def seed(self, seed: int) -> None:
        """Start a new game that depends on `seed` alone."""
        self.ale.setInt("random_seed", seed % MAX_SEED)
        self.load()  # the emulator takes its new seed only here
        self.generator = np.random.default_rng(seed)
        self.start()

    def start(self) -> None:
        """Start a new game: FIRE where the protocol says so, then a random number of no-ops."""
        self.ale.reset_game()
        noops = int(self.generator.integers(max(self.protocol.noop, 1)))
        if self.fire >= 0:
            self.act(self.fire)
            noops -= 1
        for _ in range(noops):
            self.act(0)
            if self.ale.game_over():
                self.ale.reset_game()
        self.before = None
        self.lives = self.ale.lives()
        self.life_lost = False
        self.score = self.length = self.frames = 0

    def act(self, action: int) -> int:
        """One frame; returns its reward."""
        reward: int = self.ale.act(self.actions[action])
        return reward

    def step(self, action: int) -> tuple[int, bool, bool]:
        """(reward, game over, cap reached) of one action held for `skip` frames, or for a random number of them."""
        reward, over, skip = 0, False, self.protocol.skip
        if self.protocol.skip_min is not None:
            skip = int(self.generator.integers(self.protocol.skip_min, skip + 1))
            self.before = None  # with one frame there is nothing to pool
        self.held = skip
        for k in range(skip):
            if self.max_pools and k:
                self.before = self.now()
            reward += self.act(action)
            over = self.ale.game_over()
            if over:
                break
        self.score += reward
        self.length += 1
        self.frames += skip
        lives = self.ale.lives()
        self.life_lost = lives < self.lives and not over
        self.lives = lives
        return reward, over, not over and self.frames >= self.protocol.cap

    def observation(self) -> np.ndarray:
        """The console's RAM, uint8 [128]."""
        return self.ale.getRAM()

    def now(self) -> np.ndarray:
        """The grey screen, uint8 [210, 160]."""
        return self.ale.getScreenGrayscale()

    def screen(self) -> np.ndarray:
        """The screen, max-pooled over the last two frames where the protocol says so."""
        now = self.now()
        return now if self.before is None else np.maximum(self.before, now)
