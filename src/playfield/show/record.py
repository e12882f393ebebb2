"""`playfield record`: film an agent, or show it in a window while it plays."""

from __future__ import annotations

import contextlib
import os
from itertools import islice
from pathlib import Path

from playfield import arguments as takes
from playfield import compute
from playfield.errors import UsageError
from playfield.play.agent import agent_or_random, checkpoint_of, step
from playfield.play.player import Player, fps_of
from playfield.play.policy import Policy
from playfield.runs.console import Say
from playfield.runs.storage import folder_for
from playfield.show.film import (
    STYLES,
    FrameCallback,
    check_mosaic,
    check_suffix,
    film_frame,
    film_moments,
    film_mosaic,
    progress_callback,
)
from playfield.show.window import Window


@takes.checked(
    source=takes.path,
    which=step,
    out=takes.path,
    style=takes.text(*STYLES),
    games=takes.whole(1, 1e4),
    steps=takes.whole(1),
    start=takes.whole(),
    mosaic=takes.whole(0, 100),
    agent=takes.text("random"),
    temperature=takes.real(0, 100),
    seed=takes.seed,
    fps=takes.real(1, 240),
    human=takes.switch,
    trust=takes.switch,
    say=takes.function,
)
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
    trust: bool = False,
    say: Say | None = None,
) -> list[Path]:
    """Film an agent, as GIF and MP4. Returns the paths of the files.

    Args:
        source: a run directory, a checkpoint, `best`, `last` or a shipped agent, as for `evaluate`; or the name of
            an environment with `agent="random"`.
        which: checkpoint of a run: `last`, `best` or a step.
        out: a .gif or .mp4 file; by default both, in the run's `films/`.
        style: `plain` shows the game, `net` the game and the observation, `bars` the game and the action
            probabilities (or action values), `all` all three.
        games: games to film one after another.
        steps: film that many steps instead of whole games.
        start: steps to play before the film begins.
        mosaic: 4, 9, 16, 25 ... games in a grid instead of one after another.
        agent: `random` for random play.
        temperature: of the sampled actions, 0 is greedy; None: the agent's default.
        seed: of the first game.
        fps: frames per second; by default the speed of the game.
        human: show the game in a window while it plays (needs a display); writes a file only with `out`.
        trust: import the module of an environment `module:Id` that only the run's files name.
        say: called with each line of progress.

    Raises:
        UsageError: no such agent or environment, or a wrong value.
        DataError: a damaged checkpoint.
        StorageError: a film cannot be written.
    """
    if mosaic:
        check_mosaic(mosaic)
    out = None if out is None else Path(out)
    if out is not None:
        check_suffix(out)
    compute.setup(networks=agent is None)
    policy, home = agent_or_random(str(source), which, agent, temperature, seed, trust)
    folder = home / "films"
    if human and mosaic:
        raise UsageError("--human shows one game at a time: leave out --mosaic")
    if start and mosaic:
        raise UsageError("--start takes one game at a time: leave out --mosaic")
    label = "random" if agent == "random" else checkpoint_of(source, which)
    name = f"mosaic-{mosaic}" if mosaic else f"{label}-seed{seed}"
    paths = [out] if out is not None else [] if human else [folder / f"{name}.mp4", folder / f"{name}.gif"]
    rate = fps or fps_of(policy.spec)
    if start and say is not None:
        say(f"playing {start:,} steps before the film begins")
    with contextlib.ExitStack() as folders:
        for path in paths:
            folders.enter_context(folder_for(path.parent))
        for i, path in enumerate(paths):
            callbacks: list[FrameCallback] = [] if say is None else [progress_callback(say, path, steps)]
            if mosaic:
                count = film_mosaic(policy, mosaic, path, seed=seed, steps=steps, fps=rate, on_frame=callbacks)
            else:
                player = Player(policy, seed)
                try:
                    shown = islice(player.moments(0, None if steps is not None else games - 1), start, None)
                    with contextlib.ExitStack() as stack:
                        if human and i == 0:
                            callbacks.append(stack.enter_context(Window(policy.spec.id, rate)))
                        count = film_moments(
                            shown, policy.spec, path, style=style, limit=steps, fps=rate, on_frame=callbacks
                        )
                finally:
                    player.close()
            if say is not None:
                say(f"wrote {path}: {count:,} frames, {os.path.getsize(path) / 1e3:,.0f} kB")
    if human and not paths:
        _play_in_window(policy, seed, games, steps, start, style, rate)
    return paths


def _play_in_window(
    policy: Policy, seed: int, games: int, steps: int | None, start: int, style: str, fps: float
) -> None:
    player = Player(policy, seed)
    try:
        with Window(policy.spec.id, fps) as show:
            shown = player.moments(0, None if steps is not None else games - 1)
            for moment in islice(shown, start, None if steps is None else start + steps):
                show(film_frame(moment, policy.spec, style))
    finally:
        player.close()
