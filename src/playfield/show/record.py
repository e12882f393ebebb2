"""Results of a run as files: evaluations, films, learning curves."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from playfield import compute
from playfield.envs.base import EnvSpec
from playfield.errors import UsageError
from playfield.play.agent import agent_or_random, load_policy
from playfield.play.evaluate import Evaluation, Game
from playfield.play.player import Moment, Player, fps_of
from playfield.play.policy import Policy
from playfield.runs.console import Say
from playfield.runs.storage import as_storage_error
from playfield.show import panels
from playfield.show.film import Film, telling_progress
from playfield.show.window import NoWindow, window

STYLES = ("plain", "net", "bars", "all")


def film_of(directory: Path, result: Evaluation, say: Say | None = None) -> dict[str, Path]:
    """Film the best game of an evaluation of the run in `directory`, as MP4 and GIF."""
    policy = load_policy(directory)
    game = result.best
    folder = directory / "films"
    with as_storage_error(f"write to {folder}"):
        folder.mkdir(exist_ok=True)
    files: dict[str, Path] = {}
    if say is not None:
        say("filming the best game ...")
    for suffix, limit in ((".mp4", None), (".gif", 450)):
        path = folder / f"best-game{suffix}"
        count = film_game(policy, game, path, style="bars" if suffix == ".mp4" else "plain", limit=limit)
        if say is not None:
            cut = f", its first {count} pictures" if limit is not None and count == limit else ""
            say(f"film of the best game (score {game.score:g}){cut}: {path}")
        files[suffix[1:]] = path
    return files


def film_game(policy: Policy, game: Game, path: Path, *, style: str = "bars", limit: int | None = None) -> int:
    """Film a game of an evaluation again, step for step. Returns the number of pictures."""
    player = Player(policy, game.seed, game.actions.tolist())
    try:
        return film_moments(player.moments(game.number, game.number), policy.spec, path, style=style, limit=limit)
    finally:
        player.close()


def film_moments(
    moments: Iterator[Moment],
    spec: EnvSpec,
    path: Path,
    *,
    style: str = "bars",
    limit: int | None = None,
    fps: float | None = None,
    on_frame: Sequence[Callable[[np.ndarray], None]] = (),
) -> int:
    """Write moments to `path` (.gif or .mp4). Returns the number of pictures."""
    count = 0
    with Film(path, fps or fps_of(spec)) as film:
        for moment in moments:
            picture = page(moment, spec, style)
            film.add(picture)
            for call in on_frame:
                call(picture)
            count += 1
            if limit is not None and count >= limit:
                break
    return count


def page(moment: Moment, spec: EnvSpec, style: str) -> np.ndarray:
    """One moment as a picture.

    Args:
        style: `plain` the game alone; `net` with what the net sees beside it; `bars` with the action
            probabilities, or with the values of actions where the agent learns these; `all` with both.
    """
    if style not in STYLES:
        raise UsageError(f"--show must be one of {', '.join(STYLES)}, not {style!r}")
    game = panels.tv(moment.frame) if spec.family.tv_frames else moment.frame
    height = game.shape[0]
    parts = [game]
    seen = style in ("net", "all") and spec.pixels
    if seen:
        parts.append(panels.stack_overlay(moment.obs, height))
    if style in ("bars", "all") and "q" in moment.thoughts:  # epsilon-greedy probabilities say less
        parts.append(panels.q_bars(moment.thoughts["q"], spec.action_names, (height, 260), moment.action))
    elif style in ("bars", "all") and "probs" in moment.thoughts:
        value = moment.thoughts.get("value")
        parts.append(
            panels.probability_bars(
                moment.thoughts["probs"],
                spec.action_names,
                size=(height, 260),
                chosen=moment.action,
                value=None if value is None else float(value),
            )
        )
    if style == "plain":
        return game
    if seen:  # two pictures of one game need telling apart
        last = "what it expects of each action" if "q" in moment.thoughts else "what it wants to do"
        names = ("the game", "what the net sees (orange: where it was before)", last)
        parts = [panels.caption(part, name, size=14) for part, name in zip(parts, names, strict=False)]
    picture = parts[0] if len(parts) == 1 else panels.beside(*parts)
    return panels.caption(picture, f"{spec.id} · score {moment.score:g}", f"step {moment.step:,}")


def record(
    source: str,
    *,
    which: str = "last",
    out: str | Path | None = None,
    style: str = "bars",
    games: int = 1,
    steps: int | None = None,
    start: int = 0,
    mosaic: int = 0,
    agent: str | None = None,
    temperature: float | None = None,
    seed: int = 0,
    fps: float | None = None,
    human: bool = False,
    say: Say | None = None,
) -> list[Path]:
    """Film an agent.

    Args:
        source: as for `playfield eval`, or an environment with `agent="random"`.
        out: a .gif or .mp4 file; by default both, under the run's `films/`.
        games, steps: how much to film; `steps` counts over games.
        start: steps to play before the film begins.
        mosaic: 4, 9, 16, 25 games side by side instead of one after another.
        human: show it in a window while it plays (needs a display); writes a file only with `out`.
    """
    compute.setup()
    policy, home = agent_or_random(source, which, agent, temperature, seed)
    out = None if out is None else Path(out)
    folder = home / "films"
    if style not in STYLES:
        raise UsageError(f"--show must be one of {', '.join(STYLES)}, not {style!r}")
    if human and mosaic:
        raise UsageError("--human shows one game at a time: leave out --mosaic")
    if start and mosaic:
        raise UsageError("--start is for a film of one game at a time: leave out --mosaic")
    if games < 1 or (steps is not None and steps < 1):
        raise UsageError("--games and --steps must be at least 1")
    label = "random" if agent == "random" else which
    name = f"mosaic-{mosaic}" if mosaic else f"{label}-seed{seed}"
    paths = [out] if out is not None else [] if human else [folder / f"{name}.mp4", folder / f"{name}.gif"]
    for path in paths:
        with as_storage_error(f"create {path.parent}"):
            path.parent.mkdir(parents=True, exist_ok=True)
    rate = fps or fps_of(policy.spec)
    if start and say is not None:
        say(f"playing {start:,} steps before the film begins")
    for i, path in enumerate(paths):
        told = telling_progress(say or (lambda _: None), path, steps)
        if mosaic:
            count = film_mosaic(policy, mosaic, path, seed=seed, steps=steps, fps=rate, on_frame=[told])
        else:
            player = Player(policy, seed)
            try:
                shown = islice(player.moments(0, None if steps is not None else games - 1), start, None)
                with window(policy.spec, rate) if human and i == 0 else NoWindow() as show:
                    calls: list[Any] = [told] if show is None else [told, show]
                    count = film_moments(shown, policy.spec, path, style=style, limit=steps, fps=rate, on_frame=calls)
            finally:
                player.close()
        if say is not None:
            say(f"wrote {path}: {count:,} pictures, {os.path.getsize(path) / 1e3:,.0f} kB")
    if human and not paths:
        _play_in_window(policy, seed, games, steps, start, style, rate)
    return paths


def film_mosaic(
    policy: Policy,
    count: int,
    path: Path,
    *,
    seed: int = 0,
    steps: int | None = None,
    fps: float | None = None,
    on_frame: Sequence[Callable[[np.ndarray], None]] = (),
) -> int:
    """Film `count` games side by side, each from its own seed; games that are over stay, dimmed.

    The strip above says environment and agent, the one above each game its score.
    """
    if count < 1 or math.isqrt(count) ** 2 != count or count > 100:
        raise UsageError(f"--mosaic takes a square number up to 100, such as 4, 9 or 25, not {count}")
    players = [Player(policy, seed + i) for i in range(count)]
    games = [p.moments(0, 0) for p in players]
    last: list[np.ndarray | None] = [None] * count
    written = 0
    try:
        with Film(path, fps or fps_of(policy.spec)) as film:
            while steps is None or written < steps:
                alive = False
                for i, game in enumerate(games):
                    moment = next(game, None)
                    if moment is not None:
                        alive = True
                        tv = policy.spec.family.tv_frames
                        small = panels.upscale(moment.frame, (1, 2)) if tv else moment.frame
                        picture = panels.dim(small) if moment.over else small
                        which = f"game {i + 1}{', over' if moment.over else ''}"
                        last[i] = panels.caption(picture, f"score {moment.score:g}", which)
                if not alive:
                    break
                grid = panels.mosaic([f for f in last if f is not None])
                grid = panels.caption(grid, f"{policy.spec.id} · {policy.label}", f"step {written:,}")
                film.add(grid)
                for call in on_frame:
                    call(grid)
                written += 1
    finally:
        for p in players:
            p.close()
    return written


def _play_in_window(
    policy: Policy, seed: int, games: int, steps: int | None, start: int, style: str, fps: float
) -> None:
    player = Player(policy, seed)
    try:
        with window(policy.spec, fps) as show:
            shown = player.moments(0, None if steps is not None else games - 1)
            for moment in islice(shown, start, None if steps is None else start + steps):
                show(page(moment, policy.spec, style))
    finally:
        player.close()
