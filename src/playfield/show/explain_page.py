"""The sentences and the HTML report of `playfield explain`: self-contained, without scripts or requests."""

from __future__ import annotations

import html
from base64 import b64encode
from collections.abc import Sequence

import numpy as np

from playfield.envs import protocol_line
from playfield.play.player import Moment
from playfield.play.policy import GREEDY, Policy, ProbabilityPolicy
from playfield.show.saliency import Effects

CAUTION = (
    "Saliency maps show how the output changes when the input is perturbed a little. They do not show what the agent "
    "intends or understands, and a perturbed observation is out of distribution: the agent never saw it in training "
    "(Atrey et al. 2020). Treat them as hypotheses to test, not as explanations."
)
STYLE = """
body { background: #101014; color: #ececf0; padding: 0 16px; font: 16px/1.5 system-ui, sans-serif;
  max-width: 1400px; margin: 24px auto }
p, figcaption { max-width: 100ch }
figure { margin: 28px 0; padding: 16px; background: #17171f; border: 1px solid #2a2a36; border-radius: 10px }
h2 { font-size: 18px; margin: 0 0 10px }
img { max-width: 100%; display: block; margin: auto }
figcaption { margin-top: 10px }
p { color: #c4c4cf }
small { color: #9c9cac }
"""


def falls_or_rises(change: float) -> str:
    """`falls` or `rises`."""
    return "falls" if change < 0 else "rises"


def percent(p: float) -> str:
    """A probability as text: `81 %`, below 10 % with one decimal."""
    return f"{100 * p:.0f} %" if p >= 0.0995 or p == 0 else f"{100 * p:.1f} %"


def counterfactual(effects: Effects, names: Sequence[str], at: int, what: str) -> str:
    """Perturbation `at` in a sentence: `what` the value falls from 3.20 to 1.10 and RIGHT drops from 81 % to 12 %.

    Empty where the agent has neither a value nor probabilities.
    """
    parts = []
    if effects.value is not None:
        after = float(effects.values[at])
        if f"{after:.2f}" == f"{effects.value:.2f}":
            parts.append(f"the value stays at {effects.value:.2f}")
        else:
            parts.append(f"the value {falls_or_rises(after - effects.value)} from {effects.value:.2f} to {after:.2f}")
    if effects.probs is not None and effects.probs_after is not None:
        change = effects.probs_after[at] - effects.probs
        action = int(np.abs(change).argmax())
        before, now = percent(effects.probs[action]), percent(effects.probs_after[at, action])
        if before == now:
            parts.append(f"{names[action]} stays at {before}")
        else:
            verb = "drops" if change[action] < 0 else "rises"
            parts.append(f"{names[action]} {verb} from {before} to {now}")
        first, then = int(effects.probs.argmax()), int(effects.probs_after[at].argmax())
        if first != then:
            parts.append(f"{names[then]} instead of {names[first]} becomes the most likely action")
    return f"{what} {', '.join(parts[:-1])}{' and ' if len(parts) > 1 else ''}{parts[-1]}." if parts else ""


def sanity_sentence(correlation: float | None) -> str:
    """The sanity check in a sentence; `correlation` as returned by `Explainer.sanity`."""
    if correlation is None:
        return "Sanity check: not possible, this agent has no network."
    text = f"Sanity check: rank correlation {correlation:+.2f} with the maps of the same network with random weights"
    if correlation > 0.5:
        return f"{text}: high, so much of these maps comes from the input and the architecture, not from training."
    return f"{text} (1: identical). The lower it is, the more the maps depend on what was learnt in training."


def temperature_sentence(policy: Policy) -> str:
    """The temperature behind the probabilities in the report; empty for a policy without one."""
    if not isinstance(policy, ProbabilityPolicy):
        return ""
    if policy.temperature == 1:
        return f"Action probabilities are those the agent plays with ({policy.rule}), at temperature 1."
    how = "greedily, temperature 0" if policy.temperature < GREEDY else f"at temperature {policy.temperature:g}"
    return (
        f"Action probabilities are those the agent plays with, {how}; the policy's saliency map uses the network's "
        "own, at temperature 1."
    )


def _unbroken(text: str) -> str:
    """`text` escaped for HTML, with no line break between a number and its per cent sign."""
    return html.escape(text).replace(" %", "&nbsp;%")


def page_html(
    policy: Policy,
    game: list[Moment],
    method: str,
    entries: list[tuple[str, str, bytes]],
    check: float | None,
    seed: int,
) -> str:
    """The report as HTML.

    Args:
        policy: the agent.
        game: the steps of the game that was played.
        method: `occlusion` or `gradient`.
        entries: (title, text, PNG) of each selected step.
        check: see `sanity_sentence`.
        seed: of the game.
    """
    pixels = policy.spec.pixels
    legend = (
        "in the pictures orange is the saliency map of the value, blue that of the policy, and the box is the most "
        "important patch; among the bars orange is the action taken"
    )
    how = (
        "each patch is blurred, one at a time" if method == "occlusion" and pixels
        else "each input is replaced by its mean over the game, one at a time" if method == "occlusion"
        else "gradients of the value and of the log-probability of the action taken"
    )  # fmt: skip
    end = "" if game[-1].over else f" (its first {len(game):,} steps)"
    body = "\n".join(
        f'<figure><h2>{html.escape(title)}</h2><img alt="{html.escape(text)}" '
        f'src="data:image/png;base64,{b64encode(png).decode()}"><figcaption>{_unbroken(text)}</figcaption></figure>'
        for title, text, png in entries
    )
    intro = (
        f"Agent: {policy.label}. One game from seed {seed}{end}, score {game[-1].score:g}, {len(game):,} steps. "
        f"Method: {method}, {how}{'; ' + legend if pixels else ''}."
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Saliency of {html.escape(policy.spec.id)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>{STYLE}</style></head><body>
<h1>What the agent's output depends on: {html.escape(policy.spec.id)}</h1>
<p>{html.escape(intro)} {html.escape(temperature_sentence(policy))}</p>
{body}
<p>{html.escape(sanity_sentence(check))}</p>
<p>{html.escape(CAUTION)}</p>
<small>protocol {html.escape(protocol_line(policy.spec.protocol))}</small>
</body></html>
"""
