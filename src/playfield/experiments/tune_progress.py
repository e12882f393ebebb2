"""How a tuning goes, on standard error: a live table on a terminal, a line per event in a pipe."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from rich.live import Live
from rich.table import Table
from rich.text import Text

from playfield.experiments.study import Study, Trial
from playfield.experiments.tune_results import differing
from playfield.experiments.tuning import Settings
from playfield.runs.console import console, format_seconds, format_value

SHOWN = 12  # rows of the live table
STYLES = {"running": "cyan", "pruned": "dim", "failed": "red", "finished": ""}


class Progress:
    """Tells of trials as they begin and end; see `experiments.tune.Watcher`."""

    def __init__(self, settings: Settings, study: Study) -> None:
        self.settings, self.study = settings, study
        self._console = console(stderr=True)
        in_place = self._console.is_terminal and not self._console.is_dumb_terminal
        self._live = Live(console=self._console, auto_refresh=False) if in_place else None
        self._begun, self._ended, self._shown = time.monotonic(), 0, 0.0

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            with contextlib.suppress(OSError, ValueError):
                self._live.update(self._table({}), refresh=True)
                self._live.stop()

    def started(self, trial: Trial, resumed: bool) -> None:
        """See `Watcher`."""
        verb = "goes on" if resumed else "begins"
        self._print(f"trial {trial.number} {verb}: {differing(self.settings, trial)}")

    def ended(self, trial: Trial) -> None:
        """See `Watcher`."""
        self._ended += 1
        how = f"{self.settings.unit} {format_value(trial.value)}" if trial.state == "finished" else trial.state
        how += f" ({trial.note})" if trial.note else ""
        best = self.study.best()
        so_far = f"; best so far: {format_value(best.value)}, trial {best.number}" if best else ""
        done = sum(t.state not in ("waiting", "running") for t in self.study.trials())
        self._print(f"trial {trial.number}: {how}{so_far}; {done} of {self.settings.trials} trials")

    def look(self, active: dict[int, float]) -> None:
        """See `Watcher`."""
        if self._live and time.monotonic() - self._shown >= 1:
            self._shown = time.monotonic()
            with contextlib.suppress(OSError, ValueError):
                self._live.update(self._table(active), refresh=True)

    def _print(self, line: str) -> None:
        if not self._live:
            with contextlib.suppress(OSError, ValueError):  # nobody can read it: the tuning goes on
                self._console.print(line, soft_wrap=True, markup=False)

    def _table(self, active: dict[int, float]) -> Table:
        trials = self.study.trials()
        best = self.study.best()
        done = sum(t.state not in ("waiting", "running") for t in trials)
        left = self.settings.trials - done
        told = f"{done} of {self.settings.trials} trials"
        if self._ended and left:
            each = (time.monotonic() - self._begun) / self._ended
            told += f", about {format_seconds(each * left)} left"
        table = Table(title=f"{self.settings.algo} on {self.settings.env}: {told}", title_justify="left", box=None)
        for header in ("trial", "state", "differs from the default", self.settings.unit):
            table.add_column(header, justify="right" if header in ("trial", self.settings.unit) else "left")
        rows = [t for t in trials if t.state != "waiting"]
        shown = rows[-SHOWN:]
        if best and best.number not in {t.number for t in shown}:
            shown = [best, *shown]
        for t in shown:
            table.add_row(*self._row(t, active, best))
        return table

    def _row(self, t: Trial, active: dict[int, float], best: Trial | None) -> list[Any]:
        state = f"{active[t.number]:.0%}" if t.number in active else "elsewhere" if t.state == "running" else t.state
        value = "" if t.value is None else format_value(t.value)
        star = " *" if best and t.number == best.number else ""
        style = STYLES.get(t.state, "")
        cells = (str(t.number), state, differing(self.settings, t) or "the default", value + star)
        return [Text(cell, style=style) for cell in cells]
