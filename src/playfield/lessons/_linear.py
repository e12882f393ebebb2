"""What lessons with linear methods share: settings, their runs, and rows, curves and games made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from playfield.lessons._outcome import Ask, Frames
from playfield.lessons._panels import Curves, Line, Mark
from playfield.lessons._rows import Row, mean_row

LAST = 50  # episodes that a curve's end is the mean of


@dataclass(frozen=True)
class Setting:
    """One line of a lesson: a method with its options on a problem, and what was published for it."""

    label: str
    method: str
    problem: str
    features: str
    options: dict[str, Any] = field(default_factory=dict)
    published: float | None = None
    seconds: float | None = None
    """Seconds that the published runs took there."""
    course: bool = False
    """Start episodes as the course's class does (see `_course`)."""


def run_all(ask: Ask, settings: Sequence[Setting], first_seed: int = 0, limits: Sequence[int] = ()) -> list[Any]:
    """The runs of each setting, seeds from `first_seed` on: one result of `playfield.experiment` each.

    `limits`: steps after which an episode of each setting is truncated (0: never).
    """
    from playfield.linear.many import experiment

    ask.progress.parts(len(settings))
    for method in dict.fromkeys(s.method for s in settings):
        warm(method, settings[0].problem, settings[0].features)
    outs = []
    for s, limit in zip(settings, limits or [0] * len(settings), strict=True):
        seeds, done = range(first_seed, first_seed + ask.runs), ask.progress.part(s.label)
        if s.course:
            from playfield.lessons import _course

            none = range(1)  # compiles
            _course.experiment(s.features, seeds=none, episodes=1, progress=lambda *_: None, **s.options)
            out = _course.experiment(s.features, seeds=seeds, episodes=ask.episodes, progress=done, **s.options)
        else:
            out = experiment(
                s.method,
                s.problem,
                s.features,
                seeds=seeds,
                episodes=ask.episodes,
                max_steps=limit,
                progress=done,
                **s.options,
            )
        outs.append(out)
    return outs


def warm(method: str, problem: str, features: str) -> None:
    """Have a method's loop compiled, or read from the disk: that is no part of a lesson's seconds."""
    from playfield.linear.many import experiment

    experiment(method, problem, features, seeds=[0], episodes=1, max_steps=2)


def last_steps(out: Any, last: int = LAST) -> np.ndarray:
    """Mean steps of the last episodes of each run, [runs]."""
    return out.steps[:, -last:].mean(axis=1)


def last_rows(ask: Ask, settings: Sequence[Setting], outs: Sequence[Any], last: int = LAST, **more: Any) -> list[Row]:
    """A row for each setting: steps of its last episodes beside what was published."""
    return [
        mean_row(
            s.label,
            f"steps, last {min(last, ask.episodes)} episodes",
            s.published,
            last_steps(out, last),
            seconds_there=s.seconds,
            seconds_here=out.seconds,
            judged=ask.as_published,
            **more,
        )
        for s, out in zip(settings, outs, strict=True)
    ]


def steps_curves(
    ask: Ask,
    title: str,
    settings: Sequence[Setting],
    outs: Sequence[Any],
    ylim: tuple[float, float] | None = None,
    first: Sequence[float] = (),
) -> Curves:
    """Steps of each episode, logarithmic; a dash in the margin is the published mean of the last ones.

    `first`: published steps of the first episode of each setting, drawn as dots.
    """
    x = np.arange(1, ask.episodes + 1)
    lines = [Line(s.label, x, out.steps) for s, out in zip(settings, outs, strict=True)]
    marks = [
        Mark(i, 1.005 * ask.episodes, 1.03 * ask.episodes, s.published)
        for i, s in enumerate(settings)
        if s.published is not None and ask.as_published
    ]
    marks += [Mark(i, 1, 1, steps) for i, steps in enumerate(first) if ask.as_published]
    runs = f"mean of {ask.runs} runs" if ask.runs > 1 else "one run"
    return Curves(
        title,
        f"episode ({runs})",
        "steps of an episode",
        lines,
        marks,
        log=True,
        ylim=ylim if ask.as_published else None,
    )


def game(problem: str, out: Any, seed: int = 0, most: int = 500) -> Callable[[], Frames]:
    """The frames of one game played greedily by the first run, uint8 [200, 300, 3]; `most` steps at the most."""

    def frames() -> Frames:
        from playfield.envs import classic_draw
        from playfield.linear import problems
        from playfield.linear.many import values

        draw = {
            problems.CAR: classic_draw.mountain_car,
            problems.CAR_GYM: classic_draw.mountain_car,
            problems.CARTPOLE: classic_draw.cartpole,
            problems.ACROBOT: classic_draw.acrobot,
        }
        known = problems.problem(problem)
        rng = np.random.default_rng(seed)
        state, obs = np.zeros(problems.STATE), np.zeros(len(known.low))
        problems.start(known.code, rng, state)
        over, steps = False, 0
        while True:
            picture = draw[known.code](state)
            yield picture.reshape(200, 2, 300, 2, 3).mean(axis=(1, 3)).astype(np.uint8)
            if over or steps == most:
                break
            problems.observe(known.code, state, obs)
            action = int(np.argmax(values(out.coders[0], out.weights[0], obs[None])[0]))
            _, over = problems.step(known.code, rng, state, action)
            steps += 1
        for _ in range(20):  # the end stays for a moment
            yield picture.reshape(200, 2, 300, 2, 3).mean(axis=(1, 3)).astype(np.uint8)

    return frames
