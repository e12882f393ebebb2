"""In a notebook: progress in one line that is replaced in place, and a picture and a table for a result."""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from playfield.runs.console import Console
from playfield.runs.notebook import in_notebook
from playfield.training.result import Result
from test_examples import executed, jupyter  # noqa: F401  (a fixture)

PNG = b"\x89PNG\r\n\x1a\nrest"


def result(tmp_path: Path, **more) -> Result:
    curve = tmp_path / "curve.png"
    curve.write_bytes(PNG)
    given = {
        "directory": Path("runs/<b>"),
        "steps": 60_000,
        "seconds": 61.0,
        "score": 0.5,
        "hash": "ab" * 32,
        "evaluation": {"mean": 0.743, "ci95": [0.6, 0.81], "games": 30, "scores": [0.123456] * 30},
        "files": {"curve": curve},
        "stop": "steps",
    }
    return Result(**(given | more))


def test_a_result_is_a_picture_and_a_table(tmp_path):
    made = result(tmp_path)
    assert made._repr_png_() == PNG
    page = made._repr_html_()
    assert "data:image/png;base64,iVBOR" in page
    for text in ("0.743 (95 % interval 0.600 to 0.810) over 30 full games", "60,000", "1 min 01 s", "runs/&lt;b&gt;"):
        assert text in page
    assert "<b>" not in page


def test_a_result_prints_as_a_few_lines(tmp_path):
    text = str(result(tmp_path, warnings=("no film: it cannot draw itself",), stop="target"))
    assert "0.743 (95 % interval 0.600 to 0.810)" in text
    assert "60,000 (stopped: target)" in text
    assert "no film" in text
    assert "0.123456" not in text, "not every score"
    assert text.count("\n") == 5


def test_what_is_missing_is_left_out(tmp_path):
    made = result(tmp_path, evaluation=None, score=math.nan, files={})
    assert made._repr_png_() is None
    assert "<img" not in made._repr_html_()
    assert "interval" not in str(made)
    assert "no game has ended" in str(made)
    gone = result(tmp_path, files={"curve": tmp_path / "gone.png"})
    assert "<img" not in gone._repr_html_()
    few = result(tmp_path, evaluation={"mean": 5.0, "ci95": None, "games": 3})
    assert "5.00 (too few games for an interval) over 3 full games" in str(few)


def test_outside_a_notebook_nothing_changes(monkeypatch):
    assert not in_notebook()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not in_notebook()
    terminal = SimpleNamespace()  # IPython in a terminal has no kernel
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: terminal))
    assert not in_notebook()


def test_progress_is_one_output_replaced_in_place(monkeypatch, capsys):
    shown: list[tuple[str, dict]] = []
    handle = SimpleNamespace(update=lambda data, raw: shown.append(("update", data)))

    def display(data, raw, display_id):
        assert raw
        assert display_id
        shown.append(("new", data))
        return handle

    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    now = iter(range(100))
    console = Console("a <game>", 100, clock=lambda: float(next(now)))
    for step in (10, 50, 100):
        console.log(step, {"rollout/ep_rew_mean": 0.25})
    console.note("a note")
    console.close()
    assert [how for how, _ in shown] == ["new", "update", "update"]
    assert [data["text/plain"] for _, data in shown][-1] == "a <game>, 100 of 100 steps (100%), score 0.25"
    assert '<progress value="0.5000"' in shown[1][1]["text/html"]
    assert "a &lt;game&gt;" in shown[1][1]["text/html"]
    assert capsys.readouterr().out == "a note\n"
    Console("quiet", 100, quiet=True).log(1, {"a": 1})
    stream = io.StringIO()
    Console("to a file", 100, stream).log(1, {"a": 1})
    assert len(shown) == 3
    assert "to a file" in stream.getvalue()


@pytest.mark.usefixtures("jupyter")
def test_a_training_in_a_kernel(tmp_path):
    cell = (
        "import playfield\nr = playfield.train('CartPole-v1', steps=2048, games=0, tensorboard=False, film=False)\nr"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    outputs = executed(notebook, tmp_path).cells[0].outputs
    (line,) = [o for o in outputs if o.output_type == "display_data"]
    assert "2,048 of 2,048 steps (100%)" in line["data"]["text/plain"], "the newest, and only that"
    assert "<progress" in line["data"]["text/html"]
    (shown,) = [o for o in outputs if o.output_type == "execute_result"]
    assert "data:image/png" in shown["data"]["text/html"]
    assert shown["data"]["image/png"].startswith("iVBOR")
    printed = "".join(o["text"] for o in outputs if o.output_type == "stream")
    assert "-----" not in printed, "no blocks"
