"""Which score of a run a table shows: of its last training games, of an evaluation, or of its best checkpoint.

The best checkpoint is chosen by its training score, which is the largest of many noisy ones: that score is too high.
So it plays fresh games, and those are what is shown.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playfield.errors import DataError, UsageError
from playfield.experiments.compare import LearningCurve, compared_at, grouped
from playfield.experiments.job import evaluation
from playfield.play.agent import find_agent, load_policy
from playfield.play.evaluate import evaluate_and_save
from playfield.play.statistics import MEAN, Statistic
from playfield.runs.console import Say
from playfield.runs.logger import EVALUATIONS, evaluation_rows
from playfield.runs.storage import read_json

KINDS = ("final", "best", "eval")
GAMES = 30  # of the best checkpoint
FRESH = 1_000_003  # is added to the seed of a training: the seed of the games that judge its best checkpoint


@dataclass(frozen=True)
class Choice:
    """The score of each run that is shown.

    Attributes:
        kind: one of `KINDS`.
        note: what the scores are, as part of a sentence.
        scores: run directory -> mean raw score, or the other statistic of its games.
        statistic: that they are.
    """

    kind: str
    note: str
    scores: dict[Path, float]
    statistic: Statistic = MEAN


def choose(
    curves: Sequence[LearningCurve],
    kind: str,
    window: int,
    *,
    games: int = GAMES,
    trusted: Collection[str] = (),
    say: Say | None = None,
) -> Choice:
    """The scores of runs to show: the statistic of their curves, of other games with another `kind`.

    Args:
        curves: of the runs, all with one statistic.
        kind: `final`: of the last `window` training games at the last step that all runs of the environment
            have reached; `eval`: of the evaluation nearest to that step, which may be that at the end of the run;
            `best`: of fresh games of the best checkpoint.
        window: training games that count.
        games: that a best checkpoint plays.
        trusted: environments whose modules may be imported.
        say: is told of evaluations.

    Raises UsageError where a run has no such score.
    """
    ends = {env: compared_at(group)["step"] for env, group in grouped(curves, lambda c: c.env).items()}
    statistic = curves[0].statistic
    if kind == "final":
        note = f"{statistic.raw} of the last {window} training games at the same step"
        return Choice(kind, note, {c.directory: c.value_at(ends[c.env]) for c in curves}, statistic)
    if kind == "eval":
        return _evaluated(curves, ends)
    if kind != "best":
        raise UsageError(f"a score is one of {', '.join(KINDS)}, not {kind!r}")
    scores: dict[Path, float] = {}
    missing = [c for c in curves if not (c.directory / "checkpoints" / "best").is_dir()]
    if missing:
        raise UsageError(
            f"{_named(missing)} no best checkpoint (one is kept once 20 games have ended): use --score final"
        )
    for i, curve in enumerate(curves):
        number = f"{i + 1} of {len(curves)}"
        scores[curve.directory] = _fresh(curve, games, curve.env in trusted, number, say)
    note = (
        f"{statistic.raw} of {games} fresh games of the best checkpoint, which was chosen by its training score; "
        "the seeds of these games are not those of the training"
    )
    if unfinished := sum(not c.finished for c in curves):
        note += f"; {unfinished} of {len(curves)} runs are not finished, and may have a better one yet"
    return Choice(kind, note, scores, statistic)


def _named(curves: Sequence[LearningCurve]) -> str:
    more = f" and {len(curves) - 1} more have" if len(curves) > 1 else " has"
    return f"{curves[0].directory}{more}"


def _fresh(curve: LearningCurve, games: int, trust: bool, number: str, say: Say | None) -> float:
    """The statistic of fresh games of a run's best checkpoint; they are played once and kept in `eval/`."""
    agent = find_agent(curve.directory, "best")
    policy = load_policy(agent, trust=trust)
    seed = curve.seed + FRESH
    name = f"best-t{policy.temperature:g}-seed{seed}-{games}.json"
    kept = _kept(curve.directory / "eval", name)
    same = kept is not None and f", step {agent.step:,}," in f"{kept['policy']}," and kept["games"] == games
    if kept is not None and same and (value := _value(curve.statistic, kept)) is not None:
        return value
    if say is not None:
        say(f"best checkpoint of {curve.directory} ({number}): {games} fresh games")
    result = evaluate_and_save(curve.directory, "best", games, seed=seed, trust=trust)
    return float(curve.statistic.of(result.scores))


def _kept(folder: Path, name: str) -> dict[str, Any] | None:
    """A stored evaluation; None where there is none that can be used."""
    try:
        found = read_json(folder, name)[1]
    except (DataError, OSError):
        return None
    whole = isinstance(found, dict) and all(
        isinstance(found.get(k), t) for k, t in (("policy", str), ("games", int), ("mean", float))
    )
    return found if whole else None


def _evaluated(curves: Sequence[LearningCurve], ends: dict[str, int]) -> Choice:
    """The evaluation that is nearest to the step at which runs are compared."""
    found = {c.directory: _evaluations(c) for c in curves}
    if missing := [c for c in curves if not found[c.directory]]:
        raise UsageError(
            f"{_named(missing)} no evaluation: train with --eval-every (in a comparison after --) or with games at "
            "the end (in a file: [evaluation] games = 30), or use --score final or best"
        )
    statistic = curves[0].statistic
    nearest = {c.directory: min(found[c.directory], key=lambda e: (abs(e[0] - ends[c.env]), e[0])) for c in curves}
    if missing := [c for c in curves if nearest[c.directory][1] is None]:
        raise UsageError(
            f"{_named(missing)} evaluations that do not tell the {statistic.words} of their games, as those of "
            "earlier versions: use --score final or best"
        )
    counts = sorted({games for _, _, games in nearest.values()})
    told = []
    for env, group in grouped(curves, lambda c: c.env).items():
        steps = sorted({nearest[c.directory][0] for c in group})
        told.append(f"{env}: step {' to '.join(f'{s:,}' for s in dict.fromkeys((steps[0], steps[-1])))}")
    note = (
        f"{statistic.raw} of the {' or '.join(map(str, counts))} evaluation games nearest to the same step, "
        f"by which nothing was chosen ({'; '.join(told)})"
    )
    scores = {directory: row[1] for directory, row in nearest.items() if row[1] is not None}
    return Choice("eval", note, scores, statistic)


def _evaluations(curve: LearningCurve) -> list[tuple[int, float | None, int]]:
    """(step, score, games) of the evaluations during a run, and of the one at its end; see `_value`."""
    games = int(curve.info.get("eval_games", 10))
    rows = evaluation_rows(curve.directory / EVALUATIONS)
    found = {int(row["step"]): (int(row["step"]), _value(curve.statistic, row), games) for row in rows}
    result = curve.info.get("result")
    if curve.finished and result and (last := evaluation(curve.directory, result["steps"])):
        found.setdefault(result["steps"], (result["steps"], _value(curve.statistic, last), last["games"]))
    return list(found.values())


def _value(statistic: Statistic, told: Mapping[str, Any]) -> float | None:
    """The statistic of an evaluation of which this is told; None where that does not say it."""
    scores = told.get("scores")
    whole = isinstance(scores, list) and scores and len(scores) == told.get("games")
    if statistic != MEAN and whole and all(type(s) in (int, float) and math.isfinite(s) for s in scores or ()):
        return float(statistic.of(scores or []))
    try:
        return statistic.told(told)
    except (TypeError, ValueError):
        return None
