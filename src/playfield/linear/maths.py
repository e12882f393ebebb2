"""Compiled pieces of linear methods: values, choices and traces. A actions, F features, K of them on."""

from __future__ import annotations

import math

from playfield.linear.jit import jit

ONGOING, TERMINATED, TRUNCATED = range(3)


@jit
def dot(w, row, index, value, on):
    """Sum of the weights w[row] [F] of the `on` features that are on, times their values."""
    total = 0.0
    for j in range(on):
        total += w[row, index[j]] * value[j]
    return total


@jit
def add(w, row, index, value, on, amount):
    """Add `amount` times the features to w[row]."""
    for j in range(on):
        w[row, index[j]] += amount * value[j]


@jit
def greedy(w, index, value, on, rng):
    """The best action; ties are broken at random."""
    chosen, ties, top = 0, 0, -math.inf
    for a in range(len(w)):
        q = dot(w, a, index, value, on)
        if q > top:
            chosen, ties, top = a, 1, q
        elif q == top:
            ties += 1
            if rng.random() * ties < 1.0:
                chosen = a
    return chosen


@jit
def best(w, index, value, on):
    """The value of the best action."""
    top = -math.inf
    for a in range(len(w)):
        top = max(top, dot(w, a, index, value, on))
    return top


@jit
def choose(w, index, value, on, epsilon, rng):
    """An action by epsilon-greedy, and whether it is greedy."""
    if epsilon > 0.0 and rng.random() < epsilon:
        action = rng.integers(0, len(w))
        return action, dot(w, action, index, value, on) >= best(w, index, value, on)
    return greedy(w, index, value, on, rng), True


# Traces z [A, F] are nearly everywhere zero: `listed` [A * F] names the entries that are not, `count[0]` of them.


@jit
def fade(z, listed, count, factor):
    """Multiply the traces by `factor`, and forget those that are then zero."""
    features, kept = z.shape[1], 0
    for n in range(count[0]):
        row, i = listed[n] // features, listed[n] % features
        z[row, i] *= factor
        if z[row, i] != 0.0:
            listed[kept] = listed[n]
            kept += 1
    count[0] = kept


@jit
def mark(z, listed, count, row, index, value, on, amount, replace):
    """Add `amount` times the features to z[row], or put them there in place of what there was."""
    for j in range(on):
        i, x = index[j], amount * value[j]
        if x == 0.0:
            continue
        if z[row, i] == 0.0:
            listed[count[0]] = row * z.shape[1] + i
            count[0] += 1
        z[row, i] = x if replace else z[row, i] + x


@jit
def follow(w, z, listed, count, amount):
    """w += amount * z."""
    features = w.shape[1]
    for n in range(count[0]):
        row, i = listed[n] // features, listed[n] % features
        w[row, i] += amount * z[row, i]
