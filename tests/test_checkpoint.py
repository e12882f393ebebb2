"""Checkpoints: exact roundtrips, crashes at every point, damage, and files made to harm."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import random
import shutil
import struct
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from playfield import checkpoint, storage
from playfield.checkpoint import load, save, tree_hash
from playfield.errors import DataError, StorageError

NUMPY = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
NUMPY += ["float16", "float32", "float64", "complex64"]
TORCH = [torch.bool, torch.uint8, torch.int64, torch.uint64, torch.float16, torch.bfloat16, torch.float32]
TORCH += [torch.float64, torch.float8_e4m3fn]


def same(a: Any, b: Any) -> bool:
    """Equality that sees types, dtypes, shapes and bits (also of NaN and -0.0)."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, torch.Tensor):
        bits = [bytes(t.clone(memory_format=torch.contiguous_format).untyped_storage()) for t in (a, b)]
        return a.dtype == b.dtype and a.shape == b.shape and bits[0] == bits[1]
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b) or (math.isnan(a) and math.isnan(b))
    return bool(a == b)


def torch_tensors() -> st.SearchStrategy[torch.Tensor]:
    def make(dtype: torch.dtype, shape: list[int], seed: int) -> torch.Tensor:
        values = torch.from_numpy(np.asarray(np.random.default_rng(seed).normal(size=shape) * 9))
        return values.abs().to(dtype) if dtype in (torch.uint8, torch.uint64) else values.to(dtype)

    shapes = st.lists(st.integers(0, 4), max_size=3)
    return st.builds(make, st.sampled_from(TORCH), shapes, st.integers(0, 99))


arrays = hnp.arrays(st.sampled_from(NUMPY), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
scalars |= st.sampled_from([2**63, -(2**64), 5e-324])
keys = (
    st.text(max_size=6)
    | st.integers(-3, 3)
    | st.sampled_from(["a/b", "$torch", "$dict", "~0", "__metadata__"])
)
trees = st.dictionaries(
    keys,
    st.recursive(
        scalars | arrays | torch_tensors(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(keys, inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
        ),
        max_leaves=10,
    ),
    max_size=4,
)


def example(step: int) -> dict[str, Any]:
    rng = np.random.default_rng(step)
    return {
        "net": {"w": rng.normal(size=(8, 5)).astype(np.float32), "b": rng.normal(size=5)},
        "rng": rng.bit_generator.state,
        "replay": [rng.integers(0, 255, 300, dtype=np.uint8), {"head": step}],
    }


@given(trees)
@settings(max_examples=60, deadline=None)
def test_roundtrip_is_exact(tmp_path_factory: pytest.TempPathFactory, tree: dict[Any, Any]) -> None:
    directory = tmp_path_factory.mktemp("ck")
    found = load(save(directory, 7, tree, {"env": "breakout"}))
    assert same(found.tree, tree)
    assert (found.step, found.meta, found.skipped) == (7, {"env": "breakout"}, [])
    assert tree_hash(found.tree) == tree_hash(tree)


def test_roundtrip_of_generators_optimizer_and_odd_arrays(tmp_path: Path) -> None:
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    base = np.arange(24.0).reshape(4, 6)
    python = random.Random(3)
    tree = {
        "net": dict(net.state_dict()),
        "optimizer": optimizer.state_dict(),
        "python": python.getstate(),
        "torch": torch.get_rng_state(),
        "cut": base[::2, 1::2],
        "fortran": np.asfortranarray(base),
        "big-endian": base.astype(">f4"),
        "scalar": np.float32(0.1),
        "parameter": net.weight,
        "one": [torch.arange(10.0)[::5][1:], np.arange(10.0)[::5][1:], torch.ones(3, 1, 1).expand(3, 1, 2)],
        "long": [2**90000, -(3**90000)],
        "transposed": net.weight.detach().t(),
    }
    got = load(save(tmp_path, 1, tree, {})).tree
    optimizer.load_state_dict(got["optimizer"])
    assert same(got["optimizer"]["state"], optimizer.state_dict()["state"])
    other = random.Random()
    other.setstate(got["python"])
    assert other.random() == python.random()
    assert np.array_equal(got["cut"], base[::2, 1::2])
    assert np.array_equal(got["fortran"], base)
    assert got["big-endian"].dtype == np.float32
    assert got["scalar"] == float(np.float32(0.1))
    assert torch.equal(got["parameter"], net.weight)
    assert [x.tolist() for x in got["one"]] == [[5.0], [5.0], [[[1.0, 1.0]]] * 3]
    assert got["long"] == [2**90000, -(3**90000)]
    assert torch.equal(got["transposed"], net.weight.t())
    got["cut"][0] = 0  # what is loaded can be written to


def test_the_tensor_file_is_plain_safetensors(tmp_path: Path) -> None:
    safe = pytest.importorskip("safetensors.torch")
    tree = {"a": {"w": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)}, "n": np.array([True, False])}
    found = safe.load_file(save(tmp_path, 1, tree, {}) / "tensors.safetensors")
    assert set(found) == {"a/w", "n"}
    assert torch.equal(found["a/w"], tree["a"]["w"])
    assert found["n"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("leaf", "word"),
    [
        (object(), "object"),
        ({1, 2}, "set"),
        (b"x", "bytes"),
        (np.array(["a"], object), "object"),
        (np.array(["a"]), "str"),
        (np.zeros(2, "complex128"), "complex128"),
        (torch.empty(2, device="meta"), "meta"),
        (1j, "complex"),
        (np.ma.masked_array([1]), "MaskedArray"),
    ],
)
def test_other_leaves_are_refused_by_path(tmp_path: Path, leaf: object, word: str) -> None:
    with pytest.raises(TypeError, match=f"net/0/w: .*{word}"):
        save(tmp_path / "d", 1, {"net": [{"w": leaf}]}, {})
    assert not (tmp_path / "d").exists()


def test_refuses_what_it_could_not_load(tmp_path: Path) -> None:
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    with pytest.raises(TypeError, match="nested deeper"):
        save(tmp_path, 1, {"deep": deep}, {})
    with pytest.raises(ValueError, match="arrays"):
        save(tmp_path, 1, {"long": [0] * 2_000_001}, {})
    with pytest.raises(TypeError, match="meta"):
        save(tmp_path, 1, {}, {"x": np.zeros(2)})
    with pytest.raises(TypeError, match="dict key"):
        save(tmp_path, 1, {"a": {(1, 2): 3}}, {})


def test_tree_hash_sees_every_difference() -> None:
    base = {"a": np.zeros(4, np.float32), "b": [1, 2.0], "c": None}
    others = [
        {"a": np.zeros((2, 2), np.float32), "b": [1, 2.0], "c": None},
        {"a": np.zeros(4, np.int32), "b": [1, 2.0], "c": None},
        {"a": np.array([0, 0, 0, 1e-45], np.float32), "b": [1, 2.0], "c": None},
        {"a": np.zeros(4, np.float32), "b": [1.0, 2.0], "c": None},
        {"a": np.zeros(4, np.float32), "b": [1, 2.0], "d": None},
        {"a": np.zeros(4, np.float32), "b": (1, 2.0), "c": None},
    ]
    assert len({tree_hash(tree) for tree in [base, *others]}) == 7
    assert tree_hash({"c": None, "b": [1, 2.0], "a": torch.zeros(4)}) == tree_hash(base)


def test_only_some_keys(tmp_path: Path) -> None:
    save(tmp_path, 5, example(5), {})
    found = load(tmp_path, only=["net"])
    assert same(found.tree, {"net": example(5)["net"]})
    raw = bytearray((tmp_path / "ckpt-000000000005/tensors.safetensors").read_bytes())
    raw[-1] ^= 1  # a byte of the replay: still verified though not wanted
    (tmp_path / "ckpt-000000000005/tensors.safetensors").write_bytes(raw)
    with pytest.raises(DataError, match=r"tensors\.safetensors is damaged"):
        load(tmp_path, only=["net"])


def test_last_prune_best_and_discard(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step, example(step), {})
    checkpoint.mark_best(tmp_path, tmp_path / "ckpt-000000000001", 12.5, {"games": 30})
    for step in (4, 5):
        save(tmp_path, step, example(step), {})
    names = [path.name[-1] for path in checkpoint.checkpoints(tmp_path)]
    assert names == ["1", "3", "4", "5"]
    assert (tmp_path / "last").read_text() == "ckpt-000000000005\n"
    assert same(load(tmp_path / "best").tree, example(1))
    best = checkpoint.read_best(tmp_path)
    assert (best["score"], best["step"], best["meta"]) == (12.5, 1, {"games": 30})
    checkpoint.mark_best(tmp_path, tmp_path / "ckpt-000000000004", 13.0, {})
    assert load(tmp_path / "best").step == 4
    with pytest.raises(ValueError, match="finite"):
        checkpoint.mark_best(tmp_path, tmp_path / "ckpt-000000000004", math.nan, {})
    checkpoint.discard_after(tmp_path, 3)
    assert load(tmp_path).step == 3
    save(tmp_path, 9, example(9), {}, keep=1)
    assert load(tmp_path).step == 9
    assert [path.name[-1] for path in checkpoint.checkpoints(tmp_path)] == ["9"]
    assert load(tmp_path / "best").step == 4


def test_best_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", refuse)
    checkpoint.mark_best(tmp_path, save(tmp_path, 1, example(1), {}), 1.0, {})
    assert same(load(tmp_path / "best").tree, example(1))


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
                assert not [path for path in directory.rglob("*.tmp-*") if ".gone" not in path.name], points[
                    n
                ]
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
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), "60"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "kills 60 lost 0" in done.stdout, done.stdout
    assert int(done.stdout.split()[-1]) > 3  # it did save in between


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("good")
    save(directory, 1, example(1), {"env": "breakout"})
    save(directory, 2, example(2), {"env": "breakout"})
    return directory


def damages() -> list[tuple[str, str, Any]]:
    files = ["manifest.json", "tree.json", "tensors.safetensors"]
    found: list[tuple[str, str, Any]] = []
    for name in files:
        found.append((f"{name} missing", name, None))
        for part in (0.0, 0.1, 0.5, 0.9, 0.999):
            found.append((f"{name} cut at {part}", name, lambda b, part=part: b[: int(len(b) * part)]))
        found.append((f"{name} longer", name, lambda b: b + b"\0"))
    rng = random.Random(0)
    for i in range(100):
        where, bit = rng.random(), 1 << rng.randrange(8)

        def flip(b: bytes, where: float = where, bit: int = bit) -> bytes:
            at = int(where * len(b))
            return b[:at] + bytes([b[at] ^ bit]) + b[at + 1 :]

        found.append((f"flip {i}", rng.choice(files), flip))
    return found


def test_every_damage_is_seen_and_the_previous_one_taken(tmp_path: Path, good: Path) -> None:
    for what, name, change in damages():
        shutil.rmtree(tmp_path / "d", ignore_errors=True)
        shutil.copytree(good, tmp_path / "d")
        path = tmp_path / "d" / "ckpt-000000000002" / name
        if change is None:
            path.unlink()
        else:
            path.write_bytes(change(path.read_bytes()))
        found = load(tmp_path / "d")
        assert found.step == 1, what
        assert same(found.tree, example(1)), what
        assert len(found.skipped) == 1, what
        assert found.skipped[0].startswith("ckpt-000000000002: "), found.skipped
        shutil.rmtree(tmp_path / "d" / "ckpt-000000000001")
        for target in (tmp_path / "d", tmp_path / "d" / "ckpt-000000000002"):
            with pytest.raises(DataError, match="ckpt-000000000002: ") as error:
                load(target)
            assert error.value.exit_code == 3
            assert name in str(error.value) or "manifest" in str(error.value), str(error.value)


def test_nothing_to_load(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no checkpoint in"):
        load(tmp_path)
    with pytest.raises(DataError, match="No such file"):
        load(tmp_path / "nowhere")
    (tmp_path / "ckpt-000000000003").mkdir()
    with pytest.raises(DataError, match=r"ckpt-000000000003: manifest\.json is missing"):
        load(tmp_path)


def reseal(ckpt: Path, change: Any) -> None:
    """Change a manifest as an attacker would: with a right sha256. Written from the format's description."""
    manifest = json.loads((ckpt / "manifest.json").read_text())
    del manifest["manifest_sha256"]
    change(manifest)
    body = json.dumps(manifest).encode()[:-1] + b"\n"
    (ckpt / "manifest.json").write_bytes(
        body + b',"manifest_sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'
    )


def restamp(ckpt: Path, name: str, data: bytes) -> None:
    (ckpt / name).write_bytes(data)
    entry = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    reseal(ckpt, lambda manifest: manifest["files"].update({name: entry}))


def safetensors_bytes(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: str, shape: list[Any], begin: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


TENSORS = {
    "huge header": safetensors_bytes({}, length=2**63),
    "header beyond the file": safetensors_bytes({}, length=100),
    "no header": b"\x01",
    "deep header": safetensors_bytes(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "not an object": safetensors_bytes([1]),
    "overlap": safetensors_bytes({"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 2, 6)}, b"123456"),
    "gap": safetensors_bytes({"a": entry("U8", [4], 2, 6)}, b"123456"),
    "beyond the data": safetensors_bytes({"a": entry("U8", [2**50], 0, 2**50)}, b"123456"),
    "wrong size": safetensors_bytes({"a": entry("F32", [3], 0, 6)}, b"123456"),
    "negative": safetensors_bytes({"a": entry("U8", [-2, -3], 0, 6)}, b"123456"),
    "overflow": safetensors_bytes({"a": entry("U8", [2**70, 0], 0, 0)}),
    "many dimensions": safetensors_bytes({"a": entry("U8", [1] * 99, 0, 1)}, b"1"),
    "unknown dtype": safetensors_bytes({"a": entry("PICKLE", [6], 0, 6)}, b"123456"),
    "bool shape": safetensors_bytes({"a": entry("U8", [True], 0, 1)}, b"1"),
    "no such tensor": safetensors_bytes({"b": entry("U8", [6], 0, 6)}, b"123456"),
    "odd metadata": safetensors_bytes({"__metadata__": {"x": [1]}, "a": entry("U8", [1], 0, 1)}, b"1"),
}
TREES = {
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep object": b'{"a":' * 101 + b"1" + b"}" * 101,
    "many values": b"[" + b"[]," * 2_000_000 + b"0]",
    "unclosed string": b'["' + b'\\"' * 1_000_000,
    "NaN": b'{"x": NaN}',
    "long number": b'{"x": ' + b"9" * 10_000 + b"}",
    "mark": b'{"x": {"$pickle": "gANj"}}',
    "two marks": b'{"x": {"$numpy": "a", "$torch": "a"}}',
    "bad dict": b'{"$dict": [[[], 1]]}',
    "bad int": b'{"x": {"$int": "os"}}',
    "bad float": b'{"x": {"$float": "os"}}',
    "not a dict": b'{"$tuple": []}',
    "list": b"[]",
    "python": b"__import__('os').system('id')",
}


@pytest.mark.parametrize("what", [*TENSORS, *TREES])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_hostile_files_with_right_hashes(tmp_path: Path, what: str, kind: str) -> None:
    ckpt = save(tmp_path, 1, {"a": np.frombuffer(b"123456", np.uint8)}, {})
    if what in TENSORS:
        restamp(ckpt, "tree.json", f'{{"a":{{"${kind}":"a"}}}}'.encode())
        restamp(ckpt, "tensors.safetensors", TENSORS[what])
    else:
        restamp(ckpt, "tree.json", TREES[what])
    with pytest.raises(DataError, match=r"not loaded: .*ckpt-000000000001: t\w+\.\w+"):
        load(tmp_path)


def test_oversized_json_is_not_read(tmp_path: Path) -> None:
    ckpt = save(tmp_path, 1, {}, {})
    with open(ckpt / "tree.json", "wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(DataError, match=r"tree\.json: 67108865 bytes"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "tree.json/../../secret", "extra.bin"])
def test_manifest_cannot_name_other_files(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("{}")
    ckpt = save(tmp_path / "d", 1, {}, {})
    reseal(ckpt, lambda manifest: manifest["files"].update({name: {"size": 2, "sha256": "0"}}))
    with pytest.raises(DataError, match="exactly the files"):
        load(tmp_path / "d")


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights there")
@pytest.mark.parametrize("name", ["tree.json", "tensors.safetensors", "manifest.json", "."])
def test_symbolic_links_and_devices_are_refused(tmp_path: Path, name: str) -> None:
    ckpt = save(tmp_path / "d", 1, example(1), {})
    path = ckpt / name if name != "." else ckpt
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="symbolic link"):
        load(tmp_path / "d")
    path.unlink()
    if name != ".":
        os.mkfifo(path)
        with pytest.raises(DataError, match="not a regular file"):
            load(tmp_path / "d")


def test_newer_format_is_an_error_at_once_but_damage_is_not(tmp_path: Path) -> None:
    save(tmp_path, 1, example(1), {})
    ckpt = save(tmp_path, 2, example(2), {})
    reseal(ckpt, lambda manifest: manifest.update(playfield_checkpoint=2, versions={"playfield": "9.1"}))
    with pytest.raises(DataError, match=r"made by a newer playfield, 9\.1"):
        load(tmp_path)
    path = ckpt / "manifest.json"
    path.write_text(path.read_text().replace('"playfield_checkpoint": 2', '"playfield_checkpoint": 7'))
    found = load(tmp_path)
    assert found.step == 1
    assert "newer playfield" in found.skipped[0]


def test_wrong_name_is_skipped(tmp_path: Path) -> None:
    save(tmp_path, 1, example(1), {}).rename(tmp_path / "ckpt-000000000008")
    save(tmp_path, 2, example(2), {})
    found = load(tmp_path)
    assert found.step == 2
    assert "holds step 1" in found.skipped[0]
    assert load(tmp_path / "ckpt-000000000008").step == 1  # asked for by name


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


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as error:
        save(tmp_path / "file" / "d", 1, {}, {})
    assert error.value.exit_code == 5


def test_atomic_write(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    checkpoint.atomic_write(path, "one")
    checkpoint.atomic_write(path, "zwei \u00e4".encode())
    assert path.read_text(encoding="utf-8") == "zwei \u00e4"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
    with pytest.raises(StorageError, match="No such file"):
        checkpoint.atomic_write(tmp_path / "no" / "x", "")


def test_preflight_gives_both_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 50, 40_000_000))
    checkpoint.preflight(tmp_path / "not" / "yet", 39_000_000)
    assert not (tmp_path / "not").exists()
    with pytest.raises(StorageError, match=r"needs 1\.20 GB but the disk has 40\.0 MB free"):
        checkpoint.preflight(tmp_path / "not" / "yet", 1_200_000_000)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(StorageError, match="cannot write"):
        checkpoint.preflight(tmp_path, 0)


def test_weights_roundtrip_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "agent.safetensors"
    tensors = {"w": torch.randn(3, 2), "half": torch.zeros((), dtype=torch.bfloat16), "table": np.arange(5)}
    checkpoint.export_weights(path, tensors, {"env": "breakout", "score": 31.5, "shape": [84, 84]})
    got, meta = checkpoint.import_weights(path)
    assert meta == {"env": "breakout", "score": 31.5, "shape": [84, 84]}
    assert sorted(got) == sorted(tensors)
    assert all(same(got[key], tensors[key]) for key in tensors)
    safe = pytest.importorskip("safetensors.torch")
    assert torch.equal(safe.load_file(path)["w"], tensors["w"])
    raw = path.read_bytes()
    rng = random.Random(1)
    for _ in range(60):
        at = rng.randrange(len(raw))
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :])
        try:
            again = checkpoint.import_weights(path)
        except DataError as error:
            assert "not loaded" in str(error)  # noqa: PT017
        else:  # only a byte that carries nothing (white space, an unused key) may pass
            assert again[1] == meta
            assert all(same(again[0][key], tensors[key]) for key in tensors)
    safe.save_file({"w": torch.zeros(2)}, path)
    with pytest.raises(DataError, match="not weights that playfield exported"):
        checkpoint.import_weights(path)
    with pytest.raises(DataError, match="is missing"):
        checkpoint.import_weights(tmp_path / "none")
    with pytest.raises(TypeError, match="x: "):
        checkpoint.export_weights(path, {"x": 3}, {})


def test_importing_and_using_numpy_needs_no_torch(tmp_path: Path) -> None:
    script = """
    import sys, numpy as np
    from playfield import checkpoint
    checkpoint.load(checkpoint.save(sys.argv[1], 1, {"x": np.zeros(3)}, {}))
    assert "torch" not in sys.modules and "pickle" not in checkpoint.__dict__
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], check=True, timeout=30)
