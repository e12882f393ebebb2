"""Deep Q-networks (Mnih et al. 2015), and the training loop that the whole DQN family shares.

C51, QR-DQN, HL-Gauss and Rainbow differ from DQN in two functions: `q_values`, from the network's outputs to action
values, and the loss. The whole family has `double` (van Hasselt et al. 2016), `dueling` (Wang et al. 2016), `n_step`
returns, prioritised replay (`alpha`, Schaul et al. 2016), `noisy` heads (Fortunato et al. 2018) and random actions
that are repeated for several steps (`epsilon_zeta`, Dabney et al. 2021). Differences from those papers:

1. Several environments are stepped `rollout_steps` times, then there is one update per `train_period` steps.
2. Each worker has its own environments, its own replay buffer and a share of every minibatch.
3. All minibatches of a rollout are sampled before its first update, and their targets computed in one batch, with the
   networks and priorities of that moment: one large batch costs less than many small ones.
4. Truncated episodes bootstrap from the value of their true last observation.
5. The dueling heads share the body's last layer, and gradients are clipped by norm rather than rescaled.
6. Only heads are noisy. Noise is independent for every sample and environment. Evaluation uses no noise.
7. With `concurrent`, the target network collects the next rollout while the previous ones are learnt from (Daley and
   Amato 2021). New transitions are stored after that, so results do not depend on timing.
8. Pixel bodies may compute in bfloat16; heads, targets, losses and the optimizer are float32.

Presets of classic control: `default`, and `sparse`, which repeats random actions (MountainCar's default). Of Atari:

* `default`: a small network and half of the papers' samples per step; another for RAM.
* `pong`: twice the samples per step, in small minibatches: the first to reach 18 in Pong (docs/results.md).
* `nips`, `nature`: as in Mnih et al. 2013 and 2015, both with a target network and the Huber loss (the gradient of
  their clipped error). Their losses are sums over 32 samples, ours are means: so `adam_eps` is 0.01 / 32^2. The
  target network changes every 40,000 steps, 10,000 updates, as in the paper's table (its code: 10,000 steps).
  Training ends at an epsilon of 0.1, evaluation has 0.05.
* `cleanrl`: the sizes of CleanRL's `dqn_atari.py`: Adam, squared error, no gradient clipping.
* `lesson18`, `lesson18-double`: a course's: a buffer of 10,000, full before the first update, and an update per step.
  The course's network saw one frame (`--stack 1`), without motion; these see four.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor, nn

from playfield.algos import _dqn_config
from playfield.algos._actor import Actor, Target, linear, make_actors
from playfield.algos._dqn_presets import ATARI, DQN_BUDGETS, NATURE, PIXELS, RAM, SPARSE, VECTOR
from playfield.algos._q_network import QNetwork, QValues, identity, noise_for, policy, select
from playfield.envs.base import EnvSpec
from playfield.errors import DivergedError
from playfield.nets.learner import Learner, Team, load_weights
from playfield.nets.optimizers import Adam, CentredRMSProp, Optimizer
from playfield.replay.buffer import Batch
from playfield.runs.algorithm import Network
from playfield.runs.run import Run


@dataclass(frozen=True)
class Config(_dqn_config.Config):
    """Hyper-parameters of DQN."""

    budgets = DQN_BUDGETS
    huber: bool = True
    """Huber loss, which clips errors, instead of half the squared error."""


PAPERS = NATURE | {"optimizer": "rmsprop", "lr": 2.5e-4, "adam_eps": 0.01 / 32**2}
PAPERS |= {"epsilon_end": 0.1, "eval_epsilon": 0.05}  # both papers evaluate at 0.05
CLEANRL: dict[str, Any] = {"capacity": 1_000_000, "learning_starts": 80_000, "max_grad_norm": 0.0, "adam_eps": 1e-8}
LESSON = Config(
    capacity=10_000,
    train_period=1,
    huber=False,
    max_grad_norm=0.0,
    adam_eps=1e-7,  # Keras's
    epsilon_steps=200_000,
    net="nature:init=glorot",  # Keras's
)
PRESETS: dict[str, dict[str, Config]] = {
    "atari": {
        "default": Config(**ATARI | {"double": False}),  # double targets cost Breakout its start (docs/results.md)
        "pong": Config(lr=3e-4, net="nips", double=True, n_step=3),
        "nips": Config(**PAPERS | {"net": "nips:norm=none,init=uniform"}),
        "nature": Config(**PAPERS),
        "cleanrl": Config(**CLEANRL, huber=False, net="nature:init=uniform"),
        "lesson18": LESSON,
        "lesson18-double": dataclasses.replace(LESSON, double=True),
    },
    "ram": {"default": Config(**RAM)},
    "vector": {"default": Config(**VECTOR), "sparse": Config(**SPARSE)},
    "MountainCar": {"default": Config(**SPARSE)},
    "pixels": {"default": Config(**PIXELS)},
}


def network(spec: EnvSpec, cfg: Config) -> QNetwork:
    """Action values."""
    return QNetwork(spec, cfg.net, cfg.dueling, noise_std=cfg.noise_std * cfg.noisy)


@dataclass(slots=True)
class Minibatch:
    """A worker's share of a minibatch: B transitions, as tensors on the device.

    Attributes:
        obs: [B, ...] observations, in the environment's dtype.
        actions: [B] int64, the actions taken.
        returns: [B] float32, discounted sums of the next n rewards, or fewer where the episode ends before.
        discounts: [B] float32, gamma ** n; 0 after a termination.
        target_q: [B, ...] output of the target network for the greedy action after these n steps: float32 values
            [B] in DQN, logits or quantiles [B, K] in distributional methods.
        weights: [B] float32 importance weights; the largest of the whole minibatch is 1.
        index: [B] int64 array, for `Replay.reprioritise`.
    """

    obs: Tensor
    actions: Tensor
    returns: Tensor
    discounts: Tensor
    target_q: Tensor
    weights: Tensor
    index: np.ndarray


Loss = Callable[[Tensor, Minibatch], tuple[Tensor, Tensor]]
"""(the network's outputs for the actions taken [B, ...], minibatch) to (loss [B], TD error [B])."""
METRICS = ("train/loss", "train/q_value", "train/td_error", "train/grad_norm")


def act(actor: Actor, net: nn.Module, q_values: QValues, epsilon: float, zeta: float, obs: np.ndarray) -> np.ndarray:
    """Epsilon-greedy actions [N] int64 for observations [N, ...]; `zeta`: see `Actor.explore`.

    Raises DivergedError when an action value is not finite.
    """
    explore, random_actions = actor.explore(epsilon, zeta)
    if explore.all():
        return random_actions
    with torch.no_grad():
        outputs = net(torch.from_numpy(obs).to(actor.device), noise_for(net, actor.noise, len(obs)))
        q = q_values(outputs).cpu().numpy()
    if not math.isfinite(float(q.sum())):
        raise DivergedError("an action value is not finite: lower the learning rate (--lr)")
    return np.where(explore, random_actions, q.argmax(-1))


def targets(
    net: nn.Module, target_net: nn.Module, next_obs: np.ndarray, q_values: QValues, double: bool, random: Generator
) -> Tensor:
    """`Minibatch.target_q` for next observations [B, ...]; with `double`, `net` selects the greedy action.

    `random` is for the noise of noisy networks.
    """
    obs = torch.from_numpy(next_obs).to(next(net.parameters()).device)
    with torch.no_grad():
        outputs = target_net(obs, noise_for(target_net, random, len(obs)))
        selecting = net(obs, noise_for(net, random, len(obs))) if double else outputs
        return select(outputs, q_values(selecting).argmax(-1))


def minibatches(batch: Batch, target_q: Tensor, count: int) -> list[Minibatch]:
    """Sampled transitions and their `target_q` as `count` minibatches of the same size.

    Every count-th sample belongs to the same minibatch, since prioritised samples are ordered by environment. The
    tensors are views, since copies of pixels are slow.
    """
    names = ("obs", "actions", "returns", "discounts", "weights")
    tensors = {name: torch.from_numpy(getattr(batch, name)).to(target_q.device) for name in names}
    tensors["target_q"] = target_q
    return [
        Minibatch(**{name: t[m::count] for name, t in tensors.items()}, index=batch.index[m::count])
        for m in range(count)
    ]


def dqn_loss(q: Tensor, batch: Minibatch, huber: bool = True) -> tuple[Tensor, Tensor]:
    """Loss [B] of the values `q` [B] of the actions taken, and the TD errors [B], target - q."""
    error = batch.returns + batch.discounts * batch.target_q - q
    if huber:
        return F.huber_loss(error, torch.zeros_like(error), reduction="none"), error
    return 0.5 * error.square(), error


def update(
    learner: Learner,
    actors: Sequence[Actor],
    minibatch: Sequence[Minibatch],
    loss: Loss,
    q_values: QValues,
    randoms: Sequence[Generator],
    lr: float,
) -> np.ndarray:
    """One optimizer step on a minibatch (each worker's share of it), and new priorities; returns `METRICS` [4]."""
    size = sum(len(part.actions) for part in minibatch)
    largest = max(float(part.weights.max()) for part in minibatch)
    for part in minibatch:
        part.weights /= largest

    def share_of_loss(k: int, replica: nn.Module) -> tuple[Tensor, list[float]]:
        batch = minibatch[k]
        outputs = replica(batch.obs, noise_for(replica, randoms[k], len(batch.actions)))
        losses, errors = loss(select(outputs, batch.actions), batch)
        value = (losses * batch.weights).sum() / size
        actors[k].replay.reprioritise(batch.index, errors.detach().cpu().numpy())
        with torch.no_grad():
            q = select(q_values(outputs), batch.actions).sum()
            metrics = torch.stack([value.detach(), q / size, errors.abs().sum() / size])
        return value, metrics.tolist()

    shares, grad_norm = learner.update(share_of_loss, lr)
    return np.array([*np.sum(shares, axis=0), grad_norm])


def train(run: Run, cfg: Config) -> None:
    """Train until the run's total steps or target score are reached."""
    cfg.check(run.compute.workers)
    with run.seeded():
        net = network(run.spec, cfg)
    train_q_network(run, cfg, net, lambda q, batch: dqn_loss(q, batch, cfg.huber), identity)


def train_q_network(run: Run, cfg: _dqn_config.Config, net: QNetwork, loss: Loss, q_values: QValues) -> None:
    """The training loop of the DQN family: act, store, sample, compute targets, update, sync the target network.

    Args:
        net: maps observations [N, ...] to outputs [N, A, ...].
        loss: of the algorithm; prioritised replay uses its errors.
        q_values: maps outputs [N, A, ...] to action values [N, A].
    """
    compute = run.compute

    def optimizer(params: list[Tensor]) -> Optimizer:
        if cfg.optimizer == "rmsprop":
            return CentredRMSProp(params, cfg.at("lr", 0.0), eps=cfg.adam_eps)
        return Adam(params, cfg.at("lr", 0.0), eps=cfg.adam_eps)

    learner = Learner(net, optimizer, compute, cfg.max_grad_norm)
    run.track("learner", learner, finite=learner.weights_finite, growth=learner.growth, close=learner.close)
    target = run.track("target", Target(learner.replicas[0]))
    replay = {"n_step": cfg.n_step, "gamma": cfg.gamma, "packed": cfg.packed, "alpha": cfg.alpha}
    actors = make_actors(run, cfg.num_envs, cfg.capacity, cfg.mmap, **replay)
    updates, share = cfg.batch // cfg.train_period, cfg.batch_size // compute.workers
    players = Team(compute.workers, background=True) if cfg.concurrent else learner.team
    if cfg.concurrent:
        run.on_close.append(players.close)
    # Acting and learning may run in parallel: then each has random numbers of its own.
    randoms = [actor.replay.random if cfg.concurrent else actor.noise for actor in actors]

    def learn(progress: float) -> dict[str, float]:
        """Sample, compute targets and make `updates` updates; returns metrics."""
        beta = linear(cfg.beta, 1.0, progress)
        lr = cfg.at("lr", progress, run.step)

        def sample(k: int) -> list[Minibatch]:
            batch = actors[k].replay.sample(share * updates, beta)
            nets = learner.replicas[k], target.net
            return minibatches(batch, targets(*nets, batch.next_obs, q_values, cfg.double, randoms[k]), updates)

        with run.phase("targets"):
            sampled = list(zip(*learner.team.run(sample), strict=True))
        with run.phase("training"):
            metrics = [update(learner, actors, minibatch, loss, q_values, randoms, lr) for minibatch in sampled]
        means = np.sum(metrics, axis=0) / updates
        return {**dict(zip(METRICS, means.tolist(), strict=True)), "train/learning_rate": lr}

    for progress in run.steps(cfg.batch):
        start, epsilon = run.step, cfg.exploration_rate(run.step, progress)
        learning = start >= cfg.learning_starts
        parallel = cfg.concurrent and learning
        if learning and start % cfg.target_period < cfg.batch:
            target.sync(learner.replicas[0])

        def play(k: int, epsilon: float = epsilon, parallel: bool = parallel) -> None:
            net = target.net if cfg.concurrent else learner.replicas[k]
            policy = partial(act, actors[k], net, q_values, epsilon, cfg.epsilon_zeta)
            actors[k].collect(policy, cfg.rollout_steps, cfg.clip_reward, stage=parallel)

        metrics: dict[str, float] = {}
        if parallel:
            players.start(play)
            try:
                metrics = learn(progress)
            finally:  # also after an error: no thread is left running
                with run.phase("rollout"):
                    players.wait()
            for actor in actors:
                actor.store_staged()
        else:
            with run.phase("rollout"):
                players.run(play)
        run.record(actors)
        if learning and not parallel:
            metrics = learn(progress)
        run.log(metrics | {"rollout/exploration_rate": epsilon}, updates=updates if learning else 0)


def load(spec: EnvSpec, cfg: Config, weights: dict[str, Any], device: str) -> Network:
    """The trained agent, see `_q_network.policy`."""
    return policy(load_weights(network(spec, cfg), weights, device), identity, *cfg.epsilons, device)
