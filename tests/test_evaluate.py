"""Evaluation: fixed shares, scores that a replay confirms, and the interval of their mean."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from game_replays import BREAKOUT, CARTPOLE, replay
from playfield.envs import make_envs
from playfield.errors import UsageError
from playfield.play.evaluate import Evaluation, Game, evaluate, report
from playfield.play.policy import RandomPolicy
from playfield.play.statistics import interval


class Lean:
    """Pushes the cart towards where the pole falls; better for some envs than for others."""

    spec, label = CARTPOLE, "lean"

    def act(self, obs, uniform=None):
        return (obs[:, 2] + 0.5 * obs[:, 3] > 0).astype(np.int64)

    def explain(self, obs):
        return {}


# Evaluation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("games", "num_envs"), [(7, 3), (3, 0), (12, 0), (1, 5), (4, 4)])
def test_every_env_plays_a_fixed_share(games, num_envs):
    told = []
    result = evaluate(RandomPolicy(CARTPOLE), games, num_envs=num_envs, on_game=lambda n, of: told.append((n, of)))
    n = min(num_envs or 10, games)
    seeds = [g.seed for g in result.games]
    shares = [seeds.count(s) for s in dict.fromkeys(seeds)]
    assert shares == [games // n + (i < games % n) for i in range(n)]
    for seed in set(seeds):
        assert [g.number for g in result.games if g.seed == seed] == list(range(seeds.count(seed)))
    assert told == [(i + 1, games) for i in range(games)]


def test_games_that_were_cut_off_are_counted():
    spec = make_envs("breakout", 1, cap=400).spec
    result = evaluate(RandomPolicy(spec), 6)
    assert result.cut == sum(g.length >= 85 for g in result.games) > 0
    assert result.summary()["cut"] == result.cut
    assert f"{result.cut} of 6 games, at 400 frames" in report(result)
    assert [g.truncated for g in result.games] == [g.length >= 100 for g in result.games]
    assert evaluate(RandomPolicy(CARTPOLE), 2).cut == 0


def test_a_game_that_ends_by_itself_just_before_the_cap_was_not_cut_off():
    """It was taken for one: its length was within 60 frames of the cap, some of which the start might have used."""
    games = [
        Game(1.0, 99, 5, 0, np.zeros(99, np.int64)),
        Game(1.0, 100, 5, 1, np.zeros(199, np.int64), truncated=True),
    ]
    result = Evaluation("breakout", "me", {"sticky": 0.0, "skip": 4, "cap": 400}, games, 0, 1.0, None)
    assert result.cut == 1
    assert replace(result, max_steps=5_000).cut == 1, "the cap came first"
    limited = [Game(200.0, 200, 5, 0, np.zeros(200, np.int64), truncated=True)]
    assert Evaluation("CartPole-v0", "me", {"time_limit": 200}, limited, 0, 1.0, None).cut == 0, "its own time limit"
    assert Evaluation("Own-v0", "me", {"time_limit": 200}, limited, 0, 1.0, None, max_steps=500).cut == 0
    assert Evaluation("Own-v0", "me", {}, limited, 0, 1.0, None, max_steps=200).cut == 1


def test_long_games_count_as_often_as_short_ones():
    """One env with long games, one with short ones: the first finisher must not fill the list."""

    class Uneven(RandomPolicy):
        def act(self, obs, uniform=None):
            good = Lean().act(obs)
            good[1:] = 0  # only env 0 plays well: its games last 500 steps, the others' about 10
            return good

    result = evaluate(Uneven(CARTPOLE), 8, num_envs=2)
    assert sorted(result.scores > 100) == [False] * 4 + [True] * 4


@pytest.mark.parametrize(("spec", "games", "num_envs"), [(CARTPOLE, 7, 3), (BREAKOUT, 3, 2)])
def test_scores_equal_a_replay_by_one_env(spec, games, num_envs):
    result = evaluate(RandomPolicy(spec), games, seed=3, num_envs=num_envs)
    for game in result.games:
        assert replay(spec, game) == (game.score, game.length, 0)


@pytest.mark.parametrize(("spec", "games"), [(CARTPOLE, 3), (BREAKOUT, 1)])
def test_a_seed_gives_one_evaluation(spec, games):
    def scores(seed: int, own: int) -> list:
        result = evaluate(RandomPolicy(spec, seed=own), games, seed=seed)
        return [(g.seed, g.number, g.score, g.actions.tolist()) for g in result.games]

    first = scores(1, 0)
    assert first == scores(1, 99)  # the policy's own generator is not used
    assert first != scores(2, 0)


def test_the_number_of_threads_changes_nothing():
    a, b = (evaluate(RandomPolicy(BREAKOUT), 2, threads=t).scores.tolist() for t in (1, 2))
    assert a == b


def test_summary():
    games = [Game(s, n, 5, i, np.zeros(n, np.int64)) for i, (s, n) in enumerate([(1.0, 10), (4.0, 20), (4.0, 60)])]
    result = Evaluation("breakout", "me", {"skip": 4}, games, 9, 1.23456, 0.5)
    summary = json.loads(json.dumps(result.summary()))
    assert summary["mean"] == 3
    assert (summary["median"], summary["min"], summary["max"]) == (4, 1, 4)
    assert summary["std"] == pytest.approx(math.sqrt(2))
    assert summary["mean_length"] == 30
    assert summary["scores"] == [1, 4, 4]
    assert summary["ci95"] is None  # three games are too few
    assert (summary["protocol"], summary["seed"], summary["seconds"]) == ({"skip": 4}, 9, 1.235)
    assert result.best is games[1]  # the first of the best


def test_human_normalized_score():
    result = evaluate(RandomPolicy(BREAKOUT), 2)
    expected = (result.scores.mean() - 1.7) / (30.5 - 1.7)  # Mnih et al. 2015: random 1.7; human 30.5 of Wang 2016
    assert result.human_normalized == pytest.approx(expected, abs=0.02)
    assert evaluate(RandomPolicy(CARTPOLE), 1).human_normalized is None


@pytest.mark.parametrize("options", [{"games": 0}, {"games": -1}, {"num_envs": -1}])
def test_impossible_evaluations(options):
    with pytest.raises(UsageError, match=r"--(games|num-envs)"):
        evaluate(RandomPolicy(CARTPOLE), **options)


# The interval --------------------------------------------------------------------------------------------


def test_interval_against_the_normal_approximation():
    scores = np.random.default_rng(1).normal(50, 10, 400)
    low, high = interval(scores)
    half = 1.959964 * scores.std() / math.sqrt(400)
    assert low == pytest.approx(scores.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(scores.mean() + half, abs=0.1 * half)
    low80, high80 = interval(scores, level=0.8)
    assert high80 - low80 == pytest.approx(2 * 1.281552 * scores.std() / 20, rel=0.05)


def test_interval_of_two_scores_by_enumeration():
    # Means of two draws from {0, 1}: 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4.
    assert interval([0, 1]) == (0, 1)
    assert interval([0, 1], level=0.4) == (0.5, 0.5)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=20), st.integers(0, 100))
def test_interval_properties(scores, shift):
    low, high = interval(scores, draws=500)
    assert min(scores) - 1e-9 <= low <= high <= max(scores) + 1e-9
    assert interval(scores, draws=500) == (low, high)
    moved = interval([s + shift for s in scores], draws=500)
    assert moved == pytest.approx((low + shift, high + shift))


def test_interval_of_nothing():
    assert all(math.isnan(x) for x in interval([]))


RANDOM = """
import sys
from playfield.cli import main
random = ["--agent", "random"]
assert main(["eval", "CartPole-v1", *random, "--games", "1"]) == 0
assert main(["record", "CartPole-v1", *random, "--steps", "2", "--out", "a.gif"]) == 0
assert main(["collect", "breakout", *random, "--steps", "2", "--num-envs", "1"]) == 0
assert "torch" not in sys.modules
"""


def test_a_random_agent_loads_no_torch(tmp_path):
    """It takes seconds to import."""
    done = subprocess.run([sys.executable, "-P", "-c", RANDOM], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
