"""Plots as PNG, SVG or PDF by the file's ending: what is in the files, that they are the same each time, refusals."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as xml
import zlib
from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest

from compare_runs import write_label
from playfield import lessons
from playfield.cli import main
from playfield.errors import UsageError
from playfield.lessons import _picture
from playfield.lessons._outcome import Outcome
from playfield.lessons._panels import Curves, Picture, Surface
from playfield.lessons._panels import Line as Curve
from playfield.show import compare_plot, formats, plots

MAGIC = {"png": b"\x89PNG\r\n\x1a\n", "svg": b"<?xml ", "pdf": b"%PDF-"}
TRAIN = ["compare", "CartPole-v1", "--algo", "pqn", "--steps", "1000"]
NAMES = "ppo, lr <0.1> & $x_1"  # nothing in a name is markup or mathematics


def curve(out: Path, games: int = 300, title: str = NAMES) -> bytes:
    played = [(100.0 * i, float(i * 7919 % 101)) for i in range(1, games)]
    plots.learning_curve(out, played, title=title, protocol_line="classic: sticky 0", evals=[(9000, 4, 3, 4.5)])
    return out.read_bytes()


def comparison(out: Path) -> bytes:
    steps = np.linspace(0, 1000, 20)
    lines = [compare_plot.Line(f"{NAMES} {i}", i, steps, np.outer(np.ones(3), steps) + i) for i in range(3)]
    compare_plot.comparison(out, [compare_plot.Panel("breakout", lines, human=30.5)], foot="a foot")
    return out.read_bytes()


def texts(svg: bytes) -> list[str]:
    return [e.text or "" for e in xml.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def streams(pdf: bytes) -> bytes:
    """All compressed parts of a PDF file, unpacked."""
    parts = []
    for found in re.finditer(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL):
        try:
            parts.append(zlib.decompress(found[1]))
        except zlib.error:
            parts.append(found[1])
    return b"\n".join(parts)


@pytest.mark.parametrize("draw", [curve, comparison])
@pytest.mark.parametrize("kind", formats.PLOTS)
def test_the_ending_chooses_the_format_and_nothing_else_is_left(draw, kind, tmp_path):
    made = draw(tmp_path / "new" / f"a.{kind.upper()}")
    assert made.startswith(MAGIC[kind])
    assert [p.name for p in (tmp_path / "new").iterdir()] == [f"a.{kind.upper()}"]
    assert draw(tmp_path / f"again.{kind}") == made


def test_text_in_an_svg_is_text(tmp_path):
    assert NAMES in texts(curve(tmp_path / "a.svg"))
    found = texts(comparison(tmp_path / "b.svg"))
    assert {f"{NAMES} {i}" for i in range(3)} <= set(found)
    assert "a foot" in found


def test_a_pdf_embeds_its_fonts_as_truetype_and_holds_no_date(tmp_path):
    made = curve(tmp_path / "a.pdf")
    assert b"/CIDFontType2" in made, "TrueType"
    assert b"/FontFile2" in made, "embedded"
    assert b"/Type3" not in made
    assert b" Tj" in streams(made) or b" TJ" in streams(made), "text, not outlines"
    for kind in formats.PLOTS:
        data = curve(tmp_path / f"b.{kind}")
        assert not re.search(rb"CreationDate|dc:date|matplotlib( v|\.org)", data + streams(data), re.I), kind


def test_files_of_another_process_are_the_same(tmp_path):
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import test_picture_formats as t\n"
        "for kind in t.formats.PLOTS: t.curve(Path(sys.argv[2]) / f'a.{kind}')"
    )
    there = tmp_path / "there"
    subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent), str(there)], check=True)
    for kind in formats.PLOTS:
        assert curve(tmp_path / f"a.{kind}") == (there / f"a.{kind}").read_bytes(), kind


def test_the_dots_of_very_many_games_are_pixels_in_a_vector_format(tmp_path):
    few, many = curve(tmp_path / "a.svg", plots.MANY), curve(tmp_path / "b.svg", 20 * plots.MANY)
    assert b"<image" not in few
    assert b"<image" in many
    assert len(many) < 2_000_000, "40,000 dots one by one would be 4 MB"


def test_matplotlib_settings_are_as_before(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    curve(tmp_path / "a.svg")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.svgz", ".svg", "a.pdf.txt"])
def test_another_ending_is_refused_and_nothing_is_left(name, tmp_path):
    with pytest.raises(UsageError, match=r"\.png, \.svg or \.pdf"):
        curve(tmp_path / "new" / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "out", "told"),
    [
        (
            ["compare", "CartPole-v1", "--algo", "pqn", "--steps", "1000"],
            "new/a.gif",
            "written as .png, .svg or .pdf",
        ),
        (TRAIN, "dir.svg", "is a directory"),
        (TRAIN, "file/a.svg", "is a file"),
        (["compare"], "a.jpeg", "call it a.png"),
        (["preprocess", "breakout"], "a.svg", "shows pixels: name it a.png"),
        (["replay", "last", "--show", "1"], "a.pdf", "shows pixels: name it a.png"),
        (["lesson", "preprocessing", "--format", "pdf"], "new", "PNG only"),
        (["lesson", "autoencoder", "--format", "svg"], "new", "PNG only"),
        (["lesson", "figure-10-3", "--format", "gif"], "new", "--format takes png, svg or pdf, not 'gif'"),
    ],
)
def test_commands_refuse_before_they_start(words, out, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dir.svg").mkdir()
    (tmp_path / "file").write_text("")
    assert main([*words, "--out", out]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["dir.svg", "file"]


@pytest.mark.parametrize("kind", ["svg", "pdf"])
def test_a_lesson_writes_its_picture_as_asked(kind, tmp_path, monkeypatch, capsys):
    panels = [
        Curves("the curves", "x", "y", [Curve("ours", np.arange(5.0), np.ones((3, 5)))]),
        Picture("a screen", np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)),
    ]
    monkeypatch.setattr(lessons, "run", lambda *_a, **_k: Outcome("figure-10-3", "a title", [], panels))
    for folder in ("a", "b"):
        assert main(["lesson", "figure-10-3", "--format", kind, "--out", str(tmp_path / folder)]) == 0
    assert f"figure-10-3.{kind}" in capsys.readouterr().out
    made = (tmp_path / "a" / f"figure-10-3.{kind}").read_bytes()
    assert made.startswith(MAGIC[kind])
    assert made == (tmp_path / "b" / f"figure-10-3.{kind}").read_bytes()
    if kind == "svg":
        assert {"a title", "the curves", "ours", "a screen"} <= set(texts(made))
        assert b"<image" in made, "a screen stays pixels"
    assert not (tmp_path / "a" / "figure-10-3.png").exists()


def test_a_single_run_and_a_folder_at_any_depth_are_drawn(tmp_path, capsys):
    write_label(tmp_path, "CartPole-v1", "dqn", 0, 1, 5000, 200)
    (run,) = [path.parent for path in tmp_path.rglob("run.json")]
    for depth, folder in enumerate((run, *run.parents[:3])):
        out = tmp_path / f"{depth}.svg"
        assert main(["compare", "--dir", str(folder), "--out", str(out)]) == 0, capsys.readouterr().err
        assert "CartPole-v1" in texts(out.read_bytes())


@pytest.mark.parametrize("points", [2, 40, 50, 101])
def test_the_patches_of_a_surface_have_four_corners_each(points):
    """Where some have more, matplotlib fills up the others with memory that it never set, and computes with it."""
    axes = matplotlib.figure.Figure().add_subplot(projection="3d")
    line = np.linspace(0, 1, points)
    _picture._surface(axes, Surface("", line, line, np.outer(line, line), ("a", "b", "c")))
    (surface,) = axes.collections
    faces = surface._faces
    assert faces.shape[1:] == (4, 3)
    assert len(faces) <= 41**2
    assert (faces.min(), faces.max()) == (0, 1), "up to the edges"
