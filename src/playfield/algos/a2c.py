"""Advantage actor-critic (Mnih et al. 2016), synchronous: one update for each short rollout.

Where this differs from the paper:
1. Workers advance together and their gradients are summed (A2C), instead of racing (A3C).
2. A truncated game bootstraps from the value of its true last observation.
3. Advantages may be lambda-returns (`gae_lambda` 1 gives the paper's n-step returns).

The preset `keras-cartpole` is the actor-critic tutorial of the Keras documentation in these terms: one
environment, one update a game from normalised Monte Carlo returns, Huber loss for the critic, sums instead of
means, Adam at 0.01 on a shared layer of 128.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from playfield.algos._actor_critic import ActorCritic, collect, load_network, make_rollouts
from playfield.algos._returns import explained_variance, gae, next_values
from playfield.envs.base import EnvSpec
from playfield.errors import UsageError
from playfield.nets import bodies
from playfield.nets.learner import Learner
from playfield.options import Count, Fraction, NetName
from playfield.play.policy import Network
from playfield.runs import algorithm
from playfield.runs.run import Run


@dataclass(frozen=True)
class Config(algorithm.Config):
    """Hyper-parameters of A2C."""

    num_envs: Count = 16
    """Number of parallel environments."""
    rollout_steps: Count = 5
    """Steps per environment per rollout, which is one update."""
    whole_games: bool = False
    """One rollout is one game, of at most `rollout_steps` steps; needs one environment."""
    lr: float = 7e-4
    """Learning rate."""
    anneal: bool = True
    """Anneal the learning rate linearly to 0."""
    gamma: Fraction = 0.99
    """Discount factor."""
    gae_lambda: Fraction = 1.0
    """Lambda of generalised advantage estimation; 1 gives n-step returns."""
    norm_returns: bool = False
    """Normalise the returns of each update. The critic then predicts normalised ones, also where a cut game
    bootstraps from it, so this is for whole games."""
    norm_advantage: bool = False
    """Normalise the advantages of each update."""
    huber: bool = False
    """Huber instead of squared error for the value."""
    sum_losses: bool = False
    """Sum the losses of an update's steps instead of averaging them."""
    ent_coef: float = 0.01
    """Entropy coefficient."""
    vf_coef: float = 0.5
    """Value loss coefficient."""
    max_grad_norm: float = 0.5
    """Maximum gradient norm (0: no clipping)."""
    optimizer: Literal["rmsprop", "adam"] = "rmsprop"
    """rmsprop or adam."""
    eps: float = 1e-5
    """Optimizer epsilon."""
    net: NetName = "auto"
    """Network body (`playfield nets` lists them) with its options, as in nature:width=2,norm=layer."""
    shared: bool = False
    """Share one body between policy and value on vectors too (pixels always do)."""
    clip_reward: bool = True
    """Learn from the sign of each reward; scores are not clipped."""

    def check(self, workers: int = 1) -> None:
        """Raise UsageError where values cannot go together."""
        super().check(workers)
        if self.whole_games and self.num_envs != 1:
            raise UsageError("--whole-games needs --num-envs 1")
        if (self.norm_advantage or self.norm_returns) and self.batch == 1:
            raise UsageError("one step leaves nothing to normalise: raise --num-envs or --rollout-steps")

    def fit(self, spec: EnvSpec) -> Self:
        """Raise UsageError where the network does not take these observations."""
        bodies.check(self.net, spec.obs_shape)
        return self

    def schedule(self, steps: int) -> list[str]:
        """What is annealed."""
        return algorithm.annealed(["learning rate"] * self.anneal, steps)


PRESETS: dict[str, dict[str, Config]] = {
    "atari": {
        "default": Config(),
        "sb3-default": Config(num_envs=1, anneal=False, ent_coef=0.0, clip_reward=False),
    },
    "vector": {
        "default": Config(
            num_envs=16,
            rollout_steps=8,
            lr=1e-3,
            gae_lambda=0.95,
            norm_advantage=True,
            ent_coef=0.0,
            optimizer="adam",
            clip_reward=False,
        ),
        "sb3-default": Config(num_envs=1, anneal=False, ent_coef=0.0, clip_reward=False),
        "keras-cartpole": Config(
            num_envs=1,
            rollout_steps=10_000,
            whole_games=True,
            lr=0.01,
            anneal=False,
            norm_returns=True,
            huber=True,
            sum_losses=True,
            ent_coef=0.0,
            vf_coef=1.0,
            max_grad_norm=0.0,
            optimizer="adam",
            eps=1e-7,
            net="relu128",
            shared=True,
            clip_reward=False,
        ),
    },
}


def network(spec: EnvSpec, cfg: Config) -> ActorCritic:
    """Policy and value: on one body for pixels and where `shared` says so, else on two."""
    return ActorCritic(spec, cfg.net, shared=cfg.shared or len(spec.obs_shape) == 3)


def a2c_loss(net: nn.Module, batch: dict[str, Tensor], cfg: Config, size: int) -> tuple[Tensor, dict[str, float]]:
    """Policy gradient, value loss and entropy bonus of a share of the batch.

    Args:
        batch: tensors [B, ...]: obs, actions, returns, advantages.
        size: what sums are divided by: steps of the whole batch, or 1 to sum.
    """
    logits, values = net(batch["obs"])
    logprobs = torch.log_softmax(logits, -1)
    logprob = logprobs.gather(1, batch["actions"][:, None]).squeeze(1)
    policy_loss = -(logprob * batch["advantages"]).sum() / size
    value_error = (
        F.huber_loss(values, batch["returns"], reduction="sum")
        if cfg.huber
        else (values - batch["returns"]).square().sum()
    )
    value_loss = value_error / size
    entropy = -(logprobs.exp() * logprobs).sum() / size
    loss = policy_loss + cfg.vf_coef * value_loss - cfg.ent_coef * entropy
    with torch.no_grad():
        stats = {
            "loss": loss,
            "policy_gradient_loss": policy_loss,
            "value_loss": value_loss,
            "entropy_loss": -entropy,
        }
        packed = torch.stack(list(stats.values())).tolist()
    return loss, dict(zip(stats, packed, strict=True))


def train(run: Run, cfg: Config) -> None:
    """Train until `run` says that it is enough."""
    cfg.check()
    with run.seeded():
        net = network(run.spec, cfg)

    def optimizer(params: list[Tensor]) -> torch.optim.Optimizer:
        if cfg.optimizer == "adam":
            return torch.optim.Adam(params, cfg.lr, eps=cfg.eps, fused=True)
        return torch.optim.RMSprop(params, cfg.lr, alpha=0.99, eps=cfg.eps)

    learner = run.track("learner", Learner(net, optimizer, run.compute, cfg.max_grad_norm))
    rollouts = make_rollouts(run, cfg.num_envs, cfg.rollout_steps)

    for progress in run.steps(cfg.batch):
        lr = cfg.lr * (1.0 - progress) if cfg.anneal else cfg.lr

        with run.phase("rollout"):
            learner.team.run(
                lambda k: collect(learner.replicas[k], rollouts[k], cfg.clip_reward, stop_at_end=cfg.whole_games)
            )
        taken = rollouts[0].taken
        size = taken * cfg.num_envs
        run.record(rollouts, taken * cfg.num_envs)

        with run.phase("training"):
            for r in rollouts:
                values, ends = r.values[:taken], r.truncated[:taken]
                following = next_values(values, r.last_values, ends, r.cut_values[:taken])
                r.advantages = gae(
                    r.rewards[:taken],
                    values,
                    following,
                    r.terminated[:taken],
                    ends,
                    cfg.gamma,
                    cfg.gae_lambda,
                )
                r.returns = r.advantages + values
            if cfg.norm_returns:
                scale(rollouts, "returns")
                for r in rollouts:
                    r.advantages = r.returns - r.values[:taken]
            elif cfg.norm_advantage:
                scale(rollouts, "advantages")

            def loss(k: int, replica: nn.Module, size: int = size) -> tuple[Tensor, dict[str, float]]:
                index = np.arange(size // len(rollouts))
                names = ("obs", "actions", "returns", "advantages")
                batch = {name: rollouts[k].flat(name, index) for name in names}
                return a2c_loss(replica, batch, cfg, 1 if cfg.sum_losses else size)

            parts, _ = learner.update(loss, lr)

        values = np.concatenate([r.values[:taken].reshape(-1) for r in rollouts])
        returns = np.concatenate([r.returns.reshape(-1) for r in rollouts])
        run.log(
            {f"train/{key}": sum(p[key] for p in parts) for key in parts[0]}
            | {
                "train/explained_variance": explained_variance(values, returns),
                "train/learning_rate": lr,
            },
            updates=1,
        )


def scale(rollouts: list[Any], name: str) -> None:
    """Subtract the mean and divide by the standard deviation over all workers, in place."""
    everything = np.concatenate([getattr(r, name).reshape(-1) for r in rollouts]).astype(np.float64)
    mean, std = everything.mean(), everything.std() + 1e-8
    for r in rollouts:
        setattr(r, name, ((getattr(r, name) - mean) / std).astype(np.float32))


def load(spec: EnvSpec, cfg: Config, weights: dict[str, Any], device: str) -> Network:
    """The trained agent, see `load_network`."""
    return load_network(partial(network, spec, cfg), weights, device)
