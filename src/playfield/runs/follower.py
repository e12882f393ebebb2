"""A training as a worker process sees it that does not lead: the algorithm's loop, without logs and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from playfield.envs.base import VectorEnv
from playfield.runs.group import Elsewhere, Ended, Member
from playfield.runs.run import Begins, Part, Run
from playfield.runs.weights import restore

P = TypeVar("P", bound=Part)


class Follower(Run):
    """What `Run` is to an algorithm, in a worker process that does as the leader says.

    Args:
        info, make_envs, directory, keep: as of `Run`.
        member: the group, as this worker sees it.
        saved: names of the parts of the checkpoint that the training goes on from.
    """

    def __init__(
        self,
        info: dict[str, Any],
        make_envs: Any,
        directory: Path | None,
        keep: int,
        member: Member,
        saved: Collection[str],
    ) -> None:
        super().__init__(info, make_envs, directory, keep=keep)
        self.group = self._member = member
        self._expected = frozenset(saved)

    def track(
        self,
        name: str,
        part: P,
        *,
        finite: Callable[[], bool] | None = None,
        growth: Callable[[], float] | None = None,
        close: Callable[[], None] | None = None,
    ) -> P:
        """Restore `part` where the training goes on, from what the leader sends."""
        self._parts[name] = part
        if close is not None:
            self.on_close.append(close)
        if name in self._expected:
            (saved,) = self._member.listen("restore")
            self._answer(lambda: restore(name, part, saved))
        elif self._member.far and isinstance(part, Begins):
            (weights,) = self._member.listen("begin")
            self._answer(lambda: part.begin(weights))
        return part

    def workers(
        self, name: str, num_envs: int, make: Callable[[VectorEnv, np.random.SeedSequence, int], P]
    ) -> list[P]:
        """The part of this worker; of the others, what they tell."""
        count, rank = self.compute.workers, self._member.rank
        made: list[Any] = [Elsewhere(num_envs // count) for _ in range(count)]
        env = self.make_envs(num_envs // count)
        self._envs.append(env)
        own = make(env, np.random.SeedSequence(self.seed).spawn(count)[rank], rank)
        made[rank] = self.track(f"{name}-{rank}", own)
        return cast(list[P], made)

    def steps(self, per_rollout: int) -> Iterator[float]:
        """One iteration whenever the leader says so."""
        while True:
            word, *content = self._member.listen("go", "state")
            if word == "go":
                (self.step,) = content
                yield self.step / self.total_steps
            else:
                part = self._parts[content[0]]
                self._answer(part.state)

    def record(self, rollouts: list[Any], taken: int | None = None) -> None:
        """The leader records."""
        for r in rollouts:
            r.episodes.clear()
            r.seconds.update(dict.fromkeys(r.seconds, 0.0))

    def log(self, metrics: dict[str, float], updates: int) -> None:
        """The leader logs."""

    def _answer(self, do: Callable[[], Any]) -> None:
        """Answer with what `do` returns or raises."""
        try:
            found = do()
        except Ended:
            raise
        except Exception as error:
            self._member.answer(None, error)
        else:
            self._member.answer(found)
