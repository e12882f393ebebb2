"""Play recorded as a dataset: an agent, or chance, plays; screens, bytes of memory and actions are kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ale_py
import cv2
import numpy as np

from playfield import compute
from playfield.datasets import dataset
from playfield.envs.atari_protocol import AtariProtocol
from playfield.envs.atari_ram import RAM_BYTES, AtariRam
from playfield.envs.base import EnvSpec, Step, env_seeds
from playfield.errors import StorageError, UsageError
from playfield.play.policy import Policy
from playfield.runs import encoder
from playfield.runs.console import format_seconds
from playfield.runs.info import VERSION
from playfield.runs.storage import preflight

ROW = encoder.SIDE**2 + RAM_BYTES + 9  # bytes
PERIOD = 5.0  # seconds between two lines of progress


class Screens:
    """Observations of an agent, made from the grey screens of `AtariRam` as `Atari` makes them.

    The same pixels as the vector emulator's, which has no memory to read: tests compare the two. Only the last
    screen of a game that ended in the middle of a step may differ; nobody acts on it.
    """

    def __init__(self, spec: EnvSpec, num_envs: int) -> None:
        self.ram = spec.protocol.get("obs") == "ram"
        self.size, self.stack = int(spec.protocol["size"]), int(spec.protocol["stack"])
        self.obs = np.zeros((num_envs, *spec.obs_shape), np.uint8)

    def begin(self, env: AtariRam, ram: np.ndarray) -> np.ndarray:
        """Observations [N, ...] at the start of all games."""
        return self.follow(env, ram, np.ones(len(ram), bool))

    def follow(self, env: AtariRam, ram: np.ndarray, new: np.ndarray) -> np.ndarray:
        """Observations after a step; `new` marks games that have just begun, which were black before."""
        if self.ram:
            return ram
        self.obs[new] = 0
        self.obs[..., :-1] = self.obs[..., 1:]
        for i, screen in enumerate(env.screens):
            self.obs[i, ..., -1] = resized(screen, self.size) if self.size else screen
        return self.obs


def resized(screen: np.ndarray, size: int = encoder.SIDE) -> np.ndarray:
    """A grey screen as a square, uint8 [size, size]: means over areas."""
    return np.asarray(cv2.resize(screen, (size, size), interpolation=cv2.INTER_AREA))


class Lane:
    """What one of the games played at once has given so far: columns that grow."""

    def __init__(self, quota: int) -> None:
        self.left = quota
        self.rows: dict[str, list[Any]] = {key: [] for key in dataset.COLUMNS}
        self.scores: list[float] = []
        self.start = True

    def see(self, screen: np.ndarray, ram: np.ndarray) -> None:
        """A new row, in which nothing has been done yet."""
        values = (resized(screen), ram.copy(), -1, 0.0, False, False, self.start)
        for column, value in zip(self.rows.values(), values, strict=True):
            column.append(value)
        self.start = False

    def act(self, action: int, record: Step, i: int) -> None:
        """Complete the newest row with what was done and what came of it."""
        self.left -= 1
        self.rows["actions"][-1] = action
        self.rows["rewards"][-1] = float(record.reward[i])
        self.rows["terminated"][-1] = bool(record.terminated[i])
        self.rows["truncated"][-1] = bool(record.truncated[i])


def check_source(spec: EnvSpec) -> None:
    """Raise UsageError for agents whose play cannot be recorded as grey screens and memory."""
    protocol = spec.protocol
    if not spec.family.has_roms:
        raise UsageError(f"only Atari games are collected, not {spec.id}: try playfield collect breakout")
    if protocol.get("view") or protocol.get("colour") != "grey":
        what = f"the view {protocol['view']}" if protocol.get("view") else "colours"
        raise UsageError(f"this agent sees {spec.id} through {what}: only grey screens and RAM are collected")


def play(
    policy: Policy,
    steps: int,
    *,
    epsilon: float = 0.0,
    seed: int = 0,
    num_envs: int = 8,
    on_step: Callable[[int], None] | None = None,
) -> tuple[dict[str, np.ndarray], list[float]]:
    """Play `steps` steps, shared by `num_envs` games at once, and return the columns of a dataset and all scores.

    Games that are under way at the end are cut off: their last step is marked as truncated.

    Args:
        epsilon: share of the actions that are drawn at random instead.
        seed: of games, actions and chance; the same gives the same bytes.
        on_step: called with the steps done after each round.
    """
    spec = policy.spec
    check_source(spec)
    n = min(num_envs, steps)
    env = AtariRam(spec.id, n, AtariProtocol.from_stored(spec.protocol), screens=True)
    eyes = Screens(spec, n)
    lanes = [Lane(steps // n + (i < steps % n)) for i in range(n)]
    seeds = env_seeds(np.random.SeedSequence([seed, 11]), n)
    chance = np.random.default_rng([seed, 12])
    ram = env.reset(seeds)
    obs = eyes.begin(env, ram)
    done = 0
    for i, lane in enumerate(lanes):
        lane.see(env.screens[i], ram[i])
    while done < steps:
        draws = chance.random((3, n))
        actions = np.where(
            draws[0] < epsilon, (draws[1] * spec.num_actions).astype(np.int64), policy.act(obs, draws[2])
        )
        pressed = env.executed(actions)
        record = env.step(actions)
        ended = np.zeros(n, bool)
        for episode in record.episodes:
            ended[episode.env] = True
            if lanes[episode.env].left:
                lanes[episode.env].scores.append(episode.score)
        for i, lane in enumerate(lanes):
            if not lane.left:
                continue
            lane.act(int(pressed[i]), record, i)
            done += 1
            lane.see(env.next_screens[i], record.next_obs[i])
            if not lane.left and not ended[i]:
                lane.rows["truncated"][-2] = not lane.rows["terminated"][-2]
            elif ended[i] and lane.left:
                lane.start = True
                lane.see(env.screens[i], record.obs[i])
        obs = eyes.follow(env, record.obs, ended)
        if on_step is not None:
            on_step(done)
    env.close()
    return _columns(lanes), [score for lane in lanes for score in lane.scores]


def _columns(lanes: list[Lane]) -> dict[str, np.ndarray]:
    """Lane after lane in one array a column. The lanes are emptied on the way: frames would take twice the memory."""
    rows = sum(len(lane.rows["actions"]) for lane in lanes)
    columns = {}
    for key, (dtype, shape) in dataset.COLUMNS.items():
        column, at = np.empty((rows, *shape), dtype), 0
        for lane in lanes:
            values = lane.rows.pop(key)
            values.reverse()
            while values:
                column[at] = values.pop()
                at += 1
        columns[key] = column
    return columns


def collect(
    source: str,
    which: str = "last",
    *,
    agent: str | None = None,
    steps: int = 40_000,
    epsilon: float = 0.1,
    temperature: float | None = None,
    seed: int = 0,
    num_envs: int = 8,
    out: Path | str | None = None,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Let an agent play and keep it as a dataset; returns its directory.

    Args:
            source, which, agent, temperature: who plays, as in `playfield.evaluate`: a run directory, a shipped
            agent; with `agent="random"` the name of a game.
        steps: of all games together; `num_envs` are played at once, and are part of what the seed fixes.
        epsilon: share of random actions, so that there is more to see than a good player's games.
        out: directory (default `datasets/GAME`); it must not exist.

    Raises:
        UsageError: no such agent, a game that cannot be recorded, or a directory that exists.
        StorageError: not enough room on the disk or in memory.
    """
    from playfield.play.agent import agent_or_random

    compute.setup()
    policy, _ = agent_or_random(source, which, agent, temperature, seed)
    check_source(policy.spec)
    path = Path(out) if out is not None else Path("datasets") / policy.spec.id
    dataset.refuse_existing(path)
    need = steps * (ROW + 200)
    preflight(path, need)
    free = compute.free_memory()
    if free is not None and 2 * need > free:
        raise StorageError(
            f"{steps:,} steps need {2 * need / 1e9:.2f} GB of memory and {free / 1e9:.2f} GB are free: "
            "give fewer --steps"
        )
    columns, scores = play(
        policy, steps, epsilon=epsilon, seed=seed, num_envs=num_envs, on_step=_progress(steps, say) if say else None
    )
    meta = {
        "env": policy.spec.id,
        "agent": policy.label,
        "epsilon": epsilon,
        "seed": seed,
        "num_envs": num_envs,
        "steps": steps,
        "episodes": int(columns["starts"].sum()),
        "scores": scores,
        "action_names": list(policy.spec.action_names),
        "protocol": policy.spec.protocol,
        "versions": {"playfield": VERSION, "ale_py": ale_py.__version__, "numpy": np.__version__},
    }
    dataset.save(path, columns, meta)
    if say is not None:
        mean = f"mean score {np.mean(scores):.1f}" if scores else "none finished"
        size = (path / dataset.DATA).stat().st_size
        say(
            f"{path}: {len(columns['frames']):,} frames of {meta['episodes']} games "
            f"({len(scores)} finished, {mean}), {size / 1e6:,.0f} MB\nnext: playfield autoencoder {path}"
        )
    return path


def _progress(steps: int, say: Callable[[str], None]) -> Callable[[int], None]:
    begun: tuple[float, int] | None = None  # the first step is not counted: loading and warming up fall into it
    shown = 0.0

    def on_step(done: int) -> None:
        nonlocal begun, shown
        now = time.monotonic()
        if begun is None:
            begun, shown = (now, done), now
        elif now - shown >= PERIOD and done < steps:
            shown = now
            left = format_seconds((now - begun[0]) * (steps - done) / (done - begun[1]))
            say(f"{done:,} of {steps:,} steps ({done / steps:.0%}), {left} left")

    return on_step
