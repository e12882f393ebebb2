"""A tuning: what it tries, what it finds, and that it goes on after any stop without running a trial twice."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from PIL import Image

from playfield.cli._tuning import open_study
from playfield.errors import PlayfieldError, UsageError
from playfield.experiments import local, tune, tune_results, tuning
from playfield.options import Search
from playfield.runs.preset_file import read_preset
from tune_place import C, Instant

SPACE = {"lr": Search(1e-5, 1e-1, log=True), "gamma": Search(choices=(0.9, 0.99)), "epochs": Search(1, 10)}
DEFAULT = {"lr": 1e-4, "gamma": 0.99, "epochs": 4}


def settings(**changes):
    given = {
        "env": C,
        "algo": "ppo",
        "words": (C, "--workers", "1", "--algo", "ppo"),
        "preset": "default",
        "config": {"num_envs": 4},
        "steps": 900,
        "minutes": None,
        "until": None,
        "window": 10,
        "over": "median",
        "seeds": (1,),
        "seed": 1,
        "startup": 4,
        "prune": False,
        "space": SPACE,
        "default": DEFAULT,
        "trials": 8,
    }
    return tuning.Settings(**{**given, **changes})


class Silent:
    def __init__(self):
        self.told = []

    def started(self, trial, resumed):
        self.told.append((trial.number, "goes on" if resumed else "begins"))

    def ended(self, trial):
        self.told.append((trial.number, trial.state))

    def say(self, line):
        self.told.append(line)

    def taken(self, count, processes, cores):
        self.told.append(("taken", count))

    def look(self, active, where, shares):
        pass


def go(directory, chosen, place=None, jobs=1):
    chosen = tuning.save(directory, chosen)
    study, watcher = open_study(directory, chosen), Silent()
    tune.run(chosen, study, jobs, watcher, place or Instant(directory / "started"))
    tune_results.write(directory, chosen, study, study.best())
    return study, watcher


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(tune, "POLL", 0.001)
    monkeypatch.setattr(tune, "LOOK_ELSEWHERE", 0.01)


def test_it_begins_with_the_default_and_finds_better(tmp_path):
    study, watcher = go(tmp_path, settings(trials=20))
    trials = study.trials()
    assert [t.number for t in trials] == list(range(20))
    assert trials[0].params == DEFAULT
    assert {t.state for t in trials} == {"finished"}
    best = study.best()
    assert best.value > trials[0].value + 15
    assert abs(best.params["lr"] - 1e-3) < 2e-3
    assert best.value == max(t.value for t in trials)
    # By hand: the mean of games 81 to 90, of which game n scores n/90 of the score.
    top = 100 - 20 * 1 + 1
    assert trials[0].value == pytest.approx(sum(top * n / 90 for n in range(81, 91)) / 10)
    assert watcher.told[:3] == [(0, "begins"), (0, "finished"), (1, "begins")]
    assert study.importances()["lr"] > 0.5
    assert sum(study.importances().values()) == pytest.approx(1)

    preset = read_preset(tmp_path / "best.toml")
    assert (preset.algo, preset.options) == ("ppo", {"num_envs": 4, **best.params})
    with open(tmp_path / "trials.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(r["value"]) for r in rows] == [t.value for t in trials]
    assert float(rows[3]["lr"]) == trials[3].params["lr"]
    for picture in tune_results.pictures(tmp_path, settings(trials=20), study):
        with Image.open(picture) as image:
            assert image.size[0] > 500
    assert {p.name for p in tmp_path.glob("*.png")} == {"history.png", "importances.png", "slices.png"}


def test_the_same_seed_tries_the_same_and_another_does_not(tmp_path):
    first = [t.params for t in go(tmp_path / "a", settings())[0].trials()]
    assert [t.params for t in go(tmp_path / "b", settings())[0].trials()] == first
    assert [t.params for t in go(tmp_path / "c", settings(seed=2))[0].trials()] != first
    assert len({json.dumps(p) for p in first}) == 8


def test_more_trials_later(tmp_path):
    go(tmp_path / "a", settings(trials=3))
    more, _ = go(tmp_path / "a", settings(trials=8, startup=7))
    straight, _ = go(tmp_path / "b", settings(trials=8))
    assert [t.params for t in more.trials()] == [t.params for t in straight.trials()]
    started = (tmp_path / "a" / "started").read_text().split()[::3]
    assert started == [str(n) for n in range(8)], "none is run twice"
    go(tmp_path / "a", settings(trials=3))
    assert tuning.load(tmp_path / "a").trials == 8
    for changes in ({"steps": 1000}, {"space": {**SPACE, "epochs": Search(1, 9)}}, {"seeds": (1, 2)}):
        with pytest.raises(UsageError, match=f"other settings .*{next(iter(changes))} is"):
            go(tmp_path / "a", settings(**changes))


def test_seeds_are_pooled_by_median_or_lower_quartile():
    pool = tuning.together
    score, time_ = settings(), settings(until=30.0)
    assert pool(score, [1.0, 5.0, 3.0]) == 3.0
    assert pool(score, [1.0, 5.0, None]) == 1.0, "what failed is the worst"
    assert pool(score, [5.0, None, None]) is None
    assert pool(time_, [1.0, 5.0, None]) == 5.0
    low, late = settings(over="lower-quartile"), settings(over="lower-quartile", until=30.0)
    assert pool(low, [4.0, 1.0, 2.0, 3.0, 5.0]) == 2.0
    assert pool(late, [4.0, 1.0, 2.0, 3.0, 5.0]) == 4.0
    assert pool(low, [4.0, None, None, None, 5.0]) is None
    assert pool(low, [4.0]) == pool(late, [4.0]) == 4.0


def test_the_time_to_a_score_that_is_not_reached_counts_up_to_twice_the_budget(tmp_path):
    from compare_runs import write_run

    steps, minutes = settings(until=9.0, window=2), settings(until=9.0, window=2, steps=None, minutes=2.0)
    # Means of two games from 1 to 7: a quarter of the way to 9 is missing. From 3 to 1: all of it.
    scores = {1: ("target", [1.0]), 2: ("steps", [1.0, 1.0, 5.0, 7.0, 7.0]), 3: ("steps", [3.0, 3.0, 1.0, 1.0])}
    for seed, (stop, found) in scores.items():
        result = {"steps": 700, "seconds": 3.5, "stop": stop}
        write_run(tmp_path / str(seed), C, "ppo", seed, list(enumerate(found)), 900, result=result)
    for chosen, expected in ((steps, [700, 900 * 1.25, 1800]), (minutes, [3.5, 150, 240])):
        jobs = settings(seeds=(1, 2, 3)).jobs(0, {}, tmp_path)
        assert [tuning.value_of(chosen, job) for job in jobs] == expected
    words = settings(until=-9.5).jobs(0, {"lr": 1e-05}, tmp_path)[0].words
    assert words[-4:] == ("--lr=1e-05", "--target-score=-9.5", "--target-games", "10")


def test_the_score_at_which_a_trial_was_pruned_is_no_time(tmp_path):
    study, _ = go(tmp_path, settings(until=1e6, prune=True, trials=12))
    pruned = [t for t in study.trials() if t.state == "pruned"]
    assert pruned
    assert all(t.value is None and t.reported[1] > 0 for t in pruned)


def test_a_trial_that_diverges_or_cannot_be_trained_counts_as_the_worst(tmp_path):
    codes = {(1, 1): 4, (2, 1): 2, (3, 1): -9}
    study, _ = go(tmp_path, settings(), Instant(tmp_path / "started", codes=codes))
    assert [t.state for t in study.trials()] == ["finished"] + ["failed"] * 3 + ["finished"] * 4
    assert study.trials()[1].value is None
    assert "seed 1: line of 1" in study.trials()[1].note
    assert "signal 9" in study.trials()[3].note
    assert study.study.trials[1].value == float("-inf"), "the sampler keeps away from it"
    assert tune_results.pictures(tmp_path, settings(), study)
    json.dumps(tune_results.rows(settings(), study), allow_nan=False)


@pytest.mark.parametrize(("codes", "exit_code"), [({(0, 1): 2}, 2), ({(1, 1): 5}, 5), ({(2, 1): 1}, 1)])
def test_what_is_no_fault_of_the_parameters_ends_the_tuning_and_leaves_the_trial_to_be_run(
    tmp_path, codes, exit_code
):
    with pytest.raises(PlayfieldError) as caught:
        go(tmp_path, settings(), Instant(tmp_path / "started", codes=codes))
    assert caught.value.exit_code == exit_code
    study, _ = go(tmp_path, settings())
    assert [t.state for t in study.trials()] == ["finished"] * 8


def test_trials_that_do_badly_early_are_pruned_and_their_runs_stay(tmp_path):
    study, _ = go(tmp_path, settings(trials=16, prune=True))
    trials = study.trials()
    assert {t.state for t in trials} == {"finished", "pruned"}
    assert [t.state for t in trials[:3]] == ["finished"] * 3, "not before three others have come as far"
    for t in trials:
        at = t.reported[1]  # after 1/9 of the budget: games 1 to 10
        better = sorted((o.reported[1] for o in trials[: t.number]), reverse=True)
        if t.number >= 3 and at < better[2 * len(better) // 3]:
            assert t.note == "pruned after 1/9 of its budget"
        assert (tmp_path / "trials" / f"{t.number:04d}" / "1" / "run.json").exists()
    late = [t for t in trials if t.note == "pruned after 3/9 of its budget"]
    assert late, "a trial of the best two thirds after 1/9 is not among the best third after 3/9"
    assert study.best().state == "finished"
    again, _ = go(tmp_path / "again", settings(trials=16, prune=True), jobs=1)
    assert [(t.state, t.params) for t in again.trials()] == [(t.state, t.params) for t in trials]


def test_a_pruned_training_is_stopped_and_no_other_seed_begins(tmp_path):
    chosen = settings(trials=12, prune=True, seeds=(3, 1))
    study, _ = go(tmp_path, chosen, Instant(tmp_path / "started", delay=0.02))
    started = [tuple(map(int, line.split()[:2])) for line in (tmp_path / "started").read_text().splitlines()]
    pruned = [t.number for t in study.trials() if t.state == "pruned"]
    assert pruned
    early = [t.number for t in study.trials() if "after 1/9" in t.note]
    assert early
    for number in early:
        assert (number, 3) in started
        assert (number, 1) not in started
        info = json.loads((tmp_path / "trials" / f"{number:04d}" / "3" / "run.json").read_text())
        assert "result" not in info, "it was stopped in the middle"


SCRIPT = """
import sys; from pathlib import Path; sys.path[:0] = {path!r}
import test_tune as t; from tune_place import Instant
root = Path(sys.argv[1]); t.go(root, t.settings(prune=True), Instant(root / "started", float(sys.argv[2])))
"""


def process(root, delay):
    script = SCRIPT.format(path=[str(Path(__file__).parent)])
    return subprocess.Popen([sys.executable, "-c", script, str(root), str(delay)], stderr=subprocess.PIPE, text=True)


def test_a_tuning_that_was_killed_ends_as_one_that_was_not(tmp_path):
    straight, _ = go(tmp_path / "straight", settings(prune=True))
    root = tmp_path / "killed"
    root.mkdir()
    for lines in (2, 5):
        child = process(root, 0.3)
        while len((root / "started").read_text().split("\n") if (root / "started").exists() else "") <= lines:
            assert child.poll() is None, child.stderr.read()
            time.sleep(0.01)
        child.kill()
        child.wait()
        child.stderr.close()
        with open(root / "journal.log", "a") as file:
            file.write('{"op_code": 6, "tri')  # a write that was cut off
    study, _ = go(root, settings(prune=True))
    assert [(t.params, t.state, t.value) for t in study.trials()] == [
        (t.params, t.state, t.value) for t in straight.trials()
    ]
    numbers = [int(line.split()[0]) for line in (root / "started").read_text().splitlines()]
    assert set(numbers) == set(range(8))
    assert len(numbers) <= 8 + 2, "only what ran when it was killed goes on"


def test_processes_that_join_share_the_trials(tmp_path):
    children = [process(tmp_path, 0.05) for _ in range(2)]
    for child in children:
        assert child.wait(timeout=120) == 0, child.stderr.read()
        child.stderr.close()
    started = [line.split() for line in (tmp_path / "started").read_text().splitlines()]
    assert sorted(int(number) for number, *_ in started) == list(range(8))
    study = open_study(tmp_path, settings(prune=True))
    assert len(study.trials()) == 8
    assert {t.state for t in study.trials()} <= {"finished", "pruned"}


def test_a_trial_of_a_living_process_is_left_to_it(tmp_path):
    chosen = settings(trials=1)
    tuning.save(tmp_path, chosen)
    study = open_study(tmp_path, chosen)
    trial, lock = study.next(1)
    other = open_study(tmp_path, chosen)
    assert other.next(1) is None
    assert other.elsewhere([])
    lock.release()
    taken, again = other.next(1)
    assert (taken.number, taken.params) == (0, trial.params)
    again.release()


def test_a_signal_stops_it_and_all_is_saved(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(Silent, "say", lambda self, line: said.append(line))

    class Stops(Instant):
        def start(self, job):
            if job.directory.parent.name == "0002":
                os.kill(os.getpid(), signal.SIGTERM)
            return super().start(job)

    with pytest.raises(local.Interrupted, match="SIGTERM"):
        go(tmp_path, settings(), Stops(tmp_path / "started", 0.05))
    assert said == ["asking the trainings to save and stop; press Ctrl-C again to quit now"]
    study, watcher = go(tmp_path, settings())
    assert watcher.told[0] == (2, "goes on")
    assert len(study.trials()) == 8


def test_none_is_pruned_before_three_others_have_come_as_far(tmp_path):
    chosen = tuning.save(tmp_path, settings(prune=True))
    study = open_study(tmp_path, chosen)
    pruned = []
    for early in (50.0, 40.0, 30.0, 38.0, 60.0):
        trial, lock = study.next(8)
        pruned.append(study.prunes(trial.number, 1, early))
        study.tell_pruned(trial.number) if pruned[-1] else study.tell(trial.number, early, {"1": early})
        lock.release()
    assert pruned == [False, False, False, True, False]
    assert [t.note for t in study.trials() if t.state == "pruned"] == ["pruned after 1/9 of its budget"]
    assert [t.reported for t in study.trials()][3] == {1: 38.0}
    assert [t.passed for t in study.trials()][2:4] == [{1}, set()]


@pytest.mark.parametrize(("part", "kept"), [(1, 4), (3, 2)])
def test_of_six_the_best_four_go_on_after_a_ninth_and_the_best_two_after_three(part, kept, tmp_path):
    study = open_study(tmp_path, tuning.save(tmp_path, settings(prune=True)))
    for early in (60.0, 50.0, 40.0, 30.0, 20.0):
        trial, lock = study.next(8)
        if trial.number >= 3:  # those that would be stopped have come as far before there were three others
            study._handle(trial.number).report(early, part)
        else:
            assert not study.prunes(trial.number, part, early)
        study.tell(trial.number, early, {"1": early})
        lock.release()
    trial, lock = study.next(8)
    assert study.prunes(trial.number, part, {4: 29.0, 2: 49.0}[kept])
    study.tell_pruned(trial.number)
    lock.release()
    trial, lock = study.next(8)
    # Of seven: the best four (14 // 3), or two (7 // 3).
    assert not study.prunes(trial.number, part, {4: 31.0, 2: 51.0}[kept])
    lock.release()


@pytest.mark.parametrize("after", ["report", "note"])
def test_a_kill_between_a_report_and_its_decision_changes_nothing(after, tmp_path, monkeypatch):
    """Whatever was written when the process died, the decision is the one that would have been made."""
    chosen = tuning.save(tmp_path, settings(prune=True))
    study = open_study(tmp_path, chosen)
    for early in (50.0, 40.0, 30.0):
        trial, lock = study.next(8)
        assert not study.prunes(trial.number, 1, early)
        study.tell(trial.number, early, {"1": early})
        lock.release()
    trial, lock = study.next(8)
    write, written = optuna.trial.Trial.set_user_attr, []

    def die(self, key, value):
        if after == "note" and not written:
            written.append(key)
            return write(self, key, value)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(optuna.trial.Trial, "set_user_attr", die)
        with pytest.raises(KeyboardInterrupt):
            study.prunes(trial.number, 1, 38.0)
    again = open_study(tmp_path, chosen)
    assert again.trials()[trial.number].passed == set(), "it is asked again"
    assert again.prunes(trial.number, 1, 38.0)
    assert again.prunes(trial.number, 1, 38.0), "and the answer stays"
    lock.release()
