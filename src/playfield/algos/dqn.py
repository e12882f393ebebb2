"""Deep Q-networks (Mnih et al. 2015), with the switches that later papers added one by one.

`double` (van Hasselt et al. 2016), `dueling` (Wang et al. 2016), `n_step` returns, `alpha` for prioritised replay
(Schaul et al. 2016). Where this differs from those papers:
1. Several environments act between updates; there are still `train_period` steps to an update.
2. Each worker has games, a replay memory and a share of every minibatch of its own.
3. A truncated game bootstraps from the value of its true last observation.
4. Adam and the Huber loss instead of RMSProp and clipped errors (their gradients are the same).
5. The dueling heads share the body's last layer, and gradients are clipped by norm rather than scaled.
6. Pixel bodies may compute in bfloat16; heads, targets, losses and Adam are float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from playfield.envs.base import EnvSpec
from playfield.errors import UsageError
from playfield.learner import Learner, load_weights
from playfield.replay import Batch
from playfield.run import Run
from playfield.values import QNetwork, Target, draw, linear, make_actors


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of DQN."""

    num_envs: int = 8
    """Environments stepped at once."""
    rollout_steps: int = 4
    """Steps of each environment between two rounds of learning."""
    capacity: int = 100_000
    """Observations in the replay memory."""
    packed: bool = True
    """Keep pixel observations compressed."""
    learning_starts: int = 10_000
    """Steps before the first update."""
    train_period: int = 4
    """Steps to an update."""
    batch_size: int = 32
    """Transitions in a minibatch."""
    target_period: int = 1_000
    """Steps between two updates of the target network."""
    lr: float = 1e-4
    """Adam's learning rate."""
    adam_eps: float = 1.5e-4
    """Adam's epsilon."""
    max_grad_norm: float = 10.0
    """Global gradient norm that is clipped to."""
    gamma: float = 0.99
    """Discount of a step."""
    n_step: int = 1
    """Rewards in a target before it bootstraps."""
    epsilon_start: float = 1.0
    """Share of random actions at the start."""
    epsilon_end: float = 0.01
    """Share of random actions from `epsilon_share` on."""
    epsilon_share: float = 0.1
    """Share of the training in which epsilon falls."""
    double: bool = False
    """Choose the target's action by the learning network."""
    dueling: bool = False
    """Value and advantage heads."""
    alpha: float = 0.0
    """Exponent of priorities (0: uniform replay)."""
    beta: float = 0.4
    """Exponent of importance weights at the start; 1 at the end."""
    net: str = "auto"
    """Network body: a function of nets.py, or auto."""
    clip_reward: bool = True
    """Learn from the sign of Atari rewards (scores stay raw)."""

    @property
    def batch(self) -> int:
        return self.num_envs * self.rollout_steps

    @property
    def first_minibatch(self) -> int:
        """Steps after which every memory has enough to draw from."""
        return max(self.batch_size, 2 * self.num_envs) * self.n_step

    def check(self, workers: int = 1) -> None:
        """Raise UsageError where values cannot go together."""
        for name in (
            "num_envs",
            "rollout_steps",
            "capacity",
            "train_period",
            "batch_size",
            "target_period",
            "n_step",
        ):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(self, name)}")
        if self.batch % self.train_period:
            raise UsageError(f"--train-period {self.train_period} must divide a round of {self.batch} steps")
        if self.batch_size % workers:
            raise UsageError(
                f"--batch-size {self.batch_size} must divide by the {workers} workers (or use --workers 1)"
            )
        for name in ("epsilon_start", "epsilon_end", "alpha", "beta"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"--{name.replace('_', '-')} must be between 0 and 1")
        if self.capacity < (least := 2 * self.num_envs * (self.n_step + 8)):
            raise UsageError(f"--capacity must be at least {least} for {self.num_envs} environments")
        if self.learning_starts < self.first_minibatch:
            raise UsageError(f"--learning-starts must be at least {self.first_minibatch}: one minibatch")


PRESETS: dict[str, dict[str, Config]] = {
    "atari": {
        "default": Config(num_envs=8, target_period=2_000, double=True, n_step=3),
        # The paper's sizes; Adam, and epsilon over a tenth of the training, are ours.
        "nature": Config(capacity=1_000_000, learning_starts=50_000, target_period=40_000, epsilon_end=0.1),
    },
    "vector": {
        "default": Config(
            num_envs=8,
            rollout_steps=4,
            capacity=20_000,
            packed=False,
            learning_starts=1_000,
            train_period=4,
            batch_size=64,
            target_period=512,
            lr=1e-3,
            adam_eps=1e-8,
            epsilon_end=0.04,
            epsilon_share=0.16,
            double=True,
            n_step=3,
            clip_reward=False,
        ),
    },
}


def dqn_loss(
    net: nn.Module, target: nn.Module, batch: dict[str, Tensor], cfg: Config, size: int
) -> tuple[Tensor, Tensor, dict[str, float]]:
    """Huber loss of a share of a minibatch.

    Args:
        batch: tensors [B, ...]: obs, actions, returns, discounts, next_obs, weights.
        size: samples in the whole minibatch, what sums are divided by.

    Returns:
        The share's part of the loss, its errors target - value [B], and its part of the reported means.
    """
    q = net(batch["obs"]).gather(1, batch["actions"][:, None]).squeeze(1)
    with torch.no_grad():
        following = target(batch["next_obs"])
        best = (net(batch["next_obs"]) if cfg.double else following).argmax(-1, keepdim=True)
        aim = batch["returns"] + batch["discounts"] * following.gather(1, best).squeeze(1)
    loss = (batch["weights"] * F.huber_loss(q, aim, reduction="none")).sum() / size
    with torch.no_grad():
        packed = torch.stack([loss, q.sum() / size, (aim - q).abs().sum() / size]).tolist()
    return loss, (aim - q).detach(), dict(zip(("loss", "q_value", "td_error"), packed, strict=True))


def train(run: Run, cfg: Config) -> None:
    """Train until `run` says that it is enough."""
    compute, spec = run.compute, run.spec
    cfg.check(compute.workers)
    with run.seeded():
        net = QNetwork(spec, cfg.net, cfg.dueling)

    def adam(params: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(params, cfg.lr, eps=cfg.adam_eps, fused=True)

    learner = run.track("learner", Learner(net, adam, compute, cfg.max_grad_norm))
    target = run.track("target", Target(learner.replicas[0]))
    actors = make_actors(
        run, cfg.num_envs, cfg.capacity, n_step=cfg.n_step, gamma=cfg.gamma, packed=cfg.packed, alpha=cfg.alpha
    )
    names = ("obs", "actions", "returns", "discounts", "next_obs", "weights")

    for progress in run.steps(cfg.batch):
        epsilon = linear(cfg.epsilon_start, cfg.epsilon_end, progress / cfg.epsilon_share if cfg.epsilon_share else 1)
        beta = linear(cfg.beta, 1.0, progress)
        start = run.step

        def play(k: int, epsilon: float = epsilon) -> None:
            actors[k].play(learner.replicas[k], cfg.rollout_steps, epsilon, cfg.clip_reward)

        with run.phase("rollout"):
            learner.team.run(play)
        run.record(actors)
        if start < cfg.learning_starts:
            run.log({"rollout/exploration_rate": epsilon}, updates=0)
            continue

        if start % cfg.target_period < cfg.batch:
            target.sync(learner.replicas[0])
        stats: list[dict[str, float]] = []
        with run.phase("training"):
            for _ in range(cfg.batch // cfg.train_period):
                drawn = draw(learner.team, actors, cfg.batch_size, beta)

                def loss(k: int, replica: nn.Module, drawn: list[Batch] = drawn) -> tuple[Tensor, dict[str, float]]:
                    device = actors[k].device
                    batch = {name: torch.from_numpy(getattr(drawn[k], name)).to(device) for name in names}
                    value, errors, told = dqn_loss(replica, target.net, batch, cfg, cfg.batch_size)
                    actors[k].replay.reprioritise(drawn[k].index, errors.cpu().numpy())
                    return value, told

                parts, _ = learner.update(loss, cfg.lr)
                stats.append({key: sum(p[key] for p in parts) for key in parts[0]})
        run.log(
            {f"train/{key}": float(np.mean([s[key] for s in stats])) for key in stats[0]}
            | {"train/learning_rate": cfg.lr, "rollout/exploration_rate": epsilon},
            updates=len(stats),
        )


def load(spec: EnvSpec, config: dict[str, Any], weights: dict[str, Any], device: str) -> Any:
    """The trained network as a function of observations to (logits, value).

    The logits are those of the policy that it ended its training with: a random action with probability
    `epsilon_end`, else the best. A temperature below 1 makes random actions rarer, 0 leaves none.
    """
    net = load_weights(QNetwork(spec, config["net"], config["dueling"]), weights, device)
    n = spec.num_actions
    epsilon = min(max(config["epsilon_end"], 1e-6), 1 - 1e-6)

    def network(obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            q = net(torch.from_numpy(np.ascontiguousarray(obs)).to(device)).cpu().numpy()
        probs = np.full(q.shape, epsilon / n, np.float32)
        probs[np.arange(len(q)), q.argmax(-1)] += 1 - epsilon
        return np.log(probs), q.max(-1)

    return network
