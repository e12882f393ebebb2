"""Pages of the documentation that are made from the code: the command line, from its parsers, and the notebooks.

`python scripts/docs_reference.py` prints the two pages of the command line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import Any
from unittest import mock

from playfield.cli import VERBS, main
from playfield.runs import algorithm, catalog


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


def groups(parser: argparse.ArgumentParser) -> list[tuple[str, list[argparse.Action]]]:
    """(title, actions) of each group of arguments, those without any left out."""
    found = []
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if "--help" not in a.option_strings]
        if actions:
            found.append((group.title or "", actions))
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
    """A section for each command, in Markdown."""
    parts: list[str] = []
    for verb, command in VERBS.items():
        parser = parser_of([verb])
        about = " ".join((parser.description or command.about).split())
        parts.append(f"## playfield {verb}\n\n{about}\n")
        named = groups(parser)
        plain = [a for title, actions in named if title in ("positional arguments", "options") for a in actions]
        parts.append(table(plain) + "\n")
        for title, actions in named:
            if title.endswith("own options"):
                parts.append(
                    "Each algorithm has options of its own: [Algorithms and their options](algorithms.md).\n"
                )
            elif title not in ("positional arguments", "options"):
                parts.append(f"**{title}**\n\n{table(actions)}\n")
        if parser.epilog:
            parts.append(f"```text\n{parser.epilog.strip()}\n```\n")
    return "\n".join(parts)


def algorithms() -> str:
    """A section for each algorithm with its own options, in Markdown."""
    parts: list[str] = []
    for algo in catalog.algorithms():
        own = [g for g in groups(parser_of(["train", "--algo", algo])) if g[0].endswith("own options")]
        parts.append(
            f"## {algo}\n\n{about(algo)}\n\nPresets: {', '.join(f'`{p}`' for p in catalog.presets(algo))}.\n"
        )
        if own:
            rows = []
            for action in own[0][1]:
                meaning, _, value = (action.help or "").rpartition(" [")
                rows.append(f"| {flag(action)} | {cell(meaning)} | {cell(value.removesuffix(']'))} |")
            parts.append("\n".join(["| option | meaning | default |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def about(algo: str) -> str:
    """The first paragraph of an algorithm's docstring."""
    return (algorithm.load(algo).__doc__ or "").strip().split("\n\n")[0]


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


if __name__ == "__main__":
    print(command_line())
    print(algorithms())
