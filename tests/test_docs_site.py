"""The documentation site: what is made from the code is current, and a built site is whole and needs no network."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

import playfield
from playfield.cli import VERBS, main
from playfield.runs import catalog

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(ROOT / "scripts"))

import docs_reference  # noqa: E402
import house_picture  # noqa: E402


def help_text(words, capsys):
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def command_line():
    return docs_reference.command_line()


@pytest.mark.parametrize("verb", VERBS)
def test_the_command_line_page_has_every_option(verb, command_line, capsys):
    section = command_line.split(f"## playfield {verb}\n")[1].split("\n## ")[0]
    flags = set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", help_text([verb], capsys), re.M)) - {"--help"}
    if verb == "train":
        flags -= {o.flag for o in catalog.options("ppo")}  # these are on the page of algorithms
    assert flags
    assert not [flag for flag in flags if f"`{flag}" not in section]


def test_the_page_of_algorithms_has_every_option():
    page = docs_reference.algorithms()
    for algo in catalog.algorithms():
        section = page.split(f"## {algo}\n")[1].split("\n## ")[0]
        assert not [o.flag for o in catalog.options(algo) if f"`{o.flag} " not in section], algo
        assert not [p for p in catalog.presets(algo) if f"`{p}`" not in section], algo


def test_every_public_name_is_on_the_page_of_the_api():
    page = (DOCS / "reference" / "api.md").read_text("utf-8")
    for name in playfield.__all__:
        assert f"playfield.{name}" in page
        if name != "__version__":
            function = getattr(playfield, name)
            assert f"::: {function.__module__}.{name}\n" in page


@pytest.mark.parametrize("path", re.findall(r"^::: (\S+)", (DOCS / "reference" / "api.md").read_text("utf-8"), re.M))
def test_what_the_api_documents_exists_and_is_explained(path):
    module, _, name = path.rpartition(".")
    found = importlib.import_module(path) if name == "errors" else getattr(importlib.import_module(module), name)
    text = inspect.getdoc(found) or ""
    assert len(text) > 20
    if inspect.isfunction(found):
        for parameter in inspect.signature(found).parameters:
            if parameter != "self":
                assert re.search(rf"\b{parameter}\b", text), f"{path}: {parameter} is not explained"


def test_the_picture_of_the_packages_shows_the_imports():
    """Its arrows, not how many imports each stands for: those are counted anew when the site is built."""
    again = "draw it again: python scripts/house_picture.py"
    assert house_picture.drawn().keys() == house_picture.house().arrows.keys(), again


def test_the_table_of_the_packages_has_all_of_them():
    found = house_picture.house()
    table = house_picture.table(found)
    folders = {p.parent.name for p in house_picture.PACKAGE.glob("*/__init__.py")}
    assert folders <= set(found.rooms)
    assert all(f"| `{room}` | {found.about[room][:20]}" in table for room in found.rooms)
    for (one, other), count in found.arrows.items():
        row = next(line for line in table.splitlines() if line.startswith(f"| `{one}` |"))
        assert f"{other} {count}" in row


@pytest.mark.parametrize("notebook", sorted((ROOT / "examples").glob("*.ipynb")), ids=lambda p: p.stem)
def test_a_notebook_is_a_page(notebook):
    page = docs_reference.notebook_page(notebook)
    assert page.startswith("# ")
    assert f"]({notebook.name})" in page
    assert "```python" in page


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda p: str(p.relative_to(DOCS)))
def test_links_lead_somewhere(page):
    """As files of the repository, too: the pages are read where they lie."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        target = urldefrag(link)[0]
        if target and "://" not in target:
            assert (page.parent / target).exists(), link


def test_readme_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)\s]+)\)", (ROOT / "README.md").read_text("utf-8")):
        target = urldefrag(link)[0]
        if target and "://" not in target:
            assert (ROOT / target).exists(), link


class Page(HTMLParser):
    """The links of a page, what a browser would load with it, and what can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.ids: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        given = {k: v or "" for k, v in attrs}
        self.ids |= {given[k] for k in ("id", "name") if k in given}
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "icon", "preconnect", "preload", "dns-prefetch"):
            self.loads.add(given["href"])
        elif "src" in given:
            self.loads.add(given["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for needed in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(needed)
    folder = tmp_path_factory.mktemp("site")
    build = subprocess.run(
        [str(ROOT / "scripts" / "docs"), "--site-dir", str(folder)], capture_output=True, text=True, timeout=600
    )
    assert build.returncode == 0, build.stdout + build.stderr
    return {path.relative_to(folder).as_posix(): Page(path) for path in folder.rglob("*.html")}, folder


def follow(place: str, link: str, folder: Path) -> str:
    target = (folder / place).parent / unquote(urldefrag(link)[0])
    return target.resolve().relative_to(folder.resolve()).as_posix()


def test_every_page_is_two_clicks_away(site):
    pages, folder = site
    reached = {"index.html"}
    for _ in range(2):
        for place in sorted(reached):
            local = [
                link for link in pages[place].links if "://" not in link and urldefrag(link)[0].endswith(".html")
            ]
            reached |= {follow(place, link, folder) for link in local} & pages.keys()
    assert reached == pages.keys() - {"404.html"}


def test_no_page_loads_from_elsewhere(site):
    pages, folder = site
    for place, page in pages.items():
        if place != "404.html":  # for servers: its links are absolute
            for load in page.loads:
                assert load.startswith("data:") or (folder / follow(place, load, folder)).is_file(), (
                    f"{place}: {load}"
                )
    for sheet in folder.rglob("*.css"):
        assert not re.findall(r"url\([\"']?https?:", sheet.read_text("utf-8")), sheet


def test_all_links_and_anchors_of_the_site_exist(site):
    pages, folder = site
    for place, page in pages.items():
        if place == "404.html":
            continue
        for link in page.links:
            if "://" in link or link.startswith(("mailto:", "data:")):
                continue
            name, anchor = follow(place, link, folder) if urldefrag(link)[0] else place, urldefrag(link)[1]
            assert (folder / name).exists(), f"{place}: {link}"
            if anchor and name in pages and not anchor.startswith("__"):
                assert unquote(anchor) in pages[name].ids, f"{place}: {link}"
