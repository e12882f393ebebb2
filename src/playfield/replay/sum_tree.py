"""Proportional sampling in logarithmic time, for prioritised replay (Schaul et al. 2016)."""

from __future__ import annotations

import numpy as np


class SumTree:
    """`size` non-negative numbers; finds where their cumulative sum passes a given amount.

    A complete binary tree in one array: node k has the children 2k and 2k + 1, the leaves are its last half. Parents
    are always recomputed from both children, so rounding errors do not accumulate.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"size must be at least 1, not {size}")
        self.size = size
        self._leaves = 1 << (size - 1).bit_length()
        self._nodes = np.zeros(2 * self._leaves, np.float64)

    @property
    def total(self) -> float:
        """The sum of all numbers."""
        return float(self._nodes[1])

    @property
    def nbytes(self) -> int:
        """Bytes of the tree."""
        return self._nodes.nbytes

    @property
    def values(self) -> np.ndarray:
        """The numbers, [size] float64; a view that must not be written to."""
        return self._nodes[self._leaves : self._leaves + self.size]

    def set(self, index: np.ndarray, values: np.ndarray | float) -> None:
        """Set the numbers at `index` [n] to `values` [n] or one value; of a repeated index the last counts."""
        node = np.asarray(index, np.int64) + self._leaves
        self._nodes[node] = values
        while len(node) and node[0] > 1:
            node = np.unique(node >> 1)
            self._nodes[node] = self._nodes[2 * node] + self._nodes[2 * node + 1]

    def load(self, values: np.ndarray) -> None:
        """Replace all numbers by `values` [size]."""
        self._nodes[self._leaves : self._leaves + self.size] = values
        start = self._leaves
        while start > 1:
            start >>= 1
            nodes = np.arange(start, 2 * start)
            self._nodes[nodes] = self._nodes[2 * nodes] + self._nodes[2 * nodes + 1]

    def find(self, amount: np.ndarray) -> np.ndarray:
        """For each amount in [0, total), [n]: the first index at which the cumulative sum exceeds it.

        An index whose number is 0 is never found while the total is positive, whatever the rounding.
        """
        amount = np.array(amount, np.float64)
        node = np.ones(len(amount), np.int64)
        for _ in range(self._leaves.bit_length() - 1):
            left = self._nodes[2 * node]
            right = (amount >= left) & (self._nodes[2 * node + 1] > 0)
            amount = np.where(right, amount - left, amount)
            node = 2 * node + right
        return node - self._leaves
