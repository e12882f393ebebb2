"""What the command line knows without torch (`runs/index.json`) is what the modules say."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import pytest

from playfield.errors import UsageError
from playfield.options import Count, Excludes, Fraction, Positive, Signed
from playfield.runs import algorithm, catalog
from playfield.runs.declared import option, options_of


def test_the_index_is_what_importing_everything_gives():
    stored = json.loads(catalog.INDEX.read_text("utf-8"))
    assert stored == json.loads(json.dumps(catalog.build_index())), "run scripts/index"


def test_a_changed_source_makes_the_index_stale(tmp_path):
    (tmp_path / "algos").mkdir()
    (tmp_path / "algos" / "x.py").write_text("a = 1")
    before = catalog.sources(tmp_path)
    (tmp_path / "algos" / "x.py").write_text("a = 2")
    assert catalog.sources(tmp_path) != before


@pytest.mark.parametrize("algo", algorithm.names())
def test_an_entry_is_the_same_with_and_without_the_index(algo, monkeypatch):
    module = algorithm.load(algo)
    with_index = catalog.entry(algo)
    assert catalog._index()["algorithms"], "the index is stale: run scripts/index"
    monkeypatch.setattr(catalog, "_index", lambda: {"algorithms": {}, "nets": {}})
    assert catalog.entry(algo) == with_index
    fields = {f.name: f.default for f in dataclasses.fields(module.Config)}
    assert {o.name: o.default for o in with_index.options} == fields
    assert all(o.help for o in with_index.options), f"{algo}: an option without a docstring"
    hints = get_type_hints(module.Config)
    named = {n: get_args(hints[n]) if get_origin(hints[n]) is Literal else () for n in fields}
    assert {o.name: o.choices for o in with_index.options} == named
    assert {o.name for o in with_index.options if o.quantity} == {n for n in fields if hints[n] == float | str}
    has = {kind: {name: dataclasses.asdict(cfg) for name, cfg in t.items()} for kind, t in module.PRESETS.items()}
    assert with_index.presets == has


def test_the_bodies_are_the_same_with_and_without_the_index(monkeypatch):
    with_index = {name: catalog.body(name) for name in catalog.body_names()}
    monkeypatch.setattr(catalog, "_index", lambda: {"algorithms": {}, "nets": {}})
    assert {name: catalog.body(name) for name in catalog.body_names()} == with_index


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sources": 3}', "SOURCES-ONLY", "NO-DICTS", "[" * 200_000])
def test_a_damaged_index_counts_as_none(text, tmp_path, monkeypatch):
    if text == "SOURCES-ONLY":
        text = json.dumps({"sources": catalog.sources()})
    if text == "NO-DICTS":
        text = json.dumps({"sources": catalog.sources(), "algorithms": 3, "nets": None})
    (tmp_path / "index.json").write_text(text)
    monkeypatch.setattr(catalog, "INDEX", tmp_path / "index.json")
    catalog._index.cache_clear()
    try:
        assert catalog._index() == {"algorithms": {}, "nets": {}}
    finally:
        catalog._index.cache_clear()


def test_nothing_of_it_needs_torch():
    code = (
        "import sys; from playfield.runs import catalog; from playfield.nets import names;"
        "import playfield.cli.train;"
        "[catalog.presets(a) for a in catalog.algorithms()]; names.nets(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (Count, ["1", "1k"], ["0", "-1", "1.5"]),
        (int, ["0"], ["-1"]),
        (float, ["0", "2.5"], ["-0.1", "nan", "inf"]),
        (Fraction, ["0", "0.5", "1"], ["-0.1", "1.1"]),
        (Positive, ["0.1", "5"], ["0", "-1"]),
        (Signed, ["-5", "0", "5"], ["-1e39"]),
        (bool, ["true", "off"], ["2", "maybe"]),
        (Literal["a", "b"], ["a"], ["c"]),
        (str, ["anything"], []),
    ],
)
def test_an_annotation_says_which_values_there_are(annotation, good, bad):
    made = option("size", annotation, None)
    for text in good:
        made.parse(text)
    for text in bad:
        with pytest.raises(UsageError):
            made.parse(text)


def test_other_annotations_are_a_mistake_of_the_programmer():
    with pytest.raises(TypeError, match=r"size is annotated as list\[int\]"):
        option("size", list[int], None)


def test_switches_that_exclude_each_other(monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Config(algorithm.Config):
        num_envs: int = 1
        rollout_steps: int = 1
        one: Annotated[bool, Excludes("two")] = True
        """First."""
        two: Annotated[bool, Excludes("one")] = False
        """Second."""

    entry = catalog.Entry(options_of(Config), {}, True, False)
    assert [o.help for o in entry.options][2:] == ["First.", "Second."]
    monkeypatch.setattr(catalog, "entry", lambda name: entry)
    assert catalog.agree("any", {"two": True}) == {"one": False, "two": True}
    assert catalog.agree("any", {"two": False}) == {"two": False}
    with pytest.raises(UsageError, match=r"--one and --two exclude each other, leave one out"):
        catalog.agree("any", {"one": True, "two": True})


@pytest.mark.parametrize("algo", algorithm.names())
def test_a_new_default_keeps_the_range_of_the_option(algo):
    """A subclass that gives a field another default must annotate it as its base does."""
    config = algorithm.load(algo).Config
    own = {o.name: o for o in options_of(config)}
    for base in config.__mro__[1:]:
        if dataclasses.is_dataclass(base):
            for o in options_of(base):
                again = own[o.name]
                assert (again.low, again.high, again.above, again.excludes, again.names) == (
                    (o.low, o.high, o.above, o.excludes, o.names)
                ), f"{algo} {o.name}"
