"""A window on the game, for those who have a display."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from playfield.envs.base import EnvSpec
from playfield.errors import UsageError


class Window:
    """A pygame window that shows pictures at a steady rate."""

    def __init__(self, title: str, fps: float) -> None:
        import pygame

        if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY") and os.name == "posix":
            import platform

            if platform.system() != "Darwin" and os.environ.get("SDL_VIDEODRIVER") != "dummy":
                raise UsageError("--human needs a display; leave it out to write a film, or use `playfield watch`")
        self._pygame, self._fps = pygame, fps
        pygame.display.init()
        pygame.display.set_caption(title)
        self._clock = pygame.time.Clock()
        self._screen: Any = None

    def __call__(self, picture: np.ndarray) -> None:
        pygame = self._pygame
        size = picture.shape[1], picture.shape[0]
        if self._screen is None or self._screen.get_size() != size:
            self._screen = pygame.display.set_mode(size)
        for event in pygame.event.get():
            if event.type == pygame.QUIT or (event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE):
                raise KeyboardInterrupt
        self._screen.blit(pygame.surfarray.make_surface(picture.swapaxes(0, 1)), (0, 0))
        pygame.display.flip()
        self._clock.tick(self._fps)

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None:
        self._pygame.display.quit()


class NoWindow:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def window(spec: EnvSpec, fps: float) -> Window:
    return Window(f"playfield: {spec.id}", fps)
