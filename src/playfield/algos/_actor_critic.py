"""What PPO, A2C and PQN share: the actor-critic network, rollout storage, collecting rollouts, and advantages."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from playfield.algos._returns import explained_variance, gae, next_values
from playfield.algos._reward_scale import RewardScale
from playfield.compute import Compute
from playfield.envs.base import EnvSpec, Episode, VectorEnv, env_seeds
from playfield.errors import DivergedError
from playfield.nets import bodies
from playfield.nets.learner import load_weights
from playfield.nets.team import Team
from playfield.play.policy import log_softmax, sample
from playfield.runs.algorithm import Network
from playfield.runs.run import Run

Acting = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Observations [n, ...] to the logits [n, A] of the policy that collects a rollout, and values [n]."""


class ActorCritic(nn.Module):
    """A policy head and a value head, on one body (`shared`) or on a body each.

    Heads compute in float32 whatever the body's precision: bfloat16 values near 10 are 0.06 apart.
    """

    def __init__(self, spec: EnvSpec, net: str, shared: bool) -> None:
        super().__init__()
        self.body = bodies.for_spec(net, spec)
        self.critic_body = None if shared else bodies.for_spec(net, spec)
        self.policy = bodies.init_orthogonal(nn.Linear(self.body.out_features, spec.num_actions), 0.01)
        self.value = bodies.init_orthogonal(nn.Linear(self.body.out_features, 1), 1.0)
        self.body.init_heads(self.policy, self.value)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """[N, ...] observations to float32 logits [N, A] and values [N]."""
        features = self.body(obs).float()
        critic = features if self.critic_body is None else self.critic_body(obs).float()
        return self.policy(features), self.value(critic).squeeze(-1)


class Rollout:
    """One worker's environments, random numbers, and the storage of a rollout of T steps in n environments.

    Attributes:
        obs: [T, n, ...] tensor on the device, in the environment's dtype.
        actions, logprobs, values, rewards, terminated, truncated: [T, n] arrays. `values` and `logprobs` are those
            computed while collecting; `rewards` are as learnt from (clipped).
        cut_values: [T, n] value of the last observation of an episode that was truncated in that step.
        next_obs, last_values: [n, ...] and [n], the observations after the last step and their values.
        advantages, returns: [T, n], see `compute_advantages`.
        taken: steps collected, at most T.
        episodes: (step within the rollout, finished episode), until `Run.record` takes them.
        scale: divides rewards by their running size, where there is one.
    """

    def __init__(
        self,
        env: VectorEnv,
        steps: int,
        seed: np.random.SeedSequence,
        compute: Compute,
        scale: RewardScale | None = None,
    ) -> None:
        self.env, self.steps, self.scale, n = env, steps, scale, env.num_envs
        spec = env.spec
        self.device = torch.device(compute.device)
        env_seed, action_seed, shuffle_seed = seed.spawn(3)
        self.random = np.random.Generator(np.random.PCG64(action_seed))
        self.shuffle = np.random.Generator(np.random.PCG64(shuffle_seed))
        self.next_obs = env.reset(env_seeds(env_seed, n))
        shape = (steps, n)
        self.obs = torch.empty((*shape, *spec.obs_shape), dtype=getattr(torch, spec.obs_dtype), device=self.device)
        self.actions = np.zeros(shape, np.int64)
        self.logprobs = np.zeros(shape, np.float32)
        self.values = np.zeros(shape, np.float32)
        self.rewards = np.zeros(shape, np.float32)
        self.terminated = np.zeros(shape, bool)
        self.truncated = np.zeros(shape, bool)
        self.cut_values = np.zeros(shape, np.float32)
        self.last_values = np.zeros(n, np.float32)
        self.advantages = np.zeros(shape, np.float32)
        self.returns = np.zeros(shape, np.float32)
        self.taken = steps
        self.episodes: list[tuple[int, Episode]] = []
        self.seconds = {"emulation": 0.0, "inference": 0.0}

    def infer(self, net: Acting, obs: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Logits [n, A] and values [n] of a batch on the device."""
        with torch.no_grad():
            logits, values = net(obs)
        return logits.cpu().numpy(), values.cpu().numpy()

    def flat(self, name: str, index: np.ndarray) -> Tensor:
        """Rows of the array called `name` at `index` [B] into its [T * n] steps: [B, ...], a tensor on the device."""
        array = getattr(self, name)
        if isinstance(array, Tensor):
            rows = array.view(array.shape[0] * array.shape[1], -1)
            picked = rows.index_select(0, torch.from_numpy(index).to(self.device))  # 20x faster than rows[index]
            return picked.view(len(index), *array.shape[2:])
        return torch.from_numpy(array.reshape(-1)[index]).to(self.device)

    def state(self) -> dict[str, Any]:
        """Environments and random numbers; the storage is filled anew by every rollout."""
        return {
            "env": self.env.state(),
            "random": self.random.bit_generator.state,
            "shuffle": self.shuffle.bit_generator.state,
        } | ({} if self.scale is None else {"scale": self.scale.state()})

    def restore(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        self.next_obs = self.env.restore(state["env"])
        self.random.bit_generator.state = state["random"]
        self.shuffle.bit_generator.state = state["shuffle"]
        if self.scale is not None:
            self.scale.restore(state["scale"])


def make_rollouts(run: Run, num_envs: int, steps: int, scale_gamma: float | None = None) -> list[Rollout]:
    """A `Rollout` for each worker, tracked by the run, with its share of `num_envs` environments.

    With `scale_gamma`, each scales its rewards by their sum with this discount factor.
    """

    def make(env: VectorEnv, seed: np.random.SeedSequence, _: int) -> Rollout:
        scale = None if scale_gamma is None else RewardScale(env.num_envs, scale_gamma)
        return Rollout(env, steps, seed, run.compute, scale)

    return run.workers("rollout", num_envs, make)


def collect(net: Acting, rollout: Rollout, clip_reward: bool, stop_at_end: bool = False) -> None:
    """Collect a rollout of `rollout.steps` steps with actions sampled from `net`: act, step, store.

    Args:
        net: policy and values.
        clip_reward: store the sign of rewards.
        stop_at_end: stop after a step in which an episode ends (`rollout.taken` has the number of steps).

    Raises:
        DivergedError: the network's outputs are not finite.
    """
    env, seconds = rollout.env, rollout.seconds
    obs = rollout.next_obs
    clock = time.perf_counter
    for t in range(rollout.steps):
        start = clock()
        stored = rollout.obs[t]
        stored.copy_(torch.from_numpy(obs))
        logits, values = rollout.infer(net, stored)
        logprobs = log_softmax(logits)
        if not math.isfinite(float(logprobs.sum())) or not math.isfinite(float(values.sum())):
            raise DivergedError("the network's output is not finite: lower the learning rate (--lr)")
        actions = sample(logprobs, rollout.random.random(len(obs)))
        acted = clock()
        step = env.step(actions)
        stepped = clock()
        rollout.actions[t] = actions
        rollout.logprobs[t] = np.take_along_axis(logprobs, actions[:, None], 1)[:, 0]
        rollout.values[t] = values
        reward = np.sign(step.reward) if clip_reward else step.reward
        rollout.rewards[t] = rollout.scale(reward, step.terminated | step.truncated) if rollout.scale else reward
        rollout.terminated[t] = step.terminated
        rollout.truncated[t] = step.truncated
        if step.truncated.any():
            successor = torch.from_numpy(step.next_obs).to(rollout.device)
            rollout.cut_values[t] = rollout.infer(net, successor)[1]
        rollout.episodes += [(t, episode) for episode in step.episodes]
        obs = step.obs
        seconds["inference"] += acted - start
        seconds["emulation"] += stepped - acted
        rollout.taken = t + 1
        if stop_at_end and step.episodes:
            break
    rollout.next_obs = obs
    rollout.last_values = rollout.infer(net, torch.from_numpy(obs).to(rollout.device))[1]


def compute_advantages(rollout: Rollout, gamma: float, lam: float) -> None:
    """Set `rollout.advantages` (GAE) and `rollout.returns` (lambda-returns) of the steps taken, [T, n] float32."""
    taken = rollout.taken
    values, truncated = rollout.values[:taken], rollout.truncated[:taken]
    after = next_values(values, rollout.last_values, truncated, rollout.cut_values[:taken])
    terminated = rollout.terminated[:taken]
    rollout.advantages = gae(rollout.rewards[:taken], values, after, terminated, truncated, gamma, lam)
    rollout.returns = rollout.advantages + values


def team_plays(team: Team, rollouts: list[Rollout], play: Callable[[int], None]) -> None:
    """Let every worker collect its rollout; what is recorded of it becomes known to all."""
    team.run(play)
    team.tell(rollouts, "episodes", "seconds", "taken")


def share_advantages(team: Team, rollouts: list[Rollout], gamma: float, lam: float) -> None:
    """`compute_advantages` of all rollouts, known to all workers."""
    team.each(lambda k: compute_advantages(rollouts[k], gamma, lam))
    team.tell(rollouts, "values", "advantages", "returns")


def shuffled(team: Team, rollouts: list[Rollout], share: int, minibatches: int) -> list[np.ndarray]:
    """For each worker the indices of its `share` samples in random order, [minibatches, share // minibatches]."""
    return team.each(lambda k: rollouts[k].shuffle.permutation(share).reshape(minibatches, -1))


def values_explained(rollouts: list[Rollout]) -> float:
    """Explained variance of the returns by the values that were predicted while collecting, over all workers."""
    values = np.concatenate([r.values[: r.taken].reshape(-1) for r in rollouts])
    returns = np.concatenate([r.returns.reshape(-1) for r in rollouts])
    return explained_variance(values, returns)


def load_network(build: Callable[[], ActorCritic], weights: dict[str, Any], device: str) -> Network:
    """A trained actor-critic as an agent: (logits, values) of observations; `build` makes its untrained network."""
    net = load_weights(build(), weights, device)

    def forward(obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            logits, values = net(torch.from_numpy(np.ascontiguousarray(obs)).to(device))
        return logits.cpu().numpy(), values.cpu().numpy()

    return Network(forward, net, build)
