"""Observations as people hand them to a policy: checked against its `EnvSpec`, converted where that is unambiguous.

The package's own loops skip this: their observations come from environments of the same spec.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from playfield.envs.base import EnvSpec
from playfield.errors import UsageError


def as_batch(spec: EnvSpec, given: Any) -> tuple[np.ndarray, bool]:
    """(observations [N, ...] of the spec's shape and dtype, whether a single one was given).

    Taken as they are: arrays, lists and torch tensors of the shape of one observation or of a batch; and where only
    one thing can be meant: the tuple (obs, info) of `reset`, channels-first pictures, pictures of one channel without
    their last axis, whole numbers in another dtype, and for named states their numbers.

    Raises:
        UsageError: another shape, dtype or range, or one that could mean two things.
    """
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], dict):
        given = given[0]
    if spec.states:
        return _named(spec, given)
    obs = _array(spec, given)
    obs, single = _arranged(spec, obs)
    return _typed(spec, obs), single


def _refused(spec: EnvSpec, why: str) -> UsageError:
    if spec.states:
        low = [first for _, first in spec.states]
        high = [first + n - 1 for n, first in spec.states]
        numbers = f"from {low[0]} to {high[0]}" if len(low) == 1 else f"from {tuple(low)} to {tuple(high)}"
        kind = "a state number" if len(low) == 1 else f"{len(low)} state numbers"
        wanted = f"{kind} {numbers}, or their one-hot vector, float32 {spec.obs_shape}"
    else:
        low_high = _range(spec)
        span = f" from {low_high[0]:g} to {low_high[1]:g}" if low_high else ""
        wanted = f"{spec.obs_dtype} {spec.obs_shape}{span}"
    return UsageError(
        f"{why}: an observation of {spec.id} is {wanted}, or a batch of them with one more axis in front"
    )


def _range(spec: EnvSpec) -> tuple[float, float] | None:
    """Lowest and highest value that may occur; None: any."""
    if spec.obs_bounds is not None and (spec.obs_dtype == "uint8" or spec.obs_bounds != ((0.0,), (1.0,))):
        return min(spec.obs_bounds[0]), max(spec.obs_bounds[1])
    return (0.0, 255.0) if spec.obs_dtype == "uint8" else None


def _array(spec: EnvSpec, given: Any) -> np.ndarray:
    if isinstance(given, np.ndarray):
        obs = given
    else:
        if hasattr(given, "detach"):  # a torch tensor, perhaps on a GPU
            given = given.detach().cpu()
        try:
            obs = np.asarray(given)
        except (TypeError, ValueError):
            raise _refused(spec, "this is no array of numbers") from None
    if obs.dtype.kind not in "buif":
        what = "a dict" if isinstance(given, dict) else f"{type(given).__name__} of {obs.dtype}"
        raise _refused(spec, f"{what} is no array of numbers")
    if obs.size == 0:
        raise _refused(spec, f"an array of shape {obs.shape} holds no observation")
    return obs


def _arranged(spec: EnvSpec, obs: np.ndarray) -> tuple[np.ndarray, bool]:
    """`obs` as a batch [N, *obs_shape], and whether it was a single observation."""
    shape = spec.obs_shape
    if obs.shape == shape:
        return obs[None], True
    if obs.shape[1:] == shape:
        return obs, False
    if len(shape) == 3:
        first = (shape[2], *shape[:2])  # channels first, as torch and some wrappers have them
        if obs.shape == first:
            return np.moveaxis(obs, 0, -1)[None], True
        if obs.shape[1:] == first:
            return np.moveaxis(obs, 1, -1), False
        if shape[2] == 1 and obs.shape == shape[:2]:
            return obs[None, ..., None], True
        if shape[2] == 1 and obs.shape[1:] == shape[:2]:
            return obs[..., None], False
    if shape == (1,) and obs.shape == ():
        return obs.reshape(1, 1), True
    raise _refused(spec, f"an array of shape {obs.shape} does not fit")


def _typed(spec: EnvSpec, obs: np.ndarray) -> np.ndarray:
    """`obs` in the spec's dtype, if that changes no value beyond rounding."""
    dtype, span = np.dtype(spec.obs_dtype), _range(spec)
    if obs.dtype.kind == "f" and not np.isfinite(obs).all():
        raise _refused(spec, "it holds NaN or infinite numbers")
    if obs.dtype != dtype and dtype == np.uint8:
        top = 255 if span is None else span[1]
        if obs.dtype.kind == "f" and (obs != np.floor(obs)).any():
            scaled = " (scaled by 255? give the bytes as they are)" if obs.min() >= 0 and obs.max() <= 1 else ""
            raise _refused(spec, f"{obs.dtype} with fractions cannot be bytes{scaled}")
        if obs.dtype.kind in "fb" and obs.any() and obs.max() <= 1 < top:
            raise _refused(spec, f"{obs.dtype} with no number above 1 could be scaled, so it is not taken for bytes")
        if obs.min() < 0 or obs.max() > 255:
            raise _refused(spec, f"numbers from {obs.min():g} to {obs.max():g} are no bytes")
    if span is not None and (dtype != np.uint8 or span != (0.0, 255.0)):  # all bytes are within 0..255
        low, high = float(obs.min()), float(obs.max())
        slack = 0.0 if dtype == np.uint8 else 1e-3 * (span[1] - span[0])
        if low < span[0] - slack or high > span[1] + slack:
            raise _refused(spec, f"numbers from {low:g} to {high:g} are outside of the declared range")
    if obs.dtype == dtype:
        return obs
    with np.errstate(over="ignore"):
        typed = obs.astype(dtype)
    if not np.isfinite(typed).all():
        raise _refused(spec, f"its numbers are too large for {dtype}")
    return typed


def _named(spec: EnvSpec, given: Any) -> tuple[np.ndarray, bool]:
    """One-hot vectors [N, D] of state numbers, or of one-hot vectors."""
    parts, width = len(spec.states), spec.obs_shape[0]
    if isinstance(given, tuple) and len(given) == parts > 1 and all(np.ndim(part) == 1 for part in given):
        given = np.stack([np.asarray(part) for part in given], axis=-1)  # of a vector environment: an array for each
    obs = _array(spec, given)
    if spec.states_shape and spec.states_shape in (obs.shape, obs.shape[1:]):
        obs = obs.reshape(*obs.shape[: -len(spec.states_shape)], parts)
    hot = obs.ndim and obs.shape[-1] == width and obs.ndim <= 2 and _is_one_hot(spec, obs)
    numbers = None
    if obs.dtype.kind in "ui" or (obs.ndim == 0 and obs.dtype.kind != "b" and obs == np.floor(obs)):
        if parts == 1 and obs.ndim <= 1:
            numbers = obs.reshape(-1, 1)
        elif parts == 1 and obs.ndim == 2 and obs.shape[1] == 1:
            numbers = obs
        elif parts > 1 and obs.ndim in (1, 2) and obs.shape[-1] == parts:
            numbers = obs.reshape(-1, parts)
    if hot and numbers is not None:
        if parts == 1 and (obs.shape == (1,) or width == 1):
            hot = False
        else:
            raise _refused(
                spec, f"whole numbers of shape {obs.shape} could be states or a one-hot vector: use float32"
            )
    if hot:
        single = obs.ndim == 1
        return np.asarray(obs.reshape(-1, width), np.float32), single
    if numbers is None:
        raise _refused(spec, f"{obs.dtype} of shape {obs.shape} is no state")
    sizes, firsts = (np.array([part[k] for part in spec.states]) for k in (0, 1))
    places = numbers.astype(np.int64) - firsts
    if (places < 0).any() or (places >= sizes).any():
        bad = numbers[((places < 0) | (places >= sizes)).any(axis=1)][0].tolist()
        raise _refused(spec, f"there is no state {bad[0] if parts == 1 else tuple(bad)}")
    out = np.zeros((len(places), width), np.float32)
    np.put_along_axis(out, np.cumsum(sizes) - sizes + places, 1.0, axis=1)
    return out, obs.ndim == (0 if parts == 1 else 1)


def _is_one_hot(spec: EnvSpec, obs: np.ndarray) -> bool:
    """Is each row of `obs` [..., D] a one-hot vector for each space of named states?"""
    if not np.isin(obs, (0, 1)).all():
        return False
    ends = np.cumsum([0] + [n for n, _ in spec.states])
    return all((obs[..., a:b].sum(axis=-1) == 1).all() for a, b in itertools.pairwise(ends))
