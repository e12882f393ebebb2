"""What lessons with linear methods share: settings, their runs, and rows, curves and films of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from playfield.envs import classic_draw
from playfield.lessons import _course, _rows
from playfield.lessons._outcome import Frames
from playfield.lessons._panels import Curves, Line, Mark
from playfield.lessons._request import Request
from playfield.lessons._rows import Row, mean_row
from playfield.linear import many, problems

LAST = 50  # episodes in the mean of the last ones
TILINGS = "tilings:tilings=8,tiles=8"  # the features of most lessons on MountainCar
_DRAW = {
    problems.CAR: classic_draw.mountain_car,
    problems.CAR_GYM: classic_draw.mountain_car,
    problems.CARTPOLE: classic_draw.cartpole,
    problems.ACROBOT: classic_draw.acrobot,
}


@dataclass(frozen=True)
class Setting:
    """One curve of a lesson: a method with options on a problem, and what was published for it.

    Attributes:
        label: of the curve and its row.
        method, problem, features, options: see `playfield.experiment`.
        published: the published number.
        seconds: of the published runs.
        course: start episodes as the course's code does (see `_course`).
    """

    label: str
    method: str
    problem: str
    features: str
    options: dict[str, Any] = field(default_factory=dict)
    published: float | None = None
    seconds: float | None = None
    course: bool = False


def greedy(alpha: float, **more: Any) -> dict[str, Any]:
    """Options of a greedy, undiscounted method with step size `alpha`."""
    return {"alpha": alpha, "epsilon": 0.0, "gamma": 1.0, **more}


def run_all(
    request: Request, settings: Sequence[Setting], first_seed: int = 0, limits: Sequence[int] = ()
) -> list[Any]:
    """Run each setting; returns one result of `playfield.experiment` per setting.

    Args:
        first_seed: seed of the first run; the others have the following ones.
        limits: for each setting, steps after which an episode is truncated (0: never).
    """
    request.progress.parts(len(settings))
    settings = [replace(s, options={**s.options, **request.options}) for s in settings]
    for method in dict.fromkeys(s.method for s in settings):
        warm(method, settings[0].problem, settings[0].features)
    outs = []
    for s, limit in zip(settings, limits or [0] * len(settings), strict=True):
        seeds, done = range(first_seed, first_seed + request.runs), request.progress.part(s.label)
        if s.course:
            warm_up = range(1)  # compiles
            _course.experiment(s.features, seeds=warm_up, episodes=1, progress=lambda *_: None, **s.options)
            out = _course.experiment(s.features, seeds=seeds, episodes=request.episodes, progress=done, **s.options)
        else:
            out = many.experiment(
                s.method,
                s.problem,
                s.features,
                seeds=seeds,
                episodes=request.episodes,
                max_steps=limit,
                progress=done,
                **s.options,
            )
        outs.append(out)
    return outs


def warm(method: str, problem: str, features: str) -> None:
    """Compile a method's loop, or load it from disk: this time is not part of a lesson's seconds."""
    many.experiment(method, problem, features, seeds=[0], episodes=1, max_steps=2)


def last_steps(out: Any, last: int = LAST) -> np.ndarray:
    """Mean steps per episode over the last episodes of each run, [runs]."""
    means: np.ndarray = out.steps[:, -last:].mean(axis=1)
    return means


def last_rows(
    request: Request, settings: Sequence[Setting], outs: Sequence[Any], last: int = LAST, **more: Any
) -> list[Row]:
    """A row per setting: mean steps of its last episodes beside the published number. `more`: fields of `Row`."""
    return [
        mean_row(
            s.label,
            f"steps, {_rows.last(min(last, request.episodes), 'episode')}",
            s.published,
            last_steps(out, last),
            seconds_there=s.seconds,
            seconds_here=out.seconds,
            compared=request.as_published,
            **more,
        )
        for s, out in zip(settings, outs, strict=True)
    ]


def steps_curves(
    request: Request,
    title: str,
    settings: Sequence[Setting],
    outs: Sequence[Any],
    ylim: tuple[float, float] | None = None,
    first: Sequence[float] = (),
) -> Curves:
    """Steps of each episode, logarithmic; a mark in the margin is the published mean of the last ones.

    `first`: published steps of the first episode of each setting, plotted as dots.
    """
    x = np.arange(1, request.episodes + 1)
    lines = [Line(s.label, x, out.steps) for s, out in zip(settings, outs, strict=True)]
    marks = [
        Mark(i, 1.005 * request.episodes, 1.03 * request.episodes, s.published)
        for i, s in enumerate(settings)
        if s.published is not None and request.as_published
    ]
    marks += [Mark(i, 1, 1, steps) for i, steps in enumerate(first) if request.as_published]
    return Curves(
        title,
        f"episode ({request.runs_text()})",
        "steps of an episode",
        lines,
        marks,
        log=True,
        ylim=ylim if request.as_published else None,
    )


def game(problem: str, out: Any, seed: int = 0, most: int = 500) -> Callable[[], Frames]:
    """Makes the frames of one episode played greedily by the first run, uint8 [200, 300, 3]; at most `most` steps."""

    def frames() -> Frames:
        known = problems.problem(problem)
        rng = np.random.default_rng(seed)
        state, obs = np.zeros(problems.STATE), np.zeros(len(known.low))
        problems.start(known.code, rng, state)
        over, steps = False, 0
        while True:
            picture = _DRAW[known.code](state)
            yield picture.reshape(200, 2, 300, 2, 3).mean(axis=(1, 3)).astype(np.uint8)
            if over or steps == most:
                break
            problems.observe(known.code, state, obs)
            action = int(np.argmax(many.values(out.coders[0], out.weights[0], obs[None])[0]))
            _, over = problems.step(known.code, rng, state, action)
            steps += 1
        for _ in range(20):  # the last frame stays for a moment
            yield picture.reshape(200, 2, 300, 2, 3).mean(axis=(1, 3)).astype(np.uint8)

    return frames
