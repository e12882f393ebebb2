"""The tables of a comparison as Markdown, CSV and LaTeX: what a paper or a program takes in."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from statistics import median
from typing import Any

from playfield.experiments.aggregate import Estimate
from playfield.experiments.summary import NAMES, Summary
from playfield.experiments.until import HEADS, Until
from playfield.play.statistics import MEAN, named
from playfield.runs.console import format_value

FORMATS = ("md", "csv", "latex")
Rows = Sequence[dict[str, Any]]  # of `compare.rows`
Cells = Sequence[Sequence[str]]
CSV_COLUMNS = (
    "table",
    "environment",
    "algorithm",
    "statistic",
    "versus",
    "value",
    "low",
    "high",
    "seeds",
    "step",
    "note",
)
ESCAPED = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "-": "-{}",  # only before another: -- would be a dash
    **{c: f"\\{c}" for c in "$&#_%"},
}


def text(
    kind: str,
    rows: Rows,
    notes: Sequence[str],
    summary: Summary | None,
    times: Sequence[Until] = (),
    when: str = "",
) -> str:
    """All tables of a comparison in one format, with a line end.

    Args:
        kind: one of `FORMATS`.
        rows: scores by environment and algorithm, of `compare.rows`.
        notes: sentences on them.
        summary: aggregates; None: there are none.
        times: to a score, with the sentence `when` on them.
    """
    if kind == "csv":
        return _csv(rows, notes, summary, times, when)
    heads, cells = _by_environment(rows)
    make = _markdown if kind == "md" else _latex
    parts = [make("Scores by environment", heads, cells, notes, 2)]
    if times:
        parts.append(make("Time to a score", HEADS, [one.cells() for one in times], [when], 2))
    if summary is not None:
        heads, cells = aggregate_cells(summary)
        parts.append(make("Aggregates of normalised scores", heads, cells, summary.notes, 1))
    return "\n\n".join(parts) + "\n"


def _by_environment(rows: Rows) -> tuple[list[str], list[list[str]]]:
    heads = ["environment", "algorithm", "seeds", "step", head_of(rows), "95 % interval"]
    cells = []
    for row in rows:
        interval = "-" if row["low"] is None else f"{format_value(row['low'])} to {format_value(row['high'])}"
        own = [row["env"], row["label"], seeds(row), f"{row['step']:,}", format_value(row["mean"]), interval]
        cells.append(own)
    return heads, cells


def head_of(rows: Rows) -> str:
    """The head of the column of scores, which names the statistic of a training's games that they are."""
    return named(rows[0]["statistic"]).title if rows else MEAN.title


def seeds(row: dict[str, Any]) -> str:
    """The number of seeds of a row of `compare.rows`, with how many are not finished or diverged."""
    open_runs = row["finished"].count(False) - row["diverged"]
    states = [f"{n} {word}" for n, word in ((open_runs, "unfinished"), (row["diverged"], "diverged")) if n]
    return str(len(row["seeds"])) + (f" ({', '.join(states)})" if states else "")


def aggregate_cells(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of the table of aggregates: a row for each algorithm."""
    found = summary.aggregates
    several = len(found.algorithms) > 1
    heads = ["algorithm", "seeds", *NAMES.values(), *([f"P(better than {found.baseline})"] * several)]
    cells = []
    for name in found.algorithms:
        own = [name, str(len(found.scores[name]))]
        own += [_bracketed(found.statistics[name][kind]) for kind in NAMES]
        if several:
            own.append("-" if name == found.baseline else _bracketed(found.improvement[name, found.baseline]))
        cells.append(own)
    return heads, cells


def _bracketed(one: Estimate) -> str:
    if one.low is None or one.high is None:
        return f"{one.value:.2f}"
    return f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"


def _markdown(
    title: str, heads: Sequence[str], cells: Sequence[Sequence[str]], notes: Sequence[str], left: int
) -> str:
    def row(values: Sequence[str]) -> str:
        return "| " + " | ".join(map(markdown_escaped, values)) + " |"

    ruler = "|" + "|".join(["---"] * left + ["---:"] * (len(heads) - left)) + "|"
    body = [row(heads), ruler, *map(row, cells)]
    return "\n".join([f"**{title}**", "", *body, "", " ".join(map(markdown_escaped, notes))])


def markdown_escaped(words: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]<>|#$~])", r"\\\1", _one_line(words))


def _latex(title: str, heads: Sequence[str], cells: Cells, notes: Sequence[str], left: int) -> str:
    def row(values: Sequence[str]) -> str:
        return "    " + " & ".join(map(latex_escaped, values)) + r" \\"

    caption = " ".join(map(latex_escaped, [f"{title}.", *notes]))
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{caption}}}",
            rf"  \begin{{tabular}}{{{'l' * left}{'r' * (len(heads) - left)}}}",
            r"    \hline",
            row(heads),
            r"    \hline",
            *map(row, cells),
            r"    \hline",
            r"  \end{tabular}",
            r"\end{table}",
        ]
    )


def latex_escaped(words: str) -> str:
    """Text that LaTeX prints as it is; a minus sign before a digit is one."""
    plain = re.sub(r"-(?=-)|[\\{}~^<>|\"$&#_%]", lambda m: ESCAPED[m[0]], _one_line(words))
    return re.sub(r"(?<![\w}-])-(?=\d)", r"$-$", plain)


def _one_line(words: str) -> str:
    return " ".join(words.split())


def _csv(rows: Rows, notes: Sequence[str], summary: Summary | None, times: Sequence[Until], when: str) -> str:
    """One table in long form, a number with its interval in each row: all rows have the same columns."""
    file = io.StringIO()
    writer = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    note = _one_line(" ".join(notes))
    for row in rows:
        numbers = {"value": row["mean"], "low": row["low"], "high": row["high"], "seeds": len(row["seeds"])}
        own = {"table": "environment", "environment": row["env"], "algorithm": row["label"], "step": row["step"]}
        writer.writerow({**own, "statistic": head_of(rows), **_plain(numbers), "note": note})
    for time in times:
        own = {"table": "until", "environment": time.env, "algorithm": time.label, "seeds": len(time.seeds)}
        writer.writerow({**own, "statistic": "reached", "value": time.reached, "note": _one_line(when)})
        for statistic, each in (("steps", time.steps), ("seconds", time.seconds)):
            numbers = {"value": median(each), "low": min(each), "high": max(each)}
            finite = {k: v if math.isfinite(v) else None for k, v in numbers.items()}
            writer.writerow({**own, "statistic": f"median {statistic}", **_plain(finite), "note": _one_line(when)})
    if summary is not None:
        found, note = summary.aggregates, _one_line(" ".join(summary.notes))
        for name in found.algorithms:
            own = {"table": "aggregate", "algorithm": name, "seeds": len(found.scores[name]), "note": note}
            for kind, title in NAMES.items():
                one = found.statistics[name][kind]
                writer.writerow({**own, "statistic": title, **_plain(one.as_dict())})
            for other in found.algorithms:
                if other != name:
                    one = found.improvement[name, other]
                    own |= {"statistic": "probability of improvement", "versus": other}
                    writer.writerow({**own, **_plain(one.as_dict())})
    return file.getvalue()


def _plain(numbers: dict[str, Any]) -> dict[str, Any]:
    return {k: "" if v is None else v for k, v in numbers.items()}
