"""Pages of the documentation that are made from the code: the command line, from its parsers, and the notebooks.

`python scripts/docs_reference.py` prints the two pages of the command line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from playfield import options
from playfield.cli import VERBS, main

COMMAND_LINE = """# Command line

Made from the parsers when this page is built: what `playfield VERB --help` prints. Numbers may be written `3M`,
`500k`, `1e6` or `1_000`. An unknown option is answered with the nearest known ones.

| exit code | meaning |
|---:|---|
| 0 | done |
| 1 | another failure |
| 2 | wrong usage: an unknown name, or a value out of range |
| 3 | damaged data, or a run that another process holds |
| 4 | training diverged: a value is NaN or infinite |
| 5 | writing failed: disk full, read-only, no permission |
| 6 | the environment failed |
| 130, 143 | stopped by SIGINT (Ctrl-C) or SIGTERM, after saving |

"""
ALGORITHMS = """# Algorithms and their options

Made from the parsers when this page is built: what `playfield train --algo NAME --help` prints. The options that all
algorithms share are under [`playfield train`](command-line.md#playfield-train).

The last column has the value in the preset `default`. Where it depends on the environment, `atari` is for Atari games
seen as pixels, `ram` for Atari games seen as RAM, `pixels` for other environments seen as pixels, and `vector` for
the rest; a name such as `CartPole` is for that environment alone.

"""


class _Stop(Exception):
    """The parser is known."""


def parser_of(words: list[str]) -> argparse.ArgumentParser:
    """The parser that `playfield WORDS --help` prints: the command line runs until it would print it."""
    found: list[argparse.ArgumentParser] = []

    def keep(parser: argparse.ArgumentParser, *_: Any) -> None:
        found.append(parser)
        raise _Stop

    with mock.patch.object(argparse.ArgumentParser, "print_help", keep), contextlib.suppress(_Stop):
        main([*words, "--help"])
    return found[0]


def groups(parser: argparse.ArgumentParser) -> list[tuple[str, str, list[argparse.Action]]]:
    """(title, description, actions) of each group of arguments, those without any left out."""
    found = []
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if "--help" not in a.option_strings]
        if actions:
            found.append((group.title or "", group.description or "", actions))
    return found


def flag(action: argparse.Action) -> str:
    """An argument as it is typed: `--steps STEPS`, `env`."""
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    return ", ".join(f"`{name}{value}`" for name in action.option_strings).replace("|", "\\|")


def cell(text: str) -> str:
    """Text in a cell of a Markdown table."""
    return " ".join(text.replace("%%", "%").split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def table(actions: list[argparse.Action]) -> str:
    """A Markdown table of arguments."""
    rows = [f"| {flag(a)} | {cell(a.help or '')} |" for a in actions]
    return "\n".join(["| argument | meaning |", "|---|---|", *rows])


def command_line() -> str:
    """The page of all verbs, in Markdown."""
    parts = [COMMAND_LINE]
    for verb, call in VERBS.items():
        parser = parser_of([verb])
        about = " ".join((parser.description or call.__doc__ or "").split())
        parts.append(f"## playfield {verb}\n\n{about}\n")
        for title, _, actions in groups(parser):
            if title.endswith("own options"):
                parts.append("Each algorithm has options of its own: [Algorithms and their options](algorithms.md).\n")
                continue
            if title not in ("positional arguments", "options"):
                parts.append(f"**{title}**\n")
            parts.append(table(actions) + "\n")
        if parser.epilog:
            parts.append(f"```text\n{parser.epilog.strip()}\n```\n")
    return "\n".join(parts)


def algorithms() -> str:
    """The page of the algorithms' own options, in Markdown."""
    parts = [ALGORITHMS]
    for algo in options.algorithms():
        own = [g for g in groups(parser_of(["train", "--algo", algo])) if g[0].endswith("own options")]
        parts.append(f"## {algo}\n\n{about(algo)}\n\nPresets: {', '.join(f'`{p}`' for p in options.presets(algo))}.\n")
        if own:
            rows = []
            for action in own[0][2]:
                meaning, _, value = (action.help or "").rpartition(" [")
                rows.append(f"| {flag(action)} | {cell(meaning)} | {cell(value.removesuffix(']'))} |")
            parts.append("\n".join(["| option | meaning | default |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def about(algo: str) -> str:
    """The first paragraph of an algorithm's docstring."""
    import importlib

    return (importlib.import_module(f"playfield.algos.{algo}").__doc__ or "").strip().split("\n\n")[0]


def notebook_page(path: Path) -> str:
    """A notebook with its outputs as a page in Markdown; pictures lie in the page."""
    parts: list[str] = []
    for number, one in enumerate(json.loads(path.read_text("utf-8"))["cells"]):
        source = "".join(one["source"])
        if one["cell_type"] == "markdown":
            parts.append(source)
            if number == 0:
                parts.append(f"*The notebook itself, for Jupyter: [{path.name}]({path.name}).*")
        elif source:
            parts.append(f"```python\n{source}\n```")
            parts += [text for output in one["outputs"] if (text := _output(output))]
    return "\n\n".join(parts) + "\n"


def _output(output: dict[str, Any]) -> str:
    """One output of a cell in Markdown."""
    data = output.get("data", {})
    for kind in ("image/png", "image/gif"):
        if kind in data:
            return f'<img alt="output of the cell above" src="data:{kind};base64,{"".join(data[kind]).strip()}">'
    text = "".join(output.get("text", data.get("text/plain", "")))
    return f"```text\n{text.rstrip()}\n```" if text.strip() else ""


def print_pages(pages: tuple[Callable[[], str], ...] = (command_line, algorithms)) -> None:
    for page in pages:
        print(page())


if __name__ == "__main__":
    print_pages()
