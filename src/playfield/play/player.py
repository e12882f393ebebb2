"""Games step by step: the picture, the observation, what the policy says of it, and the action."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from playfield.envs import make_from
from playfield.envs.base import EnvSpec
from playfield.envs.picture import of_shape
from playfield.play.policy import Policy, chooser, explainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Moment:
    """One step of a game, before and after the action.

    Attributes:
        frame: uint8 [H, W, 3] picture of the game when the action was chosen.
        obs: the observation, without a batch axis.
        outputs: `Policy.explain` of it, without a batch axis.
        action, reward: of this step.
        score: raw score of the game after the step.
        step: number of the step in this game, from 0.
        game: number of the game, from 0.
        over: the game ended with this step.
    """

    frame: np.ndarray
    obs: np.ndarray
    outputs: dict[str, Any]
    action: int
    reward: float
    score: float
    step: int
    game: int
    over: bool


class Player:
    """Plays games of `policy` from `seed`, or replays `actions` of games that were played from that seed.

    Atari frames come from a second emulator that gets the same seed and actions with its picture unprocessed;
    under RAM observations from the emulator itself, whose seeds mean other games.

    A game of an environment without a time limit is cut off after `max_steps` (None: `Family.most_steps`), and a
    warning says so.
    """

    def __init__(
        self, policy: Policy, seed: int, actions: Sequence[int] | None = None, max_steps: int | None = None
    ) -> None:
        self.policy, self.spec, self._choose = policy, policy.spec, chooser(policy)
        self._most = max_steps or self.spec.family.most_steps(self.spec.protocol)
        self.env: Any = make_from(self.spec, 1, max_steps=self._most)
        twin = not self.spec.family.can_render(self.spec.protocol)
        self._twin: Any = make_from(self.spec, 1, raw=True) if twin else None
        self._actions = None if actions is None else list(actions)
        self._random = np.random.default_rng([seed, 1])
        seeds = np.array([seed])
        self._obs = self.env.reset(seeds)
        self._picture = self._twin.reset(seeds) if self._twin is not None else None
        self._game = self._step = self._played = 0
        self._score = 0.0
        self._shape: tuple[int, ...] | None = None  # of the first picture

    def frame(self) -> np.ndarray:
        """The picture now, uint8 [H, W, 3]; if the env changes the size of its pictures, in that of the first."""
        picture: np.ndarray = self._picture[0] if self._picture is not None else self.env.render(0)
        if self._shape is None:
            self._shape = picture.shape
        return picture if picture.shape == self._shape else of_shape(picture, self._shape)

    def moments(self, first_game: int = 0, last_game: int | None = None) -> Iterator[Moment]:
        """Moments from the start of game `first_game` to the end of `last_game`; earlier games are skipped fast."""
        while last_game is None or self._game <= last_game:
            if self._actions is not None and self._played >= len(self._actions):
                return
            shown = self._game >= first_game
            obs = self._obs[0].copy()
            frame = self.frame().copy() if shown else None
            uniform = self._random.random(1)
            if self._actions is not None:
                action = int(self._actions[self._played])
            else:
                action = int(self._choose(self._obs, uniform)[0])
            outputs = {k: v[0] for k, v in explainer(self.policy)(self._obs).items()} if shown else {}
            record = self.env.step(np.array([action]))
            if self._twin is not None:
                self._picture = self._twin.step(np.array([action])).obs
            self._played += 1
            self._obs = record.obs
            self._score += float(record.reward[0])
            over = bool(record.episodes)
            if frame is not None:
                yield Moment(
                    frame,
                    obs,
                    outputs,
                    action,
                    float(record.reward[0]),
                    self._score,
                    self._step,
                    self._game,
                    over,
                )
            self._step += 1
            if over:
                if self._step == self._most:
                    logger.warning(f"game {self._game + 1} of {self.spec.id} was cut off after {self._step:,} steps")
                self._game, self._step, self._score = self._game + 1, 0, 0.0

    def close(self) -> None:
        self.env.close()
        if self._twin is not None:
            self._twin.close()


def fps_of(spec: EnvSpec) -> float:
    """Frames per second at which a film of this environment runs at the speed of the game."""
    return spec.family.fps(spec.id, spec.protocol)


def lives_of(player: Player) -> int | None:
    """Lives left in an Atari game that counts them."""
    return int(player.env.lives[0]) or None if player.spec.family.has_lives else None
