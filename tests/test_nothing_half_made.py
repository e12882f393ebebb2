"""A verb that fails while it writes leaves neither half of its files nor the folder that it made for them."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from playfield import lessons
from playfield.cli import main
from playfield.datasets import dataset
from playfield.errors import StorageError
from playfield.lessons._outcome import Outcome
from playfield.lessons._panels import Curves, Line
from playfield.runs import storage

EXPLAIN = ["explain", "CartPole-v1", "--agent", "random", "--moments", "2", "--out"]
LESSON = ["lesson", "figure-10-3", "--quiet", "--out"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def full_at(monkeypatch, name: str) -> None:
    """From now on the disk is full as soon as the file `name` is written."""

    def fault(point: str) -> None:
        if point.startswith("write ") and name in point:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage, "fault_point", fault)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (EXPLAIN, "moment-1"),
        (EXPLAIN, "moment-2"),
        (EXPLAIN, "explain.html"),
        (LESSON, ".png"),
        (LESSON, ".json"),
    ],
)
def test_a_new_folder_is_gone_after_a_full_disk(words, name, monkeypatch, capsys):
    panel = Curves("b", "x", "y", [Line("", np.arange(5.0), np.ones((1, 5)))])
    monkeypatch.setattr(lessons, "run", lambda *_, **__: Outcome("figure-10-3", "t", [], [panel]))
    full_at(monkeypatch, name)
    assert main([*words, "new/deep"]) == 5
    assert capsys.readouterr().err.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_of_a_folder_that_was_there_what_was_in_it_stays(monkeypatch):
    for name in ("why/mine.txt", "why/moment-2.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("mine")
    full_at(monkeypatch, "explain.html")
    assert main([*EXPLAIN, "why"]) == 5
    assert sorted(path.name for path in Path("why").iterdir()) == ["mine.txt", "moment-2.png"]


def test_what_another_process_wrote_into_the_new_folder_stays():
    def fail() -> None:
        with storage.folder_for(Path("new/deep"), ["a", "b"]):
            Path("new/deep/a").write_text("half")
            Path("new/deep/other").write_text("whole")
            raise StorageError("full")

    with pytest.raises(StorageError):
        fail()
    assert [path.name for path in Path("new/deep").iterdir()] == ["other"]
    with storage.folder_for(Path("more/deep"), ["a"]):
        Path("more/deep/a").write_text("whole")
    assert Path("more/deep/a").exists()


def test_films_and_pictures_and_data_sets(monkeypatch, capsys):
    film = ["record", "CartPole-v1", "--agent", "random", "--steps", "5", "--out"]
    with monkeypatch.context() as patch:
        patch.setattr("playfield.show.film.GifWriter.add", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        assert main([*film, "new/deep/f.gif"]) == 5
    assert list(Path().iterdir()) == []
    assert main([*film, "new/deep/f.gif"]) == 0
    assert [path.name for path in Path("new/deep").iterdir()] == ["f.gif"]
    with pytest.raises(ZeroDivisionError), dataset.new_directory(Path("data/deep")):
        _ = 1 / 0
    assert not Path("data").exists()
    assert "Traceback" not in capsys.readouterr().err
