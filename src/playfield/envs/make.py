"""Makes the vector environments of each family.

Each function imports its environments when the first one is made: ale-py and OpenCV take 0.4 s, Gymnasium 0.3 s, and
most callers only ask about names or specs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from playfield.envs import failures
from playfield.envs.atari_protocol import protocol
from playfield.envs.base import EnvSpec, VectorEnv
from playfield.envs.family import Family
from playfield.errors import UsageError

if TYPE_CHECKING:
    from playfield.envs.endgames import Endgames


def make(
    family: Family, id: str, num_envs: int, options: Mapping[str, Any], *, threads: int = 1, raw: bool = False
) -> VectorEnv:
    """`num_envs` environments of the canonical `id`.

    Args:
        options: keywords as in `make_envs`, without those that are None.
        threads: emulator threads, where there are any.
        raw: RGB frames of the screen as observations, where there is a choice.

    Raises:
        UsageError: unknown id, or an option that is unknown or has a bad value.
        EnvError: the environment cannot be made.
    """
    family.check_options(id, options)
    return MAKERS[family.kind](id, num_envs, options, threads, raw)


def with_failures(spec: EnvSpec, num_envs: int, share: float) -> Endgames:
    """Games under the protocol of `spec` of which that share starts shortly before a life was lost: see `endgames`.

    Raises UsageError where there is no such replay of this environment.
    """
    from playfield.envs import endgames

    failures.refuse(spec.id, spec.kind, spec.protocol)
    return endgames.make(spec, num_envs, share)


def _atari(id: str, num_envs: int, options: Mapping[str, Any], threads: int, raw: bool) -> VectorEnv:
    from playfield.envs import atari_modes, atari_ram, atari_viewed

    parts = atari_modes.chosen(id, {k: v for k, v in options.items() if k not in ("protocol", "view")})
    chosen, view = protocol(options.get("protocol") or "classic", **parts), options.get("view")
    if raw:
        return atari_modes.pixels(id, num_envs, chosen, threads=threads, raw=True)
    if chosen.obs == "ram" and view:
        raise UsageError("a view is made of pixels: leave out --view or --obs ram")
    if chosen.obs == "ram":
        return atari_ram.AtariRam(id, num_envs, chosen)
    if view:
        return atari_viewed.Viewed(id, num_envs, chosen, view, threads=threads)
    return atari_modes.pixels(id, num_envs, chosen, threads=threads)


def _classic(id: str, num_envs: int, options: Mapping[str, Any], threads: int, raw: bool) -> VectorEnv:
    from playfield.envs import cartpole_pixels, classic

    obs = options.get("obs", "state")
    if obs not in ("state", "pixels"):
        raise UsageError(f"{id} takes --obs state or --obs pixels, not {obs}")
    return cartpole_pixels.CartPolePixels(id, num_envs) if obs == "pixels" else classic.ClassicVectorEnv(id, num_envs)


def _gymnasium(id: str, num_envs: int, options: Mapping[str, Any], threads: int, raw: bool) -> VectorEnv:
    from playfield.envs import gym_env

    limits = gym_env.Limits(options.get("time_limit"), options.get("max_steps"))
    return gym_env.GymVectorEnv(id, num_envs, limits, **options.get("env_kwargs", {}))


MAKERS: dict[str, Callable[[str, int, Mapping[str, Any], int, bool], VectorEnv]] = {
    "atari": _atari,
    "classic": _classic,
    "gymnasium": _gymnasium,
}
"""By `Family.kind`."""
