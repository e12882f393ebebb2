"""Rows of a lesson's table: what the course published, what was measured, and whether they agree."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from playfield.play.statistics import t_interval

FEW = "too few runs"  # a verdict


READING = 0.05  # published numbers were read off pictures: they may be off by so much


@dataclass(frozen=True)
class Row:
    """One line of the table: a published number, ours, and whether they agree.

    `rule` says when: `within` a share `tolerance` of the published number; `at most` or `at least` that number;
    `among runs`: the published number, of a single run, lies between the lowest and the highest of our runs (5 %
    either way: it was read off a picture); `same`: equal. Where words were published and not a number, `claim` is
    what they say and `holds` whether it is so here. `low` and `high` are Student's 95 % interval of our mean, or the
    range of the runs for `among runs`.
    """

    setting: str
    measure: str
    published: float | None
    ours: float
    low: float = math.nan
    high: float = math.nan
    rule: str = "within"
    tolerance: float = 0.1
    seconds_there: float | None = None
    seconds_here: float | None = None
    judged: bool = True
    few: bool = False
    """It was made of so few runs that nothing can be said of it."""
    claim: str = ""
    holds: bool | None = None

    @property
    def verdict(self) -> str:
        """`pass`, `differs`, `too few runs`, or `-` where nothing was published or the budget was another."""
        if not self.judged or (self.holds is None and self.published is None):
            return "-"
        if self.few:
            return FEW
        if self.holds is not None:
            return "pass" if self.holds else "differs"
        assert self.published is not None
        holds = {
            "within": abs(self.ours - self.published) <= self.tolerance * abs(self.published),
            "at most": self.ours <= self.published,
            "at least": self.ours >= self.published,
            "among runs": self.low * (1 - READING) <= self.published <= self.high * (1 + READING),
            "same": self.ours == self.published,
        }
        return "pass" if holds[self.rule] else "differs"

    def rule_words(self) -> str:
        """When the row passes."""
        if self.claim:
            return self.claim
        if self.published is None:
            return "-"
        if self.rule == "among runs":
            return f"among runs ±{READING:.0%}"
        return f"within {self.tolerance:.0%}" if self.rule == "within" else self.rule

    def plain(self) -> dict[str, Any]:
        """For JSON: NaN as null."""
        numbers = {"ours": self.ours, "low": self.low, "high": self.high}
        return {
            "setting": self.setting,
            "measure": self.measure,
            "published": self.published,
            **{name: value if math.isfinite(value) else None for name, value in numbers.items()},
            "rule": self.rule_words(),
            "verdict": self.verdict,
            "seconds_there": self.seconds_there,
            "seconds_here": self.seconds_here,
        }


def mean_row(setting: str, measure: str, published: float | None, values: np.ndarray, **more: Any) -> Row:
    """A row of the mean over runs, values [runs], with its interval."""
    values = np.asarray(values, float)
    low, high = t_interval(values)
    if more.get("rule") == "among runs":
        low, high = values.min(), values.max()
        more["few"] = len(values) < 10  # a range of few runs says little
    return Row(setting, measure, published, float(values.mean()), float(low), float(high), **more)


HEADINGS = ("setting", "measure", "published", "ours", "95 % interval", "pass if", "verdict", "s there", "s here")


TEXTS = ("lesson", "setting", "measure", "pass if", "verdict")


def number(value: float | None) -> str:
    """A number as people read it; `-` for none."""
    if value is None or not math.isfinite(value):
        return "-"
    if value == round(value) and abs(value) < 1e12:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def cells(row: Row) -> tuple[str, ...]:
    """The row as text, one cell for each of HEADINGS."""
    known = math.isfinite(row.low) and math.isfinite(row.high)
    interval = f"{number(row.low)} to {number(row.high)}" if known else "-"
    if known and row.rule_words().startswith("among runs"):
        interval = f"runs {interval}"
    seconds = (number(row.seconds_there), "-" if row.seconds_here is None else f"{row.seconds_here:.2f}")
    return (
        row.setting,
        row.measure,
        number(row.published),
        number(row.ours),
        interval,
        row.rule_words(),
        row.verdict,
        *seconds,
    )


def table(rows: Sequence[Row], terminal: bool = False) -> str:
    """The rows as a table for people."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    text = io.StringIO()
    width = None if terminal else 200
    console = Console(
        file=text,
        highlight=False,
        markup=False,
        width=width,
        force_terminal=terminal,
        force_jupyter=False,  # there it would show the table instead of writing it
    )
    lines = Table(box=box.SIMPLE_HEAD if terminal else None, padding=(0, 1))
    for heading in HEADINGS:
        lines.add_column(heading, justify="left" if heading in TEXTS else "right")
    for row in rows:
        style = {"pass": "green", "differs": "red"}.get(row.verdict) if terminal else None
        lines.add_row(*cells(row), style=style)
    console.print(lines)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table for a page."""
    return _markdown(HEADINGS, [cells(row) for row in rows])


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(headings) + " |"]
    lines.append("|" + "|".join("---" if heading in TEXTS else "---:" for heading in headings) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)
