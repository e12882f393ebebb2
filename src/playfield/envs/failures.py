"""End-game replay: which games can have it, and what is said of it. Imports no emulator.

Some games start where an earlier one went on to lose a life (see `endgames`).
"""

from __future__ import annotations

import math
from typing import Any

from playfield.envs.atari_facts import LIVES_AND_ACTIONS
from playfield.envs.family import family
from playfield.errors import UsageError

FLAG = "--replay-failures"
BEFORE = 200  # steps: a kept state is at most so far before the loss of a life
EVERY = 20  # steps between two notes of a game's state
KEPT = 64  # states kept by each worker
TIMES = 5  # games that start from one state
REMEMBERED = 1024  # states that were dropped and may come again: their uses; if there are more, none is kept
#: Games whose emulator does not go on from a state as it did before (ale-py 0.12.1). All games were played for 40,
#: 300 and 900 random steps, then for 500 from there, and these again by the same emulator and by another. Compared
#: were RAM, screen, reward, lives and end of each step: `tests/test_endgames_exact.py` does so again.
INEXACT = frozenset({"qbert", "tetris", "tic_tac_toe_3d"})


def refuse(id: str, kind: str, protocol: dict[str, Any]) -> None:
    """Raise UsageError where games cannot start from kept states; arguments are those of an `EnvSpec`."""
    if not family(kind).has_roms:
        raise UsageError(f"{FLAG} is for Atari games, and {id} is none")
    if protocol.get("view"):
        raise UsageError(f"{FLAG} does not keep what a view remembers: leave out --view")
    if id in INEXACT:
        raise inexact(id)
    if LIVES_AND_ACTIONS.get(id, (1, 0))[0] == 0:
        raise UsageError(f"{FLAG} keeps states from which a life was lost, and {id} counts no lives")


def inexact(id: str) -> UsageError:
    """The error for a game whose state cannot be restored exactly."""
    return UsageError(f"{FLAG}: the emulator cannot restore a state of {id} exactly, so it is refused for this game")


def line(share: float) -> str:
    """What it does, for the plan."""
    return (
        f"{100 * share:.3g} % of games start up to {BEFORE} steps before a life was lost in an earlier one, at most "
        f"{TIMES} from each state; they are no scores"
    )


def memory(obs_shape: tuple[int, ...], num_envs: int, workers: int) -> int:
    """Bytes of all states, at most, and of the uses of those that were dropped."""
    states = (KEPT * workers + BEFORE // EVERY * num_envs) * (math.prod(obs_shape) + 20_000)
    return states + (KEPT + REMEMBERED) * workers * 300
