"""The learning curves of a comparison as a picture, with what they are and their protocols below it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from playfield.envs import protocol_line
from playfield.envs.family import family
from playfield.errors import UsageError
from playfield.experiments.compare import Found, LearningCurve, grouped, limits
from playfield.play.statistics import MEAN
from playfield.runs.logger import WINDOW
from playfield.show.compare_plot import BAND, FEW, Line, Panel, comparison
from playfield.show.plots import on_common_steps


def plot(found: Found, out: Path, window: int = WINDOW) -> None:
    """Write the plot: PNG, SVG or PDF by the ending. A label has the same colour in every panel.

    Raises UsageError where the runs of a label have no step in common, StorageError where the file cannot be written.
    """
    curves = found.curves
    places = label_places(curves)
    panels = []
    for env, in_env in grouped(curves, lambda c: c.env).items():
        lines = []
        for label, group in grouped(in_env, lambda c: c.label).items():
            grid, values = on_common_steps([(c.steps, c.values) for c in group])
            if not grid.size:
                raise UsageError(f"the runs of {label} on {env} have no step in common yet")
            lines.append(Line(label, places[label], grid, values))
        known = {reference_scores(c) for c in in_env}
        low, high = known.pop() if len(known) == 1 else (None, None)  # two games: whose would they be?
        panels.append(Panel(env, lines, human=high, random=low, limits=limits(env, in_env[0])))
    comparison(
        out,
        panels,
        foot=caption(found, window),
        ylabel=f"score, {curves[0].statistic.words} of the last {window} games",
    )


def reference_scores(curve: LearningCurve) -> tuple[float | None, float | None]:
    """The mean scores of random play and of a human under the protocol of a run."""
    return family(curve.info["spec"]["kind"]).reference_scores(curve.env, curve.info["protocol"])


def caption(found: Found, window: int) -> str:
    """What lines and bands are, the number of seeds, the protocol of each environment, and what was left out."""
    curves = found.curves
    counts = sorted({len(g) for g in grouped(curves, lambda c: (c.env, c.label)).values()})
    seeds = " or ".join(str(n) for n in counts) + (" seeds" if counts[-1] > 1 else " seed")
    statistic = curves[0].statistic
    line = f"Line: mean over {seeds} of the {statistic.raw} of the last {window} full training games"
    band = "; band: 95 % interval of that mean over seeds, Student's t" if counts[-1] >= BAND else ""
    thin = "; thin: each seed" if any(1 < n <= FEW for n in counts) else ""
    two = " (no band for two)" if 2 in counts else ""
    sentences = [line + band + thin + two + "."]
    sentences += [statistic.definition] * bool(statistic.definition) + protocols(curves)
    if statistic != MEAN and any(reference_scores(c) != (None, None) for c in curves):
        sentences.append("The scores of human and random play are means.")
    if unfinished := sum(not c.finished and "diverged" not in c.info for c in curves):
        sentences.append(f"{unfinished} of {len(curves)} runs are not finished.")
    sentences += found.notes
    return "\n".join(sentences)


def protocols(curves: Sequence[LearningCurve]) -> list[str]:
    """A sentence on each protocol, with its environments; two protocols of one environment are told apart."""
    found: dict[str, list[str]] = {}
    for env, in_env in grouped(curves, lambda c: c.env).items():
        lines = grouped(in_env, lambda c: protocol_line({k: v for k, v in c.info["protocol"].items() if k != "env"}))
        for line, group in lines.items():
            whose = "" if len(lines) == 1 else f" ({', '.join(dict.fromkeys(c.label for c in group))})"
            found.setdefault(line, []).append(env + whose)
    return [f"{', '.join(envs)}: {line}." for line, envs in found.items()]


def label_places(curves: Sequence[LearningCurve]) -> dict[str, int]:
    """The index of each label, which chooses its colour in every picture."""
    labels = dict.fromkeys(c.label for c in sorted(curves, key=lambda c: (c.place, c.label)))
    return {label: i for i, label in enumerate(labels)}
