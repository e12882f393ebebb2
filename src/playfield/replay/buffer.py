"""The replay buffer: the last transitions of several environments, each frame stored once, sampled in batches.

Each environment has its own lane, a ring of entries. An entry is an observation with the action taken there and its
reward. Two kinds of entries are no transitions and are never sampled: the last observation of a truncated episode,
from which its last transition bootstraps, and the frames that fill an episode's first stack. With them, a stack is
always the last `stack` entries of its lane, whatever the protocol puts into a first stack.
"""

from __future__ import annotations

import hashlib
import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lz4.block
import numpy as np

from playfield.envs.base import EnvSpec, Step
from playfield.errors import DataError, DivergedError, UsageError
from playfield.replay import restored
from playfield.replay.frames import Frames, Packed
from playfield.replay.segments import Segments, blocks, needed, packed_blocks, span
from playfield.replay.sum_tree import SumTree

TRANSITION, TERMINATED, TRUNCATED, OVER = 1, 2, 4, 8  # bits of an entry's kind; OVER: its episode ended there


@dataclass(frozen=True, slots=True)
class Batch:
    """B transitions sampled from a `Replay`.

    Attributes:
        obs: [B, ...] observations, in the environment's dtype.
        actions: [B] int64.
        returns: [B] float32, the discounted sum of the next n rewards, or of fewer where the episode ends before.
        discounts: [B] float32, the factor of the value of `next_obs`: gamma to the number of rewards, 0 after a
            termination.
        next_obs: [B, ...] the observations after these rewards, the true last one of a truncated episode.
        index: [B] int64, positions of the transitions in the buffer, for `Replay.reprioritise`.
        weights: [B] float32, importance weights (N P(i)) ** -beta, not normalised (1 without priorities).
    """

    obs: np.ndarray
    actions: np.ndarray
    returns: np.ndarray
    discounts: np.ndarray
    next_obs: np.ndarray
    index: np.ndarray
    weights: np.ndarray


class Replay:
    """The last `capacity` entries of `num_envs` environments.

    Args:
        spec: of the environments.
        capacity: entries in all lanes together, rounded up to equal lanes.
        seed: of sampling.
        n_step, gamma: of the returns.
        stack: frames in an observation; 1 stores whole observations.
        packed: compress observations.
        alpha: exponent of priorities (Schaul et al. 2016); 0 samples uniformly.
        mapped: directory of a memory-mapped file for frames (not with `packed`); None: in memory.
        save_to: directory of the files that checkpoints refer to; None: `state` cannot be restored.
        keep: number of newest checkpoints whose files are kept.

    Raises:
        UsageError: a capacity too small for a stack and n steps.
    """

    def __init__(
        self,
        spec: EnvSpec,
        num_envs: int,
        capacity: int,
        seed: np.random.SeedSequence,
        *,
        n_step: int = 1,
        gamma: float = 0.99,
        stack: int = 1,
        packed: bool = False,
        alpha: float = 0.0,
        mapped: Path | None = None,
        save_to: Path | None = None,
        keep: int = 5,
    ) -> None:
        self.num_envs, self.n_step, self.gamma, self.alpha = num_envs, n_step, gamma, alpha
        self._num_actions = spec.num_actions
        self.made = {"n_step": n_step, "gamma": gamma, "stack": stack, "packed": packed, "alpha": alpha}
        self.size = -(-capacity // num_envs)
        if self.size < 2 * (n_step + stack):
            raise UsageError(
                f"a replay buffer of {capacity} is too small for {num_envs} environments and {n_step} steps"
            )
        self.frames: Frames | Packed
        if packed:
            self.frames = Packed(num_envs, self.size, spec.obs_shape, spec.obs_dtype)
        else:
            self.frames = Frames(num_envs, self.size, spec.obs_shape, spec.obs_dtype, stack, mapped)
        self.actions = np.zeros((num_envs, self.size), np.uint8 if spec.num_actions <= 256 else np.int32)
        self.rewards = np.zeros((num_envs, self.size), np.float32)
        self.kinds = np.zeros((num_envs, self.size), np.uint8)
        self.count = np.zeros(num_envs, np.int64)  # entries ever written to each lane
        self.random = np.random.Generator(np.random.PCG64(seed))
        self.tree = SumTree(num_envs * self.size) if alpha else None
        self._top = 1.0  # largest priority so far, given to new transitions
        self._fresh = np.ones(num_envs, bool)  # the next observation is an episode's first
        self._digest = b""  # of everything ever stored, in order
        self._segments = None if save_to is None else Segments(save_to)
        self._written = np.zeros(num_envs, np.int64)  # entries written to segments, or overwritten before that
        self._past: list[list[int]] = []  # `count` at the last `keep` completed saves
        self._keep = keep
        # Cache of `order`: the `count` it is for, and itself.
        self._sorted: tuple[bytes, np.ndarray] = (b"", np.zeros(0, np.int64))

    # Writing -----------------------------------------------------------------------------------------

    def add(self, obs: np.ndarray, actions: np.ndarray, rewards: np.ndarray, step: Step) -> None:
        """Store a step of all N environments: `obs` [N, ...] before it, `actions` [N], `rewards` [N] (clipped).

        Raises DivergedError where an observation or reward is not finite; nothing is stored then.
        """
        if not np.isfinite(rewards).all() or (obs.dtype.kind == "f" and not np.isfinite(obs).all()):
            raise DivergedError("the environment gave an observation or a reward that is not finite")
        lanes = np.arange(self.num_envs)
        if self.frames.stack > 1 and self._fresh.any():
            width = obs.shape[-1] // self.frames.stack
            started = lanes[self._fresh]
            for k in range(self.frames.stack - 1):
                self._write(started, obs[started][..., : (k + 1) * width], 0, 0.0, 0)
        ended = np.zeros(self.num_envs, bool)
        ended[[episode.env for episode in step.episodes]] = True
        kinds = TRANSITION | step.terminated * np.uint8(TERMINATED) | step.truncated * np.uint8(TRUNCATED)
        self._write(lanes, obs, actions, rewards, kinds | ended * np.uint8(OVER))
        if step.truncated.any():
            cut = lanes[step.truncated]
            self._write(cut, step.next_obs[cut], 0, 0.0, 0)
        self._fresh[:] = ended

    def _write(self, lanes: np.ndarray, obs: np.ndarray, actions: Any, rewards: Any, kinds: Any) -> None:
        index = self.count[lanes]
        at = index % self.size
        stored = self.frames.put(lanes, index, obs)
        self._digest = hashlib.sha256(self._digest + stored).digest()
        self.actions[lanes, at], self.rewards[lanes, at], self.kinds[lanes, at] = actions, rewards, kinds
        self.count[lanes] += 1
        if self.tree is not None:
            self.tree.set(lanes * self.size + at, 0.0)
            ready = index - self.n_step
            ok = (ready >= 0) & (self.kinds[lanes, ready % self.size] > 0)
            self.tree.set((lanes * self.size + ready % self.size)[ok], self._top)
            lost = self._first()[lanes] - 1  # part of its stack was overwritten
            self.tree.set((lanes * self.size + lost % self.size)[lost >= 0], 0.0)

    def _first(self) -> np.ndarray:
        """The first entry of each lane whose whole stack is in the ring, [lanes] int64."""
        return np.asarray(np.where(self.count > self.size, self.count - self.size + self.frames.stack - 1, 0))

    # Sampling ----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Transitions that can be sampled."""
        return sum(len(self._sampleable(lane)) for lane in range(self.num_envs))

    def _sampleable(self, lane: int) -> np.ndarray:
        """The entries of a lane that are transitions with n steps after them."""
        index = np.arange(self._first()[lane], max(self.count[lane] - self.n_step, 0))
        return np.asarray(index[self.kinds[lane, index % self.size] > 0])

    @property
    def entries(self) -> int:
        """Entries in the buffer: transitions, and a few more around the ends of episodes."""
        return int(np.minimum(self.count, self.size).sum())

    def sample(self, batch: int, beta: float = 1.0) -> Batch:
        """Sample `batch` transitions with replacement; `beta` is the exponent of importance weights.

        Raises ValueError while the buffer has no transition to sample.
        """
        if self.tree is None:
            lanes, index = self._sample_uniform(batch)
            return self._read(lanes, index, np.ones(batch, np.float32))
        if self.tree.total <= 0:
            raise ValueError("nothing to sample yet")
        # One sample from each of `batch` equal parts of the sum, as in the paper.
        amounts = (np.arange(batch) + self.random.random(batch)) * (self.tree.total / batch)
        where = self.tree.find(amounts)
        weights = (self.entries * self.tree.values[where] / self.tree.total) ** -beta
        return self._read(*self._entries(where), weights.astype(np.float32))

    def _entries(self, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lanes [n], and numbers in their lanes [n], of the entries at positions `where` [n]."""
        lanes, at = np.divmod(where, self.size)
        first = self._first()[lanes]
        return lanes, first + (at - first) % self.size

    def _sample_uniform(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        first = self._first()
        ends = np.cumsum(np.maximum(self.count - self.n_step - first, 0))
        if not ends[-1]:
            raise ValueError("nothing to sample yet")
        lanes = index = np.zeros(0, np.int64)
        for _ in range(1000):  # entries that are no transitions are sampled again
            number = self.random.integers(0, ends[-1], batch - len(index))
            lane = np.searchsorted(ends, number, side="right")
            i = first[lane] + number - np.where(lane > 0, ends[lane - 1], 0)
            ok = self.kinds[lane, i % self.size] > 0
            lanes, index = np.concatenate([lanes, lane[ok]]), np.concatenate([index, i[ok]])
            if len(index) == batch:
                return lanes, index
        raise ValueError("nothing to sample yet")

    def _read(self, lanes: np.ndarray, index: np.ndarray, weights: np.ndarray) -> Batch:
        next_index, returns = index.copy(), np.zeros(len(index), np.float32)
        discounts, ongoing = np.ones(len(index), np.float32), np.ones(len(index), bool)
        for k in range(self.n_step):
            at = (index + k) % self.size
            returns += np.where(ongoing, discounts * self.rewards[lanes, at], 0)
            discounts = np.where(ongoing, discounts * np.float32(self.gamma), discounts)
            next_index += ongoing
            kinds = self.kinds[lanes, at]
            discounts[ongoing & (kinds & TERMINATED > 0)] = 0
            ongoing &= kinds & (TERMINATED | TRUNCATED) == 0
        return Batch(
            self.frames.get(lanes, index),
            self.actions[lanes, index % self.size].astype(np.int64),
            returns,
            discounts,
            self.frames.get(lanes, next_index),
            lanes * self.size + index % self.size,
            weights,
        )

    def reprioritise(self, index: np.ndarray, errors: np.ndarray) -> None:
        """Set the priorities of sampled transitions (`Batch.index` [B]) to (|error| + 1e-6) ** alpha.

        Call it before the next `add`, which may overwrite them.
        """
        if self.tree is None:
            return
        priorities = (np.abs(errors.astype(np.float64)) + 1e-6) ** self.alpha
        self._top = max(self._top, float(priorities.max()))
        self.tree.set(index, priorities)

    @property
    def nbytes(self) -> int:
        """Bytes of observations, actions, rewards, kinds and priorities."""
        tree = 0 if self.tree is None else self.tree.nbytes
        return self.frames.nbytes + self.actions.nbytes + self.rewards.nbytes + self.kinds.nbytes + tree

    # Inspecting --------------------------------------------------------------------------------------

    @property
    def index(self) -> np.ndarray:
        """The slot that each lane is written to next, [lanes] int64, from 0 to `size` - 1."""
        return self.count % self.size

    def order(self) -> np.ndarray:
        """Positions of transitions that can be sampled, oldest first, then by lane: [len] int64, lane * size + slot.

        Every step stores one transition in every lane, so a transition's age is the number of later ones in its lane.
        """
        if self._sorted[0] != (key := self.count.tobytes()):
            found = []
            for lane in range(self.num_envs):
                index = np.arange(self._first()[lane], self.count[lane])
                index = index[self.kinds[lane, index % self.size] > 0]
                later = np.arange(len(index))[::-1]
                sampleable = index < self.count[lane] - self.n_step
                found.append(np.stack([-later, lane * self.size + index % self.size])[:, sampleable])
            age, where = np.concatenate(found, axis=1)
            self._sorted = key, where[np.lexsort((where // self.size, age))]
        return self._sorted[1]

    def read(self, where: np.ndarray) -> Batch:
        """The transitions at positions `where` [B] (of `order`), as `sample` returns them, with weights of 1."""
        return self._read(*self._entries(where), np.ones(len(where), np.float32))

    def __getitem__(self, i: int) -> tuple[np.ndarray, int, float, np.ndarray, bool]:
        """Transition `i`, oldest first, as a single step: (obs, action, reward, next_obs, done).

        `done` is true after a termination: do not bootstrap. The last observation of a terminated episode is not
        stored, as it is never learnt from: `next_obs` is all zeros then. Raises IndexError out of range.
        """
        order, i = self.order(), operator.index(i)
        if not -len(order) <= i < len(order):
            raise IndexError(f"no transition {i}: there are {len(order)}, counted from 0")
        lane, entry = self._entries(order[i : i + 1 or None])
        at = lane[0], entry[0] % self.size
        obs, next_obs = self.frames.get(lane, entry)[0], self.frames.get(lane, entry + 1)[0]
        if self.kinds[at] & (OVER | TRUNCATED) == OVER:
            next_obs = np.zeros_like(next_obs)
        return obs, int(self.actions[at]), float(self.rewards[at]), next_obs, bool(self.kinds[at] & TERMINATED)

    # Saving ------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything but the observations, which are written to files: those since the last call, in a new file.

        Call `saved` when a checkpoint with this state is on the disk.
        """
        files: list[dict[str, Any]] = []
        if self._segments is not None:
            self._write_segment(self._segments)
            files = [dict(entry) for entry in self._segments.listed]
        return {
            "made": dict(self.made),
            "count": self.count.copy(),
            "actions": self.actions.copy(),
            "rewards": self.rewards.copy(),
            "kinds": self.kinds.copy(),
            "fresh": self._fresh.copy(),
            "priorities": None if self.tree is None else self.tree.values.copy(),
            "top": self._top,
            "random": self.random.bit_generator.state,
            "digest": self._digest.hex(),
            "files": {
                "segments": files,
                "past": [*[list(p) for p in self._past], self.count.tolist()][-self._keep :],
            },
        }

    def saved(self) -> None:
        """Remove the files that neither the last `state`, which a checkpoint now has, nor the kept ones need."""
        if self._segments is None:
            return
        self._past = [*self._past, self._written.tolist()][-self._keep :]
        floor = np.array(self._past[0]) - self.size
        self._segments.drop([e for e in self._segments.listed if (np.array(e["last"]) <= floor).all()])

    def _write_segment(self, segments: Segments) -> None:
        first = np.maximum(self._written, self.count - self.size)
        if not segments.listed:
            segments.tidy()  # remove those of a run killed before its first checkpoint
        if (first < self.count).any():
            lanes = range(self.num_envs)
            entries = [self.frames.pack(k, i) for k in lanes for i in range(int(first[k]), int(self.count[k]))]
            segments.write(packed_blocks(entries), {"first": first.tolist(), "last": self.count.tolist()})
            self._written = self.count.copy()

    def restore(self, state: dict[str, Any]) -> None:
        """Load what `state` returned. Raises DataError where its files are missing, damaged or of another buffer."""
        if state["actions"].shape != self.actions.shape or (state["priorities"] is None) != (self.tree is None):
            raise DataError("the saved replay buffer has another size or kind")
        past = [span({"past": p}, "past", self.num_envs).tolist() for p in state["files"]["past"]]
        if self._segments is None:
            raise DataError("this replay buffer has no directory to restore from")
        self._segments.adopt(state["files"]["segments"])
        self._take(state)
        self._fill(self._segments, state, 0)
        self._digest = bytes.fromhex(state["digest"])
        self.random.bit_generator.state = state["random"]
        self._written, self._past = self.count.copy(), past
        self._segments.tidy()

    def _take(self, state: dict[str, Any]) -> None:
        """Load everything of a saved buffer but its observations, digest and random numbers."""
        arrays = {"count": self.count, "fresh": self._fresh, "actions": self.actions}
        restored.take(state, {**arrays, "rewards": self.rewards, "kinds": self.kinds}, self._num_actions)
        if self.tree is not None:
            self.tree.load(restored.priorities(state, self.tree.values))
        self._top, self._sorted = float(state["top"]), (b"", np.zeros(0, np.int64))

    def _fill(self, segments: Segments, state: dict[str, Any], lane: int) -> None:
        """Read the observations of a saved buffer into the lanes from `lane` on."""
        for entry in needed(state):
            for k, i, block in blocks(segments.read(entry), entry):
                if i >= state["count"][k] - self.size:
                    try:
                        self.frames.unpack(lane + k, i, block)
                    except (lz4.block.LZ4BlockError, ValueError):
                        raise DataError(f"{entry['name']} holds no observations of this size") from None

    @classmethod
    def opened(cls, spec: EnvSpec, saved: list[tuple[dict[str, Any], Path]]) -> Replay:
        """Saved buffers (state, directory of its files) as one with all their lanes, for inspection.

        Nothing is written. Observations stay compressed as in the files, so this needs less memory than training
        did. Raises DataError as `restore` does.
        """
        states = [state for state, _ in saved]
        made, size = states[0]["made"], states[0]["actions"].shape[1]
        lanes = sum(len(state["count"]) for state in states)
        buffer = cls(spec, lanes, lanes * size, np.random.SeedSequence(0), **{**made, "packed": True})
        if not made["packed"]:
            buffer.frames = Packed(lanes, size, spec.obs_shape, spec.obs_dtype, made["stack"])
        buffer.made = dict(made)
        names = ("count", "fresh", "actions", "rewards", "kinds")
        whole = {name: np.concatenate([state[name] for state in states]) for name in names}
        if buffer.tree is not None:
            whole["priorities"] = np.concatenate([state["priorities"] for state in states])
        buffer._take({**whole, "top": max(state["top"] for state in states)})
        lane = 0
        for state, directory in saved:
            buffer._fill(Segments(directory), state, lane)
            lane += len(state["count"])
        return buffer
