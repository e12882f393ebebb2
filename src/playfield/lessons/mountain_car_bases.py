"""One method, several features: MountainCar with tile coding, Fourier and polynomial bases.

Semi-gradient methods are as good as their features. With tiles an update changes a few weights; with a Fourier or
polynomial basis it changes all. The powers of the book's equation 9.17 span the same functions as Legendre
polynomials. But x^2, x^3, x^4 are nearly the same function on [0, 1]: an update that corrects the value of one state
changes those of all others, and the car never reaches the goal. Legendre polynomials are orthogonal over evenly
spread states, and learn.

Konidaris, Osentoski and Thomas (2011) found that the Fourier basis beats polynomials, on MountainCar too. Step sizes
are playfield's defaults: an update corrects half of the error. Episodes are truncated after 3,000 steps.
"""

from __future__ import annotations

from typing import Any

from playfield.lessons._linear import Setting, game, last_rows, last_steps, run_all, steps_curves
from playfield.lessons._outcome import Outcome
from playfield.lessons._request import Budget, Request

BUDGET = Budget(runs=20, episodes=300, film=True, methods=("sarsa_lambda",))
LIMIT = 3_000
FEATURES = {
    "8 tilings of 8x8": "tilings:tilings=8,tiles=8",
    "32 tiles each": "onehot:tiles=32",
    "Fourier, order 5": "fourier:order=5",
    "Fourier, scaled": "fourier:order=5,scaled=true",
    "Legendre, order 5": "legendre:order=5",
    "powers, order 5": "polynomial:order=5",
}
FOURIER = "Fourier, order 5"


def run(request: Request) -> Outcome:
    """20 runs of 300 episodes of Sarsa(0.9) with each kind of features."""
    options = {"epsilon": 0.0, "gamma": 1.0, "lam": 0.9}
    settings = [Setting(label, "sarsa_lambda", "mountain-car-gym", f, options) for label, f in FEATURES.items()]
    outs = run_all(request, settings, limits=[LIMIT] * len(settings))
    rows = last_rows(request, settings[:-1], outs[:-1])
    best = last_steps(outs[list(FEATURES).index(FOURIER)]).max()
    worse: dict[str, Any] = {"claim": "each run above Fourier's", "holds": bool(last_steps(outs[-1]).min() > best)}
    rows += last_rows(request, settings[-1:], outs[-1:], **worse)
    return Outcome(
        "mountain-car-bases",
        "Features compared: Sarsa(0.9) on MountainCar",
        rows,
        [steps_curves(request, "Gymnasium's car", settings, outs, ylim=(90, 4_000))],
        film=game(settings[0].problem, outs[0]),
    )
