"""Proximal policy optimisation (Schulman et al. 2017), as its reference code and CleanRL's account of it do it.

Where this differs from that code:
1. A truncated game bootstraps from the value of its true last observation.
2. Each worker shuffles its own share of a rollout, and every minibatch takes an equal part of each share.
3. Pixel bodies may compute in bfloat16; heads, losses, gradients' sums and Adam are float32.
4. A step after a lost life presses FIRE and is learnt from like any other (see `envs/atari.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from playfield.algos._actor_critic import ActorCritic, collect, load_network, make_rollouts
from playfield.algos._returns import explained_variance, gae, next_values
from playfield.envs.base import EnvSpec
from playfield.errors import UsageError
from playfield.nets.learner import Learner
from playfield.runs.run import Run


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of PPO."""

    num_envs: int = 16
    """Environments stepped at once."""
    rollout_steps: int = 64
    """Steps of each environment between two rounds of learning."""
    epochs: int = 4
    """Passes over each rollout."""
    minibatches: int = 4
    """Updates in each pass."""
    lr: float = 6e-4
    """Adam's learning rate."""
    anneal: bool = True
    """Let the learning rate fall linearly over the whole training."""
    anneal_clip: bool = False
    """Let the clip range fall in the same way."""
    anneal_ent: bool = False
    """Let the entropy bonus fall in the same way."""
    anneal_to: float = 0.0
    """Fraction that is left at the end of what falls."""
    gamma: float = 0.99
    """Discount of a step."""
    gae_lambda: float = 0.95
    """Trace decay of the advantage estimates."""
    clip: float = 0.1
    """Clip range of the probability ratio."""
    clip_value: bool = True
    """Clip the value loss to `clip` around the old value."""
    norm_advantage: bool = True
    """Normalise advantages in each minibatch."""
    ent_coef: float = 0.01
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 0.5
    """Global gradient norm that is clipped to."""
    target_kl: float = 0.0
    """Stop a round of learning when the approximate KL divergence passes this (0: never)."""
    adam_eps: float = 1e-5
    """Adam's epsilon."""
    net: str = "auto"
    """Network body (`playfield nets` lists them) with its options, as in nature:width=2,norm=layer."""
    clip_reward: bool = True
    """Learn from the sign of Atari rewards (scores stay raw)."""

    @property
    def batch(self) -> int:
        return self.num_envs * self.rollout_steps

    def check(self, workers: int = 1) -> None:
        """Raise UsageError where values cannot go together."""
        for name in ("num_envs", "rollout_steps", "epochs", "minibatches"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(self, name)}")
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
        "default": Config(net="nips", clip_value=False, anneal_ent=True, anneal_to=0.5),  # the best in ten minutes
        "long": Config(net="nature", clip_value=False, anneal_ent=True, lr=4e-4),  # the best in an hour
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


def ppo_loss(
    net: nn.Module, batch: dict[str, Tensor], cfg: Config, clip: float, size: int, ent_coef: float | None = None
) -> tuple[Tensor, dict[str, float]]:
    """Clipped surrogate, value loss and entropy bonus of a share of a minibatch.

    Args:
        batch: tensors [B, ...]: obs, actions, logprobs, advantages (normalised), returns, values.
        size: samples in the whole minibatch; sums over shares divided by it are means over the minibatch.
        ent_coef: weight of the entropy bonus now (None: the Config's).

    Returns:
        The share's part of the loss, and its part of the reported means.
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
        near = batch["values"] + (values - batch["values"]).clamp(-clip, clip)
        value_error = torch.maximum(value_error, (near - returns).square())
    value_loss = value_error.sum() / size  # the reference code's factor 1/2 is applied below
    entropy = -(logprobs.exp() * logprobs).sum() / size
    loss = policy_loss + cfg.vf_coef * 0.5 * value_loss - (cfg.ent_coef if ent_coef is None else ent_coef) * entropy
    with torch.no_grad():
        stats = {
            "loss": loss,
            "policy_gradient_loss": policy_loss,
            "value_loss": value_loss,
            "entropy_loss": -entropy,
            "approx_kl": ((ratio - 1) - log_ratio).sum() / size,
            "clip_fraction": ((ratio - 1).abs() > clip).float().sum() / size,
        }
        packed = torch.stack(list(stats.values())).tolist()  # one transfer instead of six
    return loss, dict(zip(stats, packed, strict=True))


def train(run: Run, cfg: Config) -> None:
    """Train until `run` says that it is enough."""
    compute = run.compute
    cfg.check(compute.workers)
    with run.seeded():
        net = ActorCritic(run.spec, cfg.net, shared=len(run.spec.obs_shape) == 3)

    def adam(params: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(params, cfg.lr, eps=cfg.adam_eps, fused=True)

    learner = run.track("learner", Learner(net, adam, compute, cfg.max_grad_norm))
    rollouts = make_rollouts(run, cfg.num_envs, cfg.rollout_steps)
    share = cfg.batch // compute.workers
    size = cfg.batch // cfg.minibatches
    part = size // compute.workers

    for progress in run.steps(cfg.batch):
        left = 1.0 - (1.0 - cfg.anneal_to) * progress
        lr = cfg.lr * left if cfg.anneal else cfg.lr
        clip = cfg.clip * left if cfg.anneal_clip else cfg.clip
        ent_coef = cfg.ent_coef * left if cfg.anneal_ent else cfg.ent_coef

        with run.phase("rollout"):
            learner.team.run(lambda k: collect(learner.replicas[k], rollouts[k], cfg.clip_reward))
        run.record(rollouts)

        with run.phase("training"):
            for r in rollouts:
                following = next_values(r.values, r.last_values, r.truncated, r.cut_values)
                r.advantages = gae(
                    r.rewards, r.values, following, r.terminated, r.truncated, cfg.gamma, cfg.gae_lambda
                )
                r.returns = r.advantages + r.values
            stats: list[dict[str, float]] = []
            for _ in range(cfg.epochs):
                order = [r.shuffle.permutation(share) for r in rollouts]
                for m in range(cfg.minibatches):
                    index = [o[m * part : (m + 1) * part] for o in order]
                    advantages = np.concatenate(
                        [r.advantages.reshape(-1)[i] for r, i in zip(rollouts, index, strict=True)]
                    )
                    mean, std = (advantages.mean(), advantages.std(ddof=1)) if cfg.norm_advantage else (0.0, 1.0)

                    def loss(
                        k: int,
                        replica: nn.Module,
                        index: list = index,
                        mean: Any = mean,
                        std: Any = std,
                        clip: float = clip,
                        ent_coef: float = ent_coef,
                    ) -> tuple[Tensor, dict[str, float]]:
                        names = ("obs", "actions", "logprobs", "advantages", "returns", "values")
                        batch = {name: rollouts[k].flat(name, index[k]) for name in names}
                        batch["advantages"] = (batch["advantages"] - float(mean)) / (float(std) + 1e-8)
                        return ppo_loss(replica, batch, cfg, clip, size, ent_coef)

                    parts, _ = learner.update(loss, lr)
                    stats.append({key: sum(p[key] for p in parts) for key in parts[0]})
                if cfg.target_kl and stats[-1]["approx_kl"] > cfg.target_kl:
                    break

        values = np.concatenate([r.values.reshape(-1) for r in rollouts])
        returns = np.concatenate([r.returns.reshape(-1) for r in rollouts])
        run.log(
            {f"train/{key}": float(np.mean([s[key] for s in stats])) for key in stats[0]}
            | {
                "train/explained_variance": explained_variance(values, returns),
                "train/learning_rate": lr,
                "train/clip_range": clip,
            },
            updates=len(stats),
        )


def load(spec: EnvSpec, config: dict[str, Any], weights: dict[str, Any], device: str) -> Any:
    """The trained network as a function of observations (see `load_network`)."""
    net = ActorCritic(spec, config["net"], shared=len(spec.obs_shape) == 3)
    return load_network(net, weights, device)
