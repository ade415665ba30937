"""From values to pixels: round ticks, linear and logarithmic axes, and thinning that loses no extreme."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

Array = Any  # numpy.ndarray; numpy is imported at first use


@dataclass(frozen=True)
class Axis:
    """Values `low` to `high` on pixels `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: Any) -> Any:
        """Return the pixel of a value, or an array of pixels."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        if self.log:
            import numpy as np

            value = np.log10(value)
        return self.start + (value - low) / ((high - low) or 1.0) * (self.end - self.start)

    def ticks(self, count: int) -> list[float]:
        """Return about `count` round values within the axis."""
        if not self.log:
            return round_ticks(self.low, self.high, count)
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        stride = max(1, math.ceil((last - first + 1) / count))
        return [float(10.0**power) for power in range(first, last + 1, stride)]


def axis(low: float, high: float, start: float, end: float, *, log: bool = False) -> Axis:
    """Return an axis that holds `low` to `high`; a single value gets room on both sides."""
    if log:
        return Axis(low, high if high > low else low * 10, start, end, True)
    if not high > low:
        room = abs(low) * 0.1 or 1.0
        low, high = low - room, low + room
    return Axis(low, high, start, end)


def round_ticks(low: float, high: float, count: int) -> list[float]:
    """Return round numbers (1, 2 or 5 times a power of ten apart) from `low` to `high`."""
    rough = (high - low) / max(1, count - 1)
    if not math.isfinite(rough) or rough <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    stride = next(power * step for step in (1, 2, 5, 10) if power * step >= rough * 0.999)
    first = math.ceil(low / stride - 1e-9)
    last = math.floor(high / stride + 1e-9)
    return [float(f"{i * stride:.12g}") for i in range(first, last + 1)]


def wants_log(values: Array) -> bool:
    """Return whether positive values span more than three powers of ten."""
    import numpy as np

    finite = values[np.isfinite(values)]
    return bool(finite.size > 1 and finite.min() > 0 and finite.max() / finite.min() > 1000)


def thin(steps: Array, values: Array, count: int) -> tuple[Array, Array]:
    """Return at most 2 × `count` + 2 points: the least and the greatest value of each of `count` columns, and the ends.

    Parameters
    ----------
    steps, values : arrays [n], finite, steps ascending
    count : int
        Pixel columns.
    """
    import numpy as np

    if len(steps) <= 2 * count:
        return steps, values
    span = float(steps[-1] - steps[0]) or 1.0
    bucket = np.minimum(((steps - steps[0]) / span * count).astype(np.int64), count - 1)
    edges = np.flatnonzero(np.diff(bucket)) + 1
    starts, ends = np.concatenate(([0], edges)), np.concatenate((edges, [len(steps)]))
    keep = {0, len(steps) - 1}
    for begin, end in zip(starts.tolist(), ends.tolist(), strict=True):
        part = values[begin:end]
        keep.add(begin + int(part.argmin()))
        keep.add(begin + int(part.argmax()))
    order = np.array(sorted(keep))
    return steps[order], values[order]


def clean(steps: Any, values: Any) -> tuple[Array, Array, int | None]:
    """Return steps in ascending order with their values, and the step of the first value that is not finite."""
    import numpy as np

    x = np.asarray(steps, dtype=np.float64)
    y = np.asarray(values, dtype=np.float64)
    length = min(len(x), len(y))
    x, y = x[:length], y[:length]
    if bool((x[1:] < x[:-1]).any()):
        order = np.argsort(x, kind="stable")
        x, y = x[order], y[order]
    bad = np.flatnonzero(~np.isfinite(y))
    return x, y, int(x[bad[0]]) if bad.size else None
