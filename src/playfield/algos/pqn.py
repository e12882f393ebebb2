"""Parallelised Q-network (Gallici et al. 2024): Q(lambda) from rollouts, without replay buffer or target network.

Differences from the paper's code:
1. Truncated episodes bootstrap from the value of their true last observation.
2. Targets use the values computed while collecting the rollout: one forward pass per observation.
3. Each worker shuffles its own share of a rollout, and every minibatch has as many samples from each share.
4. Adam (one fused pass) unless `optimizer` is radam.
5. Pixel bodies may compute in bfloat16; heads, losses, sums of gradients and the optimizer are float32.
6. In place of a target network, normalisation inside the network keeps learning stable. The paper has LayerNorm after
   every layer but the last, in the Nature network and in its dense networks. Here `nips`, the default for pixels, has
   it after its dense layer only, and `mlp`, the default for vectors, has none without its option `norm`. The preset
   `paper` has it after every layer (nature:norm=layer), but after a convolution with mean and variance over all
   channels and positions of an observation, where the paper's code normalises the channels of each position.
7. Bodies have orthogonal initial weights, the paper's are by He et al. 2015.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from playfield.algos import _search
from playfield.algos._actor import linear
from playfield.algos._actor_critic import (
    Rollout,
    collect,
    make_rollouts,
    share_advantages,
    shuffled,
    team_plays,
    values_explained,
)
from playfield.algos._dqn_config import check_epsilon
from playfield.algos._q_network import QNetwork, identity, policy
from playfield.envs.base import EnvSpec
from playfield.errors import UsageError
from playfield.nets import bodies
from playfield.nets.learner import Learner, load_weights
from playfield.nets.optimizers import Adam, Optimizer
from playfield.options import Count, Epsilon, EvalEpsilon, Fraction, LearningRate, NetName
from playfield.runs import algorithm
from playfield.runs.algorithm import Budget, Network
from playfield.runs.run import Run

BUDGETS = {"atari": Budget(1_000_000, 10), "atari/paper": Budget(400_000, 10)}


@dataclass(frozen=True)
class Config(algorithm.Config):
    """Hyper-parameters of PQN."""

    budgets = BUDGETS
    processes = True
    search = _search.PQN

    added = frozenset({"eval_epsilon", "epsilon"})

    num_envs: Count = 32
    """Number of parallel environments."""
    rollout_steps: Count = 32
    """Steps per environment per rollout."""
    epochs: Count = 2
    """Epochs per rollout."""
    minibatches: Count = 8
    """Minibatches per epoch."""
    lr: LearningRate = 5e-4
    """Learning rate."""
    anneal: bool = True
    """Anneal the learning rate linearly to 0."""
    optimizer: Literal["adam", "radam"] = "adam"
    """adam or radam."""
    gamma: Fraction = 0.99
    """Discount factor."""
    q_lambda: Fraction = 0.65
    """Lambda of the Q(lambda) returns (0: one step, 1: to the end of the rollout)."""
    epsilon: Epsilon = -1.0
    """Epsilon, or a schedule of it, in place of `epsilon_start`, `epsilon_end` and `epsilon_share` (-1: by these)."""
    epsilon_start: Fraction = 1.0
    """Initial epsilon."""
    epsilon_end: Fraction = 0.01
    """Final epsilon."""
    epsilon_share: Fraction = 0.1
    """Exploration fraction: the part of training over which epsilon is annealed."""
    eval_epsilon: EvalEpsilon = -1.0
    """Epsilon of evaluation and films (-1: the final epsilon of training)."""
    max_grad_norm: float = 10.0
    """Maximum gradient norm (0: no clipping)."""
    net: NetName = "nips"
    """Network body (`playfield nets` lists them) with its options, as in nature:width=2,norm=layer."""
    clip_reward: bool = True
    """Learn from the sign of each reward; scores are not clipped."""

    @property
    def epsilons(self) -> tuple[float, float]:
        """Epsilon of evaluation, and the final one of training."""
        last = self.epsilon_end if self.epsilon == -1 else self.at("epsilon", 1.0)
        return (last if self.eval_epsilon < 0 else self.eval_epsilon), last

    def exploration_rate(self, progress: float) -> float:
        """Epsilon when `progress` of the training is done."""
        if self.epsilon != -1:
            return self.at("epsilon", progress)
        return linear(
            self.epsilon_start, self.epsilon_end, progress / self.epsilon_share if self.epsilon_share else 1
        )

    def check(self, workers: int = 1) -> None:
        """Raise UsageError where values cannot go together."""
        super().check(workers)
        check_epsilon(self.epsilon)
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
        clauses = super().schedule(steps)
        if self.epsilon == -1:
            last = round(self.epsilon_share * steps)
            clauses.append(f"epsilon: {self.epsilon_start:g} to {self.epsilon_end:g} at step {last:,}")
        return clauses

    def in_force(self, step: int, steps: int) -> dict[str, float]:
        """With epsilon."""
        return super().in_force(step, steps) | {"epsilon": self.exploration_rate(min(step / steps, 1.0))}


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
# For environments that random actions hardly ever solve: LayerNorm, as in the paper, and longer exploration.
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
            eval_epsilon=0.0,  # its code tests greedily
            net="nature:norm=layer",
        ),
    },
    "vector": {"default": VECTOR},
    "Acrobot": {"default": RARE},
}


def epsilon_greedy(q: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Epsilon-greedy policy of action values [N, A]: its log-probabilities [N, A], and the greedy action's value [N].

    Probabilities are at least 1e-30, so that their logarithms are finite.
    """
    best, action = q.max(-1)
    n = q.shape[-1]
    probs = torch.full_like(q, max(epsilon / n, 1e-30))
    probs.scatter_(1, action[:, None], 1 - epsilon + epsilon / n)
    return probs.log(), best


def pqn_loss(net: nn.Module, batch: dict[str, Tensor], size: int) -> tuple[Tensor, dict[str, float]]:
    """Half the squared error of the values of the actions taken, for a worker's share of a minibatch.

    Args:
        batch: tensors of B samples: obs [B, ...], and [B] each actions, returns.
        size: samples in the whole minibatch, the divisor of the sums.

    Returns:
        The share's part of the loss, and its part of the logged means.
    """
    q = net(batch["obs"]).gather(1, batch["actions"][:, None]).squeeze(1)
    error = q - batch["returns"]
    loss = 0.5 * error.square().sum() / size
    with torch.no_grad():
        metrics = torch.stack([loss, q.sum() / size, error.abs().sum() / size]).tolist()
    return loss, dict(zip(("loss", "q_value", "td_error"), metrics, strict=True))


def update(learner: Learner, rollouts: list[Rollout], index: list[np.ndarray], lr: float) -> dict[str, float]:
    """One optimizer step on a minibatch; returns its metrics.

    `index` has for each worker the samples [B] of its rollout that belong to the minibatch, as for `Rollout.flat`.
    """
    size = sum(len(samples) for samples in index)

    def share_of_loss(k: int, replica: nn.Module) -> tuple[Tensor, dict[str, float]]:
        batch = {name: rollouts[k].flat(name, index[k]) for name in ("obs", "actions", "returns")}
        return pqn_loss(replica, batch, size)

    shares, grad_norm = learner.update(share_of_loss, lr)
    return {key: sum(share[key] for share in shares) for key in shares[0]} | {"grad_norm": grad_norm}


def train(run: Run, cfg: Config) -> None:
    """Train until the run's total steps or target score are reached: collect a rollout, compute returns, update."""
    workers = run.compute.workers
    cfg.check(workers)
    with run.seeded():
        net = QNetwork(run.spec, cfg.net)

    def optimizer(params: list[Tensor]) -> Optimizer:
        if cfg.optimizer == "radam":
            return torch.optim.RAdam(params, cfg.at("lr", 0.0))
        return Adam(params, cfg.at("lr", 0.0), eps=1e-5)

    learner = Learner(net, optimizer, run.compute, cfg.max_grad_norm, run.group)
    run.track("learner", learner, finite=learner.weights_finite, growth=learner.growth, close=learner.close)
    rollouts = make_rollouts(run, cfg.num_envs, cfg.rollout_steps)

    for progress in run.steps(cfg.batch):
        lr, epsilon = cfg.at("lr", progress, run.step), cfg.exploration_rate(progress)

        def play(k: int, epsilon: float = epsilon) -> None:
            collect(lambda obs: epsilon_greedy(learner.replicas[k](obs), epsilon), rollouts[k], cfg.clip_reward)

        with run.phase("rollout"):
            team_plays(learner.team, rollouts, play)
        run.record(rollouts)

        metrics: list[dict[str, float]] = []
        with run.phase("training"):
            # With the greedy action's value for each observation, the lambda-returns of GAE are Peng's Q(lambda):
            # traces are not cut where an action was not greedy.
            share_advantages(learner.team, rollouts, cfg.gamma, cfg.q_lambda)
            for _ in range(cfg.epochs):
                order = shuffled(learner.team, rollouts, cfg.batch // workers, cfg.minibatches)
                for m in range(cfg.minibatches):
                    metrics.append(update(learner, rollouts, [samples[m] for samples in order], lr))

        run.log(
            {f"train/{key}": float(np.mean([m[key] for m in metrics])) for key in metrics[0]}
            | {
                "train/explained_variance": values_explained(rollouts),
                "train/learning_rate": lr,
                "rollout/exploration_rate": epsilon,
            },
            updates=len(metrics),
        )


def load(spec: EnvSpec, cfg: Config, weights: dict[str, Any], device: str) -> Network:
    """The trained agent, see `_q_network.policy`."""
    return policy(load_weights(QNetwork(spec, cfg.net), weights, device), identity, *cfg.epsilons, device)
