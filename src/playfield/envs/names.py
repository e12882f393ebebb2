"""Names of environments: any spelling gives the canonical id and the protocol that the name implies.

`breakout`, `Breakout`, `ALE/Breakout-v5` and `BreakoutNoFrameskip-v4` are all the game Breakout, but the last
two imply different protocols, and scores under different protocols must not be compared. `resolve` knows all
the ids that Gym, Gymnasium and ALE have used. It imports neither torch nor ale_py, and Gymnasium only to look
up a name that is neither an Atari game nor a classic control problem.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playfield.envs.family import Family, family
from playfield.envs.objects import makers
from playfield.errors import EnvError, UsageError, unknown

HINT = "(`playfield games` lists all)"
MAX_LENGTH = 200  # characters of a name

# These ROMs have no one-player game, and loading one ends the whole process inside ALE.
TWO_PLAYER = frozenset({"combat", "joust", "maze_craze", "warlords"})

# Canonical ids, the version that a bare name means first.
CLASSIC: dict[str, tuple[str, ...]] = {
    "acrobot": ("Acrobot-v1",),
    "cartpole": ("CartPole-v1", "CartPole-v0"),
    "mountaincar": ("MountainCar-v0",),
}
PIXELS = CLASSIC["cartpole"]  # those that also have pixel observations

_ATARI = re.compile(
    r"(?P<ale>ale/)?(?P<stem>[a-z0-9_\- ]+?)(?P<ram>-ram)?(?P<style>noframeskip|deterministic)?"
    r"(?:-v(?P<version>[0-9]+))?"
)
_VERSIONED = re.compile(
    r"(?P<stem>[a-z0-9_\- ]+?)(?:-v(?P<version>[0-9]+))?(?P<pixels>-pixels)?(?:-v(?P<last>[0-9]+))?"
)


@dataclass(frozen=True, slots=True)
class Resolved:
    """The environment that a name means.

    Attributes:
        id: canonical name: `ms_pacman` (the ROM's name), `CartPole-v1`, or a Gymnasium id as it was given.
        kind: `atari`, `classic` or `gymnasium`.
        protocol: the Atari protocol that the name implies, `classic`, `v4` or `v5`; None where it implies none.
        overrides: parts of that protocol that the name changes: `sticky` (probability), `skip` (frames), `obs`; `obs`
            also for CartPole with pixel observations.
        note: one sentence for the user on what the name means; None where nothing needs saying.
    """

    id: str
    kind: str
    protocol: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    note: str | None = None

    @property
    def family(self) -> Family:
        """What differs between Atari, classic control and Gymnasium."""
        return family(self.kind)


def roms_dir() -> Path:
    """The folder with the ROM files: `$ALE_ROMS_DIR`, or the one inside the installed ale-py (not imported).

    Raises EnvError if there is none.
    """
    if given := os.environ.get("ALE_ROMS_DIR"):
        folder = Path(given)
    else:
        package = importlib.util.find_spec("ale_py")
        if package is None or package.origin is None:
            raise EnvError("ale-py is not installed: pip install ale-py")
        folder = Path(package.origin).parent / "roms"
    if not folder.is_dir():
        raise EnvError(f"no ROM folder at {folder}")
    return folder


def atari_games() -> list[str]:
    """The ROM names of all one-player Atari games installed, sorted: `adventure`, ..., `zaxxon`.

    Raises EnvError if there is no ROM folder.
    """
    return sorted({file.stem for file in roms_dir().glob("*.bin")} - TWO_PLAYER)


def classic_games() -> list[str]:
    """The canonical ids of the classic control problems."""
    return [env_id for ids in CLASSIC.values() for env_id in ids]


def gym_name(game: str) -> str:
    """The name that Gymnasium's ids use for a ROM: `ms_pacman` -> `MsPacman`."""
    return game.title().replace("_", "")


def resolve(name: str) -> Resolved:
    """The environment that `name` means, in any of its usual spellings; see `Resolved`.

    Raises:
        UsageError: no environment has that name; with the nearest right names.
        EnvError: ale-py is not installed.
    """
    if not isinstance(name, str):
        raise UsageError(f"an environment is given by its name, such as 'breakout', not {name!r:.60}")
    asked = name.strip()
    if not asked:
        raise UsageError(f"the name of the environment is empty {HINT}")
    if len(asked) > MAX_LENGTH:
        raise unknown("game", asked[:40] + "...", ["breakout", *classic_games()], HINT)
    if ":" in asked:  # module:id, Gymnasium's way to name the module that registers the id
        return _with_module(asked)
    found = _classic(asked) or _atari(asked) or _registered(asked)
    if found is None:
        raise _no_such(asked)
    return found


def default_algo(name: str) -> str:
    """The algorithm of a training of `name` that names none; also for what is no environment."""
    if not isinstance(name, str):
        return "ppo"
    try:
        found = _classic(name.strip())
    except UsageError:
        return "ppo"
    return found.family.default_algo(found.id) if found else family("gymnasium").default_algo(name.strip())


def _squash(name: str) -> str:
    """`Ms_Pacman` -> `mspacman`."""
    return re.sub(r"[_\- ]", "", name.lower())


def _with_module(asked: str) -> Resolved:
    module, _, env_id = asked.partition(":")
    if module.endswith(".py"):
        raise UsageError(f"a module is named without .py: {module[:-3]}:{env_id}")
    if not re.fullmatch(r"[A-Za-z_][\w.]*", module) or not env_id or ":" in env_id:
        raise UsageError(f"{asked!r} is not of the form module:Name-v0 {HINT}")
    if asked in makers:
        return Resolved(asked, "gymnasium", note=f"The environments are made by {asked}.")
    return Resolved(asked, "gymnasium", note=f"{asked} is a Gymnasium id that the module {module} registers.")


def _classic(asked: str) -> Resolved | None:
    match = _VERSIONED.fullmatch(asked.lower())
    ids = CLASSIC.get(_squash(match["stem"])) if match else None
    if match is None or ids is None or (match["version"] and match["last"]):
        return None
    version = match["version"] or match["last"]
    env_id = ids[0] if version is None else f"{ids[0].partition('-')[0]}-v{version}"
    if env_id not in ids:
        raise unknown("environment", asked, ids, HINT)
    notes = []
    if env_id == "CartPole-v0":
        notes.append("CartPole-v0 truncates an episode after 200 steps; CartPole-v1 after 500.")
    elif match["pixels"] is None and env_id != asked:
        notes.append(f"{asked} means {env_id}.")
    if match["pixels"] is None:
        return Resolved(env_id, "classic", note=" ".join(notes) or None)
    if env_id not in PIXELS:
        raise UsageError(f"only CartPole has pixel observations, not {env_id}")
    notes.append(f"{asked} means {env_id} with the pixels around the cart as observations (--obs pixels).")
    return Resolved(env_id, "classic", overrides={"obs": "pixels"}, note=" ".join(notes))


def _atari(asked: str) -> Resolved | None:
    match = _ATARI.fullmatch(asked.lower())
    if match is None:
        return None
    stem = _squash(match["stem"])
    if any(stem == _squash(game) for game in TWO_PLAYER):
        raise UsageError(f"{asked} is a game for two players only; playfield plays one-player games {HINT}")
    game = {_squash(g): g for g in atari_games()}.get(stem)
    if game is None:
        return None
    return _protocol(asked, game, match)


def _protocol(asked: str, game: str, match: re.Match[str]) -> Resolved | None:
    """The protocol of an Atari id, from its prefix, style and version."""
    style, version = match["style"], match["version"]
    overrides: dict[str, Any] = {"obs": "ram"} if match["ram"] else {}
    ram = " Observations are the 128 bytes of RAM, not the screen." if match["ram"] else ""

    if version is None and style is None and not match["ale"]:
        return Resolved(game, "atari", overrides=overrides, note=ram.strip() or None)

    if style is None and (version == "5" or (version is None and match["ale"])):
        note = f"{asked} means the v5 protocol: 4 frames per step, sticky actions with probability 0.25."
        return Resolved(game, "atari", "v5", overrides, note + ram)

    if match["ale"] or version not in (None, "0", "4"):
        # `Blackjack-v1` is both a ROM's name and another environment of Gymnasium.
        if not match["ale"] and style is None and (found := _registered(asked)):
            return found
        pascal = gym_name(game)
        raise unknown("environment", asked, [f"ALE/{pascal}-v5", f"{pascal}NoFrameskip-v4", game], HINT)

    if version == "0":
        overrides["sticky"] = 0.25
    sticky = "sticky actions with probability 0.25" if version == "0" else "no sticky actions"
    if style == "noframeskip":
        note = f"{asked} means the classic protocol with its wrappers: 4 frames per step, {sticky}."
    elif style == "deterministic":
        # Old Gym made this one exception: with 4 the lasers are invisible, since they blink.
        skip = 3 if game == "space_invaders" else 4
        if skip != 4:
            overrides["skip"] = skip
        note = f"{asked} means the classic protocol with {skip} frames per step, {sticky}."
    else:
        note = (
            f"{asked} means the v4 protocol: an action is held for 2 to 4 frames, at random, {sticky}; "
            "otherwise it is the classic one."
        )
        return Resolved(game, "atari", "v4", overrides, note + ram)
    return Resolved(game, "atari", "classic", overrides, note + ram)


def _registered(asked: str) -> Resolved | None:
    # Gymnasium takes 0.3 s: only for what may be one of its ids, or where it is there already
    looks_like_it = asked[:1].isupper() or "/" in asked or re.search(r"-v[0-9]+$", asked)
    if asked.lower().startswith("ale/") or not (looks_like_it or sys.modules.get("gymnasium")):
        return None
    if asked in registry():
        return Resolved(asked, "gymnasium", note=f"{asked} is made by Gymnasium, unchanged.")
    if newest := newest_version(asked):
        return Resolved(newest, "gymnasium", note=f"{asked} means {newest}, the newest version that is registered.")
    return None


def newest_version(name: str) -> str | None:
    """The registered id `name-vN` with the highest N; None where there is none."""
    found = {int(v): i for i in registry() for stem, _, v in [i.rpartition("-v")] if stem == name and v.isdigit()}
    return found[max(found)] if found else None


def registry() -> Mapping[str, Any]:
    """Gymnasium's registry, {id: its spec}. Imported late: it takes 0.3 s, and most names do not need it."""
    import gymnasium

    return gymnasium.registry


def has_states(id: str) -> bool:
    """Is `id` one of Gymnasium's toy texts, whose observations are named states? It makes no environment."""
    found = registry().get(id)
    return str(getattr(found, "entry_point", "")).startswith("gymnasium.envs.toy_text")


def _no_such(asked: str) -> UsageError:
    """The error for an unknown name, with suggestions in the style of the name asked for."""
    lower = asked.lower()
    games = atari_games()
    styles = {"ale/": "ALE/{}-v5", "noframeskip": "{}NoFrameskip-v4", "deterministic": "{}Deterministic-v4"}
    for mark, template in styles.items():
        if mark in lower:
            return _suggest("Atari game", asked, {g: template.format(gym_name(g)) for g in games})
    versioned = re.search(r"-v[0-9]+$", lower)
    kind, here = ("environment" if versioned else "game"), {name: name for name in [*games, *classic_games()]}
    if asked.isidentifier() and Path(f"{asked}.py").is_file():
        why = f"{asked}.py here is a module: name its environment too, as in {asked}:Name-v0"
        return UsageError(f"no {kind} called {asked!r}: {why}")
    if not versioned and max(_likeness(asked, here).values()) > 0.7:  # a slip: Gymnasium need not be asked
        return unknown(kind, asked, here, HINT)
    # ale_py registers its games here too once imported; they are in `games` already.
    ids = [i for i, spec in registry().items() if not str(spec.entry_point).startswith("ale_py")]
    newest = sorted({newest_version(i.rpartition("-v")[0]) or i for i in ids if "/" not in i})
    if twins := [i for i in newest if _stem(i) == _stem(asked)]:  # of `taxi`, of `Taxi-v3`
        return unknown(kind, asked, twins, HINT)
    if not versioned:
        return _suggest(kind, asked, here | {name: name for name in newest})
    own = f"; if a module of yours registers it, write module:{asked}" if len(asked) < 60 else ""
    return _suggest(kind, asked, {name: name for name in [*games, *ids]}, HINT + own)


def _likeness(asked: str, known: Iterable[str]) -> dict[str, float]:
    """How much `asked` and each name are alike, from 0 to 1, by the part that differs between games."""
    stem = _stem(asked)
    return {name: difflib.SequenceMatcher(None, stem, _stem(name)).ratio() for name in known}


def _suggest(kind: str, asked: str, known: dict[str, str], hint: str = HINT) -> UsageError:
    """`unknown`, comparing only the part of each name (a key of `known`) that differs between games."""
    likeness = _likeness(asked, known)
    best = sorted(known, key=lambda name: -likeness[name])[:3]
    close = [known[name] for name in best if likeness[name] >= 0.5]
    return unknown(kind, asked, close or list(known.values()), hint)


def _stem(env_id: str) -> str:
    """`ALE/MsPacman-ram-v5` -> `mspacman`."""
    bare = re.sub(r"-v[0-9]+$", "", env_id.lower().rpartition("/")[2])
    return _squash(re.sub(r"(-ram)?(noframeskip|deterministic)?$", "", bare))
