"""A run on a node and the store that it is sent to, in one process; nothing trains."""

from __future__ import annotations

import json

from playfield.experiments import store
from playfield.experiments.away import Away
from playfield.experiments.store import Store
from playfield.runs import checkpoint, fence, storage


class Run:
    """A run on a node, and the store that it is sent to; nothing trains."""

    def __init__(self, folder, attempt=1, root=None):
        self.root = root or folder / "root"
        self.kept = self.root / "grid" / "1"
        while fence.read(self.kept) < attempt if self.kept.exists() else True:
            fence.advance(self.kept)
        self.notes, self.asked, self.fails = [], [], set()
        self.store = Store(self.root, self.notes.append)
        self.run = folder / f"node-{attempt}"
        self.away = Away(self.ask, "grid/1", attempt, self.run, folder / "log.txt", "shown/grid/1")

    def ask(self, text, data):
        do = json.loads(text)["do"]
        self.asked.append(do)
        if do in self.fails:
            raise ConnectionError("torn")
        return self.store.answer(text, data)

    def write(self, path, data):
        where = self.run / path
        where.parent.mkdir(parents=True, exist_ok=True)
        storage.atomic_write(where, data)

    def save(self, step, size=100):
        """A checkpoint as trainings make them."""
        value = list(range(size))
        return checkpoint.save(self.run / "checkpoints", step, {"x": value, "step": step}, {}, keep=2)

    def begun(self):
        self.away.fetch()
        self.write("run.json", "{}")
        return self


def same(one, other):
    """Whether two run directories hold the same files."""
    found = [{p.relative_to(d).as_posix(): p.read_bytes() for p in store.held(d)} for d in (one, other)]
    assert found[0].keys() == found[1].keys()
    return found[0] == found[1]


def names(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())
