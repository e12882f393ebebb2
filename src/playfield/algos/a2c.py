"""Advantage actor-critic (Mnih et al. 2016), synchronous: one update for each short rollout.

Differences from the paper:
1. Workers are synchronous and their gradients are summed (A2C), instead of asynchronous (A3C).
2. Truncated episodes bootstrap from the value of their true last observation.
3. Advantages are GAE; `gae_lambda` 1 gives the paper's n-step returns.

The preset `keras-cartpole` has the settings of the Keras documentation's actor-critic tutorial: one environment, one
update per episode from normalised Monte Carlo returns, Huber loss for the critic, sums instead of means, Adam at
0.01, and a shared layer of 128, with Keras's initial weights. The tutorial does not detach the advantage from the
graph, so that its policy loss trains the critic too: `policy_trains_critic`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from playfield.algos import _search
from playfield.algos._actor_critic import (
    ActorCritic,
    Rollout,
    collect,
    load_network,
    make_rollouts,
    share_advantages,
    team_plays,
    values_explained,
)
from playfield.envs.base import EnvSpec
from playfield.errors import UsageError
from playfield.nets import bodies
from playfield.nets.learner import Learner
from playfield.nets.optimizers import Adam, Optimizer, RMSProp
from playfield.options import Count, Fraction, LearningRate, NetName, Range, Scheduled
from playfield.runs import algorithm
from playfield.runs.algorithm import Budget, Network
from playfield.runs.run import Run

BUDGETS = {"vector": Budget(500_000, 0.5)}


@dataclass(frozen=True)
class Config(algorithm.Config):
    """Hyper-parameters of A2C."""

    budgets = BUDGETS
    processes = True
    search = _search.A2C

    added = frozenset({"policy_trains_critic", "replay_failures"})

    num_envs: Count = 16
    """Number of parallel environments."""
    rollout_steps: Count = 5
    """Steps per environment per rollout, which is one update."""
    whole_games: bool = False
    """One rollout is one game, of at most `rollout_steps` steps; needs one environment."""
    lr: LearningRate = 7e-4
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
    ent_coef: Annotated[float | str, Scheduled("entropy bonus")] = 0.01
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
    policy_trains_critic: bool = False
    """The policy loss also trains the critic, through the advantage."""
    clip_reward: bool = True
    """Learn from the sign of each reward; scores are not clipped."""
    replay_failures: Annotated[float, Range(0, 0.9)] = 0.0
    """Share of games that start up to 200 steps before a life was lost in an earlier one (Atari; 0: none)."""

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
            net="relu128:init=glorot",
            shared=True,
            policy_trains_critic=True,
            clip_reward=False,
        ),
    },
}


def network(spec: EnvSpec, cfg: Config) -> ActorCritic:
    """Policy and value: on one body for pixels and where `shared` says so, else on two."""
    return ActorCritic(spec, cfg.net, shared=cfg.shared or len(spec.obs_shape) == 3)


def a2c_loss(
    net: nn.Module, batch: dict[str, Tensor], cfg: Config, size: int, ent_coef: float | None = None
) -> tuple[Tensor, dict[str, float]]:
    """Policy gradient loss, value loss and entropy bonus of a worker's share of the batch.

    Args:
        batch: tensors of B samples: obs [B, ...], and [B] each actions, returns, advantages.
        size: divisor of the sums: samples of the whole batch for means over it, or 1 for sums.
        ent_coef: weight of the entropy bonus in this update (None: the Config's, at the start).

    Returns:
        The share's part of the loss, and its part of the logged metrics.
    """
    logits, values = net(batch["obs"])
    logprobs = torch.log_softmax(logits, -1)
    logprob = logprobs.gather(1, batch["actions"][:, None]).squeeze(1)
    advantages = batch["advantages"]
    if cfg.policy_trains_critic:
        advantages = advantages + values.detach() - values  # the same numbers, with the critic's gradient
    policy_loss = -(logprob * advantages).sum() / size
    value_error = (
        F.huber_loss(values, batch["returns"], reduction="sum")
        if cfg.huber
        else (values - batch["returns"]).square().sum()
    )
    value_loss = value_error / size
    entropy = -(logprobs.exp() * logprobs).sum() / size
    bonus = (cfg.at("ent_coef", 0.0) if ent_coef is None else ent_coef) * entropy
    loss = policy_loss + cfg.vf_coef * value_loss - bonus
    with torch.no_grad():
        stats = {
            "loss": loss,
            "policy_gradient_loss": policy_loss,
            "value_loss": value_loss,
            "entropy_loss": -entropy,
        }
        metrics = torch.stack(list(stats.values())).tolist()  # one transfer instead of four
    return loss, dict(zip(stats, metrics, strict=True))


def normalise(rollouts: list[Rollout], name: str) -> None:
    """Scale the array called `name` to mean 0 and standard deviation 1 over all workers, in place."""
    everything = np.concatenate([getattr(r, name).reshape(-1) for r in rollouts]).astype(np.float64)
    mean, std = everything.mean(), everything.std() + 1e-8
    for r in rollouts:
        setattr(r, name, ((getattr(r, name) - mean) / std).astype(np.float32))


def update(
    learner: Learner, rollouts: list[Rollout], cfg: Config, lr: float, ent_coef: float | None = None
) -> dict[str, float]:
    """One optimizer step on all steps taken in the rollouts; returns its metrics."""
    share = rollouts[0].taken * rollouts[0].env.num_envs
    size = 1 if cfg.sum_losses else share * len(rollouts)

    def share_of_loss(k: int, replica: nn.Module) -> tuple[Tensor, dict[str, float]]:
        names = ("obs", "actions", "returns", "advantages")
        batch = {name: rollouts[k].flat(name, np.arange(share)) for name in names}
        return a2c_loss(replica, batch, cfg, size, ent_coef)

    shares, grad_norm = learner.update(share_of_loss, lr)
    return {key: sum(share[key] for share in shares) for key in shares[0]} | {"grad_norm": grad_norm}


def train(run: Run, cfg: Config) -> None:
    """Train until the run's total steps or target score are reached: one update for each rollout."""
    cfg.check()
    with run.seeded():
        net = network(run.spec, cfg)

    def optimizer(params: list[Tensor]) -> Optimizer:
        if cfg.optimizer == "adam":
            return Adam(params, cfg.at("lr", 0.0), eps=cfg.eps)
        return RMSProp(params, cfg.at("lr", 0.0), alpha=0.99, eps=cfg.eps)

    learner = Learner(net, optimizer, run.compute, cfg.max_grad_norm, run.group)
    run.track("learner", learner, finite=learner.weights_finite, growth=learner.growth, close=learner.close)
    rollouts = make_rollouts(run, cfg.num_envs, cfg.rollout_steps)

    for progress in run.steps(cfg.batch):
        lr, ent_coef = (cfg.at(name, progress, run.step) for name in ("lr", "ent_coef"))

        with run.phase("rollout"):
            team_plays(
                learner.team,
                rollouts,
                lambda k: collect(learner.replicas[k], rollouts[k], cfg.clip_reward, stop_at_end=cfg.whole_games),
            )
        run.record(rollouts, rollouts[0].taken * cfg.num_envs)

        with run.phase("training"):
            share_advantages(learner.team, rollouts, cfg.gamma, cfg.gae_lambda)
            if cfg.norm_returns:
                normalise(rollouts, "returns")
                for r in rollouts:
                    r.advantages = r.returns - r.values[: r.taken]
            elif cfg.norm_advantage:
                normalise(rollouts, "advantages")
            metrics = update(learner, rollouts, cfg, lr, ent_coef)

        run.log(
            {f"train/{key}": value for key, value in metrics.items()}
            | {"train/explained_variance": values_explained(rollouts), "train/learning_rate": lr}
            | ({"train/ent_coef": ent_coef} if isinstance(cfg.ent_coef, str) else {}),
            updates=1,
        )


def load(spec: EnvSpec, cfg: Config, weights: dict[str, Any], device: str) -> Network:
    """The trained agent, see `load_network`."""
    return load_network(partial(network, spec, cfg), weights, device)
