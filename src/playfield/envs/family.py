"""What differs between the families of environments, each said in one place: Atari, classic control, Gymnasium.

The rest of the package asks `EnvSpec.family` or `Resolved.family` and never compares kinds. A new family needs a
module with its vector environment (see `base.py` for the contract), a function that makes it in `make.py`, a subclass
of `Family` here, listed in `FAMILIES`, and, where it has short names of its own, a look-up in `names.py`.

This module imports no environment: `make.py` does, when the first one is made.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from playfield.envs.arguments import checked, line
from playfield.envs.atari_protocol import PROTOCOLS, AtariProtocol
from playfield.envs.scores import SCORES
from playfield.errors import DataError, UsageError

# Of full games under the time limit of the id.
SCORE_LIMITS = {
    "CartPole-v0": (0.0, 200.0),
    "CartPole-v1": (0.0, 500.0),
    "MountainCar-v0": (-200.0, 0.0),
    "Acrobot-v1": (-500.0, 0.0),
    "FrozenLake-v1": (0.0, 1.0),
    "FrozenLake8x8-v1": (0.0, 1.0),
    "Blackjack-v1": (-1.0, 1.0),
    "pong": (-21.0, 21.0),
}
INPUTS = {
    "CartPole": ("cart position", "cart velocity", "pole angle", "pole angular velocity"),
    "MountainCar": ("position", "velocity"),
    "Acrobot": (
        "cos angle 1",
        "sin angle 1",
        "cos angle 2",
        "sin angle 2",
        "angular velocity 1",
        "angular velocity 2",
    ),
}

# Gymnasium's toy texts, whose observations are named states. Without its version, Blackjack is an Atari game.
NAMED_STATES = re.compile(r"(Taxi|FrozenLake(8x8)?|CliffWalking(Slippery)?)(-v\d+)?|Blackjack-v\d+")


class Family:
    """One family of environments. The defaults here are those of an environment of which nothing is known.

    `protocol` below is `EnvSpec.protocol`, as stored in a `run.json` or beside a score.

    Attributes:
        kind: the family's name in `EnvSpec.kind` and `run.json`.
        options: keywords of `make_envs` that its environments take.
        default_obs: the observation without an `obs` option: `pixels` or `state`.
        has_lives: its environments have the attribute `lives`, int [N] (0 where the game counts none).
        has_roms: its games are ROMs of a console whose RAM can be read.
        env_bytes: memory of one environment, where it is large enough to count.
        pixel_aspect: width / height of one pixel of a frame.
        tv_frames: its frames are small and show a television picture: panels enlarge and stretch them.
        replays_on_restore: `restore` executes all logged actions again, which takes a moment.
        short_training_steps: steps that train for some seconds (`playfield bench kill`).
        score_name: what a score of a full game is.
        cuts: `make` takes `max_steps`, after which a game is truncated.
        own_words: options of Atari games that may be arguments of these environments.
        package: whose version decides what its environments do, where it is not playfield's own.
    """

    kind: str
    options: tuple[str, ...] = ()
    default_obs: str = "state"
    has_lives: bool = False
    has_roms: bool = False
    env_bytes: int = 0
    pixel_aspect: float = 1.0
    tv_frames: bool = False
    replays_on_restore: bool = False
    short_training_steps: int = 60_000
    score_name: str = "undiscounted return"
    own_words: tuple[str, ...] = ()
    package: str = ""
    cuts: bool = False

    def check_options(self, id: str, options: Mapping[str, Any]) -> None:
        """Raise UsageError for an option that is not in `self.options`."""
        for option in options:
            if option not in self.options:
                raise UsageError(f"{option} is for Atari games; {id} has no such option")

    def sort(self, id: str, parts: Mapping[str, Any], arguments: Mapping[str, Any]) -> tuple[Family, dict[str, Any]]:
        """(family, options of `make`) for keywords of `make_envs`; what is no option of a protocol is an argument.

        Raises UsageError where the environments take no arguments.
        """
        atari = set(FAMILIES["atari"].options) - set(self.own_words)
        options = {k: v for k, v in parts.items() if k in self.options or k in atari}
        others = {k: v for k, v in parts.items() if k not in options}
        if twice := others.keys() & arguments.keys():
            raise UsageError(f"the argument {min(twice)} is given twice")
        found = checked({**others, **arguments})
        if not found:
            return self, options
        if options:
            raise UsageError(f"{id} takes either {min(options)} or arguments of Gymnasium's own ({line(found)})")
        return FAMILIES["gymnasium"], {"env_kwargs": found}

    def make_options(self, protocol: Mapping[str, Any]) -> dict[str, Any]:
        """The `options` of `make` that give environments under a stored protocol again."""
        return {name: protocol[name] for name in self.options if protocol.get(name) is not None}

    def first_action(self, action_names: Sequence[str]) -> int:
        """The environment's own number of action 0, where an earlier version stored only names of actions."""
        return 0

    def owns(self, protocol: Mapping[str, Any]) -> bool:
        """Is this stored protocol, which does not name its family, one of this family?"""
        return False

    def protocol_line(self, protocol: Mapping[str, Any]) -> str:
        """A stored protocol in one line."""
        plain = {k: v for k, v in protocol.items() if k != "kwargs"}
        arguments = line(protocol["kwargs"]) if isinstance(protocol.get("kwargs"), Mapping) else ""
        return ", ".join(f"{k} {v}" for k, v in plain.items()) + (f", {arguments}" if arguments else "")

    def protocol_words(self, protocol: Mapping[str, Any]) -> str:
        """A stored protocol in some words, for a table."""
        return self.protocol_line(protocol)

    def preset_kinds(self, id: str, pixels: bool, states: bool = False) -> tuple[str, str]:
        """Keys of an algorithm's `PRESETS`: of the family, and of more special ones that go before them.

        The special ones are for observations of another kind than usual (are they `pixels`, or named `states`?) or,
        without those, for one game (`CartPole`).
        """
        return "vector", "states" if states else "pixels" if pixels else id.split("-v")[0]

    def frames_per_step(self, protocol: Mapping[str, Any]) -> float | None:
        """Emulator frames in one step, on average; None where there is no emulator."""
        return None

    def most_steps(self, protocol: Mapping[str, Any]) -> int | None:
        """Steps after which those who wait for a game's end cut it off; None where its protocol ends every game."""
        return None

    def reference_scores(
        self, id: str, protocol: Mapping[str, Any] | None = None
    ) -> tuple[float | None, float | None]:
        """Published mean scores of (a random player, a human); (None, None) where there are none.

        `protocol`: a stored one; None: one of the game as it is usually played.
        """
        return None, None

    def score_limits(self, id: str) -> tuple[float, float]:
        """The lowest and the highest possible score of a full game, as far as they are known."""
        return SCORE_LIMITS.get(id, (-math.inf, math.inf))

    def default_algo(self, id: str) -> str:
        """The algorithm of a training that names none; from the name alone, no environment is made."""
        return "ppo"

    def why_not_ppo(self, id: str) -> str:
        """Why `default_algo` is another one."""
        return ""

    def input_names(self, id: str, count: int) -> tuple[str, ...]:
        """What the numbers of a vector observation are."""
        known = INPUTS.get(id.partition("-v")[0], ())
        return known if len(known) == count else tuple(f"input {i + 1}" for i in range(count))

    def human_normalized(self, id: str, score: float, protocol: Mapping[str, Any] | None = None) -> float | None:
        """(score - random) / (human - random); None without reference scores."""
        random_score, human_score = self.reference_scores(id, protocol)
        if random_score is None or human_score is None:
            return None
        return (score - random_score) / (human_score - random_score)

    def fps(self, id: str, protocol: Mapping[str, Any]) -> float:
        """Steps per second at which a film runs at the speed of the game."""
        return 30.0

    def can_render(self, protocol: Mapping[str, Any]) -> bool:
        """Do the environments have `render(env_index)`? If not, `make(raw=True)` gives the frames as observations."""
        return True

    def obs_covers_frame(self, protocol: Mapping[str, Any]) -> bool:
        """Does a pixel observation show the whole frame, so that a map over one lies over the other?"""
        return True


class AtariFamily(Family):
    """Atari 2600 games in ale-py."""

    kind = "atari"
    options = ("protocol", "view", *(part for part in vars(PROTOCOLS["classic"]) if part != "name"))
    default_obs = "pixels"
    has_lives = True
    has_roms = True
    env_bytes = 1_700_000  # an emulator with its screens and its frame stack
    pixel_aspect = 12 / 7
    tv_frames = True
    replays_on_restore = True
    short_training_steps = 12_288
    score_name = "raw score, all lives"

    def check_options(self, id: str, options: Mapping[str, Any]) -> None:
        """Nothing here: `atari_protocol.protocol` names an unknown part and the nearest right one."""

    def sort(self, id: str, parts: Mapping[str, Any], arguments: Mapping[str, Any]) -> tuple[Family, dict[str, Any]]:
        if arguments:
            raise UsageError(f"{id} takes settings of a protocol, such as --sticky 0.25, not --env-kwargs")
        return self, dict(parts)

    def make_options(self, protocol: Mapping[str, Any]) -> dict[str, Any]:
        found = {k: v for k, v in protocol.items() if k not in ("env", "ale_py", "name") and v is not None}
        return {**found, "protocol": protocol["name"] if protocol.get("name") in PROTOCOLS else "classic"}

    def owns(self, protocol: Mapping[str, Any]) -> bool:
        return "sticky" in protocol

    def protocol_line(self, protocol: Mapping[str, Any]) -> str:
        line = AtariProtocol.from_stored(protocol).line()
        return f"{line}, view {protocol['view']}" if protocol.get("view") else line

    def protocol_words(self, protocol: Mapping[str, Any]) -> str:
        found, usual = vars(AtariProtocol.from_stored(protocol)), vars(PROTOCOLS["classic"])
        if protocol.get("name") in PROTOCOLS:
            words = [str(protocol["name"])]
        else:
            changed = {k: v for k, v in found.items() if k != "name" and v != usual[k]}
            words = ["classic", *(f"{k.replace('_', '-')} {str(v).lower()}" for k, v in changed.items())]
        return ", ".join([*words, f"view {protocol['view']}"] if protocol.get("view") else words)

    def preset_kinds(self, id: str, pixels: bool, states: bool = False) -> tuple[str, str]:
        return "atari", "atari" if pixels else "ram"

    def input_names(self, id: str, count: int) -> tuple[str, ...]:
        return tuple(f"byte {i}" for i in range(count))  # of RAM

    def frames_per_step(self, protocol: Mapping[str, Any]) -> float:
        most = protocol.get("skip", 1)
        return float((protocol.get("skip_min", most) + most) / 2)

    def reference_scores(
        self, id: str, protocol: Mapping[str, Any] | None = None
    ) -> tuple[float | None, float | None]:
        if protocol and AtariProtocol.from_stored(protocol).other_game:
            return None, None  # the published ones are of the first mode
        return SCORES.get(id, (None, None))

    def fps(self, id: str, protocol: Mapping[str, Any]) -> float:
        return 60.0 / self.frames_per_step(protocol)

    def can_render(self, protocol: Mapping[str, Any]) -> bool:
        return protocol.get("obs") == "ram"

    def obs_covers_frame(self, protocol: Mapping[str, Any]) -> bool:
        return not protocol.get("view")


class ClassicFamily(Family):
    """CartPole, MountainCar and Acrobot, stepped by NumPy."""

    kind = "classic"
    options = ("obs",)

    def default_algo(self, id: str) -> str:
        # Single random actions hardly ever reach the flag of MountainCar: PPO ends at -200.
        return "sarsa" if id.startswith("MountainCar") else "ppo"

    def why_not_ppo(self, id: str) -> str:
        return f"random actions hardly ever reach the goal of {id}, so PPO learns nothing there"

    def fps(self, id: str, protocol: Mapping[str, Any]) -> float:
        return {"CartPole": 50.0, "Acrobot": 15.0}.get(id.split("-v")[0], 30.0)


class GymnasiumFamily(Family):
    """Any other environment in Gymnasium's registry with discrete actions."""

    kind = "gymnasium"
    package = "gymnasium"
    own_words = ("mode", "difficulty")
    cuts = True
    options = ("env_kwargs", "time_limit", "max_steps")
    replays_on_restore = True

    def default_algo(self, id: str) -> str:
        return "qlearning" if NAMED_STATES.fullmatch(id) else "ppo"

    def why_not_ppo(self, id: str) -> str:
        return f"observations of {id} are named states, of which qlearning learns a table of values"

    def most_steps(self, protocol: Mapping[str, Any]) -> int | None:
        return None if 0 < (protocol.get("time_limit") or 0) <= LONGEST else MOST_STEPS

    def make_options(self, protocol: Mapping[str, Any]) -> dict[str, Any]:
        stored = {"env_kwargs": dict(protocol.get("kwargs") or {})}
        return {**stored, "time_limit": protocol["time_limit"] or -1} if "time_limit" in protocol else stored

    def first_action(self, action_names: Sequence[str]) -> int:
        named = action_names[0] if action_names else ""  # they are numbers
        return int(named) if re.fullmatch(r"-?[0-9]{1,15}", named) else 0


MOST_STEPS = 10_000  # of a game without a time limit, where one waits for its end
LONGEST = 1_000_000  # steps; a time limit above is none: nobody waits for the end of such a game

FAMILIES: dict[str, Family] = {family.kind: family for family in (AtariFamily(), ClassicFamily(), GymnasiumFamily())}


def family(kind: str) -> Family:
    """The family called `kind` (`EnvSpec.kind`, or `spec.kind` of a `run.json`). DataError if there is none."""
    try:
        return FAMILIES[kind]
    except KeyError:
        raise DataError(f"no kind of environment is called {kind!r}: {', '.join(FAMILIES)}") from None


def family_of_protocol(protocol: Mapping[str, Any]) -> Family:
    """The family of a stored protocol. Protocols of Gymnasium and of classic control print alike."""
    return next((family for family in FAMILIES.values() if family.owns(protocol)), FAMILIES["gymnasium"])
