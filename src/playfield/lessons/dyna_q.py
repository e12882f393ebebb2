"""Figure 8.2: Dyna-Q finds its way through a maze, with 0, 5 or 50 planning steps after each step.

Dyna-Q is Q-learning that remembers what each action did in each square, and learns from n random memories after each
step. The reward is 1 at the goal only. Without planning an episode changes the value of about one more square, so the
way to the goal is learnt backwards, square by square; with 50 planning steps nearly all is learnt in three episodes.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from playfield.lessons._outcome import Outcome
from playfield.lessons._panels import Areas, Curves, Line
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import Row
from playfield.lessons._tabular import arrows, choose, play_all
from playfield.linear.jit import Bools, Floats, jit
from playfield.linear.kernels import sample_uniform

BUDGET = Budget(runs=100, episodes=50)
MAZE = (
    ".......#G",
    "..#....#.",
    "S.#....#.",
    "..#......",
    ".....#...",
    ".........",
)
WALLS = np.array([[square == "#" for square in line] for line in MAZE])
START, GOAL = (2, 0), (0, 8)
ACTIONS = ("up", "right", "down", "left")
PUBLISHED = {0: 25, 5: 5, 50: 3}  # episodes until the performance is about optimal
ALPHA, EPSILON, GAMMA = 0.1, 0.1, 0.95
SHORTEST = 14  # steps from the start to the goal
NEAR = 1.25  # optimal: as many times the steps of the best policy that explores


@jit
def move(walls: Bools, row: int, column: int, action: int) -> tuple[int, int]:
    """The square where an action leads: the same one at a wall or an edge."""
    r, c = row, column
    if action == 0:
        r -= 1
    elif action == 1:
        c += 1
    elif action == 2:
        r += 1
    else:
        c -= 1
    if r < 0 or c < 0 or r >= walls.shape[0] or c >= walls.shape[1] or walls[r, c]:
        return row, column
    return r, c


@jit
def learn(
    planning: int,
    walls: Bools,
    start: tuple[int, int],
    goal: tuple[int, int],
    rates: tuple[float, float, float],
    rng: np.random.Generator,
    stop: Bools,
    q: Floats,
    steps: Floats,
) -> None:
    """Learn q [rows * columns, A] with `planning` steps after each one; `steps` [episodes] of each episode.

    `rates`: alpha, epsilon, gamma.
    """
    alpha, epsilon, gamma = rates
    columns, actions = walls.shape[1], q.shape[1]
    end = goal[0] * columns + goal[1]
    model = np.full(q.shape, -1)  # the square that followed
    # The pairs of square and action that were tried, as one number. The book draws a square, then one of its actions
    # that were tried; here each pair is as likely, and the first episodes of figure 8.2 are the same.
    known, size = np.zeros(q.size, np.int64), 0
    for episode in range(len(steps)):
        row, column = start
        while (row, column) != goal:
            if stop[0]:
                return
            at = row * columns + column
            action = choose(q[at], epsilon, rng)
            row, column = move(walls, row, column, action)
            to = row * columns + column
            _update(q, at, action, to, end, alpha, gamma)
            if model[at, action] < 0:
                known[size] = at * actions + action
                size += 1
            model[at, action] = to
            steps[episode] += 1
            for _ in range(planning):
                pair = known[sample_uniform(rng, size)]
                s, a = pair // actions, pair % actions
                _update(q, s, a, model[s, a], end, alpha, gamma)


@jit
def _update(q: Floats, at: int, action: int, to: int, end: int, alpha: float, gamma: float) -> None:
    target = 1.0 if to == end else gamma * q[to].max()
    q[at, action] += alpha * (target - q[at, action])


def fewest() -> float:
    """Mean steps of an episode by the best policy among those that act at random with the probability epsilon."""
    left = np.zeros(WALLS.shape)
    while True:
        new = np.zeros(WALLS.shape)
        for row, column in np.argwhere(~WALLS):
            if (row, column) != GOAL:
                following = [left[move(WALLS, row, column, a)] for a in range(len(ACTIONS))]
                new[row, column] = 1 + (1 - EPSILON) * min(following) + EPSILON * float(np.mean(following))
        if np.abs(new - left).max() < 1e-9:
            return float(new[START])
        left = new


def run(request: Request) -> Outcome:
    """100 runs of 50 episodes for 0, 5 and 50 planning steps."""
    request.progress.parts(len(PUBLISHED))
    x, bound = np.arange(1, request.episodes + 1), NEAR * fewest()
    rows: list[Row] = []
    lines, policy = [], np.zeros(WALLS.shape, int)
    for planning, published in PUBLISHED.items():

        def play(rng: np.random.Generator, stop: Bools, planning: int = planning) -> tuple[Floats, Floats]:
            q, steps = np.zeros((WALLS.size, len(ACTIONS))), np.zeros(request.episodes)
            learn(planning, WALLS, START, GOAL, (ALPHA, EPSILON, GAMMA), rng, stop, q, steps)
            return q, steps

        label = f"{planning} planning steps"
        found, seconds = play_all(request, label, play)
        q, steps = (np.stack(part) for part in zip(*found, strict=True))
        policy = q.mean(axis=0).argmax(axis=1).reshape(WALLS.shape)
        reached = np.flatnonzero(steps.mean(axis=0) <= bound)
        first = float(reached[0] + 1) if len(reached) else float("inf")
        near = max(1.0, 0.25 * published)
        rows.append(
            Row(
                label,
                f"first episode of at most {bound:.1f} steps",
                published,
                first,
                claim=f"{published} ± {near:.2g}",
                holds=abs(first - published) <= near,
                seconds_here=seconds,
            )
        )
        shown_from = min(1, request.episodes - 1)  # the first episode is a random walk of some thousand steps
        lines.append(Line(label, x[shown_from:], steps[:, shown_from:]))
    chosen = np.where(WALLS, len(ACTIONS), policy)
    chosen[GOAL] = len(ACTIONS)
    signs = arrows(chosen)
    signs[START], signs[GOAL] = f"S {signs[START]}", "G"
    names = (*ACTIONS, "wall, goal (G)")
    shown = Areas(
        f"Best actions with {max(PUBLISHED)} planning steps",
        np.arange(WALLS.shape[1]),
        np.arange(WALLS.shape[0])[::-1],
        chosen,
        names,
        ("column", "row from below"),
        signs=signs,
        none=len(ACTIONS),
    )
    curve = Curves("From the second episode", f"episode ({request.runs_text()})", "steps", lines, ylim=(0, 800))
    rows = [dataclasses.replace(row, compared=request.as_published) for row in rows]
    notes = [
        f"alpha {ALPHA}, epsilon {EPSILON}, gamma {GAMMA}. The shortest way has {SHORTEST} steps; with epsilon,",
        f"{fewest():.1f} on average. About optimal: within {NEAR - 1:.0%} of that, {request.runs_text()}.",
    ]
    return Outcome("dyna-q", "Figure 8.2: Dyna-Q in a maze", rows, [curve, shown], notes=notes)
