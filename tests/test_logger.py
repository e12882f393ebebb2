"""Sinks, each read back by something else: csv, Stable-Baselines3, TensorBoard's reader."""

from __future__ import annotations

import csv
import errno
import io
import math
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playfield.errors import DataError, StorageError
from playfield.runs import csv_table, logger
from playfield.runs.logger import MetricsCsv, MonitorCsv, Sinks, TensorBoard
from playfield.runs.tree import tree_hash


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def rows_without_time(metrics: MetricsCsv) -> list[dict[str, str]]:
    """The rows without the columns `time/...`: the same for equal runs."""
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in metrics.rows()]


# metrics.csv


@given(
    st.lists(
        st.dictionaries(st.text(st.characters(codec="ascii"), min_size=1), st.floats(), max_size=4),
        max_size=6,
    )
)
@settings(max_examples=40, deadline=None)
def test_metrics_read_back_exactly(tmp_path_factory: pytest.TempPathFactory, log: list[dict[str, float]]) -> None:
    path = tmp_path_factory.mktemp("m") / "metrics.csv"
    log = [{k.replace("\r", "r").replace("\n", "n"): v for k, v in row.items() if k != "step"} for row in log]
    metrics = MetricsCsv(path)
    for step, row in enumerate(log):
        metrics.log(step, row)
    metrics.close()
    if not log:
        assert not path.exists()
        return
    found = read_csv(path)
    assert next(iter(found[0])) == "step"
    for step, (row, want) in enumerate(zip(found, log, strict=True)):
        assert row.pop("step") == str(step)
        got = {k: float(v) for k, v in row.items() if v != ""}
        assert got.keys() == want.keys()
        assert all(got[k] == want[k] or (math.isnan(got[k]) and math.isnan(want[k])) for k in want)


def test_metrics_values_of_every_kind(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    metrics = MetricsCsv(tmp_path / "m.csv")
    values = {
        "a": np.float32(0.1),
        "b": np.int64(3),
        "c": True,
        "d": torch.tensor(0.5),
        "e": "a,\nb",
        "f": np.array(2.0),
    }
    metrics.log(1, values)
    metrics.log(2, {"a": math.inf, "b": -math.inf, "d": math.nan})
    with pytest.raises(TypeError, match="cannot log x"):
        metrics.log(3, {"x": np.zeros(2)})
    assert metrics.rows() == [
        {
            "step": "1",
            "a": repr(float(np.float32(0.1))),
            "b": "3",
            "c": "1",
            "d": "0.5",
            "e": "a, b",
            "f": "2.0",
        },
        {"step": "2", "a": "inf", "b": "-inf", "d": "nan"},
    ]
    metrics.close()


def test_columns_grow_and_a_new_process_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    first = MetricsCsv(path)
    first.log(1, {"a": 1.0})
    first.log(2, {"b": 2.0, "time/fps": 5})
    first.close()
    assert path.read_text() == "step,a,b,time/fps\n1,1.0,,\n2,,2.0,5\n"
    second = MetricsCsv(path)
    second.log(3, {"a": 3.0, "c": 4})
    assert rows_without_time(second)[1:] == [{"step": "2", "b": "2.0"}, {"step": "3", "a": "3.0", "c": "4"}]
    second.close()
    assert path.read_text().splitlines()[0] == "step,a,b,time/fps,c"


def test_truncate_after_is_as_if_the_rest_had_never_been(tmp_path: Path) -> None:
    def write(path: Path, steps: range) -> MetricsCsv:
        metrics = MetricsCsv(path)
        for step in steps:
            metrics.log(step, {"loss": 1 / (step + 1)} | ({"late": 1} if step >= 5 else {}))
        return metrics

    whole = write(tmp_path / "whole.csv", range(9))
    write(tmp_path / "cut.csv", range(7)).close()
    with open(tmp_path / "cut.csv", "ab") as file:
        file.write(b"7,0.12")  # killed while writing
    cut = MetricsCsv(tmp_path / "cut.csv")
    assert len(cut.rows()) == 7
    cut.truncate_after(3)
    cut.close()
    assert (tmp_path / "cut.csv").read_text().splitlines()[0] == "step,loss"
    cut = write(tmp_path / "cut.csv", range(4, 9))
    assert (tmp_path / "cut.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    cut.truncate_after(-1)
    assert cut.rows() == []
    cut.close()
    whole.close()


@pytest.mark.parametrize("content", ["", "step", "step,a\n1,2\n\0\0\0\n", "step,a\n1,2\nx,y\n"])
def test_damaged_tables_are_repaired(tmp_path: Path, content: str) -> None:
    path = tmp_path / "m.csv"
    path.write_text(content)
    metrics = MetricsCsv(path)
    metrics.truncate_after(5)
    metrics.log(6, {"a": 1})
    assert [row["step"] for row in read_csv(path)] == (["1", "6"] if "1,2" in content else ["6"])
    metrics.close()


def test_another_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("name,price\n")
    with pytest.raises(DataError, match="no column step"):
        MetricsCsv(tmp_path / "m.csv")


class FullDisk:
    """A file on which only part of a write succeeds while `full`."""

    def __init__(self, file: Any) -> None:
        self.file, self.full = file, True

    def write(self, data: bytes) -> int:
        if self.full:
            self.file.write(data[:3])
            raise OSError(errno.ENOSPC, "No space left on device")
        return int(self.file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def test_full_disk_loses_no_row_and_flush_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = MetricsCsv(tmp_path / "m.csv")
    metrics.log(1, {"a": 1})
    disk = FullDisk(metrics._table._file)
    metrics._table._file = disk  # type: ignore[assignment]
    metrics.log(2, {"a": 2})
    assert (tmp_path / "m.csv").read_text() == "step,a\n1,1\n"
    with pytest.raises(StorageError, match="No space left") as error:
        metrics.flush()
    assert error.value.exit_code == 5

    def refuse(path: Path, data: str) -> None:
        raise StorageError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(csv_table, "atomic_chunks", refuse)
        metrics.log(3, {"b": 3})
    metrics.log(4, {"a": 4})
    metrics.close()
    assert [row["step"] for row in read_csv(tmp_path / "m.csv")] == ["1", "2", "3", "4"]


# monitor.csv


def test_monitor_format_and_truncation(tmp_path: Path) -> None:
    path = tmp_path / "monitor.csv"
    monitor = MonitorCsv(path, "breakout", 1700000000.5)
    monitor.episode(10, 7, 250, 1.25)
    monitor.episode(20, 0.1, 300, 2.5)
    monitor.close()
    want = '#{"t_start": 1700000000.5, "env_id": "breakout"}\nr,l,t,step\n7.0,250,1.25,10\n'
    assert path.read_text() == want + "0.1,300,2.5,20\n"
    monitor = MonitorCsv(path, "breakout", 1.0)
    monitor.truncate_after(10)
    assert path.read_text() == want
    monitor.episode(30, 3, 9, 4)
    assert path.read_text() == want + "3.0,9,4.0,30\n"
    monitor.close()
    with pytest.raises(ValueError, match=r"monitor\.csv"):
        MonitorCsv(tmp_path / "games.csv", "breakout", 0)


def test_stable_baselines3_reads_monitor_csv(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    monitor_module = pytest.importorskip("stable_baselines3.common.monitor")
    monitor = MonitorCsv(tmp_path / "monitor.csv", "breakout", 100.0)
    monitor.episode(10, 7, 250, 1.25)
    monitor.episode(20, math.nan, 300, 2.5)
    monitor.close()
    frame = monitor_module.load_results(str(tmp_path))
    assert list(frame["l"]) == [250, 300]
    assert frame["r"][0] == 7.0
    assert list(frame["step"]) == [10, 20]
    assert list(frame["t"]) == [1.25, 2.5]


# TensorBoard


def scalars(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run_dir), size_guidance={"scalars": 0})
    found.Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_tensorboard_reads_back_with_purge_on_resume(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    assert list(tmp_path.iterdir()) == []
    for step in (1, 2, 3, 4):
        board.log(step, {"train/loss": step / 2, "rollout/ep_rew_mean": math.inf, "note": "text"})
    board.close()
    again = TensorBoard(tmp_path)  # within the same second, as after a crash
    again.resume(2)
    again.log(3, {"train/loss": 30})
    again.log(4, {"train/loss": math.nan, "train/huge": 1e300, "train/big": 2**70})
    again.close()
    found = scalars(tmp_path)
    assert found["train/loss"][:3] == [(1, 0.5), (2, 1.0), (3, 30.0)]
    assert math.isnan(found["train/loss"][3][1])
    assert found["rollout/ep_rew_mean"] == [(1, math.inf), (2, math.inf)]
    assert found["train/huge"] == [(4, math.inf)]
    assert found["train/big"] == [(4, 2.0**70)]


def test_tensorboard_goes_off_when_the_disk_refuses(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    board = TensorBoard(tmp_path / "file")
    board.log(1, {"a": 1})
    board.log(2, {"a": 1})
    assert board.error.startswith("TensorBoard is off: ")
    board.close()


# all of them


def play(run_dir: Path, steps: range, resume: int | None = None, clock: list[float] | None = None) -> None:
    now = clock if clock is not None else [0.0]
    with Sinks(run_dir, "breakout", console=False, tensorboard=False, clock=lambda: now[0]) as all_sinks:
        if resume is not None:
            all_sinks.resume(resume)
        for step in steps:
            now[0] += 0.7
            if step % 3 == 0:
                all_sinks.episode(step, math.sin(step) * 100, step * 7)
            values: dict[str, Any] = {"train/loss": math.cos(step), "absent": None}
            all_sinks.log(step, values | ({"eval/mean_reward": step} if step % 50 == 0 else {}))
            if step % 40 == 0:
                all_sinks.flush()


def test_a_killed_and_resumed_run_has_the_same_tables(tmp_path: Path) -> None:
    play(tmp_path / "whole", range(1, 401))
    play(tmp_path / "cut", range(1, 371))
    play(tmp_path / "cut", range(341, 390), resume=340, clock=[5.5])
    play(tmp_path / "cut", range(361, 401), resume=360, clock=[99.0])
    whole, cut = (MetricsCsv(tmp_path / name / "metrics.csv") for name in ("whole", "cut"))
    assert tree_hash(rows_without_time(whole)) == tree_hash(rows_without_time(cut))
    assert whole.rows()[0].keys() >= {"step", "train/loss", "time/fps", "time/time_elapsed"}
    assert "rollout/ep_rew_mean" in whole.rows()[2]
    games = [read_csv_after_first_line(tmp_path / name / "monitor.csv") for name in ("whole", "cut")]
    assert [{**g, "t": ""} for g in games[0]] == [{**g, "t": ""} for g in games[1]]
    times = [float(row["time/time_elapsed"]) for row in cut.rows()]
    assert times == sorted(times)
    scores = [float(game["r"]) for game in games[0]]
    last = whole.rows()[-1]
    assert float(last["rollout/ep_rew_mean"]) == pytest.approx(sum(scores[-100:]) / 100)
    assert float(last["time/fps"]) == pytest.approx(1 / 0.7, abs=0.5)
    whole.close()
    cut.close()


def read_csv_after_first_line(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()[1:]))


def test_everything_switched_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Sinks(tmp_path, "breakout", "breakout", 100) as all_sinks:
        all_sinks.log(10, {"train/loss": math.nan})
        all_sinks.episode(15, 3.0, 12)
        all_sinks.log(20, {"train/loss": 0.5})
    found = scalars(tmp_path)
    assert found["rollout/ep_rew_mean"] == [(20, 3.0)]
    assert [step for step, _ in found["train/loss"]] == [10, 20]
    assert len(read_csv(tmp_path / "metrics.csv")) == 2
    assert "ep_rew_mean" in capsys.readouterr().out


def test_tensorboard_failure_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()

    def refuse(self: TensorBoard) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TensorBoard, "_start", refuse)
    with Sinks(tmp_path, stream=stream) as all_sinks:
        all_sinks.log(1, {"a": 1})
        all_sinks.log(2, {"a": 1})
    assert stream.getvalue().count("TensorBoard is off: No space left on device") == 1


def test_importing_sinks_is_light() -> None:
    script = """
    import sys, playfield.runs.logger
    heavy = {"torch", "matplotlib", "gymnasium"} & set(sys.modules)
    assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=30)
    assert logger.WINDOW == 100
