"""Lessons take the options of their methods, and those that a lesson compares are its own."""

from __future__ import annotations

from collections import defaultdict

import pytest

from playfield import lessons
from playfield.cli import main
from playfield.errors import UsageError
from playfield.lessons import _course
from playfield.linear import many
from playfield.linear.unused import unused
from playfield.runs import algorithm, catalog


def linear() -> list[str]:
    return [
        n for n in lessons.names() if lessons.options(n) and not {"dqn", "ppo"} & {*lessons.load(n).BUDGET.methods}
    ]


@pytest.fixture
def calls(monkeypatch):
    """Options of all experiments of a lesson, which are made very short."""
    found, real, course = [], many.experiment, _course.experiment

    def experiment(method, problem, features, *, seeds, episodes, max_steps=0, progress=None, **options):
        if max_steps != 2:  # else it only compiles
            found.append(options)
        return real(method, problem, features, seeds=seeds, episodes=episodes, max_steps=30, **options)

    def of_course(features, *, seeds, episodes, progress, **options):
        found.append(options)
        return course(features, seeds=seeds, episodes=episodes, progress=progress, **options)

    monkeypatch.setattr(many, "experiment", experiment)
    monkeypatch.setattr(_course, "experiment", of_course)
    return found


def short(name: str, **config) -> None:
    budget = lessons.load(name).BUDGET
    lessons.run(
        name, **({"runs": 1} if budget.runs else {}), **({"episodes": 2} if budget.episodes else {}), **config
    )


@pytest.mark.parametrize("name", linear())
def test_an_option_of_the_method_reaches_every_run_and_is_not_what_is_compared(name, calls):
    short(name)
    values = defaultdict(set)
    for options in calls:
        for key, value in options.items():
            values[key].add(value)
    known = {o.name: o for o in lessons.options(name)}
    assert not [key for key in known if len(values[key]) > 1], "the lesson compares values of this"
    calls.clear()
    short(name, gamma=0.75)
    assert calls
    assert {options["gamma"] for options in calls} == {0.75}


def test_many_lessons_have_options():
    assert len(linear()) >= 17
    assert "lr" in {o.name for o in lessons.options("dqn")}
    assert lessons.options("preprocessing") == []


def test_numbers_of_other_options_are_not_compared(calls):
    outcome = lessons.run("mountain-car-sarsa", runs=10, episodes=2, gamma=0.75)
    assert not any(row.compared for row in outcome.rows)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("figure-10-3 --alpha 0.1", "has no option --alpha"),
        ("mountain-car-sarsa --gamma 2", "--gamma must be between 0 and 1"),
        ("mountain-car-sarsa --gama 0.9", "did you mean --gamma"),
        ("preprocessing --gamma 0.9", "has no option --gamma"),
        ("dqn --lr x", "--lr takes a number"),
        ("figure-10-3 --correction 0.2", "has no option --correction"),
        ("mountain-car-sarsa --anneal true", "has no option --anneal"),
        ("random-walk-td --policy breakout", "has no option --policy"),
    ],
)
def test_mistakes(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["lesson", *words.split()]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_help_of_a_lesson_lists_its_options(capsys):
    with pytest.raises(SystemExit):
        main(["lesson", "cartpole-actor-critic", "--help"])
    out = capsys.readouterr().out
    assert "--alpha-actor" in out
    assert "--taken-only" not in out


def test_in_python_too():
    with pytest.raises(UsageError, match="no option of lesson figure-10-3 called 'alpha'"):
        lessons.run("figure-10-3", alpha=0.1)
    with pytest.raises(UsageError, match="--gamma must be between"):
        lessons.run("figure-10-3", gamma=2.0)


def value_of(option) -> object:
    """Another value than the default, which a method takes."""
    if isinstance(option.default, bool):
        return not option.default
    return {"initial": 0.5, "policy": "breakout", "trace": "accumulating", "n_step": 2, "num_envs": 2}.get(
        option.name, 7 if option.name == "rollout_steps" else 0.25
    )


@pytest.mark.parametrize("method", sorted(many.METHODS))
def test_an_option_changes_an_experiment_or_is_refused(method):
    """With the same seed: episodes on MountainCar, for TD(lambda) on the walk, whose values are told."""
    walk = method == "td_lambda"
    problem, features = ("random-walk", "onehot") if walk else ("mountain-car", "tilings")

    def weights(**config) -> bytes:
        base = {"gamma": 0.9} if "epsilon" in unused(method) else {"epsilon": 0.1}
        found = many.experiment(method, problem, features, seeds=[3], episodes=4, max_steps=400, **{**base, **config})
        return found.weights.tobytes() + (b"" if found.critic is None else found.critic.tobytes())

    plain = weights()
    for option in catalog.options(method):
        if option.name == "features":
            continue
        if option.name in unused(method):
            with pytest.raises(UsageError, match=f"{option.flag} changes nothing here"):
                weights(**{option.name: value_of(option)})
        else:
            assert weights(**{option.name: value_of(option)}) != plain, option.name
    for size, correction in algorithm.load(method).Config.step_sizes.items():
        said = getattr(algorithm.load(method).Config(), correction)  # what it is anyway
        assert weights(**{size: 0.1, correction: said}) == weights(**{size: 0.1})
        with pytest.raises(
            UsageError, match=f"--{correction.replace('_', '-')} changes nothing here: --{size}".replace("_", "-")
        ):
            weights(**{size: 0.1, correction: 0.2})
