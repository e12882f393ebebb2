"""Who registered the environment of a run: what to import where the run is opened in another process."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Mapping
from typing import Any

from playfield.envs.base import EnvSpec
from playfield.envs.names import registry
from playfield.envs.objects import AGAIN, HERE
from playfield.envs.trust import admit
from playfield.envs.user_code import import_module
from playfield.errors import DataError


def module_of(spec: EnvSpec) -> str | None:
    """The module that registered an environment, as far as its entry point says; None for ids that name it."""
    gymnasium = sys.modules.get("gymnasium")
    known = None if gymnasium is None or not spec.family.package else gymnasium.registry.get(spec.id)
    if known is None:
        return None
    entry = known.entry_point
    module = entry.partition(":")[0] if isinstance(entry, str) else getattr(entry, "__module__", None)
    return None if module is None or f"{module}.".startswith("gymnasium.") else str(module)


SIMULATORS = {"gymnasium.envs.mujoco": "mujoco", "gymnasium.envs.box2d": "Box2D", "gymnasium.envs.phys2d": "jax"}
"""What environments of Gymnasium itself are computed with, as modules."""


def packages_of(spec: EnvSpec) -> dict[str, str]:
    """The packages that decide what an environment does, besides Gymnasium itself, by name with their versions.

    None of a module that belongs to no installed package, such as a file of the current folder.
    """
    named = [spec.id.partition(":")[0]] if ":" in spec.id else []
    gymnasium = sys.modules.get("gymnasium")
    known = (
        None if gymnasium is None or not spec.family.package else gymnasium.registry.get(spec.id.rpartition(":")[2])
    )
    if known is not None:
        entry = known.entry_point
        made_by = entry.partition(":")[0] if isinstance(entry, str) else str(getattr(entry, "__module__", ""))
        own = next((module for begin, module in SIMULATORS.items() if f"{made_by}.".startswith(f"{begin}.")), None)
        named.append(own or made_by)
    tops = {module.partition(".")[0] for module in named if module} - {"gymnasium", "playfield", "ale_py"}
    if not tops:
        return {}
    owners = importlib.metadata.packages_distributions()
    return {name.lower(): importlib.metadata.version(name) for top in sorted(tops) for name in owners.get(top, ())}


def require(info: Mapping[str, Any], spec: EnvSpec, trust: bool) -> None:
    """The environment of a run is registered in this process, or its module may be imported.

    Raises:
        DataError: the run's files name a module that would have to be imported, and `trust` is not given; or the
            environment was made in a script or a notebook.
    """
    admit(spec.id, named_by_user=trust)
    module = info.get("registered_by")
    if not spec.family.package or ":" in spec.id or not isinstance(module, str) or spec.id in registry():
        return
    if module == HERE:
        raise DataError(f"{spec.id} was registered by a script or a notebook: {AGAIN}")
    if not re.fullmatch(r"[A-Za-z_][\w.]{0,199}", module):
        return
    if not trust:
        raise DataError(
            f"{spec.id} is not registered here: {module} registers it. Import {module} first (in Python), or add "
            "--trust (trust=True), which imports it"
        )
    import_module(module, spec.id)
