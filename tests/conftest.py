"""Fixtures that several test files ask for."""

from __future__ import annotations

import pytest


@pytest.fixture
def one_thread():
    """Torch on one thread, as a run has it; afterwards as before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# The longest files, by seconds. They start first, so that none runs alone at the end while the other cores are idle.
LONGEST = (
    "test_trials.py",
    "test_docs.py",
    "test_nodes.py",
    "test_replay.py",
    "test_lesson_stochasticity.py",
    "test_experiment_file.py",
    "test_bench_dqn.py",
    "test_bench.py",
    "test_store_nodes.py",
    "test_advice.py",
    "test_plugins.py",
    "test_slurm.py",
    "test_cluster.py",
)


def pytest_collection_modifyitems(items):
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONGEST)))
