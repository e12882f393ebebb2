"""Figures 2.2 and 2.6: ways to explore on a ten-armed bandit.

The reward of each of ten arms is normally distributed, with a standard deviation of 1, about the arm's value; these
values are standard normal, other ones in each run. A greedy agent soon stays with an arm that is good, but not the
best; one that tries a random arm now and then finds the best. In the long run 1 % of random arms would be better than
10 %, but it takes longer.

The parameter study: optimistic initial values, an upper confidence bound and the gradient bandit explore too. Each
method has a parameter, and its mean reward over the first 1,000 steps is best for a value in between.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from playfield.lessons import _rows
from playfield.lessons._outcome import Outcome
from playfield.lessons._panels import Curves, Line, Mark
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import Row, mean_row
from playfield.lessons._tabular import best, choose, play_all
from playfield.linear.jit import Bools, Floats, jit

BUDGET = Budget(runs=2_000, steps=1_000)
ARMS = 10
EPSILONS = (0.0, 0.01, 0.1)
STUDIED = 4  # the parameter study has one in so many runs
BEST_ARM = 1.54  # expected value of the best of ten arms
GREEDY = 1.0  # reward of the greedy agent in the end
LAST = 100  # steps in the mean that is compared
SAMPLE_MEANS, CONSTANT, UCB, GRADIENT = range(4)


@dataclass(frozen=True)
class Method:
    """A curve of the parameter study: a `kind` of agent, and the powers of two that its parameter takes."""

    label: str
    kind: int
    powers: Sequence[int]


STUDY = (
    Method("epsilon-greedy: epsilon", SAMPLE_MEANS, range(-7, -1)),
    Method("gradient: alpha", GRADIENT, range(-5, 3)),
    Method("UCB: c", UCB, range(-4, 3)),
    Method("optimistic: first value", CONSTANT, range(-2, 3)),
)


@jit
def play(
    kind: int, parameter: float, rng: np.random.Generator, stop: Bools, arms: Floats, rewards: Floats, right: Floats
) -> None:
    """One run on a bandit whose values are drawn into `arms` [A]; `rewards` [T], and in `right` [T] 1: the best arm.

    The parameter is epsilon for sample means; the initial value of a greedy agent with the constant step size 0.1;
    c of the upper confidence bound; alpha of the gradient bandit with the mean reward as its baseline.
    """
    count = len(arms)
    for a in range(count):
        arms[a] = rng.standard_normal()
    top = arms.max()
    values, tried, scores = np.zeros(count), np.zeros(count), np.zeros(count)
    if kind == CONSTANT:
        values[:] = parameter
    mean = 0.0
    for t in range(len(rewards)):
        if stop[0]:
            return
        if kind == SAMPLE_MEANS:
            arm = choose(values, parameter, rng)
        elif kind == CONSTANT:
            arm = best(values, rng)
        elif kind == UCB:
            for a in range(count):
                bonus = math.sqrt(math.log(t + 1) / tried[a]) if tried[a] > 0 else math.inf
                scores[a] = values[a] + parameter * bonus
            arm = best(scores, rng)
        else:
            high, total, arm = values.max(), 0.0, 0
            for a in range(count):
                scores[a] = math.exp(values[a] - high)
                total += scores[a]
            scores /= total
            place = rng.random()
            while arm < count - 1 and place >= scores[arm]:
                place -= scores[arm]
                arm += 1
        reward = arms[arm] + rng.standard_normal()
        rewards[t] = reward
        right[t] = 1.0 if arms[arm] == top else 0.0
        tried[arm] += 1
        if kind == GRADIENT:
            mean += (reward - mean) / (t + 1)
            for a in range(count):
                values[a] += parameter * (reward - mean) * ((1.0 if a == arm else 0.0) - scores[a])
        else:
            values[arm] += (reward - values[arm]) * (0.1 if kind == CONSTANT else 1 / tried[arm])


def run(request: Request) -> Outcome:
    """2000 runs of 1000 steps for each epsilon; a quarter of the runs for each point of the parameter study."""
    request.progress.parts(len(EPSILONS) + sum(len(m.powers) for m in STUDY))
    x, last = np.arange(1, request.steps + 1), min(LAST, request.steps)
    earned, chosen, rows, top = [], [], list[Row](), np.zeros(0)
    for epsilon in EPSILONS:
        label = f"epsilon {epsilon:g}" if epsilon else "greedy"
        arms, rewards, right, seconds = _runs(request, label, SAMPLE_MEANS, epsilon)
        top = arms.max(axis=1)
        published = None if epsilon else GREEDY
        measure = f"reward, {_rows.last(last, 'step')}"
        rows.append(mean_row(label, measure, published, rewards[:, -last:].mean(axis=1), seconds_here=seconds))
        rows.append(mean_row(label, f"best arm, {_rows.last(last, 'step')}", None, right[:, -last:].mean(axis=1)))
        earned.append(Line(label, x, rewards))
        chosen.append(Line(label, x, 100 * right))
    claims = [("reward", [r.ours for r in rows[::2]]), ("best arm", [r.ours for r in rows[1::2]])]
    for measure, found in claims:
        rows.append(
            Row("epsilon 0.1, 0.01, greedy", measure, None, found[-1], claim="in this order", holds=_rising(found))
        )
    rows.append(mean_row("the best arm", "value", BEST_ARM, top, tolerance=0.05))
    fewer = dataclasses.replace(request, runs=max(request.runs // STUDIED, 1))
    lines = []
    for method in STUDY:
        means, seconds = [], 0.0
        for power in method.powers:
            _, rewards, _, took = _runs(fewer, f"{method.label} 2^{power}", method.kind, 2.0**power)
            means.append(rewards.mean(axis=1))
            seconds += took
        lines.append(Line(method.label, np.array(method.powers, float), np.stack(means, axis=1)))
        rows.append(_study_row(method, lines[-1].y, seconds))
    marks = [Mark(0, 1.005 * request.steps, 1.03 * request.steps, GREEDY)] if request.as_published else []
    xlabel = f"step ({request.runs_text()})"
    panels = [
        Curves("Figure 2.2: reward", xlabel, "reward of a step", earned, marks),
        Curves("Figure 2.2: how often the best arm is chosen", xlabel, "% of runs", chosen, ylim=(0, 100)),
        Curves(
            "Figure 2.6: parameter study",
            f"log2 of the parameter ({fewer.runs_text()})",
            f"reward, mean of {request.steps:,} steps",
            lines,
        ),
    ]
    rows = [dataclasses.replace(row, compared=request.as_published) for row in rows]
    return Outcome("bandits", "Figures 2.2 and 2.6: the ten-armed testbed", rows, panels)


def _runs(request: Request, label: str, kind: int, parameter: float) -> tuple[Floats, Floats, Floats, float]:
    """Values of the arms [runs, A], rewards and whether the best arm was chosen [runs, T], and the seconds."""

    def one(rng: np.random.Generator, stop: Bools) -> tuple[Floats, Floats, Floats]:
        arms, rewards, right = np.zeros(ARMS), np.zeros(request.steps), np.zeros(request.steps)
        play(kind, parameter, rng, stop, arms, rewards, right)
        return arms, rewards, right

    found, seconds = play_all(request, label, one)
    arms, rewards, right = (np.stack(part) for part in zip(*found, strict=True))
    return arms, rewards, right, seconds


def _rising(found: Sequence[float]) -> bool:
    return all(a < b for a, b in itertools.pairwise(found))


def _study_row(method: Method, values: Floats, seconds: float) -> Row:
    """The best parameter of `values` [runs, powers]: the book finds one between the ends."""
    at = int(values.mean(axis=0).argmax())
    inside = 0 < at < len(method.powers) - 1
    return mean_row(
        f"{method.label} {2.0 ** method.powers[at]:g}",
        "reward, best parameter",
        None,
        values[:, at],
        claim="a value between the ends",
        holds=inside,
        seconds_here=seconds,
    )
