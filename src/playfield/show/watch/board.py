"""A folder of runs on the live page: a table, and all learning curves together.

What reads the folder is a function that the board is given. A run is addressed by the number under which the board
saw it first; nothing that a client sends becomes part of a path.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from starlette.websockets import WebSocket

from playfield.errors import PlayfieldError, UsageError, cut
from playfield.play.statistics import MEAN, Statistic
from playfield.runs.info import is_run
from playfield.show.compare_plot import STYLES
from playfield.show.plots import CYCLE
from playfield.show.watch.connection import BadMessage, received, together
from playfield.show.watch.game import Source, number, pack
from playfield.show.watch.rundata import kept_steps, thinned

PERIOD = 3.0  # seconds between two looks at the folder, for all tabs together
SHARE = 0.1  # of one core that looking may take: the cores are for the trainings
SEND_TIMEOUT = 10.0  # seconds after which a client that takes no data is disconnected
MOST_RUNS = 1000  # of a table
MOST_POINTS = 200  # of one line
POINTS = 40_000  # of all lines together
OPEN = 4  # runs whose agents are kept loaded


@dataclass(frozen=True, eq=False)
class Run:
    """A run of the folder.

    Attributes:
        directory: of the run.
        cells: what the table shows and sorts by, numbers and texts.
        env, label, place: runs with the same environment and label share a line; `place` chooses its
            colour, None: it cannot be drawn.
        steps, means: [n] learning curve; empty where it is not drawn.
    """

    directory: Path
    cells: dict[str, Any]
    env: str
    label: str
    place: int | None
    steps: np.ndarray
    means: np.ndarray


@dataclass(frozen=True, eq=False)
class Group:
    """The mean learning curve of several runs that differ in nothing but the seed.

    Attributes:
        env, label, place: see `Run`.
        seeds: how many.
        steps, mean: [P], at steps that all of them have reached.
        low, high: [P] interval of the mean; None for too few seeds.
    """

    env: str
    label: str
    place: int
    seeds: int
    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None


@dataclass(frozen=True)
class Looked:
    """What lies in the folder at one moment: runs in the order of the table, and the means of their groups."""

    runs: Sequence[Run]
    groups: Sequence[Group]


@dataclass(frozen=True)
class State:
    """What the page shows, ready for JSON: rows and curves by the number of the run."""

    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    curves: dict[int, list[list[float]]] = field(default_factory=dict)
    groups: list[dict[str, Any]] = field(default_factory=list)
    more: int = 0

    def since(self, before: State | None) -> dict[str, Any] | None:
        """What a client that has `before` (None: nothing yet) must be told; None where nothing has changed."""
        old = before or State()
        changed = {
            "rows": [row for n, row in self.rows.items() if old.rows.get(n) != row],
            "curves": [[n, points] for n, points in self.curves.items() if old.curves.get(n) != points],
            "gone": [n for n in old.rows if n not in self.rows],
            "groups": None if self.groups == old.groups else self.groups,
        }
        if before is not None and self.more == old.more and not any(changed.values()) and changed["groups"] is None:
            return None
        return {"kind": "runs", **changed, "more": self.more}


class Board:
    """The runs of a folder, for all tabs: read at most every `PERIOD` seconds, each agent loaded once.

    Args:
        name: of the folder.
        look: reads it. May raise PlayfieldError.
        options: of the agents, arguments of `Source`.
        statistic: of a run's games, what the scores and curves are.
    """

    def __init__(
        self,
        name: str,
        look: Callable[[], Looked],
        options: dict[str, Any] | None = None,
        statistic: Statistic = MEAN,
    ) -> None:
        self.name, self._look, self._options, self.statistic = name, look, options or {}, statistic
        self._numbers: dict[Path, int] = {}
        self._runs: list[Path] = []  # by number
        self._sources: dict[int, Source] = {}
        self._looking, self._loading = threading.Lock(), threading.Lock()
        self._state: State | None = None
        self._due = 0.0

    @property
    def about(self) -> str:
        """One line: how many runs there are."""
        state = self.state()
        count = len(state.rows) + state.more
        return f"{self.name}: {count} run{'s' * (count != 1)}"

    def state(self) -> State:
        """What there is now, or was up to `PERIOD` seconds ago. Raises PlayfieldError where it cannot be read."""
        with self._looking:
            begun, busy = time.monotonic(), time.thread_time()
            if self._state is None or begun >= self._due:
                self._due = begun + PERIOD  # also after an error
                self._state = self._told(self._look())
                self._due = begun + max(PERIOD, (time.thread_time() - busy) / SHARE)
            return self._state

    def _told(self, looked: Looked) -> State:
        runs = looked.runs[:MOST_RUNS]
        for run in runs:
            if run.directory not in self._numbers:
                self._numbers[run.directory] = len(self._runs)
                self._runs.append(run.directory)
        most = max(10, min(MOST_POINTS, POINTS // max(1, len(runs) + len(looked.groups))))
        rows, curves = {}, {}
        for run in runs:
            n = self._numbers[run.directory]
            cells = {k: number(v) if isinstance(v, float) else v for k, v in run.cells.items()}
            name = os.path.relpath(run.directory, self.name)
            rows[n] = {"n": n, "run": name, "env": run.env, "label": run.label, **cells, **_style(run.place)}
            if run.steps.size:
                curves[n] = thinned(run.steps, run.means, most)
        return State(rows, curves, [_group(g, most) for g in looked.groups], len(looked.runs) - len(runs))

    def source(self, asked: str) -> Source:
        """The agent of the run with a number that a client sent. Raises PlayfieldError: no such run, or no agent."""
        known = {str(n): n for n in range(len(self._runs))} if len(asked) < 8 else {}
        if asked not in known:
            raise UsageError("there is no run of that number in this folder: go back to all runs")
        n = known[asked]
        with self._loading:
            if n not in self._sources:
                if not kept_steps(self._runs[n]) and is_run(self._runs[n]):
                    raise UsageError(f"{self._runs[n]} has no checkpoint that can be read yet: look again later")
                # A run called `last` is meant, not the newest one.
                self._sources[n] = Source(os.path.join(".", self._runs[n]), **self._options, statistic=self.statistic)
                while len(self._sources) > OPEN:
                    del self._sources[next(iter(self._sources))]
            return self._sources[n]


def _style(place: int | None) -> dict[str, Any]:
    """Colour and dashes of a label: those of the picture of `playfield compare`."""
    if place is None:
        return {"place": None, "color": None, "dashes": 0}
    return {"place": place, "color": CYCLE[place % len(CYCLE)], "dashes": place // len(CYCLE) % len(STYLES)}


def _group(group: Group, most: int) -> dict[str, Any]:
    pick = np.unique(np.linspace(0, len(group.steps) - 1, min(most, len(group.steps))).round().astype(int))
    columns = [group.steps, group.mean, *([] if group.low is None or group.high is None else [group.low, group.high])]
    points = [[number(column[i], 3) for column in columns] for i in pick]
    return {"env": group.env, "label": group.label, "seeds": group.seeds, "points": points, **_style(group.place)}


class BoardClient:
    """The connection of a tab that shows the table. It is told what changes, and sends nothing."""

    def __init__(self, socket: WebSocket, board: Board) -> None:
        self.socket, self.board = socket, board

    async def run(self) -> None:
        """Serve the tab until it disconnects. Raises BadMessage, WebSocketDisconnect, TimeoutError or OSError."""
        one = self.board.statistic
        await self._send({"kind": "board", "folder": self.board.name, "statistic": one.name, "words": one.words})
        await together(self._send_changes, self._receive)

    async def _send(self, message: dict[str, Any]) -> None:
        async with asyncio.timeout(SEND_TIMEOUT):
            await self.socket.send_bytes(pack(message))

    async def _send_changes(self) -> None:
        sent: State | None = None
        while True:
            try:
                state = await asyncio.to_thread(self.board.state)
                if (news := state.since(sent)) is not None:
                    await self._send(news)
                sent = state
            except PlayfieldError as error:
                await self._send({"kind": "note", "text": cut(str(error))})
            await asyncio.sleep(PERIOD)

    async def _receive(self) -> None:
        async for _ in received(self.socket):
            raise BadMessage(1008, "unknown command")
