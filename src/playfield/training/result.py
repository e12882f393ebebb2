"""What a training returns."""

from __future__ import annotations

import base64
import html
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playfield.runs.console import format_scores, format_seconds


@dataclass(frozen=True)
class Result:
    """Outcome of a finished training. A notebook shows its learning curve and a small table.

    Attributes:
        directory: the run directory.
        steps: total steps done, summed over the environments.
        seconds: training time over all sessions of the run.
        score: mean raw score of the last 100 training games; NaN if none ended.
        hash: SHA-256 over weights, optimizer, random numbers, environments and scores; equal for equal runs.
        evaluation: `Evaluation.summary()` of the games at the end; None without games.
        files: paths by what they show, such as `curve` or the films.
        stop: why training ended: `steps`, or `target` if the target score was reached.
        warnings: what was wrong with the run that was resumed: damaged checkpoints, a `run.json` changed by hand;
            and which extras there are not, and why: film, learning curve.
    """

    directory: Path
    steps: int
    seconds: float
    score: float
    hash: str
    evaluation: dict[str, Any] | None
    files: dict[str, Path]
    stop: str
    warnings: tuple[str, ...] = ()

    def __fspath__(self) -> str:
        """The run directory: what takes the path of a run takes its result."""
        return str(self.directory)

    def __str__(self) -> str:
        rows = self._rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)

    def _rows(self) -> list[tuple[str, str]]:
        """The main facts as (name, text)."""
        rows = []
        if self.evaluation is not None:
            interval, count = self.evaluation.get("ci95"), self.evaluation.get("games")
            mean, *ends = format_scores(self.evaluation["mean"], *(interval or ()))
            between = f" (95 % interval {ends[0]} to {ends[1]})" if interval else " (too few games for an interval)"
            over = f" over {count} full games" if isinstance(count, int) else ""
            rows.append(("score", f"{mean}{between}{over}"))
        trained = "no game has ended" if math.isnan(self.score) else format_scores(self.score)[0]
        rows.append(("training score", trained))
        rows.append(("steps", f"{self.steps:,}" + (f" (stopped: {self.stop})" if self.stop != "steps" else "")))
        rows.append(("time", format_seconds(self.seconds)))
        rows.append(("directory", str(self.directory)))
        return rows + [("warning", text) for text in self.warnings]

    def _repr_png_(self) -> bytes | None:
        """The learning curve; None where its file is missing."""
        try:
            return self.files["curve"].read_bytes()
        except (KeyError, OSError):
            return None

    def _repr_html_(self) -> str:
        cells = "".join(f"<tr><th>{name}</th><td>{html.escape(text)}</td></tr>" for name, text in self._rows())
        curve = self._repr_png_()
        data = "" if curve is None else base64.b64encode(curve).decode()
        picture = f'<img src="data:image/png;base64,{data}" style="max-width: 800px; width: 100%">' if data else ""
        return f"<div><table>{cells}</table>{picture}</div>"
