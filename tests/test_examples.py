"""The notebooks in examples/ run, each in an empty directory, and show pictures. Their outputs are not compared.

They run on smaller budgets: with other numbers in their first cell, which readers are invited to change.
"""

from __future__ import annotations

import base64
import io
import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

FOLDER = Path(__file__).parent.parent / "examples"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 1_500_000  # bytes of the whole folder
SMALLER = {
    "1-environment": {"GAMES": 5},
    "3-mountain-car": {"EPISODES": 60, "RUNS": 3, "LESSON_RUNS": 2},
    "4-dqn": {"STEPS": 2_000},
    "5-ppo": {"TARGET": 60},
    "6-autoencoder": {"EPOCHS": 1, "LINEAR_STEPS": 20},
}
PATIENCE = 600  # seconds that a cell may take: the first call of a linear method compiles it


@pytest.fixture
def jupyter(tmp_path, monkeypatch):
    """Jupyter's own files under a temporary directory, and none of the user's settings."""
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        folder = tmp_path / "jupyter" / name.lower()
        folder.mkdir(parents=True)
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")  # without it, jupyter_core warns of a change to come
    monkeypatch.delenv("MPLBACKEND", raising=False)
    home = tmp_path / "home"
    home.mkdir()
    return home


def executed(notebook: Any, folder: Path) -> Any:
    """Run all cells in `folder`; raises CellExecutionError at the first that fails."""
    quiet = ["--log-level=ERROR"]  # else it warns that it talks to this process unencrypted
    client = NotebookClient(
        notebook,
        timeout=PATIENCE,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=quiet,
    )
    return client.execute()


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def sources(notebook: Any) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def pictures(notebook: Any) -> list[Image.Image]:
    """Every picture that is shown, decoded; a GIF has many frames."""
    shown = [output.data["image/png"] for output in outputs(notebook) if "image/png" in output.get("data", {})]
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in shown]


def complaints(notebook: Any) -> list[str]:
    """What is wrong with an executed notebook, in words."""
    found = [f"error: {o.ename}: {o.evalue}" for o in outputs(notebook) if o.output_type == "error"]
    found += [f"stderr: {o.text}" for o in outputs(notebook) if o.output_type == "stream" and o.name == "stderr"]
    every = pictures(notebook)
    films = [p for p in every if p.format == "GIF" and p.n_frames >= 10]
    stills = [p for p in every if p.format == "PNG" and np.asarray(p.convert("RGB")).std() > 5]
    promised = sum(line.startswith('film("') for source in sources(notebook) for line in source.splitlines())
    if len(films) != promised:
        found.append(f"{len(films)} films instead of {promised}")
    if not stills or len(films) + len(stills) != len(every):
        found.append(f"{len(every) - len(films)} pictures, {len(stills)} of them with something to see")
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, jupyter):
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None  # what is found below was made here
    first = next(cell for cell in notebook.cells if cell.cell_type == "code" and "pip" not in cell.source)
    for name, value in SMALLER.get(path.stem, {}).items():
        first.source, found = re.subn(rf"^{name} = [\d_]+", f"{name} = {value}", first.source, flags=re.M)
        assert found == 1, name
    assert complaints(executed(notebook, jupyter)) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_as_it_is_kept(path):
    """One install line that does nothing by itself; run in order; shows no paths of the machine that ran it."""
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert notebook.cells[0].cell_type == "markdown"
    assert code[0].source.startswith("# %pip install")
    assert "\n" not in code[0].source
    assert sum("pip install" in source for source in sources(notebook)) == 1
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert complaints(notebook) == []
    text = path.read_text("utf-8")
    for place in (Path.home(), tempfile.gettempdir(), FOLDER.parent):
        assert str(place) not in text


def test_there_is_one_for_each_lesson_group_and_they_stay_small():
    assert len(NOTEBOOKS) == 6
    assert sum(path.stat().st_size for path in NOTEBOOKS) < LARGEST


def test_a_notebook_with_an_error_fails(jupyter):
    notebook = new_notebook(cells=[new_code_cell("x = 1"), new_code_cell("x / 0"), new_code_cell("print(x)")])
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        executed(notebook, jupyter)
    assert complaints(notebook)[0].startswith("error: ZeroDivisionError")
    assert not notebook.cells[2].outputs


def test_the_table_of_a_lesson_is_text_in_a_notebook_too(monkeypatch):
    import rich.console

    from playfield.lessons._rows import Row, table

    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    assert "eight tilings" in table([Row("eight tilings", "steps", 125.0, 124.0)])


def shows(source: str, *pictures_: bytes) -> Any:
    data = [{"image/png": base64.b64encode(picture).decode()} for picture in pictures_]
    return new_notebook(cells=[new_code_cell(source, outputs=[new_output("display_data", d) for d in data])])


def picture(kind: str, frames: int = 1, flat: bool = False) -> bytes:
    rng, file = np.random.default_rng(0), io.BytesIO()
    first, *more = (Image.fromarray(rng.integers(0, 1 if flat else 256, (8, 8, 3), np.uint8)) for _ in range(frames))
    first.save(file, kind, **({"save_all": True, "append_images": more} if kind == "GIF" else {}))
    return file.getvalue()


def test_what_is_missing_is_told():
    still, film = picture("PNG"), picture("GIF", 12)
    assert complaints(shows("1", still)) == []
    assert complaints(shows('film("a.gif")', still, film)) == []
    assert complaints(shows("1")) == ["0 pictures, 0 of them with something to see"]
    assert complaints(shows("1", picture("PNG", flat=True))) == ["1 pictures, 0 of them with something to see"]
    assert complaints(shows('film("a.gif")', still)) == ["0 films instead of 1"]
    assert complaints(shows('film("a.gif")', still, picture("GIF", 2)))[0] == "0 films instead of 1"
    warned = shows("1", still)
    warned.cells[0].outputs.append(new_output("stream", name="stderr", text="DeprecationWarning: old"))
    assert complaints(warned) == ["stderr: DeprecationWarning: old"]
