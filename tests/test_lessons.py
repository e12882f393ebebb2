"""`playfield lesson`: the list, names, options, verdicts, files and progress."""

from __future__ import annotations

import io
import itertools
import json
import math

import numpy as np
import pytest
from PIL import Image

from playfield import lessons
from playfield.cli import main
from playfield.errors import UsageError
from playfield.lessons import _picture, _report, _rows, _walk
from playfield.lessons._outcome import Outcome
from playfield.lessons._panels import Areas, Curves, Line, Mark, Picture, Surface
from playfield.lessons._progress import Reporter, Silent
from playfield.lessons._rows import Row, mean_row
from playfield.lessons._sweep import Branch, Found
from playfield.linear import many

X = np.arange(1, 6)


def outcome(name: str = "made", **more) -> Outcome:
    y = np.array([[5.0, 4, 3, 2, 1], [6, 4, 3, 2, 2], [5, 5, 3, 1, 1]])
    curves = Curves("steps", "episode", "steps", [Line("a", X, y)], [Mark(0, 5.1, 5.3, 1.5)], log=True)
    rows = [mean_row("a", "steps, last", 1.5, y[:, -1], seconds_there=28.3, seconds_here=0.1)]
    return Outcome(name, "A title", rows, [curves], **more)


def test_every_file_is_a_lesson_with_one_line_and_a_budget(capsys):
    assert main(["lesson"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lessons.names()) >= 20
    for name, line in zip(lessons.names(), lines, strict=False):
        assert line.startswith(name)
        first = lessons.about(name).partition("\n")[0]
        assert line.endswith(first)
        assert first.endswith(".")
        module = lessons.load(name)
        assert module.BUDGET.runs or module.BUDGET.episodes or module.BUDGET.steps
        assert callable(module.run)


def test_the_experiments_and_figures_asked_for_are_there():
    every = "\n".join(lessons.about(name) for name in lessons.names())
    for letter in "ABCDEF":
        assert f"Experiment {letter}:" in every
    for figure in ("10.3", "10.4", "12.10"):
        assert f"Figure {figure}:" in every


@pytest.mark.parametrize(
    ("name", "near"), [("mountain-car-tiling", "mountain-car-tilings"), ("figure-10", "figure-10-")]
)
def test_an_unknown_name_is_reported_with_the_nearest(name, near, capsys, tmp_path):
    assert main(["lesson", name, "--out", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert near in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "x").exists()


def test_a_figure_is_found_as_the_book_writes_it():
    assert lessons.about("figure-10.3") == lessons.about("figure_10_3") == lessons.about("Figure 10.3")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["preprocessing", "--runs", "3"], "no --runs"),
        (["figure-10-3", "--faithful"], "no --faithful"),
        (["figure-10-3", "--steps", "5"], "no --steps"),
        (["figure-10-4", "--gif"], "plays no game"),
        (["figure-10-3", "--runs", "0"], "between 1"),
        (["figure-10-3", "--episode", "3"], "--episodes"),
        (["--runs", "3"], "of which lesson"),
    ],
)
def test_an_option_that_a_lesson_lacks_is_reported_in_one_line(words, why, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["lesson", *words]) == 2
    error = capsys.readouterr().err
    assert why in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_place_of_the_folder_is_refused_before_anything_runs(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(lessons, "run", lambda *a, **k: pytest.fail("it ran"))
    assert main(["lesson", "figure-10-3", "--out", str(tmp_path / "file" / "in")]) == 2
    assert "is a file" in capsys.readouterr().err


def test_a_window_without_a_display_is_refused_before_anything_runs(tmp_path, capsys, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(lessons, "run", lambda *a, **k: pytest.fail("it ran"))
    assert main(["lesson", "figure-10-3", "--show", "--out", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert "--show" in error
    assert len(error.splitlines()) == 1
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("DISPLAY", ":0")
    with pytest.raises(UsageError, match="MPLBACKEND"):
        _picture.check_display()


# Verdicts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (Row("", "", 100, 109, tolerance=0.1), "pass"),
        (Row("", "", 100, 111, tolerance=0.1), "differs"),
        (Row("", "", 100, 89, tolerance=0.1), "differs"),
        (Row("", "", -21, -20, tolerance=0.1), "pass"),
        (Row("", "", 400, 401, rule="at most"), "differs"),
        (Row("", "", 400, 400, rule="at most"), "pass"),
        (Row("", "", 195, 194, rule="at least"), "differs"),
        (Row("", "", 195, 200, rule="at least"), "pass"),
        (Row("", "", 100, 50, 40, 96, rule="among runs"), "pass"),
        (Row("", "", 100, 50, 40, 90, rule="among runs"), "differs"),
        (Row("", "", 1_679_523, 1_679_524, rule="same"), "differs"),
        (Row("", "", None, 3), "-"),
        (Row("", "", None, 3, claim="4 is best", holds=False), "differs"),
        (Row("", "", None, 3, claim="4 is best", holds=True), "pass"),
        (Row("", "", 100, 500, compared=False), "-"),
        (Row("", "", 100, math.nan), "differs"),
    ],
)
def test_verdicts(row, verdict):
    assert row.verdict == verdict


def test_a_mean_row_has_students_interval_and_few_runs_give_no_range():
    row = mean_row("", "", 10.0, np.array([8.0, 10.0, 12.0]))
    assert row.ours == 10
    assert row.high == pytest.approx(10 + 4.302653 * 2 / math.sqrt(3), rel=1e-5)
    assert mean_row("", "", 10.0, np.arange(5.0), rule="among runs").verdict == "too few runs"
    assert mean_row("", "", 10.0, np.arange(5.0), rule="among runs", compared=False).verdict == "-"
    assert mean_row("", "", 8.0, np.arange(10.0), rule="among runs").verdict == "pass"


def test_a_lesson_that_learns_badly_differs(monkeypatch):
    """The whole way from an experiment to the table: ten times too many steps differ."""

    def bad(method, problem, features, *, seeds, episodes, **_):
        steps = np.full((len(seeds), episodes), 1_500)
        return type("Out", (), {"steps": steps, "seconds": 0.1})

    monkeypatch.setattr(many, "experiment", bad)
    rows = lessons.run("mountain-car-tilings", runs=10).rows
    assert [row.verdict for row in rows] == ["differs"] * 5
    assert "differs" in _rows.table(rows)
    shorter = lessons.run("mountain-car-tilings", runs=10, episodes=60).rows
    assert [row.verdict for row in shorter] == ["-"] * 5


def test_one_run_is_too_few_to_compare(monkeypatch, tmp_path, capsys):
    """Numbers, claims about the best of several, and the table of what is on the disk; exit code 0."""

    def good(method, problem, features, *, seeds, episodes, **_):
        return type("Out", (), {"steps": np.full((len(seeds), episodes), 130), "seconds": 0.1})

    monkeypatch.setattr(many, "experiment", good)
    for name in ("mountain-car-tilings", "figure-10-4"):
        assert main(["lesson", name, "--runs", "1", "--out", str(tmp_path), "--quiet"]) == 0
        told = json.loads((tmp_path / f"{name}.json").read_text("utf-8"))
        assert {row["verdict"] for row in told["rows"]} - {"-"} == {"too few runs"}
    capsys.readouterr()
    assert main(["lesson", "--table", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("too few runs") == 6
    few = lessons.run("mountain-car-tilings", runs=9).rows  # of 20: their mean proves nothing
    assert {row.verdict for row in few} - {"-"} == {"too few runs"}
    assert "pass" in {row.verdict for row in lessons.run("mountain-car-tilings", runs=10).rows}
    assert {row.verdict for row in lessons.run("mountain-car-tilings", runs=1, episodes=9).rows} == {"-"}


@pytest.mark.parametrize("best", [0.0, 0.4, 0.975, 0.99, 1.0])
@pytest.mark.parametrize("name", ["random-walk-td", "random-walk-true-online"])
def test_any_lambda_between_the_ends_may_be_best(name, best, monkeypatch):
    def walk(method, problem, features, *, seeds, episodes, lam=0.5, **_):
        errors = np.full((len(seeds), episodes), 0.3 if lam == best else 0.4)
        return type("Out", (), {"errors": errors, "seconds": 0.1})

    monkeypatch.setattr(many, "experiment", walk)
    monkeypatch.setattr(_walk, "SIZES", (0.1, 0.3))
    (row,) = [row for row in lessons.run(name, runs=50).rows if "between" in row.claim]
    assert (row.setting, row.ours) == (f"lambda {best:g}", pytest.approx(0.3))
    assert row.verdict == ("pass" if 0 < best < 1 else "differs")


@pytest.mark.parametrize(
    ("change", "differs"),
    [({}, 0), ({"obs_bytes": 4 * 28_224}, 1), ({"largest_difference_by_hand": 2}, 1)],
)
def test_the_comparisons_of_the_lesson_on_preprocessing_can_fail(change, differs, monkeypatch):
    found = {"screen_bytes": 100_800, "obs_shape": [84, 84, 4], "obs_bytes": 28_224, "largest_difference_by_hand": 0}

    def preprocess(_game, *, steps, out):
        Image.new("RGB", (4, 4)).save(out)
        return found | change

    monkeypatch.setattr("playfield.lessons.preprocessing.preprocess", preprocess)
    verdicts = [row.verdict for row in lessons.run("preprocessing").rows]
    assert (verdicts.count("differs"), verdicts.count("pass")) == (differs, 2 - differs)


# Files -------------------------------------------------------------------------------------------------------


def test_picture_and_table_are_written_and_say_the_same_each_time(tmp_path):
    files = _report.write(outcome(), tmp_path / "a" / "b", gif=False)
    assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == ["made.json", "made.png"]
    with Image.open(files["picture"]) as picture:
        assert picture.size == (1080, 700)
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10
    told = json.loads(files["table"].read_text("utf-8"))
    (row,) = told["rows"]
    assert row["ours"] == pytest.approx(4 / 3)
    assert row["verdict"] == "differs"
    assert (row["seconds_there"], row["seconds_here"]) == (28.3, 0.1)
    assert told["curves"][0]["y"][0] == pytest.approx(16 / 3, abs=1e-3)
    assert (
        _report.write(outcome(), tmp_path / "c", gif=False)["picture"].read_bytes() == files["picture"].read_bytes()
    )


def test_nothing_half_made_is_left_when_a_film_fails(tmp_path):
    def frames():
        yield np.zeros((8, 8, 3), np.uint8)
        raise RuntimeError("the game broke")

    with pytest.raises(RuntimeError):
        _report.write(outcome(film=frames), tmp_path, gif=True)
    assert not list(tmp_path.iterdir())


def test_a_film_is_written_on_request(tmp_path):
    film = lambda: iter([np.full((8, 8, 3), k, np.uint8) for k in (0, 100, 200)])  # noqa: E731
    files = _report.write(outcome(film=film), tmp_path, gif=True)
    with Image.open(files["film"]) as made:
        assert made.n_frames == 3


def test_a_stopped_lesson_leaves_nothing(tmp_path, monkeypatch, capsys):
    def stopped(*_a, **_k):
        raise KeyboardInterrupt

    monkeypatch.setattr(lessons, "run", stopped)
    assert main(["lesson", "figure-10-3", "--out", str(tmp_path / "x")]) == 130
    assert not (tmp_path / "x").exists()


def test_every_kind_of_panel_is_drawn():
    z = np.outer(np.arange(4.0), np.arange(5.0))
    panels = [
        *outcome().panels,
        Surface("s", np.arange(5.0), np.arange(4.0), z, ("x", "y", "z")),
        Areas(
            "a", np.arange(5.0), np.arange(4.0), (z > 3).astype(int), ("no", "yes"), ("x", "y"), text=z.astype(int)
        ),
        Picture("p", np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)),
        Curves("b", "x", "y", [Line("", X, np.ones((1, 5)))], [Mark(0, 1, 1, 0.5)], bars=True),
    ]
    made = Outcome("made", "t", [], panels)
    image = made.pillow()
    assert image.size == (3 * 720, 2 * 570 + 40)
    assert made._repr_png_()[:4] == b"\x89PNG"
    alone = Outcome("made", "t", [], panels[3:4])
    np.testing.assert_array_equal(np.asarray(alone.pillow().convert("RGB")), panels[3].pixels)


def test_the_numbers_of_a_surface_do_not_run_into_each_other():
    from matplotlib.figure import Figure

    x, y = np.linspace(-1.2, 0.5, 40), np.linspace(-0.07, 0.07, 40)
    figure = Figure(figsize=(6, 4.75), layout="constrained")
    axes = figure.add_subplot(projection="3d")
    _picture._surface(axes, Surface("s", x, y, np.add.outer(y, x), ("position", "velocity", "cost to go")))
    figure.draw_without_rendering()
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
        boxes = [tick.label1.get_window_extent() for tick in ticks]
        assert len(boxes) > 3
        assert not any(one.overlaps(other) for one, other in itertools.pairwise(boxes))


def test_markdown_has_a_line_for_each_row():
    lines = _rows.markdown(_rows.HEADINGS, [_rows.cells(row) for row in outcome().rows]).splitlines()
    assert len(lines) == 3
    assert all(line.count("|") == len(_rows.HEADINGS) + 1 for line in lines)


def test_the_table_of_all_lessons_is_made_of_their_files(tmp_path, capsys):
    for name in ("one", "two"):
        _report.write(outcome(name), tmp_path, gif=False)
    assert main(["lesson", "--table", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["`one`", "`two`"]
    assert main(["lesson", "--table", str(tmp_path / "none")]) == 2
    capsys.readouterr()
    _report.write(outcome("figure-10-3"), tmp_path, gif=False)
    assert main(["lesson", "Figure 10.3", "--table", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["`figure-10-3`"]
    for name, why in (("figure-10-4", "not run into"), ("figure-10-33", "did you mean figure-10-3")):
        assert main(["lesson", name, "--table", str(tmp_path)]) == 2
        assert why in capsys.readouterr().err
    (tmp_path / "one.json").write_text("{")
    assert main(["lesson", "--table", str(tmp_path)]) == 3
    assert "one.json" in capsys.readouterr().err


# Progress ----------------------------------------------------------------------------------------------------


def test_progress_reports_the_time_left():
    now = [0.0]
    stream = io.StringIO()
    reporter = Reporter("x", stream, clock=lambda: now[0])
    now[0] = 3600.0  # of trainings
    reporter.parts(2)
    first = reporter.part("a")
    now[0] += 20.0
    first(1, 2)  # a quarter in 20 s: a minute left
    assert stream.getvalue().splitlines()[-1] == "x: 25%, 1 min 00 s left"
    reporter.part("b")
    now[0] += 40.0
    reporter.part("c")(9, 9)
    assert stream.getvalue().splitlines()[-1] == "x: 100%, 0.0 s left"
    reporter.close()
    Silent().part("a")(1, 2)


def test_progress_on_a_terminal_is_a_bar(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    reporter = Reporter("made", stream)
    reporter.parts(1)
    reporter.part("runs")(1, 2)
    reporter.close()
    assert "made" in stream.getvalue()


def test_the_best_step_size_is_one_that_did_not_diverge():
    branch, nan = Branch("a", "sarsa", {}, [0.1, 0.2, 0.4]), math.nan
    size, values = Found(branch, np.array([[3.0, 4], [2.0, 3], [nan, nan]]), 1.0).best()
    assert (size, values.tolist()) == (0.2, [2.0, 3.0])
    size, values = Found(branch, np.full((3, 2), nan), 1.0).best()  # all diverged
    assert size == 0.1
    assert np.isnan(values).all()
