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
