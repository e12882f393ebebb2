"""A run that went on elsewhere: who has an older attempt number writes nothing more. Another processor is named."""

from __future__ import annotations

import errno
import json
import os
import socket

import pytest

from playfield import compute
from playfield.cli import main
from playfield.errors import DataError, DivergedError
from playfield.runs import divergence, fence, lock, logger, storage
from playfield.runs.fence import FencedError

C = "CartPole-v1"
WORDS = ("train", C, "--algo", "ppo", "--steps", "6000", "--seed", "3", "--games", "0", "--quiet", "--no-tensorboard")


def trained(run):
    return json.loads((run / "run.json").read_text())["result"]["hash"]


def published(run):
    return sorted(p.name for p in (run / "checkpoints").iterdir() if "tmp" not in p.name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    run = tmp_path_factory.mktemp("alone") / "run"
    assert main([*WORDS, "--run", str(run)]) == 0
    return run


def test_a_run_that_never_left_its_machine_has_no_attempts(alone):
    assert not (alone / fence.FILE).exists()
    assert fence.read(alone) == 0
    assert fence.enter(alone).own == 0
    fence.Fence(alone, 0).check()


def test_a_fenced_writer_publishes_nothing_and_the_later_attempt_ends_with_the_same_bits(
    alone, tmp_path, monkeypatch, capsys
):
    run, saves = tmp_path / "run", []
    assert fence.advance(run) == 1

    def point(name):
        if name.startswith("create ckpt-"):
            saves.append(name)
            if len(saves) == 3:  # its checkpoint is being written when the run goes on elsewhere
                saves.append(published(run))
                fence.advance(run)

    monkeypatch.setenv(fence.VARIABLE, f"1:{run}")
    monkeypatch.setattr(storage, "fault_point", point)
    assert main([*WORDS, "--run", str(run)]) == 3
    line = capsys.readouterr().err.strip()
    assert line == (
        f"playfield: {run} went on elsewhere as attempt 2, and this is attempt 1: nothing more is written"
    )
    assert published(run) == saves[3]
    assert len([name for name in saves[3] if name.startswith("ckpt-")]) == 2
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == saves[3], "nothing temporary is left either"

    assert main(["train", "--resume", str(run), "--games", "0", "--quiet"]) == 3, "it is still attempt 1"
    assert published(run) == saves[3]
    monkeypatch.setenv(fence.VARIABLE, f"2:{run}")
    assert main(["train", "--resume", str(run), "--games", "0", "--quiet"]) == 0
    assert trained(run) == trained(alone)
    assert fence.read(run) == 2


def test_a_fenced_writer_notices_at_its_last_checkpoint(tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    fence.advance(run)
    monkeypatch.setenv(fence.VARIABLE, f"1:{run}")
    games = []

    def point(name):
        if "ckpt-" in name and not games:
            fence.advance(run)
            games.append((run / "monitor.csv").read_bytes())

    monkeypatch.setattr(storage, "fault_point", point)
    words = [*WORDS, "--save-seconds", "1e9"]
    assert main([*words, "--run", str(run)]) == 3
    assert "as attempt 2" in capsys.readouterr().err
    assert (run / "monitor.csv").read_bytes() == games[0]


def test_a_fenced_writer_notices_between_checkpoints_too(tmp_path, monkeypatch, capsys):
    """It would add its games to the table of the later attempt."""
    run, games = tmp_path / "run", []
    fence.advance(run)
    monkeypatch.setenv(fence.VARIABLE, f"1:{run}")
    monkeypatch.setattr(fence, "PERIOD", 0.0)
    episode = logger.MonitorCsv.episode

    def ended(*game):
        episode(*game)
        games.append(game[1])
        if len(games) == 5:
            fence.advance(run)

    monkeypatch.setattr(logger.MonitorCsv, "episode", ended)
    # Each tenth of a training there is a checkpoint: after 6,000 steps.
    assert main([*WORDS, "--steps", "60000", "--save-seconds", "1e9", "--run", str(run)]) == 3
    assert "as attempt 2" in capsys.readouterr().err
    assert [game[0] for game in logger.read_monitor(run / "monitor.csv")] == games
    assert max(games) < 3000
    assert not list(run.glob("checkpoints/ckpt-*"))


def test_a_look_is_once_a_second(tmp_path, monkeypatch):
    fence.advance(tmp_path)
    monkeypatch.setattr(fence, "PERIOD", 0.0)
    own = fence.Fence(tmp_path, 1)
    own.look()
    fence.advance(tmp_path)
    with pytest.raises(FencedError):
        own.look()
    monkeypatch.setattr(fence, "PERIOD", 60.0)
    fence.Fence(tmp_path, 1).look()


def test_whoever_resumes_a_run_that_has_left_its_machine_takes_the_next_number(tmp_path, monkeypatch):
    monkeypatch.setenv(fence.VARIABLE, f"7:{tmp_path / 'other'}")
    assert fence.advance(tmp_path) == 1
    own = fence.enter(tmp_path)
    assert (own.own, fence.read(tmp_path)) == (2, 2)
    own.check()
    with pytest.raises(FencedError, match="as attempt 2, and this is attempt 1"):
        fence.Fence(tmp_path, 1).check()
    monkeypatch.setenv(fence.VARIABLE, f"1:{tmp_path}")
    with pytest.raises(FencedError):
        fence.enter(tmp_path)
    assert fence.read(tmp_path) == 2


@pytest.mark.parametrize("text", ["", "x", "-3", "0", "1" * 33])
def test_a_damaged_number_is_said(tmp_path, text):
    (tmp_path / fence.FILE).write_text(text)
    with pytest.raises(DataError, match="attempt"):
        fence.enter(tmp_path)


def test_a_resume_on_another_processor_says_that_bits_may_differ(alone, tmp_path, monkeypatch, capsys):
    stored = json.loads((alone / "run.json").read_text())
    here = compute.processor()
    assert stored["processor"] == here
    other = {"model": "Pretended 9000", "features": f"{here['features']} avx999".strip()}
    monkeypatch.setattr("playfield.training.plan.processor", lambda: other)
    assert main(["train", "--resume", str(alone), "--steps", "7000", "--games", "0"]) == 0
    told = capsys.readouterr().out
    assert f"bits may differ: the run began on another processor, {here['model']} -> Pretended 9000" in told
    assert "only one of the two has avx999" in told
    assert json.loads((alone / "run.json").read_text())["exact"] is False


def test_without_file_locks_the_later_attempt_takes_the_lock_of_a_machine_that_was_lost(tmp_path, monkeypatch):
    def none(fd):
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(lock, "_lock_file", none)
    held = {"pid": 1, "host": "a machine that was lost", "started": "then"}
    (tmp_path / "lock").write_text(json.dumps(held))
    monkeypatch.setenv(fence.VARIABLE, f"2:{tmp_path / 'other'}")
    with pytest.raises(DataError, match="is in use by process 1 on a machine that was lost"):
        lock.RunLock(tmp_path).acquire()
    monkeypatch.setenv(fence.VARIABLE, f"2:{tmp_path}")
    with lock.RunLock(tmp_path) as taken:
        assert "took over the lock of process 1 on a machine that was lost" in taken.note
    (tmp_path / "lock").write_text(json.dumps({**held, "host": socket.gethostname(), "pid": os.getppid()}))
    with pytest.raises(DataError, match="is in use by"):  # one that is alive on this machine has it
        lock.RunLock(tmp_path).acquire()


def test_a_fenced_process_that_diverges_leaves_run_json_as_it_is(tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    fence.advance(run)
    monkeypatch.setenv(fence.VARIABLE, f"1:{run}")
    later = {}

    def diverges(*_):
        fence.advance(run)
        later["run.json"] = (run / "run.json").read_text()
        raise DivergedError("the weights are huge")

    monkeypatch.setattr(divergence, "check", diverges)
    assert main([*WORDS, "--run", str(run)]) == 4
    assert "the weights are huge" in capsys.readouterr().err
    assert (run / "run.json").read_text() == later["run.json"]
