"""What acts: `act(obs) -> actions`, `explain(obs) -> what it thinks`, and where trained ones are found.

An agent is a run directory, one of its checkpoints, or one that ships with the package (`breakout`).
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from playfield import encoders
from playfield.envs.base import EnvSpec
from playfield.errors import DataError, UsageError, nearest

GREEDY = 1e-6  # temperatures below this take the likeliest action: dividing logits by them would overflow
SHIPPED = Path(__file__).parent / "agents"


class Policy(Protocol):
    """Acts in environments of one `spec`.

    `act` takes observations [N, ...] and, where it samples, uniform numbers in [0, 1) [N]; without them it draws
    its own. `explain` gives named arrays for the same observations: `probs` [N, A], with which `act` chooses,
    `value` [N], `q` [N, A]; and `net_probs` [N, A] where its net gave others, because of a temperature.
    """

    spec: EnvSpec
    label: str
    temperature: float

    def act(self, obs: np.ndarray, uniform: np.ndarray | None = None) -> np.ndarray: ...

    def explain(self, obs: np.ndarray) -> dict[str, np.ndarray]: ...


def default_temperature(config: dict[str, Any]) -> float:
    """How agents are judged and shown: sharper than they explore, but not greedily, since a game can loop for ever.

    One that explores by epsilon plays with the last epsilon of its training, as its papers do, and one whose policy
    was given plays that.
    """
    return 1.0 if {"epsilon", "epsilon_end", "policy"} & config.keys() else 0.5


class ProbabilityPolicy:
    """A policy given by logits and a value: samples at a temperature, or takes the likeliest action.

    What it explains are the probabilities that it plays with; those of the net, at temperature 1, are `net_probs`.

    Args:
        network: maps observations [N, ...] to (logits [N, A], value [N]), NumPy float32; where it learns the values
            of actions, these too [N, A].
        temperature: 1 samples as in training, less is greedier, 0 is greedy.
        seed: of its own random numbers.
    """

    def __init__(self, spec: EnvSpec, network: Any, label: str, temperature: float = 1.0, seed: int = 0) -> None:
        if not 0 <= temperature <= 100:
            raise UsageError(f"the temperature must be between 0 (greedy) and 100, not {temperature}")
        self.spec, self.network, self.temperature = spec, network, temperature
        how = (
            "greedy"
            if temperature == 0
            else "sampled"
            if temperature == 1
            else f"sampled at temperature {temperature:g} (training: 1)"
        )
        self.label = f"{label}, {how}"
        self._random = np.random.default_rng(seed)

    def act(self, obs: np.ndarray, uniform: np.ndarray | None = None) -> np.ndarray:
        from playfield.actor_critic import log_softmax, sample

        single = np.ndim(obs) == len(self.spec.obs_shape)
        logits = self.network(np.asarray(obs)[None] if single else obs)[0]
        if self.temperature < GREEDY:
            actions = logits.argmax(axis=-1)
        else:
            if uniform is None:
                uniform = self._random.random(len(logits))
            actions = sample(log_softmax(logits / self.temperature), uniform)
        return actions[0] if single else actions

    def explain(self, obs: np.ndarray) -> dict[str, np.ndarray]:
        from playfield.actor_critic import log_softmax

        logits, value, *q = self.network(obs)
        thoughts = {"value": value} | ({"q": q[0]} if q else {})
        net_probs = np.exp(log_softmax(logits))
        if self.temperature == 1:
            return {"probs": net_probs, **thoughts}
        if self.temperature < GREEDY:
            probs = np.eye(self.spec.num_actions, dtype=net_probs.dtype)[logits.argmax(axis=-1)]
        else:
            probs = np.exp(log_softmax(logits / self.temperature))
        return {"probs": probs, "net_probs": net_probs, **thoughts}


class RandomPolicy:
    """Every action equally likely."""

    def __init__(self, spec: EnvSpec, seed: int = 0) -> None:
        self.spec, self.label, self.temperature = spec, "random", 1.0
        self._random = np.random.default_rng(seed)

    def act(self, obs: np.ndarray, uniform: np.ndarray | None = None) -> np.ndarray:
        single = np.ndim(obs) == len(self.spec.obs_shape)
        if uniform is None:
            uniform = self._random.random(1 if single else len(obs))
        actions = (uniform * self.spec.num_actions).astype(np.int64)
        return actions[0] if single else actions

    def explain(self, obs: np.ndarray) -> dict[str, np.ndarray]:
        return {"probs": np.full((len(obs), self.spec.num_actions), 1 / self.spec.num_actions)}


@dataclass(frozen=True)
class Agent:
    """A trained agent as stored: everything but the network object.

    Attributes:
        info: what `run.json` says: env, algo, config, protocol, spec, seed, steps.
        weights: float32 tensors by parameter name.
        label: for reports, such as `runs/breakout/ppo/1, step 1,000,448`.
        step: training steps behind these weights.
        home: directory for films and results of this agent.
    """

    info: dict[str, Any]
    weights: dict[str, Any]
    label: str
    step: int
    home: Path


def spec_from(info: dict[str, Any]) -> EnvSpec:
    """The `EnvSpec` stored in `run.json`."""
    stored = info["spec"]
    try:
        return EnvSpec(
            id=str(stored["id"]),
            kind=str(stored["kind"]),
            obs_shape=tuple(int(n) for n in stored["obs_shape"]),
            obs_dtype=str(stored["obs_dtype"]),
            num_actions=int(stored["num_actions"]),
            action_names=tuple(str(a) for a in stored["action_names"]),
            protocol=dict(stored["protocol"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"run.json has no usable spec ({error})") from None


def shipped() -> list[str]:
    """Names of the agents that come with the package."""
    return sorted(p.parent.name for p in SHIPPED.glob("*/agent.safetensors"))


def read_info(run: Path) -> dict[str, Any]:
    """`run.json` of a run directory. Raises DataError where it is missing or no JSON object."""
    try:
        info = json.loads((run / "run.json").read_text("utf-8"))
    except OSError:
        raise DataError(f"{run} is not a run directory: it has no run.json") from None
    except (ValueError, RecursionError):
        raise DataError(f"{run / 'run.json'} is damaged: not JSON") from None
    if not isinstance(info, dict) or "spec" not in info or "algo" not in info:
        raise DataError(f"{run / 'run.json'} does not describe a run")
    return info


def newest_run(root: Path = Path("runs")) -> Path:
    """The run under `root` that wrote a checkpoint last. Raises UsageError when there is none."""
    marks = list(root.glob("**/checkpoints/last"))
    if not marks:
        raise UsageError(f"no run with a checkpoint under {root}/: train one first (`playfield train breakout`)")
    return max(marks, key=lambda p: p.stat().st_mtime).parent.parent


def _all_runs() -> list[str]:
    return [str(path.parent) for path in Path("runs").glob("**/run.json")]


def no_run(name: str | Path) -> UsageError:
    """The error for a directory that is no run: it names the runs within, or the nearest."""
    runs = _all_runs()
    close = [run for run in runs if Path(run).is_relative_to(name)][:3] or nearest(str(name), runs)
    return UsageError(f"no run directory {name}" + (f": did you mean {', '.join(close)}?" if close else ""))


def locate(name: str) -> None:
    """Raise the UsageError that `find_agent` would raise for a name that leads nowhere; reads no weights."""
    path = Path(name)
    if name in ("best", "last"):
        newest_run()
    elif not (path / "run.json").exists() and not (path.is_dir() and path.parent.name == "checkpoints"):
        _shipped_key(name)


def find_agent(name: str, which: str = "last") -> Agent:
    """The agent called `name`.

    Args:
        name: a run directory, a checkpoint directory in it, `best` or `last` (of the newest run under `runs/`),
            or the name of a shipped agent.
        which: for a run directory: `last`, `best`, or a step.

    Raises:
        UsageError: nothing of that name. DataError: something, but damaged.
    """
    path = Path(name)
    if name in ("best", "last"):
        path, which = newest_run(), name
    elif not (path / "run.json").exists():
        if path.is_dir() and path.parent.name == "checkpoints":
            return _from_checkpoint(path.parent.parent, path)
        key = _shipped_key(name)
        if which not in ("last", "best"):
            raise UsageError(f"{key} ships with one checkpoint, and has none called {which}: leave out --checkpoint")
        return _shipped(key)
    folder = path / "checkpoints"
    if which == "last":
        return _from_checkpoint(path, folder)
    if which == "best":
        if not (folder / "best").exists():
            raise UsageError(f"{path} has no best checkpoint yet: use --checkpoint last")
        return _from_checkpoint(path, folder / "best")
    digits = which.replace(",", "").replace("_", "")
    if not digits.isdigit():
        raise UsageError(f"--checkpoint must be last, best or a step, not {which!r}")
    chosen = folder / f"ckpt-{int(digits):012d}"
    if not chosen.is_dir():
        kept = ", ".join(str(int(p.name[5:])) for p in sorted(folder.glob("ckpt-" + "[0-9]" * 12)))
        raise UsageError(f"{path} keeps no checkpoint of step {which}: it has {kept or 'none'}")
    return _from_checkpoint(path, chosen)


def _from_checkpoint(run: Path, where: Path) -> Agent:
    from playfield import checkpoint

    info = read_info(run)
    found = checkpoint.load(where, only=["parts/learner/weights"])  # every byte verified, only these kept
    try:
        weights = {} if info["algo"] == "random" else found.tree["parts"]["learner"]["weights"]
    except (KeyError, TypeError):
        raise DataError(f"{found.path} holds no weights (algorithm {info['algo']})") from None
    return Agent(info, weights, f"{run}, step {found.step:,}", found.step, run)


def _environments() -> list[str]:
    from playfield.envs.names import atari_games, classic_games

    return [*atari_games(), *classic_games()]


def _shipped_key(name: str) -> str:
    from playfield.envs.names import resolve

    known = shipped()
    key = name
    if key not in known:
        try:
            key = resolve(name).id
        except UsageError:
            key = name
    if key not in known:
        close = nearest(name, [*_all_runs(), *known])
        hint = (
            f"did you mean {', '.join(close)}?" if close else "give a run directory, best, last, or a shipped agent."
        )
        if key != name or name in _environments():
            hint = f"to see random play add --agent random; or train one: playfield train {name}."
        raise UsageError(f"no agent {name!r}: {hint} Shipped agents: {', '.join(known) or 'none'}")
    return key


def _shipped(key: str) -> Agent:
    from playfield.weights import import_weights

    weights, meta = import_weights(SHIPPED / key / "agent.safetensors")
    return Agent(meta, weights, f"shipped agent {key}", int(meta["step"]), Path("runs") / "shipped" / key)


def load_policy(
    source: str | Path | Agent,
    which: str = "last",
    *,
    temperature: float | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Policy:
    """A policy that is ready to act.

    Args:
        source: see `find_agent`; or an `Agent`.
        which: `last`, `best` or a step of a run.
        temperature: 1 samples as in training, 0 is greedy; None: see `default_temperature`.
        seed: of its own sampling, where `act` is not given random numbers.

    Example:
        >>> policy = load_policy("breakout")
        >>> action = policy.act(obs)
    """
    agent = source if isinstance(source, Agent) else find_agent(str(source), which)
    name = agent.info["algo"]
    try:
        module = importlib.import_module(f"playfield.algos.{name}")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("playfield.algos"):
            raise
        raise DataError(f"run.json names an algorithm that is not here: {name!r}") from None
    spec = spec_from(agent.info)
    try:
        config = agent.info["config"]
        if "features" in config:
            config = {**config, "features": encoders.kept(config["features"], agent.home)}
        network = module.load(spec, config, agent.weights, device)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"run.json has no usable config for {name} ({error!r})") from error
    if temperature is None:
        temperature = default_temperature(agent.info["config"])
    return ProbabilityPolicy(spec, network, agent.label, temperature, seed)
