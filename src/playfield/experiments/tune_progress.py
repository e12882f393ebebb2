"""How a tuning goes, on standard error: a live table on a terminal, a line per event in a pipe."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from playfield.errors import visible
from playfield.experiments import node_shares
from playfield.experiments.node_shares import Share
from playfield.experiments.study import Study, Trial
from playfield.experiments.terminal import Terminal, columns
from playfield.experiments.tune_results import differing
from playfield.experiments.tuning import Settings
from playfield.runs.console import format_seconds, format_value

HEADERS = ("trial", "state", "differs from the default")
SHOWN = 12  # rows of the live table
STYLES = {"running": "cyan", "pruned": "dim", "failed": "red", "finished": ""}


class Progress(Terminal):
    """Tells of trials as they begin and end; see `experiments.tune.Watcher`."""

    def __init__(self, settings: Settings, study: Study) -> None:
        super().__init__(stays=True)
        self.settings, self.study = settings, study
        self._begun, self._ended = time.monotonic(), 0
        self._where: dict[int, str] = {}
        self._shares: Sequence[Share] = ()

    def __exit__(self, *how: object) -> None:
        self._shares = [share._replace(running=0) for share in self._shares]
        self.draw(lambda: self._now({}), at_once=True)
        super().__exit__(*how)

    def started(self, trial: Trial, resumed: bool) -> None:
        """See `Watcher`."""
        verb = "goes on" if resumed else "begins"
        self.say(f"trial {trial.number} {verb}: {differing(self.settings, trial)}", also_above=False)

    def ended(self, trial: Trial) -> None:
        """See `Watcher`."""
        self._ended += 1
        how = f"{self.settings.unit} {format_value(trial.value)}" if trial.state == "finished" else trial.state
        how += f" ({trial.note})" if trial.note else ""
        best = self.study.best()
        so_far = f"; best so far: {format_value(best.value)}, trial {best.number}" if best else ""
        done = sum(t.state not in ("waiting", "running") for t in self.study.trials())
        self.say(f"trial {trial.number}: {how}{so_far}; {done} of {self.settings.trials} trials", also_above=False)

    def look(self, active: dict[int, float], where: dict[int, str], shares: Sequence[Share]) -> None:
        """See `Watcher`."""
        self._where |= where
        self._shares = shares
        self.draw(lambda: self._now(active))

    def _now(self, active: dict[int, float]) -> Group:
        return Group(self._table(active), *([node_shares.table(self._shares)] if self._shares else []))

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
        nodes = ["node"] if self._where else []
        columns(table, *HEADERS, self.settings.unit, *nodes, right=("trial", self.settings.unit))
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
        cells = [str(t.number), state, differing(self.settings, t) or "the default", value + star]
        cells += [visible(self._where.get(t.number, ""))] if self._where else []
        return [Text(cell, style=style) for cell in cells]
