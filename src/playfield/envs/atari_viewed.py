"""Atari games whose raw frames are preprocessed by a `View` and stacked."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from playfield.envs.atari_modes import pixels
from playfield.envs.atari_protocol import AtariProtocol
from playfield.envs.base import Step
from playfield.envs.checks import not_reset
from playfield.envs.views import View
from playfield.errors import DataError, UsageError


class Viewed:
    """`num_envs` games whose raw 210x160 RGB frames go through `view`.

    Observations are uint8 [N, H, W, C * protocol.stack], the newest frame in the last channels. At the start of an
    episode the stack holds copies of its first frame. `size` and `colour` of the protocol are set to the full RGB
    screen, since the view decides both.

    Args:
        game: ROM name in ale-py, such as `breakout`.
        num_envs: games at once.
        protocol: what scores depend on.
        view: words such as `mono,trim,aimbot` (see `playfield.envs.views.View.parse`).
        threads: emulator threads.

    Raises:
        UsageError: unknown game or view, or a view that only fits Breakout's screen for another game.
    """

    def __init__(self, game: str, num_envs: int, protocol: AtariProtocol, view: str, *, threads: int = 1) -> None:
        self.view = View.parse(view)
        if self.view.breakout_only and game != "breakout":
            raise UsageError(f"the view {view!r} is made for Breakout's screen, not for {game}")
        self.protocol = protocol.changed(size=0, colour="rgb")
        self._raw = pixels(game, num_envs, self.protocol, threads=threads, raw=True)
        self.game, self.num_envs = game, num_envs
        height, width, channels = self.view.shape
        self._channels = channels
        self._stack = np.zeros((num_envs, height, width, channels * protocol.stack), np.uint8)
        self._started = False
        self.spec = dataclasses.replace(
            self._raw.spec,
            obs_shape=self._stack.shape[1:],
            protocol={**self._raw.spec.protocol, "view": self.view.spec},
        )

    @property
    def life_lost(self) -> np.ndarray:
        """bool [N], where the last step lost a life and the game goes on."""
        return self._raw.life_lost

    @property
    def held(self) -> np.ndarray:
        """Frames of each game's last step, int64 [N]."""
        return self._raw.held

    @property
    def lives(self) -> np.ndarray:
        """Lives left in each game [N]; 0 in games that count none."""
        return self._raw.lives

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """Start a new episode in every env, env i seeded with `seeds[i]`; returns obs uint8 [N, H, W, C].

        Raises UsageError for seeds of another shape or below 0.
        """
        frames = self._raw.reset(seeds)
        self._stack = self._filled(self.view(frames, np.ones(self.num_envs, bool)))
        self._started = True
        return self._stack

    def step(self, actions: np.ndarray) -> Step:
        """Apply `actions` int64 [N]. Raises EnvError before the first `reset` and for actions out of range."""
        record = self._raw.step(actions)
        viewed = self.view(record.next_obs, self._raw.life_lost)
        next_obs = obs = np.concatenate([self._stack[..., self._channels :], viewed], axis=-1)
        if record.next_obs is not record.obs:
            ended = np.zeros(self.num_envs, bool)
            ended[[episode.env for episode in record.episodes]] = True
            obs = next_obs.copy()
            obs[ended] = self._filled(self._first_view(record.obs[ended], ended))
        self._stack = obs
        return dataclasses.replace(record, obs=obs, next_obs=next_obs)

    def _filled(self, frames: np.ndarray) -> np.ndarray:
        """The stack of copies [n, H, W, C * stack] of frames [n, H, W, C]."""
        return np.tile(frames, self.protocol.stack)

    def _first_view(self, frames: np.ndarray, envs: np.ndarray) -> np.ndarray:
        """Views of the first frames, [n, 210, 160, 3], of new episodes in the envs marked in `envs` (bool [N]).

        Of those envs the view's ball positions are set; of the others they stay.
        """
        fresh = View.parse(self.view.spec)
        viewed = fresh(frames, np.ones(len(frames), bool))
        state, began = self.view.state(), fresh.state()
        for i, ball in zip(np.flatnonzero(envs).tolist(), began["balls"], strict=False):  # no HUD: no balls
            state["balls"][i] = ball
        self.view.restore(state)
        return viewed

    def state(self) -> dict[str, Any]:
        """A snapshot: the games' log, the view's ball positions and the frame stack.

        Raises EnvError before the first `reset`.
        """
        if not self._started:
            raise not_reset()
        return {"games": self._raw.state(), "view": self.view.state(), "stack": self._stack.copy()}

    def restore(self, state: dict[str, Any]) -> np.ndarray:
        """Continue from `state`; returns the obs to act on next [N, H, W, C].

        Raises:
            DataError: the state is of other games, another protocol, another view or another number of envs.

        Warns:
            RuntimeWarning: an env did not reach the state it was saved in (another version of ale-py).
        """
        stack = np.array(state["stack"], np.uint8)
        if stack.shape != self._stack.shape:
            raise DataError(f"the saved frame stack has shape {stack.shape}, this view's {self._stack.shape}")
        self.view.restore(state["view"])
        self._raw.restore(state["games"])
        self._stack = stack
        self._started = True
        return self._stack

    def close(self) -> None:
        """Release the emulators."""
        self._raw.close()
