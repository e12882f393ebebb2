"""Environments that hang, each in its own way, after `AT` steps."""

from __future__ import annotations

import ctypes
import threading
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

released = threading.Event()
"""What hangs in `close` goes on once the test is over."""


class HangingClose(gymnasium.Env):
    """Games of five steps; it can draw itself, but not be closed."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Discrete(2)

    def __init__(self, how: str, render_mode: str | None = None) -> None:
        self.how, self.render_mode = how, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.random(2, np.float32), {}

    def step(self, action):
        self.t += 1
        return self.np_random.random(2, np.float32), float(action), self.t == 5, False, {}

    def render(self):
        return np.full((64, 64, 3), 40 * self.t, np.uint8)

    def close(self):
        if self.how == "sleep":
            released.wait()
        while self.how == "loop" and not released.is_set():
            pass
        while self.how == "swallow" and not released.is_set():
            try:
                released.wait(0.1)
            except BaseException:  # lets nothing through
                continue
        if self.how == "mutex":
            Hanging.mutex(self)


for how in ("sleep", "loop", "swallow", "mutex"):
    gymnasium.register(f"{how.title()}Close-v0", entry_point=HangingClose, kwargs={"how": how})
