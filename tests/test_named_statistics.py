"""Statistics of game scores by name, against numbers worked by hand and Python's own module; and `playfield eval`."""

from __future__ import annotations

import json
import math
import re
import statistics as reference

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import playfield
from game_replays import CARTPOLE
from playfield.cli import main
from playfield.errors import UsageError
from playfield.play.evaluate import Evaluation, Game, report, table
from playfield.play.policy import RandomPolicy
from playfield.play.statistics import interval, named, several

NAMES = ("mean", "median", "lower-quartile", "mean-1std", "mean-2std", "mean-0.5std")
SCORES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


def expected(name, scores):
    """With another implementation, a list at a time."""
    match name:
        case "mean":
            return reference.fmean(scores)
        case "median":
            return reference.median(scores)
        case "lower-quartile":
            return reference.quantiles(scores, n=4, method="inclusive")[0] if len(scores) > 1 else scores[0]
    less = float(name.removeprefix("mean-").removesuffix("std"))
    return reference.fmean(scores) - less * reference.pstdev(scores)


@pytest.mark.parametrize(
    ("scores", "values"),
    [
        # 0, 2, 4, 10: mean 4; squares of the distances 16 + 4 + 0 + 36 = 56, divided by 4: 14. Quarter: 0.75 of 0..2.
        ([10.0, 0.0, 4.0, 2.0], (4, 3, 1.5, 4 - 14**0.5, 4 - 2 * 14**0.5, 4 - 0.5 * 14**0.5)),
        ([1.0, 5.0], (3, 3, 2, 1, -1, 2)),
        ([7.0], (7, 7, 7, 7, 7, 7)),
    ],
    ids=["four games", "two games", "one game"],
)
def test_by_hand(scores, values):
    for name, value in zip(NAMES, values, strict=True):
        assert named(name).value(scores) == pytest.approx(value), name
        assert named(name).of([scores, scores]) == pytest.approx([value, value]), name


@settings(max_examples=50, deadline=None)
@given(SCORES, st.sampled_from(NAMES), st.integers(1, 12))
def test_they_are_those_of_another_implementation_also_moving(scores, name, window):
    one = named(name)
    near = {"rel": 1e-9, "abs": 1e-6}
    assert one.value(scores) == pytest.approx(expected(name, scores), **near)
    moving = [expected(name, scores[max(0, i + 1 - window) : i + 1]) for i in range(len(scores))]
    assert one.moving(scores, window) == pytest.approx(moving, **near)


@pytest.mark.parametrize("window", [1, 3, 10, 100])
@pytest.mark.parametrize("name", NAMES)
def test_a_window_moves_on(name, window):
    scores = np.random.default_rng(5).normal(10, 30, 40).round(1).tolist() + [7.0] * 12
    moving = [expected(name, scores[max(0, i + 1 - window) : i + 1]) for i in range(len(scores))]
    assert named(name).moving(scores, window) == pytest.approx(moving, rel=1e-9, abs=1e-9)
    assert named(name).moving(np.array(scores), window)[-1] == pytest.approx(named(name).value(scores[-window:]))


def test_a_moving_deviation_loses_nothing_after_large_scores():
    scores = [1e9, -1e9] * 500 + [0.1, 0.3] * 5
    assert named("mean-1std").moving(scores, 10)[-1] == pytest.approx(0.2 - 0.1, abs=1e-15)
    assert named("mean-1std").moving([5e-324] * 3, 2).tolist() == [5e-324] * 3
    assert named("mean-1std").moving([1e300, -1e300], 2)[-1] == pytest.approx(-1e300)
    assert [named(name).moving([], 3).size for name in NAMES] == [0] * len(NAMES)
    for name in NAMES:
        with pytest.raises(UsageError, match="at least 1"):
            named(name).moving([1.0], 0)


def test_the_same_number_of_deviations_has_one_name():
    assert named("mean-1.0std") == named("mean-1std") == named("mean-01std")
    assert named("mean-0.50std").name == "mean-0.5std"
    assert named("mean-1000std").name == "mean-1000std"
    assert (named("mean-1std").words, named("mean-2std").words) == (
        "mean less 1 standard deviation",
        "mean less 2 standard deviations",
    )
    assert [one.name for one in several(["median", "mean-1std", "mean-1.0std"])] == ["median", "mean-1std"]
    assert several("median") == (named("median"),)


@pytest.mark.parametrize(
    "name",
    [
        *("", "Mean", "max", "mean-std", "mean-0std", "mean--1std", "mean-1e1std", "mean-1001std", "mean-1std "),
        *("mean-²std", "mean-nanstd", "mean-1.std", "mean-.5std", "lower_quartile", 3, None, True),
    ],
)
def test_other_names_are_refused_with_the_choices(name):
    with pytest.raises(UsageError) as caught:
        named(name)
    text = str(caught.value)
    assert "\n" not in text
    assert all(word in text for word in ("statistic takes", "median", "lower-quartile", "mean-1std"))


def test_values_from_a_summary():
    row = {"mean": 10, "median": 9.0, "lower_quartile": 4.0, "std": 3.0}
    assert [named(name).told(row) for name in NAMES] == [10, 9, 4, 7, 4, 8.5]
    assert [named(name).told({"mean": 10.0}) for name in NAMES] == [10, None, None, None, None, None]


def test_limits_are_those_of_the_scores_but_for_a_mean_less_deviations():
    assert [named(name).limits(0, 500)[0] for name in NAMES] == [0, 0, 0, -math.inf, -math.inf, -math.inf]
    assert {named(name).limits(0, 500)[1] for name in NAMES} == {500}


def test_intervals():
    scores = np.random.default_rng(1).exponential(20, 40).tolist()
    random = np.random.default_rng(0)  # the seed that `interval` has
    drawn = np.array(scores)[random.integers(40, size=(10_000, 40))]
    for name in NAMES:
        values = [expected(name, row) for row in drawn[:1500].tolist()]
        low, high = interval(scores, statistic=named(name))
        assert low <= named(name).value(scores) <= high
        spread = high - low
        assert np.quantile(values, [0.025, 0.975]) == pytest.approx([low, high], abs=0.15 * spread), name
    means = drawn.mean(axis=1)
    assert interval(scores) == tuple(np.quantile(means, [0.025, 0.975])), "the numbers of the mean are as they were"


def test_an_interval_does_not_depend_on_the_size_of_chunks(monkeypatch):
    scores = [1.0, 5.0, 2.0, 9.0, 4.0, 4.0, 8.0]
    whole = interval(scores, statistic=named("median")), interval(scores)
    monkeypatch.setattr("playfield.play.statistics.CHUNK", 700)
    assert (interval(scores, statistic=named("median")), interval(scores)) == whole


def evaluation(count, *names):
    games = [Game(float(n * n), 10, 5, n, np.zeros(1, np.int64)) for n in range(count)]
    return Evaluation("breakout", "me", {}, games, 0, 1.0, None, statistics=several(names))


def test_the_summary_always_has_median_lower_quartile_and_deviation():
    told = json.loads(json.dumps(evaluation(5).summary()))  # 0, 1, 4, 9, 16
    assert (told["mean"], told["median"], told["lower_quartile"], told["statistics"]) == (6, 4, 1, {})
    assert told["std"] == pytest.approx(reference.pstdev([0, 1, 4, 9, 16]))


@pytest.mark.parametrize(
    ("name", "enough"), [("mean", 5), ("median", 5), ("lower-quartile", 10), ("mean-1std", 20), ("mean-2std", 20)]
)
def test_what_is_asked_for_has_an_interval_where_there_are_enough_games(name, enough):
    few = evaluation(enough - 1, name).summary()["statistics"]
    assert few[name]["ci95"] is None
    found = evaluation(enough, name).summary()
    one = found["statistics"][name]
    assert one["value"] == pytest.approx(expected(name, found["scores"]))
    assert one["ci95"][0] <= one["value"] <= one["ci95"][1]
    assert found["mean"] == reference.fmean(found["scores"]), "the mean stays beside it"


def test_the_text_and_the_table_name_what_was_asked_for():
    text = report(evaluation(8, "mean-2std", "median"))
    assert "median 12.5, lower quartile 3.2" in text
    assert "  statistic mean less 2 standard deviations -" in text
    assert "(too few games for an interval)" in text
    assert "  statistic median 12.5 (95 % interval " in text
    head, *rows = table([evaluation(8, "mean-2std"), evaluation(8, "mean-2std")]).splitlines()
    names = ["mean", "95 % interval", "median", "lower quartile", "mean-2std", "95 % interval", "games", "agent"]
    assert re.split("  +", head) == names
    assert len(rows) == 2
    assert rows[0].endswith("-      8  breakout: me")


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["eval", "CartPole-v1", "--agent", "random", "--games", "30"]
    assert main([*words, "--statistic", "mean-1std", "--statistic", "lower-quartile", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told["statistics"]) == ["mean-1std", "lower-quartile"]
    assert told["statistics"]["mean-1std"]["value"] == pytest.approx(expected("mean-1std", told["scores"]))
    assert told["statistics"]["lower-quartile"]["value"] == told["lower_quartile"]
    assert main([*words, "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    changed = {k for k in plain if plain[k] != told[k]}
    assert changed <= {"statistics", "seconds"}, "the games are the same"
    assert main([*words, "--statistic", "meen"]) == 2
    err = capsys.readouterr().err
    assert "--statistic takes mean, median, lower-quartile or mean-KSTD" in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_from_python():
    found = playfield.evaluate(RandomPolicy(CARTPOLE), 6, statistic="median")
    assert found.summary()["statistics"]["median"]["value"] == reference.median(found.scores.tolist())
    for wrong in ("max", ["median", 3], 3):
        with pytest.raises(UsageError, match="statistic takes"):
            playfield.evaluate("breakout", 2, statistic=wrong)
