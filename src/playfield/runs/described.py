"""What `run.json` must hold, each value of its kind: checked when it is read, so that nothing else has to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from playfield.envs.base import MOST_ACTIONS, MOST_INPUTS, EnvSpec
from playfield.envs.family import FAMILIES
from playfield.errors import DataError

MOST = 2**53  # of whole numbers


def _whole(low: int) -> Callable[[Any], bool]:
    return lambda v: type(v) is int and low <= v <= MOST


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= 1e300  # not NaN either


def _text(value: Any) -> bool:
    """Text that may be printed: no control characters."""
    return isinstance(value, str) and len(value) <= 10_000 and value.isprintable()


def _table(of: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, dict) and all(of(item) for item in v.values())


def _plain(value: Any) -> bool:
    """What a protocol may hold: numbers, names, and lists and tables of them."""
    if isinstance(value, dict):
        return all(_text(k) and _plain(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    return value is None or isinstance(value, bool) or type(value) in (int, float) or _text(value)


def _protocol(value: Any) -> bool:
    """A table of plain values, in which numbers of frames and of steps are such."""
    counts = {name: _whole(1) for name in ("skip", "skip_min")} | dict.fromkeys(("cap", "time_limit"), _number)
    return _table(_plain)(value) and all(
        fits(value[name]) for name, fits in counts.items() if value.get(name) is not None
    )


def _any_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 10_000


def _option(value: Any) -> bool:
    """A value of an algorithm's option; its own check follows. Paths may hold any character."""
    return isinstance(value, str | bool) or type(value) in (int, float)


def _extensions(value: Any) -> bool:
    """A list of tables; the total steps before and after, where it is these that changed."""
    return isinstance(value, list) and all(
        isinstance(e, dict) and _whole(0)(e.get("at")) and (e.get("what") or _whole(1)(e.get("to"))) for e in value
    )


def _went_on(value: Any) -> bool:
    """A list of steps, each with the versions from there on."""
    return isinstance(value, list) and all(
        isinstance(e, dict)
        and e.keys() == {"at", "playfield", "versions"}
        and _whole(0)(e["at"])
        and _text(e["playfield"])
        and _table(_text)(e["versions"])
        for e in value
    )


def _compute(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() <= {"device", "precision", "workers", "note"}
        and value.get("device") in ("cpu", "cuda")
        and value.get("precision") in ("bf16", "fp32")
        and _whole(1)(value.get("workers"))
        and value["workers"] <= 1024
        and _any_text(value.get("note", ""))
    )


def _target(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict) and _number(value.get("score")) and _whole(1)(value.get("games"))
    )


def _result(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict)
        and _whole(0)(value.get("steps"))
        and (value.get("seconds") is None or (_number(value["seconds"]) and value["seconds"] >= 0))
    )


def _after(value: Any) -> bool:
    """Games of the final evaluation; whether to film, and to write TensorBoard events; and what workers are."""
    return (
        isinstance(value, dict)
        and value.keys() <= {"games", "film", "tensorboard", "workers_as"}
        and value.get("workers_as", "auto") in ("auto", "threads", "processes")
        and _whole(0)(value.get("games", 0))
        and all(isinstance(value.get(name, True), bool) for name in ("film", "tensorboard"))
    )


def _init_from(value: Any) -> bool:
    """A run, its environment and algorithm, the step and the hash of its weights."""
    return (
        isinstance(value, dict)
        and all(_text(value.get(name)) for name in ("run", "env", "algo", "hash"))
        and _whole(0)(value.get("step"))
    )


def _diverged(value: Any) -> bool:
    return isinstance(value, dict) and _whole(0)(value.get("step")) and _any_text(value.get("why"))


def _preset_file(value: Any) -> bool:
    """Its name, the algorithm, the preset that it begins from, and a table of options."""
    return (
        isinstance(value, dict)
        and all(_any_text(value.get(name)) for name in ("file", "algo", "preset"))
        and _table(_option)(value.get("options"))
    )


KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "after": (_after, "games, film, tensorboard and workers_as"),
    "algo": (_text, "a name"),
    "command": (lambda v: isinstance(v, str), "text"),
    "compute": (_compute, "device, precision and workers"),
    "config": (_table(_option), "a table of options"),
    "diverged": (_diverged, "a step and a reason"),
    "env": (_text, "a name"),
    "extensions": (_extensions, "a list of extensions"),
    "eval_every": (_whole(1), "a whole number of at least 1"),
    "eval_games": (_whole(1), "a whole number of at least 1"),
    "exact": (lambda v: isinstance(v, bool), "true or false"),
    "fingerprint": (lambda v: v is None or _text(v), "text"),
    "init_from": (_init_from, "a run, its env and algo, and step and hash of its weights"),
    "keep": (_whole(1), "a whole number of at least 1"),
    "log_period": (_whole(1), "a whole number of at least 1"),
    "nodes": (_whole(1), "a whole number of at least 1"),
    "preset": (_text, "a name"),
    "preset_file": (_preset_file, "what a file of hyper-parameters said"),
    "processor": (_table(_any_text), "a model and its features"),
    "protocol": (_protocol, "a table, with whole numbers of frames and steps"),
    "replay_dropped": (_text, "a date"),
    "result": (_result, "a table with the number of steps, and seconds"),
    "save_seconds": (lambda v: _number(v) and v >= 0, "a number of at least 0"),
    "schedule": (_any_text, "text"),
    "seed": (_whole(0), "a whole number of at least 0"),
    "steps": (_whole(1), "a whole number of at least 1"),
    "target": (_target, "a score and a number of games"),
    "versions": (_table(_any_text), "a table of versions"),
    "went_on": (_went_on, "a list of steps and versions"),
}
ALWAYS = {"algo", "spec"}
"""What a `run.json` holds whatever is done with it; what training on needs besides is `info.NEEDED`."""


def check(info: Any) -> None:
    """Raise DataError, saying what is wrong, unless `info` can be the contents of a `run.json`."""
    if not isinstance(info, dict):
        raise DataError("it is no table")
    if missing := ALWAYS - info.keys():
        raise DataError(f"it has no {', no '.join(sorted(missing))}")
    for name, (fits, what) in KINDS.items():
        if name in info and not fits(info[name]):
            raise DataError(f"{name} must be {what}, not {str(info[name])[:60]!r}")
    spec = info["spec"]
    if not isinstance(spec, dict) or ("kind" in spec and not (_text(spec["kind"]) and spec["kind"] in FAMILIES)):
        raise DataError("its spec is no table with the kind of the environment")
    for name, value in (("env", spec.get("id")), ("protocol", spec.get("protocol"))):
        if value is not None and info.get(name, value) != value:
            raise DataError(f"{name} is {str(info[name])[:60]!r}, and that of its spec {str(value)[:60]!r}")


def spec_of(stored: Any) -> EnvSpec:
    """The `EnvSpec` of a `run.json` or an agent's card. Raises DataError where it cannot be one."""
    if not isinstance(stored, Mapping):
        raise DataError("its spec is no table")
    names, shape = stored.get("action_names"), stored.get("obs_shape")
    dims = [n for n in shape if type(n) is int and 0 < n <= MOST_INPUTS] if isinstance(shape, list | tuple) else [-1]
    rules = {
        "id": _text(stored.get("id")) and stored["id"] != "",
        "kind": _text(stored.get("kind")) and stored["kind"] in FAMILIES,
        "obs_shape": isinstance(shape, list | tuple) and len(dims) == len(shape) and math.prod(dims) <= MOST_INPUTS,
        "obs_dtype": stored.get("obs_dtype") in ("uint8", "float32"),
        "num_actions": _whole(1)(stored.get("num_actions")) and stored["num_actions"] <= MOST_ACTIONS,
        "action_names": isinstance(names, list | tuple) and all(map(_text, names)),
        "protocol": _protocol(stored.get("protocol")),
    }
    given = stored.get("obs_bounds")
    bounds = None if given is None or not rules["obs_shape"] else _bounds(given, dims[-1] if dims else 1)
    states = stored.get("states", ())
    sizes = [(pair[0], pair[1]) for pair in states if _state(pair)] if isinstance(states, list | tuple) else [(-1, 0)]
    axes = stored.get("states_shape", ())
    first = stored.get("first_action")
    if first is None:
        first = FAMILIES[stored["kind"]].first_action(names or ()) if rules["kind"] and rules["action_names"] else 0
    rules |= {
        "obs_bounds": given is None or bounds is not None,
        "states": isinstance(states, list | tuple) and len(sizes) == len(states),
        "states_shape": isinstance(axes, list | tuple)
        and all(map(_whole(1), axes))
        and (not axes or math.prod(axes) == len(sizes)),
        "first_action": type(first) is int and abs(first) <= MOST,
    }
    if wrong := [name for name, holds in rules.items() if not holds]:
        raise DataError(f"its spec has no usable {', '.join(wrong)}")
    if len(names or ()) != stored["num_actions"]:
        raise DataError(f"its spec has {stored['num_actions']} actions and {len(names or ())} names of actions")
    return EnvSpec(
        id=stored["id"],
        kind=stored["kind"],
        obs_shape=tuple(dims),
        obs_dtype=stored["obs_dtype"],
        num_actions=stored["num_actions"],
        action_names=tuple(names or ()),
        protocol=dict(stored["protocol"]),
        first_action=first,
        obs_bounds=bounds,
        states=tuple(sizes),
        states_shape=tuple(axes),
    )


def _state(pair: Any) -> bool:
    """Whether this is (number, first) of a `Discrete` space."""
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return False
    return _whole(1)(pair[0]) and type(pair[1]) is int and abs(pair[1]) <= MOST


def _bounds(stored: Any, size: int) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """`EnvSpec.obs_bounds` from JSON, for a last axis of `size`; None where they are none."""
    if (
        not isinstance(stored, list | tuple)
        or len(stored) != 2
        or not all(isinstance(s, list | tuple) for s in stored)
    ):
        return None
    low, high = stored
    if len(low) != len(high) or len(low) not in (1, size) or not all(map(_number, [*low, *high])):
        return None
    return tuple(map(float, low)), tuple(map(float, high))
