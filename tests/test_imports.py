"""The rooms of the package, in order: a module imports from its own room and from those below, never from above."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

import playfield

ROOT = Path(playfield.__file__).parent
# From the top floor down. Rooms of one floor stand side by side and do not import each other.
FLOORS = (
    ("__main__",),
    ("cli",),
    ("lessons", "bench"),
    ("__init__",),
    ("experiments",),
    ("training", "datasets"),
    ("show",),
    ("algos",),
    ("linear", "replay"),
    ("nets", "play"),
    ("runs",),
    ("envs",),
    ("arguments",),
    ("options",),
    ("compute",),
    ("errors",),
)
FLOOR = {room: number for number, floor in enumerate(FLOORS) for room in floor}
MOST_LOCAL_IMPORTS = 28  # imports inside functions: an optional package, or what a command needs once it is run


def room_of(path: Path) -> str:
    """The room of a file: its folder right under the package, or the file itself."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0]


def module_room(module: str) -> str:
    """The room of a dotted module name of this package."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(tree: ast.AST) -> list[tuple[str, int]]:
    """Every (room, line) that the code imports from, inside functions too; not what only a type checker reads."""
    found: list[tuple[str, int]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "playfield":
            for alias in node.names:
                found.append((alias.name if alias.name in FLOOR else "__init__", node.lineno))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("playfield."):
            found.append((module_room(node.module or ""), node.lineno))
        elif isinstance(node, ast.Import):
            found += [(module_room(a.name), node.lineno) for a in node.names if a.name.split(".")[0] == "playfield"]
    return found


def local_imports(path: Path) -> list[int]:
    """The lines of all imports inside functions."""
    lines = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines |= {n.lineno for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom)}
    return sorted(lines)


FILES = sorted(ROOT.rglob("*.py"))


def test_every_room_has_its_floor():
    assert {room_of(f) for f in FILES} == FLOOR.keys()
    assert len([p for p in ROOT.iterdir() if p.is_dir() and p.name[0] not in "._"]) <= 14
    assert len(list(ROOT.glob("*.py"))) <= 6


@pytest.mark.parametrize("path", FILES, ids=[str(f.relative_to(ROOT)) for f in FILES])
def test_nothing_points_back(path):
    own = room_of(path)
    if own == "__init__":
        pytest.skip("the public names are lazy, and under `if TYPE_CHECKING`")
    wrong = [
        f"line {line} imports {room}"
        for room, line in imports(ast.parse(path.read_text("utf-8")))
        if room != own and FLOOR[room] <= FLOOR[own]
    ]
    assert not wrong, f"{path.relative_to(ROOT)}: {wrong}"


def test_few_imports_inside_functions():
    found = Counter({str(f.relative_to(ROOT)): len(local_imports(f)) for f in FILES})
    assert found.total() <= MOST_LOCAL_IMPORTS, found.most_common(20)


def module_of(path: Path) -> str:
    """The dotted name of a file."""
    parts = ("playfield", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def graph() -> dict[str, set[str]]:
    """Which module imports which, over the whole package, inside functions too."""
    modules = {module_of(f): f for f in FILES}
    found: dict[str, set[str]] = {}
    for name, path in modules.items():
        targets = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    targets.add(full if full in modules else node.module)
            elif isinstance(node, ast.Import):
                targets |= {a.name for a in node.names}
        found[name] = targets & modules.keys() - {name}
    found["playfield"] = set()  # the public names: lazy
    return found


def circles(edges: dict[str, set[str]]) -> list[str]:
    """Modules that import themselves by way of others."""
    reached = {name: set(targets) for name, targets in edges.items()}
    while True:
        grown = {name: found.union(*(reached[n] for n in found)) for name, found in reached.items()}
        if grown == reached:
            return sorted(name for name, found in reached.items() if name in found)
        reached = grown


def test_no_module_imports_itself_by_way_of_others():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c"]
    assert circles({"a": {"b"}, "b": set()}) == []
    edges = graph()
    assert sum(map(len, edges.values())) > 300, "the walk finds the imports"
    assert circles(edges) == []


@pytest.mark.parametrize("room", [p.name for p in ROOT.iterdir() if (p / "__init__.py").exists()])
def test_each_room_says_what_lives_there(room):
    about = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text("utf-8")))
    assert about, f"{room}/__init__.py has no docstring"


def test_no_pickle_anywhere():
    for file in FILES:
        text = file.read_text("utf-8")
        for word in ("import pickle", "torch.save", "torch.load", "cloudpickle", "allow_pickle=True"):
            assert word not in text, f"{file.name}: {word}"


def test_files_stay_small():
    for file in [*FILES, *Path(__file__).parent.glob("*.py")]:
        lines = len(file.read_text("utf-8").splitlines())
        limit = 300 if file.parent.name == "algos" else 400
        assert lines <= limit, f"{file.name} has {lines} lines"
