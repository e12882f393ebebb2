"""The values of an algorithm's options in its presets, as `playfield train --algo NAME --help` shows them."""

from __future__ import annotations

from typing import Any

from playfield.envs.names import has_states, resolve
from playfield.runs import catalog

GENERAL = {"ram": "atari"}  # of every other special kind: vector


def values_in_words(
    algo: str, preset: str = "default", env: str | None = None, obs: str | None = None
) -> dict[str, str]:
    """{option: its value in a preset}, for `env` observed as `obs`; without `env`, for all kinds where they differ.

    Without `env` a value reads as in `atari 0.0005, vector 0.001`; special kinds are named where they differ from
    the general one.
    """
    if env is not None:
        table = catalog.presets_for(algo, _kinds(env, obs))
        return {name: _text(value) for name, value in table.get(preset, {}).items()}
    presets = catalog.entry(algo).presets
    kinds = {kind: named[preset] for kind, named in presets.items() if preset in named}
    words = {}
    for option in catalog.options(algo):
        values = {kind: _text(cfg[option.name]) for kind, cfg in kinds.items()}
        own = {
            k: v for k, v in values.items() if k in ("atari", "vector") or values.get(GENERAL.get(k, "vector")) != v
        }
        same = len(set(own.values())) == 1
        words[option.name] = next(iter(own.values())) if same else ", ".join(f"{k} {v}" for k, v in own.items())
    return words


def _kinds(env: str, obs: str | None) -> tuple[str, str]:
    """The kinds of an environment (see `envs.family.Family.preset_kinds`), from its name alone."""
    found = resolve(env)
    obs = obs or found.overrides.get("obs")
    pixels = (obs or found.family.default_obs) == "pixels"
    return found.family.preset_kinds(found.id, pixels, bool(found.family.package) and has_states(found.id))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
