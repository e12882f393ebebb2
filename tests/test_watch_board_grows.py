"""A folder on the live page: what is kept of a run and read of it does not grow with the number of its games."""

from __future__ import annotations

import json
import shutil
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import playfield
from playfield.experiments import compare, live
from playfield.runs.info import read_info
from playfield.runs.lock import RunLock
from playfield.runs.logger import read_monitor
from playfield.runs.monitor import MonitorLines
from playfield.show.watch import board, rundata
from watch_fixtures import make_run

FIRST = f"#{json.dumps({'t_start': 0, 'env_id': 'x'})}\nr,l,t,step\n"


def games(first: int, last: int, each: int = 1) -> str:
    """Games `first` to `last` - 1, `each` of which end at one step, in no order of their scores."""
    return "".join(f"{(i * i) % 19}.5,5,{i}.25,{5 * (i // each + 1)}\n" for i in range(first, last))


@pytest.fixture
def run(tmp_path) -> Path:
    folder = make_run(tmp_path / "exp" / "1", steps=(100,))
    change(folder, steps=10**7)
    return folder


def change(run: Path, **more) -> None:
    (run / "run.json").write_text(json.dumps(json.loads((run / "run.json").read_text()) | more))


def append(run: Path, text: str) -> None:
    with open(run / "monitor.csv", "a") as file:
        file.write(text)


def looked(reader: live.Reader) -> dict[str, board.Run]:
    return {one.directory.name: one for one in reader.look().runs}


def same_as_the_whole(run: Path, one: board.Run) -> None:
    """Row and curve are those of all games, read at once."""
    record = playfield.list_runs(run)[0]
    assert one.cells["score"] == pytest.approx(record["score"], abs=1e-12)
    whole = compare.read_curve(run, read_info(run), 100)
    means: dict[int, list[float]] = {}
    for step, mean in zip(whole.steps.astype(int).tolist(), whole.values.tolist(), strict=True):
        means.setdefault(step, []).append(mean)
    assert len(one.steps) <= rundata.POINTS + 1
    assert (one.steps[0], one.steps[-1]) == (whole.steps[0], whole.steps[-1])
    assert (np.diff(one.steps) >= 0).all()
    assert one.means[-1] == pytest.approx(whole.values[-1], abs=1e-12)
    for step, mean in zip(one.steps.astype(int).tolist(), one.means.tolist(), strict=True):
        assert any(mean == pytest.approx(m, abs=1e-12) for m in means[step])


def test_looks_while_a_run_grows_give_what_all_games_give(run):
    reader, n = live.Reader(run.parent), 0
    (run / "monitor.csv").write_text(FIRST)
    for more in (1, 2, 97, 1, 200, 3000, 8, 5000):
        append(run, games(n, n + 8 * more, each=8))
        n += 8 * more
        same_as_the_whole(run, looked(reader)["1"])
    assert n == 8 * 8309


def test_only_new_games_are_read_and_little_is_kept(run, monkeypatch):
    read: list[bytes] = []
    real = MonitorLines.game
    (run / "monitor.csv").write_text(FIRST + games(0, 1000))
    with monkeypatch.context() as watched:
        watched.setattr(MonitorLines, "game", lambda self, line: (read.append(line), real(self, line))[1])
        live.Reader(run.parent).look()
    assert len(read) == 1002, "once, at the first look, too"
    read.clear()
    append(run, games(1000, 20_000))
    reader = live.Reader(run.parent)
    tracemalloc.start()
    try:
        reader.look()
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 300_000, kept
    assert peak < 1_000_000, peak
    monkeypatch.setattr(MonitorLines, "game", lambda self, line: (read.append(line), real(self, line))[1])
    append(run, games(20_000, 20_010))
    same = looked(reader)["1"]
    assert len(read) == 10
    assert len(same.steps) <= rundata.POINTS + 1
    with RunLock(run):  # its state changes, its games do not
        assert looked(reader)["1"].cells["state"] == "running"
    assert len(read) == 10


def test_a_large_table_is_read_over_several_looks(run, monkeypatch):
    monkeypatch.setattr(rundata, "MAX_BYTES", 20_000)
    (run / "monitor.csv").write_text(FIRST + games(0, 4000))
    reader = live.Reader(run.parent)
    last = [looked(reader)["1"].steps[-2] for _ in range(6)]  # the very last one is where the run is
    assert last == sorted(last)
    assert last[0] < last[1] < last[-1] == last[-2]
    same_as_the_whole(run, looked(reader)["1"])
    assert reader.look() is reader.look()


def test_games_beyond_the_total_count_once_the_run_is_made_longer(run):
    change(run, steps=1000)
    (run / "monitor.csv").write_text(FIRST + games(0, 400))
    reader = live.Reader(run.parent)
    one = looked(reader)["1"]
    assert one.steps[-1] == 1000
    same_as_the_whole(run, one)
    change(run, steps=1500)
    one = looked(reader)["1"]
    assert one.steps[-1] == 1500
    same_as_the_whole(run, one)


def test_runs_come_and_go_and_come_again(run):
    (run / "monitor.csv").write_text(FIRST + games(0, 50))
    reader = live.Reader(run.parent)
    assert set(looked(reader)) == {"1"}
    shutil.copytree(run, run.with_name("2"))
    change(run.with_name("2"), seed=2)
    append(run.with_name("2"), games(50, 60))
    found = looked(reader)
    assert set(found) == {"1", "2"}
    assert found["2"].steps[-1] > found["1"].steps[-2]
    shutil.rmtree(run)
    assert set(looked(reader)) == {"2"}
    assert len(reader._read) == 1
    shutil.copytree(run.with_name("2"), run)  # another run of the same name
    (run / "monitor.csv").write_text(FIRST + games(3, 9))
    assert set(looked(reader)) == {"1", "2"}
    run.with_name("2").joinpath("monitor.csv").unlink()
    found = looked(reader)
    same_as_the_whole(run, found["1"])
    assert found["2"].cells["score"] is None
    assert len(found["2"].steps) == 0


def test_a_table_that_is_cut_back_or_damaged_and_mended(run):
    (run / "monitor.csv").write_text(FIRST + games(0, 500))
    reader = live.Reader(run.parent)
    looked(reader)
    (run / "monitor.csv").write_text(FIRST + games(0, 300) + games(1000, 1100))  # as after a resume
    same_as_the_whole(run, looked(reader)["1"])
    append(run, "x,y,z,0\n")
    bad = looked(reader)["1"]
    assert bad.cells["state"] == "damaged"
    assert "is not a game" in bad.cells["note"]
    assert bad.env == read_info(run)["env"]
    (run / "monitor.csv").write_text(FIRST + games(0, 310))
    same_as_the_whole(run, looked(reader)["1"])


def test_many_short_looks_at_a_long_run_are_quick(run):
    (run / "monitor.csv").write_text(FIRST + games(0, 100_000))
    reader = live.Reader(run.parent)
    reader.look()
    begun = time.process_time()
    for i in range(20):
        append(run, games(100_000 + i, 100_001 + i))
        reader.look()
    assert time.process_time() - begun < 1.0
    assert len(read_monitor(run / "monitor.csv")) == 100_020
