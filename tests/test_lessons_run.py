"""Every lesson runs, on a small budget, and leaves a picture and a table; some films and claims."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from playfield import lessons
from playfield.cli import main
from playfield.lessons import _walk, dqn, figure_10_3, figure_10_4, figure_12_10, random_agent
from playfield.lessons._course import first
from playfield.linear.coders import coder_for
from playfield.linear.many import experiment
from playfield.linear.problems import problem
from playfield.nets import summary

SMALL = {"runs": "2", "episodes": "4", "steps": "400"}
BUDGETS = {
    "random-agent": {"episodes": "2"},
    "replay-memory": {},
    "figure-10-1": {"episodes": "3"},
    "dqn": {"steps": "64"},
    "preprocessing": {"steps": "40"},
}
DEEP = {"batch-size", "schedules", "stochasticity", "views"}
SLOW = {"autoencoder", "breakout-features", *DEEP}  # they have test files of their own


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Sweeps over few step sizes: lessons of hundreds of experiments take long otherwise."""
    monkeypatch.setattr(figure_10_4, "GRIDS", {1: (0.5, 0.6, 0.1), 4: (0.4, 0.5, 0.1)})
    monkeypatch.setattr(figure_12_10, "SIZES", (0.5, 1.0))
    monkeypatch.setattr(figure_12_10, "LAMBDAS", (0.0, 0.96))  # one with a published number, and one without
    monkeypatch.setattr(_walk, "SIZES", (0.1, 0.3))
    monkeypatch.setattr(random_agent, "ENVS", 2)
    monkeypatch.setattr(figure_10_3, "game", functools.partial(figure_10_3.game, most=20))


def kind(*cells: str) -> tuple[str, ...]:
    """Cells of a row without their numbers, which depend on the budget and on what is best."""
    plain = [re.sub(r"episodes\b", "episode", re.sub(r"\d[\d,.]*", "#", cell)) for cell in cells]
    return tuple(cell.replace("last # episode", "last episode") for cell in plain)


@functools.cache
def published() -> dict[str, set[tuple[str, ...]]]:
    """Setting, measure and rule of the rows of each lesson, as the page about lessons shows them."""
    page = (Path(__file__).parent.parent / "docs" / "lessons.md").read_text("utf-8")
    table = page.partition("## Results of all lessons")[2].partition("\n## ")[0]
    found: dict[str, set[tuple[str, ...]]] = {}
    name = ""
    for line in table.splitlines():
        if line.startswith(("| `", "|  |")):
            lesson, setting, measure, *_, rule, _, _, _ = (cell.strip() for cell in line.strip("|").split("|"))
            name = lesson.strip("`") or name
            found.setdefault(name, set()).add(kind(setting, measure, rule))
    return found


@pytest.mark.parametrize("name", [n for n in lessons.names() if n not in SLOW])
def test_it_writes_a_picture_and_a_table(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    budget = lessons.load(name).BUDGET
    wishes = BUDGETS.get(name, {k: v for k, v in SMALL.items() if getattr(budget, k)})
    words = [w for k, v in wishes.items() for w in (f"--{k}", v)]
    assert main(["lesson", name, *words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert sorted(p.name for p in Path("lessons").iterdir()) == [f"{name}.json", f"{name}.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lessons"]
    assert told["lesson"] == name
    assert told["rows"]
    with Image.open(told["files"]["picture"]) as picture:
        assert min(picture.size) >= 400
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10
    assert {kind(row["setting"], row["measure"], row["rule"]) for row in told["rows"]} == published()[name]
    if "episodes" in wishes:  # another budget is not compared
        assert {row["verdict"] for row in told["rows"]} <= {"-"}
    stored = json.loads(Path(f"lessons/{name}.json").read_text("utf-8"))
    assert stored == {k: v for k, v in told.items() if k != "files"}


@pytest.mark.parametrize("name", [n for n in lessons.names() if lessons.load(n).BUDGET.faithful and n not in SLOW])
def test_the_faithful_mode_runs_what_the_lesson_ran(name, tmp_path, capsys):
    plain = lessons.run(name, runs=2, episodes=4)
    faithful = lessons.run(name, runs=2, episodes=4, faithful=True)
    labels = [{row.setting for row in found.rows} for found in (plain, faithful)]
    assert any("as in the course" in label or "modulo, alpha" in label for label in labels[1] - labels[0])


def test_a_film_of_a_game_is_written(tmp_path, capsys):
    words = ["--runs", "1", "--episodes", "3", "--gif", "--quiet", "--out", str(tmp_path)]
    assert main(["lesson", "figure-10-3", *words]) == 0
    with Image.open(tmp_path / "figure-10-3.gif") as film:
        assert film.size == (300, 200)
        assert film.n_frames > 20
    assert re.search(r"film: .*figure-10-3.gif", capsys.readouterr().out)


def test_the_same_seed_gives_the_same_table():
    """All but the seconds."""

    def rows() -> list:
        return [(r.setting, r.ours, r.low) for r in lessons.run("figure-10-3", runs=3, episodes=5).rows]

    assert rows() == rows()


def test_one_hot_features_numbered_as_in_the_course_change_nothing():
    """Of the two features with the same index one contains only the goal: nothing is learnt there."""
    steps = [
        experiment("sarsa", "mountain-car-gym", f"onehot:tiles=8{end}", seeds=[0, 1], episodes=6, alpha=0.1 / 8).steps
        for end in ("", ",faithful=true")
    ]
    np.testing.assert_array_equal(*steps)


@pytest.mark.parametrize(("features", "on"), [("onehot:tiles=8,faithful=true", {3, 5, 12}), ("tilings", 16)])
def test_the_course_starts_with_the_features_of_two_states(features, on):
    spec = problem("mountain-car-gym")
    coder = coder_for(features, *(np.array(b, float) for b in (spec.low, spec.high, spec.tiled)))
    index, value = np.zeros(2 * coder.active, np.int64), np.zeros(2 * coder.active)
    found = index[: first(coder, index, value)].tolist()
    assert len(found) == len(set(found))
    assert (set(found) if isinstance(on, set) else len(found)) == on


def test_the_network_of_the_course_is_counted_to_the_weight():
    found = [layer.parameters for layer in summary.layers("nature", summary.Input(dqn.SHAPE, dqn.ACTIONS))]
    assert [n for n in found if n] == list(dqn.LAYERS)
    assert sum(found) == dqn.TOTAL == 1_679_523
