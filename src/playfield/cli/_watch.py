"""What `playfield watch` runs once its words are known to be right; imported only then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playfield.experiments.live import Reader
from playfield.play.statistics import Statistic
from playfield.show.watch.server import watch


def serve(source: str, folder: bool, statistic: Statistic, **options: Any) -> None:
    """Serve the live page of an agent, or of all runs of a folder."""
    watch(source, look=Reader(Path(source), statistic).look if folder else None, statistic=statistic, **options)
