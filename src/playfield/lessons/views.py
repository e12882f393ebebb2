"""PPO on Breakout with other views of the screen: colours, cropping, and the aimbot.

The Breakout how-to (mreitschuster 2022, part 3) wrapped the game in a view of its own: fewer colours, the outside
of the play area blank or cut off, and a mark where the ball will land. Its picture compares them by the score over a
time axis without a unit, most likely hours; the published numbers here are read off it by eye, each at the end of its
curve: 110 at 10 for three colours, 24 at 10 with the game's own skipping of 2 to 4 frames
once more times 4, 185 at 10 for one colour and a blank outside, 160 at 3.8 with the aimbot, 120 at 3.4 where the
outside is cut off. Its 27 for 84x84 greys is left out: that game skipped frames twice as well, about 12 a step, as no
setting with this view does here.

Steps and time are two comparisons: a small picture trains faster. Time is that of the trainings on this machine, as
many at once as it has cores. Hyper-parameters are the how-to's (8 environments, 128 steps, 4 epochs, batches of 256,
learning rate and clip range linear from 2.5e-4 and 0.1). A claim passes where the 95 % interval of the difference
over seeds is above 0.
"""

from __future__ import annotations

from playfield.lessons import _ablation
from playfield.lessons._deep import Setting, difference_row, judged, notes, train_all
from playfield.lessons._outcome import Outcome
from playfield.lessons._request import Budget, Request
from playfield.runs.console import format_seconds

BUDGET = Budget(runs=3, steps=50_000, methods=("ppo",))
SHARED = {
    "protocol": "v4",
    "preset": "cleanrl",
    "clip_value": False,
    "lr": "linear:2.5e-4..0",
    "clip": "linear:0.1..0",
}
PLAIN = Setting("84x84 grey", {})
COLOUR = Setting("3col, keep", {"view": "3col,keep"}, 110)
SKIPPED = Setting("3col, keep, 4 times the skip", {"view": "3col,keep", "skip": 16, "skip_min": 8}, 24)
KEEP = Setting("mono, keep", {"view": "mono,keep"})
WHITEN = Setting("mono, whiten", {"view": "mono,whiten"}, 185)
TRIM = Setting("mono, trim", {"view": "mono,trim"})
AIMED = Setting("mono, whiten, aimbot", {"view": "mono,whiten,aimbot"}, 160)
BOTH = Setting("mono, trim, aimbot", {"view": "mono,trim,aimbot"}, 120)
SETTINGS = (PLAIN, COLOUR, SKIPPED, KEEP, WHITEN, TRIM, AIMED, BOTH)
STEPS = ((COLOUR, SKIPPED), (KEEP, COLOUR), (AIMED, WHITEN), (BOTH, TRIM))
TIME = ((TRIM, KEEP), (BOTH, PLAIN), (AIMED, WHITEN))


def run(request: Request) -> Outcome:
    """Eight views, three seeds each."""
    found = train_all(request, "views", SETTINGS, SHARED)
    seconds = _ablation.equal_time(found)
    by_steps = {one.setting.label: one.scores_at(request.steps) for one in found}
    by_time = {one.setting.label: one.scores_after(seconds) for one in found}
    rows = _ablation.rows_of_steps(found, request.steps) + _ablation.rows_of_time(found, seconds)
    compared = judged(request, BUDGET.steps)
    for pairs, scores, where in (
        (STEPS, by_steps, "score, equal steps"),
        (TIME, by_time, f"score after {format_seconds(seconds)}"),
    ):
        for one, other in pairs:
            a, b = scores[one.label], scores[other.label]
            rows.append(difference_row(f"{one.label} less {other.label}", where, a, b, compared=compared))
    return Outcome(
        "views",
        "Views of the screen (PPO, Breakout)",
        rows,
        [_ablation.curves(request, found), _ablation.curves_over_time(request, found)],
        notes=[
            "Published: after hours of training (see --about), so not compared with ours.",
            *notes(found, "views", request.steps),
        ],
        columns=2,
    )
