"""Proximal policy optimisation (Schulman et al. 2017), following its reference code as CleanRL documents it.

Differences from that code:
1. Truncated episodes bootstrap from the value of their true last observation.
2. Each worker shuffles its own share of a rollout, and every minibatch has as many samples from each share.
3. Pixel bodies may compute in bfloat16; heads, losses, sums of gradients and Adam are float32.
4. A step that presses FIRE after a lost life is learnt from like any other (see `envs/atari.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from playfield.algos import _search
from playfield.algos._actor_critic import (
    ActorCritic,
    Rollout,
    collect,
    load_network,
    make_rollouts,
    share_advantages,
    shuffled,
    team_plays,
    values_explained,
)
from playfield.envs.base import EnvSpec
from playfield.errors import UsageError
from playfield.nets import bodies
from playfield.nets.learner import Learner
from playfield.nets.optimizers import Adam, Optimizer
from playfield.options import Count, Fraction, LearningRate, NetName, Range, Scheduled
from playfield.runs import algorithm
from playfield.runs.algorithm import Budget, Network
from playfield.runs.run import Run

BUDGETS = {
    "atari": Budget(1_200_000, 10),
    "atari/long": Budget(3_000_000, 65),
    "atari/cleanrl": Budget(500_000, 10),
    "atari/sb3-default": Budget(200_000, 10),
    "ram": Budget(1_000_000, 10),
}


@dataclass(frozen=True)
class Config(algorithm.Config):
    """Hyper-parameters of PPO."""

    budgets = BUDGETS
    processes = True
    search = _search.PPO
    added = frozenset({"replay_failures", "norm_reward"})

    num_envs: Count = 16
    """Number of parallel environments."""
    rollout_steps: Count = 64
    """Steps per environment per rollout."""
    epochs: Count = 4
    """Epochs per rollout."""
    minibatches: Count = 4
    """Minibatches per epoch."""
    lr: LearningRate = 6e-4
    """Learning rate of Adam."""
    anneal: bool = True
    """Anneal the learning rate linearly to `anneal_to`."""
    anneal_clip: bool = False
    """Anneal the clip range linearly to `anneal_to`."""
    anneal_ent: bool = False
    """Anneal the entropy coefficient linearly to `anneal_to`."""
    anneal_to: Fraction = 0.0
    """Final value of annealed quantities, as a fraction of the initial one."""
    gamma: Fraction = 0.99
    """Discount factor."""
    gae_lambda: Fraction = 0.95
    """Lambda of generalised advantage estimation."""
    clip: Annotated[float | str, Range(0, 1), Scheduled("clip range", ("anneal_clip",))] = 0.1
    """Clip range of the probability ratio."""
    clip_value: bool = True
    """Clip the value loss to `clip` around the old value."""
    norm_advantage: bool = True
    """Normalise advantages in each minibatch."""
    ent_coef: Annotated[float | str, Scheduled("entropy bonus", ("anneal_ent",))] = 0.01
    """Entropy coefficient."""
    vf_coef: float = 0.5
    """Value loss coefficient."""
    max_grad_norm: float = 0.5
    """Maximum gradient norm (0: no clipping)."""
    target_kl: float = 0.0
    """Stop the epochs of an update when the approximate KL divergence exceeds this (0: never)."""
    adam_eps: float = 1e-5
    """Epsilon of Adam."""
    net: NetName = "auto"
    """Network body (`playfield nets` lists them) with its options, as in nature:width=2,norm=layer."""
    clip_reward: bool = True
    """Learn from the sign of each reward; scores are not clipped."""
    norm_reward: bool = False
    """Divide rewards by the running standard deviation of their discounted sum, at most 10; scores stay raw."""
    replay_failures: Annotated[float, Range(0, 0.9)] = 0.0
    """Share of games that start up to 200 steps before a life was lost in an earlier one (Atari; 0: none)."""

    def check(self, workers: int = 1) -> None:
        """Raise UsageError where values cannot go together."""
        super().check(workers)
        if self.batch % self.minibatches:
            raise UsageError(f"--minibatches {self.minibatches} must divide the rollout of {self.batch} steps")
        size = self.batch // self.minibatches
        if size % workers:
            raise UsageError(
                f"--minibatches {self.minibatches} makes minibatches of {size} samples, "
                f"which {workers} workers cannot share equally"
            )
        if self.norm_advantage and size == 1:
            raise UsageError(f"--minibatches {self.minibatches} leaves one sample to normalise: use fewer")

    def fit(self, spec: EnvSpec) -> Self:
        """Raise UsageError where the network does not take these observations."""
        bodies.check(self.net, spec.obs_shape)
        return self


SB3 = Config(
    num_envs=1,
    rollout_steps=2048,
    epochs=10,
    minibatches=32,
    lr=3e-4,
    anneal=False,
    clip=0.2,
    clip_value=False,
    ent_coef=0.0,
    vf_coef=1.0,  # SB3's 0.5 has no factor 1/2 beside it, ours has
    clip_reward=False,
)
PRESETS: dict[str, dict[str, Config]] = {
    "atari": {
        "default": Config(  # the best of a tuning, see docs/baselines.md
            epochs=2, minibatches=16, net="nips:motion=4", clip_value=False, anneal_ent=True, anneal_to=0.5
        ),
        "long": Config(net="nature", clip_value=False, anneal_ent=True, lr=4e-4),  # better in an hour
        "cleanrl": Config(num_envs=8, rollout_steps=128, epochs=4, lr=2.5e-4, net="nature"),
        "sb3-default": SB3,
    },
    "vector": {
        "default": Config(
            num_envs=8,
            rollout_steps=128,
            epochs=10,
            lr=2.5e-3,
            clip=0.2,
            ent_coef=0.0,
            clip_value=False,
            clip_reward=False,
        ),
        "cleanrl": Config(num_envs=4, rollout_steps=128, epochs=4, lr=2.5e-4, clip=0.2, clip_reward=False),
        "sb3-default": SB3,
    },
}


def network(spec: EnvSpec, cfg: Config) -> ActorCritic:
    """Policy and value: on one body for pixels, on two for vectors."""
    return ActorCritic(spec, cfg.net, shared=len(spec.obs_shape) == 3)


def ppo_loss(
    net: nn.Module, batch: dict[str, Tensor], cfg: Config, clip: float, size: int, ent_coef: float | None = None
) -> tuple[Tensor, dict[str, float]]:
    """Clipped surrogate objective, value loss and entropy bonus of a worker's share of a minibatch.

    Args:
        batch: tensors of B samples: obs [B, ...], and [B] each actions, logprobs and values (as collected),
            advantages (normalised), returns.
        clip: clip range of this update.
        size: samples in the whole minibatch; sums over shares divided by it add up to means over the minibatch.
        ent_coef: weight of the entropy bonus in this update (None: the Config's, at the start).

    Returns:
        The share's part of the loss, and its part of the logged means.
    """
    logits, values = net(batch["obs"])
    logprobs = torch.log_softmax(logits, -1)
    logprob = logprobs.gather(1, batch["actions"][:, None]).squeeze(1)
    log_ratio = logprob - batch["logprobs"]
    ratio = log_ratio.exp()
    advantages, returns = batch["advantages"], batch["returns"]
    policy_loss = -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages).sum() / size
    value_error = (values - returns).square()
    if cfg.clip_value:
        clipped = batch["values"] + (values - batch["values"]).clamp(-clip, clip)
        value_error = torch.maximum(value_error, (clipped - returns).square())
    value_loss = value_error.sum() / size  # the reference code's factor 1/2 is applied below
    entropy = -(logprobs.exp() * logprobs).sum() / size
    bonus = (cfg.at("ent_coef", 0.0) if ent_coef is None else ent_coef) * entropy
    loss = policy_loss + cfg.vf_coef * 0.5 * value_loss - bonus
    with torch.no_grad():
        stats = {
            "loss": loss,
            "policy_gradient_loss": policy_loss,
            "value_loss": value_loss,
            "entropy_loss": -entropy,
            "approx_kl": ((ratio - 1) - log_ratio).sum() / size,
            "clip_fraction": ((ratio - 1).abs() > clip).float().sum() / size,
        }
        metrics = torch.stack(list(stats.values())).tolist()  # one transfer instead of six
    return loss, dict(zip(stats, metrics, strict=True))


def update(
    learner: Learner,
    rollouts: list[Rollout],
    index: list[np.ndarray],
    cfg: Config,
    *,
    lr: float,
    clip: float,
    ent_coef: float,
) -> dict[str, float]:
    """One optimizer step on a minibatch; returns its metrics.

    `index` has for each worker the samples [B] of its rollout that belong to the minibatch, as for `Rollout.flat`.
    """
    advantages = np.concatenate([r.advantages.reshape(-1)[i] for r, i in zip(rollouts, index, strict=True)])
    mean, std = (advantages.mean(), advantages.std(ddof=1)) if cfg.norm_advantage else (0.0, 1.0)

    def share_of_loss(k: int, replica: nn.Module) -> tuple[Tensor, dict[str, float]]:
        names = ("obs", "actions", "logprobs", "advantages", "returns", "values")
        batch = {name: rollouts[k].flat(name, index[k]) for name in names}
        batch["advantages"] = (batch["advantages"] - float(mean)) / (float(std) + 1e-8)
        return ppo_loss(replica, batch, cfg, clip, len(advantages), ent_coef)

    shares, grad_norm = learner.update(share_of_loss, lr)
    return {key: sum(share[key] for share in shares) for key in shares[0]} | {"grad_norm": grad_norm}


def train(run: Run, cfg: Config) -> None:
    """Train until the run's total steps or target score are reached: collect, compute advantages, update."""
    compute = run.compute
    cfg.check(compute.workers)
    with run.seeded():
        net = network(run.spec, cfg)

    def adam(params: list[Tensor]) -> Optimizer:
        return Adam(params, cfg.at("lr", 0.0), eps=cfg.adam_eps)

    learner = Learner(net, adam, compute, cfg.max_grad_norm, run.group)
    run.track("learner", learner, finite=learner.weights_finite, growth=learner.growth, close=learner.close)
    rollouts = make_rollouts(run, cfg.num_envs, cfg.rollout_steps, cfg.gamma if cfg.norm_reward else None)
    share = cfg.batch // compute.workers  # samples of a worker in a rollout

    for progress in run.steps(cfg.batch):
        lr, clip, ent_coef = (cfg.at(name, progress, run.step) for name in ("lr", "clip", "ent_coef"))

        with run.phase("rollout"):
            team_plays(learner.team, rollouts, lambda k: collect(learner.replicas[k], rollouts[k], cfg.clip_reward))
        run.record(rollouts)

        metrics: list[dict[str, float]] = []
        with run.phase("training"):
            share_advantages(learner.team, rollouts, cfg.gamma, cfg.gae_lambda)
            for _ in range(cfg.epochs):
                order = shuffled(learner.team, rollouts, share, cfg.minibatches)
                for m in range(cfg.minibatches):
                    index = [samples[m] for samples in order]
                    metrics.append(update(learner, rollouts, index, cfg, lr=lr, clip=clip, ent_coef=ent_coef))
                if cfg.target_kl and metrics[-1]["approx_kl"] > cfg.target_kl:
                    break

        run.log(
            {f"train/{key}": float(np.mean([m[key] for m in metrics])) for key in metrics[0]}
            | {
                "train/explained_variance": values_explained(rollouts),
                "train/learning_rate": lr,
                "train/clip_range": clip,
            }
            | ({"train/ent_coef": ent_coef} if isinstance(cfg.ent_coef, str) else {}),
            updates=len(metrics),
        )


def load(spec: EnvSpec, cfg: Config, weights: dict[str, Any], device: str) -> Network:
    """The trained agent, see `load_network`."""
    return load_network(partial(network, spec, cfg), weights, device)
