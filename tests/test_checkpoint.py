"""Checkpoints: exact roundtrips, what is kept and removed, weights to ship."""

from __future__ import annotations

import errno
import math
import os
import random
import shutil
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

from checkpoint_examples import example, same
from playfield.errors import DataError, StorageError
from playfield.runs import checkpoint, strict_json
from playfield.runs.checkpoint import load, save
from playfield.runs.tree import tree_hash

NUMPY = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
NUMPY += ["float16", "float32", "float64", "complex64"]
TORCH = [torch.bool, torch.uint8, torch.int64, torch.uint64, torch.float16, torch.bfloat16, torch.float32]
TORCH += [torch.float64, torch.float8_e4m3fn]


def torch_tensors() -> st.SearchStrategy[torch.Tensor]:
    def make(dtype: torch.dtype, shape: list[int], seed: int) -> torch.Tensor:
        values = torch.from_numpy(np.asarray(np.random.default_rng(seed).normal(size=shape) * 9))
        return values.abs().to(dtype) if dtype in (torch.uint8, torch.uint64) else values.to(dtype)

    shapes = st.lists(st.integers(0, 4), max_size=3)
    return st.builds(make, st.sampled_from(TORCH), shapes, st.integers(0, 99))


arrays = hnp.arrays(st.sampled_from(NUMPY), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
scalars |= st.sampled_from([2**63, -(2**64), 5e-324])
keys = st.text(max_size=6) | st.integers(-3, 3) | st.sampled_from(["a/b", "$torch", "$dict", "~0", "__metadata__"])
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


def test_refuses_what_it_could_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict_json, "MAX_VALUES", 5_000)
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    with pytest.raises(TypeError, match="nested deeper"):
        save(tmp_path, 1, {"deep": deep}, {})
    with pytest.raises(ValueError, match="arrays"):
        save(tmp_path, 1, {"long": [0] * 5_001}, {})
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


def test_only_a_part_deep_in_the_tree(tmp_path: Path) -> None:
    tree = {
        "parts": {1: {"w": np.ones(3)}, "learner": {"weights": {"w": np.zeros(2)}, "moments": np.ones(9)}},
        "run": 3,
    }
    save(tmp_path, 5, tree, {})
    weights = {"parts": {"learner": {"weights": {"w": np.zeros(2)}}}}
    assert same(load(tmp_path, only=["parts/learner/weights"]).tree, weights)
    both = load(tmp_path, only=["parts/learner/weights", "parts/learner"])
    assert same(both.tree, {"parts": {"learner": tree["parts"]["learner"]}})
    assert load(tmp_path, only=["parts/actor", "run", "run/x/y"]).tree == {"parts": {}, "run": 3}
    assert load(tmp_path, only=["parts/learner/moments/deeper"]).tree == {"parts": {"learner": {"moments": {}}}}
    assert load(tmp_path, only=[]).tree == {}


def test_last_prune_and_best(tmp_path: Path) -> None:
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
    save(tmp_path, 9, example(9), {}, keep=1)
    assert load(tmp_path).step == 9
    assert [path.name[-1] for path in checkpoint.checkpoints(tmp_path)] == ["4", "9"]  # best was made from 4
    assert load(tmp_path / "best").step == 4


def test_best_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", refuse)
    checkpoint.mark_best(tmp_path, save(tmp_path, 1, example(1), {}), 1.0, {})
    assert same(load(tmp_path / "best").tree, example(1))


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
    from playfield.runs import checkpoint, strict_json as _json
    checkpoint.load(checkpoint.save(sys.argv[1], 1, {"x": np.zeros(3)}, {}))
    assert "torch" not in sys.modules and "pickle" not in checkpoint.__dict__
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], check=True, timeout=30)


@pytest.mark.parametrize("step", [-1, 10**12])
def test_a_step_that_has_no_place_in_the_name_is_refused(step: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="step must be between"):
        save(tmp_path, step, example(0), {})
    assert list(tmp_path.iterdir()) == []
