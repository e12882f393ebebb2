"""Where auto-encoders lie, and the copy that a run keeps of the one that it sees by; without loading torch."""

from __future__ import annotations

from pathlib import Path

from playfield.errors import UsageError, nearest
from playfield.runs.storage import atomic_write, read_bytes

FILE = "autoencoder.safetensors"
MOST = 1 << 30  # bytes of an auto-encoder
FEATURES = "autoencoder:"  # of `--features`, before the path


def locate(path: str | Path) -> Path:
    """The file of the auto-encoder called `path`, a directory or the file; raises UsageError where there is none."""
    path = Path(path)
    file = path / FILE if path.is_dir() else path
    if not file.exists():
        close = nearest(str(path), [str(p.parent) for p in Path("autoencoders").glob(f"*/{FILE}")])
        hint = f"did you mean {', '.join(close)}?" if close else "train one: playfield autoencoder DATASET"
        raise UsageError(f"no auto-encoder {path}: {hint}")
    return file


def keep(features: str, run: Path) -> str:
    """Copy the auto-encoder that `features` name into a run's directory, and return the features as read from there.

    What the run sees does not change then when another one is trained in its place, and the directory can be moved.
    Other features are returned as they are.
    """
    if features.startswith(FEATURES):
        atomic_write(run / FILE, read_bytes(locate(features.removeprefix(FEATURES)), MOST))
    return kept(features, run)


def kept(features: str, run: Path) -> str:
    """`features`, with the auto-encoder that `keep` copied into a run's directory."""
    return f"{FEATURES}{run}" if features.startswith(FEATURES) and (run / FILE).exists() else features


SIDE = 84  # height and width of a frame


SPLITS = ("episodes", "frames")
