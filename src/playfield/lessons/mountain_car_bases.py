"""The same learner, seeing MountainCar by tiles, by waves and by polynomials.

Semi-gradient methods are as good as their features. Tiles touch a few weights at each step; waves and polynomials
touch all. The powers of the book's equation 9.17 span the very functions that Legendre polynomials span and could
represent as much. But x^2, x^3, x^4 are nearly the same function on [0, 1]: a step that mends one state moves all the
others, and the car never reaches its goal. Legendre polynomials have nothing in common over evenly spread states, and
learn.

Konidaris, Osentoski and Thomas (2011) found that Fourier waves beat polynomials, on MountainCar too. Step sizes are
those that playfield chooses: half an error is corrected at once. Episodes are cut after 3,000 steps.
"""

from __future__ import annotations

from typing import Any

from playfield.lessons._linear import Setting, game, last_rows, last_steps, run_all, steps_curves
from playfield.lessons._outcome import Ask, Budget, Outcome

BUDGET = Budget(runs=20, episodes=300, film=True)
LIMIT = 3_000
FEATURES = {
    "8 tilings of 8x8": "tilings:tilings=8,tiles=8",
    "32 tiles each": "onehot:tiles=32",
    "Fourier, order 5": "fourier:order=5",
    "Fourier, scaled": "fourier:order=5,scaled=true",
    "Legendre, order 5": "legendre:order=5",
    "powers, order 5": "polynomial:order=5",
}
WAVES = "Fourier, order 5"


def run(ask: Ask) -> Outcome:
    """20 runs of 300 episodes of Sarsa(0.9) with each kind of features."""
    options = {"lam": 0.9, "epsilon": 0.0, "gamma": 1.0}
    settings = [Setting(label, "sarsa_lambda", "mountain-car-gym", f, options) for label, f in FEATURES.items()]
    outs = run_all(ask, settings, limits=[LIMIT] * len(settings))
    rows = last_rows(ask, settings[:-1], outs[:-1])
    best = last_steps(outs[list(FEATURES).index(WAVES)]).max()
    worse: dict[str, Any] = {"claim": "each run above Fourier's", "holds": bool(last_steps(outs[-1]).min() > best)}
    rows += last_rows(ask, settings[-1:], outs[-1:], **worse)
    return Outcome(
        "mountain-car-bases",
        "Features side by side: Sarsa(0.9) on MountainCar",
        rows,
        [steps_curves(ask, "Gymnasium's car", settings, outs, ylim=(90, 4_000))],
        film=game(settings[0].problem, outs[0]),
    )
