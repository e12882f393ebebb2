"""`playfield explain`: saliency maps of an agent at selected steps of one game, as pictures and an HTML report.

Each picture shows the screen with its saliency map, the observation and the action probabilities; a sentence says
how the largest perturbation changes value and action probabilities. A sanity check compares the maps with those of
the same network with random weights (Adebayo et al. 2018); the report names the limits of such maps (Atrey et al.
2020).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from playfield import arguments as takes
from playfield.errors import UsageError
from playfield.play.agent import agent_or_random, step
from playfield.play.player import Moment, Player, lives_of
from playfield.play.policy import Policy, ProbabilityPolicy, explainer
from playfield.runs.algorithm import Network
from playfield.runs.output import Say
from playfield.runs.storage import atomic_write, folder_for
from playfield.show import saliency
from playfield.show.explain_page import counterfactual, falls_or_rises, page_html
from playfield.show.explain_picture import picture
from playfield.show.saliency import Effects

METHODS = ("occlusion", "gradient")
MAX_STEPS = 3000  # of the game
PAGE = "explain.html"


@dataclass(frozen=True)
class Pick:
    """A selected step: its index in the game, and the reason."""

    index: int
    why: str


def pick_moments(
    values: Sequence[float] | None,
    entropies: Sequence[float] | None,
    rewards: Sequence[float],
    losses: Sequence[int],
    count: int,
    apart: int = 8,
    lives: bool = True,
) -> list[Pick]:
    """Select up to `count` steps of a game of T steps, in order and at least `apart` steps from each other.

    They are taken in turn from: the steps before a lost life or the end, steps with a reward, the largest changes of
    the value, the highest and the lowest policy entropy; and, where these are too few, evenly spaced steps.

    Args:
        values: state values, [T], or None where the agent has none.
        entropies: of the policy, [T], or None where the agent has none.
        rewards: [T].
        losses: steps in which a life or the game was lost.
        count: steps to select, at most.
        apart: smallest distance between two of them.
        lives: whether the game counts lives.
    """
    total = len(rewards)
    lost = "just before a life is lost" if lives else "just before the game ends"
    lists: list[list[Pick]] = [[Pick(max(0, t - 1), lost) for t in reversed(losses)]]
    gains = sorted(np.flatnonzero(np.asarray(rewards) > 0).tolist(), key=lambda t: -rewards[t])
    if len(set(map(float, rewards))) > 1:  # not where every step has the same reward
        lists.append([Pick(t, f"just before a reward of {rewards[t]:g}") for t in gains])
    if values is not None and total > 1:
        change = np.diff(np.asarray(values, np.float64))
        order = np.argsort(-np.abs(change), kind="stable")
        lists.append(
            [Pick(int(t), f"just before the value {falls_or_rises(change[t])} most") for t in order if change[t] != 0]
        )
    if entropies is not None and np.ptp(entropies) > 1e-6:
        order = np.argsort(-np.asarray(entropies), kind="stable")
        lists.append([Pick(int(t), "highest policy entropy: least certain") for t in order])
        lists.append([Pick(int(t), "lowest policy entropy: most certain") for t in order[::-1]])
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
        take(Pick(int(t), "evenly spaced step"))
    return sorted(chosen, key=lambda pick: pick.index)


def untrained(network: Network, seed: int = 1) -> nn.Module | None:
    """The agent's torch module with random weights; None where it has no module."""
    if network.build is None:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net: nn.Module = network.build().eval()
    return net


class Explainer:
    """Saliency maps, perturbation effects and sanity check of one policy.

    Args:
        policy: whose output is explained.
        method: `occlusion` or `gradient`.
        replace: what numbers of a vector observation are replaced by, [K]; zeros by default.

    Raises:
        UsageError: another method, or no gradients.
    """

    def __init__(self, policy: Policy, method: str, replace: np.ndarray | None = None) -> None:
        if method not in METHODS:
            raise UsageError(f"--method must be occlusion or gradient, not {method!r}")
        self.policy, self.method, self.replace = policy, method, replace
        self.net: nn.Module | None = None
        self.untrained: nn.Module | None = None
        if isinstance(policy, ProbabilityPolicy):
            self.net, self.untrained = policy.network.module, untrained(policy.network)
        if method == "gradient" and self.net is None:
            raise UsageError("this agent has no gradients: use --method occlusion")

    def effects(self, obs: np.ndarray, explain: saliency.Explain | None = None) -> Effects:
        """Effects of perturbing each part of an observation, on the output of the policy or of `explain`."""
        explain = explain or explainer(self.policy)
        if self.policy.spec.pixels:
            return saliency.occlusion(explain, obs)
        replace = self.replace if self.replace is not None else np.zeros_like(obs)
        return saliency.feature_effects(explain, obs, replace)

    def maps(
        self, obs: np.ndarray, action: int, effects: Effects, net: nn.Module | None = None
    ) -> dict[str, np.ndarray]:
        """Saliency maps `value` and `policy` by the chosen method: [H, W], or [K, 1] for a vector."""
        if self.method == "occlusion":
            return effects.maps() if self.policy.spec.pixels else _columns(effects)
        net = self.net if net is None else net
        assert net is not None  # see __init__
        found = saliency.gradients(net, obs, action)
        return found if obs.ndim == 3 else {k: v.reshape(-1, 1) for k, v in found.items()}

    def sanity(self, obs: np.ndarray, action: int, maps: dict[str, np.ndarray]) -> float | None:
        """Rank correlation of the maps with those of the network with random weights: mean of both, or None."""
        if self.untrained is None:
            return None
        net = self.untrained

        def outputs(batch: np.ndarray) -> dict[str, np.ndarray]:
            with torch.no_grad():
                logits, values = net(torch.from_numpy(np.ascontiguousarray(batch)))
            return {"probs": torch.softmax(logits, -1).numpy(), "value": values.numpy()}

        other = self.maps(obs, action, self.effects(obs, outputs), net)
        return float(np.mean([saliency.rank_correlation(maps[k], other[k]) for k in ("value", "policy")]))


def _columns(effects: Effects) -> dict[str, np.ndarray]:
    return {"value": np.abs(effects.value_change)[:, None], "policy": effects.divergence[:, None]}


def _play(policy: Policy, seed: int, say: Say) -> tuple[list[Moment], list[int], bool]:
    """The steps of the first game from `seed`, the indices of those in which a life or the game was lost, and whether
    the game counts lives."""
    player = Player(policy, seed)
    moments: list[Moment] = []
    losses: list[int] = []
    lives = at_start = lives_of(player)
    for moment in player.moments(last_game=0):
        moments.append(moment)
        say(f"playing a game: {len(moments):,} steps so far")
        left = lives_of(player)
        if moment.over or (lives is not None and left is not None and left < lives):
            losses.append(moment.step)
        lives = left
        if len(moments) == MAX_STEPS:
            break
    player.close()
    return moments, losses, at_start is not None


@takes.checked(
    source=takes.path,
    which=step,
    out=takes.path,
    moments=takes.whole(1, 1000),
    seed=takes.seed,
    method=takes.text(*METHODS),
    temperature=takes.real(0, 100),
    agent=takes.text("random"),
    trust=takes.switch,
    say=takes.function,
)
def explain(
    source: str,
    *,
    which: str = "last",
    out: str | Path | None = None,
    moments: int = 6,
    seed: int = 0,
    method: str = "occlusion",
    temperature: float | None = None,
    agent: str | None = None,
    trust: bool = False,
    say: Say | None = None,
) -> Path:
    """Play one game, select steps of it, and write pictures and `explain.html` about them.

    Args:
        source: a run, a checkpoint or a shipped agent (see `play.agent.find_agent`); an environment with
            `agent="random"`.
        which: checkpoint of a run: `last`, `best` or a step.
        out: directory of the report; by default `explain` in the agent's own directory.
        moments: steps to select, at least 1.
        seed: of the game.
        method: `occlusion` or `gradient`. The sentence about the largest perturbation always comes from occlusion.
        temperature: of the sampled actions. The probabilities shown are those the agent plays with; the maps and
            the selection use the network's own, at temperature 1.
        agent: `random` for random play.
        trust: import the module of an environment `module:Id` that only the run's files name.
        say: is told every two seconds how far it is.

    Returns:
        The path of `explain.html`.

    Raises:
        UsageError: no such agent, or a wrong value. DataError: a damaged checkpoint. StorageError: `out` cannot be
            written.
    """
    policy, home = agent_or_random(str(source), which, agent, temperature, seed, trust)
    folder = Path(out) if out is not None else home / "explain"
    with _one_thread():
        return _report(policy, folder, moments, seed, method, now_and_then(say))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread: faster for small batches, and much faster on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def now_and_then(say: Say | None, period: float = 2.0) -> Say:
    """`say` for work that may take long: at most one line in `period` seconds, the first after as many."""
    last = time.monotonic()

    def told(line: str) -> None:
        nonlocal last
        if say is not None and time.monotonic() - last >= period:
            last = time.monotonic()
            say(line)

    return told


def _report(policy: Policy, folder: Path, moments: int, seed: int, method: str, say: Say) -> Path:
    game, losses, has_lives = _play(policy, seed, say)
    values = [saliency.values_of(m.outputs) for m in game]
    numbers = [float(np.ravel(v)[0]) for v in values if v is not None]
    certain = [saliency.net_probs_of(m.outputs) for m in game]
    entropies = [float(saliency.entropy(p)) for p in certain if p is not None]
    picks = pick_moments(
        numbers or None, entropies or None, [m.reward for m in game], losses, moments, lives=has_lives
    )
    mean = None if policy.spec.pixels else np.mean([m.obs for m in game], 0).astype(game[0].obs.dtype)
    explainer = Explainer(policy, method, mean)
    entries: list[tuple[str, str, bytes]] = []
    names = policy.spec.family.input_names(policy.spec.id, int(np.prod(policy.spec.obs_shape)))
    checks: list[float] = []
    for number, pick in enumerate(picks, 1):
        moment = game[pick.index]
        say(f"explaining moment {number} of {len(picks)}")
        effects = explainer.effects(moment.obs)
        maps = explainer.maps(moment.obs, moment.action, effects)
        check = explainer.sanity(moment.obs, moment.action, maps)
        checks += [] if check is None else [check]
        best = int(effects.strength.argmax())
        what = (
            "With the boxed patch blurred in every frame of the stack,"
            if policy.spec.pixels
            else f"With {names[best]} at its mean over the game instead of {np.ravel(moment.obs)[best]:.2f},"
        )
        sentence = counterfactual(effects, policy.spec.action_names, best, what)
        if not effects.strength.any():
            sentence = "No perturbation changed the output: this agent does not use its observation."
        image = Image.fromarray(picture(moment, policy.spec, maps, effects, f"step {moment.step}"))
        buffer = BytesIO()
        image.save(buffer, "PNG")
        did = policy.spec.action_names[moment.action]
        entries.append((f"Step {moment.step}: {pick.why}", f"Action: {did}. {sentence}", buffer.getvalue()))
    page = page_html(policy, game, method, entries, float(np.mean(checks)) if checks else None, seed)
    pictures = {f"moment-{number}.png": data for number, (_, _, data) in enumerate(entries, 1)}
    with folder_for(folder, [*pictures, PAGE]):
        for name, data in pictures.items():
            atomic_write(folder / name, data)
        for stale in folder.glob("moment-*.png"):
            digits = stale.stem.removeprefix("moment-")
            if digits.isascii() and digits.isdigit() and int(digits) > len(picks):
                stale.unlink()
        atomic_write(folder / PAGE, page)
    return folder / PAGE
