"""The option that chooses which statistic of its games is the score of a run."""

from __future__ import annotations

from playfield.cli.parser import Parser
from playfield.play.statistics import CHOICES, Statistic, named


def add_statistic(p: Parser, what: str, default: Statistic | None = None) -> None:
    """Add --statistic to a command; `what` says in its help what it decides."""
    p.add_argument(
        "--statistic",
        metavar="NAME",
        type=lambda name: named(name, "--statistic"),
        default=default,
        help=f"{what} (default mean): {CHOICES}",
    )
