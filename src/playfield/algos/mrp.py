"""Values of states under a policy that stays as it is, learnt by temporal differences (Sutton 1988) and a network.

With its policy fixed, a game is a Markov reward process: what is learnt is a prediction, not how to play. The agent
that comes out plays that policy and says what it expects. Steps lie in a replay memory and are drawn in minibatches,
as in DQN; since the policy does not change, old steps are as good as new ones and n-step returns need no correction.

1. Targets bootstrap from the network as it is (semi-gradient); there is no target network.
2. A truncated game bootstraps from the value of its true last observation.
3. Each worker has games, a replay memory and a share of every minibatch of its own.
4. Errors against what games really returned (`summary`) are of the games that lie in memory, so also of learnt steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
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
from playfield.options import Count, Fraction, NetName, PolicyName
from playfield.play.frozen import FrozenPolicy, check_name
from playfield.play.policy import Network
from playfield.replay.buffer import TERMINATED, TRUNCATED, Replay
from playfield.runs import algorithm
from playfield.runs.run import Run

JUDGE_STEPS, JUDGED = 2_000, 512  # steps between two judgements, and how many values each looks at


@dataclass(frozen=True)
class Config(algorithm.Config):
    """Hyper-parameters of value prediction."""

    uses_replay = True
    evaluation_temperature = 1.0  # the fixed policy itself

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
    lr: float = 3e-4
    """Learning rate of Adam."""
    anneal: bool = True
    """Anneal the learning rate linearly to 0."""
    max_grad_norm: float = 10.0
    """Maximum gradient norm (0: no clipping)."""
    net: NetName = "nips"
    """Network body (`playfield nets` lists them) with its options, as in nature:width=2,norm=layer."""
    clip_reward: bool = True
    """Learn from the sign of each reward; scores are not clipped."""

    @property
    def first_minibatch(self) -> int:
        """Steps after which every memory has enough to draw from."""
        return max(self.batch_size, 2 * self.num_envs) * self.n_step

    def check(self, workers: int = 1) -> None:
        """Raise UsageError where values cannot go together, or there is no such policy."""
        super().check(workers)
        shared = {f.name for f in dataclasses.fields(_dqn_config.Config)}
        _dqn_config.Config(**{k: v for k, v in dataclasses.asdict(self).items() if k in shared}).check(workers)
        check_name(self.policy)

    @property
    def first_update(self) -> int:
        """Environment steps before the first update."""
        return self.learning_starts

    def fit(self, spec: EnvSpec) -> Self:
        """With the hash of the policy's weights. Raises UsageError where the policy or the network is for others."""
        bodies.check(self.net, spec.obs_shape)
        return dataclasses.replace(self, policy=FrozenPolicy(self.policy, spec).pinned)

    def reopen(self, spec: EnvSpec, directory: Path) -> Self:
        """Raise DataError where the policy has changed or is gone."""
        FrozenPolicy(self.policy, spec)
        return self

    def need(self, spec: EnvSpec, directory: Path) -> algorithm.Need:
        """The replay buffer, and one minibatch."""
        return _dqn_config.buffer_need(spec, self.net, self.capacity, self.batch_size, packed=False)

    def timing(self) -> tuple[Self, int]:
        """Start learning at once: what comes before is faster."""
        return _dqn_config.timing(self)

    def schedule(self, steps: int) -> list[str]:
        """What is annealed."""
        return algorithm.annealed(["learning rate"] * self.anneal, steps)


PRESETS: dict[str, dict[str, Config]] = {
    "atari": {
        "default": Config(),
        # An update at every step from a full memory.
        "lesson18": Config(learning_starts=10_000, train_period=1, lr=1e-4, anneal=False, net="nature"),
    },
    "vector": {"default": Config(learning_starts=500, batch_size=64, lr=2e-3, net="auto", clip_reward=False)},
}


class ValueNetwork(nn.Module):
    """The value of a state. The head computes in float32 whatever the body's number format."""

    def __init__(self, spec: EnvSpec, net: str) -> None:
        super().__init__()
        self.body = bodies.make(net, spec.obs_shape)
        self.value = nn.Linear(self.body.out_features, 1)

    def forward(self, obs: Tensor) -> Tensor:
        """[N, ...] observations to float32 values [N]."""
        return self.value(self.body(obs).float()).squeeze(-1)


def td_loss(net: nn.Module, batch: dict[str, Tensor], size: int) -> tuple[Tensor, dict[str, float]]:
    """Half the squared n-step error of values, for a share of a minibatch, and the share's part of reported means.

    `batch` has tensors [B, ...]: obs, returns, discounts, next_obs; `size` is that of the whole minibatch.
    """
    with torch.no_grad():
        aim = batch["returns"] + batch["discounts"] * net(batch["next_obs"])
    value = net(batch["obs"])
    error = aim - value
    loss = 0.5 * error.square().sum() / size
    with torch.no_grad():
        told = torch.stack([loss, value.sum() / size, error.abs().sum() / size]).tolist()
    return loss, dict(zip(("loss", "value", "td_error"), told, strict=True))


def finished(replay: Replay, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """Where those transitions lie whose game ends in memory by termination [M], and what it returned from there [M].

    Positions are as in `Replay.order`, oldest first; returns are discounted sums of the rewards as learnt.
    """
    lanes, returns = np.arange(replay.num_envs), np.full(replay.kinds.shape, np.nan)
    after = np.full(replay.num_envs, np.nan)
    for back in range(1, 1 + int(min(replay.count.max(), replay.size))):
        at = (replay.count - back) % replay.size  # before a lane's first entry: no transition, and never in `order`
        kinds = replay.kinds[lanes, at]
        after = np.where(kinds & TERMINATED > 0, 0.0, np.where((kinds == 0) | (kinds & TRUNCATED > 0), np.nan, after))
        returns[lanes, at] = after = replay.rewards[lanes, at] + gamma * after
    where = replay.order()
    found = returns.reshape(-1)[where]
    return where[~np.isnan(found)], found[~np.isnan(found)]


def judged(value: Callable[[Tensor], Tensor], actor: Actor, cfg: Config, count: int) -> np.ndarray:
    """[2, M] values of up to `count` states in memory, evenly spread, and what their games, now over, returned."""
    where, found = finished(actor.replay, cfg.gamma)
    picked = np.unique(np.linspace(0, len(where) - 1, min(count, len(where))).astype(int))
    if not len(picked):
        return np.zeros((2, 0))
    with torch.no_grad():
        values = value(torch.from_numpy(actor.replay.read(where[picked]).obs).to(actor.device))
    return np.stack([values.cpu().numpy(), found[picked]])


def summary(values: np.ndarray, returned: np.ndarray) -> dict[str, float]:
    """Values beside returns: explained variance, root mean squared error, and both means."""
    return {
        "value/explained_variance": explained_variance(values, returned),
        "value/error": float(np.sqrt(np.mean((values - returned) ** 2))),
        "value/predicted": float(values.mean()),
        "value/returned": float(returned.mean()),
    }


def train(run: Run, cfg: Config) -> None:
    """Train until `run` says that it is enough."""
    workers = run.compute.workers
    cfg.check(workers)
    fixed = run.track("policy", FrozenPolicy(cfg.policy, run.spec, run.compute.device))
    with run.seeded():
        net = ValueNetwork(run.spec, cfg.net)

    adam = partial(torch.optim.Adam, lr=cfg.lr, eps=1e-5, fused=True)
    learner = run.track("learner", Learner(net, adam, run.compute, cfg.max_grad_norm))
    actors = make_actors(run, cfg.num_envs, cfg.capacity, n_step=cfg.n_step, gamma=cfg.gamma, packed=False)

    def loss(k: int, replica: nn.Module) -> tuple[Tensor, dict[str, float]]:
        drawn = actors[k].replay.sample(cfg.batch_size // workers)
        names = ("obs", "returns", "discounts", "next_obs")
        batch = {name: torch.from_numpy(getattr(drawn, name)).to(actors[k].device) for name in names}
        return td_loss(replica, batch, cfg.batch_size)

    for progress in run.steps(cfg.batch):
        lr = cfg.lr * (1.0 - progress) if cfg.anneal else cfg.lr
        with run.phase("rollout"):
            learner.team.run(lambda k: actors[k].follow(fixed.act, cfg.rollout_steps, cfg.clip_reward))
        run.record(actors)
        if run.step < cfg.learning_starts:
            run.log({}, updates=0)
            continue
        with run.phase("training"):
            told = [learner.update(loss, lr)[0] for _ in range(cfg.batch // cfg.train_period)]
        stats = {f"train/{key}": float(np.mean([sum(p[key] for p in parts) for parts in told])) for key in told[0][0]}
        if run.step % JUDGE_STEPS < cfg.batch:
            with run.phase("judging"):
                both = learner.team.run(lambda k: judged(learner.replicas[k], actors[k], cfg, JUDGED // workers))
            if (pairs := np.concatenate(both, axis=1)).size:
                stats |= summary(*pairs)
        run.log(stats | {"train/learning_rate": lr}, updates=len(told))


def load(spec: EnvSpec, cfg: Config, weights: dict[str, Any], device: str) -> Network:
    """The fixed policy as an agent, with the values learnt for it."""
    net = load_weights(ValueNetwork(spec, cfg.net), weights, device)
    policy = FrozenPolicy(cfg.policy, spec, device).policy

    def forward(obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        probs = policy.explain(obs)["probs"]
        with torch.no_grad():
            value = net(torch.from_numpy(np.ascontiguousarray(obs)).to(device))
        return np.log(np.maximum(probs, 1e-30)).astype(np.float32), value.cpu().numpy()

    return Network(forward)
