"""A frozen policy, identified by its weights' hash: what value prediction (`mrp`, `td_lambda`) evaluates."""

from __future__ import annotations

from typing import Any

import numpy as np

from playfield.envs.base import EnvSpec
from playfield.errors import DataError, UsageError
from playfield.play.agent import find_agent, load_policy, locate
from playfield.play.policy import Policy, RandomPolicy
from playfield.runs.info import spec_from
from playfield.runs.tree import tree_hash

MARK = "@sha256:"
CHANGED = "the policy {} has changed since these values were learnt: it was trained further, or replaced"


def named(policy: str) -> tuple[str, str]:
    """`runs/x@sha256:0123` as its name and what its weights' hash begins with: (`runs/x`, `0123`); else no hash."""
    name, _, pinned = policy.partition(MARK)
    return name, pinned


def check_name(policy: str) -> None:
    """Raise UsageError for a policy that does not exist, or whose name will mean another one later."""
    if policy in ("best", "last"):
        raise UsageError(f"--policy {policy} would mean this run itself: give the run directory")
    if policy != "random":
        locate(named(policy)[0], newest=False)


class FrozenPolicy:
    """The policy whose values are learnt: it must be the same when a run is resumed, and when its values are used.

    `name` may say which weights it must have (see `named`); `pinned` is the name that does.

    Raises UsageError where it is for other observations, actions or another game than `spec`, DataError where its
    weights have changed, or it is gone although `name` holds its hash.
    """

    def __init__(self, name: str, spec: EnvSpec, device: str = "cpu") -> None:
        (self.name, pinned), self.hash = named(name), ""
        self.policy: Policy = RandomPolicy(spec)
        if name == "random":
            return
        try:
            agent = find_agent(self.name)
        except UsageError:
            if not pinned:
                raise
            raise DataError(f"the policy {self.name} is gone: these values are of that policy") from None
        other = spec_from(agent.info)
        pairs = {what: (getattr(spec, what), getattr(other, what)) for what in ("id", "obs_shape", "action_names")}
        pairs |= {
            what: (spec.protocol.get(what), other.protocol.get(what)) for what in spec.protocol | other.protocol
        }
        if differ := [f"{what} {there} (here {here})" for what, (here, there) in pairs.items() if here != there]:
            raise UsageError(f"--policy {name} plays another game: {', '.join(differ)}")
        self.policy, self.hash = load_policy(agent, temperature=1.0, device=device), tree_hash(agent.weights)
        if not self.hash.startswith(pinned):
            raise DataError(CHANGED.format(self.name))

    @property
    def pinned(self) -> str:
        return f"{self.name}{MARK}{self.hash[:16]}" if self.hash else self.name

    def choose(self, obs: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return self.policy.choose(obs, random.random(len(obs)))

    def state(self) -> dict[str, Any]:
        return {"hash": self.hash}

    def restore(self, state: dict[str, Any]) -> None:
        if state["hash"] != self.hash:
            raise DataError(CHANGED.format(self.name))
