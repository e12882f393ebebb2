"""What a lesson says of itself: options that were changed, arrows in a maze, ticks, and where it cannot write."""

from __future__ import annotations

import json

import numpy as np
import pytest
from matplotlib.figure import Figure

from playfield import lessons
from playfield.cli import main
from playfield.errors import StorageError, UsageError
from playfield.lessons import _picture, _report, _rows, cliff, dyna_q, n_step_walk
from playfield.lessons._panels import Areas, Curves, Line
from playfield.runs import storage

STEPS = {"↑": (-1, 0), "→": (0, 1), "↓": (1, 0), "←": (0, -1)}


@pytest.mark.parametrize(
    ("name", "asked", "words"),
    [
        ("cliff", {}, ""),
        ("cliff", {"runs": 200, "episodes": 500}, ""),
        ("cliff", {"runs": 1}, "1 run"),
        ("cliff", {"runs": 50, "episodes": 1}, "50 runs, 1 episode"),
        ("baird", {"steps": 10_000}, "10,000 steps"),
        ("true-online-q", {"runs": 5, "initial": -100.0}, "5 runs, --initial -100"),
        ("true-online-q", {"epsilon_decay": 0.9}, "--epsilon-decay 0.9"),
        ("schedules", {"clip_value": False, "gamma": 0.5}, "--clip-value false, --gamma 0.5"),
        ("mountain-car-hashing", {"faithful": True}, "--faithful"),
    ],
)
def test_what_is_not_as_published_is_said_in_words(name, asked, words):
    assert lessons.requested(name, **asked).changed(lessons.load(name).BUDGET) == words


def test_heading_picture_json_and_the_table_of_all_say_it(tmp_path, capsys, monkeypatch):
    titles = []
    monkeypatch.setattr("playfield.lessons._outcome.png", lambda title, *_: titles.append(title) or b"")
    words = ["lesson", "cliff", "--runs", "4", "--episodes", "20", "--quiet", "--out", str(tmp_path)]
    assert main(words) == 0
    here = "(here: 4 runs, 20 episodes)"
    assert capsys.readouterr().out.splitlines()[0].endswith(here)
    assert titles == [f"Example 6.6: walking along a cliff {here}"]
    assert json.loads((tmp_path / "cliff.json").read_text())["changed"] == "4 runs, 20 episodes"
    assert f"| `cliff` {here} | Sarsa |" in _report.collected(tmp_path)
    told = json.loads((tmp_path / "cliff.json").read_text())
    del told["changed"]  # as an earlier version wrote it
    (tmp_path / "cliff.json").write_text(json.dumps(told))
    assert "| `cliff` | Sarsa |" in _report.collected(tmp_path)


def test_a_long_heading_stays_in_the_picture():
    title = "TD(0) with a table, groups and tilings, 1,000-state random walk (here: 5 runs, 20,000 episodes)"
    panels = [Curves("t", "x", "y", [Line("a", np.arange(3), np.ones((1, 3)))])]
    figure = _picture.blank_figure(_picture._size(panels, 3), "")
    _picture._draw(figure, title, panels, 3)
    figure.draw_without_rendering()
    box = figure._suptitle.get_window_extent()
    assert box.x1 <= figure.bbox.width
    assert figure._suptitle.get_text().replace("\n", " ") == title


def walked(panel: Areas, start: tuple[int, int]) -> list[tuple[int, int]]:
    """The squares to which the arrows lead, from the start to the goal."""
    squares = [start]
    while (sign := panel.signs[squares[-1]]) != "G":
        down, right = STEPS[sign.removeprefix("S ")]
        squares.append((squares[-1][0] + down, squares[-1][1] + right))
        assert len(squares) < 60
    return squares


def test_arrows_lead_along_the_cliff_and_away_from_it():
    _, sarsa, q_learning = lessons.run("cliff", runs=40).panels
    start = (cliff.ROWS - 1, 0)
    short, long = walked(q_learning, start), walked(sarsa, start)
    assert (len(short) - 1, len(long) - 1) == (cliff.SHORTEST, 17)
    assert {row for row, _ in short[1:-1]} == {cliff.ROWS - 2}
    assert sarsa.signs[start] == "S ↑"
    assert not "".join(sarsa.signs[cliff.ROWS - 1, 1:-1])


def test_arrows_lead_through_the_maze():
    _, maze = lessons.run("dyna-q").panels
    path = walked(maze, dyna_q.START)
    assert len(path) - 1 == dyna_q.SHORTEST
    assert not any(dyna_q.WALLS[square] for square in path)


@pytest.mark.parametrize("decades", [1, 3, 12])
def test_a_logarithmic_axis_has_numbers_over_few_decades_and_over_many(decades):
    axes = Figure().add_subplot()
    x = np.arange(30)
    y = np.geomspace(10.0, 10.0 ** (decades + 1), 30)
    _picture._curves(axes, Curves("t", "x", "y", [Line("a", x, y[None])], log=True))
    low, high = axes.get_ylim()
    shown = [
        t.get_text() for at, t in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True) if low <= at <= high
    ]
    assert 3 <= len([text for text in shown if text]) <= 14
    assert decades < 12 or {"1e9", "1e11"} < set(shown)


def test_large_numbers_are_short():
    texts = [_rows.number(v) for v in (92_197_824_728.0, 9.22e10, -4e12, 1e9, 999_999_999.0, 1_000_000.0)]
    assert texts == ["9.22e10", "9.22e10", "-4e12", "1e9", "999,999,999", "1,000,000"]


def test_the_axis_of_n_step_methods_has_room_for_small_errors(monkeypatch):
    monkeypatch.setattr(n_step_walk, "STEPS", (2, 4))
    monkeypatch.setattr(n_step_walk, "SIZES", (0.1, 0.2))
    panel = lessons.run("n-step-walk", runs=4, episodes=200).panels[0]
    lowest = min(line.y.mean(axis=0).min() for line in panel.lines)
    assert panel.ylim[0] < lowest < 0.22


def test_where_the_files_cannot_be_written_is_said_before_the_lesson_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lessons, "run", lambda *a, **k: pytest.fail("it ran"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a" / "cliff.svg").mkdir(parents=True)
    assert main(["lesson", "cliff", "--out", "a", "--format", "svg"]) == 2
    assert "a/cliff.svg is a directory: choose another one with --out" in capsys.readouterr().err
    (tmp_path / "e" / "cliff.gif").mkdir(parents=True)  # no film is asked for
    _report.check_folder(tmp_path / "e", "cliff")
    monkeypatch.setattr(storage.os, "access", lambda path, mode: False)
    with pytest.raises(StorageError, match="no permission, or a read-only disk"):
        _report.check_folder(tmp_path / "b", "cliff")
    (tmp_path / "c").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        _report.check_folder(tmp_path / "c" / "d", "cliff")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("figure-2-2", "try playfield lesson bandits"),
        ("Figure 9.10", "try playfield lesson walk-tilings"),
        ("6.7", "try playfield lesson double-q"),
        ("figure-2-20", "did you mean figure-12-10"),
    ],
)
def test_a_lesson_is_found_by_the_number_of_its_figure(name, told, capsys):
    assert main(["lesson", name]) == 2
    assert f": {told}" in capsys.readouterr().err


def test_the_last_of_one_episode_is_one():
    assert (_rows.last(1, "episode"), _rows.last(20, "step")) == ("last episode", "last 20 steps")


def test_an_option_that_a_lesson_has_not_names_what_it_has(capsys):
    assert main(["lesson", "cliff", "--alpha", "0.5"]) == 2
    told = "lesson cliff has no option --alpha: it has --runs and --episodes; see playfield lesson cliff --help"
    assert told in capsys.readouterr().err
    assert main(["lesson", "--out", "cliff", "dyna-q", "--alpha", "0.5"]) == 2
    assert "lesson dyna-q has no option --alpha: it has" in capsys.readouterr().err
    assert main(["lesson", "true-online-q", "--foo", "1"]) == 2
    assert "it has --runs and --episodes, and 3 of its method; see" in capsys.readouterr().err
    assert main(["lesson", "cliff", "--runz", "5"]) == 2
    assert "did you mean --runs?" in capsys.readouterr().err
    assert main(["lesson", "--alpha", "5"]) == 2
    assert "has no option --alpha: see playfield lesson --help" in capsys.readouterr().err
