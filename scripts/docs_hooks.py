"""What MkDocs does not do by itself: pages made from the parsers, from the imports and from the notebooks.

MkDocs calls the functions that begin with `on_` (see `hooks` in mkdocs.yml).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import docs_reference  # noqa: E402
import house_picture  # noqa: E402

MADE: dict[str, Callable[[], str]] = {
    "<!-- command line -->": docs_reference.command_line,
    "<!-- algorithms -->": docs_reference.algorithms,
    "<!-- packages -->": lambda: house_picture.table(house_picture.house()),
}
NOTEBOOKS = re.compile(r"\]\(\.\./((?:\.\./)*)examples/([^)]*)\.ipynb\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and pictures that are made here; the committed picture of the packages is drawn anew."""
    made: dict[str, str | bytes] = {"design/house.svg": house_picture.svg(house_picture.house())}
    for notebook in sorted((HERE.parent / "examples").glob("*.ipynb")):
        made[f"examples/{notebook.stem}.md"] = docs_reference.notebook_page(notebook)
        made[f"examples/{notebook.name}"] = notebook.read_bytes()
    for name, content in made.items():
        if (before := files.get_file_from_path(name)) is not None:
            files.remove(before)
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to notebooks lead to their pages; the marks in the text are replaced by what is made here."""
    markdown = NOTEBOOKS.sub(r"](\1examples/\2.md)", markdown)
    for mark, make in MADE.items():
        if mark in markdown:
            markdown = markdown.replace(mark, make())
    return markdown
