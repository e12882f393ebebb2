"""End-game replay: Atari games of which some start shortly before an earlier one lost a life.

Every `EVERY` steps the state of a game is noted. When it loses a life, one of the states of its last `BEFORE` steps,
chosen at random, is kept, unless it is so already; the oldest goes when there are `KEPT`. A new game starts from one
of them with probability `share`, and from the beginning otherwise; after `TIMES` games a state is dropped for ever.
Such a game goes on to its end, and its `Episode` is marked `replayed`: it is no score.

1. A state is that of the emulator, the last screens (frame stack), the action that a sticky frame repeats, the random
   numbers, the lives and the counts of frames: what follows is what followed then, as long as actions are the same.
2. ALE's snapshot lacks the action that a sticky frame repeats. So frames are made sticky here, by the same rule.
3. Each game has a seed of its own, of no-ops, random skips and sticky frames, and begins with the console as it was
   when it was loaded. So a state is also what a seed and actions led to, and this is what a checkpoint holds: bytes
   for the emulator to parse could crash it, or worse, if somebody had changed them. `restore` plays all these games
   again, beginnings that several have in common once.

They are played by N single emulators (see `atari_modes`): the same seed plays another game than without replay.
"""

from __future__ import annotations

import warnings
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from ale_py import ALEState

from playfield.envs.action_log import AtariLog, check_snapshot, checksums
from playfield.envs.atari_modes import Screen
from playfield.envs.atari_protocol import AtariProtocol
from playfield.envs.atari_ram import AtariRam, Game
from playfield.envs.base import EnvSpec, Step
from playfield.envs.checks import like
from playfield.envs.failures import BEFORE, EVERY, KEPT, TIMES, inexact
from playfield.envs.uses import Uses
from playfield.errors import DataError

PROOF = 60  # steps that are played twice before a training, in `prove`
UNSEEN = np.zeros((1, 1), np.uint8)
COUNTS = ("last", "lives", "life_lost", "score", "length", "frames", "held")


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The state of one game, in memory.

    Attributes:
        emulator: with its random numbers.
        random: state of the generator of the game.
        counts: the attributes of the game that `COUNTS` names.
        seen: its observation: the last screens, or RAM.
    """

    emulator: ALEState
    random: Any
    counts: dict[str, Any]
    seen: np.ndarray


class _Exact(Game):
    """A game whose state can be copied, as it has what ALE's snapshot lacks."""

    stack: np.ndarray
    blind = False  # nobody looks at the screens of these steps: twice as fast

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.last = 0
        self.ale.setFloat("repeat_action_probability", 0.0)
        self.ale.setInt("random_seed", 1)
        self.load()
        self.loaded = self.ale.cloneState(include_rng=True)

    def seed(self, seed: int) -> None:
        """Start a new game that depends on `seed` alone: 50 times as fast as loading the ROM again."""
        self.ale.restoreState(self.loaded)
        self.generator = np.random.default_rng(seed)
        self.start()

    def start(self) -> None:
        self.last, self.replayed = 0, False
        super().start()

    def act(self, action: int) -> int:
        """A frame. With the protocol's probability the last action is repeated, as in ALE."""
        sticky = self.protocol.sticky
        if not sticky or self.generator.random() >= sticky:
            self.last = action
        return super().act(self.last)

    def snapshot(self) -> Snapshot:
        """The state now."""
        counts = {name: getattr(self, name) for name in COUNTS}
        emulator = self.ale.cloneState(include_rng=True)
        return Snapshot(emulator, self.generator.bit_generator.state, counts, self.observation())

    def go_to(self, snapshot: Snapshot) -> None:
        """Be in that state, which this or another game of the same protocol was in."""
        self.ale.restoreState(snapshot.emulator)
        self.generator = np.random.default_rng()
        self.generator.bit_generator.state = snapshot.random
        for name, value in snapshot.counts.items():
            setattr(self, name, value)
        self.stack, self.before = snapshot.seen, None


class _ExactScreen(_Exact, Screen):
    """One that is observed as a stack of screens."""

    def now(self) -> np.ndarray:
        return UNSEEN if self.blind else super().now()

    def _push(self) -> None:
        if not self.blind:
            super()._push()


@dataclass(slots=True, eq=False)
class _Kept:
    """A state from which games start: what it is, what leads to it, and how many games have started from it."""

    snapshot: Snapshot
    seed: int
    actions: bytes
    check: int  # of its observation
    used: int = 0


class _Log(AtariLog):
    """Every game has a seed of its own."""

    limit = -1


class Endgames(AtariRam):
    """`num_envs` copies of one game, of which some start from kept states; observations are those of `Atari`.

    Args:
        game: ROM name in ale-py, such as `breakout`.
        num_envs: games at once.
        protocol: what scores depend on.
        share: probability that a game starts from a kept state, if there is one.

    Raises:
        UsageError: unknown game, bad protocol, fewer than one env.
    """

    _games: list[Any]  # of `_Exact`

    def __init__(self, game: str, num_envs: int, protocol: AtariProtocol, share: float) -> None:
        super().__init__(game, num_envs, protocol)
        self.share = share
        self._notes: list[deque[tuple[int, Snapshot]]] = [deque(maxlen=BEFORE // EVERY) for _ in range(num_envs)]
        self._kept: list[_Kept] = []
        self._dropped = Uses()
        self._random = np.random.default_rng(0)

    def _settled(self, protocol: AtariProtocol) -> AtariProtocol:
        protocol.check()
        return super()._settled(protocol) if protocol.obs == "ram" else protocol

    def _emulator(self, game: str, fire: int) -> _Exact:
        kind = _Exact if self.protocol.obs == "ram" else _ExactScreen
        return kind(game, self.protocol, fire, False)

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """Start a new episode in every env, env i seeded with `seeds[i]`; nothing is kept any more."""
        for notes in self._notes:
            notes.clear()
        self._kept.clear()
        self._dropped.clear()
        obs = super().reset(seeds)
        self._random = np.random.default_rng(np.random.SeedSequence(self._started().first.tolist(), spawn_key=(1,)))
        return obs

    def _new_log(self, seeds: np.ndarray) -> AtariLog:
        return _Log(seeds)

    def step(self, actions: np.ndarray) -> Step:
        """Apply `actions` int64 [N]. Raises EnvError before the first `reset` and for actions out of range."""
        record = super().step(actions)
        log, began = self._started(), {episode.env for episode in record.episodes}
        for i, game in enumerate(self._games):
            if game.life_lost:  # and goes on
                self._keep(i)
            elif i not in began and game.length % EVERY == 0:
                self._notes[i].append((len(log.actions[i]), game.snapshot()))
        return record

    def _keep(self, i: int) -> None:
        """Game `i` has lost a life: keep one of its states, if that is not kept already, nor used up."""
        notes, log = self._notes[i], self._started()
        if notes:
            length, snapshot = notes[int(self._random.integers(len(notes)))]
            self._add(snapshot, int(log.seed[i]), bytes(log.actions[i][:length]))
        notes.clear()

    def _add(self, snapshot: Snapshot, seed: int, actions: bytes) -> None:
        """Keep a state. Games that start from one state may go on alike, and then each would leave the same ones."""
        self._dropped.forget(self._reached())
        # Without a place for its uses it could begin more games than it may.
        if self._dropped.full or self._dropped.of(seed, actions) >= TIMES:
            return
        if any(one.seed == seed and one.actions == actions for one in self._kept):
            return
        if len(self._kept) == KEPT:
            self._drop(self._kept[0])
        self._kept.append(_Kept(snapshot, seed, actions, _check(snapshot), self._dropped.take(seed, actions)))

    def _drop(self, kept: _Kept) -> None:
        self._kept.remove(kept)
        self._dropped.add(kept.seed, kept.actions, kept.used)

    def _reached(self) -> dict[int, int]:
        """For each seed that a game may go on with: the fewest actions of a state that it leaves now or later."""
        log, found = self._started(), [(kept.seed, len(kept.actions) + 1) for kept in self._kept]
        for i, notes in enumerate(self._notes):
            found.append((int(log.seed[i]), notes[0][0] if notes else len(log.actions[i])))
        reached: dict[int, int] = {}
        for seed, length in found:
            reached[seed] = min(length, reached.get(seed, length))
        return reached

    def _next(self, i: int, log: AtariLog) -> None:
        """Start the next game of env `i`."""
        game = self._games[i]
        if game.ale.game_over():
            self._keep(i)
        self._notes[i].clear()
        if not self._kept or self._random.random() >= self.share:
            super()._next(i, log)
            return
        kept = self._kept[int(self._random.integers(len(self._kept)))]
        kept.used += 1
        if kept.used == TIMES:
            self._drop(kept)
        game.go_to(kept.snapshot)
        game.replayed = True
        log.seed[i], log.actions[i] = kept.seed, list(kept.actions)

    def prove(self) -> None:
        """Raise UsageError where a game does not go on from a state as it did; plays a little, and resets."""
        random = np.random.default_rng(0)
        first, second = random.integers(self.spec.num_actions, size=(2, PROOF))
        game, other = self._games[0], self._emulator(self.game, self._fire)
        game.seed(1)
        _play(game, first.tolist())
        snapshot = game.snapshot()
        followed = _play(game, second.tolist())
        for again in (game, other):
            again.go_to(snapshot)
            if _play(again, second.tolist()) != followed:
                raise inexact(self.game)
        self._log = None

    # Saving ------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """A snapshot: seeds and actions of the games under way, of their notes, and of the states kept.

        Raises EnvError before the first `reset`.
        """
        kept = self._kept
        return {
            "games": self._started().state(self.spec.protocol, self._obs),
            "replayed": np.array([game.replayed for game in self._games]),
            "noted": np.array([len(notes) for notes in self._notes], np.int64),
            "notes": np.array([length for notes in self._notes for length, _ in notes], np.int64),
            "share": self.share,
            "random": self._random.bit_generator.state,
            "kept": {
                "seed": np.array([k.seed for k in kept], np.int64),
                "length": np.array([len(k.actions) for k in kept], np.int64),
                "log": np.frombuffer(b"".join(k.actions for k in kept), np.uint8).copy(),
                "used": np.array([k.used for k in kept], np.int64),
                "check": np.array([k.check for k in kept], np.int64),
            },
            "dropped": self._dropped.state(),
        }

    def restore(self, state: dict[str, Any]) -> np.ndarray:
        """Continue from `state`; returns the obs to act on next [N, ...].

        Raises:
            DataError: the state is of other games, another protocol, share or number of envs, or cannot be reached.

        Warns:
            RuntimeWarning: a game did not reach the state it was saved in (another version of ale-py).
        """
        if state["share"] != self.share:
            raise DataError(f"the snapshot has --replay-failures {state['share']}, this is {self.share:g}")
        check_snapshot(True, state, len(state["replayed"]), self.spec.protocol, self.num_envs)
        self._random.bit_generator.state = state["random"]
        self._dropped.restore(state.get("dropped"))
        return _Log.replay(state["games"], self.spec, self.num_envs, lambda log: self._play_again(log, state))

    def _play_again(self, log: AtariLog, state: dict[str, Any]) -> np.ndarray:
        """Play all games again: those under way, with their notes, and those that led to kept states."""
        self._log = log
        replayed = like("replayed", state["replayed"], np.zeros(self.num_envs, bool))
        noted = like("noted", state["noted"], np.zeros(self.num_envs, np.int64))
        stored = state["kept"]
        count = len(stored["seed"])
        seeds, lengths, used, check = (
            like(name, stored[name], np.zeros(count, np.int64)) for name in ("seed", "length", "used", "check")
        )
        sizes = (noted < 0) | (noted > BEFORE // EVERY)
        if sizes.any() or count > KEPT or (lengths < 0).any() or ((used < 0) | (used >= TIMES)).any():
            raise DataError("the snapshot keeps more states, or uses, than there are")
        if noted.sum() != len(state["notes"]) or lengths.sum() != len(stored["log"]):
            raise DataError("the snapshot's lengths are not those of its actions")
        past = [(seed, bytes(actions)) for seed, actions in zip(log.seed.tolist(), log.actions, strict=True)]
        paths = np.split(np.asarray(stored["log"], np.uint8), np.cumsum(lengths)[:-1])
        kept = [(seed, path.tobytes()) for seed, path in zip(seeds.tolist(), paths, strict=False)]
        env = np.repeat(np.arange(self.num_envs), noted).tolist()
        notes = [(past[i][0], past[i][1][:n]) for i, n in zip(env, np.asarray(state["notes"]).tolist(), strict=True)]
        found = self._played([*past, *kept, *notes])
        for game, own, snapshot in zip(self._games, replayed.tolist(), found[: self.num_envs], strict=True):
            game.go_to(snapshot)
            game.replayed = own
        snapshots = found[self.num_envs :]
        self._kept = [
            _Kept(snapshot, seed, actions, _check(snapshot), n)
            for (seed, actions), snapshot, n in zip(kept, snapshots[:count], used.tolist(), strict=True)
        ]
        for own_notes in self._notes:
            own_notes.clear()
        for i, (_, actions), snapshot in zip(env, notes, snapshots[count:], strict=True):
            self._notes[i].append((len(actions), snapshot))
        if [k.check for k in self._kept] != check.tolist():
            warnings.warn(
                f"{self.spec.id}: a kept state is not what it was, so this is not an exact continuation",
                RuntimeWarning,
                stacklevel=5,
            )
        self._merge()
        return self._begin()

    def _merge(self) -> None:
        """A version before kept a state several times: keep it once, with the uses of all."""
        found: dict[tuple[int, bytes], _Kept] = {}
        for kept in self._kept:
            first = found.setdefault((kept.seed, kept.actions), kept)
            if first is not kept:
                first.used = min(TIMES, first.used + kept.used)
        self._kept = [*found.values()]
        for kept in [one for one in self._kept if one.used == TIMES]:
            self._drop(kept)

    def _played(self, pasts: list[tuple[int, bytes]]) -> list[Snapshot]:
        """The states that these (seed, actions) lead to; what several begin with is played once."""
        game = self._emulator(self.game, self._fire)
        found: dict[int, Snapshot] = {}
        under: list[tuple[int, bytes, Snapshot]] = []  # states on the way to the next one
        for number in sorted(range(len(pasts)), key=lambda k: pasts[k]):
            seed, actions = pasts[number]
            while under and not (under[-1][0] == seed and actions.startswith(under[-1][1])):
                under.pop()
            done = 0
            if under:
                game.go_to(under[-1][2])
                done = len(under[-1][1])
            else:
                game.seed(seed)
            for at, action in enumerate(actions[done:], done):
                game.blind = at < len(actions) - self.protocol.stack
                if action >= self.spec.num_actions:
                    raise DataError(
                        f"the snapshot has an action {action} of {self.game}, which has none of that number"
                    )
                _, over, capped = game.step(action)
                if over or capped:
                    raise DataError("the snapshot's actions go on after the end of a game")
            found[number] = game.snapshot()
            under.append((seed, actions, found[number]))
        return [found[number] for number in range(len(pasts))]


def _check(snapshot: Snapshot) -> int:
    """A checksum of what one sees in a state."""
    return int(checksums(snapshot.seen[None])[0])


def _play(game: Game, actions: list[int]) -> list[tuple[Any, ...]]:
    """What follows in a game, and in the next ones where it ends: of each step all that there is to see."""
    seen = []
    for action in actions:
        told = game.step(action)
        seen.append((told, game.lives, game.ale.getRAM().tobytes(), game.ale.getScreenRGB().tobytes()))
        if told[1] or told[2]:
            game.start()
    return seen


def make(spec: EnvSpec, num_envs: int, share: float) -> Endgames:
    """Such games under the protocol of `spec`."""
    return Endgames(spec.id, num_envs, AtariProtocol.from_stored(spec.protocol), share)
