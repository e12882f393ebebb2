"""One line in a notebook's output that is replaced in place: the progress of a training.

IPython is no dependency: it is used where it runs already.
"""

from __future__ import annotations

import html
import importlib
import sys
from typing import Any


def in_notebook() -> bool:
    """Does this code run in a Jupyter kernel, whose front end shows HTML?"""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class Line:
    """A line of text with a bar; the front end shows the newest, wherever the first one was shown."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, text: str, done: float | None) -> None:
        """Show `text`, and above it how much is done, 0 to 1; None: unknown."""
        bar = "" if done is None else f'<progress value="{min(max(done, 0.0), 1.0):.4f}" max="1"></progress> '
        shown = {"text/plain": text, "text/html": f"<div>{bar}{html.escape(text)}</div>"}
        if self._handle is None:
            self._handle = importlib.import_module("IPython.display").display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)
