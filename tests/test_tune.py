"""A tuning: what it tries, what it finds, and that it goes on after any stop without running a trial twice."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from playfield.cli import main
from playfield.cli import tune as cli
from playfield.errors import DataError, PlayfieldError, UsageError
from playfield.experiments import local, tune, tune_results, tuning
from playfield.experiments.study import Study
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

    def look(self, active):
        pass


def open_study(directory, chosen):
    return cli._open(Study, directory, chosen)


def go(directory, chosen, place=None, jobs=1):
    tuning.save(directory, chosen)
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
    more, _ = go(tmp_path / "a", settings(trials=8))
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


def test_the_time_to_a_score_counts_twice_the_budget_where_it_is_not_reached(tmp_path):
    from compare_runs import write_run

    for chosen, expected in (
        (settings(until=9.0), (700, 1800)),
        (settings(until=9.0, steps=None, minutes=2.0), (3.5, 240)),
    ):
        home = tmp_path / chosen.unit
        for seed, stop in ((1, "target"), (2, "steps")):
            result = {"steps": 700, "seconds": 3.5, "stop": stop}
            write_run(home / str(seed), C, "ppo", seed, [(5, 1.0)], 900, result=result)
        jobs = settings(seeds=(1, 2)).jobs(0, {}, home)
        assert tuple(tuning.value_of(chosen, job) for job in jobs) == expected
    words = settings(until=-9.5).jobs(0, {"lr": 1e-05}, tmp_path)[0].words
    assert words[-4:] == ("--lr=1e-05", "--target-score=-9.5", "--target-games", "10")


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
        if t.number >= 3 and at < better[len(better) // 3]:
            assert t.state == "pruned"
        assert (tmp_path / "trials" / f"{t.number:04d}" / "1" / "run.json").exists()
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


def test_a_signal_stops_it_and_all_is_saved(tmp_path):
    class Stops(Instant):
        def start(self, job):
            if job.directory.parent.name == "0002":
                os.kill(os.getpid(), signal.SIGTERM)
            return super().start(job)

    with pytest.raises(local.Interrupted, match="SIGTERM"):
        go(tmp_path, settings(), Stops(tmp_path / "started", 0.05))
    study, watcher = go(tmp_path, settings())
    assert watcher.told[0] == (2, "goes on")
    assert len(study.trials()) == 8


def hostile():
    class Evil:
        def __reduce__(self):
            return os.system, ("touch /tmp/scratch-evil",)

    return pickle.dumps(Evil())


@pytest.mark.parametrize(
    "data",
    [
        hostile(),
        b"[" * 100_000 + b"\n",
        b"[1]\n",
        b"{}\n",
        b'{"op_code": 0, "worker_id": "w", "study_name": "tuning", "directions": [77]}\n',
        b'{"op_code": 99, "worker_id": "w"}\n',
        b'{"op_code": 0, "worker_id": "w", "study_name": "other", "directions": [2]}\n',
        b'{"op_code": 4, "worker_id": "w", "study_id": 5, "state": 0}\n',
    ],
    ids=["pickle", "deep", "list", "empty", "direction", "operation", "another study", "no study"],
)
def test_a_hostile_journal_is_refused_and_runs_nothing(tmp_path, data):
    tuning.save(tmp_path, settings())
    (tmp_path / "journal.log").write_bytes(data)
    with pytest.raises(DataError, match="journal"):
        open_study(tmp_path, settings()).trials()


def test_pipes_links_and_huge_journals_are_refused(tmp_path):
    tuning.save(tmp_path, settings())
    journal = tmp_path / "journal.log"
    os.mkfifo(journal)
    with pytest.raises(DataError, match="regular"):
        open_study(tmp_path, settings())
    journal.unlink()
    with open(journal, "wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(DataError, match="more than"):
        open_study(tmp_path, settings())
    journal.unlink()
    journal.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="link"):
        open_study(tmp_path, settings())
    assert not (tmp_path / "elsewhere").exists()


def test_nothing_is_pickled(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("pickled")

    for name in ("dumps", "loads", "dump", "load"):
        monkeypatch.setattr(pickle, name, fail)
    go(tmp_path, settings(prune=True))
    for line in (tmp_path / "journal.log").read_text().splitlines():
        assert isinstance(json.loads(line), dict)


def test_values_of_a_journal_that_are_no_options_never_become_words(tmp_path):
    with pytest.raises(DataError, match="unusable values"):
        settings().jobs(3, {"lr": "--trust"}, tmp_path / "trials" / "0003")
    with pytest.raises(DataError, match="unusable values"):
        settings().jobs(3, {"run": "x"}, tmp_path / "trials" / "0003")


@pytest.mark.parametrize(
    "change",
    [
        {"env": 3},
        {"space": {"lr": {"low": "x", "high": 1, "log": False, "choices": []}}},
        {"space": {"run": {"low": 0, "high": 1, "log": False, "choices": []}}},
        {"default": {}},
        {"trials": 1e300},
        {"over": "mean"},
        {"more": 1},
        {"format": 2},
        {"algo": "nothing"},
        {"minutes": 3},
    ],
    ids=str,
)
def test_damaged_settings_are_refused(tmp_path, change):
    tuning.save(tmp_path, settings())
    assert tuning.load(tmp_path) == settings()
    stored = json.loads((tmp_path / "tune.json").read_text())
    (tmp_path / "tune.json").write_text(json.dumps({**stored, **change}))
    with pytest.raises(DataError, match=r"tune\.json"):
        tuning.load(tmp_path)


S = ["--steps", "2k"]
MISTAKES = [
    ([], "which environment"),
    (["--dir", "none"], "no tuning in none"),
    (["--trials", "3", "--dir", "none"], "--trials is for tuning"),
    (["CartPol-v1", *S], "did you mean CartPole-v1"),
    ([C, "--algo", "ppoo", *S], "did you mean ppo"),
    ([C, "--algo", "ppo --epohcs 3", *S], "did you mean --epochs"),
    ([C, "--algo", "ppo --seed 3", *S], "a tuning sets that itself"),
    ([C, "--algo", "random", *S], "nothing to search"),
    ([C, "--algo", "ppo"], "how long is each training"),
    ([C, *S, "--minutes", "3"], "how long is each training"),
    ([C, *S, "--objective", "time"], "needs --until"),
    ([C, *S, "--objective", "score", "--until", "3"], "is the objective time"),
    ([C, *S, "--space", "none.toml"], "no file none.toml"),
    ([C, *S, "--space", "space.toml"], "space.toml, line 2: no option called 'gama': did you mean gamma"),
    ([C, *S, "--", "--run", "x"], "a tuning sets that itself"),
    ([C, "--algo", "sarsa", "--trials", "50", "--seeds", "1000", "--minutes", "60", "--dir", "d"], "add --yes"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_a_mistake_is_reported_before_anything_starts(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.toml").write_text("lr = [1e-3, 1e-4]\ngama = [0.9, 0.99]\n")
    assert main(["tune", *words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["space.toml"]


def test_without_optuna_one_line_says_how_to_get_it(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "optuna" else found(name, *a))
    assert main(["tune", C, *S]) == 2
    assert capsys.readouterr().err == "playfield: tuning needs Optuna: pip install 'playfield[tune]'\n"
    assert list(tmp_path.iterdir()) == []


def test_the_core_never_imports_optuna():
    code = (
        "import sys, playfield, playfield.experiments.local, playfield.training.train; print('optuna' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
    )


def test_the_command_tunes_and_the_preset_trains_with_what_it_found(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.toml").write_text("lr = {low = 1e-4, high = 1e-2, log = true}\nrollout-steps = [16, 32]\n")
    words = ["tune", C, "--algo", "ppo --num-envs 4", "--trials", "3", "--steps", "512", "--window", "5"]
    words += ["--space", "space.toml", "--dir", "t", "--jobs", "2", "--json"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert len(told["trials"]) == 3
    assert "3 of 3 trials" in err
    best = next(t for t in told["trials"] if t["trial"] == told["best"])
    assert (
        main(["train", C, "--preset", "t/best.toml", "--run", "r", "--steps", "256", "--games", "0", "--quiet"]) == 0
    )
    capsys.readouterr()
    config = json.loads(Path("r/run.json").read_text())["config"]
    assert {**best["params"], "num_envs": 4}.items() <= config.items()
    command = told["command"].split()
    assert command[:3] == ["playfield", "train", C]
    assert all(f"--{k.replace('_', '-')}={v}" in command for k, v in best["params"].items())

    before = {p: p.stat().st_mtime_ns for p in Path("t").rglob("run.json")}
    assert main(["tune", "--dir", "t"]) == 0
    text = capsys.readouterr().out
    assert f"best: trial {told['best']}, score" in text
    assert "preset: playfield train CartPole-v1 --preset t/best.toml" in text
    assert {p: p.stat().st_mtime_ns for p in Path("t").rglob("run.json")} == before
