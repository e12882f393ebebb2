"""A target score: training stops early when the mean score of the last games reaches it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from playfield.errors import UsageError
from playfield.options import number

GAMES = 100  # in the mean, by default


@dataclass(frozen=True)
class Goal:
    """The mean raw score of the last `games` training games is to reach `score`.

    It is checked after every rollout, so that a run which was killed and resumed stops at the same step.
    """

    score: float
    games: int = GAMES

    def mean(self, scores: Sequence[float]) -> float:
        """Mean of the last `games` of `scores`, NaN while fewer have ended."""
        if len(scores) < self.games:
            return math.nan
        return math.fsum(list(scores)[-self.games :]) / self.games

    def reached(self, scores: Sequence[float]) -> bool:
        return self.mean(scores) >= self.score

    def words(self) -> str:
        return f"a mean of {self.score:g} over the last {self.games} games"


def requested(score: float | None, games: int | None) -> Goal | None:
    """The goal of a new run; None where none was asked for (`score` None or infinite).

    Raises UsageError for what is no score or no number of games, and for `games` without a score.
    """
    return changed(None, score, games)


def changed(old: Goal | None, score: float | None, games: int | None) -> Goal | None:
    """`old` with another score or number of games; an infinite score removes it.

    Raises UsageError as `requested` does.
    """
    if games is not None and (isinstance(games, bool) or games != int(games) or games < 1):
        raise UsageError(f"--target-games must be a whole number of at least 1, not {games}")
    if score is not None and not (isinstance(score, int | float) and score > -math.inf):  # NaN too
        raise UsageError(f"--target-score takes a number, or none, not {score}")
    if score is None and games is None:
        return old
    if score is None and old is not None:
        score = old.score
    if score is None or math.isinf(score):
        if games is not None:
            raise UsageError("--target-games needs --target-score")
        return None
    return Goal(float(score), int(games) if games is not None else old.games if old else GAMES)


def parse_score(text: str) -> float:
    """The value of `--target-score`: a number, or `none`, which is infinity."""
    if text.lower() == "none":
        return math.inf
    try:
        return float(number("--target-score", text, whole=False, low=-1e38))
    except UsageError:
        raise UsageError(f"--target-score takes a number, or none, not {text!r}") from None


def to_info(goal: Goal | None) -> dict[str, Any] | None:
    """What `run.json` holds of a goal."""
    return None if goal is None else {"score": goal.score, "games": goal.games}


def from_info(info: dict[str, Any]) -> Goal | None:
    """The goal that `run.json` holds, if any."""
    stored = info.get("target")
    return None if stored is None else Goal(float(stored["score"]), int(stored["games"]))


def retarget(info: dict[str, Any], goal: Goal | None, at: int) -> str:
    """Make `goal` the one in `info` (of `run.json`) from step `at` on; returns what to say of that, if anything."""
    old = from_info(info)
    if old == goal:
        return ""
    info["target"] = to_info(goal)
    info["extensions"].append({"at": at, "what": "target", "from": to_info(old), "to": to_info(goal)})
    return f"the target is now {goal.words()}" if goal else "the target is removed"


def closing(goal: Goal | None, stop: str, steps: int, total: int, time: str, mean: str) -> str:
    """The line that a training ends with: how far it went, and which stop it was."""
    if goal is None:
        return f"trained {steps:,} steps in {time}; {mean}"
    if stop == "target":
        return f"target reached: {goal.words()}, after {steps:,} of at most {total:,} steps in {time}; {mean}"
    return f"trained all {steps:,} steps in {time} without reaching the target, {goal.words()}; {mean}"
