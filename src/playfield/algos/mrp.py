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
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from playfield.algos import _dqn_config
from playfield.algos._actor import Actor, make_actors
from playfield.algos._returns import explained_variance
from playfield.envs.base import EnvSpec
from playfield.nets import bodies
from playfield.nets.learner import Learner, load_weights
from playfield.play.fixed import Fixed, check_name
from playfield.replay.buffer import TERMINATED, TRUNCATED, Replay
from playfield.runs.run import Run

JUDGE_STEPS, JUDGED = 2_000, 512  # steps between two judgements, and how many values each looks at


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of value prediction."""

    policy: str = "random"
    """Whose states are valued: random, a run directory, a checkpoint or a shipped agent (at temperature 1); a run
    keeps its name with the sha256 of its weights."""
    num_envs: int = 8
    """Environments stepped at once."""
    rollout_steps: int = 4
    """Steps of each environment between two rounds of learning."""
    capacity: int = 10_000
    """Observations in the replay memory."""
    learning_starts: int = 2_000
    """Steps before the first update."""
    train_period: int = 4
    """Steps to an update."""
    batch_size: int = 32
    """Transitions in a minibatch."""
    n_step: int = 1
    """Rewards in a target before it bootstraps."""
    gamma: float = 0.99
    """Discount of a step."""
    lr: float = 3e-4
    """Adam's learning rate."""
    anneal: bool = True
    """Let the learning rate fall linearly to 0 over the whole training."""
    max_grad_norm: float = 10.0
    """Global gradient norm that is clipped to."""
    net: str = "nips"
    """Network body (`playfield nets` lists them) with its options, as in nature:width=2,norm=layer."""
    clip_reward: bool = True
    """Learn from the sign of Atari rewards (scores stay raw)."""

    packed, alpha = False, 0.0  # of the replay memory

    @property
    def batch(self) -> int:
        return self.num_envs * self.rollout_steps

    @property
    def drawn(self) -> int:
        """Transitions drawn at once."""
        return self.batch_size

    @property
    def first_minibatch(self) -> int:
        """Steps after which every memory has enough to draw from."""
        return max(self.batch_size, 2 * self.num_envs) * self.n_step

    def check(self, workers: int = 1) -> None:
        """Raise UsageError where values cannot go together, or there is no such policy."""
        shared = {f.name for f in dataclasses.fields(_dqn_config.Config)}
        _dqn_config.Config(**{k: v for k, v in dataclasses.asdict(self).items() if k in shared}).check(workers)
        check_name(self.policy)


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
    fixed = run.track("policy", Fixed(cfg.policy, run.spec, run.compute.device))
    with run.seeded():
        net = ValueNetwork(run.spec, cfg.net)

    adam = partial(torch.optim.Adam, lr=cfg.lr, eps=1e-5, fused=True)
    learner = run.track("learner", Learner(net, adam, run.compute, cfg.max_grad_norm))
    actors = make_actors(run, cfg.num_envs, cfg.capacity, n_step=cfg.n_step, gamma=cfg.gamma, packed=cfg.packed)

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


def load(spec: EnvSpec, config: dict[str, Any], weights: dict[str, Any], device: str) -> Any:
    """A function of observations to (logits, value): those of the fixed policy, and the value learnt for it."""
    net = load_weights(ValueNetwork(spec, config["net"]), weights, device)
    policy = Fixed(config["policy"], spec, device).policy

    def network(obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        probs = policy.explain(obs)["probs"]
        with torch.no_grad():
            value = net(torch.from_numpy(np.ascontiguousarray(obs)).to(device))
        return np.log(np.maximum(probs, 1e-30)).astype(np.float32), value.cpu().numpy()

    return network
