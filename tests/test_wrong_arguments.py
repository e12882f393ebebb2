"""Wrong values for every argument of every public function: one line that names the argument, and nothing on disk."""

from __future__ import annotations

import inspect
import math
import time
from pathlib import Path

import pytest

import playfield
from playfield.datasets.collect import collect
from playfield.errors import UsageError
from playfield.show.explain import explain


def whole(low: int) -> list[object]:
    return [low - 1, 1.5, math.nan, math.inf, "3", "1,5", True, [1], {}, object(), 10**400, b"1"]


def real(low: float) -> list[object]:
    return [low - 1, math.nan, -math.inf, "1.5", "x", True, [1], {}, object(), 10**400, 1j]


SEED = [*whole(0), 2**53]
SWITCH: list[object] = [1, 0, "yes", "", [], object()]
PATH: list[object] = ["", " ", 5, b"x", "x" * 300, "x/" * 3000, "a\0b", "\ud800", [], object()]
NAME: list[object] = ["", 5, b"x", [], object(), "nope"]
FUNCTION: list[object] = [5, "print", [], object()]
TABLE: list[object] = [5, "sticky=1", [1], {3: 4}, {"nope": 1}]
STEP: list[object] = ["", "x", "\N{SUPERSCRIPT TWO}", "9" * 5000, 99, -1, 1.5, None, True, object()]
AGENT = {
    "source": [*PATH, None, "nope", {}],
    "which": STEP,
    "agent": ["", "best", 5, object()],
    "temperature": real(0),
    "seed": SEED,
    "trust": [*SWITCH, None],
}
RIGHT = {
    "aggregate": {"source": {"a": [[1.0, 2.0], [3.0, 4.0]]}},
    "evaluate": {"policy": "breakout"},
    "list_runs": {},
    "load_policy": {"source": "breakout"},
    "record": {"source": "breakout"},
    "explain": {"source": "breakout"},
    "collect": {"source": "breakout"},
    "make_envs": {"name": "breakout", "num_envs": 1},
    "open_replay": {},
    "experiment": {
        "method": "sarsa", "problem": "mountain-car", "features": "tilings", "seeds": range(1), "episodes": 1,
    },
    "train": {"env": "breakout", "steps": 256, "quiet": True},
}  # fmt: skip
WRONG: dict[str, dict[str, list[object]]] = {
    "aggregate": {
        "source": [*PATH, None, "nope", {}, {"a": []}, {"a": [1.0]}, {"a": [[math.nan]]}, {"a": [["x"]]}, {"a": {}},
                   {"a": [[1.0], [2.0, 3.0]]}, {"a": [[1.0]], "b": [[1.0, 2.0]]}, {"a": [[1j]]}, {"a": [[10**400]]}],
        "tasks": ["ab", 5, [1, 2], ["t"], ["t", "u", "v"], {}, object()],
        "baseline": [*NAME, "b"], "gamma": ["1", math.nan, math.inf, True, [1], object(), 10**400],
        "level": [*real(0), 0, 1, 95], "draws": whole(10), "seed": SEED, "score": [*NAME, "max", None],
        "games": whole(1), "window": whole(1), "statistic": NAME,
    },
    "evaluate": {
        "policy": [*PATH, None, "nope", playfield], "games": whole(1), "seed": SEED, "num_envs": whole(0),
        "threads": whole(0), "on_game": FUNCTION, "on_step": FUNCTION, "max_steps": whole(1),
        "random_steps": whole(0), "protocol": NAME, "parts": TABLE,
        "statistic": [3, None, "", "max", ["median", "max"], {"median": 1}],
    },
    "list_runs": {
        "folder": [*(p for p in PATH if p != []), None, "nope", [5]], "env": NAME[:-1], "algo": NAME[:-1],
        "preset": NAME[:-1], "seed": [*(v for v in SEED if not isinstance(v, list)), [1.5], "1,2"],
        "state": NAME, "sort": [*NAME, None], "reverse": [*SWITCH, None],
        "statistic": [3, None, "", "max", ["median", "max"], {"median": 1}],
    },
    "load_policy": {
        **{k: v for k, v in AGENT.items() if k != "agent"}, "device": [*NAME, "tpu", "auto", None],
    },
    "record": {
        **AGENT, "out": [*PATH, "new/x.zzz", "new/x"], "style": [*NAME, None], "games": whole(1), "steps": whole(1),
        "start": whole(0), "mosaic": [*whole(0), 3, 121], "fps": real(1), "human": [*SWITCH, None], "say": FUNCTION,
    },
    "explain": {**AGENT, "out": PATH, "moments": whole(1), "method": [*NAME, None], "say": FUNCTION},
    "collect": {
        **AGENT, "steps": whole(1), "epsilon": [*real(0), 1.5], "num_envs": whole(1), "out": PATH, "say": FUNCTION,
    },
    "make_envs": {
        "name": [*NAME, None, "x" * 300], "num_envs": whole(1), "protocol": NAME, "view": NAME, "threads": whole(1),
        "raw": [*SWITCH, None], "env_kwargs": TABLE,
        "sticky": [2, "0,5", math.nan, True], "skip": whole(1), "noop": whole(0), "cap": whole(100),
           "stack": whole(1), "size": whole(0), "colour": NAME, "obs": NAME,
        **{name: SWITCH for name in ("life_loss", "fire_reset", "full_actions", "maxpool")},
        "nope": [1],
    },
    "open_replay": {"run": [*PATH, None, "nope", "breakout"]},
    "experiment": {
        "method": [*NAME, None, "ppo"], "problem": [*NAME, None], "features": [*NAME, None, "tilings:tiles=0"],
        "seeds": [5, "12", [], [1.5], [True], [-1], [1, 1], [2**53], None, {}, range(-1, 2), object()],
        "episodes": whole(1), "max_steps": whole(0), "threads": whole(0), "progress": FUNCTION,
        "alpha": ["0.1", -1, math.nan], "nope": [1],
    },
    "train": {"say": FUNCTION, "trust": [*SWITCH, None], "quiet": [*SWITCH, None]},
}  # fmt: skip
CASES = [
    pytest.param(function, name, value, id=f"{function}-{name}-{i}")
    for function, arguments in WRONG.items()
    for name, values in arguments.items()
    for i, value in enumerate(values)
]


def call(name: str):
    return {"explain": explain, "collect": collect}.get(name) or getattr(playfield, name)


@pytest.mark.parametrize(("function", "name", "value"), CASES)
def test_a_wrong_argument_is_named_and_leaves_nothing(function, name, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = {**RIGHT[function], name: value}
    start = time.monotonic()
    with pytest.raises(UsageError) as error:
        call(function)(**arguments)
    assert time.monotonic() - start < 20, "the work had begun"
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 500, text[:200]
    named = (
        name,
        name.replace("_", "-"),
        name.replace("_", " "),
        name.rstrip("s"),
        "checkpoint",
        "agent",
        "option",
        "format",
    )
    given = str(Path(value).suffix or value) if isinstance(value, str) else str(value)
    assert any(word in text for word in named) or given[:20].strip() in text, text[:200]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("function", [*playfield.__all__[1:], "explain", "collect"])
def test_every_argument_of_every_public_function_is_tried(function):
    parameters = inspect.signature(call(function)).parameters.values()
    names = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
    if function == "train":  # tests/test_numbers.py tries the others
        names = {"say", "trust", "quiet"}
    assert names <= WRONG[function].keys()


def test_the_default_of_an_argument_is_always_taken():
    assert playfield.load_policy("breakout", temperature=None, which="last").temperature == 1


def test_pathlike_names_and_numbers_of_numpy_are_taken(tmp_path):
    with pytest.raises(UsageError, match="no run"):
        playfield.open_replay(Path(tmp_path))
