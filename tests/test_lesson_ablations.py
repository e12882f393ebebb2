"""Lessons that train networks with several settings: their verdicts by hand, and that they go on after a stop."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from playfield import lessons
from playfield.cli import main
from playfield.errors import UsageError
from playfield.experiments import local
from playfield.experiments.compare import LearningCurve
from playfield.lessons import _ablation, _deep, batch_size, schedules, views
from playfield.lessons._deep import Setting, Trained, below_row, difference_row
from playfield.lessons._panels import Curves
from playfield.lessons._progress import Silent
from playfield.lessons._request import Request
from playfield.runs.info import read_info
from playfield.training.prepare import prepare


def request(steps: int = 100_000, runs: int = 3, **options: Any) -> Request:
    return Request(runs, 0, steps, False, True, Silent(), options)


def curve(values: list[float], seconds: float = 100.0, seed: int = 1) -> LearningCurve:
    """A curve of these scores, the games spread evenly over 100,000 steps and the seconds."""
    n = len(values)
    steps, clock = np.linspace(0, 100_000, n + 1)[1:], np.linspace(0, seconds, n + 1)[1:]
    return LearningCurve(
        "breakout", "x", 0, seed, Path("r"), {}, steps, np.array(values, float), 1e5 / seconds, seconds, clock
    )


def trained(setting: Setting, ends: list[float], seconds: float = 100.0) -> Trained:
    """A setting whose seeds end with these scores, after half of them in the middle."""
    curves = [curve([end / 2, end], seconds, seed) for seed, end in enumerate(ends, 1)]
    return Trained(setting, [Path("r")] * len(ends), curves)


def with_scores(monkeypatch, module, scores: dict[str, list[float]], seconds: dict[str, float] | None = None) -> None:
    """Let the trainings of a lesson come to these scores; all others to about 1."""

    def train_all(request, lesson, settings, shared):
        return [
            trained(s, scores.get(s.label, [1.0, 1.1, 0.9]), (seconds or {}).get(s.label, 100.0)) for s in settings
        ]

    monkeypatch.setattr(module, "train_all", train_all)


def verdicts(outcome) -> dict[tuple[str, str], str]:
    return {(row.setting, row.measure): row.verdict for row in outcome.rows if row.claim}


def test_scores_at_a_step_and_after_a_time_are_those_of_the_last_game_before():
    values = [3.0, 1.0, 4.0, 1.5]
    found = Trained(Setting("x", {}), [], [curve(values, 80.0), curve([7.0], 40.0)])
    for step in (0, 24_999, 25_000, 60_000, 100_000, 200_000):
        games = [v for k, v in enumerate(values, 1) if 25_000 * k <= step]
        expected = [games[-1] if games else math.nan, 7.0 if step >= 100_000 else math.nan]
        np.testing.assert_array_equal(found.scores_at(step), expected)
    np.testing.assert_array_equal(found.scores_after(41.0), [1.0, 7.0])
    np.testing.assert_array_equal(found.scores_after(39.0), [3.0, math.nan])
    assert _ablation.equal_time([found]) == 40.0
    assert found.seconds == 60.0


def test_equal_time_is_not_that_of_a_training_that_diverged():
    early, late, end = curve([5.0], 3.0), curve([7.0], 40.0), curve([7.0], 60.0)
    early.info["diverged"] = {"step": 7, "why": "x"}
    found = [Trained(Setting("x", {}), [], [early, late]), Trained(Setting("y", {}), [], [end])]
    assert _ablation.equal_time(found) == 40.0
    np.testing.assert_array_equal(found[0].scores_after(40.0), [5.0, 7.0])
    assert _ablation.equal_time([Trained(Setting("x", {}), [], [early])]) == 3.0
    lines = _ablation.curves_over_time(request(), found).lines
    assert [line.x[-1] * 60 for line in lines] == [40.0, 60.0]


@pytest.mark.parametrize(
    ("a", "b", "compared", "verdict"),
    [
        ([5.0, 5.2, 4.8], [1.0, 1.2, 0.8], True, "pass"),
        ([1.0, 1.2, 0.8], [5.0, 5.2, 4.8], True, "differs"),
        ([5.0, 1.0, 9.0], [4.0, 1.0, 8.0], True, "differs"),  # higher, but by chance
        ([5.0, 5.2, 4.8], [1.0, 1.2, 0.8], False, "-"),
        ([5.0], [1.0], True, "too few runs"),
        ([math.nan, 5.0, 5.1], [1.0, 1.2, 0.8], True, "-"),  # no game has ended in one of them
    ],
)
def test_a_difference_passes_where_its_interval_is_above_nothing(a, b, compared, verdict):
    row = difference_row("a less b", "score", np.array(a), np.array(b), compared=compared)
    assert row.verdict == verdict
    assert row.ours == pytest.approx(np.mean(a) - np.mean(b), nan_ok=True)


def test_a_bound_passes_where_the_whole_interval_is_below_it():
    values = np.array([0.2, 0.3, 0.25])
    half = 4.303 * values.std(ddof=1) / math.sqrt(3)  # Student's t with two degrees of freedom
    row = below_row("x", "share", values, 0.5, compared=True)
    assert (row.low, row.high) == pytest.approx((0.25 - half, 0.25 + half), rel=1e-3)
    assert row.verdict == "pass"
    assert below_row("x", "share", values, 0.25 + half / 2, compared=True).verdict == "differs"
    assert below_row("x", "share", values[:1], 0.5, compared=True).verdict == "too few runs"


def test_verdicts_are_given_from_the_steps_of_the_lesson_on_and_only_with_its_own_options():
    assert [_deep.judged(request(steps), 100_000) for steps in (99_999, 100_000, 10_000_000)] == [False, True, True]
    assert not _deep.judged(request(100_000, gamma=0.9), 100_000)


def test_schedules_test_the_choice_against_each_other_one(monkeypatch):
    chosen = "lr exp, clip const"
    high = {chosen: [9.0, 9.2, 8.8], "lr linear, clip const": [9.1, 8.9, 9.0]}
    with_scores(monkeypatch, schedules, high)
    found = verdicts(schedules.run(request()))
    assert {name.partition(" less ")[2]: verdict for (name, _), verdict in found.items()} == {
        "lr const, clip const": "pass",
        "lr linear, clip const": "differs",
        "lr exp, clip linear": "pass",
        "lr exp, clip exp": "pass",
    }


def test_batches_are_what_their_label_says():
    for setting in batch_size.settings():
        o = setting.options
        assert f"batch {8 * o['rollout_steps'] // o['minibatches']}, {o['rollout_steps']} steps" in setting.label
        assert f"{o['epochs']} epoch" in setting.label
    labels = [setting.label for setting in batch_size.settings()]
    assert labels[:2] == ["batch 512, 128 steps, 4 epochs", "batch 1024, 128 steps, 6 epochs"]
    assert len(set(labels)) == len(labels) == 8


def test_the_choice_of_the_grid_is_judged(monkeypatch):
    base, chosen, *others = [setting.label for setting in batch_size.settings()]
    with_scores(monkeypatch, batch_size, {chosen: [9.0, 9.2, 8.8], base: [5.0, 5.2, 4.8]})
    assert [*verdicts(batch_size.run(request())).values()] == ["pass", "pass"]
    with_scores(monkeypatch, batch_size, {chosen: [9.0, 9.2, 8.8], others[3]: [12.0, 11.0, 13.0]})
    outcome = batch_size.run(request())
    assert [*verdicts(outcome).values()] == ["pass", "differs"]
    assert outcome.rows[-1].measure == others[3]
    assert outcome.rows[-1].ours == 12.0
    bars = [panel for panel in outcome.panels if isinstance(panel, Curves) and panel.bars]
    assert [line.y.mean(axis=0).tolist() for line in bars[1].lines] == [pytest.approx([1.0, 1.0, 12.0])]


def test_the_best_of_the_grid_is_not_judged_where_a_training_has_no_score(monkeypatch):
    base, chosen, other, *_ = [setting.label for setting in batch_size.settings()]
    for scores in ({other: [math.nan, 5.0, 5.0]}, {one.label: [math.nan] * 3 for one in batch_size.settings()}):
        with_scores(monkeypatch, batch_size, {chosen: [9.0, 9.2, 8.8], base: [5.0, 5.2, 4.8], **scores})
        assert batch_size.run(request()).rows[-1].verdict == "-"


def test_views_are_compared_after_equal_steps_and_after_equal_time(monkeypatch):
    """The aimbot ends higher, but takes so long that after equal time it is behind."""
    ends = {"mono, whiten, aimbot": [9.0, 9.2, 8.8], "mono, whiten": [5.0, 5.2, 4.8]}
    with_scores(monkeypatch, views, ends, {"mono, whiten, aimbot": 240.0})
    outcome = views.run(request())
    rows = {(row.setting, row.measure): row for row in outcome.rows}
    name = "mono, whiten, aimbot less mono, whiten"
    assert rows[name, "score, equal steps"].ours == pytest.approx(4.0)
    assert rows[name, "score, equal steps"].verdict == "pass"
    late = next(row for (setting, what), row in rows.items() if setting == name and "after" in what)
    assert math.isnan(late.ours)  # no game within 100 of its 240 seconds
    assert late.verdict == "-"
    assert rows["3col, keep", "score, last 100 games"].published == 110
    assert rows["3col, keep", "score, last 100 games"].verdict == "-"


def test_published_scores_stand_beside_the_same_skipping_only():
    """The how-to's 84x84 greys are of a game that skipped frames twice; here only `SKIPPED` does."""
    assert "skip" not in {**views.SHARED, **views.PLAIN.options}
    assert views.PLAIN.published is None
    assert views.SKIPPED.options["skip"] == 16
    assert views.SKIPPED.published == 24


TINY = ["lesson", "schedules", "--steps", "96", "--seeds", "1", "--num-envs", "2", "--rollout-steps", "24", "--json"]


def test_it_trains_ordinary_runs_once_and_goes_on_with_the_rest(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(schedules, "PAIRS", schedules.PAIRS[2:3])
    assert main(TINY) == 0
    told, err = capsys.readouterr()
    assert not err
    run = next(Path("runs/lessons/schedules-96").glob("breakout/*/1"))
    info = read_info(run)
    assert info["config"]["lr"] == "exp:0.001..0.0001"
    assert (info["config"]["num_envs"], info["protocol"]["name"], info["result"]["steps"]) == (2, "v4", 96)
    first = json.loads(told)
    assert {row["verdict"] for row in first["rows"]} == {"-"}
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    monkeypatch.setattr(schedules, "PAIRS", (*schedules.PAIRS, ("const", "const")))
    asked = []
    real = local.run_jobs

    def run_jobs(jobs, *args, **more):
        asked.append([job.directory.parent.name for job in jobs if not job.done()])
        raise local.Interrupted(2)

    monkeypatch.setattr(local, "run_jobs", run_jobs)
    assert main(TINY) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert [[name.startswith("lr-const-clip-const") for name in names] for names in asked] == [[True]]
    monkeypatch.setattr(local, "run_jobs", real)
    monkeypatch.setattr(schedules, "PAIRS", schedules.PAIRS[:1])
    assert main(TINY) == 0
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == before
    assert json.loads(capsys.readouterr().out)["rows"] == first["rows"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("schedules --lr 1e-3", "has no option --lr"),
        ("schedules --minibatches 7", "--minibatches 7 must divide the rollout of 1024 steps"),
        ("views --net nothing", "net"),
        ("views --episodes 3", "has no --episodes"),
    ],
)
def test_mistakes_leave_nothing_behind(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["lesson", *words.split()]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_every_setting_can_be_trained(tmp_path):
    """Its words are understood, and go together."""
    lrs, clips = schedules.LR, schedules.CLIP
    pairs = [Setting(f"{lr}, {clip}", {"lr": lrs[lr], "clip": clips[clip]}) for lr, clip in schedules.PAIRS]
    for module, settings in ((views, views.SETTINGS), (batch_size, batch_size.settings()), (schedules, pairs)):
        for setting in settings:
            made = prepare(_deep._asked(tmp_path, {**module.SHARED, **setting.options}))
            rules = made.spec.protocol  # v4 is `custom` with another view or skip
            assert (rules["skip"], rules["sticky"]) == (2 * rules["skip_min"], 0.0)
            assert made.need.memory > 0
    assert {"lr", "clip"}.isdisjoint(option.name for option in lessons.options("schedules"))


def test_as_many_trainings_at_once_as_fit(tmp_path, monkeypatch):
    need = prepare(_deep._asked(tmp_path, batch_size.SHARED)).need
    for free, expected in ((100 * need.memory, 4), (2.5 * need.memory, 2), (0.5 * need.memory, 1)):
        monkeypatch.setattr("playfield.compute.free_memory", lambda free=free: free)
        assert _deep._fitting([need] * 6, 4, tmp_path) == expected


def test_runs_of_other_settings_are_to_be_moved_away(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    stranger = _deep.root("schedules", 96) / "breakout" / "ppo" / "1"

    def plan(*_):
        raise UsageError(f"{stranger} has runs that `playfield compare` did not start: use another --dir")

    monkeypatch.setattr(_deep.grid, "plan", plan)
    assert main(TINY) == 2
    said = capsys.readouterr().err
    assert "schedules-96 has runs of other settings" in said
    assert "--dir" not in said


def test_what_is_no_replicate_is_to_be_moved_away(tmp_path, monkeypatch, capsys):
    """A run that was made longer, and runs of another default or number format, which are not of one setting."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(schedules, "PAIRS", schedules.PAIRS[2:3])
    assert main(TINY) == 0
    assert main(TINY) == 0  # nothing to train
    capsys.readouterr()
    run = next(Path("runs/lessons/schedules-96").glob("breakout/*/1"))
    whole = (run / "run.json").read_text("utf-8")
    more = [w if w != "1" else "2" for w in TINY]
    other = {"fp32": "bf16", "bf16": "fp32"}[json.loads(whole)["compute"]["precision"]]
    for change, words, why in (
        (lambda info: info.update(steps=192), TINY, "1 was trained for 192 steps, not 96: move"),
        (lambda info: info["config"].update(epochs=3), more, "1 was trained with other settings than the rest"),
        (lambda info: info["compute"].update(precision=other), more, "1 was trained with other settings"),
    ):
        info = json.loads(whole)
        change(info)
        (run / "run.json").write_text(json.dumps(info), "utf-8")
        assert main(words) == 2
        said = capsys.readouterr().err
        assert why in said
        assert said.count("\n") == 1
        assert not run.with_name("2").exists()
    (run / "run.json").write_text(whole, "utf-8")
    shutil.copytree(run, run.with_name("2"))
    info = json.loads(whole)
    info["config"]["epochs"], info["seed"] = 3, 2
    (run.with_name("2") / "run.json").write_text(json.dumps(info), "utf-8")
    assert main(more) == 2  # nothing is to be trained, and still they are not two seeds of one setting
    assert "2 was trained with other settings than the rest" in capsys.readouterr().err


def test_a_run_that_only_goes_on_keeps_what_it_was_begun_with(tmp_path, monkeypatch, capsys):
    """On a machine, or with a version, that would choose otherwise for a new one; not with another version's code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(schedules, "PAIRS", schedules.PAIRS[2:3])
    assert main(TINY) == 0
    run = next(Path("runs/lessons/schedules-96").glob("breakout/*/1"))
    info = json.loads((run / "run.json").read_text("utf-8"))
    del info["result"]  # it was stopped
    asked = []
    monkeypatch.setattr(local, "run_jobs", lambda jobs, *args, **more: asked.append(len(jobs)) or [])
    info["config"]["epochs"] = 3
    (run / "run.json").write_text(json.dumps(info), "utf-8")
    assert main(TINY) == 0
    assert asked == [1]
    monkeypatch.setattr(_deep, "VERSION", "99.0")
    capsys.readouterr()
    assert main(TINY) == 2
    assert "1 was trained with other settings than the rest" in capsys.readouterr().err
