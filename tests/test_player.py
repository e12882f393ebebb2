"""The player: replays of evaluated games, and pictures that belong to their observations."""

from __future__ import annotations

import numpy as np
import pytest

from game_replays import BREAKOUT, CARTPOLE
from playfield.play.evaluate import evaluate
from playfield.play.player import Player
from playfield.play.policy import RandomPolicy


@pytest.mark.parametrize(
    ("spec", "policy", "shape"),
    [(CARTPOLE, RandomPolicy(CARTPOLE), (400, 600, 3)), (BREAKOUT, RandomPolicy(BREAKOUT), (210, 160, 3))],
)
def test_player_replays_an_evaluated_game(spec, policy, shape):
    result = evaluate(policy, 3, seed=2, num_envs=1)
    game = result.games[1]
    player = Player(policy, game.seed, game.actions)
    moments = list(player.moments(first_game=game.number))
    player.close()
    assert len(moments) == game.length
    assert [m.step for m in moments] == list(range(game.length))
    assert {m.game for m in moments} == {game.number}
    assert moments[-1].score == game.score == sum(m.reward for m in moments)
    assert [m.over for m in moments] == [False] * (game.length - 1) + [True]
    assert [m.action for m in moments] == game.actions[-game.length :].tolist()
    frames = [m.frame for m in moments]
    assert all(f.shape == shape and f.dtype == np.uint8 for f in frames)
    assert len({f.tobytes() for f in frames}) > game.length // 2
    assert all(m.obs.shape == spec.obs_shape for m in moments)
    assert moments[0].outputs["probs"].shape == (spec.num_actions,)


def test_player_frames_belong_to_the_observations():
    """The second emulator stays in step: the picture, made small and grey, is the newest plane of the next obs."""
    import cv2

    player = Player(RandomPolicy(BREAKOUT), 11)
    near = []
    for m in player.moments(last_game=0):
        grey = cv2.cvtColor(m.frame, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, (84, 84), interpolation=cv2.INTER_AREA).astype(int)
        near.append(np.abs(small - m.obs[..., -1]).mean())
    player.close()
    assert np.max(near) < 2.5, np.max(near)


def test_player_goes_on_where_it_stopped():
    result = evaluate(RandomPolicy(CARTPOLE), 3, num_envs=1)
    player = Player(RandomPolicy(CARTPOLE), result.games[0].seed, result.games[-1].actions)
    scores = []
    for number in range(3):
        moments = list(player.moments(first_game=number, last_game=number))
        scores.append(moments[-1].score)
    player.close()
    assert scores == result.scores.tolist()


def test_player_plays_by_itself():
    def play() -> list:
        player = Player(RandomPolicy(CARTPOLE), 5)
        found = [(m.action, m.score) for m in player.moments(last_game=0)]
        player.close()
        return found

    first = play()
    assert first == play()
    assert {action for action, _ in first} == {0, 1}
    assert first[-1][1] == len(first)
