"""The maths of returns and advantages, free of everything else. Arrays are time-major: [T, N]."""

from __future__ import annotations

import numpy as np


def gae(
    rewards: np.ndarray,
    values: np.ndarray,
    next_values: np.ndarray,
    terminated: np.ndarray,
    truncated: np.ndarray,
    gamma: float,
    lam: float,
) -> np.ndarray:
    """Generalised advantage estimates (Schulman et al. 2016, equation 16).

    Args:
        rewards, values: [T, N] reward of each step and value of the observation it was taken in.
        next_values: [T, N] value of the true successor of each step, also where a game was cut.
        terminated: [T, N] bool: nothing follows, the successor is worth 0.
        truncated: [T, N] bool: the trace is cut, but the successor keeps its value.

    Returns:
        [T, N] float32 advantages; `advantages + values` are lambda-returns.
    """
    assert rewards.shape == values.shape == next_values.shape == terminated.shape == truncated.shape
    discount = gamma * (1.0 - terminated)
    trace = lam * discount * (1.0 - truncated)
    delta = rewards + discount * next_values - values
    advantages = np.empty(rewards.shape, np.float32)
    last = np.zeros(rewards.shape[1:], np.float64)
    for t in reversed(range(len(rewards))):
        last = delta[t] + trace[t] * last
        advantages[t] = last
    return advantages


def next_values(values: np.ndarray, last: np.ndarray, cut: np.ndarray, cut_values: np.ndarray) -> np.ndarray:
    """Value of each step's true successor.

    Args:
        values: [T, N] values of the observations that were acted on.
        last: [N] values of the observations after the last step.
        cut: [T, N] bool: the successor is not the next row's observation (a game was truncated there).
        cut_values: [T, N] value of the true successor where `cut`.
    """
    following = np.concatenate([values[1:], last[None]])
    return np.where(cut, cut_values, following)


def explained_variance(predicted: np.ndarray, target: np.ndarray) -> float:
    """1 - Var(target - predicted) / Var(target); NaN where the target does not vary."""
    predicted, target = predicted.astype(np.float64), target.astype(np.float64)  # float32 overflows on divergence
    variance = float(np.var(target))
    return float("nan") if variance == 0 else 1.0 - float(np.var(target - predicted)) / variance
