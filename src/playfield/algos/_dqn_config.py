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

from dataclasses import dataclass
from typing import Literal

from playfield.algos._actor import linear
from playfield.errors import UsageError


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
