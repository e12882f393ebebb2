"""What DQN and its family share: network and head, acting by values, and a worker's games with their memory."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lz4.block
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from playfield import nets
from playfield.compute import Compute, free_memory
from playfield.envs.base import EnvSpec, Episode, Step, VectorEnv
from playfield.errors import DivergedError, StorageError, UsageError
from playfield.layers import Pixels
from playfield.replay import Replay
from playfield.run import Run
from playfield.storage import free_disk

Expect = Callable[[Tensor], Tensor]
"""What a network puts out [N, A, ...] to values [N, A]."""


def identity(outputs: Tensor) -> Tensor:
    """`expect` of networks that put out values."""
    return outputs


class Noisy(nn.Module):
    """A dense layer whose weights are mean + std * noise, factorised (Fortunato et al. 2018).

    `noise` is a pair of arrays ([N, in], [N, out]): every sample has weights of its own. Without it, means count.
    """

    def __init__(self, inputs: int, outputs: int, std: float) -> None:
        super().__init__()
        edge = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(outputs, inputs).uniform_(-edge, edge))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-edge, edge))
        self.weight_std = nn.Parameter(torch.full((outputs, inputs), std * edge))
        self.bias_std = nn.Parameter(torch.full((outputs,), std * edge))

    def forward(self, x: Tensor, noise: tuple[Tensor, Tensor] | None = None) -> Tensor:
        mean = F.linear(x, self.weight, self.bias)
        if noise is None:
            return mean
        # (std * (out in^T)) x = out * (std (in * x)): no weight matrix of its own for each sample.
        return mean + noise[1] * F.linear(noise[0] * x, self.weight_std, self.bias_std)


Noise = list[tuple[Tensor, Tensor]]


HOLD = 30  # steps that a random action is held at most: half a swing of MountainCar, two seconds of Atari


class QNetwork(nn.Module):
    """Values of all actions on one body, or `outputs` numbers for each action.

    With `dueling` they are the state's value plus each action's advantage. Heads compute in float32 whatever the
    body's number format. Weights start as the layers' own defaults, like those of the reference implementations.
    """

    def __init__(
        self,
        spec: EnvSpec,
        net: str,
        dueling: bool = False,
        outputs: int = 1,
        noise_std: float = 0.0,
    ) -> None:
        super().__init__()
        self.body = nets.make(net, spec.obs_shape)
        self.outputs, self.num_actions, features = outputs, spec.num_actions, self.body.out_features

        def layer(size: int) -> nn.Module:
            return Noisy(features, size, noise_std) if noise_std else nn.Linear(features, size)

        self.advantage = layer(outputs * spec.num_actions)
        self.value = layer(outputs) if dueling else None

    @property
    def noisy(self) -> list[nn.Module]:
        """The layers that take noise."""
        return [layer for layer in (self.advantage, self.value) if isinstance(layer, Noisy)]

    def forward(self, obs: Tensor, noise: Noise | None = None) -> Tensor:
        """[N, ...] observations to float32 [N, A], or [N, A, outputs] with more than one."""
        features = self.body(obs).float()
        each = iter(noise or ())
        advantage = self.advantage(features, next(each)) if noise else self.advantage(features)
        if self.outputs > 1:
            advantage = advantage.unflatten(1, (self.num_actions, self.outputs))
        if self.value is None:
            return advantage
        value = self.value(features, next(each)) if noise else self.value(features)
        if self.outputs > 1:
            value = value[:, None]
        return value + advantage - advantage.mean(1, keepdim=True)


def noise_for(net: nn.Module, random: np.random.Generator, size: int) -> Noise | None:
    """Factorised noise for `size` samples: f(x) = sign(x) sqrt|x| of normal x; None for a net without noise."""
    layers = getattr(net, "noisy", [])
    device = next(net.parameters()).device if layers else None

    def draw(width: int) -> Tensor:
        x = random.standard_normal((size, width), np.float32)
        return torch.from_numpy(np.sign(x) * np.sqrt(np.abs(x))).to(device)

    return [(draw(layer.weight.shape[1]), draw(layer.weight.shape[0])) for layer in layers] or None


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
        self.obs = env.reset(env_seed.generate_state(env.num_envs, np.uint32).astype(np.int64) % (2**31 - 1))
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
            stack=pictures(run.spec),
            save_to=save_to,
            mapped=save_to if mmap else None,
            keep=run.keep + 2,
            **replay,
        )
        run.after_save.append(memory.saved)
        return Actor(env, memory, actor_seed, run.compute)

    return run.workers("actor", num_envs, make)


def bytes_each(env: VectorEnv, packed: bool, alpha: float) -> tuple[float, float]:
    """Bytes that a replay memory takes for each entry: its observation, and all else.

    What compressed observations take is measured on 200 random steps of `env`, and half of it is added, since trained
    agents see more varied pictures (a very good one of Breakout needs 1.4 times as much).
    """
    rest = 6 + 32 * bool(alpha)  # action, reward, kind; the tree of priorities, at most
    if not (packed and env.spec.pixels):
        size = math.prod(env.spec.obs_shape) * np.dtype(env.spec.obs_dtype).itemsize
        return size / pictures(env.spec), rest
    rng, obs, sizes = np.random.default_rng(0), env.reset(np.arange(env.num_envs)), []
    for _ in range(200):
        sizes += [len(lz4.block.compress(np.ascontiguousarray(one), store_size=False)) for one in obs]
        obs = env.step(rng.integers(env.spec.num_actions, size=env.num_envs)).obs
    return 1.5 * float(np.mean(sizes)) + 41, rest


def drawn_bytes(spec: EnvSpec, net: str, count: int) -> int:
    """Bytes that a round of learning takes for `count` transitions drawn at once, beside the replay memory.

    Those are the observation, the one that follows, and what the target network makes of that: the input of its
    largest layer, and twice the output (before and after an activation).
    """
    sizes = [0]

    def widest(_module: nn.Module, args: Any, output: Tensor) -> None:
        sizes.append(4 * (args[0].numel() + 2 * output.numel()))

    with torch.device("meta"), torch.no_grad():
        body = nets.make(net, spec.obs_shape)
        for module in body.modules():
            if not list(module.children()) or isinstance(module, Pixels):
                module.register_forward_hook(widest)
        body(torch.empty((1, *spec.obs_shape), dtype=getattr(torch, spec.obs_dtype)))
    return count * (2 * math.prod(spec.obs_shape) * np.dtype(spec.obs_dtype).itemsize + max(sizes))


def memory_line(
    env: VectorEnv, capacity: int, packed: bool, alpha: float, mapped: Path | None = None, drawn: int = 0
) -> str:
    """The words of `memory_need`."""
    return memory_need(env, capacity, packed, alpha, mapped, drawn)[2]


def memory_need(
    env: VectorEnv, capacity: int, packed: bool, alpha: float, mapped: Path | None = None, drawn: int = 0
) -> tuple[float, float, str]:
    """What a replay memory of `capacity` observations takes: bytes of memory, bytes of the disk, both in words.

    Args:
        mapped: where its observations lie in a file; None: in memory.
        drawn: bytes that a round of learning takes besides (`drawn_bytes`).

    Raises UsageError when it does not fit into the memory that is free, StorageError when not on that disk.
    """
    packed = packed and env.spec.pixels and mapped is None
    obs, rest = bytes_each(env, packed, alpha)
    each, line, disk = obs + rest, f"{capacity:,} observations", 0.0
    if mapped is not None:
        disk = capacity * obs
        line += f" in a mapped file of {disk / 1e9:.2f} GB on the disk, and"
        room = free_disk(mapped)
        if disk > 0.95 * room:
            fits = int(0.95 * room / obs) // 1000 * 1000
            hint = f"use --capacity {fits} or another disk (--run)" if fits else "use another disk (--run)"
            told = f"a replay memory of {capacity:,} observations needs {disk / 1e9:.2f} GB on the disk"
            raise StorageError(f"{told} of {mapped}: {room / 1e9:.2f} GB are free; {hint}")
        each = rest
    else:
        line += ","
    need, free = round(capacity * each), free_memory()
    line += f" about {need / 1e9:.2f} GB{' compressed' if packed else ' of memory' if mapped else ''}"
    if drawn >= 5e6:
        line += f", and {drawn / 1e9:.2f} GB for what a round draws"
    if free is not None and need + drawn > 0.9 * free:
        fits = int((0.9 * free - drawn) / each) // 1000 * 1000
        hints = [f"--capacity {fits}"] * (fits > 0)
        if need > 0.1 * free:  # else there is nothing to be gained from it
            hints += ["--packed true"] * (env.spec.pixels and not packed and mapped is None)
            hints += ["--mmap true"] * (mapped is None)
        hints += ["a smaller --batch-size or --rollout-steps"] * (drawn > 0.1 * free)
        use = f"use {' or '.join(hints)}" if hints else "end other programs"
        raise UsageError(f"a replay memory of {line} does not fit: {free / 1e9:.2f} GB are free; {use}")
    return need + drawn, disk, line


def linear(start: float, end: float, share: float) -> float:
    """From `start` at share 0 to `end` at share 1 and after."""
    return start + (end - start) * min(max(share, 0.0), 1.0)


def pictures(spec: EnvSpec) -> int:
    """How many successive pictures an observation is made of."""
    return int(spec.protocol.get("stack", 1)) if spec.pixels else 1
