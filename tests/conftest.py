"""Fixtures that several test files ask for."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from playfield.training import extras

RENDERED = ("test_extras.py", "test_train.py")


@pytest.fixture(autouse=True, scope="session")
def _curves_are_not_rendered():
    """A picture of a learning curve takes longer than most trainings of tests: it is laid out, its file is empty.

    Not so in the files of RENDERED, and in the processes that tests start.
    """
    curve = extras.curve

    def laid_out(*arguments: Any) -> None:
        file = os.environ.get("PYTEST_CURRENT_TEST", "").partition("::")[0].rpartition("/")[2]
        with pytest.MonkeyPatch.context() as patch:
            plots = sys.modules.get("playfield.show.plots")  # not yet in the first training
            if plots is not None and file not in RENDERED:
                patch.setattr(plots, "figure_bytes", lambda figure, kind: b"")
            curve(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extras, "curve", laid_out)
        yield


@pytest.fixture(autouse=True)
def _no_idle_threads():
    """Torch on one thread where it is loaded already: several wait for each other, busily, beside other tests."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() > 1:
        torch.set_num_threads(1)


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
    "test_docs.py",
    "test_presets.py",
    "test_trials.py",
    "test_nodes.py",
    "test_examples.py",
    "test_endgames.py",
    "test_atari.py",
    "test_distributional_runs.py",
    "test_compare.py",
    "test_atari_modes.py",
    "test_docs_site.py",
    "test_worker_processes.py",
    "test_atari_rules.py",
    "test_replay.py",
    "test_lesson_stochasticity.py",
    "test_experiment_file.py",
    "test_dqn_runs.py",
    "test_bench_dqn.py",
    "test_extras.py",
    "test_slurm_again.py",
    "test_train.py",
    "test_foreign_runs.py",
    "test_dqn.py",
    "test_damage.py",
)


def pytest_collection_modifyitems(items):
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONGEST)))
