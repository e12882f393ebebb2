"""Environments: one vector contract over Atari, classic control and any Gymnasium id."""

from __future__ import annotations

import dataclasses
from typing import Any

from playfield.envs.base import EnvSpec, Episode, Step, VectorEnv

__all__ = ["EnvSpec", "Episode", "Step", "VectorEnv", "make_envs", "make_from"]


def make_envs(
    name: str,
    num_envs: int = 8,
    *,
    protocol: str | None = None,
    view: str | None = None,
    threads: int = 1,
    raw: bool = False,
    **parts: Any,
) -> VectorEnv:
    """`num_envs` copies of the environment called `name` behind the vector contract.

    Args:
        name: `breakout`, `ALE/Breakout-v5`, `CartPole-v1`, `CartPole-v1-pixels`, any Gymnasium id.
        protocol: Atari only: `classic` or `v5`; by default the one that the name implies, else `classic`.
        view: Atari only: an observation view such as `mono,trim,aimbot` (see `playfield.envs.views`).
        threads: Atari only: emulator threads.
        raw: Atari only: 210x160 RGB frames instead of the protocol's observations.
        parts: Atari only: protocol parts to change, such as `sticky=0.25`. CartPole takes `obs`: `state` or `pixels`.

    Raises:
        UsageError: no such environment, protocol or part; with the nearest right names.
    """
    from playfield.envs.names import resolve
    from playfield.errors import UsageError

    found = resolve(name)
    if found.kind == "classic" and parts.get("obs") is not None:
        found.overrides["obs"] = parts.pop("obs")
    if found.kind != "atari":
        for option, value in {"protocol": protocol, "view": view, **parts}.items():
            if value is not None:
                raise UsageError(f"{option} is for Atari games; {found.id} has no such option")
    if found.kind == "classic":
        from playfield.envs.classic import ClassicVectorEnv

        obs = found.overrides.get("obs", "state")
        if obs not in ("state", "pixels"):
            raise UsageError(
                f"{found.id} is seen as its state or from pixels: --obs state or --obs pixels, not {obs}"
            )
        if obs == "pixels":
            from playfield.envs.cartpole_pixels import CartPolePixels

            return CartPolePixels(found.id, num_envs)
        return ClassicVectorEnv(found.id, num_envs)
    if found.kind == "gymnasium":
        from playfield.envs.gym_env import GymVectorEnv

        return GymVectorEnv(found.id, num_envs)
    from playfield.envs import atari

    settings = {**found.overrides, **{k: v for k, v in parts.items() if v is not None}}
    chosen = atari.protocol(protocol or found.protocol or "classic", **settings)
    if raw:
        return atari.Atari(found.id, num_envs, chosen, threads=threads, raw=True)
    if chosen.obs == "ram" and view:
        raise UsageError("a view looks at pixels: leave out --view or --obs ram")
    if chosen.obs == "ram":
        from playfield.envs.atari_ram import AtariRam

        return AtariRam(found.id, num_envs, chosen)
    if view:
        from playfield.envs.atari_viewed import Viewed

        return Viewed(found.id, num_envs, chosen, view, threads=threads)
    return atari.Atari(found.id, num_envs, chosen, threads=threads)


def make_from(spec: EnvSpec, num_envs: int, *, raw: bool = False, threads: int = 1) -> VectorEnv:
    """Environments of the same kind and protocol as `spec` (as stored with a run or a score)."""
    settings = {k: v for k, v in spec.protocol.items() if k not in ("env", "ale_py", "name", "view", "time_limit")}
    if spec.kind != "atari":
        return make_envs(spec.id, num_envs, obs=spec.protocol.get("obs"))
    from playfield.envs.atari import PROTOCOLS

    name = spec.protocol.get("name")
    return make_envs(
        spec.id,
        num_envs,
        protocol=name if name in PROTOCOLS else "classic",
        view=spec.protocol.get("view"),
        threads=threads,
        raw=raw,
        **settings,
    )


def protocol_line(protocol: dict[str, Any]) -> str:
    """A stored protocol in one line."""
    if "sticky" in protocol:
        from playfield.envs.atari import AtariProtocol

        fields = {f.name for f in dataclasses.fields(AtariProtocol)}
        line = AtariProtocol(**{k: v for k, v in protocol.items() if k in fields}).line()
        return f"{line}, view {protocol['view']}" if protocol.get("view") else line
    return ", ".join(f"{k} {v}" for k, v in protocol.items())
