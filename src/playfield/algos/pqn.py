"""Parallelised Q-network (Gallici et al. 2024): Q(lambda) from rollouts, without replay memory or target network.

Where this differs from the paper's code:
1. A truncated game bootstraps from the value of its true last observation.
2. Values in targets are those computed while acting; each observation is inferred once.
3. Each worker shuffles its own share of a rollout, and every minibatch takes an equal part of each share.
4. Adam (one fused pass) unless `optimizer` says RAdam.
5. Pixel bodies may compute in bfloat16; heads, losses, gradients' sums and the optimizer are float32.
6. What keeps it stable in place of a target network is normalisation inside the net. The paper has a LayerNorm after
   every layer but the last, in the Nature net and in its dense nets. Here `nips`, the default for pixels, has one
   after its dense layer only, and `mlp`, the default for vectors, has none unless its option `norm` says so. The
   preset `paper` has one after every layer (nature:norm=layer), but after a convolution it takes mean and variance
   over all channels and places of an observation, the paper's code over the channels of each place by itself.
7. Weights start orthogonal (convolutions and dense layers of bodies), the paper's by He et al. 2015.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from playfield.algos._actor import linear
from playfield.algos._actor_critic import collect, make_rollouts
from playfield.algos._q_network import QNetwork, identity
from playfield.algos._returns import explained_variance, gae, next_values
from playfield.algos.dqn import policy
from playfield.envs.base import EnvSpec
from playfield.errors import UsageError
from playfield.nets import bodies
from playfield.nets.learner import Learner, load_weights
from playfield.options import Count, Fraction, NetName
from playfield.play.policy import Network
from playfield.runs import algorithm
from playfield.runs.run import Run


@dataclass(frozen=True)
class Config(algorithm.Config):
    """Hyper-parameters of PQN."""

    evaluation_temperature = 1.0  # epsilon-greedy with the final epsilon of training

    num_envs: Count = 32
    """Number of parallel environments."""
    rollout_steps: Count = 32
    """Steps per environment per rollout."""
    epochs: Count = 2
    """Epochs per rollout."""
    minibatches: Count = 8
    """Minibatches per epoch."""
    lr: float = 5e-4
    """Learning rate."""
    anneal: bool = True
    """Anneal the learning rate linearly to 0."""
    optimizer: Literal["adam", "radam"] = "adam"
    """adam or radam."""
    gamma: Fraction = 0.99
    """Discount factor."""
    q_lambda: Fraction = 0.65
    """Lambda of the Q(lambda) returns (0: one step, 1: to the end of the rollout)."""
    epsilon_start: Fraction = 1.0
    """Initial epsilon."""
    epsilon_end: Fraction = 0.01
    """Final epsilon."""
    epsilon_share: Fraction = 0.1
    """Exploration fraction: the part of training over which epsilon is annealed."""
    max_grad_norm: float = 10.0
    """Maximum gradient norm (0: no clipping)."""
    net: NetName = "nips"
    """Network body (`playfield nets` lists them) with its options, as in nature:width=2,norm=layer."""
    clip_reward: bool = True
    """Learn from the sign of each reward; scores are not clipped."""

    def check(self, workers: int = 1) -> None:
        """Raise UsageError where values cannot go together."""
        super().check(workers)
        if self.batch % (self.minibatches * workers):
            shares = f" shared by {workers} workers" if workers > 1 else ""
            raise UsageError(
                f"--minibatches {self.minibatches}{shares} must divide the rollout of {self.batch} steps"
            )

    def fit(self, spec: EnvSpec) -> Self:
        """Raise UsageError where the network does not take these observations."""
        bodies.check(self.net, spec.obs_shape)
        return self

    def schedule(self, steps: int) -> list[str]:
        """What is annealed."""
        last = round(self.epsilon_share * steps)
        epsilon = f"epsilon: {self.epsilon_start:g} to {self.epsilon_end:g} at step {last:,}"
        return [*algorithm.annealed(["learning rate"] * self.anneal, steps), epsilon]


VECTOR = Config(
    num_envs=8,
    epochs=4,
    minibatches=4,
    lr=2e-3,
    gamma=0.98,
    q_lambda=0.8,
    epsilon_share=0.3,
    net="auto",
    clip_reward=False,
)
# Games that hardly ever end by chance: LayerNorm, as in the paper, and random actions for longer.
RARE = dataclasses.replace(VECTOR, epsilon_share=0.6, net="mlp:width=2,act=relu,norm=dense")
PRESETS: dict[str, dict[str, Config]] = {
    "atari": {
        "default": Config(),
        "paper": Config(
            num_envs=128,
            minibatches=32,
            lr=2.5e-4,
            optimizer="radam",
            anneal=False,
            epsilon_end=0.001,
            net="nature:norm=layer",
        ),
    },
    "vector": {"default": VECTOR},
    "Acrobot": {"default": RARE},
}


def epsilon_greedy(q: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Values [N, A] as a policy: log-probabilities [N, A] of its actions, and the best action's value [N].

    With probability `epsilon` any action, else the best. Probabilities are at least 1e-30, so that logs are finite.
    """
    best, action = q.max(-1)
    n = q.shape[-1]
    probs = torch.full_like(q, max(epsilon / n, 1e-30))
    probs.scatter_(1, action[:, None], 1 - epsilon + epsilon / n)
    return probs.log(), best


def pqn_loss(net: nn.Module, batch: dict[str, Tensor], size: int) -> tuple[Tensor, dict[str, float]]:
    """Half the squared error of the taken actions' values, for a share of a minibatch.

    Args:
        batch: tensors [B, ...]: obs, actions, returns.
        size: samples in the whole minibatch, what sums are divided by.

    Returns:
        The share's part of the loss, and its part of the reported means.
    """
    q = net(batch["obs"]).gather(1, batch["actions"][:, None]).squeeze(1)
    error = q - batch["returns"]
    loss = 0.5 * error.square().sum() / size
    with torch.no_grad():
        told = torch.stack([loss, q.sum() / size, error.abs().sum() / size]).tolist()
    return loss, dict(zip(("loss", "q_value", "td_error"), told, strict=True))


def train(run: Run, cfg: Config) -> None:
    """Train until `run` says that it is enough."""
    workers = run.compute.workers
    cfg.check(workers)
    with run.seeded():
        net = QNetwork(run.spec, cfg.net)

    def optimizer(params: list[Tensor]) -> torch.optim.Optimizer:
        if cfg.optimizer == "radam":
            return torch.optim.RAdam(params, cfg.lr)
        return torch.optim.Adam(params, cfg.lr, eps=1e-5, fused=True)

    learner = run.track("learner", Learner(net, optimizer, run.compute, cfg.max_grad_norm))
    rollouts = make_rollouts(run, cfg.num_envs, cfg.rollout_steps)
    size = cfg.batch // cfg.minibatches

    for progress in run.steps(cfg.batch):
        lr = cfg.lr * (1.0 - progress) if cfg.anneal else cfg.lr
        epsilon = linear(cfg.epsilon_start, cfg.epsilon_end, progress / cfg.epsilon_share if cfg.epsilon_share else 1)

        def play(k: int, epsilon: float = epsilon) -> None:
            collect(lambda obs: epsilon_greedy(learner.replicas[k](obs), epsilon), rollouts[k], cfg.clip_reward)

        with run.phase("rollout"):
            learner.team.run(play)
        run.record(rollouts)

        stats: list[dict[str, float]] = []
        with run.phase("training"):
            for r in rollouts:
                # The sum of weighted errors that GAE is, above the values, is Q(lambda): values are those of the
                # best actions (Peng's variant, which does not cut traces where an action was not the best).
                following = next_values(r.values, r.last_values, r.truncated, r.cut_values)
                ends = (r.terminated, r.truncated)
                r.returns = r.values + gae(r.rewards, r.values, following, *ends, cfg.gamma, cfg.q_lambda)
            for _ in range(cfg.epochs):
                order = [r.shuffle.permutation(cfg.batch // workers).reshape(cfg.minibatches, -1) for r in rollouts]
                for m in range(cfg.minibatches):

                    def loss(
                        k: int, replica: nn.Module, m: int = m, order: list[np.ndarray] = order
                    ) -> tuple[Tensor, dict[str, float]]:
                        batch = {name: rollouts[k].flat(name, order[k][m]) for name in ("obs", "actions", "returns")}
                        return pqn_loss(replica, batch, size)

                    parts, _ = learner.update(loss, lr)
                    stats.append({key: sum(p[key] for p in parts) for key in parts[0]})

        values = np.concatenate([r.values.reshape(-1) for r in rollouts])
        returns = np.concatenate([r.returns.reshape(-1) for r in rollouts])
        run.log(
            {f"train/{key}": float(np.mean([s[key] for s in stats])) for key in stats[0]}
            | {
                "train/explained_variance": explained_variance(values, returns),
                "train/learning_rate": lr,
                "rollout/exploration_rate": epsilon,
            },
            updates=len(stats),
        )


def load(spec: EnvSpec, cfg: Config, weights: dict[str, Any], device: str) -> Network:
    """The trained agent, see `dqn.policy`."""
    return policy(load_weights(QNetwork(spec, cfg.net), weights, device), identity, cfg.epsilon_end, device)
