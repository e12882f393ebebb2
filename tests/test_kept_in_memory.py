"""What a long training and the live page keep in memory is bounded, however many games were played."""

from __future__ import annotations

import gc
import itertools
import json
import random
import tracemalloc
import types
import weakref
from pathlib import Path

import numpy as np
import pytest

from playfield.envs.base import Episode
from playfield.play import agent
from playfield.play.statistics import moving_mean
from playfield.runs.logger import Sinks, read_monitor
from playfield.runs.storage import atomic_write
from playfield.show.watch import rundata
from playfield.show.watch.game import Session, Source
from ppo_runs import SMALL, named
from watch_fixtures import add_checkpoint, make_run

FIRST = f"#{json.dumps({'t_start': 0, 'env_id': 'x'})}\nr,l,t,step\n"


def games(first: int, last: int) -> str:
    return "".join(f"{(i * i) % 19}.5,5,{i}.25,{5 * i}\n" for i in range(first, last))


def test_a_line_of_a_million_points_is_kept_as_at_most_300() -> None:
    line, called = rundata.Line(), []
    for i in range(1_000_000):
        line.add(i, lambda i=i: called.append(i) or float(i))  # type: ignore[misc, func-returns-value]
    points = line.points()
    assert 150 <= len(points) <= rundata.POINTS
    assert len(line._kept) <= rundata.POINTS
    assert points[0] == (0, 0.0)
    assert points[-1] == (999_999, 999_999.0)
    assert len({b - a for (a, _), (b, _) in itertools.pairwise(points[:-1])}) == 1  # evenly spaced
    assert len(called) < 5000  # means of games that are not drawn are not computed


@pytest.mark.parametrize("n", [1, 2, 3, 298, 299, 300, 301, 598, 599, 600, 601, 5000])
def test_a_line_has_its_first_and_its_last_point_once(n: int) -> None:
    line = rundata.Line()
    for i in range(n):
        line.add(i, lambda i=i: float(i))  # type: ignore[misc]
    steps = [step for step, _ in line.points()]
    assert steps == sorted(set(steps))
    assert steps[0] == 0
    assert steps[-1] == n - 1
    assert steps == list(range(n)) if n <= rundata.POINTS - 1 else len(steps) <= rundata.POINTS


def test_a_look_at_a_long_run_takes_no_more_memory_than_at_a_short_one(tmp_path: Path) -> None:
    (tmp_path / "monitor.csv").write_text(FIRST + games(1, 30_001))
    curve = rundata.Curve(tmp_path)
    tracemalloc.start()
    try:
        found = curve.look()
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found is not None
    assert found["games"] == 30_000
    assert kept < 200_000, kept
    assert peak < 400_000, peak


def test_a_look_reads_only_the_new_games(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []
    real = rundata.MonitorLines.game
    monkeypatch.setattr(rundata.MonitorLines, "game", lambda self, line: (read.append(line), real(self, line))[1])
    path, curve = tmp_path / "monitor.csv", rundata.Curve(tmp_path)
    path.write_text(FIRST + games(1, 1001))
    first = curve.look()
    assert len(read) == 1002
    assert curve.look() == first
    assert len(read) == 1002
    with open(path, "a") as file:
        file.write(games(1001, 1011))
    found = curve.look()
    assert len(read) == 1012
    assert found is not None
    assert found["games"] == 1010
    assert found["step"] == 5050


def test_looks_while_it_grows_give_the_moving_mean(tmp_path: Path) -> None:
    text, path, curve, at = FIRST + games(1, 2001), tmp_path / "monitor.csv", rundata.Curve(tmp_path), 0
    pieces = random.Random(3)
    while at < len(text):  # cut anywhere: also within a line
        step = pieces.randrange(1, 3000)
        with open(path, "a") as file:
            file.write(text[at : at + step])
        at += step
        found = curve.look()
        whole = read_monitor(path) if path.read_text().count("\n") > 1 else []
        assert (found is None) == (not whole)
        if found is not None:
            means = dict(zip([g[0] for g in whole], moving_mean([g[1] for g in whole], 100), strict=True))
            assert found["games"] == len(whole)
            assert found["points"][-1][0] == found["step"] == whole[-1][0]
            assert found["points"] == [[step, pytest.approx(means[step], abs=6e-4)] for step, _ in found["points"]]
    assert found == rundata.Curve(tmp_path).look()


def test_a_table_that_was_cut_back_or_replaced_is_read_again(tmp_path: Path) -> None:
    path, curve = tmp_path / "monitor.csv", rundata.Curve(tmp_path)
    path.write_text(FIRST + games(1, 101))
    assert curve.look()["games"] == 100  # type: ignore[index]
    with open(path, "r+") as file:  # the same file, other and more games: as after a resume
        file.write(FIRST + games(1, 51) + games(1051, 2051))
    found = curve.look()
    assert found["games"] == 1050
    assert found == rundata.Curve(tmp_path).look()
    atomic_write(path, FIRST + games(1, 1051) + games(3000, 3500))
    assert curve.look() == rundata.Curve(tmp_path).look()
    path.write_text(FIRST + games(1, 11))
    assert curve.look()["games"] == 10  # type: ignore[index]
    path.unlink()
    assert curve.look() is None
    path.write_text(FIRST + games(1, 11) + "x,y,z\n")
    assert curve.look() is None
    assert curve.look() is None
    path.write_text(FIRST + games(1, 6))
    assert curve.look()["games"] == 5  # type: ignore[index]


def test_a_large_table_comes_in_several_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rundata, "MAX_BYTES", 10_000)
    (tmp_path / "monitor.csv").write_text(FIRST + games(1, 2001))
    curve = rundata.Curve(tmp_path)
    counts = [curve.look()["games"] for _ in range(6)]  # type: ignore[index]
    assert 0 < counts[0] < counts[1] < counts[-1] == 2000


def test_the_means_of_metrics_stand_in_where_there_are_no_games(tmp_path: Path) -> None:
    path, curve = tmp_path / "metrics.csv", rundata.Curve(tmp_path)
    path.write_text("step,rollout/ep_rew_mean\n10,1.5\n20,nan\n30,\nx,1\n40,2.25\n50,2")
    assert curve.look() == {"points": [[10, 1.5], [40, 2.25]], "is": "mean score", "games": 0, "step": 40}
    atomic_write(path, "step,a,rollout/ep_rew_mean\n10,0,1.5\n40,0,2.25\n50,0,3.5\n")  # a new column
    assert curve.look() == {"points": [[10, 1.5], [40, 2.25], [50, 3.5]], "is": "mean score", "games": 0, "step": 50}
    (tmp_path / "monitor.csv").write_text(FIRST + games(1, 2))
    assert curve.look() == {"points": [[5, 1.5]], "is": "mean score", "games": 1, "step": 5}


def test_a_checkpoint_that_is_followed_frees_those_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run", steps=(100,))
    made: list[weakref.ref[object]] = []

    def load(*args: object, **options: object) -> object:
        policy = agent.load_policy(*args, **options)  # type: ignore[arg-type]
        made.append(weakref.ref(policy))
        return policy

    monkeypatch.setattr("playfield.show.watch.game.load_policy", load)
    source = Source(str(run))
    session = Session(source, 1)
    for step in range(200, 800, 100):
        add_checkpoint(run, source.spec, "mlp", step)
        assert session.follow()
        assert not session.follow()
        session.advance()
    gc.collect()
    assert len(made) == 7
    assert sum(one() is not None for one in made) <= 4
    session.close()


def test_a_training_keeps_no_list_of_its_games(tmp_path: Path) -> None:
    rollouts = [types.SimpleNamespace(env=types.SimpleNamespace(num_envs=1), episodes=[], seconds={})]
    kept = {}
    for sinks in (None, Sinks(tmp_path, "x", tensorboard=False, console=False)):
        run = named("CartPole-v1", SMALL, 10**9, sinks=sinks)
        tracemalloc.start()
        try:
            for step in range(5000):
                rollouts[0].episodes = [(0, Episode(0, float(np.float64(step)), 20))]
                run.step += 20
                run.record(rollouts)
            kept[sinks is None] = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert run.games == 5000
        assert len(run.history) == (5000 if sinks is None else 0)
        run.close()
    assert len(read_monitor(tmp_path / "monitor.csv")) == 5000
    assert kept[False] < 100_000 < kept[True], kept
