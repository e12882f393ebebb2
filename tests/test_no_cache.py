"""Caches are optional: of compiled code, of fonts. Nothing fails, and nothing is said on standard error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import playfield

PACKAGE = Path(playfield.__file__).parent
ONE_KERNEL = """
import sys
from playfield.linear.features import table
from playfield.linear.bounds import Bounds
from playfield.linear import jit
import numpy as np
{before}
@jit.jit
def f(x):
    return x + 1
assert f(1) == 2
assert jit.NOTICE.cached is {cached}
import matplotlib.font_manager
import playfield.show.plots
"""


def python(code: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `code` from a file in `folder` with a home that is not there."""
    script = folder / "it.py"
    script.write_text(code)
    clean = {"PATH": os.environ["PATH"], "HOME": "/dev/null/home", "PYTHONPATH": str(PACKAGE.parent), **env}
    return subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env=clean, timeout=120, check=False
    )


NOWHERE = "from numba.core import caching\ncaching.CacheImpl._locator_classes = []\n"
FULL = """
def full(*_):
    raise OSError(28, "No space left on device")
from numba.core import caching
caching.IndexDataCacheFile.save = full
"""


@pytest.mark.parametrize(("before", "cached"), [(NOWHERE, False), (FULL, False), ("", True)])
def test_compiled_code_needs_no_cache(tmp_path, before, cached):
    found = python(ONE_KERNEL.format(before=before, cached=cached), tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert (found.returncode, found.stderr) == (0, "")
