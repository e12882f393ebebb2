"""Example 6.6: Sarsa and Q-learning walk along a cliff.

A grid of 4 rows and 12 columns, from the lower left to the lower right corner; a step costs 1. Between the corners is
a cliff: a step over its edge costs 100 and leads back to the start. Q-learning learns the values of the greedy
policy, whose path of 13 steps is the shortest, along the edge. But its actions are epsilon-greedy while it learns, so
it falls often. Sarsa learns the values of the policy that it follows, exploration included, and takes a detour, away
from the edge. So its return while it learns is higher, though its path is longer.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from playfield.lessons import _rows
from playfield.lessons._outcome import Outcome
from playfield.lessons._panels import Areas, Curves, Line, Mark, Panel
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import Row, mean_row
from playfield.lessons._tabular import arrows, best, choose, play_all
from playfield.linear.jit import Bools, Floats, jit

BUDGET = Budget(runs=200, episodes=500)
ROWS, COLUMNS = 4, 12
ACTIONS = ("up", "right", "down", "left")
ALPHA, EPSILON = 0.5, 0.1
PUBLISHED = {"Sarsa": -25.0, "Q-learning": -50.0}  # return of an episode while it learns
SHORTEST = 13
LAST = 400  # episodes in the mean that is compared
TOLERANCE = 0.2  # of numbers that the book gives as "about"
SMOOTH = 10  # episodes in a point of the curves


@jit
def move(row: int, column: int, action: int) -> tuple[int, int, float, bool]:
    """One step: the next row and column, the reward, and whether the goal is reached."""
    if action == 0:
        row = max(row - 1, 0)
    elif action == 1:
        column = min(column + 1, COLUMNS - 1)
    elif action == 2:
        row = min(row + 1, ROWS - 1)
    else:
        column = max(column - 1, 0)
    if row == ROWS - 1 and 0 < column < COLUMNS - 1:
        return ROWS - 1, 0, -100.0, False
    return row, column, -1.0, row == ROWS - 1 and column == COLUMNS - 1


@jit
def learn(
    off_policy: bool, alpha: float, epsilon: float, rng: np.random.Generator, stop: Bools, q: Floats, returns: Floats
) -> None:
    """Learn the action values q [rows, columns, actions], one episode for each entry of `returns` [episodes].

    `off_policy`: Q-learning instead of Sarsa.
    """
    for episode in range(len(returns)):
        row, column, over = ROWS - 1, 0, False
        action = choose(q[row, column], epsilon, rng)
        while not over:
            if stop[0]:
                return
            r, c, reward, over = move(row, column, action)
            returns[episode] += reward
            following, target = 0, reward
            if not over and off_policy:
                target += q[r, c].max()
            elif not over:
                following = choose(q[r, c], epsilon, rng)
                target += q[r, c, following]
            q[row, column, action] += alpha * (target - q[row, column, action])
            if not over and off_policy:
                following = choose(q[r, c], epsilon, rng)
            row, column, action = r, c, following


class Path(NamedTuple):
    """A greedy path: its steps (0: it does not reach the goal), and how many of them are on the edge of the cliff."""

    steps: int
    edge: int


def greedy_path(q: Floats) -> Path:
    """The path from the start by the best actions of q [rows, columns, actions]."""
    rng = np.random.default_rng(0)
    row, column, edge = ROWS - 1, 0, 0
    for steps in range(1, ROWS * COLUMNS + 1):
        row, column, _, over = move(row, column, best(q[row, column], rng))
        edge += row == ROWS - 2 and 0 < column < COLUMNS - 1
        if over:
            return Path(steps, edge)
    return Path(0, 0)


def run(request: Request) -> Outcome:
    """200 runs of 500 episodes of both methods."""
    request.progress.parts(len(PUBLISHED))
    rows: list[Row] = []
    lines, maps, paths = [], list[Panel](), {}
    for off_policy, (label, published) in enumerate(PUBLISHED.items()):

        def play(rng: np.random.Generator, stop: Bools, off: bool = bool(off_policy)) -> tuple[Floats, Floats]:
            q, returns = np.zeros((ROWS, COLUMNS, len(ACTIONS))), np.zeros(request.episodes)
            learn(off, ALPHA, EPSILON, rng, stop, q, returns)
            return q, returns

        found, seconds = play_all(request, label, play)
        q, returns = (np.stack(part) for part in zip(*found, strict=True))
        last = min(LAST, request.episodes)
        ends, measure = returns[:, -last:].mean(axis=1), f"return, {_rows.last(last, 'episode')}"
        rows.append(mean_row(label, measure, published, ends, tolerance=TOLERANCE, seconds_here=seconds))
        blocks = np.array_split(np.arange(request.episodes), -(-request.episodes // SMOOTH))
        middle = np.array([block.mean() + 1 for block in blocks])
        lines.append(Line(label, middle, np.stack([returns[:, block].mean(axis=1) for block in blocks], axis=1)))
        paths[label] = path = greedy_path(q.mean(axis=0))
        maps.append(_map(f"{label}: best actions, mean of {request.runs} runs", q.mean(axis=0)))
        edges = np.mean([greedy_path(one) == (SHORTEST, COLUMNS - 2) for one in q])
        rows.append(Row(label, "share of runs whose greedy path is the shortest", None, float(edges)))
        rows.append(_path_row(label, path, bool(off_policy)))
    better = rows[0].ours - rows[3].ours
    rows.append(Row("Sarsa minus Q-learning", "return", None, better, claim="above 0", holds=better > 0))
    marks = [
        Mark(i, 1.005 * request.episodes, 1.03 * request.episodes, value)
        for i, value in enumerate(PUBLISHED.values())
        if request.as_published
    ]
    returned = Curves(
        f"Return, mean of {SMOOTH} episodes",
        f"episode ({request.runs_text()})",
        "return of an episode",
        lines,
        marks,
        ylim=(-100, 0),
    )
    rows = [dataclasses.replace(row, compared=request.as_published) for row in rows]
    notes = [f"alpha {ALPHA}, epsilon {EPSILON}. The greedy path is that of the mean action values of all runs."]
    return Outcome("cliff", "Example 6.6: walking along a cliff", rows, [returned, *maps], notes=notes)


def _path_row(label: str, path: Path, shortest: bool) -> Row:
    """Q-learning's path must be the shortest; Sarsa's longer, and never on the edge."""
    steps = float(path.steps or np.nan)
    if shortest:
        return Row(label, "steps of the greedy path", SHORTEST, steps, rule="same")
    holds = path.steps > SHORTEST and path.edge == 0
    return Row(label, "steps of the greedy path", None, steps, claim="away from the edge", holds=holds)


def _map(title: str, q: Floats) -> Areas:
    """The best action of each square; the cliff and the goal have none."""
    chosen = q.argmax(axis=2)
    chosen[ROWS - 1, 1:] = len(ACTIONS)
    signs = arrows(chosen)
    signs[ROWS - 1, 0], signs[ROWS - 1, -1] = f"S {signs[ROWS - 1, 0]}", "G"
    names, labels = (*ACTIONS, "cliff, goal (G)"), ("column", "row from below")
    return Areas(
        title, np.arange(COLUMNS), np.arange(ROWS)[::-1], chosen, names, labels, signs=signs, none=len(ACTIONS)
    )
