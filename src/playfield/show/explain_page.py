"""The page that `playfield explain` writes: self-contained, without scripts and without requests."""

from __future__ import annotations

import html
from base64 import b64encode

from playfield.play.player import Moment
from playfield.play.policy import GREEDY, Policy, ProbabilityPolicy

CAUTION = (
    "These maps show what the output depends on when the input is disturbed a little. They do not show what the "
    "agent intends or understands, and a disturbed picture is one that it never met in training "
    "(Atrey et al. 2020): treat them as ideas to test, not as explanations."
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


def sanity_sentence(correlation: float | None) -> str:
    """What the comparison with an untrained net says."""
    if correlation is None:
        return "Sanity check: there is no network whose weights could be randomised."
    text = f"Sanity check: rank correlation {correlation:+.2f} with the maps of the same net with random weights"
    if correlation > 0.5:
        return f"{text}: high, so much of these maps comes from the picture and the architecture, not from training."
    return f"{text} (0: unrelated, 1: the same), so these maps depend on what was learnt to that extent."


def temperature_sentence(policy: Policy) -> str:
    """With which temperature the probabilities of the report were made; empty where there is none."""
    if not isinstance(policy, ProbabilityPolicy):
        return ""
    if policy.temperature == 1:
        return "The probabilities of actions are those it plays with, at temperature 1 as in training."
    how = "greedily, temperature 0" if policy.temperature < GREEDY else f"at temperature {policy.temperature:g}"
    return (
        f"The probabilities of actions are those it plays with, {how}; what the marks say of the action goes by the "
        "net's own, at temperature 1."
    )


def _unbroken(text: str) -> str:
    """`text` for HTML, where no line ends between a number and its per cent sign."""
    return html.escape(text).replace(" %", "&nbsp;%")


def page_html(
    policy: Policy,
    game: list[Moment],
    method: str,
    entries: list[tuple[str, str, bytes]],
    check: float | None,
    seed: int,
) -> str:
    """The report. `entries` are (title, text, PNG) of each moment; `check`: see `sanity_sentence`."""
    from playfield.envs import protocol_line

    pixels = policy.spec.pixels
    legend = (
        "on the pictures orange marks what the value depends on, blue what the action depends on, the box the patch "
        "that matters most; among the bars orange is the action it took"
    )
    how = (
        "each patch blurred in turn" if method == "occlusion" and pixels
        else "each input set to its mean over the game" if method == "occlusion"
        else "gradients of the value and of the log-probability of the action"
    )  # fmt: skip
    end = "" if game[-1].over else f" (the first {len(game)} steps of it)"
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
<html lang="en"><head><meta charset="utf-8"><title>What {html.escape(policy.spec.id)} looks at</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>{STYLE}</style></head><body>
<h1>What the agent looks at: {html.escape(policy.spec.id)}</h1>
<p>{html.escape(intro)} {html.escape(temperature_sentence(policy))}</p>
{body}
<p>{html.escape(sanity_sentence(check))}</p>
<p>{html.escape(CAUTION)}</p>
<small>protocol {html.escape(protocol_line(policy.spec.protocol))}</small>
</body></html>
"""
