"""`--features` as text, such as `tilings:tilings=16,tiles=8`, and the coder that it names.

torch is not imported here, so a mistake in `--features` is reported at once.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, ClassVar, Protocol, TypeVar

import gymnasium
import numpy as np

from playfield.envs.base import EnvSpec
from playfield.envs.gym_make import space_of
from playfield.errors import UsageError, unknown
from playfield.linear import features
from playfield.linear.bounds import Bounds, check_bounds
from playfield.linear.problems import PROBLEMS
from playfield.options import Option, parse_spec
from playfield.runs.encoder import locate

UNSCALED = ((0.0,), (1.0,))
PIXELS = [Option("size", "int", 14, "", low=2, high=84)]  # of `pixels`: height and width of a downscaled picture


class HasStepSizes(Protocol):
    """A Config that names its step sizes, each with the option that chooses it where it is 0."""

    step_sizes: ClassVar[dict[str, str]]


C = TypeVar("C", bound=HasStepSizes)


def coder_options() -> dict[str, list[Option]]:
    """{name: options} of all coders: the public functions of `features` from bounds to a `Coder`."""
    found = {}
    for name, function in inspect.getmembers(features, inspect.isfunction):
        signature = inspect.signature(function)
        first = next(iter(signature.parameters.values()), None)
        own = function.__module__ == features.__name__ and not name.startswith("_")
        if not own or first is None or first.annotation != "Bounds":
            continue
        keywords = [p for p in signature.parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
        found[name] = [Option(p.name, p.annotation, p.default, "", low=1, high=2**20) for p in keywords]
    return found


def parse(text: str, known: dict[str, list[Option]]) -> tuple[str, dict[str, Any]]:
    """(name, {option: value}) of `--features`. Raises UsageError for an unknown name, option or value."""
    name, words = parse_spec(text, "features", known)
    types = {option.name: option for option in known[name]}
    return name, {key: types[key].parse(word, f"{key} of --features {name}") for key, word in words.items()}


def coder_for(
    text: str,
    low: np.ndarray,
    high: np.ndarray,
    tiled: np.ndarray | None = None,
    *,
    states: tuple[int, ...] = (),
) -> features.Coder:
    """The coder that `text` names, for observations between `low` and `high` [D]; `tiled` as in `Problem`.

    `states`: sizes of the spaces of named states whose one-hot vectors the observation is.

    Raises UsageError for an unknown name, option or value, and for too many features.
    """
    name, values = parse(text, coder_options())
    bounds = Bounds(low, high, high - low if tiled is None else tiled, states)
    coder: features.Coder = getattr(features, name)(bounds, **values)
    return coder


def identity(size: int) -> features.Coder:
    """The coder whose features are `size` numbers as they are, and a 1."""
    return features.identity(Bounds(np.zeros(size), np.ones(size), np.ones(size)))


def env_coder(text: str, spec: EnvSpec) -> features.Coder | None:
    """The coder that `text` names, for observations of an environment; None for `autoencoder:PATH`.

    An auto-encoder's file is only looked for: its number of latents is known when `Observer` has loaded it.
    Raises UsageError where `text` is not `--features`, or not for such observations.
    """
    name, _, rest = text.partition(":")
    if name == "autoencoder":
        _check_autoencoder(rest, spec)
        return None
    if name not in (names := [*coder_options(), "pixels", "autoencoder"]):
        raise unknown("features", name, names)
    if name == "pixels":
        if not spec.pixels:
            raise UsageError(f"--features {text} takes pictures; observations of {spec.id} are vectors: use tilings")
        return identity(2 * pixels_size(text) ** 2)
    if spec.pixels:
        raise UsageError(
            f"--features {name} takes vectors, but observations are pictures: "
            "use pixels:size=14, autoencoder:PATH, or --obs ram"
        )
    if name == "bits" and spec.obs_dtype != "uint8":
        raise UsageError("--features bits takes bytes (--obs ram of an Atari game): use tilings")
    if name in ("bits", "identity", "table"):
        size = int(np.prod(spec.obs_shape))
        return coder_for(text, np.zeros(size), np.ones(size), states=tuple(n for n, _ in spec.states))
    return coder_for(text, *bounds(spec))


def pixels_size(text: str) -> int:
    """Height and width of the picture that `pixels:size=14` downscales to; 14 by default."""
    return int(parse(text, {"pixels": PIXELS})[1].get("size", PIXELS[0].default))


def _check_autoencoder(path: str, spec: EnvSpec) -> None:
    if not path:
        raise UsageError("--features autoencoder: needs the path of an encoder, as in autoencoder:runs/encoder")
    if not spec.pixels or spec.obs_shape[:2] != (84, 84):
        raise UsageError("--features autoencoder:PATH takes pictures of 84x84 (not --obs ram)")
    locate(path)


def bounds(spec: EnvSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(low, high, tiled), each [D], of an environment's observations. Raises UsageError where they have none."""
    for known in PROBLEMS.values():
        if known.env and known.env.split("-v")[0] == spec.id.split("-v")[0]:
            return np.array(known.low), np.array(known.high), np.array(known.tiled)
    if spec.obs_bounds is not None and (spec.obs_dtype == "uint8" or spec.obs_bounds != UNSCALED):
        low, high = (np.broadcast_to(side, spec.obs_shape).ravel().astype(float) for side in spec.obs_bounds)
        return _checked(spec, low, high)
    if spec.obs_dtype == "uint8":
        size = int(np.prod(spec.obs_shape))
        return np.zeros(size), np.full(size, 255.0), np.full(size, 256.0)
    if spec.states:
        raise UsageError(f"observations of {spec.id} are named states: use --features table")
    space = space_of(spec)
    if not isinstance(space, gymnasium.spaces.Box):
        raise UsageError(f"observations of {spec.id} are named states: use --features identity")
    return _checked(spec, *(np.ravel(side).astype(float) for side in (space.low, space.high)))


def _checked(spec: EnvSpec, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with np.errstate(over="ignore", invalid="ignore"):
        check_bounds(Bounds(low, high, high - low), f"observations of {spec.id}")
    return low, high, high - low


def squared_length(coder: features.Coder) -> float:
    """Squared length of the feature vector, from which step sizes are chosen: its mean over uniform states.

    Of polynomials it is the maximum, since in the corners they are far longer than elsewhere. Where bounds are
    unknown (`identity`), observations are assumed to lie between 0 and 1.
    """
    if coder.kind == features.FOURIER:  # the mean square of a cosine is 1/2, of the constant 1
        return float((coder.gains**2 * np.where(coder.powers.any(axis=1), 0.5, 1.0)).sum())
    if coder.kind == features.BITS:
        return (coder.size - 1) / 2 + 1
    if coder.kind == features.IDENTITY and len(coder.dims):  # one-hot vectors
        return float(len(coder.dims))
    if coder.kind == features.IDENTITY:
        return (coder.size - 1) / 3 + 1
    return float(coder.active)


def with_step_sizes(cfg: C, coder: features.Coder, divisor: int = 1) -> C:
    """`cfg` in which each step size of 0 is replaced: by `correction` / squared length of the features / `divisor`.

    With features of that length a step size of 1 / length would correct an error at once. `cfg.step_sizes` names the
    step sizes and their corrections.
    """
    chosen = {
        name: getattr(cfg, share) / squared_length(coder) / divisor
        for name, share in cfg.step_sizes.items()
        if not getattr(cfg, name)
    }
    return dataclasses.replace(cfg, **chosen)  # type: ignore[type-var]
