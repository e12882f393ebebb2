"""Environments that hang, each in its own way, after `AT` steps."""

from __future__ import annotations

import ctypes
import time
from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

AT = 200


class Hanging(gymnasium.Env):
    metadata: ClassVar = {"render_modes": []}
    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Discrete(2)

    def __init__(self, how: str, at: int = AT) -> None:
        self.how, self.left = how, at

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.t += 1
        self.left -= 1
        if self.left == 0:
            print("hangs now", flush=True)
            getattr(self, self.how)()
        return np.zeros(2, np.float32), 0.0, self.t == 5, False, {}

    def sleep(self):
        time.sleep(1000)

    def loop(self):
        while True:
            pass

    def swallow(self):
        while True:
            try:
                time.sleep(0.1)
            except BaseException:  # an environment that lets nothing through
                continue

    def mutex(self):
        """A wait in C that no signal ends."""
        libc, lock = ctypes.CDLL(None), ctypes.create_string_buffer(64)
        libc.pthread_mutex_lock(lock)
        libc.pthread_mutex_lock(lock)


for how in ("sleep", "loop", "swallow", "mutex"):
    gymnasium.register(f"{how.title()}-v0", entry_point=Hanging, kwargs={"how": how})
