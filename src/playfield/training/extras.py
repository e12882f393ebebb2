"""What a finished training also makes: the film of its best game and the learning curve.

None of it decides the outcome. The training is saved and evaluated by then, so whatever fails here (an environment
that cannot draw itself, a full disk, a broken matplotlib) is one line. That is also why the modules that draw are
imported only here: if they cannot be, there is no picture, but there is a training.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playfield.errors import PlayfieldError
from playfield.play.evaluate import Evaluation, evaluate_and_save
from playfield.runs.console import Say
from playfield.training.directory import next_commands
from playfield.training.request import Request

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def _extra(name: str, missing: list[str]) -> Iterator[None]:
    """Turn an error inside into a warning and a line of `missing`."""
    try:
        yield
    except Exception as error:
        known = isinstance(error, PlayfieldError)
        why = str(error) if known else f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}"
        missing.append(f"no {name}: {why}")
        logger.warning(missing[-1], exc_info=None if known else logger.isEnabledFor(logging.DEBUG))


def film(directory: Path, result: Evaluation, files: dict[str, Path], missing: list[str], say: Say) -> None:
    """Film the best game, as `film_best_game`; adds to `files`, or the reason why not to `missing`."""
    with _extra("film", missing):
        from playfield.show.film import film_best_game

        files |= film_best_game(directory, result, say)


def curve(
    directory: Path,
    info: dict[str, Any],
    evaluation: dict[str, Any] | None,
    files: dict[str, Path],
    missing: list[str],
    say: Say,
) -> None:
    """Draw the learning curve, as `save_curve`; adds to `files`, or the reason why not to `missing`."""
    with _extra("learning curve", missing):
        from playfield.show.plots import save_curve

        path = save_curve(directory, info, evaluation)
        if path is not None:
            files["curve"] = path
            say(f"learning curve: {path}")


def finish(
    directory: Path, info: dict[str, Any], request: Request, say: Say
) -> tuple[dict[str, Any] | None, dict[str, Path], list[str]]:
    """Evaluate and show a trained run: evaluation, film of its best game, learning curve, next commands.

    Returns the evaluation's summary, the files, and a line for each extra that failed.
    """
    files: dict[str, Path] = {}
    missing: list[str] = []
    evaluation = None
    if request.games:
        result = evaluate_and_save(directory, "last", request.games, seed=0, say=say)
        evaluation = result.summary()
        if request.film:
            film(directory, result, files, missing, say)
    curve(directory, info, evaluation, files, missing, say)
    say("\n".join(next_commands(directory, info, film=not any(line.startswith("no film") for line in missing))))
    return evaluation, files, missing
