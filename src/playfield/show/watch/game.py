"""The game of one browser tab, played by the agent or by a person, and its messages to the page.

Each tab has its own game, so pausing, speeding up or taking over affects no other tab. The networks are shared and
read-only. Nothing that a person plays reaches training: this process only reads run directories.
"""

from __future__ import annotations

import json
import math
import struct
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from playfield.envs import protocol_line
from playfield.envs.base import EnvSpec
from playfield.errors import PlayfieldError
from playfield.play.agent import agent_or_random, checkpoint_of, find_agent, load_policy
from playfield.play.player import Moment, Player, fps_of, lives_of
from playfield.play.policy import Policy, explainer
from playfield.play.statistics import MEAN, Statistic
from playfield.show import saliency
from playfield.show.watch import rundata

KEYS = ("left", "right", "up", "down", "fire")
TRAIL = 600  # steps kept for the value chart of a client that requests frames slowly


class Source:
    """The agent that is shown: one policy per checkpoint, loaded once for all tabs.

    Args:
        source, which, agent: see `watch`.
        temperature: of the sampled actions, 0 is greedy; None: the agent's default.
        seed: of the policies' own sampling.
        trust: import the module of an environment that only the run's files name.
        statistic: of the last games, what the learning curve shows.

    Raises:
        UsageError: no such agent. DataError: a damaged one.
    """

    def __init__(
        self,
        source: str,
        which: str = "last",
        agent: str | None = None,
        temperature: float | None = None,
        seed: int = 0,
        trust: bool = False,
        statistic: Statistic = MEAN,
    ) -> None:
        self.temperature, self.seed = temperature, seed
        policy, home = agent_or_random(source, which, agent, temperature, seed, trust)
        self.spec: EnvSpec = policy.spec
        self.run: Path | None = home if (home / "run.json").is_file() else None
        self.random = agent is not None
        first = str(which) if self.random else checkpoint_of(source, which)
        self.first = "follow" if first == "last" and self.run is not None and not self.random else first
        self.curve = None if self.run is None else rundata.Curve(self.run, statistic)
        self._cache: dict[str, Policy] = {}
        self._first_policy = policy
        self._lock = threading.Lock()

    @property
    def about(self) -> str:
        """One line: the environment and the agent."""
        return f"{self.spec.id}: {self.policy(self.first).label}"

    def steps(self) -> list[int]:
        """Training steps of the available checkpoints."""
        return [] if self.run is None or self.random else rundata.kept_steps(self.run)

    def choices(self) -> list[str]:
        """Values of the checkpoint menu: `follow`, `best` and the steps, newest first; empty for a fixed agent."""
        if self.run is None or self.random:
            return []
        best = ["best"] if rundata.has_best(self.run) else []
        return ["follow", *best, *[str(step) for step in reversed(self.steps())]]

    def newest(self) -> int | None:
        """Training step of the newest checkpoint, None without one."""
        return max(self.steps(), default=None)

    def policy(self, which: str) -> Policy:
        """The policy for a value of `choices`; `follow` is the newest checkpoint. Raises PlayfieldError."""
        if self.run is None or self.random or which == self.first != "follow":
            return self._first_policy
        which = "last" if which == "follow" else which
        key = str(self.newest()) if which == "last" else which
        with self._lock:
            if key == "best" or key not in self._cache:
                found = load_policy(find_agent(str(self.run), which), temperature=self.temperature, seed=self.seed)
                if found.spec != self.spec:
                    raise PlayfieldError("the checkpoint is for another environment or protocol")
                self._cache[key] = found
                while len(self._cache) > 4:
                    del self._cache[next(iter(self._cache))]
            return self._cache[key]


class OverridablePolicy:
    """A policy whose actions a person can override: `human` is the index of their action, or None."""

    def __init__(self, policy: Policy) -> None:
        self.human: int | None = None
        self.use(policy)

    def use(self, policy: Policy) -> None:
        """Switch to another policy of the same environment."""
        self.policy, self.spec, self.label = policy, policy.spec, policy.label
        self.temperature = policy.temperature

    def act(self, obs: np.ndarray, uniform: np.ndarray | None = None) -> np.ndarray:
        """The environment's own numbers of `choose`."""
        return self.choose(obs, uniform) + self.spec.first_action

    def choose(self, obs: np.ndarray, uniform: np.ndarray | None = None) -> np.ndarray:
        """Actions int64 [N], counted from 0, for observations [N, ...]: those of the policy, or the person's."""
        human = self.human  # read once: the page sets it at any time
        if human is not None:
            return np.full(len(obs), human, np.int64)
        return self.policy.choose(obs, uniform)

    def explain(self, obs: np.ndarray) -> dict[str, np.ndarray]:
        """The policy's outputs, see `Policy.explain`."""
        return explainer(self.policy)(obs)


def action_for(names: Sequence[str], keys: Sequence[str]) -> int:
    """Index of the action that matches the pressed keys best.

    Args:
        names: the environment's action names, such as `UPRIGHTFIRE`, `left` or `torque +1`.
        keys: some of `KEYS`. Without any: NOOP, else the middle action of an odd number, else the first.
    """
    upper = [name.upper() for name in names]
    down, fire = set(keys), "FIRE" if "fire" in keys else ""
    vertical = "" if {"up", "down"} <= down else "UP" if "up" in down else "DOWN" if "down" in down else ""
    sides = "" if {"left", "right"} <= down else "LEFT" if "left" in down else "RIGHT" if "right" in down else ""
    for wanted in (vertical + sides + fire, sides + fire, vertical + fire, vertical + sides, sides, vertical, fire):
        if wanted and wanted in upper:
            return upper.index(wanted)
    if "NOOP" in upper:
        return upper.index("NOOP")
    middle = len(names) // 2 if len(names) % 2 else 0
    return {"LEFT": 0, "RIGHT": len(names) - 1}.get(sides, middle)


def frame_aspect(spec: EnvSpec, frame: np.ndarray) -> float:
    """Width / height at which the frame is shown: the pixels of the Atari 2600 are 12/7 as wide as high."""
    height, width = frame.shape[:2]
    return float(width / height * spec.family.pixel_aspect)


def pack(header: dict[str, Any], *buffers: np.ndarray) -> bytes:
    """A message: length of the JSON (uint32, little-endian), the JSON, then the buffers one after another."""
    text = json.dumps(header, allow_nan=False, separators=(",", ":")).encode()
    return b"".join([struct.pack("<I", len(text)), text, *(np.ascontiguousarray(b).tobytes() for b in buffers)])


def number(x: Any, digits: int = 4) -> float | None:
    """`x` rounded, for JSON; None for None and for numbers that are not finite."""
    return None if x is None or not math.isfinite(float(x)) else round(float(x), digits)


class Session:
    """The game of one tab. Not thread-safe: one call at a time, except for what a person sets (`overlay`,
    `take_over`, `press`): that changes at any time, also during a call, so each call reads it once.

    Args:
        source: the agent.
        seed: of the first game.
    """

    def __init__(self, source: Source, seed: int) -> None:
        self.source, self.spec = source, source.spec
        self.choice = source.first
        self.loaded = source.newest()
        self.policy = OverridablePolicy(source.policy(self.choice))
        self.names = self.spec.action_names
        self.overlay = "off"
        self.keys: list[str] = []
        self.taken_over = False
        self._start(seed)

    def _start(self, seed: int) -> None:
        self.seed = seed
        self.player = Player(self.policy, seed)
        self._moments: Iterator[Moment] = self.player.moments()
        self._now: Moment | None = None
        self._lives = self._shown_lives = lives_of(self.player)
        self._value: float | None = None
        self.human_game = False
        self.trail: deque[list[Any]] = deque(maxlen=TRAIL)
        self.scores: list[list[Any]] = []

    def restart(self, seed: int) -> None:
        """Start over from another seed."""
        self.player.close()
        self._start(seed)

    def close(self) -> None:
        """Close the environment."""
        self.player.close()

    def choose(self, which: str) -> None:
        """Switch to another checkpoint within the game. Raises PlayfieldError, and then keeps the old one."""
        newest = self.source.newest()  # before loading: a checkpoint saved meanwhile is loaded next time
        self.policy.use(self.source.policy(which))
        self.choice, self.loaded = which, newest

    def follow(self) -> bool:
        """Where the choice is `follow`, load a newer checkpoint if there is one; returns whether it did."""
        newest = self.source.newest()
        if self.choice != "follow" or newest == self.loaded:
            return False
        self.choose("follow")
        return True

    def take_over(self, on: bool) -> None:
        """Let the person play, or hand back to the agent."""
        self.taken_over, self.keys = on, []
        self._override()

    def press(self, keys: Sequence[str]) -> None:
        """Set the keys that are held down; others than `KEYS` are ignored."""
        self.keys = [key for key in KEYS if key in keys]
        self._override()

    def _override(self) -> None:
        self.policy.human = action_for(self.names, self.keys) if self.taken_over else None

    def advance(self) -> None:
        """Play one step."""
        before = self._now
        if before is not None and before.over:
            self.human_game = False
        self._shown_lives = self._lives
        played = self.taken_over
        now = next(self._moments)
        self._now = now
        self._lives = lives_of(self.player)
        self.human_game |= played or self.taken_over
        value = saliency.values_of({k: np.asarray(v)[None] for k, v in now.outputs.items()})
        self._value = None if value is None else number(value[0])
        self.trail.append([now.step, self._value, number(now.reward), int(now.over)])
        if now.over:
            self.scores = [*self.scores[-19:], [number(now.score), int(self.human_game)]]

    def hello(self) -> bytes:
        """The first message: what does not change during the connection."""
        spec = self.spec
        return pack(
            {
                "kind": "hello",
                "env": spec.id,
                "actions": list(spec.action_names),
                "protocol": protocol_line(spec.protocol),
                "obs_shape": list(spec.obs_shape),
                "pixels": spec.pixels,
                "inputs": [] if spec.pixels else list(spec.family.input_names(spec.id, math.prod(spec.obs_shape))),
                "fps": fps_of(spec),
                "overlay": spec.pixels and spec.family.obs_covers_frame(spec.protocol),
                "trained": not self.source.random,
                "run": None if self.source.run is None else str(self.source.run),
            }
        )

    def frame(self) -> bytes:
        """Message about the latest step: screen, observation, outputs of the agent, action and score."""
        now = self._now
        if now is None:
            self.advance()
            now = self._now
        assert now is not None
        stack = self.spec.visible(now.obs) if self.spec.pixels else None
        which = self.overlay
        overlay = self._overlay(now, which) if which != "off" else None
        outputs: dict[str, Any] = {
            k: [number(x) for x in np.ravel(now.outputs[k])] for k in ("probs", "q") if k in now.outputs
        }
        header: dict[str, Any] = {
            "kind": "frame",
            "step": now.step,
            "game": now.game,
            "seed": self.seed,
            "score": number(now.score),
            "reward": number(now.reward),
            "lives": self._shown_lives,
            "over": now.over,
            "action": now.action,
            "human": self.taken_over,
            "human_game": self.human_game,
            "value": self._value,
            "label": self.policy.label,
            "choice": self.choice,
            "trail": list(self.trail),
            "scores": self.scores,
            "aspect": round(frame_aspect(self.spec, now.frame), 5),
            "frame": list(now.frame.shape[:2]),
            "stack": None if stack is None else list(stack.shape),
            "obs": None if stack is not None else [number(x) for x in np.ravel(now.obs)[:256]],
            "overlay": None if overlay is None else list(overlay.shape),
            **outputs,
        }
        self.trail.clear()
        parts = [now.frame, *([] if stack is None else [stack.transpose(2, 0, 1)])]
        return pack(header, *parts, *([] if overlay is None else [overlay]))

    def _overlay(self, now: Moment, which: str) -> np.ndarray | None:
        """Saliency map of the `value` or of the `policy` by occlusion, uint8 [H, W]; None for vector observations."""
        if not self.spec.pixels:
            return None
        found = saliency.occlusion(explainer(self.policy), now.obs).maps()[which]
        return np.round(255 * saliency.relative(found)).astype(np.uint8)

    def run_status(self) -> bytes:
        """Message about the run: its checkpoints and learning curve."""
        curve = None if self.source.curve is None else self.source.curve.look()
        return pack({"kind": "run", "choices": self.source.choices(), "choice": self.choice, "curve": curve})
