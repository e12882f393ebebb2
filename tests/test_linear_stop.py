"""An interrupt ends compiled runs at once, in the middle of an episode."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from playfield.algos import sarsa
from playfield.lessons import _course
from playfield.linear.coders import coder_for
from playfield.linear.kernels import ENDLESS
from playfield.linear.many import configured, spread
from playfield.linear.problems import CAR_GYM, PROBLEMS

PROBLEM = PROBLEMS["mountain-car-gym"]
MANY = 10**7  # episodes: hours of compiled work


@pytest.mark.parametrize("where", ["experiment", "as the course starts"])
def test_a_compiled_loop_ends_when_stop_is_set(where):
    """From another thread, while it holds no lock. The weights do not move, so an episode takes long."""
    coder = coder_for("tilings", *(np.array(b) for b in (PROBLEM.low, PROBLEM.high, PROBLEM.tiled)))
    _, cfg = configured("sarsa", {"alpha": 1e-12})
    m, rng, stop, steps = sarsa.memory(3, coder, cfg), np.random.default_rng(0), np.ones(1, bool), np.zeros(MANY)
    if where == "experiment":
        steps, returns = steps.astype(np.int64), np.zeros(MANY)
        words = (CAR_GYM, coder, m, sarsa.rates(cfg), rng, 1.0, ENDLESS, stop, steps, returns)
        run = lambda: sarsa.play(*words)  # noqa: E731
    else:
        m = m._replace(indices=np.zeros((2, 16), np.int64), values=np.zeros((2, 16)))
        words = (coder, m, sarsa.rates(cfg), rng, stop, steps.astype(np.int64))
        run = lambda: _course._play(*words)  # noqa: E731
    run()  # compiles, and ends at its first step
    stop[0] = False
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    time.sleep(0.3)
    assert thread.is_alive()
    stop[0] = True
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("where", ["main thread", "run"])
def test_what_ends_one_run_stops_the_others(error, where):
    """Ctrl-C reaches the main thread, which waits; an error comes from a run. Those that wait are not begun."""
    begun = []

    def one(seed: int, stop: np.ndarray) -> int:
        begun.append(seed)
        if seed and where == "run":
            raise error
        while seed != 1 and not stop[0]:
            time.sleep(0.01)
        return seed

    def progress(done: int, of: int) -> None:
        raise error

    with pytest.raises(error):
        spread(one, range(100), 2, progress)
    assert len(begun) < 10


def test_results_are_in_the_order_of_the_seeds():
    calls = []
    assert spread(
        lambda seed, stop: (time.sleep(0.02 * (3 - seed)), -seed)[1], range(3), 3, lambda *n: calls.append(n)
    ) == [0, -1, -2]
    assert calls == [(1, 3), (2, 3), (3, 3)]
