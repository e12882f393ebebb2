"""Deep Q-networks (Mnih et al. 2015): the value of each action, learnt towards a target network by the Huber loss.

The loop, its switches (double, dueling, n-step, prioritised, noisy) and where it differs from the papers are in
`_dqn_config.py`. Presets of classic control: `default`, another for CartPole from pixels, and `sparse`, whose random
actions are held for a while: that is MountainCar's default. Presets of Atari:

* `default`: a small net and half the papers' samples per step; another for RAM.
* `pong`: twice the samples per step, in small minibatches: what reached 18 in Pong soonest (docs/results.md).
* `nips`, `nature`: the nets and sizes of Mnih et al. 2013 and 2015, both with a target network and clipped errors
  (the Huber loss has their gradients). Theirs are sums over a minibatch of 32, ours means: so epsilon is 0.01 / 32^2.
* `cleanrl`: the sizes of CleanRL's `dqn_atari.py`: Adam, squared error, no clipping of gradients.
* `lesson18`, `lesson18-double`: a course's, with a memory of 10,000 that must be full before learning starts, and an
  update in every step. The course's network saw one picture (`--stack 1`), in which nothing moves; these see four.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from playfield.algos import _dqn_config
from playfield.algos._actor import Target, linear, make_actors
from playfield.algos._dqn_presets import ATARI, PIXELS, RAM, SPARSE, VECTOR
from playfield.algos._q_network import Expect, QNetwork, identity, noise_for
from playfield.envs.base import EnvSpec
from playfield.nets.learner import Learner, Team, load_weights
from playfield.nets.rmsprop import CentredRMSProp
from playfield.play.policy import Network
from playfield.replay.buffer import Batch
from playfield.runs.run import Run


@dataclass(frozen=True)
class Config(_dqn_config.Config):
    """Hyper-parameters of DQN."""

    huber: bool = True
    """Huber loss, which clips errors, instead of half the squared error."""


PAPERS: dict[str, Any] = {
    "capacity": 1_000_000,
    "learning_starts": 50_000,
    "target_period": 40_000,  # every 10,000 updates
    "optimizer": "rmsprop",
    "lr": 2.5e-4,
    "adam_eps": 0.01 / 32**2,
    "max_grad_norm": 0.0,
    "epsilon_end": 0.1,
    "epsilon_steps": 1_000_000,
}
LESSON = Config(
    capacity=10_000,
    train_period=1,
    huber=False,
    max_grad_norm=0.0,
    adam_eps=1e-7,  # Keras's
    epsilon_steps=200_000,
    net="nature",
)
PRESETS: dict[str, dict[str, Config]] = {
    "atari": {
        "default": Config(**ATARI | {"double": False}),  # double targets cost Breakout its start (docs/results.md)
        "pong": Config(lr=3e-4, net="nips", double=True, n_step=3),
        "nips": Config(**PAPERS, net="nips:norm=none"),
        "nature": Config(**PAPERS, net="nature"),
        "cleanrl": Config(
            capacity=1_000_000, learning_starts=80_000, huber=False, max_grad_norm=0.0, adam_eps=1e-8, net="nature"
        ),
        "lesson18": LESSON,
        "lesson18-double": dataclasses.replace(LESSON, double=True),
    },
    "ram": {"default": Config(**RAM)},
    "vector": {
        "default": Config(**VECTOR),
        "sparse": Config(**SPARSE),
    },
    "MountainCar": {"default": Config(**SPARSE)},
    "pixels": {"default": Config(**PIXELS)},
}


def dqn_loss(q: Tensor, batch: Minibatch, huber: bool = True) -> tuple[Tensor, Tensor]:
    """Loss of the values `q` [B] of the actions taken, and the errors target - value [B]."""
    error = batch.returns + batch.discounts * batch.following - q
    if huber:
        return F.huber_loss(error, torch.zeros_like(error), reduction="none"), error
    return 0.5 * error.square(), error


def network(spec: EnvSpec, cfg: Config) -> QNetwork:
    """Action values."""
    return QNetwork(spec, cfg.net, cfg.dueling, noise_std=cfg.noise_std * cfg.noisy)


def train(run: Run, cfg: Config) -> None:
    """Train until `run` says that it is enough."""
    cfg.check(run.compute.workers)
    with run.seeded():
        net = network(run.spec, cfg)
    learn(run, cfg, net, lambda q, batch: dqn_loss(q, batch, cfg.huber), identity)


def load(spec: EnvSpec, cfg: Config, weights: dict[str, Any], device: str) -> Network:
    """The trained agent, see `dqn.policy`."""
    return policy(load_weights(network(spec, cfg), weights, device), identity, cfg.final_epsilon, device)


Loss = Callable[[Tensor, "Minibatch"], tuple[Tensor, Tensor]]
"""(what the network says of the actions taken [B, ...], minibatch) to (loss of each sample [B], its error [B])."""


@dataclass(slots=True)
class Minibatch:
    """What a loss gets to see: tensors of a worker's share of a minibatch.

    Attributes:
        returns, discounts: [B] float32, see `replay.Batch`.
        following: [B, ...] what the target network says of the best action after these rewards.
        weights: [B] float32 importance weights, the largest of the whole minibatch 1.
    """

    obs: Tensor
    actions: Tensor
    returns: Tensor
    discounts: Tensor
    following: Tensor
    weights: Tensor
    index: np.ndarray


def prepare(
    net: nn.Module,
    target: nn.Module,
    noise: np.random.Generator,
    drawn: Batch,
    expect: Expect,
    cfg: _dqn_config.Config,
) -> dict[str, Tensor]:
    """Tensors of `drawn`, with what the target network says of the best action in `next_obs`."""
    device = next(net.parameters()).device
    names = ("obs", "actions", "returns", "discounts", "weights")
    out = {name: torch.from_numpy(getattr(drawn, name)).to(device) for name in names}
    next_obs = torch.from_numpy(drawn.next_obs).to(device)
    with torch.no_grad():
        following = target(next_obs, noise_for(target, noise, len(next_obs)))
        judge = net(next_obs, noise_for(net, noise, len(next_obs))) if cfg.double else following
        out["following"] = chosen(following, expect(judge).argmax(-1))
    return out


def chosen(outputs: Tensor, actions: Tensor) -> Tensor:
    """[B, A, ...] outputs and [B] actions to the outputs [B, ...] of these actions."""
    return outputs[torch.arange(len(actions), device=actions.device), actions]


def learn(run: Run, cfg: _dqn_config.Config, net: QNetwork, loss: Loss, expect: Expect) -> None:
    """Train `net` until `run` says that it is enough.

    Args:
        net: maps observations to outputs [N, A, ...].
        loss: of the algorithm; its errors are what prioritised replay goes by.
        expect: outputs [N, A, ...] to values [N, A].
    """
    compute = run.compute

    def optimizer(params: list[Tensor]) -> torch.optim.Optimizer:
        if cfg.optimizer == "rmsprop":
            return CentredRMSProp(params, cfg.lr, eps=cfg.adam_eps)
        return torch.optim.Adam(params, cfg.lr, eps=cfg.adam_eps, fused=True)

    learner = run.track("learner", Learner(net, optimizer, compute, cfg.max_grad_norm))
    target = run.track("target", Target(learner.replicas[0]))
    actors = make_actors(
        run,
        cfg.num_envs,
        cfg.capacity,
        n_step=cfg.n_step,
        gamma=cfg.gamma,
        packed=cfg.packed,
        alpha=cfg.alpha,
        mmap=cfg.mmap,
    )
    updates, share = cfg.batch // cfg.train_period, cfg.batch_size // compute.workers
    players = Team(compute.workers, beside=True) if cfg.concurrent else learner.team
    if cfg.concurrent:
        run.on_close.append(players.close)
    # Numbers of their own for what plays and what learns, which may happen at once.
    noises = [actor.replay.random if cfg.concurrent else actor.noise for actor in actors]

    def improve(progress: float) -> dict[str, float]:
        """Learn from minibatches drawn together; what to log of them."""
        beta = linear(cfg.beta, 1.0, progress)
        lr = cfg.lr * (1 - progress) if cfg.anneal else cfg.lr

        def targets(k: int) -> list[Minibatch]:
            drawn = actors[k].replay.sample(share * updates, beta)
            tensors = prepare(learner.replicas[k], target.net, noises[k], drawn, expect, cfg)
            # Every updates-th, since a prioritised draw is ordered by lane; views, since copies of pictures cost.
            return [
                Minibatch(**{n: t[m::updates] for n, t in tensors.items()}, index=drawn.index[m::updates])
                for m in range(updates)
            ]

        with run.phase("targets"):
            minibatches = list(zip(*learner.team.run(targets), strict=True))
        stats = np.zeros(3)
        with run.phase("training"):
            for minibatch in minibatches:
                top = max(float(part.weights.max()) for part in minibatch)
                for part in minibatch:
                    part.weights /= top

                def share_of_loss(
                    k: int, replica: nn.Module, minibatch: tuple[Minibatch, ...] = minibatch
                ) -> tuple[Tensor, list[float]]:
                    batch = minibatch[k]
                    outputs = replica(batch.obs, noise_for(replica, noises[k], share))
                    losses, errors = loss(chosen(outputs, batch.actions), batch)
                    value = (losses * batch.weights).sum() / cfg.batch_size
                    actors[k].replay.reprioritise(batch.index, errors.detach().cpu().numpy())
                    with torch.no_grad():
                        q = chosen(expect(outputs), batch.actions).sum()
                        told = torch.stack([value.detach(), q / cfg.batch_size, errors.abs().sum() / cfg.batch_size])
                    return value, told.tolist()

                parts, _ = learner.update(share_of_loss, lr)
                stats += np.sum(parts, axis=0)
        told = zip(("train/loss", "train/q_value", "train/td_error"), (stats / updates).tolist(), strict=True)
        return {**dict(told), "train/learning_rate": lr}

    for progress in run.steps(cfg.batch):
        start, epsilon = run.step, cfg.epsilon(run.step, progress)
        learning = start >= cfg.learning_starts
        beside = cfg.concurrent and learning
        if learning and start % cfg.target_period < cfg.batch:
            target.sync(learner.replicas[0])

        def play(k: int, epsilon: float = epsilon, beside: bool = beside) -> None:
            net = target.net if cfg.concurrent else learner.replicas[k]
            actors[k].play(net, expect, cfg.rollout_steps, epsilon, cfg.clip_reward, cfg.epsilon_zeta, stage=beside)

        told: dict[str, float] = {}
        if beside:
            players.start(play)
            try:
                told = improve(progress)
            finally:  # whatever happens, no thread is left playing
                with run.phase("rollout"):
                    players.wait()
            for actor in actors:
                actor.remember()
        else:
            with run.phase("rollout"):
                players.run(play)
        run.record(actors)
        if learning and not beside:
            told = improve(progress)
        run.log(told | {"rollout/exploration_rate": epsilon}, updates=updates if learning else 0)


def policy(net: nn.Module, expect: Expect, epsilon: float, device: str) -> Network:
    """A trained network as an agent: (logits, value, action values) of observations.

    The logits are those of its epsilon-greedy policy, without noise in noisy networks. A temperature below 1 makes
    random actions rarer, 0 leaves none.
    """
    epsilon = min(max(epsilon, 1e-6), 1 - 1e-6)

    def forward(obs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        with torch.no_grad():
            q = expect(net(torch.from_numpy(np.ascontiguousarray(obs)).to(device))).cpu().numpy()
        probs = np.full(q.shape, epsilon / q.shape[1], np.float32)
        probs[np.arange(len(q)), q.argmax(-1)] += 1 - epsilon
        return np.log(probs), q.max(-1), q

    return Network(forward, policy=f"epsilon-greedy, epsilon {epsilon:g}")
