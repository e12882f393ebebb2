"""Compiled pieces of linear methods: values, choices and traces. A actions, F features, K of them on."""

from __future__ import annotations

import math

from playfield.linear.jit import jit, piece

ONGOING, TERMINATED, TRUNCATED = range(3)
ENDLESS = 1_000_000  # steps after which an episode is taken for one that never ends


@jit
def draw(rng, count):
    """One of 0..count-1, as NumPy draws it (which makes an array when compiled)."""
    return rng.integers(0, count)


@piece
def dot(w, row, index, value, on):
    """Sum of the weights w[row] [F] of the `on` features that are on, times their values."""
    total = 0.0
    for j in range(on):
        total += w[row, index[j]] * value[j]
    return total


@piece
def add(w, row, index, value, on, amount):
    """Add `amount` times the features to w[row]."""
    for j in range(on):
        w[row, index[j]] += amount * value[j]


@piece
def dot_at(w, row, index, value, slot, on):
    """`dot` with features that lie in row `slot` of index and value [slots, K]."""
    total = 0.0
    for j in range(on):
        total += w[row, index[slot, j]] * value[slot, j]
    return total


@piece
def add_at(w, row, index, value, slot, on, amount):
    """`add` with features that lie in row `slot` of index and value [slots, K]."""
    for j in range(on):
        w[row, index[slot, j]] += amount * value[slot, j]


@piece
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


@piece
def best(w, index, value, on):
    """The value of the best action."""
    top = -math.inf
    for a in range(len(w)):
        top = max(top, dot(w, a, index, value, on))
    return top


@piece
def choose(w, index, value, on, epsilon, rng):
    """An action by epsilon-greedy, and whether it is greedy."""
    if epsilon > 0.0 and rng.random() < epsilon:
        action = draw(rng, len(w))
        return action, dot(w, action, index, value, on) >= best(w, index, value, on)
    return greedy(w, index, value, on, rng), True


# Traces z [A, F] are nearly everywhere zero: `listed` [A * F] names the entries that are not, `count[0]` of them.


@piece
def fade(z, listed, count, factor):
    """Multiply the traces by `factor`, and forget those that are then zero."""
    flat, kept = z.reshape(z.size), 0
    for n in range(count[0]):
        at = listed[n]
        flat[at] *= factor
        if flat[at] != 0.0:
            listed[kept] = at
            kept += 1
    count[0] = kept


@piece
def mark(z, listed, count, row, index, value, on, amount, replace):
    """Add `amount` times the features to z[row], or put them there in place of what there was.

    A feature may be on twice (where tiles share a number), so what cancels out is taken off the list at once: listed
    twice, it would be followed twice.
    """
    for j in range(on):
        i, x = index[j], amount * value[j]
        if x == 0.0:
            continue
        if z[row, i] == 0.0:
            listed[count[0]] = row * z.shape[1] + i
            count[0] += 1
        z[row, i] = x if replace else z[row, i] + x
        if z[row, i] == 0.0:
            for n in range(count[0]):
                if listed[n] == row * z.shape[1] + i:
                    count[0] -= 1
                    listed[n] = listed[count[0]]
                    break


@piece
def follow(w, z, listed, count, amount):
    """w += amount * z."""
    weights, traces = w.reshape(w.size), z.reshape(z.size)
    for n in range(count[0]):
        weights[listed[n]] += amount * traces[listed[n]]
