"""Compiled kernels of the linear methods: action values, action selection, eligibility traces.

Shapes: A actions, F features, K of them active at most. The features of a state are `index[:active]` and
`value[:active]`; weights w and traces z are [A, F].
"""

from __future__ import annotations

import math

import numpy as np

from playfield.linear.jit import Floats, Ints, jit, kernel

ONGOING, TERMINATED, TRUNCATED = range(3)  # what a step ends with
ENDLESS = 1_000_000  # steps after which an episode is taken for one that never ends


@jit
def sample_uniform(rng: np.random.Generator, count: int) -> int:
    """One of 0..count-1, as NumPy samples it (`jit`, since NumPy's function allocates an array when compiled)."""
    return int(rng.integers(0, count))


@kernel
def dot(w: Floats, row: int, index: Ints, value: Floats, active: int) -> float:
    """w[row] · x: the sum of the weights of the active features, times their values."""
    total = 0.0
    for j in range(active):
        total += w[row, index[j]] * value[j]
    return total


@kernel
def add(w: Floats, row: int, index: Ints, value: Floats, active: int, amount: float) -> None:
    """w[row] += amount * x."""
    for j in range(active):
        w[row, index[j]] += amount * value[j]


@kernel
def dot_at(w: Floats, row: int, index: Ints, value: Floats, slot: int, active: int) -> float:
    """`dot` with the features in row `slot` of index and value [slots, K]."""
    total = 0.0
    for j in range(active):
        total += w[row, index[slot, j]] * value[slot, j]
    return total


@kernel
def add_at(w: Floats, row: int, index: Ints, value: Floats, slot: int, active: int, amount: float) -> None:
    """`add` with the features in row `slot` of index and value [slots, K]."""
    for j in range(active):
        w[row, index[slot, j]] += amount * value[slot, j]


@kernel
def greedy(w: Floats, index: Ints, value: Floats, active: int, rng: np.random.Generator) -> int:
    """An action of the highest value; ties break at random."""
    chosen, ties, top = 0, 0, -math.inf
    for a in range(len(w)):
        q = dot(w, a, index, value, active)
        if q > top:
            chosen, ties, top = a, 1, q
        elif q == top:
            ties += 1
            if rng.random() * ties < 1.0:
                chosen = a
    return chosen


@kernel
def max_value(w: Floats, index: Ints, value: Floats, active: int) -> float:
    """The highest action value."""
    top = -math.inf
    for a in range(len(w)):
        top = max(top, dot(w, a, index, value, active))
    return top


@kernel
def epsilon_greedy(
    w: Floats, index: Ints, value: Floats, active: int, epsilon: float, rng: np.random.Generator
) -> tuple[int, bool]:
    """An action of the epsilon-greedy policy, and whether it is a greedy one (as a random one may be too)."""
    if epsilon > 0.0 and rng.random() < epsilon:
        action = sample_uniform(rng, len(w))
        return action, dot(w, action, index, value, active) >= max_value(w, index, value, active)
    return greedy(w, index, value, active, rng), True


# Most traces are zero. The first length[0] numbers in `nonzero` [A * F] are the flat indices of those that are not.


@kernel
def decay_traces(z: Floats, nonzero: Ints, length: Ints, factor: float) -> None:
    """z *= factor. Traces that become zero leave the list; a factor of 0 resets them all."""
    flat, kept = z.reshape(z.size), 0
    for n in range(length[0]):
        at = nonzero[n]
        flat[at] *= factor
        if flat[at] != 0.0:
            nonzero[kept] = at
            kept += 1
    length[0] = kept


@kernel
def update_traces(
    z: Floats,
    nonzero: Ints,
    length: Ints,
    row: int,
    index: Ints,
    value: Floats,
    active: int,
    amount: float,
    replace: bool,
) -> None:
    """z[row] += amount * x (accumulating traces), or z[row] = amount * x where x is not 0 (replacing traces).

    A feature may be active twice (where tiles share one), so a trace that cancels to zero leaves the list at once:
    listed twice, it would be added to the weights twice.
    """
    for j in range(active):
        i, x = index[j], amount * value[j]
        if x == 0.0:
            continue
        if z[row, i] == 0.0:
            nonzero[length[0]] = row * z.shape[1] + i
            length[0] += 1
        z[row, i] = x if replace else z[row, i] + x
        if z[row, i] == 0.0:
            for n in range(length[0]):
                if nonzero[n] == row * z.shape[1] + i:
                    length[0] -= 1
                    nonzero[n] = nonzero[length[0]]
                    break


@kernel
def add_traces(w: Floats, z: Floats, nonzero: Ints, length: Ints, amount: float) -> None:
    """w += amount * z."""
    weights, traces = w.reshape(w.size), z.reshape(z.size)
    for n in range(length[0]):
        weights[nonzero[n]] += amount * traces[nonzero[n]]
