"""`name:option=value,...`, as --net and --features are written."""

from __future__ import annotations

import pytest

from playfield.errors import UsageError
from playfield.options import Option, parse_spec

KNOWN = {
    "impala": [Option("width", "float", 1.0, ""), Option("norm", "str", "none", "", ("none", "layer"))],
    "plain": [],
}


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("plain", "plain", {}),
        ("impala", "impala", {}),
        ("impala:width=2", "impala", {"width": "2"}),
        ("impala: norm = layer , width=", "impala", {"norm": "layer", "width": ""}),
        ("impala:norm=a=b", "impala", {"norm": "a=b"}),
    ],
)
def test_the_parts_of_a_spec(text, name, values):
    """Values are text: what they must be is for the caller to check."""
    assert parse_spec(text, "net", KNOWN) == (name, values)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("impla", "no net called 'impla': did you mean impala?"),
        ("", "no net called '': choose from impala, plain"),
        ("impala:widht=1", "no option of --net impala called 'widht': did you mean width?"),
        ("impala:", "no option of --net impala called '': choose from width, norm"),
        ("plain:", "--net plain has no options"),
        (
            "impala:norm",
            "--net impala:norm: norm lacks a value; options are written as in impala:norm=none",
        ),
        (
            "impala:width=1,width=2",
            "--net impala:width=1,width=2: width is given twice; options are written as in impala:width=1.0",
        ),
    ],
)
def test_mistakes(text, error):
    with pytest.raises(UsageError) as caught:
        parse_spec(text, "net", KNOWN)
    assert str(caught.value) == error
