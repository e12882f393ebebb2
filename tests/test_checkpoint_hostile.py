"""Checkpoints that are damaged, or made to harm who loads them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkpoint_examples import example, same
from playfield.errors import DataError
from playfield.runs import tensor_file
from playfield.runs.checkpoint import load, save


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


ODD_DICTS = [
    b'{"$dict": 5}',
    b'{"$dict": [1]}',
    b'{"$dict": [["x"]]}',
    b'{"$dict": "x"}',
    b'{"x": {"$dict": [[1, 2, 3]]}}',
]


@pytest.mark.parametrize("data", [*TREES.values(), *ODD_DICTS])
def test_a_part_of_a_hostile_tree(tmp_path: Path, data: bytes) -> None:
    ckpt = save(tmp_path, 1, {"a": np.zeros(1)}, {})
    restamp(ckpt, "tree.json", data)
    with contextlib.suppress(DataError):  # any other error is a hole
        assert load(tmp_path, only=["x/y/z", "a"]).tree in ({}, {"x": {}})  # what is wrong was not asked for


def test_oversized_json_is_not_read(tmp_path: Path) -> None:
    ckpt = save(tmp_path, 1, {}, {})
    with open(ckpt / "tree.json", "wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(DataError, match=r"tree\.json has 67,108,865 bytes"):
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
        path.unlink()
        path.mkdir()
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


def test_tensors_larger_than_the_free_memory_are_refused_before_memory_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sparse file of any size costs its maker nothing. What is not read needs no memory."""
    size = 3 << 30
    header = json.dumps({"x": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with open(tmp_path / "t", "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)
    monkeypatch.setattr(tensor_file, "free_memory", lambda: 2 << 30)
    monkeypatch.setattr(tensor_file, "_allocate", None)
    with open(tmp_path / "t", "rb") as file, pytest.raises(DataError) as error:
        tensor_file.read(file, 8 + len(header) + size, "t", lambda key: "torch")
    assert str(error.value) == "t: it holds 3.22 GB of tensors, and 2.15 GB of memory are free"
    monkeypatch.setattr(tensor_file, "free_memory", lambda: 4 << 30)
    with open(tmp_path / "t", "rb") as file, pytest.raises(TypeError):  # with enough memory it is read
        tensor_file.read(file, 8 + len(header) + size, "t", lambda key: "torch")
