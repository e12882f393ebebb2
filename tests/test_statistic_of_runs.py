"""Another statistic than the mean of the games of a training: in comparisons, in experiment files and in tunings."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics as reference
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import playfield
from compare_runs import runs, write_run
from playfield.cli import main
from playfield.errors import DataError, UsageError
from playfield.experiments import chosen, compare, drawn, file, tune, tune_results, tuning
from playfield.play.statistics import named
from playfield.runs.logger import MetricsCsv, evaluation_rows
from test_tune import DEFAULT, go, settings
from tune_place import C, Instant, score


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(tune, "POLL", 0.001)
    monkeypatch.setattr(tune, "LOOK_ELSEWHERE", 0.01)


SCORES = [3.0, 40.0, 10.0, 7.0, 30.0]
"""Of five games, and what statistics of the last four (7, 10, 30, 40) are, worked by hand."""
LAST_FOUR = {
    "mean": 21.75,
    "median": 20.0,
    "lower-quartile": 9.25,  # 7 + 0.75 * 3
    "mean-1std": 21.75 - math.sqrt((14.75**2 + 11.75**2 + 8.25**2 + 18.25**2) / 4),
}


def two_runs(root: Path) -> Path:
    for seed in (1, 2):
        games = [(10 * (i + 1), s * seed) for i, s in enumerate(SCORES)]
        write_run(root / C / "dqn" / str(seed), C, "dqn", seed, games, 100)
    return root


def told(root, capsys, *words):
    assert main(["compare", "--dir", str(root), "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", LAST_FOUR)
def test_the_score_of_a_training_is_that_statistic_of_its_window(name, tmp_path, capsys):
    two_runs(tmp_path)
    found = told(tmp_path, capsys, "--statistic", name, "--window", "4")
    (row,) = found["rows"]
    assert row["scores"] == pytest.approx([LAST_FOUR[name], 2 * LAST_FOUR[name]])
    assert row["mean"] == pytest.approx(1.5 * LAST_FOUR[name]), "over the seeds"
    assert (row["statistic"], found["score"]["statistic"]) == (name, name)
    assert found["score"]["note"].startswith(f"{named(name).raw} of the last 4 training games")


def test_every_table_and_the_picture_name_it(tmp_path, capsys):
    two_runs(tmp_path)
    words = ["compare", "--dir", str(tmp_path), "--window", "4", "--statistic", "mean-2std"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "mean-2std score" in text
    assert "Mean less 2 standard deviations of the raw scores of the last 4 training games" in text
    assert "mean over 2 seeds. The standard deviation is that of the games themselves (divided by n)." in text
    assert main([*words, "--table", "md"]) == 0
    assert "| mean-2std score |" in capsys.readouterr().out
    assert main([*words, "--table", "csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["statistic"] == "mean-2std score"
    foot = drawn.caption(compare.read(tmp_path, 4, named("mean-2std")), 4)
    assert "of the mean less 2 standard deviations of the raw scores of the last 4 full training games" in foot
    assert "divided by n" in foot
    plain = drawn.caption(compare.read(tmp_path, 4), 4)
    assert plain.startswith("Line: mean over 2 seeds of the mean raw score of the last 4 full training games")
    assert "divided" not in plain


def test_the_axis_of_the_picture_and_reference_scores_say_what_they_are(tmp_path, monkeypatch):
    runs(tmp_path, {"dqn": {"breakout": [30.0, 20.0]}})
    seen = []
    monkeypatch.setattr(drawn, "comparison", lambda out, panels, **more: seen.append(more))
    drawn.plot(compare.read(tmp_path, 4, named("median")), tmp_path / "a.png", 4)
    drawn.plot(compare.read(tmp_path, 4), tmp_path / "a.png", 4)
    assert [more["ylabel"] for more in seen] == [
        "score, median of the last 4 games",
        "score, mean of the last 4 games",
    ]
    means = "The scores of human and random play are means."
    assert [means in more["foot"] for more in seen] == [True, False]


def test_an_interval_may_leave_the_possible_scores_only_where_the_statistic_can(tmp_path, capsys):
    for seed, low in ((1, 0.0), (2, 90.0)):
        write_run(tmp_path / C / "dqn" / str(seed), C, "dqn", seed, [(10, low), (20, 100.0)], 100)
    (row,) = told(tmp_path, capsys, "--statistic", "lower-quartile")["rows"]
    assert row["low"] == 0
    found = told(tmp_path, capsys, "--statistic", "mean-2std", "--aggregate")
    assert found["rows"][0]["scores"] == pytest.approx([-50, 85])
    assert found["rows"][0]["low"] < 0
    assert found["aggregates"]["scores"]["dqn"] == [[pytest.approx(-0.1)], [pytest.approx(0.17)]]
    assert any("mean less 2 standard deviations" in note for note in found["aggregates"]["notes"])


def test_aggregates_from_python(tmp_path, capsys):
    two_runs(tmp_path)
    found = playfield.aggregate(tmp_path, window=4, statistic="median")
    assert found.scores["dqn"].ravel() == pytest.approx([20 / 500, 40 / 500])
    with pytest.raises(UsageError, match="statistic takes"):
        playfield.aggregate(tmp_path, statistic="max")
    with pytest.raises(UsageError, match="statistic is for the games of runs"):
        playfield.aggregate({"a": [[0.1], [0.2]]}, statistic="median")


def test_of_evaluations_during_a_training(tmp_path, capsys):
    two_runs(tmp_path)
    for seed in (1, 2):
        folder = tmp_path / C / "dqn" / str(seed) / "eval"
        folder.mkdir()
        head = "step,mean,median,lower_quartile,std,min,max,games"
        (folder / "evaluations.csv").write_text(f"{head}\n50,9,9,9,9,9,9,5\n100,{10 * seed},8,6,2,0,20,5\n")
    values = {"mean": [10, 20], "median": [8, 8], "lower-quartile": [6, 6], "mean-2std": [6, 16]}
    for name, scores in values.items():
        found = told(tmp_path, capsys, "--score", "eval", "--statistic", name)
        assert found["rows"][0]["scores"] == scores, name
        assert found["score"]["note"].startswith(f"{named(name).raw} of the 10 evaluation games")
    old = "step,mean,median,min,max,games\n100,10,8,0,20,5\n"
    (tmp_path / C / "dqn" / "2" / "eval" / "evaluations.csv").write_text(old)
    assert told(tmp_path, capsys, "--score", "eval", "--statistic", "median")["rows"][0]["scores"] == [8, 8]
    assert main(["compare", "--dir", str(tmp_path), "--score", "eval", "--statistic", "mean-1std"]) == 2
    err = capsys.readouterr().err
    assert f"{tmp_path / C / 'dqn' / '2'} has evaluations that do not tell the mean less 1 standard deviation" in err
    assert err.count("\n") == 1


def test_a_table_that_an_earlier_version_began_goes_on_with_what_it_lacks(tmp_path):
    path = tmp_path / "evaluations.csv"
    path.write_text("step,mean,median,min,max,games\n50,9,8,1,20,5\n")
    table = MetricsCsv(path)
    table.log(
        100, {"mean": 10.0, "median": 8.0, "lower_quartile": 6.0, "std": 2.0, "min": 0.0, "max": 20.0, "games": 5}
    )
    table.close()
    first, second = evaluation_rows(path)
    assert [named(name).told(first) for name in ("mean", "median", "lower-quartile", "mean-1std")] == [
        9,
        8,
        None,
        None,
    ]
    assert [named(name).told(second) for name in ("mean", "median", "lower-quartile", "mean-1std")] == [10, 8, 6, 8]


def kept(run, name, scores, more=()):
    (run / "eval").mkdir(exist_ok=True)
    values = {"mean": reference.fmean(scores), "games": len(scores), "policy": "dqn, step 100", "ci95": None}
    (run / "eval" / name).write_text(json.dumps({**values, "scores": scores, **dict(more)}))


def test_of_the_evaluation_at_the_end(tmp_path, capsys):
    two_runs(tmp_path)
    for seed in (1, 2):
        kept(tmp_path / C / "dqn" / str(seed), "last-t1-seed0-5.json", [s * seed for s in SCORES])
    found = told(tmp_path, capsys, "--score", "eval", "--statistic", "lower-quartile")
    assert found["rows"][0]["scores"] == [7, 14], "3, 7, 10, 30, 40"
    kept(tmp_path / C / "dqn" / "2", "last-t1-seed0-5.json", SCORES, {"scores": [1.0, "x"]})
    assert main(["compare", "--dir", str(tmp_path), "--score", "eval", "--statistic", "lower-quartile"]) == 2
    assert "do not tell the lower quartile" in capsys.readouterr().err


def test_of_fresh_games_of_the_best_checkpoint_also_of_games_that_are_kept(tmp_path, capsys, monkeypatch):
    two_runs(tmp_path)
    monkeypatch.setattr(chosen, "find_agent", lambda *_: SimpleNamespace(step=100))
    monkeypatch.setattr(chosen, "load_policy", lambda *_, **__: SimpleNamespace(temperature=1.0))
    played = []

    def play(directory, *_, **__):
        played.append(directory)
        return SimpleNamespace(scores=np.array(SCORES))

    monkeypatch.setattr(chosen, "evaluate_and_save", play)
    for seed in (1, 2):
        run = tmp_path / C / "dqn" / str(seed)
        (run / "checkpoints" / "best").mkdir(parents=True)
        kept(run, f"best-t1-seed{seed + chosen.FRESH}-5.json", [s * seed for s in SCORES])
    words = ["--score", "best", "--games", "5", "--statistic"]
    assert told(tmp_path, capsys, *words, "median")["rows"][0]["scores"] == [10, 20]
    assert told(tmp_path, capsys, *words, "mean")["rows"][0]["scores"] == [18, 36]
    assert played == []
    kept(run, f"best-t1-seed{2 + chosen.FRESH}-5.json", SCORES, {"scores": None})
    found = told(tmp_path, capsys, *words, "median")
    assert found["rows"][0]["scores"] == [10, 10]
    assert played == [run], "where its scores are not kept, it plays again"
    assert found["score"]["note"].startswith("median of the raw scores of 5 fresh games of the best checkpoint")


EXPERIMENT = 'envs = ["CartPole-v1"]\nsteps = 100\nalgorithms = ["dqn"]\n'


def test_a_file_may_choose_it_and_the_command_overrules(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("e.toml").write_text(f'statistic = "lower-quartile"\n{EXPERIMENT}')
    assert file.read(Path("e.toml")).statistic == named("lower-quartile")
    Path("plain.toml").write_text(EXPERIMENT)
    assert file.read(Path("plain.toml")).statistic == named("mean")
    resolved = file.resolved(tmp_path, {}, None, named("mean-0.5std"))
    assert 'statistic = "mean-0.5std"' in resolved
    assert "statistic" not in file.resolved(tmp_path, {}, None)
    asked = []
    monkeypatch.setattr("playfield.cli.compare._run", lambda a, *_: asked.append(a.statistic.name) or 0)
    assert main(["compare", "e.toml"]) == main(["compare", "e.toml", "--statistic", "median"]) == 0
    assert main(["compare", "plain.toml"]) == 0
    assert asked == ["lower-quartile", "median", "mean"]


@pytest.mark.parametrize("value", ['"max"', "3", "[]"])
def test_a_wrong_one_in_a_file_is_told_with_its_line(value, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("e.toml").write_text(f"{EXPERIMENT}statistic = {value}\n")
    assert main(["compare", "e.toml"]) == 2
    err = capsys.readouterr().err
    assert "e.toml, line 4: statistic takes mean, median" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [["compare"], ["tune", C, "--steps", "1k"]], ids=lambda words: words[0])
def test_a_wrong_one_in_a_command_is_told_at_once(words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--statistic", "mean-0std"]) == 2
    err = capsys.readouterr().err
    assert "--statistic takes mean, median, lower-quartile or mean-KSTD" in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# Tunings ---------------------------------------------------------------------------------------------------------

LAST_TEN = [n / 90 for n in range(81, 91)]
"""What the last ten games of `Instant` score, as parts of the score at the end."""


@pytest.mark.parametrize("name", ["mean", "median", "lower-quartile", "mean-1.5std"])
def test_a_tuning_optimises_it_and_prunes_by_it(name, tmp_path):
    chose = settings(statistic=name, prune=True)
    study, _ = go(tmp_path, chose)
    trials = study.trials()
    jobs = [chose.jobs(t.number, t.params, study.folder(t.number))[0] for t in trials]
    value, early = named(name).value(LAST_TEN), named(name).value([n / 90 for n in range(1, 11)])
    finished = [(t, job) for t, job in zip(trials, jobs, strict=True) if t.state == "finished"]
    assert len(finished) >= 3
    for t, job in finished:
        assert t.value == pytest.approx(value * score(job))
    for t, job in zip(trials, jobs, strict=True):
        assert t.reported[1] == pytest.approx(early * score(job))
    again = tuning.load(tmp_path)
    assert again.statistic == name
    assert ("statistic" in json.loads((tmp_path / "tune.json").read_text())) == (name != "mean")
    assert named(name).words in again.objective()
    assert named(name).words in (tmp_path / "best.toml").read_text()
    assert again.unit == ("score" if name == "mean" else f"{name} score")


def test_a_tuning_of_an_earlier_version_is_one_of_means_and_none_joins_another(tmp_path):
    tuning.save(tmp_path, settings())
    before = (tmp_path / "tune.json").read_text()
    assert "statistic" not in json.loads(before), "as earlier versions wrote it, and can read it"
    assert tuning.load(tmp_path) == settings(statistic="mean")
    with pytest.raises(UsageError, match=r'other settings \(statistic is "mean", not "median"\): use those'):
        tuning.save(tmp_path, settings(statistic="median"))
    assert (tmp_path / "tune.json").read_text() == before
    tuning.save(tmp_path / "median", settings(statistic="median"))
    with pytest.raises(UsageError, match='statistic is "median", not "mean"'):
        tuning.save(tmp_path / "median", settings())


@pytest.mark.parametrize("change", [{"statistic": "max"}, {"statistic": 3}, {"statistic": "mean-1.0std"}], ids=str)
def test_a_damaged_one_is_refused(change, tmp_path):
    tuning.save(tmp_path, settings())
    path = tmp_path / "tune.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=r"tune\.json"):
        tuning.load(tmp_path)


def test_the_time_to_a_score_is_that_to_a_mean(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["tune", C, "--algo", "ppo", "--steps", "1k", "--until", "100"]
    assert main([*words, "--statistic", "median"]) == 2
    err = capsys.readouterr().err
    assert "--statistic median is for the score at the end: --until waits for a mean" in err
    assert list(tmp_path.iterdir()) == []
    tuning.save(tmp_path / "t", settings(until=100.0, statistic="mean"))
    stored = json.loads((tmp_path / "t" / "tune.json").read_text())
    (tmp_path / "t" / "tune.json").write_text(json.dumps({**stored, "statistic": "median"}))
    with pytest.raises(DataError):
        tuning.load(tmp_path / "t")


def test_nothing_is_asked_of_a_tuning_that_is_only_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tuning.save(tmp_path / "t", settings())
    for words in (["--statistic", "median"], ["--window", "5"], ["--over", "median"], ["--seed", "3"]):
        assert main(["tune", "--dir", "t", *words]) == 2
        assert f"{words[0]} is for tuning: name the environment, too" in capsys.readouterr().err


OBJECTIVES = {
    "mean": ({}, "mean score"),
    "median": ({"statistic": "median"}, "median score"),
    "lower quartile": ({"statistic": "lower-quartile"}, "lower-quartile score"),
    "mean less deviations": ({"statistic": "mean-1std"}, "mean-1std score"),
    "steps": ({"until": 300.0}, "steps to the target"),
    "seconds": ({"until": 300.0, "steps": None, "minutes": 1.0}, "seconds to the target"),
    "several seeds": ({"statistic": "median", "seeds": (1, 2), "over": "lower-quartile"}, "median score"),
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_importances_are_drawn_whatever_is_optimised(objective, tmp_path, monkeypatch):
    changes, label = OBJECTIVES[objective]
    chose = settings(trials=24, prune=True, **changes)
    place = Instant(tmp_path / "started", codes={(1, 1): 4})  # one diverges
    study, _ = go(tmp_path, chose, place)
    assert {"finished", "failed", "pruned"} == {t.state for t in study.trials()}
    found = study.importances()
    assert sum(found.values()) == pytest.approx(1)
    assert found.keys() <= DEFAULT.keys()
    assert max(found, key=lambda name: found[name]) == "lr", "all others change nothing"
    drawn = {}

    def keep(kind, draw):
        return lambda *given: (drawn.update({kind: given}), draw(*given) if kind == "importances" else None)

    for kind in ("history", "importances", "slices"):
        monkeypatch.setattr(tune_results.tune_plots, kind, keep(kind, getattr(tune_results.tune_plots, kind)))
    made = tune_results.pictures(tmp_path, chose, study)
    assert [path.name for path in made] == ["history.png", "importances.png", "slices.png"]
    assert made[1].stat().st_size > 5000
    assert drawn["history"][4] == drawn["slices"][3] == label
    assert chose.objective() in drawn["history"][5]
    assert chose.objective() in drawn["importances"][2]
    assert drawn["importances"][1] == found
