"""Detectors for one number at a time, as a model's errors: when did their mean change?

Each has ``update(x) -> bool``, `changes` (the positions, from 0, at which it said so) and forgets the past after one.
`find_changes` runs one over an array. They hold a few numbers, or logarithmically many, and draw nothing at random.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from nbops.core.errors import InvalidInput, did_you_mean


class Detector(Protocol):
    """What can watch a stream."""

    changes: list[int]

    def update(self, x: float) -> bool:
        """Take one number; return whether a change is seen now."""
        ...


class _Counting(ABC):
    """What the detectors share: they count, refuse what is no number, and note changes."""

    def __init__(self) -> None:
        self.seen = 0
        self.changes: list[int] = []

    def update(self, x: float) -> bool:
        """Take one number; return whether a change is seen now.

        Raises
        ------
        InvalidInput
            NaN or infinite.
        """
        value = float(x)
        if not math.isfinite(value):
            raise InvalidInput(f"value {self.seen:,} of the stream is {value}", hint="Leave missing values out.")
        is_change = self._take(value)
        if is_change:
            self.changes.append(self.seen)
        self.seen += 1
        return is_change

    @abstractmethod
    def _take(self, value: float) -> bool:
        """Take one finite number; return whether a change is seen now."""


class Adwin(_Counting):
    """Adaptive windowing: keeps the longest window whose halves do not differ in their mean.

    The window is held in buckets of 1, 2, 4 … values, `per_size` of each, so memory grows with the logarithm of its
    length. Values should lie within about one unit, as errors of 0 and 1 do.

    Parameters
    ----------
    delta : float
        Chance of a false change, roughly.
    every : int
        Look for a change at every so many values.
    per_size : int
        Buckets of one size before two are joined.
    least : int
        Values that each side of a cut must have at least.

    References
    ----------
    Bifet and Gavaldà 2007, Learning from time-changing data with adaptive windowing: ADWIN2 and the bound of section 3,
    with δ' = δ / ln n.
    """

    def __init__(self, *, delta: float = 0.002, every: int = 32, per_size: int = 5, least: int = 5) -> None:
        super().__init__()
        _check("delta", delta, 0, 1)
        self.delta, self.every, self.per_size, self.least = delta, every, per_size, least
        # of each size 2**i: (sum, squares about the mean) of its buckets, newest first
        self._sizes: list[list[tuple[float, float]]] = [[]]
        self._width, self._sum, self._square = 0, 0.0, 0.0

    @property
    def width(self) -> int:
        """Values in the window."""
        return self._width

    @property
    def mean(self) -> float:
        """Mean of the window; NaN while it is empty."""
        return self._sum / self._width if self._width else math.nan

    def _take(self, value: float) -> bool:
        if self._width:
            gap = value - self._sum / self._width
            self._square += gap * gap * self._width / (self._width + 1)
        self._sizes[0].insert(0, (value, 0.0))
        self._width += 1
        self._sum += value
        self._join()
        return (self.seen + 1) % self.every == 0 and self._width > 2 * self.least and self._shrink()

    def _join(self) -> None:
        """Join the two oldest buckets of each size that has too many."""
        power = 0
        while len(self._sizes[power]) > self.per_size:
            if power + 1 == len(self._sizes):
                self._sizes.append([])
            second, first = self._sizes[power].pop(), self._sizes[power].pop()
            half = float(1 << power)
            gap = (first[0] - second[0]) / half
            self._sizes[power + 1].insert(0, (first[0] + second[0], first[1] + second[1] + gap * gap * half / 2))
            power += 1

    def _shrink(self) -> bool:
        """Drop what lies before the strongest cut, again until none is left; return whether there was one."""
        is_change = False
        while (old := self._strongest_cut()) > 0:
            is_change = True
            end = self._width - old
            while self._width > end:
                self._drop_oldest()
        return is_change

    def _strongest_cut(self) -> int:
        """Return how many of the oldest values differ from the rest, most clearly where several cuts do; 0 for none."""
        if self._width <= 2 * self.least:
            return 0
        found, best = 0, 1.0
        old, old_sum = 0, 0.0
        variance = max(0.0, self._square) / self._width
        doubt = math.log(2 * math.log(self._width) / self.delta)
        for power in range(len(self._sizes) - 1, -1, -1):
            for total, _ in reversed(self._sizes[power]):
                old, old_sum = old + (1 << power), old_sum + total
                new = self._width - old
                if min(old, new) < self.least:
                    continue
                parts = 1 / old + 1 / new
                bound = math.sqrt(2 * parts * variance * doubt) + 2 / 3 * parts * doubt
                times = abs(old_sum / old - (self._sum - old_sum) / new) / bound
                if times > best:
                    found, best = old, times
        return found

    def _drop_oldest(self) -> None:
        power = len(self._sizes) - 1
        total, square = self._sizes[power].pop()
        size = 1 << power
        rest = self._width - size
        gap = total / size - (self._sum - total) / rest
        self._square -= square + gap * gap * size * rest / self._width
        self._width, self._sum = rest, self._sum - total
        while len(self._sizes) > 1 and not self._sizes[-1]:
            self._sizes.pop()


class PageHinkley(_Counting):
    """Page and Hinkley's test: the sum of what lies beyond the mean so far, less what is tolerated.

    Parameters
    ----------
    tolerance : float
        What a value may lie beyond the mean without being counted, in the unit of the stream.
    threshold : float
        How far the sum may rise above its least value, or fall below its greatest.
    least : int
        Values before the first change.
    fading : float
        By what the sum is multiplied at each value.
    direction : {"both", "up", "down"}

    References
    ----------
    Page 1954, Continuous inspection schemes; Mouss et al. 2004 for the test with a mean that is learned.
    """

    def __init__(
        self, *, tolerance: float = 0.005, threshold: float = 50.0, least: int = 30, fading: float = 0.9999,
        direction: str = "both",
    ) -> None:  # fmt: skip
        super().__init__()
        if direction not in ("both", "up", "down"):
            raise InvalidInput(f"direction is {direction!r}", hint='Use "both", "up" or "down".')
        _check("threshold", threshold, 0, math.inf)
        _check("fading", fading, 0, 1)
        self.tolerance, self.threshold, self.least, self.fading = tolerance, threshold, least, fading
        self.direction = direction
        self._forget()

    def _forget(self) -> None:
        self._count, self._mean = 0, 0.0
        self._up = self._down = 0.0
        self._lowest, self._highest = math.inf, -math.inf

    def _take(self, value: float) -> bool:
        self._count += 1
        self._mean += (value - self._mean) / self._count
        away = value - self._mean
        self._up = self.fading * self._up + away - self.tolerance
        self._down = self.fading * self._down + away + self.tolerance
        self._lowest, self._highest = min(self._lowest, self._up), max(self._highest, self._down)
        rose = self._up - self._lowest > self.threshold and self.direction != "down"
        fell = self._highest - self._down > self.threshold and self.direction != "up"
        if self._count < self.least or not (rose or fell):
            return False
        self._forget()
        return True


class Ddm(_Counting):
    """Drift detection method: errors of 0 and 1 whose rate rises far above the lowest it had.

    Parameters
    ----------
    factor : float
        How many standard deviations above the lowest rate are a change.
    warning : float
        How many are a warning; see `is_warning`.
    least : int
        Errors before the first change.

    References
    ----------
    Gama et al. 2004, Learning with drift detection.
    """

    def __init__(self, *, factor: float = 3.0, warning: float = 2.0, least: int = 30) -> None:
        super().__init__()
        _check("factor", factor, 0, math.inf)
        self.factor, self.warning, self.least = factor, warning, least
        self._forget()

    def _forget(self) -> None:
        self._count, self._errors = 0, 0
        self._best, self._best_rate, self._best_spread = math.inf, math.inf, math.inf
        self.is_warning = False

    def _take(self, value: float) -> bool:
        if value not in (0.0, 1.0):
            raise InvalidInput(f"value {self.seen:,} of the stream is {value:g}, neither right (0) nor wrong (1)",
                               hint="Use Adwin or PageHinkley for errors that are not 0 or 1.")  # fmt: skip
        self._count, self._errors = self._count + 1, self._errors + int(value)
        rate = self._errors / self._count
        spread = math.sqrt(rate * (1 - rate) / self._count)
        if self._count <= self.least:
            return False
        if rate + spread <= self._best:
            self._best, self._best_rate, self._best_spread = rate + spread, rate, spread
        self.is_warning = rate + spread > self._best_rate + self.warning * self._best_spread
        if rate + spread <= self._best_rate + self.factor * self._best_spread:
            return False
        self._forget()
        return True


DETECTORS: dict[str, type[_Counting]] = {"adwin": Adwin, "page-hinkley": PageHinkley, "ddm": Ddm}


def find_changes(values: Iterable[float] | Sequence[float], *, detector: str | Detector = "adwin") -> list[int]:
    """Return the positions, from 0, at which the mean of a stream is seen to have changed.

    Parameters
    ----------
    values : array [values]
        As errors of a model, in the order in which they came.
    detector : {"adwin", "page-hinkley", "ddm"} or a detector
        A name, or an object with `update` and `changes`, which goes on from where it is.

    Raises
    ------
    InvalidInput
        No such detector, values of another rank than one, or one that is missing or infinite.
    """
    watcher: Any = detector
    if isinstance(detector, str):
        if detector not in DETECTORS:
            hint = did_you_mean(detector, DETECTORS) or f"Use one of: {', '.join(DETECTORS)}."
            raise InvalidInput(f"no detector '{detector}'", hint=hint)
        watcher = DETECTORS[detector]()
    numbers = np.asarray(values if hasattr(values, "__len__") else list(values))
    if numbers.ndim != 1 or numbers.dtype.kind not in "biuf":
        raise InvalidInput(f"a stream is one row of numbers, not {numbers.dtype} of rank {numbers.ndim}",
                           hint="Pass the errors in the order in which they came: [values].")  # fmt: skip
    begin = len(watcher.changes)
    for value in numbers.tolist():
        watcher.update(value)
    return list(watcher.changes[begin:])


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low < value <= high:
        raise InvalidInput(f"{name} is {value!r}", hint=f"Use a number above {low:g}" + (
            f" and up to {high:g}." if math.isfinite(high) else "."))  # fmt: skip
