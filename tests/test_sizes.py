"""Sizes as people read them: small ones are not "0.00 GB"."""

from __future__ import annotations

import pytest

from playfield.compute import readable_size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (999.6, "1.0 kB"),
        (7_056, "7.1 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (32_540_000, "32.5 MB"),
        (999_960_000, "1.00 GB"),
        (1.2e9, "1.20 GB"),
        (4_321e9, "4,321.00 GB"),
        (3e16, "3e+07 GB"),
    ],
)
def test_a_size_has_the_unit_that_shows_it(count: float, text: str) -> None:
    assert readable_size(count) == text
