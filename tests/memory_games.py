"""Random games whose every observation is new, kept whole: what a replay memory is compared with."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from playfield.envs.base import EnvSpec, Episode, Step
from playfield.replay.buffer import Replay

GAMMA = 0.9
SIDE = 2


def spec(stack: int, channels: int = 1) -> EnvSpec:
    return EnvSpec("fake", "atari", (SIDE, SIDE, stack * channels), "uint8", 4, ("a", "b", "c", "d"), {})


@dataclass
class Past:
    """A game in full: observations as seen, one more than actions once it went on or was cut."""

    obs: list[np.ndarray] = field(default_factory=list)
    actions: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    terminated: list[bool] = field(default_factory=list)
    truncated: list[bool] = field(default_factory=list)


class Games:
    """Random games whose every picture is new, so that a stack says which step of which game it is."""

    def __init__(self, envs: int, stack: int, channels: int, seed: int, ends: float) -> None:
        self.rng = np.random.default_rng(seed)
        self.envs, self.stack, self.channels, self.ends = envs, stack, channels, ends
        self.id = 0
        self.pasts: list[list[Past]] = [[] for _ in range(envs)]
        self.obs = np.stack([self.begin(e) for e in range(envs)])
        self.length = np.zeros(envs, int)

    def picture(self) -> np.ndarray:
        self.id += 1
        digits = [self.id >> 8 * k & 255 for k in range(SIDE * SIDE)]
        one = np.array(digits, np.uint8).reshape(SIDE, SIDE, 1)
        return np.concatenate([one ^ c for c in range(self.channels)], axis=-1)

    def begin(self, env: int) -> np.ndarray:
        """A first stack: zeros, copies or anything, as protocols differ."""
        first = self.picture()
        how = self.rng.integers(3)
        before = [
            np.zeros_like(first) if how == 0 else first if how == 1 else self.picture() for _ in range(self.stack - 1)
        ]
        obs = np.concatenate([*before, first], axis=-1)
        self.pasts[env].append(Past(obs=[obs]))
        return obs

    def step(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, Step]:
        seen, actions = self.obs, self.rng.integers(0, 4, self.envs)
        rewards = self.rng.integers(-1, 2, self.envs).astype(np.float32)
        fate = self.rng.random(self.envs)
        over, cut, lost = fate < self.ends, (fate >= self.ends) & (fate < 2 * self.ends), fate > 1 - self.ends
        following = np.stack(
            [np.concatenate([seen[e][..., self.channels :], self.picture()], axis=-1) for e in range(self.envs)]
        )
        self.length += 1
        obs, episodes = following.copy(), []
        for e in range(self.envs):
            past = self.pasts[e][-1]
            past.actions.append(int(actions[e]))
            past.rewards.append(float(rewards[e]))
            past.terminated.append(bool(over[e] or lost[e]))
            past.truncated.append(bool(cut[e]))
            past.obs.append(following[e])
            if over[e] or cut[e]:
                episodes.append(Episode(e, 0.0, int(self.length[e])))
                self.length[e] = 0
                obs[e] = self.begin(e)
        self.obs = obs
        return seen, actions, rewards, Step(obs, following, rewards, over | lost, cut, episodes)


def expected(past: Past, t: int, n: int) -> tuple:
    total, discount = 0.0, 1.0
    for k in range(t, t + n):
        total += discount * past.rewards[k]
        discount *= GAMMA
        if past.terminated[k]:
            return past.actions[t], total, 0.0, None
        if past.truncated[k] or k == t + n - 1:
            return past.actions[t], total, discount, past.obs[k + 1]
    raise AssertionError


def check(replay: Replay, games: Games, batch) -> None:
    """Every drawn transition is the naive one, and its observation one of the games'."""
    known = {
        obs.tobytes(): (past, t)
        for lane in games.pasts
        for past in lane[-200:]
        for t, obs in enumerate(past.obs[: len(past.actions)])
    }
    naive = [expected(*known[obs.tobytes()], replay.n_step) for obs in batch.obs]
    actions, totals, discounts, followings = zip(*naive, strict=True)
    np.testing.assert_array_equal(batch.actions, actions)
    np.testing.assert_allclose(batch.returns, totals, rtol=0, atol=1e-6)
    np.testing.assert_allclose(batch.discounts, discounts, rtol=1e-6)
    goes_on = [b for b, following in enumerate(followings) if following is not None]
    if goes_on:
        np.testing.assert_array_equal(batch.next_obs[goes_on], [followings[b] for b in goes_on])


def play(
    steps: int,
    *,
    envs=3,
    stack=4,
    channels=1,
    n=1,
    capacity=120,
    seed=0,
    ends=0.05,
    packed=False,
    alpha=0.0,
    save_to=None,
):
    games = Games(envs, stack, channels, seed, ends)
    replay = Replay(
        spec(stack, channels),
        envs,
        capacity,
        np.random.SeedSequence(seed),
        n_step=n,
        gamma=GAMMA,
        stack=stack,
        packed=packed,
        alpha=alpha,
        save_to=save_to,
    )
    for _ in range(steps):
        seen, actions, rewards, step = games.step()
        replay.add(seen, actions, rewards, step)
    return replay, games
