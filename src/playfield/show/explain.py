"""`playfield explain`: what an agent looks at in interesting moments of one game, as pictures and a page.

Each picture shows the game with the parts that matter marked, what the net saw, what it wanted to do, and in plain
words what would have changed its mind. A number says how far the marks differ from those of an untrained net
(Adebayo et al. 2018); what such maps cannot tell is said too (Atrey et al. 2020).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from playfield.errors import UsageError
from playfield.play.agent import Agent, find_agent, load_policy
from playfield.play.player import Moment, Player
from playfield.play.policy import Network, Policy, ProbabilityPolicy
from playfield.runs.storage import as_storage_error, atomic_write
from playfield.show import panels, saliency
from playfield.show.explain_page import page_html
from playfield.show.saliency import Effects

METHODS = ("occlusion", "gradient")
MOST_STEPS = 3000  # of the game that is looked at
BLUE, ORANGE = np.array(panels.BLUE), np.array(panels.ORANGE)


@dataclass(frozen=True)
class Pick:
    """A moment worth a look, by its number in the game, and why."""

    index: int
    why: str


def pick_moments(
    values: Sequence[float] | None,
    entropies: Sequence[float] | None,
    rewards: Sequence[float],
    losses: Sequence[int],
    count: int,
    apart: int = 8,
) -> list[Pick]:
    """Up to `count` moments of a game of T steps, in the order of play and at least `apart` steps from each other.

    They are taken in turn from: before a lost life or the end, before a reward, the largest changes of the value,
    the least and the most certain choices; and, where that is not enough, evenly.

    Args:
        values, entropies: [T], or None where the agent has none.
        rewards: [T]. losses: steps in which a life was lost or the game was.
    """
    total = len(rewards)
    lists: list[list[Pick]] = [[Pick(max(0, t - 1), "just before a life is lost") for t in reversed(losses)]]
    gains = sorted(np.flatnonzero(np.asarray(rewards) > 0).tolist(), key=lambda t: -rewards[t])
    if len(set(map(float, rewards))) > 1:  # a reward at every step says nothing
        lists.append([Pick(t, f"about to earn a reward of {rewards[t]:g}") for t in gains])
    if values is not None and total > 1:
        change = np.diff(np.asarray(values, np.float64))
        order = np.argsort(-np.abs(change), kind="stable")
        lists.append([Pick(int(t), f"the value then {_verb(change[t])} most") for t in order if change[t] != 0])
    if entropies is not None and np.ptp(entropies) > 1e-6:
        order = np.argsort(-np.asarray(entropies), kind="stable")
        lists.append([Pick(int(t), "the agent is least certain what to do") for t in order])
        lists.append([Pick(int(t), "the agent is most certain what to do") for t in order[::-1]])
    chosen: list[Pick] = []

    def take(pick: Pick) -> bool:
        if len(chosen) == count or any(abs(pick.index - c.index) < apart for c in chosen):
            return False
        chosen.append(pick)
        return True

    rest = [iter(each) for each in lists]
    while rest and len(chosen) < count:
        rest = [each for each in rest if any(take(pick) for pick in each)]
    for t in np.linspace(0, total - 1, 2 * count + 1).astype(int):
        take(Pick(int(t), "an ordinary moment"))
    return sorted(chosen, key=lambda pick: pick.index)


def _verb(change: float) -> str:
    return "falls" if change < 0 else "rises"


def percent(p: float) -> str:
    return f"{100 * p:.0f} %" if p >= 0.0995 or p == 0 else f"{100 * p:.1f} %"


def counterfactual(effects: Effects, names: Sequence[str], at: int, what: str) -> str:
    """One change in plain words: `without the boxed patch the value falls from 3.20 to 1.10 and RIGHT drops ...`."""
    parts = []
    if effects.value is not None:
        after = float(effects.values[at])
        if f"{after:.2f}" == f"{effects.value:.2f}":
            parts.append(f"the value stays at {effects.value:.2f}")
        else:
            parts.append(f"the value {_verb(after - effects.value)} from {effects.value:.2f} to {after:.2f}")
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
            parts.append(f"{names[then]} instead of {names[first]} becomes the likeliest action")
    return f"{what} {', '.join(parts[:-1])}{' and ' if len(parts) > 1 else ''}{parts[-1]}." if parts else ""


def paint(
    frame: np.ndarray, maps: dict[str, np.ndarray], box: tuple[float, float, float, float] | None
) -> np.ndarray:
    """A frame [H, W, 3] with `value` in orange and `policy` in blue, and a box (top, left, bottom, right) in 0..1."""
    import cv2

    height, width = frame.shape[:2]
    out = frame.astype(np.float32) * 0.55
    for name, color in (("value", ORANGE), ("policy", BLUE)):
        wide = cv2.resize(saliency.relative(maps[name]).astype(np.float32), (width, height))
        weight = np.clip(wide, 0, 1)[..., None] * 0.75
        out = out + weight * color
    picture = np.clip(out, 0, 255).astype(np.uint8)
    if box:
        top, left, bottom, right = (round(v * n) for v, n in zip(box, (height, width) * 2, strict=True))
        top, left = max(top, 0), max(left, 0)
        bottom, right = min(bottom, height) - 1, min(right, width) - 1
        for thick in range(max(1, height // 200)):
            picture[[top + thick, bottom - thick], left : right + 1] = 255
            picture[top : bottom + 1, [left + thick, right - thick]] = 255
    return picture


def feature_bars(effects: Effects, obs: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Relative strength of each number of a vector observation, as a picture."""
    names = [f"input {i + 1} ({x:.2f})" for i, x in enumerate(obs)][:24]
    return panels.probability_bars(saliency.relative(effects.strength)[:24], names, size)


def untrained(network: Network, seed: int = 1) -> Any:
    """The agent's torch module with fresh weights; None where it has no module."""
    if network.build is None:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network.build().eval()


class Explainer:
    """Maps, effects and sanity check for one policy."""

    def __init__(self, policy: Policy, method: str, replace: np.ndarray | None = None) -> None:
        if method not in METHODS:
            raise UsageError(f"--method must be occlusion or gradient, not {method!r}")
        self.policy, self.method, self.replace = policy, method, replace
        self.net = self.untrained = None
        if isinstance(policy, ProbabilityPolicy):
            self.net, self.untrained = policy.network.module, untrained(policy.network)
        if method == "gradient" and self.net is None:
            raise UsageError("this agent has no gradients: use --method occlusion")

    def effects(self, obs: np.ndarray, think: saliency.Think | None = None) -> Effects:
        think = think or self.policy.explain
        if self.policy.spec.pixels:
            return saliency.occlusion(think, obs)
        replace = self.replace if self.replace is not None else np.zeros_like(obs)
        return saliency.feature_effects(think, obs, replace)

    def maps(self, obs: np.ndarray, action: int, effects: Effects, net: Any = None) -> dict[str, np.ndarray]:
        """`value` and `policy` by the chosen method: [H, W], or [K, 1] for a vector."""
        if self.method == "occlusion":
            return effects.maps() if self.policy.spec.pixels else _columns(effects)
        found = saliency.gradients(net or self.net, obs, action)
        return found if obs.ndim == 3 else {k: v.reshape(-1, 1) for k, v in found.items()}

    def sanity(self, obs: np.ndarray, action: int, maps: dict[str, np.ndarray]) -> float | None:
        """Rank correlation of the maps with those of the same net with random weights; mean of both maps."""
        if self.untrained is None:
            return None
        net = self.untrained

        def think(batch: np.ndarray) -> dict[str, np.ndarray]:
            import torch

            with torch.no_grad():
                logits, values = net(torch.from_numpy(np.ascontiguousarray(batch)))
            return {"probs": torch.softmax(logits, -1).numpy(), "value": values.numpy()}

        other = self.maps(obs, action, self.effects(obs, think), net)
        return float(np.mean([saliency.rank_correlation(maps[k], other[k]) for k in ("value", "policy")]))


def _columns(effects: Effects) -> dict[str, np.ndarray]:
    return {"value": np.abs(effects.value_change)[:, None], "policy": effects.divergence[:, None]}


def picture(moment: Moment, spec: Any, maps: dict[str, np.ndarray], effects: Effects, title: str) -> np.ndarray:
    """Everything about one moment side by side: uint8 [H, W, 3]."""
    frame = panels.tv(moment.frame, 2) if spec.family.tv_frames else panels.fit(moment.frame, 420)
    rows: list[np.ndarray] = []
    probs, value = moment.thoughts.get("probs"), saliency.values_of(moment.thoughts)
    shown = None if value is None else float(np.ravel(value)[0])
    if spec.pixels:
        at = int(effects.strength.argmax())
        (y, x), (height, width) = effects.where[at] + 0.5, effects.shape
        r = 1.5 * saliency.RADIUS
        box = ((y - r) / height, (x - r) / width, (y + r) / height, (x + r) / width)
        boxed = box if effects.strength.any() else None
        seen = np.repeat(moment.obs[..., -1:], 3, 2)
        aligned = spec.family.obs_covers_frame(spec.protocol)  # a trimmed view does not lie over the frame
        frame = paint(frame, maps, boxed) if aligned else frame
        first = panels.caption(paint(panels.fit(seen, 168), maps, boxed), "newest input")
        strip = panels.stack_strip(moment.obs, 168) if moment.obs.shape[2] <= 4 else panels.fit(seen, 168)
        rows.append(panels.beside(first, panels.caption(strip, "what the net sees, oldest first")))
    else:
        rows.append(panels.caption(feature_bars(effects, np.ravel(moment.obs), (190, 520)), "what matters"))
    size = frame.shape[0] - rows[0].shape[0], rows[0].shape[1]
    told = "how likely it takes each action"
    if "q" in moment.thoughts:
        bars = panels.q_bars(moment.thoughts["q"], spec.action_names, size, moment.action)
        told = "what it expects of each action"
    elif probs is not None:
        bars = panels.probability_bars(probs, spec.action_names, size, moment.action, shown)
    else:
        bars = np.full((*size, 3), panels.BACKGROUND, np.uint8)
    rows.append(panels.caption(bars, told))
    score = moment.score - moment.reward  # the one in the picture: the moment's is the one after its action
    return panels.beside(panels.caption(frame, title, f"score {score:g}"), np.concatenate(rows))


def _play(policy: Policy, seed: int) -> tuple[list[Moment], list[int]]:
    """The first game from `seed`, and the steps in which a life, or the game, was lost."""
    player = Player(policy, seed)
    moments: list[Moment] = []
    losses: list[int] = []
    from playfield.play.player import lives_of

    lives = lives_of(player)
    for moment in player.moments(last_game=0):
        moments.append(moment)
        left = lives_of(player)
        if moment.over or (lives is not None and left is not None and left < lives):
            losses.append(moment.step)
        lives = left
        if len(moments) == MOST_STEPS:
            break
    player.close()
    return moments, losses


def explain(
    source: str,
    *,
    which: str = "last",
    out: Path | None = None,
    moments: int = 6,
    seed: int = 0,
    method: str = "occlusion",
    temperature: float | None = None,
    agent: str | None = None,
) -> Path:
    """Play one game, pick its interesting moments, and write pictures and `explain.html` about them.

    Args:
        source, which: see `policy.find_agent`; an environment with `agent="random"`.
        out: directory of the report; by default `explain` in the agent's own directory.
        moments: how many.
        seed: of the game.
        method: `occlusion` or `gradient`. The counterfactual sentence always comes from occlusion.
        temperature: of the play. The probabilities shown are those that it plays with; the maps and the choice of
            moments go by those of the net, at temperature 1.

    Returns:
        The path of `explain.html`.
    """
    if moments < 1:
        raise UsageError(f"--moments must be at least 1, not {moments}")
    if method not in METHODS:
        raise UsageError(f"--method must be occlusion or gradient, not {method!r}")
    found: Agent | None = None
    if agent is None:
        found = find_agent(source, which)
        policy: Policy = load_policy(found, temperature=temperature, seed=seed)
        home = found.home
    else:
        from playfield.play.agent import agent_or_random

        policy, home = agent_or_random(source, which, agent, temperature, seed)
    folder = out if out is not None else home / "explain"
    with _one_thread():
        return _report(policy, found, folder, moments, seed, method)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Small batches on two threads are slower than on one, and much slower on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _report(policy: Policy, found: Agent | None, folder: Path, moments: int, seed: int, method: str) -> Path:
    game, losses = _play(policy, seed)
    values = [saliency.values_of(m.thoughts) for m in game]
    numbers = [float(np.ravel(v)[0]) for v in values if v is not None]
    certain = [saliency.net_probs_of(m.thoughts) for m in game]
    entropies = [float(saliency.entropy(p)) for p in certain if p is not None]
    picks = pick_moments(numbers or None, entropies or None, [m.reward for m in game], losses, moments)
    mean = None if policy.spec.pixels else np.mean([m.obs for m in game], 0).astype(game[0].obs.dtype)
    explainer = Explainer(policy, method, mean)
    with as_storage_error(f"write to {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    entries: list[tuple[str, str, bytes]] = []
    checks: list[float] = []
    for number, pick in enumerate(picks, 1):
        moment = game[pick.index]
        effects = explainer.effects(moment.obs)
        maps = explainer.maps(moment.obs, moment.action, effects)
        check = explainer.sanity(moment.obs, moment.action, maps)
        checks += [] if check is None else [check]
        best = int(effects.strength.argmax())
        what = (
            "Without the boxed patch (blurred in every picture of the stack)"
            if policy.spec.pixels
            else f"With input {best + 1} at its mean over the game instead of {np.ravel(moment.obs)[best]:.2f},"
        )
        sentence = counterfactual(effects, policy.spec.action_names, best, what)
        if not effects.strength.any():
            sentence = "Nothing that was taken away changed the output: this agent does not look."
        image = Image.fromarray(picture(moment, policy.spec, maps, effects, f"step {moment.step}"))
        buffer = BytesIO()
        image.save(buffer, "PNG")
        atomic_write(folder / f"moment-{number}.png", buffer.getvalue())
        did = policy.spec.action_names[moment.action]
        entries.append((f"Step {moment.step}: {pick.why}", f"It did {did}. {sentence}", buffer.getvalue()))
    for stale in folder.glob("moment-*.png"):
        digits = stale.stem.removeprefix("moment-")
        if digits.isdigit() and int(digits) > len(picks):
            stale.unlink()
    page = folder / "explain.html"
    atomic_write(page, page_html(policy, game, method, entries, float(np.mean(checks)) if checks else None, seed))
    return page
