"""What an algorithm's options are in its presets, read from the source as `options.py` reads its `Config`.

So `playfield train --algo dqn --help` tells what a training would use, at once: torch is not loaded.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Any

from playfield import options
from playfield.envs.names import resolve

_OPERATORS: dict[type[ast.operator], Any] = {
    ast.BitOr: lambda a, b: a | b,
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
}
BASES = {"ram": "atari"}  # of every other special kind: vector


def presets(algo: str) -> dict[str, dict[str, dict[str, Any]]]:
    """{kind: {preset: {option: value}}} with all options, as the module's `PRESETS` has them."""
    default = {o.name: o.default for o in options.options(algo)}
    found = _named(options.ALGOS / f"{algo}.py", "PRESETS")
    return {kind: {name: default | cfg for name, cfg in table.items()} for kind, table in found.items()}


def told(algo: str, preset: str = "default", env: str | None = None, obs: str | None = None) -> dict[str, str]:
    """The value of each option in a preset, in words: for `env` seen as `obs`, or else for all that differ.

    Without `env` this is as in `atari 0.0005, vector 0.001`; special kinds are named where they differ from those.
    """
    table = presets(algo)
    if env is not None:
        base, special = _kinds(env, obs)
        cfg = {**table.get(base, {}), **table.get(special, {})}.get(preset, {})
        if special == "ram" and cfg.get("net") == "nips":
            cfg = cfg | {"net": "mlp"}  # as `prepare.configure` does
        return {name: _text(value) for name, value in cfg.items()}
    kinds = {kind: named[preset] for kind, named in table.items() if preset in named}
    words = {}
    for option in options.options(algo):
        values = {kind: _text(cfg[option.name]) for kind, cfg in kinds.items()}
        own = {k: v for k, v in values.items() if k in ("atari", "vector") or values.get(BASES.get(k, "vector")) != v}
        same = len(set(own.values())) == 1
        words[option.name] = next(iter(own.values())) if same else ", ".join(f"{k} {v}" for k, v in own.items())
    return words


def _kinds(env: str, obs: str | None) -> tuple[str, str]:
    """The kind of an environment, and the special one (see `plan.presets_for`), from its name alone."""
    found = resolve(env)
    obs = obs or found.overrides.get("obs")
    if found.kind == "atari":
        return "atari", "ram" if obs == "ram" else "atari"
    return "vector", "pixels" if obs == "pixels" else found.id.split("-v")[0]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@cache
def _named(file: Path, name: str) -> Any:
    """The value that a module gives to a name at its top, if it is made of constants, dicts and `Config`s.

    A `Config`, or one replaced in part, is the dict of the options it was given.
    """
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _imported(node.module or "", alias.name)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(t, ast.Name) and t.id == name for t in targets) and isinstance(
            node, ast.Assign | ast.AnnAssign
        ):
            assert node.value is not None
            return _value(node.value, file)
    raise ValueError(f"{file} has no {name}")


def _imported(module: str, name: str) -> Any:
    """A name of another module of this package; a `Path` where it is a module itself."""
    place = options.ALGOS.parent.joinpath(*module.split(".")[1:])
    return place / f"{name}.py" if place.is_dir() else _named(place.with_suffix(".py"), name)


def _value(node: ast.expr, file: Path) -> Any:
    match node:
        case ast.Constant(value=constant):
            return constant
        case ast.Name(id=name):
            return _named(file, name)
        case ast.Attribute(value=ast.Name(id=module), attr=name):
            return _named(_named(file, module), name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, file)
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_value(left, file), _value(right, file))
        case ast.Dict(keys=keys, values=values):
            found: dict[Any, Any] = {}
            for key, value in zip(keys, values, strict=True):
                found |= _value(value, file) if key is None else {_value(key, file): _value(value, file)}
            return found
        case ast.Call(args=args, keywords=keywords):  # Config(...), dict(...) or dataclasses.replace(...)
            given = _value(args[0], file) if args else {}
            for word in keywords:
                given = given | (
                    _value(word.value, file) if word.arg is None else {word.arg: _value(word.value, file)}
                )
            return given
    raise ValueError(f"{file.name} line {node.lineno}: a preset is made of constants, dicts and Config(...)")
