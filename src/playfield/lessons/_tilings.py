"""Sarsa on MountainCar with 1 to 32 tilings of 8x8 tiles: shared by experiments D and F."""

from __future__ import annotations

from collections.abc import Mapping

from playfield.lessons._linear import Setting, greedy


def settings(alpha: float, published: Mapping[int, tuple[float, float | None]]) -> list[Setting]:
    """A setting per number of tilings. `published`: tilings -> (steps of the last episodes, seconds)."""
    return [
        Setting(
            f"{n} tiling{'s' * (n > 1)}",
            "sarsa",
            "mountain-car",
            f"tilings:tilings={n},tiles=8",
            greedy(alpha / n, n_step=1),
            steps,
            seconds,
        )
        for n, (steps, seconds) in published.items()
    ]
