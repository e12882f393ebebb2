"""The loop that DQN and its family share: act, remember, draw minibatches, and learn towards a target network.

An algorithm says what its network puts out for an action, how values come from that (`expect`), and the loss between
what the network says now and what was seen (`loss`). The switches that later papers added one by one work for all:
`double` (van Hasselt et al. 2016), `dueling` (Wang et al. 2016), `n_step` returns, `alpha` for prioritised replay
(Schaul et al. 2016), `noisy` heads (Fortunato et al. 2018), random actions that are held for a while (`epsilon_zeta`,
Dabney et al. 2021). Where this differs from those papers:

1. Several environments act between rounds of learning; there are still `train_period` steps to an update.
2. Each worker has games, a replay memory and a share of every minibatch of its own.
3. The minibatches of a round are drawn together at its beginning, with the priorities of then, and the networks of
   then compute their targets: one large batch costs less than many small ones.
4. A truncated game bootstraps from the value of its true last observation.
5. The dueling heads share the body's last layer, and gradients are clipped by norm rather than scaled.
6. Only heads are noisy. Every sample has noise of its own, so every environment explores by itself; an agent is
   judged without noise.
7. With `concurrent`, a round is played by the target network while the rounds before are learnt from (Daley and
   Amato 2021). What is played enters the memory after that, so the result does not depend on timing.
8. Pixel bodies may compute in bfloat16; heads, targets, losses and the optimizer are float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from playfield.errors import UsageError
from playfield.learner import Learner, Team
from playfield.replay import Batch
from playfield.rmsprop import CentredRMSProp
from playfield.run import Run
from playfield.values import Expect, QNetwork, Target, linear, make_actors, noise_for

Loss = Callable[[Tensor, "Minibatch"], tuple[Tensor, Tensor]]
"""(what the network says of the actions taken [B, ...], minibatch) to (loss of each sample [B], its error [B])."""


@dataclass(frozen=True)
class Config:
    """Hyper-parameters that DQN and its family share."""

    num_envs: int = 8
    """Environments stepped at once."""
    rollout_steps: int = 4
    """Steps of each environment between two rounds of learning."""
    capacity: int = 100_000
    """Observations in the replay memory."""
    packed: bool = True
    """Keep pixel observations compressed."""
    mmap: bool = False
    """Keep observations plain in a file of the run, mapped into memory: for more of them than memory holds."""
    learning_starts: int = 10_000
    """Steps before the first update."""
    train_period: int = 4
    """Steps to an update."""
    batch_size: int = 32
    """Transitions in a minibatch."""
    target_period: int = 1_000
    """Steps between two updates of the target network."""
    lr: float = 1e-4
    """The optimizer's learning rate."""
    anneal: bool = False
    """Let the learning rate fall linearly to zero."""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    """adam, or rmsprop (centred, decay 0.95)."""
    adam_eps: float = 1.5e-4
    """The optimizer's epsilon (of rmsprop: under the root)."""
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
    epsilon_steps: int = 0
    """Steps in which epsilon falls, instead of a share (0: see `epsilon_share`)."""
    epsilon_zeta: float = 0.0
    """Exponent, above 1, of the zeta distribution of how many steps a random action is held (0: one step)."""
    double: bool = False
    """Choose the target's action by the learning network."""
    dueling: bool = False
    """Value and advantage heads."""
    noisy: bool = False
    """Explore by noise in the heads that learns how large to be, not by epsilon."""
    noise_std: float = 0.5
    """Noise at the start, over the square root of a layer's inputs."""
    alpha: float = 0.0
    """Exponent of priorities (0: uniform replay)."""
    beta: float = 0.4
    """Exponent of importance weights at the start; 1 at the end."""
    net: str = "auto"
    """Network body (`playfield nets` lists them) with its options, as in nature:width=2,norm=layer."""
    concurrent: bool = False
    """Act by the target network, in threads of their own, while the steps before are learnt from."""
    clip_reward: bool = True
    """Learn from the sign of Atari rewards (scores stay raw)."""

    @property
    def batch(self) -> int:
        return self.num_envs * self.rollout_steps

    @property
    def drawn(self) -> int:
        """Transitions drawn at once, at the beginning of a round of learning."""
        return self.batch_size * (self.batch // self.train_period)

    @property
    def first_minibatch(self) -> int:
        """Steps after which every memory has enough to draw from."""
        return max(self.batch_size, 2 * self.num_envs) * self.n_step

    def epsilon(self, step: int, progress: float) -> float:
        """Share of random actions at a step, `progress` of the whole training.

        Until learning starts nothing has been learnt: an untrained network would favour the same few actions.
        """
        if step < self.learning_starts:
            return 1.0 if self.noisy else self.epsilon_start
        if self.noisy:
            return 0.0
        past = step / self.epsilon_steps if self.epsilon_steps else progress / (self.epsilon_share or 1e-9)
        return linear(self.epsilon_start, self.epsilon_end, past)

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
        if 0 < self.epsilon_zeta <= 1:
            raise UsageError(f"--epsilon-zeta must be above 1, or 0 for none, not {self.epsilon_zeta:g}")
        if self.capacity < (least := 2 * self.num_envs * (self.n_step + 8)):
            raise UsageError(f"--capacity must be at least {least} for {self.num_envs} environments")
        if self.noisy and not self.noise_std:
            raise UsageError("--noisy true explores by noise: --noise-std must be above 0")
        if self.batch_size > self.capacity:
            raise UsageError(f"--batch-size {self.batch_size} is more than --capacity {self.capacity} holds")
        if self.batch > self.capacity:
            raise UsageError(
                f"a round of {self.batch} steps does not fit --capacity {self.capacity}: lower --rollout-steps"
            )
        if self.learning_starts < self.first_minibatch:
            raise UsageError(f"--learning-starts must be at least {self.first_minibatch}: one minibatch")


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
    net: nn.Module, target: nn.Module, noise: np.random.Generator, drawn: Batch, expect: Expect, cfg: Config
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


def learn(run: Run, cfg: Config, net: QNetwork, loss: Loss, expect: Expect) -> None:
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


def policy(net: nn.Module, expect: Expect, config: dict[str, Any], device: str) -> Any:
    """A trained network as a function of observations to (logits, value, values of all actions).

    The logits are those of the policy that it ended its training with: a random action with probability
    `epsilon_end` (noisy networks: none, and no noise), else the best. A temperature below 1 makes random actions
    rarer, 0 leaves none.
    """
    epsilon = min(max(0.0 if config.get("noisy") else config["epsilon_end"], 1e-6), 1 - 1e-6)

    def network(obs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        with torch.no_grad():
            q = expect(net(torch.from_numpy(np.ascontiguousarray(obs)).to(device))).cpu().numpy()
        probs = np.full(q.shape, epsilon / q.shape[1], np.float32)
        probs[np.arange(len(q)), q.argmax(-1)] += 1 - epsilon
        return np.log(probs), q.max(-1), q

    return network
