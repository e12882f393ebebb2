"""Checkpoints when the writer dies, or the disk refuses, at every point of a save."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from checkpoint_examples import example, same
from playfield.errors import DataError, StorageError
from playfield.runs import checkpoint, storage
from playfield.runs.checkpoint import load, save


class Crash(BaseException):
    """Stands for SIGKILL: nothing in the module catches it, so nothing is tidied up."""


def points_of(monkeypatch: pytest.MonkeyPatch, action: Any) -> list[str]:
    seen: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(storage, "fault_point", seen.append)
        action()
    return seen


def fail_at(n: int, error: BaseException) -> Any:
    count = iter(range(10**6))

    def fault(point: str) -> None:
        if next(count) == n:
            raise error

    return fault


@pytest.mark.parametrize("kind", ["crash", "disk full"])
@pytest.mark.parametrize("action", ["new", "replace", "best"])
def test_every_fault_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, action: str) -> None:
    def prepare(directory: Path) -> Any:
        for step in (1, 2):
            save(directory, step, example(step), {}, keep=2)
        if action == "best":
            for step in (1, 2):
                checkpoint.mark_best(directory, directory / f"ckpt-{step:012d}", 1.0 * step, {})
            return lambda: checkpoint.mark_best(directory, directory / "ckpt-000000000001", 3.0, {})
        step = 3 if action == "new" else 2
        return lambda: save(directory, step, example(9), {}, keep=2)

    points = points_of(monkeypatch, prepare(tmp_path / "probe"))
    assert len(points) >= 12, points
    assert {"fsync manifest.json"} <= set(points) or action == "best"
    outcomes = set()
    for n in range(len(points)):
        directory = tmp_path / str(n)
        run = prepare(directory)
        with monkeypatch.context() as patch:
            if kind == "crash":
                patch.setattr(storage, "fault_point", fail_at(n, Crash()))
                with pytest.raises(Crash):
                    run()
            else:
                patch.setattr(storage, "fault_point", fail_at(n, OSError(errno.ENOSPC, "No space left on device")))
                with pytest.raises(StorageError, match="No space left on device"):
                    run()
                assert not [path for path in directory.rglob("*.tmp-*") if ".gone" not in path.name], points[n]
        target = directory / "best" if action == "best" else directory
        found = load(target)
        if action == "best":
            assert found.step in (1, 2)
            outcomes.add(found.step)
        else:
            old, new = same(found.tree, example(2)), same(found.tree, example(9))
            assert old or new, points[n]
            outcomes.add(new)
        assert found.skipped == []
        save(directory, 4, example(4), {}, keep=2)  # the next start tidies up
        assert load(directory).step == 4
        assert not list(directory.rglob("*.tmp-*")) + list(directory.glob("*.old")), points[n]
        if action == "best":
            assert load(directory / "best").step == found.step
    assert len(outcomes) == 2  # some points come before the new one is valid, some after


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
from playfield.runs import checkpoint
from playfield.errors import PlayfieldError
assert "torch" not in sys.modules
directory, kills = Path(sys.argv[1]), int(sys.argv[2])
def tree(step):
    return {"step": step, "x": np.full(100_000 + step % 7, step), "y": [np.array(step), {"z": step}]}
rng, low, lost = random.Random(1), 0, 0
checkpoint.save(directory, 1, tree(1), {})
start = time.perf_counter(); checkpoint.save(directory, 1, tree(1), {}); took = time.perf_counter() - start
for kill in range(kills):
    child = os.fork()
    if child == 0:
        step = checkpoint.load(directory).step
        while True:
            step += random.randrange(2)  # sometimes the same step again
            checkpoint.save(directory, step, tree(step), {}, keep=2)
            if random.randrange(2):
                checkpoint.mark_best(directory, directory / f"ckpt-{step:012d}", step, {})
    time.sleep(rng.uniform(0, 4 * took))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    try:
        found = checkpoint.load(directory)
        assert found.tree["step"] == found.step >= low and (found.tree["x"] == found.step).all()
        low = found.step
        assert not found.skipped, found.skipped
        if list(directory.glob("best*/")):
            paths = [p for p in directory.glob("best*") if ".tmp" not in p.name]
            if paths: checkpoint.load(directory / "best")
    except (PlayfieldError, AssertionError) as error:
        lost += 1
        print("lost:", error)
print("kills", kills, "lost", lost, "steps", low)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs fork and SIGKILL")
def test_kill_9_inside_save_never_loses_a_checkpoint(tmp_path: Path) -> None:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), "40"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "kills 40 lost 0" in done.stdout, done.stdout
    assert int(done.stdout.split()[-1]) > 0  # it did save in between


def test_leftovers_of_dead_writers_go_and_of_live_ones_stay(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    dead = tmp_path / f"ckpt-000000000009.tmp-{process.pid}"
    live = tmp_path / f"ckpt-000000000009.tmp-{os.getppid()}"
    for path in (dead, live):
        path.mkdir(parents=True)
    (tmp_path / f".last.tmp-{process.pid}-0").touch()
    save(tmp_path, 1, {}, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["ckpt-000000000001", live.name, "last"])


def damage(path: Path, how: str) -> None:
    """Spoil a checkpoint: a bit that only the sha256 can tell, a file cut short, or no manifest."""
    file = path / ("manifest.json" if how == "manifest" else "tensors.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    if how == "manifest":
        file.unlink()
    else:
        file.write_bytes(data[:-9] if how == "cut" else data)


@pytest.mark.parametrize("how", ["bit", "cut", "manifest"])
@pytest.mark.parametrize("keep", [1, 2, 3])
def test_going_on_past_damaged_checkpoints_never_costs_the_last_good_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, keep: int
) -> None:
    """The two newest of three are damaged; the run goes on, over the same steps and beyond."""
    for step in (10, 20, 30):
        save(tmp_path, step, example(step), {})
    for step in (20, 30):
        damage(tmp_path / f"ckpt-{step:012d}", how)
    spoiled = {step: (tmp_path / f"ckpt-{step:012d}" / "tree.json").read_bytes() for step in (20, 30)}
    good: list[int] = []

    def look(point: str) -> None:
        good.append(load(tmp_path).step)

    monkeypatch.setattr(storage, "fault_point", look)
    found = checkpoint.take_over(tmp_path)
    assert found is not None
    assert same(found.tree, example(10))
    assert [note.partition(": ")[0] for note in found.skipped] == ["ckpt-000000000030", "ckpt-000000000020"]
    for note, step in zip(found.skipped, (30, 20), strict=True):
        assert note.endswith(f"; moved to ckpt-{step:012d}.damaged")
    steps = [10, 15, 20, 25, 30, 35, 40]
    for step in steps[1:]:
        save(tmp_path, step, example(step), {}, keep=keep)
        assert load(tmp_path).step == step
        assert load(tmp_path).skipped == []
        assert [load(path).step for path in checkpoint.checkpoints(tmp_path)] == steps[: steps.index(step) + 1][
            -keep:
        ]
    assert good == sorted(good)
    assert len(good) > 60
    for step, tree in spoiled.items():
        assert (tmp_path / f"ckpt-{step:012d}.damaged" / "tree.json").read_bytes() == tree
    again = checkpoint.take_over(tmp_path)
    assert again is not None
    assert (again.step, again.skipped) == (40, [])


def test_the_same_step_damaged_twice_overwrites_nothing(tmp_path: Path) -> None:
    for attempt in (1, 2, 3):
        for step in (10, 20):
            save(tmp_path, step, example(attempt), {})
        damage(tmp_path / "ckpt-000000000020", "bit")
        assert checkpoint.take_over(tmp_path).step == 10  # type: ignore[union-attr]
    names = [f"ckpt-000000000020.damaged{suffix}" for suffix in ("", "-2", "-3")]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ckpt-000000000010", *names, "last"]
    trees = {(tmp_path / name / "tree.json").read_bytes() for name in names}
    assert len(trees) == 3


def test_pruning_does_not_count_what_is_plainly_damaged(tmp_path: Path) -> None:
    """Damage that comes while the run writes on: only the good ones are counted, nothing damaged is removed."""
    for step in (1, 2, 3):
        save(tmp_path, step, example(step), {})
    damage(tmp_path / "ckpt-000000000002", "cut")
    damage(tmp_path / "ckpt-000000000003", "manifest")
    for step in (4, 5, 6):
        save(tmp_path, step, example(step), {}, keep=2)
    assert [int(path.name[5:]) for path in checkpoint.checkpoints(tmp_path)] == [2, 3, 5, 6]


def test_a_good_replaced_checkpoint_survives_its_damaged_successor(tmp_path: Path) -> None:
    """A crash left both, and then the new one went bad: the old one must not be tidied away."""
    save(tmp_path, 7, example(1), {}).rename(tmp_path / "ckpt-000000000007.old")
    damage(save(tmp_path / "new", 7, example(2), {}), "bit")
    (tmp_path / "new" / "ckpt-000000000007").rename(tmp_path / "ckpt-000000000007")
    found = checkpoint.take_over(tmp_path)
    assert found is not None
    assert same(found.tree, example(1))
    save(tmp_path, 8, example(3), {})
    assert same(load(tmp_path / "ckpt-000000000007").tree, example(1))
    assert (tmp_path / "ckpt-000000000007.damaged").is_dir()


def test_a_damaged_best_is_set_aside_too(tmp_path: Path) -> None:
    for step in (1, 2):
        checkpoint.mark_best(tmp_path, save(tmp_path, step, example(step), {}), 1.0 * step, {})
    damage(tmp_path / "ckpt-000000000002", "bit")  # one file with two names, where there are hard links
    damage(tmp_path / "best", "cut")
    found = checkpoint.take_over(tmp_path)
    assert found is not None
    assert found.step == 1
    assert found.skipped[1].startswith("best: tensors.safetensors is damaged")
    assert found.skipped[1].endswith("; moved to best.damaged")
    assert not (tmp_path / "best").exists()
    checkpoint.mark_best(tmp_path, save(tmp_path, 2, example(2), {}), 2.0, {})
    assert load(tmp_path / "best").step == 2


def test_taking_over_nothing_and_only_damaged_ones(tmp_path: Path) -> None:
    assert checkpoint.take_over(tmp_path / "none") is None
    (tmp_path / "ckpt-000000000003.tmp-999999999").mkdir()  # killed inside the very first save
    assert checkpoint.take_over(tmp_path) is None
    damage(save(tmp_path, 1, example(1), {}), "bit")
    with pytest.raises(DataError, match="is damaged"):
        checkpoint.take_over(tmp_path)
    assert (tmp_path / "ckpt-000000000001").is_dir()


@pytest.mark.skipif(os.name == "nt", reason="needs resource limits")
def test_a_real_file_size_limit(tmp_path: Path) -> None:
    script = """
    import resource, sys, numpy as np
    from playfield.runs import checkpoint
    from playfield.errors import DataError, StorageError
    checkpoint.save(sys.argv[1], 1, {"x": np.zeros(10)}, {})
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    for action in (lambda: checkpoint.save(sys.argv[1], 2, {"x": np.zeros(100_000)}, {}),
                   lambda: checkpoint.atomic_write(sys.argv[1] + "/last", bytes(200_000))):
        try:
            action()
        except StorageError as error:
            print(error.exit_code, error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    lines = done.stdout.splitlines()
    assert [line.startswith("5 cannot") and line.endswith("File too large") for line in lines] == [True, True]
    assert load(tmp_path).step == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ckpt-000000000001", "last"]
    assert (tmp_path / "last").read_text() == "ckpt-000000000001\n"
