"""Runs as records: `playfield runs` and `playfield.list_runs`, what they remove, and what they never touch."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest

import playfield
from playfield.cli import main
from playfield.errors import DataError, DivergedError, UsageError
from playfield.experiments import compare, records
from playfield.experiments.job import Job
from playfield.play.statistics import t_interval
from playfield.runs import checkpoint
from playfield.runs.lock import RunLock, holder

SMALL = {"steps": 512, "num_envs": 2, "rollout_steps": 32, "film": False, "tensorboard": False, "quiet": True}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two finished runs, one of them evaluated, and one that has diverged."""
    root = tmp_path_factory.mktemp("made")
    playfield.train("CartPole-v1", "ppo", run=root / "ppo" / "9", games=6, save_seconds=0, keep=3, **SMALL)
    playfield.train("CartPole-v1", "a2c", run=root / "a2c" / "10", games=0, seed=2, **{**SMALL, "rollout_steps": 8})
    with pytest.raises(DivergedError):
        playfield.train("CartPole-v1", "ppo", run=root / "ppo" / "10", games=0, lr=1e6, **{**SMALL, "steps": 4096})
    return root


@pytest.fixture
def root(made, tmp_path):
    shutil.copytree(made, tmp_path / "runs")
    return tmp_path / "runs"


def by_name(found):
    return {r["run"].rpartition("runs/")[2]: r for r in found}


def test_a_record_says_what_was_trained_and_how_it_ended(root):
    found = by_name(playfield.list_runs(root))
    assert list(found) == ["a2c/10", "ppo/9", "ppo/10"]  # 9 before 10
    good, plain, bad = found["ppo/9"], found["a2c/10"], found["ppo/10"]
    assert [r["state"] for r in found.values()] == ["finished", "finished", "diverged"]
    assert (good["env"], good["algo"], good["preset"], good["seed"]) == ("CartPole-v1", "ppo", "default", 1)
    assert (good["step"], good["steps"], plain["seed"]) == (512, 512, 2)
    told = json.loads(next((root / "ppo/9/eval").glob("last*.json")).read_text())
    assert (good["score"], [good["low"], good["high"]]) == (told["mean"], told["ci95"])
    assert (good["games"], good["scored"]) == (6, "evaluation")
    lines = (root / "a2c/10/monitor.csv").read_text().splitlines()[2:]
    scores = [float(line.split(",")[0]) for line in lines]
    assert len(scores) < 100  # so all of them count
    low, high = t_interval(np.array(scores))
    assert plain["scored"] == "training"
    assert plain["games"] == len(scores)
    assert plain["score"] == pytest.approx(np.mean(scores))
    assert (plain["low"], plain["high"]) == (pytest.approx(max(low, 0)), pytest.approx(high))
    assert "diverged" in bad["note"]
    assert 0 < bad["step"] < 4096
    assert good["seconds"] > 0
    assert good["playfield"] == playfield.__version__
    assert "CartPole-v1" in good["protocol"]


def test_the_package_itself_can_be_called(root):
    assert playfield.runs(root, algo="a2c") == playfield.list_runs(root, algo="a2c")
    from playfield.runs import info  # and is a package all the same

    assert info.is_run(root / "ppo" / "9")


def test_filters_and_order(root):
    assert len(playfield.list_runs(root, algo="ppo")) == 2
    assert len(playfield.list_runs([root / "ppo" / "9", root / "ppo"])) == 2
    assert [r["seed"] for r in playfield.list_runs(root, seed=2)] == [2]
    assert [r["seed"] for r in playfield.list_runs(root, seed=[1, 3])] == [1, 1]
    assert [r["state"] for r in playfield.list_runs(root, state="diverged")] == ["diverged"]
    scores = [r["score"] for r in playfield.list_runs(root, sort="score")]
    assert scores == sorted(scores, reverse=True)
    assert [r["score"] for r in playfield.list_runs(root, sort="score", reverse=True)] == scores[::-1]
    for wrong in ({"algo": "pp"}, {"env": "CartPol-v1"}, {"preset": "defalt"}, {"state": "done"}, {"sort": "x"}):
        with pytest.raises(UsageError, match=r"choose from|did you mean|takes"):
            playfield.list_runs(root, **wrong)
    with pytest.raises(UsageError, match="no directory"):
        playfield.list_runs(root / "none")


def test_what_has_no_value_comes_last_whichever_way():
    made = [{"run": "1", "score": None}, {"run": "2", "score": 1.0}, {"run": "3", "score": 2.0}]
    assert [r["run"] for r in records.ordered(made, "score")] == ["3", "2", "1"]
    assert [r["run"] for r in records.ordered(made, "score", reverse=True)] == ["2", "3", "1"]


def test_damaged_and_stopped_runs_are_listed(root):
    (root / "ppo/9/run.json").write_text("{")
    info = json.loads((root / "a2c/10/run.json").read_text())
    del info["result"]
    (root / "a2c/10/run.json").write_text(json.dumps(info))
    found = by_name(playfield.list_runs(root))
    assert (found["ppo/9"]["state"], found["ppo/9"]["score"]) == ("damaged", None)
    assert "run.json" in found["ppo/9"]["note"]
    assert found["a2c/10"]["state"] == "stopped"
    assert found["a2c/10"]["step"] > 0
    assert main(["runs", str(root)]) == 0


def test_links_are_not_followed(root, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link").symlink_to(root)
    assert playfield.list_runs(tmp_path / "elsewhere") == []


HOLD = """
import sys, time
from playfield.runs.lock import RunLock
with RunLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def busy(root):
    """The run ppo/9, in use by another process."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(root / "ppo/9")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_running_run_is_told_and_never_removed(root, busy, capsys):
    found = holder(root / "ppo/9")
    assert found is not None
    assert found["pid"] == busy.pid
    assert by_name(playfield.list_runs(root))["ppo/9"]["state"] == "running"
    assert main(["runs", str(root), "--remove", "--yes"]) == DataError.exit_code
    out = capsys.readouterr().out
    assert f"{root}/ppo/9: it is running (process {busy.pid}" in out
    assert sorted(p.name for p in root.glob("*/*")) == ["9"]
    busy.kill()
    busy.wait()
    assert holder(root / "ppo/9") is None  # the text of a killed process says nothing
    assert by_name(playfield.list_runs(root))["ppo/9"]["state"] == "finished"


@pytest.mark.parametrize("change", [{"result": {"steps": 512, "seconds": v}} for v in ("x", [1], {}, -1, math.nan)])
def test_a_result_of_wrong_kinds_is_damage(change, root, capsys):
    run = root / "ppo/9/run.json"
    run.write_text(json.dumps({**json.loads(run.read_text()), **change}))
    assert main(["runs", str(root)]) == 0
    assert "damaged" in capsys.readouterr().out
    with pytest.raises(DataError, match="seconds"):
        compare.read(root)


def test_a_run_that_does_not_say_its_length_is_not_finished(root, capsys):
    run = root / "ppo/9/run.json"
    run.write_text(json.dumps({k: v for k, v in json.loads(run.read_text()).items() if k != "steps"}))
    assert main(["runs", str(root)]) == 0
    assert by_name(playfield.list_runs(root))["ppo/9"]["state"] == "stopped"


def test_an_evaluation_of_an_earlier_checkpoint_is_no_score_of_a_longer_run(root):
    """It was trained on without games: its own last games are its score."""
    run = root / "ppo/9"
    assert by_name(playfield.list_runs(root))["ppo/9"]["scored"] == "evaluation"
    assert Job("CartPole-v1", "ppo", (), 1, 512, run, games=6).done()
    assert not Job("CartPole-v1", "ppo", (), 1, 512, run, games=7).done()
    playfield.train(resume=run, steps=1024, games=0, film=False, quiet=True)
    found = by_name(playfield.list_runs(root))["ppo/9"]
    assert (found["state"], found["step"], found["scored"]) == ("finished", 1024, "training")
    assert not Job("CartPole-v1", "ppo", (), 1, 1024, run, games=6).done()
    assert Job("CartPole-v1", "ppo", (), 1, 1024, run).done()
    playfield.train(resume=run, steps=1024, games=6, film=False, quiet=True)
    assert by_name(playfield.list_runs(root))["ppo/9"]["scored"] == "evaluation"
    assert Job("CartPole-v1", "ppo", (), 1, 1024, run, games=6).done()


LATER = [
    ([["--games", "2"]], 6), ([["--games", "9", "--greedy"]], 6), ([["--games", "9", "--temperature", "0.5"]], 6),
    ([["--games", "9", "--checkpoint", "384"]], 6),
    ([["--games", "9", "--random-steps", "3"]], 6),
    ([["--games", "6", "--seed", "5"]], 6), ([["--games", "8"]], 8), ([["--games", "8"], ["--games", "2"]], 8),
    ([["--games", "7", "--temperature", "1"]], 7),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "games"), LATER)
def test_a_look_at_other_games_does_not_become_the_score_of_a_run(asked, games, root, capsys):
    """Fewer games, a greedier agent, an earlier checkpoint, other seeds: none replaces its evaluation."""
    run = root / "ppo/9"
    before = playfield.list_runs(run)[0]
    for words in asked:
        assert main(["eval", str(run), "--json", *words]) == 0
    after = playfield.list_runs(run)[0]
    assert (before["games"], after["games"]) == (6, games)
    assert (after["score"] == before["score"]) == (games == 6)
    assert Job("CartPole-v1", "ppo", (), 1, 512, run, games=6).done()  # an experiment does not play them again


def test_an_algorithm_that_is_evaluated_at_another_temperature_has_that_score(root):
    run = root / "ppo/9"
    file = next((run / "eval").glob("last-t1-*"))
    told = json.loads(file.read_text())
    assert told["default_rule"] is True
    file.rename(file.with_name(file.name.replace("-t1-", "-t0.5-")))
    assert playfield.list_runs(run)[0]["scored"] == "evaluation"


@pytest.mark.parametrize("lock", ["ppo/.claims/9", "ppo"])
@pytest.mark.parametrize("what", ["--remove", "--prune"])
def test_a_run_that_an_experiment_or_a_tuning_is_about_to_resume_stays(lock, what, root, capsys):
    """Its process holds the lock of the claim, or of the trial, before the training has that of the run."""
    before = sorted(root.rglob("*"))
    with RunLock(root / lock):
        assert main(["runs", str(root / "ppo/9"), what, "--yes"]) == DataError.exit_code
    assert f"it is running (process {os.getpid()}" in capsys.readouterr().out
    assert set(before) <= set(root.rglob("*"))


def test_the_folder_of_another_program_is_never_removed(root, capsys):
    """It has a run.json, too. A damaged run of ours is removed."""
    (root / "theirs").mkdir()
    (root / "theirs/run.json").write_text('{"cmd": "make"}')
    (root / "theirs/thesis.tex").write_text("years of work")
    (root / "ppo/9/run.json").write_text("{")
    assert main(["runs", str(root), "--state", "damaged", "--remove", "--yes"]) == DataError.exit_code
    assert "theirs: its run.json is not of playfield" in capsys.readouterr().out
    assert (root / "theirs/thesis.tex").exists()
    assert not (root / "ppo/9").exists()


def test_looking_at_a_lock_never_keeps_a_training_from_taking_it(tmp_path):
    with RunLock(tmp_path):
        pass
    (tmp_path / "lock").write_text(json.dumps({"pid": 2**22 + 1, "host": os.uname().nodename, "started": "then"}))
    going = True

    def look():
        while going:
            holder(tmp_path)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for t in threads:
        t.start()
    try:
        for _ in range(100):
            with RunLock(tmp_path):
                assert holder(tmp_path)["pid"] == os.getpid()
    finally:
        going = False
        for t in threads:
            t.join()


def test_nothing_is_removed_without_yes(root, capsys):
    before = sorted(root.rglob("*"))
    for what in ("--remove", "--prune"):
        assert main(["runs", str(root), what]) == 2
        told = capsys.readouterr()
        assert "would be removed" in told.out
        assert "add --yes" in told.err
    assert sorted(root.rglob("*")) == before


def test_removing_takes_what_is_listed_and_folders_that_are_empty_then(root):
    assert main(["runs", str(root), "--algo", "a2c", "--remove", "--yes"]) == 0
    assert sorted(p.name for p in root.iterdir()) == ["ppo"]
    assert main(["runs", str(root), "--state", "diverged", "--remove", "--yes"]) == 0
    assert [p.name for p in (root / "ppo").iterdir()] == ["9"]


def test_a_pruned_run_keeps_its_newest_and_best_checkpoint_and_goes_on(root, tmp_path):
    run = root / "ppo/9"
    shutil.copytree(run, tmp_path / "whole")
    old = [p.name for p in checkpoint.checkpoints(run / "checkpoints")]
    assert len(old) == 3
    checkpoint.mark_best(run / "checkpoints", run / "checkpoints" / old[0], 9.0, {})
    assert main(["runs", str(run), "--prune", "--yes"]) == 0
    assert [p.name for p in checkpoint.checkpoints(run / "checkpoints")] == old[-1:]
    assert checkpoint.read_best(run / "checkpoints")["checkpoint"] == old[0]
    assert checkpoint.read_manifest(run / "checkpoints" / "best")["step"] > 0
    longer = playfield.train(resume=run, steps=1024, games=0, film=False, quiet=True)
    whole = playfield.train(resume=tmp_path / "whole", steps=1024, games=0, film=False, quiet=True)
    assert (longer.steps, longer.hash) == (1024, whole.hash)


def test_a_run_whose_newest_checkpoint_is_damaged_is_not_pruned(root, capsys):
    run = root / "ppo/9"
    newest = checkpoint.checkpoints(run / "checkpoints")[-1] / "tensors.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    assert main(["runs", str(run), "--prune", "--yes"]) == DataError.exit_code
    assert "newest checkpoint is damaged" in capsys.readouterr().out
    assert len(checkpoint.checkpoints(run / "checkpoints")) == 3


def test_pruning_drops_the_replay_buffer_of_a_finished_run_only(tmp_path, capsys):
    small = {"steps": 400, "learning_starts": 200, "film": False, "tensorboard": False, "quiet": True, "games": 0}
    playfield.train("CartPole-v1", "dqn", run=tmp_path / "d", **small)
    info = json.loads((tmp_path / "d/run.json").read_text())
    (tmp_path / "d/run.json").write_text(json.dumps({**info, "steps": 800}))
    assert main(["runs", str(tmp_path), "--prune", "--yes"]) == 0
    assert any((tmp_path / "d/replay").rglob("*.seg"))
    (tmp_path / "d/run.json").write_text(json.dumps(info))
    assert main(["runs", str(tmp_path), "--prune", "--yes"]) == 0
    assert "cannot be trained longer" in capsys.readouterr().out
    assert not (tmp_path / "d/replay").exists()
    with pytest.raises(UsageError, match="replay"):
        playfield.train(resume=tmp_path / "d", steps=900, quiet=True)


def test_csv_and_json_hold_the_same(root, capsys):
    assert main(["runs", str(root), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert main(["runs", str(root), "--csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert list(rows[0]) == list(records.COLUMNS)
    assert len(rows) == len(told) == 3
    for row, record in zip(rows, told, strict=True):
        assert row["run"] == record["run"]
        assert int(row["step"]) == record["step"]
        assert record["score"] is None or math.isclose(float(row["score"]), record["score"])


def test_a_resume_takes_back_that_a_run_has_diverged(root):
    with pytest.raises(DivergedError):
        playfield.train(resume=root / "ppo/10", quiet=True, games=0, film=False)
    info = json.loads((root / "ppo/10/run.json").read_text())
    assert info["diverged"]["why"]
    info["diverged"] = "now"
    (root / "ppo/10/run.json").write_text(json.dumps(info))
    assert by_name(playfield.list_runs(root))["ppo/10"]["state"] == "damaged"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--state", "done"], "no state called 'done'"),
        (["--sort", "scor"], "did you mean score"),
        (["--remove", "--prune"], "not both"),
        (["--json", "--csv"], "not both"),
        (["--yes"], "--yes goes with"),
        (["--remove", "--json"], "prints no --json"),
        (["--seed", "1.5"], "--seed"),
    ],
)
def test_mistakes(words, said, root, capsys):
    assert main(["runs", str(root), *words]) == 2
    assert said in capsys.readouterr().err
