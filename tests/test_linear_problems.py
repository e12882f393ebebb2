"""The small problems: equal to Gymnasium's classes and to the lesson's equations, compiled and not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gymnasium.envs.classic_control import AcrobotEnv, CartPoleEnv, MountainCarEnv

from linear_naive import LessonCar
from playfield.errors import UsageError
from playfield.linear import problems

PEERS = {"mountain-car-gym": MountainCarEnv, "cartpole": CartPoleEnv, "acrobot": AcrobotEnv}
SIZES = {"mountain-car": 2, "mountain-car-gym": 2, "cartpole": 4, "acrobot": 6, "random-walk": 1}


def ours(name: str, seed: int, compiled: bool = True):
    """(a state, functions to start, step and observe it) with a generator of its own."""
    kernels = [problems.start, problems.step, problems.observe]
    start, step, observe = kernels if compiled else [k.py_func for k in kernels]
    code, state, rng = problems.problem(name).code, np.zeros(problems.STATE), np.random.default_rng(seed)
    obs = np.zeros(SIZES[name])

    def see() -> np.ndarray:
        observe(code, state, obs)
        return obs.copy()

    return state, lambda: start(code, rng, state), lambda action: step(code, rng, state, action), see


@pytest.mark.parametrize("name", PEERS)
def test_one_step_from_any_state_is_gymnasiums(name):
    """From states all over the space, so that walls, wraps and ends are met; each step starts from equal states."""
    env, rng, n = PEERS[name](), np.random.default_rng(3), SIZES[name]
    env.reset(seed=0)
    state, _, step, see = ours(name, 0)
    ranges = {
        "mountain-car-gym": [(-1.2, 0.6), (-0.07, 0.07)],
        "cartpole": [(-2.5, 2.5), (-3, 3), (-0.22, 0.22), (-3.5, 3.5)],
        "acrobot": [(-math.pi, math.pi)] * 2 + [(-4 * math.pi, 4 * math.pi), (-9 * math.pi, 9 * math.pi)],
    }[name]
    ends = 0
    for _ in range(2000):
        first = np.array([rng.uniform(*r) for r in ranges])
        if name == "mountain-car-gym" and rng.random() < 0.2:
            first[:] = -1.2, -rng.random() * 0.07  # into the left wall
        env.state = first.copy() if name == "acrobot" else tuple(map(float, first))
        env.steps_beyond_terminated = None
        state[: len(first)] = first
        action = int(rng.integers(env.action_space.n))
        obs, reward, terminated, truncated, _ = env.step(action)
        mine = step(action)
        assert mine == (reward, terminated)
        assert not truncated
        ends += terminated
        theirs = np.array(env.state, float)
        if name == "mountain-car-gym":
            assert (state[:2] == theirs).all()
            assert (see() == obs.astype(float)).all()
        else:  # numpy's cosines and powers differ from the C library's in a last bit
            assert state == pytest.approx(theirs, rel=1e-12, abs=1e-12)
            assert see()[:n] == pytest.approx(obs, rel=1e-6, abs=1e-6)
    assert 20 < ends < 1900


@pytest.mark.parametrize("name", PEERS)
def test_whole_games_of_random_actions_are_gymnasiums(name):
    """Both draw the start from PCG64 with the same seed; then 500 random actions, or until the game ends."""
    for seed in range(8):
        env = PEERS[name]()
        obs, _ = env.reset(seed=seed)
        state, start, step, see = ours(name, seed)
        start()
        exact = name == "mountain-car-gym"
        assert (see() == obs).all()
        actions = np.random.default_rng(100 + seed).integers(env.action_space.n, size=500)
        for action in actions:
            obs, reward, terminated, _, _ = env.step(int(action))
            assert step(int(action)) == (reward, terminated)
            assert see() == pytest.approx(obs, abs=0 if exact else 1e-5)
            if exact:
                assert (state[:2] == env.state).all()
            if terminated:
                break
        env.close()


def test_the_lessons_car():
    """Full power towards where it moves: it reaches the goal, every step as in the lesson's equations."""
    game, lengths, walls = LessonCar(), [], 0
    for seed in range(10):
        rng, (state, start, step, see) = np.random.default_rng(seed), ours("mountain-car", seed)
        start()
        theirs, over = game.start(rng), False
        assert -0.6 <= theirs[0] < -0.4
        assert tuple(state[:2]) == theirs
        if seed % 2:
            theirs = state[0], state[1] = -1.1, -0.06  # into the left wall
        lengths.append(0)
        while not over:
            action = 2 if theirs[1] >= 0 else 0
            theirs, reward, over = game.step(theirs, action)
            assert step(action) == (reward, over) == (-1.0, over)
            assert tuple(state[:2]) == theirs == tuple(see())
            lengths[-1] += 1
            walls += theirs[0] == -1.2
        assert theirs[0] == 0.5
    assert 20 < min(lengths) <= max(lengths) < 200
    assert walls >= 5


def test_the_lessons_car_ends_where_gymnasiums_goes_on_to():
    for name, end in (("mountain-car", 0.5), ("mountain-car-gym", 0.52)):
        state, _, step, _ = ours(name, 0)
        state[:2] = 0.45, 0.07
        step(2)
        assert state[0] == pytest.approx(end, abs=1e-3)


def test_random_walk():
    """Half of the steps go each way; -1 beyond the left end, +1 beyond the right, 0 between."""
    state, start, step, see = ours("random-walk", 1)
    moves, ends = [], []
    for _ in range(200):
        start()
        assert state[0] == 9 == see()[0]
        while True:
            before = state[0]
            reward, over = step(0)
            moves.append(state[0] - before)
            assert abs(moves[-1]) == 1
            if over:
                ends.append(reward)
                assert (state[0], reward) in ((-1, -1.0), (19, 1.0))
                break
            assert reward == 0
            assert 0 <= state[0] < 19
    assert abs(np.mean(moves)) < 4 / math.sqrt(len(moves))
    assert abs(np.mean(ends)) < 4 / math.sqrt(len(ends))
    assert len(moves) / len(ends) == pytest.approx(100, rel=0.2)  # 10 x 10 steps from the middle of 19


def test_walk_values_solve_the_bellman_equation():
    values = np.concatenate([[0.0], problems.walk_values(), [0.0]])
    rewards = np.zeros((19, 2))
    rewards[0, 0], rewards[-1, 1] = -1, 1
    aim = 0.5 * (rewards[:, 0] + values[:-2]) + 0.5 * (rewards[:, 1] + values[2:])
    assert values[1:-1] == pytest.approx(aim, abs=1e-12)


@pytest.mark.parametrize("name", SIZES)
def test_compiled_is_plain_python_bit_for_bit(name):
    fast, slow = ours(name, 5), ours(name, 5, compiled=False)
    actions = np.random.default_rng(6).integers(problems.problem(name).actions, size=400)
    assert fast[1]() == slow[1]()
    for action in actions:
        assert fast[2](int(action)) == slow[2](int(action))
        assert (fast[0] == slow[0]).all()
        assert (fast[3]() == slow[3]()).all()
        if name == "random-walk" and not 0 <= fast[0][0] < 19:
            fast[1](), slow[1]()


def test_unknown_problem():
    with pytest.raises(UsageError, match="did you mean mountain-car"):
        problems.problem("mountain-cart")
