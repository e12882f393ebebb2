"""A window that shows the game while it plays, on a machine with a display."""

from __future__ import annotations

import os
import platform

import numpy as np

from playfield.errors import UsageError

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # otherwise the import prints a line
import pygame


class Window:
    """A pygame window that shows frames at a steady rate.

    Calling it with a frame, uint8 [H, W, 3], draws the frame and waits until 1 / `fps` seconds have passed since the
    one before. Closing the window or pressing Esc raises KeyboardInterrupt.

    Args:
        name: of what is shown; part of the title.
        fps: frames per second.

    Raises:
        UsageError: there is no display.
    """

    def __init__(self, name: str, fps: float) -> None:
        if not _has_display():
            raise UsageError("--human needs a display; leave it out to write a film, or use `playfield watch`")
        self._fps = fps
        pygame.display.init()
        pygame.display.set_caption(f"playfield: {name}")
        self._clock = pygame.time.Clock()
        self._screen: pygame.Surface | None = None

    def __call__(self, frame: np.ndarray) -> None:
        size = frame.shape[1], frame.shape[0]
        if self._screen is None or self._screen.get_size() != size:
            self._screen = pygame.display.set_mode(size)
        for event in pygame.event.get():
            if event.type == pygame.QUIT or (event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE):
                raise KeyboardInterrupt
        self._screen.blit(pygame.surfarray.make_surface(frame.swapaxes(0, 1)), (0, 0))
        pygame.display.flip()
        self._clock.tick(self._fps)

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None:
        pygame.display.quit()


def _has_display() -> bool:
    if os.name != "posix" or platform.system() == "Darwin":
        return True
    return bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or os.environ.get("SDL_VIDEODRIVER") == "dummy"
    )
