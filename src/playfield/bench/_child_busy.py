"""A process that keeps one core busy: `python -m playfield.bench._child_busy`. It exits when its parent is gone."""

from __future__ import annotations

import os
import sys

from playfield.bench._child import parser


def main(argv: list[str]) -> None:
    """Compute until killed, or until the parent is gone."""
    parent = parser().parse_args(argv).parent
    while os.getppid() == parent:
        sum(range(1_000_000))


if __name__ == "__main__":
    main(sys.argv[1:])
