"""PPO on Breakout trained with and without randomness, and played under the other rules; what it memorises.

Three games, as the Breakout how-to (mreitschuster 2022, part 4) compared them: v4 holds each action for a random
number of frames, NoFrameskip (our protocol `classic`) for always 4, and v5 repeats the last action with probability
0.25 in every frame. Its v4 is not quite ours: its source drew 3 or 4 frames (frameskip (n - 1, n + 1) with n = 4, the
upper end excluded), while ALE's v4, which is `--protocol v4`, draws 2 to 4. The how-to trained an agent in each for
10M steps and played it in all three. It found that training where nothing is random gives the highest score there and
a useless agent elsewhere: that agent has learnt one sequence of actions by heart, and its nine games look the same.
Scores were read off its picture by eye.

Here every agent is played over 30 games under each protocol. Then each plays nine games in which nothing is random
but its own sampling (`classic` without no-ops at the start): how alike are they, and what is left of the score after
10, 30 and 100 random actions at the start? Two games are as alike as the share of the longer one that passes before
their actions first differ. `--gif` films nine other games of the first agent trained on `classic`,
under the same rules.

The protocols are those of `--protocol`, so v5 differs in more than its sticky actions: no no-ops at the start, the
agent presses FIRE itself, and a lost life does not end an episode for the learner. An agent trained on `classic` had
never to press FIRE, and may wait in a game of v5 until it is cut off. So what is kept of a score is judged on v4,
where FIRE is pressed for the agent as on `classic`. The table says how many games were cut off; claims about games
most of which were are not judged. The shares of the how-to's scores are computed from its nine numbers. Its scores
stand beside ours without a verdict: the training is that of `playfield train breakout`, whose hyper-parameters are
others (the how-to's: 8 environments, 128 steps, 4 epochs, batches of 256, learning rate 2.5e-4 and clip range 0.1,
both constant), and its 10M steps are trained only with `--steps 10M`. Below 300,000 steps nothing is judged.

The games of each agent have a seed of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np

from playfield.errors import DataError
from playfield.lessons import _ablation, _alike
from playfield.lessons._deep import Setting, Trained, below_row, difference_row, judged, notes, train_all
from playfield.lessons._outcome import Frames, Outcome
from playfield.lessons._panels import Curves, Grid, Line
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import Row, mean_row
from playfield.play.agent import load_policy
from playfield.play.evaluate import evaluate_and_save
from playfield.play.statistics import interval
from playfield.runs.checkpoint import checkpoints
from playfield.runs.info import read_info
from playfield.runs.storage import read_json
from playfield.show.film import mosaic_frames

BUDGET = Budget(runs=3, steps=300_000, film=True, methods=("ppo",))
PROTOCOLS = ("v4", "classic", "v5")
PUBLISHED = np.array([[268, 225, 175], [45, 355, 40], [203, 222, 158]], float)
"""Mean scores of the how-to: row: trained on, column: played on, both in the order of PROTOCOLS."""
LONG = 10_000_000  # steps of the how-to
GAMES, ALIKE = 30, 9
FIRST = (0, 10, 30, 100)  # random steps at the start
COMPARED = 30  # of these
CAP = 18_000  # frames of a game in which nothing is random, five minutes
FILM = 450  # frames
KEPT_HALF = 0.5  # a share of a score below which an agent has lost what it knew
STALLED = 0.5  # a share of games cut off above which a score says little of what an agent knows


@dataclass(frozen=True)
class Scores:
    """Games of all agents under every protocol; NaN of an agent that diverged before it was saved.

    Attributes:
        raw: [trained on, played on, runs, games] raw scores.
        cut: [trained on, played on, runs] how many of the games were cut off.
    """

    raw: np.ndarray
    cut: np.ndarray

    def ended(self, *cells: tuple[int, int]) -> bool:
        """Whether at least half of the games of each of these (trained on, played on) came to their end."""
        games = self.raw.shape[-1]
        return all(bool(self.cut[cell].mean() <= STALLED * games) for cell in cells)


@dataclass(frozen=True)
class Memory:
    """What the games of the agents trained under one protocol say of memorising.

    Attributes:
        alike: [runs] how alike the nine games are, see `_alike.alike`.
        scores: [runs, len(FIRST)] mean scores after random first steps.
        actions: for each run the actions of its nine games; of an agent that diverged before it was saved none.
    """

    alike: np.ndarray
    scores: np.ndarray
    actions: Sequence[Sequence[np.ndarray]]

    @property
    def left(self) -> np.ndarray:
        """[runs, len(FIRST)] what is left of the score without random steps; NaN where that is 0."""
        return shares(self.scores, self.scores[:, :1])


def run(request: Request) -> Outcome:
    """Three protocols, three seeds; nine kinds of evaluation; and the nine games."""
    settings = [Setting(name, {"protocol": name}) for name in PROTOCOLS]
    found = train_all(request, "stochasticity", settings, {})
    request.progress.parts(2 * len(found))
    played = [_played(request, one) for one in found]
    scores = Scores(np.stack([raw for raw, _ in played]), np.stack([cut for _, cut in played]))
    memory = [_remembered(request, one) for one in found]
    compared = judged(request, BUDGET.steps)
    rows = [*matrix_rows(found, scores), *cut_rows(scores)]
    rows += [*kept_rows(scores, compared), *memory_rows(memory, compared)]
    filmed = next((run for run in found[PROTOCOLS.index("classic")].runs if saved(run)), None)
    return Outcome(
        "stochasticity",
        "Trained with and without randomness (PPO, Breakout)",
        rows,
        _panels(request, found, scores.raw, memory),
        notes=[
            f"Played over {GAMES} games; nine games of at most {CAP:,} frames where nothing is random but the agent.",
            "Intervals are over seeds; of a single seed over its games (bootstrap).",
            "Games that stalled are among those cut off: on v5 an agent must press FIRE itself, which one trained on "
            "another protocol never had to. Claims about games most of which were cut off are not judged.",
            *left_out(found),
            *notes(found, "stochasticity", request.steps),
        ],
        columns=3,
        film=partial(_film, filmed) if filmed else None,
        fps=15,
        data={
            "alike": {name: _plain(one.alike) for name, one in zip(PROTOCOLS, memory, strict=True)},
            "scores_after_random_steps": {
                name: {str(n): _plain(one.scores[:, i]) for i, n in enumerate(FIRST)}
                for name, one in zip(PROTOCOLS, memory, strict=True)
            },
        },
    )


def _plain(values: np.ndarray) -> list[float | None]:
    """For JSON, NaN as null."""
    return [value if np.isfinite(value) else None for value in values.tolist()]


def saved(run: Path) -> bool:
    """Whether there is an agent: a training may diverge before its first save. All others are to have one."""
    if "diverged" not in read_info(run):
        return True
    folder = run / "checkpoints"
    return folder.is_dir() and bool(checkpoints(folder))


def left_out(found: Sequence[Trained]) -> list[str]:
    """A line for each setting of which an agent cannot be played."""
    lines = []
    for one in found:
        if missing := sum(not saved(run) for run in one.runs):
            lines.append(
                f"{one.setting.label}: {missing} of {len(one.runs)} diverged before an agent was saved, so its games "
                "are missing, and what needs them has no number."
            )
    return lines


def _played(request: Request, one: Trained) -> tuple[np.ndarray, np.ndarray]:
    """Games of a setting's agents under each protocol: scores [protocols, runs, games], cut off [protocols, runs]."""
    done = request.progress.part(f"playing agents of {one.setting.label}")
    scores = np.full((len(PROTOCOLS), len(one.runs), GAMES), np.nan)
    cut = np.full(scores.shape[:2], np.nan)
    for k, place in enumerate(one.runs):
        agent = saved(place)
        for i, protocol in enumerate(PROTOCOLS):
            if agent:
                scores[i, k], cut[i, k] = games_under(place, protocol, GAMES, seed=seed_of(one, k))
            done(k * len(PROTOCOLS) + i + 1, len(one.runs) * len(PROTOCOLS))
    return scores, cut


def games_under(run: Path, protocol: str, games: int, seed: int) -> tuple[np.ndarray, int]:
    """Raw scores [games] of a run's last agent under a protocol, and how many games were cut off.

    What was played before is read from its `eval/`.
    """
    result = read_info(run).get("result")  # none of a training that diverged
    steps = int(result["steps"]) if result else -1
    for end in (f"-{protocol}", ""):  # the second one if the run was trained under it
        try:
            told = read_json(run / "eval", f"last-t1-seed{seed}-{games}{end}.json")[1]
            if told["protocol"]["name"] == protocol and f", step {steps:,}, " in told["policy"]:
                found, cut = np.asarray(told["scores"], float), int(told["cut"])
                if found.shape == (games,) and np.isfinite(found).all() and 0 <= cut <= games:
                    return found, cut
        except (DataError, OSError, KeyError, TypeError, ValueError):
            continue
    played = evaluate_and_save(run, "last", games, seed=seed, protocol=protocol)
    return np.asarray(played.scores, float), played.cut


def seed_of(one: Trained, run: int) -> int:
    """Of the games of an agent, the `run`th of its setting, from 0: no other agent has the same."""
    return 1000 * PROTOCOLS.index(one.setting.label) + run + 1


def _remembered(request: Request, one: Trained) -> Memory:
    """Nine games of each agent of a setting where nothing is random, and again after random first steps."""
    done = request.progress.part(f"nine games of agents of {one.setting.label}")
    actions: list[list[np.ndarray]] = [[] for _ in one.runs]
    scores = np.full((len(one.runs), len(FIRST)), np.nan)
    for k, place in enumerate(one.runs):
        agent = saved(place)
        for i, steps in enumerate(FIRST):
            if agent:
                games = _alike.play(load_policy(place), ALIKE, CAP, steps, seed=seed_of(one, k)).games
                scores[k, i] = np.mean([game.score for game in games])
                if not steps:
                    actions[k] = [game.actions for game in games]
            done(k * len(FIRST) + i + 1, len(one.runs) * len(FIRST))
    likeness = [_alike.alike(games) if games else np.nan for games in actions]
    return Memory(np.array(likeness), scores, actions)


def shares(scores: np.ndarray, own: np.ndarray) -> np.ndarray:
    """`scores` divided by `own`; NaN where that is 0: nothing can be left of nothing."""
    empty = np.full(np.broadcast(scores, own).shape, np.nan)
    return np.asarray(np.divide(scores, own, out=empty, where=own > 0))


def matrix_rows(found: Sequence[Trained], played: Scores) -> list[Row]:
    """The nine scores beside the how-to's, of other hyper-parameters, so without a verdict."""
    rows = []
    for i, (one, published) in enumerate(zip(found, PUBLISHED, strict=True)):
        for j, (protocol, there) in enumerate(zip(PROTOCOLS, published, strict=True)):
            scores = played.raw[i, j]
            more: dict[str, Any] = {"compared": False}
            if protocol == one.setting.label:
                more["seconds_here"] = one.seconds
            if len(scores) > 1:
                made = mean_row(
                    f"trained on {one.setting.label}", f"score on {protocol}", there, scores.mean(1), **more
                )
            else:
                low, high = interval(scores[0].tolist())
                made = Row(
                    f"trained on {one.setting.label}",
                    f"score on {protocol}",
                    there,
                    float(scores.mean()),
                    low,
                    high,
                    few=True,
                    **more,
                )
            rows.append(made)
    return rows


def cut_rows(played: Scores) -> list[Row]:
    """How many games of each agent were cut off, the mean over seeds."""
    games = played.raw.shape[-1]
    return [
        mean_row(f"trained on {one}", f"of {games} games on {other}, cut off", None, played.cut[i, j])
        for i, one in enumerate(PROTOCOLS)
        for j, other in enumerate(PROTOCOLS)
    ]


def kept_rows(played: Scores, compared: bool) -> list[Row]:
    """What is kept of a score under each other protocol, and that a random game is learnt slower.

    A claim is judged where most games of each cell that it is made of came to their end. What is kept on v5 is not
    judged: an agent that waits there for FIRE to be pressed scores nothing, whatever it knows.
    """
    means = played.raw.mean(axis=-1)  # [trained on, played on, runs]
    rows, ours = [], {}
    v4, classic, v5 = range(3)
    for i, j in permutations(range(3), 2):
        ours[i, j] = shares(means[i, j], means[i, i])
        published = float(PUBLISHED[i, j] / PUBLISHED[i, i])
        name, share = f"trained on {PROTOCOLS[i]}", f"share of its score kept on {PROTOCOLS[j]}"
        if (i, j) == (classic, v4):
            judge = compared and played.ended((i, i), (i, j))
            rows.append(below_row(name, share, ours[i, j], KEPT_HALF, compared=judge, published=published))
        else:
            rows.append(mean_row(name, share, published, ours[i, j], compared=False))
    there = [float(PUBLISHED[i, v4] / PUBLISHED[i, i]) for i in (v5, classic)]
    rows.append(
        difference_row(
            "trained on v5 less classic", "share of its score kept on v4", ours[v5, v4], ours[classic, v4],
            compared=compared and played.ended((v5, v5), (v5, v4), (classic, classic), (classic, v4)),
            published=there[0] - there[1],
        )
    )  # fmt: skip
    rows.append(
        difference_row(
            "classic less v5, each on its own", "score", means[classic, classic], means[v5, v5],
            compared=compared and played.ended((classic, classic), (v5, v5)),
            published=float(PUBLISHED[classic, classic] - PUBLISHED[v5, v5]),
        )
    )  # fmt: skip
    return rows


def memory_rows(memory: Sequence[Memory], compared: bool) -> list[Row]:
    """How alike the nine games are, and what is left after random first steps."""
    rows = []
    for name, one in zip(PROTOCOLS, memory, strict=True):
        rows.append(mean_row(f"trained on {name}", "nine games alike", None, one.alike))
        for i, steps in enumerate(FIRST):
            rows.append(mean_row(f"trained on {name}", f"score after {steps} random steps", None, one.scores[:, i]))
    _, classic, v5 = memory
    rows.append(
        difference_row(
            "trained on classic less v5", "nine games alike", classic.alike, v5.alike, compared=compared
        )
    )  # fmt: skip
    at = FIRST.index(COMPARED)
    what = f"share of the score left after {COMPARED} random steps"
    rows.append(
        difference_row("trained on v5 less classic", what, v5.left[:, at], classic.left[:, at], compared=compared)
    )
    return rows


def _panels(
    request: Request, found: Sequence[Trained], matrix: np.ndarray, memory: Sequence[Memory]
) -> list[Curves | Grid]:
    # As far as any two games are alike, and a little further.
    pairs = (pair for one in memory for games in one.actions for pair in combinations(games, 2))
    longest = max((_alike.common_prefix(a, b) for a, b in pairs), default=0) + 2
    k = np.unique(np.linspace(0, longest, min(longest, 100) + 1).astype(int))
    beginnings = [
        Line(name, k.astype(float), np.stack([_equal_share(games, k) for games in one.actions]))
        for name, one in zip(PROTOCOLS, memory, strict=True)
    ]
    left = [Line(name, np.array(FIRST, float), one.scores) for name, one in zip(PROTOCOLS, memory, strict=True)]
    top = max((float(one.scores.mean(axis=0).max()) for one in memory if np.isfinite(one.scores).all()), default=0.0)
    labels = ("trained on", "played on")
    of_runs = f"({request.runs_text()})"
    return [
        Grid(f"Score, {request.steps:,} steps", matrix.mean(axis=(-1, -2)), PROTOCOLS, PROTOCOLS, labels),
        Grid(f"Score, the how-to, {LONG:,} steps", PUBLISHED, PROTOCOLS, PROTOCOLS, labels),
        _ablation.curves(request, found, "Training, each under its own protocol"),
        Curves(
            "Pairs of games that begin alike",
            f"first actions that are equal {of_runs}",
            f"share of the pairs of {ALIKE} games",
            beginnings,
            ylim=(0, 1),
        ),
        Curves(
            "After random first actions",
            f"random actions {of_runs}",
            f"score, mean of {ALIKE} games",
            left,
            ylim=(0, 1.1 * top if top > 0 else 1),
        ),
    ]


def _equal_share(games: Sequence[np.ndarray], k: np.ndarray) -> np.ndarray:
    """See `_alike`; NaN where there are no games."""
    return _alike.equal_share(games, k) if games else np.full(len(k), np.nan)


def _film(run: Path) -> Frames:
    """Nine games of the agent of a run where nothing is random but the agent, at most 450 frames."""
    return mosaic_frames(_alike.deterministic(load_policy(run), CAP), ALIKE, steps=FILM)
