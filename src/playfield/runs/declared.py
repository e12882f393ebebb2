"""The options that a `Config` class declares: its fields, their annotations and the docstrings under them."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import textwrap
import typing
from collections.abc import Hashable
from typing import Annotated, Any, Literal, cast

from playfield.options import Excludes, Names, Option, Range, Scheduled


def options_of(config: type) -> tuple[Option, ...]:
    """The options of a `Config` class, in the order of its fields."""
    return _options_of(cast(Hashable, config))


@functools.cache
def _options_of(config: Any) -> tuple[Option, ...]:
    hints = typing.get_type_hints(config, include_extras=True)
    helps = field_docstrings(config)
    return tuple(
        option(field.name, hints[field.name], field.default, helps.get(field.name, ""))
        for field in dataclasses.fields(config)
    )


def option(name: str, annotation: Any, default: Any, help: str = "") -> Option:
    """The option that an annotation describes. Raises TypeError for an annotation that no option can have."""
    more: dict[str, Any] = {}
    if typing.get_origin(annotation) is Annotated:
        annotation, *notes = typing.get_args(annotation)
        for note in notes:
            if isinstance(note, Range):
                more |= dataclasses.asdict(note)
            elif isinstance(note, Names):
                more["names"] = note.what
            elif isinstance(note, Excludes):
                more["excludes"] = note.other
            elif isinstance(note, Scheduled):
                more |= {"quantity": note.quantity, "replaces": note.replaces}
                annotation = float
    if typing.get_origin(annotation) is Literal:
        return Option(name, "str", default, help, typing.get_args(annotation), **more)
    if annotation not in (int, float, bool, str):
        raise TypeError(f"{name} is annotated as {annotation}: an option is int, float, bool, str or a Literal")
    return Option(name, annotation.__name__, default, help, **more)


def field_docstrings(config: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, those of its base classes included."""
    found: dict[str, str] = {}
    for cls in reversed(config.__mro__):
        if not dataclasses.is_dataclass(cls):
            continue
        try:
            source = textwrap.dedent(inspect.getsource(cls))
        except OSError:  # made at a prompt: there is no file to read
            continue
        body = ast.parse(source).body[0]
        assert isinstance(body, ast.ClassDef)
        for node, following in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(node, ast.AnnAssign)
                and isinstance(node.target, ast.Name)
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
            ):
                found[node.target.id] = " ".join(str(following.value.value).split())
    return found
