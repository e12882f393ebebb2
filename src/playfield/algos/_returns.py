"""Returns and advantages as pure functions. Arrays are time-major: [T, N], T steps of N environments."""

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
        rewards, values: [T, N] reward of each step, and value of the observation before it.
        next_values: [T, N] value of the observation after each step, the true last one where an episode ends.
        terminated: [T, N] bool: no bootstrapping, the next observation counts as 0.
        truncated: [T, N] bool: bootstraps from `next_values`, but the trace stops.
        gamma, lam: discount and trace decay.

    Returns:
        [T, N] float32 advantages; `advantages + values` are the lambda-returns.
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
    """Value of the observation after each step, [T, N].

    Args:
        values: [T, N] values of the observations before each step.
        last: [N] values of the observations after the last step.
        cut: [T, N] bool: an episode was truncated, so the next row's observation belongs to another one.
        cut_values: [T, N] value of the truncated episode's last observation where `cut`.
    """
    shifted = np.concatenate([values[1:], last[None]])
    return np.where(cut, cut_values, shifted)


def explained_variance(predicted: np.ndarray, target: np.ndarray) -> float:
    """1 - Var(target - predicted) / Var(target); NaN where the target is constant."""
    predicted, target = predicted.astype(np.float64), target.astype(np.float64)  # float32 overflows on divergence
    variance = float(np.var(target))
    return float("nan") if variance == 0 else 1.0 - float(np.var(target - predicted)) / variance
