"""Numbers about scores: statistics of the games of one agent by name, moving ones, and intervals."""

from __future__ import annotations

import math
import re
import statistics
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from playfield.errors import UsageError, shown

CHUNK = 5_000_000  # scores that are sampled at once
CHOICES = "mean, median, lower-quartile or mean-KSTD with a number K above 0, as in mean-1std or mean-0.5std"
MOST_LESS = 1000  # standard deviations


@dataclass(frozen=True)
class Statistic:
    """A statistic of the scores of games, for all of which larger is better.

    Make one with `named`. A lower quartile is the 25 % quantile, with linear interpolation between the two nearest
    scores (Hyndman and Fan's definition 7, that of NumPy); the standard deviation is that of the games themselves
    (divided by n, not n - 1), so that of a single game is 0.

    Attributes:
        name: `mean`, `median`, `lower-quartile`, or such as `mean-2std`.
        less: standard deviations that are taken from the mean; 0 in all others.
    """

    name: str
    less: float = 0.0

    def of(self, scores: ArrayLike) -> np.ndarray:
        """Its value over the last axis: [..., n] scores -> float64 [...]; n is at least 1."""
        values = np.asarray(scores, np.float64)
        if self.name == "median":
            return np.asarray(np.median(values, axis=-1))
        if self.name == "lower-quartile":
            return np.asarray(np.quantile(values, 0.25, axis=-1))
        found = values.mean(axis=-1)
        return np.asarray(found - self.less * values.std(axis=-1) if self.less else found)

    def value(self, scores: Sequence[float]) -> float:
        """Its value for the scores of one game or more."""
        return statistics.fmean(scores) if self == MEAN else float(self.of(scores))

    def moving(self, values: Sequence[float] | np.ndarray, window: int) -> np.ndarray:
        """Its value for the last `window` scores at each index, for all so far before that: [n] -> float64 [n]."""
        if self.name in ("median", "lower-quartile"):
            return _moving_quantile(values, window, 0.5 if self.name == "median" else 0.25)
        means = moving_mean(values, window)
        return means - self.less * _moving_std(values, window) if self.less else means

    def told(self, summary: Mapping[str, Any]) -> float | None:
        """Its value from a summary of an evaluation, or a row of such; None where that does not say it."""
        keys = {"median": "median", "lower-quartile": "lower_quartile"}
        found = summary.get(keys.get(self.name, "mean"))
        spread = summary.get("std") if self.less else 0.0
        return None if found is None or spread is None else float(found) - self.less * float(spread)

    @property
    def enough(self) -> int:
        """Games from which on a bootstrap interval of it is worth giving."""
        return 20 if self.less else 10 if self.name == "lower-quartile" else 5

    @property
    def words(self) -> str:
        """In words, as part of a sentence."""
        if self.less:
            return f"mean less {_plain(self.less)} standard deviation{'s' * (self.less != 1)}"
        return self.name.replace("-", " ")

    @property
    def raw(self) -> str:
        """In words, with what it is of: `mean raw score`, or `median of the raw scores`."""
        return "mean raw score" if self == MEAN else f"{self.words} of the raw scores"

    @property
    def title(self) -> str:
        """The head of a column: `mean score`, `median score`, ..."""
        return f"{self.name} score"

    @property
    def definition(self) -> str:
        """A sentence for the reader of a table; empty where the name says it all."""
        if self.less:
            return "The standard deviation is that of the games themselves (divided by n)."
        return "The lower quartile is the 25 % quantile, interpolated." if self.name == "lower-quartile" else ""

    def limits(self, low: float, high: float) -> tuple[float, float]:
        """The lowest and highest value that it can have, from those of a score."""
        return (-math.inf if self.less else low), high


MEAN = Statistic("mean")
MEDIAN = Statistic("median")
LOWER_QUARTILE = Statistic("lower-quartile")


def named(name: str, flag: str = "statistic") -> Statistic:
    """The statistic of this name; raises UsageError, which begins with `flag`, where there is none."""
    found = re.fullmatch(r"mean-([0-9]{1,4}(?:\.[0-9]{1,6})?)std", name, re.ASCII) if isinstance(name, str) else None
    if found and 0 < float(found[1]) <= MOST_LESS:
        return Statistic(f"mean-{_plain(float(found[1]))}std", float(found[1]))
    for one in (MEAN, MEDIAN, LOWER_QUARTILE):
        if name == one.name:
            return one
    raise UsageError(f"{flag} takes {CHOICES}, not {shown(name)}")


def several(names: str | Sequence[str], flag: str = "statistic") -> tuple[Statistic, ...]:
    """The statistics of one name or more, each once; raises as `named` does."""
    if not isinstance(names, str | list | tuple):
        raise UsageError(f"{flag} takes {CHOICES}, not {shown(names)}")
    return tuple(dict.fromkeys(named(name, flag) for name in ([names] if isinstance(names, str) else names)))


def one_statistic(name: str, value: Any) -> None:
    """A check of an argument, see `arguments.checked`."""
    named(value, name)


def some_statistics(name: str, value: Any) -> None:
    """The same, for one name or a list of them."""
    several(value, name)


def _plain(number: float) -> str:
    """A number without an exponent and without trailing zeros."""
    return f"{number:.6f}".rstrip("0").rstrip(".")


def interval(
    scores: Sequence[float], level: float = 0.95, draws: int = 10_000, seed: int = 0, statistic: Statistic = MEAN
) -> tuple[float, float]:
    """Bootstrap percentile interval of a statistic of the scores (Efron 1979)."""
    values = np.asarray(scores, float)
    if values.size == 0:
        return float("nan"), float("nan")
    random, rows = np.random.default_rng(seed), max(1, CHUNK // values.size)
    found = [
        statistic.of(values[random.integers(values.size, size=(min(rows, draws - start), values.size))])
        for start in range(0, draws, rows)
    ]
    low, high = np.quantile(np.concatenate(found), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def moving_mean(values: Sequence[float] | np.ndarray, window: int) -> np.ndarray:
    """Mean of the last `window` values at each index, of all so far before that; float64 [n] for [n] values."""
    _check_window(window)
    values = np.asarray(values, np.float64)
    if not values.size:
        return values
    window = min(window, len(values))
    least = _over_windows(values, window, np.minimum, np.inf)
    most = _over_windows(values, window, np.maximum, -np.inf)
    # The sum of the largest numbers would be infinite.
    shrink = 2.0**-30 if max(-least.min(), most.max()) > 1e290 else 1.0
    sums = _over_windows(values * shrink, window, np.add, 0.0)
    means = sums / np.minimum(np.arange(1, len(values) + 1), window) / shrink
    return np.asarray(np.clip(means, least, most))  # a mean of equal numbers is that number


def _over_windows(
    values: np.ndarray, window: int, combine: Callable[[np.ndarray, np.ndarray], np.ndarray], nothing: float
) -> np.ndarray:
    """`combine` over the last `window` values at each index, and over nothing else, unlike differences of long sums.

    Blocks of 1, 2, 4, ... values are combined, so rounding is that of a sum in pairs. `nothing` stands before the
    first value.
    """

    def before(block: np.ndarray, steps: int) -> np.ndarray:
        return np.concatenate([np.full(min(steps, len(block)), nothing), block[: max(len(block) - steps, 0)]])

    found, done, block, size = np.full(len(values), nothing), 0, values, 1
    while done < window:
        if window & size:
            found, done = combine(found, before(block, done)), done + size
        block, size = combine(block, before(block, size)), 2 * size
    return found


def _moving_quantile(values: Sequence[float] | np.ndarray, window: int, part: float) -> np.ndarray:
    """The quantile of the last `window` values at each index, interpolated as NumPy does it."""
    _check_window(window)
    last: deque[float] = deque()
    order: list[float] = []
    found = np.empty(len(values))
    for i, value in enumerate(np.asarray(values, np.float64).tolist()):
        if len(last) == window:
            del order[bisect_left(order, last.popleft())]
        last.append(value)
        insort(order, value)
        place = part * (len(order) - 1)
        low = int(place)
        high = min(low + 1, len(order) - 1)
        share = place - low
        found[i] = order[low] * (1 - share) + order[high] * share if order[low] != order[high] else order[low]
    return found


def _moving_std(values: Sequence[float] | np.ndarray, window: int) -> np.ndarray:
    """The standard deviation (divided by n) of the last `window` values at each index.

    Sums and squares are whole numbers of Python, so nothing is lost where long sums are subtracted.
    """
    _check_window(window)
    ratios = [value.as_integer_ratio() for value in np.asarray(values, np.float64).tolist()]
    shift = max((below.bit_length() - 1 for _, below in ratios), default=0)
    whole = [above << (shift - below.bit_length() + 1) for above, below in ratios]
    total = squares = 0
    found = np.empty(len(whole))
    for i, value in enumerate(whole):
        total, squares = total + value, squares + value * value
        if i >= window:
            total, squares = total - whole[i - window], squares - whole[i - window] ** 2
        count = min(i + 1, window)
        left = count * squares - total * total
        spare = max(left.bit_length() - 200, 0) // 2  # a square root of a float can be taken of what is left
        found[i] = math.ldexp(math.sqrt(left >> 2 * spare) / count, spare - shift)
    return found


def _check_window(window: int) -> None:
    if window < 1:
        raise UsageError(f"the window of a moving statistic must be at least 1, not {window}")


def t_interval(
    values: np.ndarray, level: float = 0.95, limits: tuple[float, float] = (-math.inf, math.inf)
) -> tuple[np.ndarray, np.ndarray]:
    """Student's t interval of the mean over the first axis (Student 1908): for few runs, taken to be normal.

    [runs, ...] -> low [...], high [...]; NaN from fewer than two runs. No mean lies outside `limits`, so neither does
    the interval.
    """
    values = np.asarray(values, float)
    runs = len(values)
    if runs < 2:
        nothing = np.full(values.shape[1:], np.nan)
        return nothing, nothing
    mean = values.mean(axis=0)
    half = t_quantile(runs - 1, level) * values.std(axis=0, ddof=1) / math.sqrt(runs)
    return np.clip(mean - half, *limits), np.clip(mean + half, *limits)


def difference_interval(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Interval of mean(a) - mean(b) without taking their spreads to be equal (Welch 1947); NaN from fewer than two.

    The degrees of freedom, which are seldom whole, are rounded down: the interval is never too narrow for that.
    """
    x, y = np.asarray(a, float), np.asarray(b, float)
    if min(len(x), len(y)) < 2:
        return math.nan, math.nan
    u, v = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    middle = float(x.mean() - y.mean())
    if u + v == 0:
        return middle, middle
    degrees = (u + v) ** 2 / (u**2 / (len(x) - 1) + v**2 / (len(y) - 1))
    half = t_quantile(max(int(degrees), 1), level) * math.sqrt(u + v)
    return middle - half, middle + half


def t_quantile(degrees: int, level: float = 0.95) -> float:
    """The t for which Student's distribution lies in [-t, t] with probability `level`.

    `degrees` of freedom is a whole number, for which the probability is a finite sum (Abramowitz and Stegun 1964,
    26.7.3 and 26.7.4) in the angle whose tangent is t / sqrt(degrees); it is inverted by halving.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        if _inside(middle, degrees) < level:
            low = middle
        else:
            high = middle
    return math.sqrt(degrees) * math.tan((low + high) / 2)


def _inside(angle: float, degrees: int) -> float:
    """Probability of [-t, t], for t = sqrt(degrees) * tan(angle)."""
    sine, square = math.sin(angle), math.cos(angle) ** 2
    odd = degrees % 2
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for k in range(2 + odd, degrees + 1, 2):
        total += term
        term *= square * (k - 1) / k
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
