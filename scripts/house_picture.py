"""The packages inside playfield as a picture: one box each, on floors, and an arrow for each that imports another.

    python scripts/house_picture.py            # draws docs/design/house.svg, and prints the table

All of it is read from the imports in src/playfield; the order of the floors is FLOORS of tests/test_imports.py.
"""

from __future__ import annotations

import ast
import io
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "playfield"
PICTURE = ROOT / "docs" / "design" / "house.svg"
COMMON = ("errors", "compute", "options", "arguments")  # nearly every package imports these: no arrows in the picture
LEFT_OUT = ("__main__", "__init__")  # `python -m playfield`; the public names, which are loaded on first use


@dataclass(frozen=True)
class House:
    """What the imports say.

    Attributes:
        floors: the packages and top modules from the top floor down; those of one floor are independent.
        arrows: (importer, imported) -> number of import statements.
        files, lines: of each package.
        about: first paragraph of each package's docstring.
    """

    floors: list[tuple[str, ...]]
    arrows: Counter[tuple[str, str]]
    files: Counter[str]
    lines: Counter[str]
    about: dict[str, str]

    @property
    def rooms(self) -> list[str]:
        return [room for floor in self.floors for room in floor]


def floors() -> list[tuple[str, ...]]:
    """FLOORS of tests/test_imports.py, without what has no code of its own."""
    tree = ast.parse((ROOT / "tests" / "test_imports.py").read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FLOORS":
            found = [tuple(r for r in floor if r not in LEFT_OUT) for floor in ast.literal_eval(node.value)]
            return [floor for floor in found if floor]
    raise ValueError("tests/test_imports.py has no FLOORS")


def imported(node: ast.AST, rooms: set[str]) -> list[str]:
    """The packages that an import statement loads."""
    if isinstance(node, ast.Import):
        return [a.name.split(".")[1] for a in node.names if a.name.startswith("playfield.")]
    if isinstance(node, ast.ImportFrom) and node.module == "playfield":
        return [a.name for a in node.names if a.name in rooms]
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("playfield."):
        return [(node.module or "").split(".")[1]]
    return []


def house() -> House:
    """Read the imports, also those inside functions."""
    order = floors()
    rooms = {room for floor in order for room in floor}
    arrows: Counter[tuple[str, str]] = Counter()
    files: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    about: dict[str, str] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if (own := parts[0]) not in rooms:
            continue
        text = path.read_text("utf-8")
        tree = ast.parse(text)
        files[own] += 1
        lines[own] += len(text.splitlines())
        if parts in ((own,), (own, "__init__")):
            about[own] = " ".join((ast.get_docstring(tree) or "").split("\n\n")[0].split())
        for node in ast.walk(tree):
            arrows.update((own, other) for other in imported(node, rooms) if other != own)
    return House(order, arrows, files, lines, about)


def table(found: House) -> str:
    """The packages from the top down, as a Markdown table."""
    rows = ["| package | what it holds | files | lines | imports from |", "|---|---|---:|---:|---|"]
    for room in found.rooms:
        below = [f"{other} {n}" for other in found.rooms if (n := found.arrows[room, other])]
        about = found.about.get(room, "").replace("|", "\\|")
        rows.append(f"| `{room}` | {about} | {found.files[room]} | {found.lines[room]:,} | {', '.join(below)} |")
    return "\n".join(rows)


def svg(found: House) -> bytes:
    """The picture, as SVG; the same imports give the same bytes."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

    levels = [floor for floor in found.floors if not set(floor) <= set(COMMON)]
    levels.append(tuple(room for room in found.rooms if room in COMMON))
    widest, step = max(map(len, levels)), 1.25
    figure = Figure(figsize=(9.6, 0.92 * len(levels) + 0.5))
    ax = figure.add_axes((0, 0, 1, 1))
    place: dict[str, tuple[float, float]] = {}
    for level, floor in enumerate(levels):
        shift = 0.0 if len(floor) > 1 else (-0.55 if level % 2 else 0.55)  # arrows between single boxes need room
        for k, room in enumerate(floor):
            place[room] = (3.1 * (k - (len(floor) - 1) / 2) + shift, -step * level)
    colours = ["#00796b", "#00897b", "#26a69a", "#4db6ac", "#80cbc4"]
    order = found.rooms
    for (one, other), count in sorted(found.arrows.items(), key=lambda item: item[1]):
        if other in COMMON:
            continue
        (x0, y0), (x1, y1) = place[one], place[other]
        far = max(abs(y1 - y0) / step - 1, 0)
        bend = 0.0 if far == 0 else (0.10 + 0.018 * far) * (1 if (order.index(one) + order.index(other)) % 2 else -1)
        strength = min(1.0, 0.18 + count / 40)
        ax.add_patch(
            FancyArrowPatch(
                (x0, y0 - 0.34),
                (x1, y1 + 0.34),
                connectionstyle=f"arc3,rad={bend}",
                arrowstyle="-|>",
                mutation_scale=9,
                linewidth=0.7 + min(count, 40) / 16,
                color="#bf360c",
                alpha=strength,
                zorder=1,
            )
        )
    for room, (x, y) in place.items():
        colour = colours[min(int(5 * -y / step / len(levels)), 4)]
        box = FancyBboxPatch(
            (x - 1.15, y - 0.3), 2.3, 0.6, boxstyle="round,pad=0.04", facecolor=colour, edgecolor="white", zorder=3
        )
        ax.add_patch(box)
        dark = colour in colours[3:]
        ax.text(x, y + 0.08, room, ha="center", va="center", fontsize=11, weight="bold", zorder=4,
                color="black" if dark else "white")  # fmt: skip
        size = f"{found.files[room]} files, {found.lines[room]:,} lines"
        size = size.replace("1 files", "1 file") if found.files[room] == 1 else size
        ax.text(x, y - 0.16, size, ha="center", va="center", fontsize=7, zorder=4, color="black" if dark else "white")
    ax.set_xlim(-1.55 * widest - 1.6, 1.55 * widest + 1.6)
    ax.set_ylim(-step * (len(levels) - 1) - 0.6, 0.6)
    ax.axis("off")
    out = io.BytesIO()
    pairs = " ".join(f"{one}>{other}={n}" for (one, other), n in sorted(found.arrows.items()))
    with matplotlib.rc_context({"svg.hashsalt": "playfield", "svg.fonttype": "path"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Description": pairs}, facecolor="white")
    return out.getvalue()


def drawn(picture: Path = PICTURE) -> Counter[tuple[str, str]]:
    """The arrows that a picture was drawn from: they are written into it."""
    return Counter(
        {(one, other): int(n) for one, other, n in re.findall(r"(\w+)&gt;(\w+)=(\d+)", picture.read_text("utf-8"))}
    )


if __name__ == "__main__":
    PICTURE.write_bytes(svg(house()))
    print(table(house()))
