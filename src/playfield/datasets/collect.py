"""`playfield collect`: record an agent, or random play, as a dataset of screens, RAM, actions and rewards."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ale_py
import cv2
import numpy as np

from playfield import arguments as takes
from playfield import compute
from playfield.compute import readable_size
from playfield.datasets import dataset
from playfield.envs.atari_protocol import AtariProtocol
from playfield.envs.atari_ram import RAM_BYTES, AtariRam
from playfield.envs.base import EnvSpec, Step, env_seeds
from playfield.errors import StorageError, UsageError
from playfield.play.agent import agent_or_random, step
from playfield.play.policy import Policy, chooser
from playfield.runs import encoder
from playfield.runs.console import Say, format_scores, format_seconds
from playfield.runs.info import VERSION
from playfield.runs.storage import preflight

ROW_BYTES = encoder.SIDE**2 + RAM_BYTES + 9
PERIOD = 5.0  # seconds between two lines of progress


class Observations:
    """Observations of `Atari`, built from the grey screens of `AtariRam`.

    `Atari` gives no access to the RAM, so `AtariRam` plays and this class does the preprocessing; the pixels are the
    same, except perhaps for the last screen of a game that ends within a step, on which no action is chosen.

    Args:
        spec: of the agent; with RAM observations these are passed through.
        num_envs: N.
    """

    def __init__(self, spec: EnvSpec, num_envs: int) -> None:
        self.ram = spec.protocol.get("obs") == "ram"
        self.size, self.stack = int(spec.protocol["size"]), int(spec.protocol["stack"])
        self.obs = np.zeros((num_envs, *spec.obs_shape), np.uint8)

    def reset(self, env: AtariRam, ram: np.ndarray) -> np.ndarray:
        """Observations [N, ...] after `env.reset`, which returned `ram`."""
        return self.step(env, ram, np.ones(len(ram), bool))

    def step(self, env: AtariRam, ram: np.ndarray, new: np.ndarray) -> np.ndarray:
        """Observations [N, ...] after `env.step`; `new`, bool [N], marks new games, whose older frames are black."""
        if self.ram:
            return ram
        self.obs[new] = 0
        self.obs[..., :-1] = self.obs[..., 1:]
        for i, screen in enumerate(env.screens):
            self.obs[i, ..., -1] = resized(screen, self.size) if self.size else screen
        return self.obs


def resized(screen: np.ndarray, size: int = encoder.SIDE) -> np.ndarray:
    """A grey screen uint8 [H, W], resized to [size, size] by area interpolation."""
    return np.asarray(cv2.resize(screen, (size, size), interpolation=cv2.INTER_AREA))


class EnvRecorder:
    """The rows recorded from one environment: growing columns, see `Dataset`. It records `steps` steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps
        self.rows: dict[str, list[Any]] = {key: [] for key in dataset.COLUMNS}
        self.scores: list[float] = []
        self.start = True

    def observe(self, screen: np.ndarray, ram: np.ndarray) -> None:
        """Append a row, without an action yet."""
        values = (resized(screen), ram.copy(), -1, 0.0, False, False, self.start)
        for column, value in zip(self.rows.values(), values, strict=True):
            column.append(value)
        self.start = False

    def act(self, action: int, record: Step, i: int) -> None:
        """Complete the newest row with the action and its outcome in environment `i`."""
        self.left -= 1
        self.rows["actions"][-1] = action
        self.rows["rewards"][-1] = float(record.reward[i])
        self.rows["terminated"][-1] = bool(record.terminated[i])
        self.rows["truncated"][-1] = bool(record.truncated[i])


def check_source(spec: EnvSpec) -> None:
    """Raise UsageError unless the agent plays Atari from grey screens or RAM, the only play that can be recorded."""
    protocol = spec.protocol
    if not spec.family.has_roms:
        raise UsageError(f"only Atari games can be collected, not {spec.id}: try playfield collect breakout")
    if protocol.get("view") or protocol.get("colour") != "grey":
        what = f"the view {protocol['view']}" if protocol.get("view") else "colours"
        raise UsageError(f"this agent observes {what} of {spec.id}: only grey screens and RAM can be collected")


def play(
    policy: Policy,
    steps: int,
    *,
    epsilon: float = 0.0,
    seed: int = 0,
    num_envs: int = 8,
    on_step: Callable[[int], None] | None = None,
) -> tuple[dict[str, np.ndarray], list[float]]:
    """Play `steps` steps in total in `num_envs` environments.

    Unfinished games are cut at the end: their last step is marked as truncated.

    Args:
        policy: chooses the actions.
        steps: in total, over all environments.
        epsilon: probability of a uniformly random action instead of the policy's.
        seed: of the environments and of all sampling; the same seed gives the same bytes.
        num_envs: number of parallel environments; part of what determines the play.
        on_step: called after each vector step with the number of steps so far.

    Returns:
        The columns of a dataset, see `Dataset`, and the raw scores of all finished games.

    Raises:
        UsageError: see `check_source`.
    """
    spec = policy.spec
    check_source(spec)
    n, choose = min(num_envs, steps), chooser(policy)
    env = AtariRam(spec.id, n, AtariProtocol.from_stored(spec.protocol), screens=True)
    observations = Observations(spec, n)
    recorders = [EnvRecorder(steps // n + (i < steps % n)) for i in range(n)]
    seeds = env_seeds(np.random.SeedSequence([seed, 11]), n)
    rng = np.random.default_rng([seed, 12])
    ram = env.reset(seeds)
    obs = observations.reset(env, ram)
    done = 0
    for i, recorder in enumerate(recorders):
        recorder.observe(env.screens[i], ram[i])
    while done < steps:
        uniform = rng.random((3, n))
        actions = np.where(
            uniform[0] < epsilon, (uniform[1] * spec.num_actions).astype(np.int64), choose(obs, uniform[2])
        )
        executed = env.executed(actions)
        record = env.step(actions)
        ended = np.zeros(n, bool)
        for episode in record.episodes:
            ended[episode.env] = True
            if recorders[episode.env].left:
                recorders[episode.env].scores.append(episode.score)
        for i, recorder in enumerate(recorders):
            if not recorder.left:
                continue
            recorder.act(int(executed[i]), record, i)
            done += 1
            recorder.observe(env.next_screens[i], record.next_obs[i])
            if not recorder.left and not ended[i]:
                recorder.rows["truncated"][-2] = not recorder.rows["terminated"][-2]
            elif ended[i] and recorder.left:
                recorder.start = True
                recorder.observe(env.screens[i], record.obs[i])
        obs = observations.step(env, record.obs, ended)
        if on_step is not None:
            on_step(done)
    env.close()
    return _columns(recorders), [score for recorder in recorders for score in recorder.scores]


def _columns(recorders: list[EnvRecorder]) -> dict[str, np.ndarray]:
    """One array per column, environment after environment; empties the recorders, to hold the frames only once."""
    rows = sum(len(recorder.rows["actions"]) for recorder in recorders)
    columns = {}
    for key, (dtype, shape) in dataset.COLUMNS.items():
        column, at = np.empty((rows, *shape), dtype), 0
        for recorder in recorders:
            values = recorder.rows.pop(key)
            values.reverse()
            while values:
                column[at] = values.pop()
                at += 1
        columns[key] = column
    return columns


@takes.checked(
    source=takes.path,
    which=step,
    agent=takes.text("random"),
    steps=takes.whole(1, 1e8),
    epsilon=takes.real(0, 1),
    temperature=takes.real(0, 100),
    seed=takes.seed,
    num_envs=takes.whole(1, 1024),
    out=takes.path,
    trust=takes.switch,
    say=takes.function,
)
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
    trust: bool = False,
    say: Say | None = None,
) -> Path:
    """Record the play of an agent as a dataset.

    Args:
        source: a run, a checkpoint or a shipped agent (see `play.agent.find_agent`); the name of a game with
            `agent="random"`.
        which: checkpoint of a run: `last`, `best` or a step.
        agent: `random` for random play.
        steps: in total, over all environments.
        epsilon: probability of a random action, so that the data covers more than a good agent's play.
        temperature: of the sampled actions, 0 is greedy; None: the agent's default.
        seed: of the environments and of all sampling.
        num_envs: number of parallel environments; part of what determines the play.
        out: directory (default `datasets/GAME`); it must not exist.
        trust: import the module of an environment `module:Id` that only the run's files name.
        say: called with each line of progress.

    Returns:
        The directory of the dataset.

    Raises:
        UsageError: no such agent, a game that cannot be recorded, or a directory that exists.
        StorageError: not enough free disk space or memory.
    """
    compute.setup(networks=agent is None)
    policy, _ = agent_or_random(str(source), which, agent, temperature, seed, trust)
    check_source(policy.spec)
    path = Path(out) if out is not None else Path("datasets") / policy.spec.id
    dataset.refuse_existing(path)
    need = steps * (ROW_BYTES + 200)
    preflight(path, need)
    free = compute.free_memory()
    if free is not None and 2 * need > free:
        raise StorageError(
            f"{steps:,} steps need {readable_size(2 * need)} of memory and {readable_size(free)} are free: "
            "lower --steps"
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
        finished = (
            f"{len(scores)} finished, mean score {format_scores(float(np.mean(scores)))[0]}"
            if scores
            else "none finished"
        )
        size = (path / dataset.DATA).stat().st_size
        say(
            f"{path}: {len(columns['frames']):,} frames of {meta['episodes']} games "
            f"({finished}), {readable_size(size)}\n"
            f"next: playfield autoencoder {shlex.quote(str(path))}{' --split frames' * (meta['episodes'] == 1)}"
        )
    return path


def _progress(steps: int, say: Say) -> Callable[[int], None]:
    begun: tuple[float, int] | None = None  # the first step is not counted: it includes loading and warm-up
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
