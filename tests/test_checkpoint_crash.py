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
from playfield import checkpoint, storage
from playfield.checkpoint import load, save
from playfield.errors import StorageError


class Crash(BaseException):
    """Stands for SIGKILL: nothing in the module catches it, so nothing is tidied up."""


def points_of(monkeypatch: pytest.MonkeyPatch, action: Any) -> list[str]:
    seen: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(storage, "_fault", seen.append)
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
                patch.setattr(storage, "_fault", fail_at(n, Crash()))
                with pytest.raises(Crash):
                    run()
            else:
                patch.setattr(storage, "_fault", fail_at(n, OSError(errno.ENOSPC, "No space left on device")))
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
from playfield import checkpoint
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
    assert int(done.stdout.split()[-1]) > 3  # it did save in between


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


@pytest.mark.skipif(os.name == "nt", reason="needs resource limits")
def test_a_real_file_size_limit(tmp_path: Path) -> None:
    script = """
    import resource, sys, numpy as np
    from playfield import checkpoint
    from playfield.errors import StorageError
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
