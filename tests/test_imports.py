"""The house's arrows go one way: cli -> session -> algos -> {envs, nets, returns, run}; nothing points back."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import playfield

ROOT = Path(playfield.__file__).parent
# Who must not be imported by whom: (importing file or folder, forbidden prefix).
FORBIDDEN = [
    ("envs", ("algos", "run", "learner", "session", "cli", "policy", "evaluation", "show", "watch", "bench")),
    ("algos", ("session", "cli", "show", "watch", "bench", "evaluation", "film")),
    ("run.py", ("session", "cli", "show", "watch", "bench", "algos")),
    ("learner.py", ("run", "session", "cli", "envs", "algos")),
    ("returns.py", ("run", "learner", "envs", "algos", "nets", "session")),
    ("checkpoint.py", ("run", "learner", "envs", "algos", "nets", "session")),
    ("film.py", ("run", "learner", "algos", "session", "cli")),
    ("panels.py", ("run", "learner", "algos", "session", "cli")),
    ("policy.py", ("session", "cli", "show", "watch", "bench")),
    ("watch", ("cli", "bench")),
]


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("playfield"):
            found.add(node.module.removeprefix("playfield").lstrip("."))
            found |= {f"{node.module.removeprefix('playfield').lstrip('.')}.{a.name}".lstrip(".") for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {
                a.name.removeprefix("playfield").lstrip(".") for a in node.names if a.name.startswith("playfield")
            }
    return found


@pytest.mark.parametrize(("where", "forbidden"), FORBIDDEN, ids=[w for w, _ in FORBIDDEN])
def test_nothing_points_back(where, forbidden):
    files = sorted((ROOT / where).glob("*.py")) if (ROOT / where).is_dir() else [ROOT / where]
    assert files
    for file in files:
        wrong = [m for m in imports(file) for f in forbidden if m == f or m.startswith(f + ".")]
        assert not wrong, f"{file.name} imports {wrong}"


def test_no_pickle_anywhere():
    for file in ROOT.rglob("*.py"):
        text = file.read_text("utf-8")
        for word in ("import pickle", "torch.save", "torch.load", "cloudpickle", "allow_pickle=True"):
            assert word not in text, f"{file.name}: {word}"


def test_files_stay_small():
    for file in [*ROOT.rglob("*.py"), *Path(__file__).parent.glob("*.py")]:
        lines = len(file.read_text("utf-8").splitlines())
        limit = 250 if file.parent.name == "algos" else 400
        assert lines <= limit, f"{file.name} has {lines} lines"
