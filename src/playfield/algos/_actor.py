"""Acting by action values: exploration, the target network, and a worker's environments with their replay buffer."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from playfield.algos._q_network import Expect, noise_for
from playfield.compute import Compute
from playfield.envs.base import Episode, Step, VectorEnv, env_seeds
from playfield.errors import DivergedError
from playfield.replay.buffer import Replay
from playfield.runs.run import Run

HOLD = 30  # steps that a random action is held at most: half a swing of MountainCar, two seconds of Atari


class Target:
    """A copy of a network that does not learn: it takes over the network's weights when told to."""

    def __init__(self, net: nn.Module) -> None:
        self.net = copy.deepcopy(net)
        for p in self.net.parameters():
            p.requires_grad_(False)
            p.grad = None
            p.data = p.data.clone(memory_format=torch.preserve_format)

    def sync(self, net: nn.Module) -> None:
        for mine, other in zip(self.net.parameters(), net.parameters(), strict=True):
            mine.data.copy_(other.data)

    def state(self) -> dict[str, Any]:
        return {name: p.detach().float().contiguous().clone() for name, p in self.net.named_parameters()}

    def restore(self, state: dict[str, Any]) -> None:
        for name, p in self.net.named_parameters():
            p.data.copy_(state[name])


class Actor:
    """One worker's environments, random numbers and replay memory.

    `random` decides about exploration: one draw for each environment and step. `noise` is for noisy networks. `held`
    and `left` [N] are the random action that each environment repeats, and for how many steps yet.
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
        self.staged: list[tuple[np.ndarray, np.ndarray, np.ndarray, Step]] = []  # played, not yet remembered
        self.seconds = {"emulation": 0.0, "inference": 0.0}

    def play(
        self,
        net: nn.Module,
        expect: Expect,
        steps: int,
        epsilon: float,
        clip_reward: bool,
        zeta: float = 0.0,
        *,
        stage: bool = False,
    ) -> None:
        """Act for `steps` steps, with probability `epsilon` at random and greedily otherwise, and remember them.

        With `zeta`, a random action is held for a number of steps from the zeta distribution with that exponent
        (Dabney, Ostrovski and Barreto 2021), at most `HOLD`.

        Raises DivergedError when a value is not finite.
        """
        n, num_actions = self.env.num_envs, self.env.spec.num_actions

        def act(obs: np.ndarray, random: np.random.Generator) -> np.ndarray:
            explore = random.random(n) < epsilon
            actions = random.integers(num_actions, size=n)
            if zeta:
                fresh, lengths = explore & (self.left == 0), random.zipf(zeta, n)
                self.held = np.where(fresh, actions, self.held)
                self.left = np.where(fresh, np.minimum(lengths, HOLD), self.left)
                explore, actions = self.left > 0, self.held
                self.left = self.left - explore
            if not explore.all():
                with torch.no_grad():
                    outputs = net(torch.from_numpy(obs).to(self.device), noise_for(net, self.noise, n))
                    q = expect(outputs).cpu().numpy()
                if not math.isfinite(float(q.sum())):
                    raise DivergedError("a value is not finite: lower the learning rate (--lr)")
                actions = np.where(explore, actions, q.argmax(-1))
            return actions

        self.follow(act, steps, clip_reward, stage=stage)

    def follow(
        self,
        act: Callable[[np.ndarray, np.random.Generator], np.ndarray],
        steps: int,
        clip_reward: bool,
        *,
        stage: bool = False,
    ) -> None:
        """Act for `steps` steps as `act` says of observations and random numbers, and remember them.

        With `stage`, the replay memory is left alone until `remember`, so that another thread may draw from it.
        """
        env, clock = self.env, time.perf_counter
        for t in range(steps):
            start = clock()
            actions = act(self.obs, self.random)
            seen = self.obs.copy()  # an environment may reuse its array
            acted = clock()
            step = env.step(actions)
            self.seconds["emulation"] += clock() - acted
            rewards = np.sign(step.reward) if clip_reward else step.reward
            if stage:
                self.staged.append((seen, actions, rewards.astype(np.float32), copy.deepcopy(step)))
            else:
                self.replay.add(seen, actions, rewards.astype(np.float32), step)
            self.episodes += [(t, episode) for episode in step.episodes]
            self.obs = step.obs
            self.seconds["inference"] += acted - start

    def remember(self) -> None:
        """Put what was staged into the replay memory."""
        for staged in self.staged:
            self.replay.add(*staged)
        self.staged.clear()

    def state(self) -> dict[str, Any]:
        return {
            "env": self.env.state(),
            "random": self.random.bit_generator.state,
            "noise": self.noise.bit_generator.state,
            "held": self.held.copy(),
            "left": self.left.copy(),
            "replay": self.replay.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.replay.restore(state["replay"])
        self.obs = self.env.restore(state["env"])
        self.random.bit_generator.state = state["random"]
        self.noise.bit_generator.state = state["noise"]
        self.held, self.left = np.array(state["held"]), np.array(state["left"])


def make_actors(run: Run, num_envs: int, capacity: int, mmap: bool = False, **replay: Any) -> list[Actor]:
    """A tracked `Actor` for each worker, with its share of the environments and of the replay memory.

    `replay` are arguments of `Replay`. Its files lie in the run's directory while checkpoints need them; with `mmap`
    its observations too (a run without a directory has them in memory).
    """
    workers, directory = run.compute.workers, run.directory
    replay["packed"] = replay["packed"] and run.spec.pixels and not mmap

    def make(env: VectorEnv, seed: np.random.SeedSequence, k: int) -> Actor:
        replay_seed, actor_seed = seed.spawn(2)
        save_to = None if directory is None else directory / "replay" / str(k)
        share = -(-capacity // workers)
        memory = Replay(
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
        run.after_save.append(memory.saved)
        return Actor(env, memory, actor_seed, run.compute)

    return run.workers("actor", num_envs, make)


def linear(start: float, end: float, share: float) -> float:
    """From `start` at share 0 to `end` at share 1 and after."""
    return start + (end - start) * min(max(share, 0.0), 1.0)
