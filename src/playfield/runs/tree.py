"""Trees of tensors and JSON values: split into strict JSON plus a flat dict of tensors, and put together
again.

A tree is nested dicts, lists and tuples. Its leaves are torch tensors, NumPy arrays, and int, float, str,
bool or None. JSON cannot say everything a tree can, so objects whose only key starts with `$` are marks:
`{"$torch": key}`, `{"$numpy": key}` refer to a tensor, `{"$tuple": [...]}`, `{"$dict": [[key, value],
...]}` (keys that are not plain strings), `{"$float": "nan"}`, `{"$int": "0x..."}` (beyond 4,000 digits).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from playfield.errors import DataError
from playfield.runs.strict_json import MAX_DEPTH
from playfield.runs.tensor_file import CHUNK, describe, is_array, is_torch, raw_bytes

_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_LONG_INT = 12_000  # bits


def _is_tensor(leaf: object) -> str:
    """`torch`, `numpy`, or an empty string."""
    return "torch" if is_torch(leaf) else "numpy" if is_array(leaf) else ""


def _join(path: str, key: object) -> str:
    """A path one level deeper; `/` and `~` inside keys are escaped as in JSON pointers."""
    text = str(key).replace("~", "~0").replace("/", "~1")
    return f"{path}/{text}" if path else text


def _scalar(leaf: Any, path: str) -> Any:
    """A leaf that is not a tensor, as JSON says it; TypeError naming the path for anything else."""
    if isinstance(leaf, np.generic):
        leaf = leaf.item()
    if leaf is None or type(leaf) in (bool, str):
        return leaf
    if type(leaf) is int:
        return leaf if leaf.bit_length() <= _LONG_INT else {"$int": hex(leaf)}
    if type(leaf) is float:
        return leaf if math.isfinite(leaf) else {"$float": str(leaf)}
    raise TypeError(f"{path or 'the tree'}: a {type(leaf).__module__}.{type(leaf).__qualname__} cannot be saved")


def encode(tree: Any) -> tuple[Any, dict[str, Any]]:
    """Split a tree into a JSON value and {key: tensor}. TypeError names the path of a leaf that cannot be
    saved.
    """
    tensors: dict[str, Any] = {}

    def walk(node: Any, path: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise TypeError(f"{path[:80]}...: nested deeper than {MAX_DEPTH} levels")
        if isinstance(node, dict):
            for key in node:
                if type(key) not in (str, int):
                    raise TypeError(f"{path or 'the tree'}: a dict key is {key!r}; only str and int can be saved")
            values = [(key, walk(value, _join(path, key), depth + 1)) for key, value in node.items()]
            if all(type(key) is str and not key.startswith("$") for key in node):
                return dict(values)
            return {"$dict": [[key, value] for key, value in values]}
        if type(node) in (list, tuple):
            items = [walk(value, _join(path, i), depth + 1) for i, value in enumerate(node)]
            return items if type(node) is list else {"$tuple": items}
        if kind := _is_tensor(node):
            key = path or "tensor"
            while key in tensors or key == "__metadata__":
                key += "'"
            tensors[key] = node
            return {f"${kind}": key}
        return _scalar(node, path)

    return walk(tree, "", 0), tensors


def encode_plain(meta: dict[str, Any], what: str) -> Any:
    """`encode` for JSON values only; TypeError if there is a tensor."""
    value, tensors = encode(meta)
    if tensors:
        raise TypeError(f"{what}: {next(iter(tensors))} is a tensor; only JSON values belong here")
    return value


def select(value: Any, only: Collection[str]) -> Any:
    """The part of an encoded dict under the paths in `only`: `net`, or `parts/learner/weights`.

    What the tree lacks is left out.
    """
    heads: dict[str, list[str]] = {}
    for path in only:
        head, _, rest = path.partition("/")
        heads.setdefault(head, []).append(rest)

    def part(key: str, item: Any) -> Any:
        deeper = heads[key]
        return item if "" in deeper or not isinstance(item, dict) else select(item, deeper)

    match value:
        case {"$dict": [*items]}:
            pairs = [(item[0], item[1]) for item in items if isinstance(item, list) and len(item) == 2]
            if len(pairs) != len(items):
                raise DataError(f"tree.json: malformed value {str(value)[:60]}")
            return {"$dict": [[key, part(key, item)] for key, item in pairs if isinstance(key, str) and key in heads]}
    return {key: part(key, item) for key, item in value.items() if key in heads}


def decode(value: Any, tensor: Callable[[str, str], Any]) -> Any:
    """Put a tree together; `tensor(kind, key)` gives each tensor, in the order they stand. DataError if
    malformed.
    """
    if isinstance(value, list):
        return [decode(item, tensor) for item in value]
    if not isinstance(value, dict):
        return value
    if not any(key.startswith("$") for key in value):
        return {key: decode(item, tensor) for key, item in value.items()}
    if len(value) != 1:
        raise DataError(f"tree.json: malformed value {str(value)[:60]}")
    try:
        match value:
            case {"$torch": str(key)}:
                return tensor("torch", key)
            case {"$numpy": str(key)}:
                return tensor("numpy", key)
            case {"$tuple": [*items]}:
                return tuple(decode(item, tensor) for item in items)
            case {"$dict": [*items]}:
                return {key: decode(item, tensor) for key, item in items}
            case {"$float": str(text)}:
                return _FLOATS[text]
            case {"$int": str(text)}:
                return int(text, 16)
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"tree.json: malformed value {str(value)[:60]}: {error}") from None
    raise DataError(f"tree.json: unknown mark {next(iter(value))!r}")


def mismatch(saved: Any, here: Any, path: str = "") -> str:
    """Where two trees have tensors of other shapes or values of other kinds, and both; empty if nowhere.

    Keys that only one of them has are not compared: versions add some.
    """
    if isinstance(saved, dict) and isinstance(here, dict):
        found = (mismatch(saved[key], here[key], _join(path, key)) for key in saved if key in here)
        return next(filter(None, found), "")
    kinds = [_kind(node) for node in (saved, here)]
    if kinds[0] != kinds[1]:
        return f"{path or 'it'} is {kinds[0]}, expected {kinds[1]}"
    if isinstance(saved, list | tuple):
        found = (mismatch(a, b, _join(path, i)) for i, (a, b) in enumerate(zip(saved, here, strict=True)))
        return next(filter(None, found), "")
    return ""


def without(tree: Any, name: str) -> Any:
    """A tree of dicts without the keys called `name`."""
    if not isinstance(tree, dict):
        return tree
    return {key: without(value, name) for key, value in tree.items() if key != name}


def _kind(node: Any) -> str:
    """What a node of a tree is, for `mismatch`: numbers are of one kind, and so are torch's and NumPy's arrays."""
    if _is_tensor(node):
        code, shape = describe(node, "")
        return f"{code} {list(shape)}"
    if isinstance(node, bool | np.bool_):
        return "a truth value"
    if isinstance(node, int | float | np.number):
        return "a number"
    return f"{len(node)} values" if isinstance(node, list | tuple) else f"a {type(node).__name__}"


def number(value: Any) -> float:
    """A logged number as it was saved. Raises TypeError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{str(value)[:40]!r} is no number")
    return value


def tree_hash(tree: Mapping[str, Any] | Any) -> str:
    """The sha256 of a tree: paths, dtypes, shapes and bytes of tensors, and all other values, dict keys
    sorted.

    The same for a torch tensor (on any device) and an array of equal dtype and content. The "final hash" of
    a run.
    """
    digest = hashlib.sha256()

    def walk(node: Any, path: str) -> None:
        if isinstance(node, dict):
            digest.update(f"{path} dict {len(node)}\n".encode("utf-8", "surrogatepass"))
            for key in sorted(node, key=lambda key: (type(key).__name__, key)):
                walk(node[key], f"{path}/{json.dumps(key)}")
        elif type(node) in (list, tuple):
            digest.update(f"{path} {type(node).__name__} {len(node)}\n".encode())
            for i, value in enumerate(node):
                walk(value, f"{path}/{i}")
        elif _is_tensor(node):
            code, shape = describe(node, path)
            digest.update(f"{path} {code} {shape}\n".encode())
            view = raw_bytes(node)
            for start in range(0, len(view), CHUNK):
                digest.update(view[start : start + CHUNK])
        else:
            digest.update(f"{path} {json.dumps(_scalar(node, path))}\n".encode())

    walk(tree, "")
    return digest.hexdigest()
