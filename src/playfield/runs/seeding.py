"""Random weights from a seed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Weights made inside come from `seed`; torch's own generator and its threads are left as they were."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the matrix decomposition behind orthogonal weights rounds by the number of threads
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
