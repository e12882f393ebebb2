"""Rows of a lesson's table: the published number, the measured one, and whether they agree."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from playfield.play.statistics import t_interval

FEW = "too few runs"  # a verdict
READING = 0.05  # relative error of published numbers: they were read off figures


@dataclass(frozen=True)
class Row:
    """One row of the table: a published number, ours, and whether they agree.

    Attributes:
        setting, measure: what was run, and what is measured.
        published: the published number; None where there is none.
        ours: the measured number.
        low, high: Student's 95 % interval of our mean, or the range of the runs for the rule `among runs`.
        rule: when the row passes. `within`: ours is within a fraction `tolerance` of the published number;
            `at most`, `at least`: ours is at most or at least that number; `among runs`: the published number, of a
            single run, is within the range of our runs (5 % either way: it was read off a figure); `same`: equal.
        seconds_there, seconds_here: of the published runs, and of ours.
        compared: whether the row is compared at all; False when the budget is not the published one.
        few: too few runs for a verdict.
        claim, holds: a published statement instead of a number, and whether it holds here.
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
    compared: bool = True
    few: bool = False
    claim: str = ""
    holds: bool | None = None

    @property
    def verdict(self) -> str:
        """`pass`, `differs`, `too few runs`; `-` where nothing was published or the budget is another."""
        if not self.compared or (self.holds is None and self.published is None):
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
        """When the row passes, in words."""
        if self.claim:
            return self.claim
        if self.published is None:
            return "-"
        if self.rule == "among runs":
            return f"among runs ±{READING:.0%}"
        return f"within {self.tolerance:.0%}" if self.rule == "within" else self.rule

    def plain(self) -> dict[str, Any]:
        """The row for JSON, NaN as null."""
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
    """A row for the mean over runs of `values` [runs], with its interval. `more`: fields of `Row`."""
    values = np.asarray(values, float)
    low, high = t_interval(values)
    if more.get("rule") == "among runs":
        low, high = values.min(), values.max()
        more["few"] = len(values) < 10  # the range of few runs is too narrow
    return Row(setting, measure, published, float(values.mean()), float(low), float(high), **more)


HEADINGS = (
    *("setting", "measure", "published", "ours", "95 % interval", "pass if", "verdict"),
    *("seconds (course)", "seconds (here)"),
)
TEXTS = ("lesson", "setting", "measure", "pass if", "verdict")


def last(count: int, what: str) -> str:
    """`last 100 episodes`, or `last episode`."""
    return f"last {count} {what}s" if count > 1 else f"last {what}"


def number(value: float | None) -> str:
    """A number for people; `-` for none."""
    if value is None or not math.isfinite(value):
        return "-"
    if abs(value) >= 1e9:
        digits, _, power = f"{value:.3g}".partition("e+")
        return f"{digits}e{int(power)}" if power else digits
    if value == round(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def cells(row: Row) -> tuple[str, ...]:
    """The row as text, one cell per heading in HEADINGS."""
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
    """The rows as a text table; with `terminal`, in colours and as wide as the terminal."""
    text = io.StringIO()
    width = None if terminal else 220
    console = Console(
        file=text,
        highlight=False,
        markup=False,
        width=width,
        force_terminal=terminal,
        force_jupyter=False,  # in Jupyter it would display the table instead of writing it
    )
    lines = Table(box=box.SIMPLE_HEAD if terminal else None, padding=(0, 1))
    for heading in HEADINGS:
        lines.add_column(heading, justify="left" if heading in TEXTS else "right")
    for row in rows:
        style = {"pass": "green", "differs": "red"}.get(row.verdict) if terminal else None
        lines.add_row(*cells(row), style=style)
    console.print(lines)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; `rows` have one cell per heading."""
    lines = ["| " + " | ".join(headings) + " |"]
    lines.append("|" + "|".join("---" if heading in TEXTS else "---:" for heading in headings) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)
