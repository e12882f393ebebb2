"""Rainbow (Hessel et al. 2018): C51 with double, dueling, three-step returns, prioritised replay and noisy heads.

The loss is that of `c51.py`; the training loop and its differences from the papers are in `dqn.py`. As in the paper,
priorities are the Kullback-Leibler divergence. Each component may be switched off, as in the paper's ablations.
"""

from __future__ import annotations

from dataclasses import dataclass

from playfield.algos import c51
from playfield.algos._dqn_presets import ATARI, VALUE_BUDGETS
from playfield.options import Count, Fraction, LearningRate
from playfield.runs.algorithm import Budget
from playfield.runs.run import Run

BUDGETS = VALUE_BUDGETS | {
    "atari": Budget(300_000, 10),
    "atari/efficient": Budget(100_000, 15),
    "vector": Budget(100_000, 2),
}


@dataclass(frozen=True)
class Config(c51.Config):
    """Hyper-parameters of Rainbow."""

    budgets = BUDGETS

    lr: LearningRate = 6.25e-5
    target_period: Count = 8_000
    learning_starts: Count = 20_000
    n_step: Count = 3
    double: bool = True
    dueling: bool = True
    noisy: bool = True
    alpha: Fraction = 0.5


PRESETS: dict[str, dict[str, Config]] = {
    "atari": {
        "default": Config(**ATARI),
        # The paper's sizes.
        "paper": Config(capacity=1_000_000, net="nature:init=uniform"),
        # Data-efficient Rainbow (van Hasselt et al. 2019), for 100,000 steps: 20-step returns, an update every step,
        # and a smaller network (theirs has fewer and larger strides).
        "efficient": Config(
            num_envs=2,
            rollout_steps=2,
            learning_starts=1_600,
            train_period=1,
            target_period=2_000,
            lr=1e-4,
            n_step=20,
            net="nips",
        ),
    },
    "vector": {"default": Config(**c51.VECTOR_SUPPORT)},
}


def train(run: Run, cfg: Config) -> None:
    """Train until the run's total steps or target score are reached."""
    c51.train(run, cfg)


load = c51.load
