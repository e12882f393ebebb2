"""An environment that does something bad in one worker, or warns, at its step 40; and one that is slow to make."""

from __future__ import annotations

import ctypes
import os
import time
import warnings
from pathlib import Path
from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces


class Odd(gymnasium.Env):
    metadata: ClassVar = {"render_modes": []}
    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Discrete(2)
    # The first seeds of the last worker's only environment, for seed 1 and three workers, and for two.
    bad = (537266697, 1143452583)

    def __init__(self, how: str) -> None:
        self.how, self.done, self.first = how, 0, None
        if how == "slow":
            time.sleep(5.0)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.first, self.t = seed if self.first is None else self.first, 0
        return self.np_random.random(2, np.float32), {}

    def step(self, action):
        self.t += 1
        self.done += 1
        if self.done == 40 and (self.how == "warns" or self.first in self.bad):
            getattr(self, self.how)()
        return self.np_random.random(2, np.float32), 0.0, self.t == 9, False, {}

    def raises(self):
        raise ValueError("the cart fell off the table")

    def exits(self):
        raise SystemExit(3)

    def hangs(self):
        """A wait in C that no signal ends."""
        print("hangs now", flush=True)
        libc, lock = ctypes.CDLL(None), ctypes.create_string_buffer(64)
        libc.pthread_mutex_lock(lock)
        libc.pthread_mutex_lock(lock)

    def forks(self):
        """Another process, with all that this one has open."""
        folder = Path(os.environ["FORKED"])
        if (pid := os.fork()) == 0:
            time.sleep(15.0)
            (folder / "over").touch()
            os._exit(0)
        (folder / "pid").write_text(str(pid))

    def warns(self):
        warnings.warn("the ice is thin", UserWarning, stacklevel=1)


for how in ("raises", "exits", "hangs", "forks", "warns", "slow"):
    gymnasium.register(f"{how.title()}-v0", entry_point=Odd, kwargs={"how": how})
