"""PPO on Breakout with a constant, a linear and an exponential learning rate and clip range.

The Breakout how-to (mreitschuster 2022, parts 4 and 5) tried all three. A linear schedule ends with the training, so
interrupted and longer trainings cannot be compared; an exponential one need not. It went on with a learning rate that
falls exponentially from 1e-3, to a tenth with every million steps, and a constant clip range of 0.2, six epochs and
one minibatch of the whole rollout (8 environments, 128 steps). It published no scores of the three, only its choice.

Here the network is the small `nips`, and what falls exponentially falls to a tenth over the whole training, whatever
its length: at the how-to's pace it would hardly fall in so few steps (`exp:1e-3,rate=0.1,per=1000000` is that pace).
The rows test its choice of kinds: learning rate exponential, clip range constant.

Each setting differs from the chosen one (`lr exp, clip const`) in one thing. A claim passes where the 95 % interval
of the difference, over seeds, is above 0.
"""

from __future__ import annotations

from playfield.lessons import _ablation
from playfield.lessons._deep import Setting, difference_row, judged, notes, train_all
from playfield.lessons._outcome import Outcome
from playfield.lessons._request import Budget, Request

BUDGET = Budget(runs=3, steps=100_000, methods=("ppo",), own=("lr", "clip", "anneal", "anneal_clip", "anneal_to"))
SHARED = {"protocol": "v4", "preset": "cleanrl", "net": "nips", "epochs": 6, "minibatches": 1, "clip_value": False}
LR = {"const": "const:1e-3", "linear": "linear:1e-3..0", "exp": "exp:1e-3..1e-4"}
CLIP = {"const": "const:0.2", "linear": "linear:0.2..0", "exp": "exp:0.2..0.02"}
PAIRS = (("const", "const"), ("linear", "const"), ("exp", "const"), ("exp", "linear"), ("exp", "exp"))


def label(lr: str, clip: str) -> str:
    """A setting in words."""
    return f"lr {lr}, clip {clip}"


def run(request: Request) -> Outcome:
    """Five settings, three seeds each, then the how-to's choice against the others."""
    settings = [Setting(label(lr, clip), {"lr": LR[lr], "clip": CLIP[clip]}) for lr, clip in PAIRS]
    found = train_all(request, "schedules", settings, SHARED)
    at_end = {one.setting.label: one.scores_at(request.steps) for one in found}
    compared = judged(request, BUDGET.steps)
    chosen = label("exp", "const")
    rows = _ablation.rows_of_steps(found, request.steps)
    for pair in PAIRS:
        if (other := label(*pair)) != chosen:
            what = f"{chosen} less {other}"
            rows.append(difference_row(what, "score", at_end[chosen], at_end[other], compared=compared))

    return Outcome(
        "schedules",
        "Constant, linear and exponential schedules (PPO, Breakout)",
        rows,
        [
            _ablation.curves(request, found, "Learning curves"),
            _ablation.bars("At the end", found, [f"{lr}\n{clip}" for lr, clip in PAIRS], request.steps),
        ],
        notes=[
            "Learning rate: const 1e-3; linear to 0; exp to 1e-4. Clip range: const 0.2; linear to 0; exp to 0.02. "
            "Bars: learning rate above, clip range below.",
            *notes(found, "schedules", request.steps),
        ],
        columns=2,
    )
