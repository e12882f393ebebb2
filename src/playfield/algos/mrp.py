"""Policy evaluation: the state values of a fixed policy, by temporal differences (Sutton 1988) with a network.

With a fixed policy the environment is a Markov reward process: this learns to predict, not to control. The trained
agent acts by that policy and adds its values. Transitions are sampled from a replay buffer as in DQN; since the
policy does not change, old ones are as good as new ones and n-step returns need no correction.

1. Targets bootstrap from the network that learns (semi-gradient); there is no target network.
2. Truncated episodes bootstrap from the value of their true last observation.
3. Each worker has its own environments, its own replay buffer and a share of every minibatch.
4. The errors against observed returns (`evaluate`) are of episodes in the replay buffer, so also of training samples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from playfield.algos import _dqn_config
from playfield.algos._actor import Actor, make_actors
from playfield.algos._returns import explained_variance
from playfield.envs.base import EnvSpec
from playfield.nets import bodies
from playfield.nets.learner import Learner, load_weights
from playfield.nets.optimizers import Adam
from playfield.options import Count, Fraction, LearningRate, NetName, PolicyName
from playfield.play.frozen import FrozenPolicy, check_name
from playfield.play.policy import explainer
from playfield.replay.buffer import TERMINATED, TRUNCATED, Replay
from playfield.runs import algorithm
from playfield.runs.algorithm import Budget, Network
from playfield.runs.run import Run

EVALUATION_PERIOD, EVALUATION_STATES = 2_000, 512  # steps between two evaluations, and states in each


BUDGETS = {"atari": Budget(200_000, 10), "vector": Budget(100_000, 0.5)}


@dataclass(frozen=True)
class Config(_dqn_config.ReplayConfig):
    """Hyper-parameters of value prediction."""

    budgets = BUDGETS

    policy: PolicyName = "random"
    """The policy to evaluate: random, a run directory, a checkpoint or a shipped agent (at temperature 1); a run
    keeps its name with the sha256 of its weights."""
    num_envs: Count = 8
    """Number of parallel environments."""
    rollout_steps: Count = 4
    """Steps per environment per rollout."""
    capacity: Count = 10_000
    """Replay buffer size, in observations."""
    learning_starts: Count = 2_000
    """Environment steps before the first update."""
    train_period: Count = 4
    """Environment steps between updates (SB3: train_freq)."""
    batch_size: Count = 32
    """Minibatch size, in transitions."""
    n_step: Count = 1
    """The n of n-step returns."""
    gamma: Fraction = 0.99
    """Discount factor."""
    lr: LearningRate = 3e-4
    """Learning rate of Adam."""
    anneal: bool = True
    """Anneal the learning rate linearly to 0."""
    max_grad_norm: float = 10.0
    """Maximum gradient norm (0: no clipping)."""
    net: NetName = "nips"
    """Network body (`playfield nets` lists them) with its options, as in nature:width=2,norm=layer."""
    clip_reward: bool = True
    """Learn from the sign of each reward; scores are not clipped."""

    def check(self, workers: int = 1) -> None:
        """Raise UsageError where values cannot go together, or there is no such policy."""
        super().check(workers)
        check_name(self.policy)

    def fit(self, spec: EnvSpec) -> Self:
        """With the hash of the policy's weights. Raises UsageError where the policy or the network is for others."""
        return dataclasses.replace(super().fit(spec), policy=FrozenPolicy(self.policy, spec).pinned)

    def reopen(self, spec: EnvSpec, directory: Path) -> Self:
        """Raise DataError where the policy has changed or is gone."""
        FrozenPolicy(self.policy, spec)
        return self

    def need(self, spec: EnvSpec, directory: Path) -> algorithm.Need:
        """The replay buffer, and one minibatch."""
        return _dqn_config.buffer_need(spec, self.net, self.capacity, self.batch_size, packed=False)


PRESETS: dict[str, dict[str, Config]] = {
    "atari": {
        "default": Config(),
        # An update at every step from a full memory.
        "lesson18": Config(learning_starts=10_000, train_period=1, lr=1e-4, anneal=False, net="nature:init=glorot"),
    },
    "vector": {"default": Config(learning_starts=500, batch_size=64, lr=2e-3, net="auto", clip_reward=False)},
}


class ValueNetwork(nn.Module):
    """A body with a head for the value of a state. The head computes in float32 whatever the body's precision."""

    def __init__(self, spec: EnvSpec, net: str) -> None:
        super().__init__()
        self.body = bodies.for_spec(net, spec)
        self.value = nn.Linear(self.body.out_features, 1)
        self.body.init_heads(self.value)

    def forward(self, obs: Tensor) -> Tensor:
        """[N, ...] observations to float32 values [N]."""
        value: Tensor = self.value(self.body(obs).float())
        return value.squeeze(-1)


def td_loss(net: nn.Module, batch: dict[str, Tensor], size: int) -> tuple[Tensor, dict[str, float]]:
    """Half the squared n-step TD error, for a worker's share of a minibatch.

    Args:
        batch: tensors of B transitions: obs, next_obs [B, ...]; returns, discounts [B] (see `replay.buffer.Batch`).
        size: transitions in the whole minibatch, the divisor of the sums.

    Returns:
        The share's part of the loss, and its part of the logged means.
    """
    with torch.no_grad():
        target = batch["returns"] + batch["discounts"] * net(batch["next_obs"])
    value = net(batch["obs"])
    error = target - value
    loss = 0.5 * error.square().sum() / size
    with torch.no_grad():
        metrics = torch.stack([loss, value.sum() / size, error.abs().sum() / size]).tolist()
    return loss, dict(zip(("loss", "value", "td_error"), metrics, strict=True))


def update(learner: Learner, actors: Sequence[Actor], size: int, lr: float) -> dict[str, float]:
    """Sample a minibatch of `size` transitions and make one optimizer step; returns its metrics."""

    def share_of_loss(k: int, replica: nn.Module) -> tuple[Tensor, dict[str, float]]:
        batch = actors[k].replay.sample(size // len(actors))
        names = ("obs", "returns", "discounts", "next_obs")
        tensors = {name: torch.from_numpy(getattr(batch, name)).to(actors[k].device) for name in names}
        return td_loss(replica, tensors, size)

    shares, grad_norm = learner.update(share_of_loss, lr)
    return {key: sum(share[key] for share in shares) for key in shares[0]} | {"grad_norm": grad_norm}


def observed_returns(replay: Replay, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """Discounted returns of the transitions in a replay buffer whose episode terminates within the buffer.

    Returns:
        Their positions [M] int64 as in `Replay.order`, oldest first, and their returns [M] (of the stored rewards).
    """
    lanes, returns = np.arange(replay.num_envs), np.full(replay.kinds.shape, np.nan)
    after = np.full(replay.num_envs, np.nan)
    for back in range(1, 1 + int(min(replay.count.max(), replay.size))):
        at = (replay.count - back) % replay.size  # before a lane's first entry: no transition, and never in `order`
        kinds = replay.kinds[lanes, at]
        after = np.where(kinds & TERMINATED > 0, 0.0, np.where((kinds == 0) | (kinds & TRUNCATED > 0), np.nan, after))
        returns[lanes, at] = after = replay.rewards[lanes, at] + gamma * after
    order = replay.order()
    found = returns.reshape(-1)[order]
    return order[~np.isnan(found)], found[~np.isnan(found)]


def values_and_returns(value: Callable[[Tensor], Tensor], actor: Actor, cfg: Config, count: int) -> np.ndarray:
    """[2, M] values and observed returns of at most `count` states, evenly spaced in the actor's replay buffer."""
    order, returns = observed_returns(actor.replay, cfg.gamma)
    picked = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).astype(int))
    if not len(picked):
        return np.zeros((2, 0))
    with torch.no_grad():
        values = value(torch.from_numpy(actor.replay.read(order[picked]).obs).to(actor.device))
    return np.stack([values.cpu().numpy(), returns[picked]])


def evaluate(values: np.ndarray, returns: np.ndarray) -> dict[str, float]:
    """Values [M] against observed returns [M]: explained variance, root mean squared error, and both means."""
    return {
        "value/explained_variance": explained_variance(values, returns),
        "value/error": float(np.sqrt(np.mean((values - returns) ** 2))),
        "value/predicted": float(values.mean()),
        "value/returned": float(returns.mean()),
    }


def train(run: Run, cfg: Config) -> None:
    """Train until the run's total steps or target score are reached: collect by the fixed policy, sample, update."""
    workers = run.compute.workers
    cfg.check(workers)
    fixed = run.track("policy", FrozenPolicy(cfg.policy, run.spec, run.compute.device))
    with run.seeded():
        net = ValueNetwork(run.spec, cfg.net)

    adam = partial(Adam, lr=cfg.at("lr", 0.0), eps=1e-5)
    learner = Learner(net, adam, run.compute, cfg.max_grad_norm)
    run.track("learner", learner, finite=learner.weights_finite, growth=learner.growth, close=learner.close)
    actors = make_actors(run, cfg.num_envs, cfg.capacity, n_step=cfg.n_step, gamma=cfg.gamma, packed=False)

    def play(k: int) -> None:
        actor = actors[k]
        actor.collect(lambda obs: fixed.choose(obs, actor.random), cfg.rollout_steps, cfg.clip_reward)

    for progress in run.steps(cfg.batch):
        lr = cfg.at("lr", progress, run.step)
        with run.phase("rollout"):
            learner.team.run(play)
        run.record(actors)
        if run.step < cfg.learning_starts:
            run.log({}, updates=0)
            continue
        with run.phase("training"):
            metrics = [update(learner, actors, cfg.batch_size, lr) for _ in range(cfg.batch // cfg.train_period)]
        means = {f"train/{key}": float(np.mean([m[key] for m in metrics])) for key in metrics[0]}
        if run.step % EVALUATION_PERIOD < cfg.batch:
            with run.phase("evaluation"):
                found = learner.team.run(
                    lambda k: values_and_returns(learner.replicas[k], actors[k], cfg, EVALUATION_STATES // workers)
                )
            if (pairs := np.concatenate(found, axis=1)).size:
                means |= evaluate(*pairs)
        run.log(means | {"train/learning_rate": lr}, updates=len(metrics))


def load(spec: EnvSpec, cfg: Config, weights: dict[str, Any], device: str) -> Network:
    """The fixed policy as an agent, with the values learnt for it."""
    net = load_weights(ValueNetwork(spec, cfg.net), weights, device)
    policy = FrozenPolicy(cfg.policy, spec, device).policy

    def forward(obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        probs = explainer(policy)(obs)["probs"]
        with torch.no_grad():
            value = net(torch.from_numpy(np.ascontiguousarray(obs)).to(device))
        return np.log(np.maximum(probs, 1e-30)).astype(np.float32), value.cpu().numpy()

    return Network(forward)
