"""Sarsa on MountainCar with 1 to 32 tilings of 8x8 tiles: what experiments D and F share."""

from __future__ import annotations

from collections.abc import Mapping

from playfield.lessons._linear import Setting


def settings(alpha: float, published: Mapping[int, tuple[float, float | None]]) -> list[Setting]:
    """One for each number of tilings: steps of the last episodes and seconds as published."""
    return [
        Setting(
            f"{n} tiling{'s' * (n > 1)}",
            "sarsa",
            "mountain-car",
            f"tilings:tilings={n},tiles=8",
            {"alpha": alpha / n, "epsilon": 0.0, "gamma": 1.0, "n_step": 1},
            steps,
            seconds,
        )
        for n, (steps, seconds) in published.items()
    ]
