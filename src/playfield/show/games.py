"""`playfield games`: lists the environments, describes one, and checks that the Atari games run here."""

from __future__ import annotations

import json as jsonlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import gymnasium
import numpy as np
from rich.console import Console
from rich.progress import track

from playfield.envs import catalog
from playfield.envs.atari_facts import LIVES_AND_ACTIONS
from playfield.envs.atari_modes import ranges
from playfield.envs.codec import named_states
from playfield.envs.names import classic_games, gym_name, resolve
from playfield.envs.scores import SCORES
from playfield.errors import EnvError, PlayfieldError, UsageError
from playfield.runs.console import console, table


def print_games(json: bool = False) -> None:
    """Print every game with its lives, actions and reference scores.

    Args:
        json: print one JSON object instead of tables.
    """
    atari = [_atari_row(game) for game in catalog.list_games()]
    classic = [_gymnasium_row(env_id) for env_id in classic_games()]
    if json:
        print(jsonlib.dumps({"atari": atari, "classic": classic}, indent=1))
        return
    output = console(80, markup=True)
    rows = table(output, "game", "lives", "actions", "random", "human", title=f"{len(atari)} Atari games")
    for row in atari:
        numbers = (_count(row["lives"]), _count(row["actions"]), _score(row["random"]), _score(row["human"]))
        rows.add_row(row["id"], *numbers)
    output.print(rows)
    without = sum(row["human"] is None for row in atari)
    output.print(f"random, human: mean raw scores (Wang et al. 2016); {without} games have none.")
    output.print("lives: - where ALE counts none.\n")
    rows = table(output, "game", "actions", "observation size", "step limit", "solved at", title="Classic control")
    for row in classic:
        sizes = (_count(row["actions"]), _count(row["obs_size"]), _count(row["max_steps"]))
        rows.add_row(row["id"], *sizes, _score(row["solved"]))
    output.print(rows)
    output.print("Any other Gymnasium id works too, e.g. Taxi-v4, or module:Name-v0 for your own.")


def print_game(name: str, json: bool = False) -> None:
    """Print the facts of one environment.

    Args:
        name: in any spelling that `names.resolve` takes.
        json: print one JSON object instead of a table.

    Raises:
        UsageError: unknown name.
        EnvError: Gymnasium cannot make the environment.
    """
    found = resolve(name)
    info = catalog.game_info(found.id) if found.family.has_roms else None
    row = asdict(info) if info else _gymnasium_row(found.id)
    if json:
        print(jsonlib.dumps({**row, **asdict(found)}, indent=1))
        return
    output = console(80, markup=True)
    if found.note:
        output.print(found.note)
    if info:
        _print_atari(output, info)
        return
    states = " x ".join(f"{n:,}" for n in row["states"])
    if len(row["states"]) > 1:
        states += f" = {math.prod(row['states']):,}"
    facts = {
        "actions": _count(row["actions"]),
        **({"states": states} if states else {"observation size": _count(row["obs_size"])}),
        "step limit": _count(row["max_steps"]),
        "solved at": _score(row["solved"]),
    }
    _print_facts(output, found.id, facts)


def check_games(names: Sequence[str] | None = None, frames: int = 100) -> list[tuple[str, bool, str]]:
    """Run some frames of each Atari game with random actions. Progress goes to stderr.

    Args:
        names: the games; None means all.
        frames: frames of each.

    Returns:
        (game, ok, detail) of each game; a game that fails is reported here, not raised.

    Raises:
        UsageError: an unknown name, or no Atari game.
    """
    games = catalog.list_games() if names is None else [_atari_id(name) for name in names]
    output = console(stderr=True)
    steps = track(games, "playing", console=output, transient=True, disable=not output.is_terminal)
    return [(game, *_play(game, frames)) for game in steps]


def print_check(names: Sequence[str] | None = None, frames: int = 100, json: bool = False) -> bool:
    """Print `check_games` (as JSON with `json`); True if every game ran."""
    results = check_games(names, frames)
    failed = [r for r in results if not r[1]]
    if json:
        rows = [{"game": game, "ok": ok, "detail": detail} for game, ok, detail in results]
        print(jsonlib.dumps({"ok": not failed, "games": rows}, indent=1))
        return not failed
    output = console(80, markup=True)
    for game, ok, detail in failed if names is None else results:
        output.print(f"{game}: {'ok, ' if ok else ''}{detail}")
    output.print(f"{len(results) - len(failed)} of {len(results)} games played {frames} frames")
    return not failed


def _play(game: str, frames: int) -> tuple[bool, str]:
    rng = np.random.default_rng(0)
    try:
        ale = catalog.open_game(game)
        actions = ale.getMinimalActionSet()
        expected = (*ale.getScreenDims(), 3)
        games = 1
        seen = set()
        for frame in range(frames):
            if ale.game_over():
                ale.reset_game()
                games += 1
            ale.act(actions[rng.integers(len(actions))])
            if frame % 10 == 0 or frame == frames - 1:
                screen = ale.getScreenRGB()
                if screen.shape != expected or screen.dtype != np.uint8:
                    return False, f"the screen is {screen.dtype} {screen.shape}, not uint8 {expected}"
                seen.add(screen.tobytes())
        memory = ale.getRAM()
    except (PlayfieldError, RuntimeError, OSError) as error:
        return False, str(error)
    if memory.max() == 0:
        return False, "the console's RAM stays zero"
    height, width, _ = expected
    return True, f"{height}x{width}, {len(actions)} actions, {len(seen)} different screens, {games} game(s)"


def _atari_id(name: str) -> str:
    found = resolve(name)
    if not found.family.has_roms:
        raise UsageError(f"{name} is not an Atari game; the check plays ROMs")
    return found.id


def _atari_row(game: str) -> dict[str, Any]:
    if game in LIVES_AND_ACTIONS:
        lives, actions = LIVES_AND_ACTIONS[game]
    else:  # a ROM newer than the table
        info = catalog.game_info(game)
        lives, actions = info.lives, len(info.actions)
    random_score, human_score = SCORES.get(game, (None, None))
    return {
        "id": game,
        "title": gym_name(game),
        "lives": lives,
        "actions": actions,
        "random": random_score,
        "human": human_score,
    }


def _gymnasium_row(env_id: str) -> dict[str, Any]:
    """Facts of a Gymnasium environment from its spec and spaces. EnvError if it cannot be made."""
    try:
        with warnings.catch_warnings():  # Gymnasium warns that CartPole-v0 is out of date
            warnings.simplefilter("ignore")
            env = gymnasium.make(env_id, disable_env_checker=True)
    except (gymnasium.error.Error, ImportError) as error:
        raise EnvError(f"Gymnasium cannot make {env_id}: {error}") from error
    actions = env.action_space.n if isinstance(env.action_space, gymnasium.spaces.Discrete) else None
    shape = env.observation_space.shape
    states = [n for n, _ in named_states(env.observation_space)]  # networks see them as one-hot vectors
    env.close()
    return {
        "id": env_id,
        "actions": None if actions is None else int(actions),
        "states": states,
        "obs_size": sum(states) if states else None if shape is None else int(np.prod(shape)),
        "max_steps": env.spec.max_episode_steps if env.spec else None,
        "solved": env.spec.reward_threshold if env.spec else None,
    }


def _print_atari(output: Console, info: catalog.GameInfo) -> None:
    height, width = info.screen
    if info.human_score is None or info.random_score is None:
        scores = "none published for this game"
    else:
        scores = f"random {_score(info.random_score)}, human {_score(info.human_score)} (Wang et al. 2016)"
    facts = {
        "ROM": f"{info.rom}, {info.rom_bytes:,} bytes",
        "MD5": info.md5,
        "lives": _count(info.lives),
        "modes": _choice(info.modes),
        "difficulties": _choice(info.difficulties),
        "screen": f"{height} x {width} x 3 = {info.rgb_bytes:,} bytes; as greys {info.grey_bytes:,}",
        "RAM": f"{info.ram_bytes} bytes",
        "scores": scores,
    }
    _print_facts(output, info.title, facts)
    minimal = {number for number, _ in info.actions}
    cells = [(f"{number}", f"{name}{'*' if number in minimal else ''}") for number, name in info.all_actions]
    rows = table(output, title="actions (* = the minimal set, the default)")
    for _ in range(3):
        rows.add_column("no.", justify="right")
        rows.add_column("name")
    third = -(-len(cells) // 3)
    for i in range(third):
        rows.add_row(*(text for cell in cells[i::third] for text in cell))
    output.print(rows)
    output.print(f"Player B: the same numbers + {catalog.PLAYER_B_OFFSET}; reset: {catalog.RESET_ACTION}.")


def _print_facts(output: Console, title: str, facts: dict[str, str]) -> None:
    rows = table(output, title=title)
    rows.show_header = False
    rows.add_column(style="bold", no_wrap=True)
    rows.add_column(overflow="fold")
    for key, value in facts.items():
        rows.add_row(key, value)
    output.print(rows)


def _count(value: int | None) -> str:
    return "-" if not value else f"{value:,}"


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def _choice(numbers: Sequence[int]) -> str:
    """Modes or difficulties; with a choice, which one is played by default."""
    return ranges(tuple(numbers)) + (f" (default {numbers[0]})" if len(numbers) > 1 else "")
