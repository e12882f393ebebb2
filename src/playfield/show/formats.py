"""In which formats a picture is written: chosen by the ending of the file's name, checked before any work is done.

Plots are made of lines and text: PNG, SVG or PDF. Pictures of screens are made of pixels: PNG only. Without
matplotlib or Pillow, so that a command can refuse a name at once.
"""

from __future__ import annotations

from pathlib import Path

from playfield.errors import UsageError

PLOTS = ("png", "svg", "pdf")


def plot_format(path: Path) -> str:
    """The format of a plot by its ending: `png`, `svg` or `pdf`. Raises UsageError for another one."""
    kind = path.suffix.lower().removeprefix(".")
    if kind not in PLOTS:
        raise UsageError(
            f"a plot is written as .png, .svg or .pdf, by the ending of its name: call it {_renamed(path)}, not "
            f"{path.name}"
        )
    return kind


def check_plot(path: Path) -> None:
    """Raise UsageError unless `path` can name the file of a plot."""
    plot_format(path)
    if path.is_dir():
        raise UsageError(f"--out {path} is a directory: name a file in it, such as {path / 'plot.png'}")
    for folder in path.parents:
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"--out {path}: {folder} is a file, not a directory")


def check_picture(path: Path) -> None:
    """Raise UsageError unless `path` can name the PNG file of a picture of pixels."""
    if path.is_dir():
        raise UsageError(f"--out {path} is a directory: name a file in it, such as {path / 'picture.png'}")
    if path.suffix.lower() != ".png":
        raise UsageError(f"--out writes a PNG file, since it shows pixels: name it {_renamed(path)}")
    if not path.parent.is_dir():
        raise UsageError(f"--out {path}: there is no directory {path.parent}")


def _renamed(path: Path) -> str:
    """The name with the ending .png. A name without a stem, such as `.`, has none to replace."""
    return str(path.with_suffix(".png")) if path.name else "picture.png"
