"""Collecting transitions: a worker's environments, exploration and replay buffer; and the target network."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from playfield.compute import Compute
from playfield.envs.base import Episode, Step, VectorEnv, env_seeds
from playfield.envs.checks import like
from playfield.errors import DataError
from playfield.replay.buffer import Replay
from playfield.runs.run import Run

HOLD = 30  # maximum repeats of a random action: half a swing of MountainCar, two seconds of Atari


class Target:
    """The target network: a copy of a network that changes only when `sync` copies the weights again."""

    def __init__(self, net: nn.Module) -> None:
        self.net = copy.deepcopy(net)
        for p in self.net.parameters():
            p.requires_grad_(False)
            p.grad = None
            p.data = p.data.clone(memory_format=torch.preserve_format)

    def sync(self, net: nn.Module) -> None:
        """Copy the weights of `net`."""
        for mine, other in zip(self.net.parameters(), net.parameters(), strict=True):
            mine.data.copy_(other.data)

    def state(self) -> dict[str, Any]:
        """Weights by name, float32 copies."""
        return {name: p.detach().float().contiguous().clone() for name, p in self.net.named_parameters()}

    def restore(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        for name, p in self.net.named_parameters():
            p.data.copy_(state[name])


class Actor:
    """One worker's environments, random numbers and replay buffer.

    Attributes:
        random: for exploration: the same numbers are drawn in each step, whether they are used or not.
        noise: random numbers for noisy networks.
        held, left: [N] int64, the random action that each environment repeats, and for how many steps still.
        obs: [N, ...] the current observations.
        episodes: (step within the rollout, finished episode), until `Run.record` takes them.
        staged: steps collected but not yet stored in the replay buffer.
    """

    def __init__(self, env: VectorEnv, replay: Replay, seed: np.random.SeedSequence, compute: Compute) -> None:
        self.env, self.replay = env, replay
        self.device = torch.device(compute.device)
        env_seed, action_seed, noise_seed = seed.spawn(3)
        self.random = np.random.Generator(np.random.PCG64(action_seed))
        self.noise = np.random.Generator(np.random.PCG64(noise_seed))
        self.held, self.left = np.zeros(env.num_envs, np.int64), np.zeros(env.num_envs, np.int64)
        self.obs = env.reset(env_seeds(env_seed, env.num_envs))
        self.episodes: list[tuple[int, Episode]] = []
        self.staged: list[tuple[np.ndarray, np.ndarray, np.ndarray, Step]] = []
        self.seconds = {"emulation": 0.0, "inference": 0.0}

    def explore(self, epsilon: float, zeta: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Which environments take a random action in this step [N] bool, and random actions for all [N] int64.

        Each environment explores with probability `epsilon`, independently of the others. With `zeta`, it repeats a
        random action for a number of steps from the zeta distribution with that exponent (Dabney, Ostrovski and
        Barreto 2021), at most `HOLD`.
        """
        n, random = self.env.num_envs, self.random
        explore = random.random(n) < epsilon
        actions = random.integers(self.env.spec.num_actions, size=n)
        if zeta:
            start, lengths = explore & (self.left == 0), random.zipf(zeta, n)
            self.held = np.where(start, actions, self.held)
            self.left = np.where(start, np.minimum(lengths, HOLD), self.left)
            explore, actions = self.left > 0, self.held
            self.left = self.left - explore
        return explore, actions

    def collect(
        self, act: Callable[[np.ndarray], np.ndarray], steps: int, clip_reward: bool, *, stage: bool = False
    ) -> None:
        """Take `steps` steps in each environment and store them.

        Args:
            act: maps observations [N, ...] to actions [N].
            clip_reward: store the sign of rewards.
            stage: keep the steps back until `store_staged`, so that another thread may sample from the buffer.
        """
        env, clock = self.env, time.perf_counter
        for t in range(steps):
            start = clock()
            actions = act(self.obs)
            obs = self.obs.copy()  # an environment may reuse its array
            acted = clock()
            step = env.step(actions)
            self.seconds["emulation"] += clock() - acted
            rewards = np.sign(step.reward) if clip_reward else step.reward
            if stage:
                self.staged.append((obs, actions, rewards.astype(np.float32), copy.deepcopy(step)))
            else:
                self.replay.add(obs, actions, rewards.astype(np.float32), step)
            self.episodes += [(t, episode) for episode in step.episodes]
            self.obs = step.obs
            self.seconds["inference"] += acted - start

    def store_staged(self) -> None:
        """Store the staged steps in the replay buffer."""
        for staged in self.staged:
            self.replay.add(*staged)
        self.staged.clear()

    def state(self) -> dict[str, Any]:
        """Environments, random numbers, held actions and the replay buffer."""
        return {
            "env": self.env.state(),
            "random": self.random.bit_generator.state,
            "noise": self.noise.bit_generator.state,
            "held": self.held.copy(),
            "left": self.left.copy(),
            "replay": self.replay.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        self.replay.restore(state["replay"])
        self.obs = self.env.restore(state["env"])
        self.random.bit_generator.state = state["random"]
        self.noise.bit_generator.state = state["noise"]
        self.held, self.left = like("held", state["held"], self.held), like("left", state["left"], self.left)
        if ((self.held < 0) | (self.held >= self.env.spec.num_actions) | (self.left < 0)).any():
            raise DataError("the checkpoint's held actions are out of range")


def make_actors(run: Run, num_envs: int, capacity: int, mmap: bool = False, **replay: Any) -> list[Actor]:
    """An `Actor` for each worker, tracked by the run, with its share of the environments and of the replay capacity.

    `replay` are arguments of `Replay`. Its files lie in the run's directory while checkpoints need them. With `mmap`,
    its observations lie there too, in a memory-mapped file (a run without a directory keeps them in memory).
    """
    workers, directory = run.compute.workers, run.directory
    replay["packed"] = replay["packed"] and run.spec.pixels and not mmap

    def make(env: VectorEnv, seed: np.random.SeedSequence, k: int) -> Actor:
        replay_seed, actor_seed = seed.spawn(2)
        save_to = None if directory is None else directory / "replay" / str(k)
        share = -(-capacity // workers)
        buffer = Replay(
            run.spec,
            env.num_envs,
            share,
            replay_seed,
            stack=run.spec.stack,
            save_to=save_to,
            mapped=save_to if mmap else None,
            keep=run.keep + 2,
            **replay,
        )
        run.after_save.append(buffer.saved)
        return Actor(env, buffer, actor_seed, run.compute)

    return run.workers("actor", num_envs, make)


def linear(start: float, end: float, share: float) -> float:
    """Linear schedule: `start` at fraction `share` = 0, `end` from 1 on."""
    return start + (end - start) * min(max(share, 0.0), 1.0)
