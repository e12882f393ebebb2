"""`playfield bench scaling`: workers as threads and as processes, side by side."""

from __future__ import annotations

import dataclasses
import json
import sys

import pytest

from playfield import bench
from playfield.algos import ppo
from playfield.bench import scaling
from playfield.errors import PlayfieldError, UsageError

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(sys.platform != "linux", reason="processor time of others is read as Linux tells it"),
]


def test_both_kinds_are_measured_and_end_alike(monkeypatch, capsys):
    monkeypatch.setattr(scaling, "WORKERS", (1, 2))
    monkeypatch.setattr(scaling, "ENVS", 2)
    few = dataclasses.replace(ppo.PRESETS["atari"]["default"], rollout_steps=16, minibatches=2)
    monkeypatch.setitem(ppo.PRESETS["atari"], "default", few)
    monkeypatch.setattr(scaling, "cores", lambda: 2)
    out = bench.main("scaling", steps=64, rounds=1, preset="default", json=True)
    assert json.loads(capsys.readouterr().out) == out
    assert list(out["sides"]) == ["1 threads", "2 threads", "2 processes", "2 alone"]
    for name, side in out["sides"].items():
        assert side["processor_ms"] > 0
        assert (side["speed"] is None) == ("alone" in name)
        assert side["predicted"]["speed"] > 0


def test_predictions_follow_from_processor_time_and_no_speed_is_told_of_workers_that_take_turns():
    table = {
        "1 threads": {"processor_ms": 1000.0, "speed": 800.0},
        "2 threads": {"processor_ms": 1250.0, "speed": 1200.0},
        "2 alone": {"processor_ms": 1100.0, "speed": 909.0},
        "4 processes": {"processor_ms": 1600.0, "speed": 900.0},
    }
    assert scaling.with_predictions(table, cores=3) == {
        "1 threads": {
            "processor_ms": 1000.0,
            "speed": 800.0,
            "efficiency": 1.0,
            "predicted": {"speed": 1000.0, "efficiency": 1.0},
        },
        "2 threads": {
            "processor_ms": 1250.0,
            "speed": 1200.0,
            "efficiency": 0.75,
            "predicted": {"speed": 1600.0, "efficiency": 0.8},
        },
        "2 alone": {
            "processor_ms": 1100.0,
            "speed": None,
            "efficiency": None,
            "predicted": {"speed": 1e6 * 2 / 1100.0, "efficiency": 1000.0 / 1100.0},
        },
        "4 processes": {
            "processor_ms": 1600.0,
            "speed": None,
            "efficiency": None,
            "predicted": {"speed": 2500.0, "efficiency": 0.625},
        },
    }
    assert scaling.with_predictions(table, cores=4)["4 processes"]["efficiency"] == 900.0 / 3200.0


def test_the_table_marks_what_is_predicted_and_what_that_assumes(monkeypatch, capsys):
    monkeypatch.setattr(scaling, "WORKERS", (1, 4))
    monkeypatch.setattr(scaling, "cores", lambda: 2)
    monkeypatch.setattr(
        scaling,
        "_measure",
        lambda n, kind, steps, num_envs, preset: {"hash": n, "processor_ms": 1000.0 + 100 * n, "speed": 777.0},
    )
    bench.main("scaling", rounds=1)
    above, head, one, *more, share, assumed = capsys.readouterr().out.splitlines()
    assert head.split()[-4:] == ["steps/s", "efficiency"] * 2
    assert above.index("predicted:") == head.rindex("steps/s")
    assert one.split()[-6:] == ["1,100", "ms", "777", "1.00", "909", "1.00"]
    assert [line.split()[-6:] for line in more] == [["1,400", "ms", "-", "-", "2,857", "0.79"]] * 2
    assert share.split() == ["one's", "share", "of", "4,", "alone", "1,100", "ms", "-", "-", "3,636", "1.00"]
    assert "nothing but processor time limits" in assumed
    assert "docs/design/workers.md" in assumed


def test_other_bits_are_no_result(monkeypatch):
    monkeypatch.setattr(scaling, "WORKERS", (2,))
    monkeypatch.setattr(
        scaling,
        "_measure",
        lambda n, kind, steps, num_envs, preset: {"hash": kind, "processor_ms": 1.0, "speed": 1.0},
    )
    with pytest.raises(PlayfieldError, match="2 workers ended with other bits"):
        bench.main("scaling", rounds=1)
    with pytest.raises(UsageError, match="multiple of 2,048"):
        bench.main("scaling", steps=100)


def test_more_environments_make_larger_minibatches_and_all_numbers_of_workers_share_them(monkeypatch):
    asked = []

    def measure(n, kind, steps, num_envs, preset):
        asked.append((n, kind, steps, num_envs, preset))
        return {"hash": n, "processor_ms": 1.0, "speed": 1.0}

    monkeypatch.setattr(scaling, "WORKERS", (1, 2, 8))
    monkeypatch.setattr(scaling, "_measure", measure)
    out = bench.main("scaling", rounds=1, num_envs=12)
    together = [(n, kind, 4608, 12, "cleanrl") for n, kind in [(1, "threads"), (2, "threads"), (2, "processes")]]
    assert asked == [*together, (1, "threads", 4608, 6, "cleanrl")]
    assert (out["num_envs"], out["preset"]) == (12, "cleanrl")
    bench.main("scaling", rounds=1, preset="default")
    assert asked[-1] == (1, "threads", 4096, 2, "default")  # four rollouts of 16 environments, 64 steps each
    with pytest.raises(UsageError, match="no preset called 'defaul'"):
        bench.main("scaling", preset="defaul")
    with pytest.raises(UsageError, match="playfield bench kill has no option --num-envs"):
        bench.main("kill", num_envs=12)
