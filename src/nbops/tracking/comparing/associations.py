"""How parameters and metrics go together over many runs: rank correlation, and the share that a parameter explains.

Each parameter is judged alone. Nothing here knows about interactions, and an association is no cause.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbops.core.display import Shown

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

MIN_RUNS = 8
MAX_NAMES = 12
METHOD = (
    "Share of the variance of the metric's ranks that one parameter explains alone: Spearman's ρ² for numbers, "
    "η² (one-way) for categories."
)


@dataclass(frozen=True)
class Importance:
    """How much of one metric's ranks one parameter explains alone.

    Attributes
    ----------
    share : float, 0 to 1
        ρ² or η².
    rho : float or None
        Spearman's rank correlation, with its sign; None for a category.
    method : str
        ``"spearman"`` or ``"eta squared"``.
    n : int
        Runs that have both.
    """

    param: str
    metric: str
    share: float
    rho: float | None
    method: str
    n: int


@dataclass(frozen=True)
class Correlation(Shown):
    """Spearman's rank correlation of every pair.

    Attributes
    ----------
    names : tuple of str
        Numeric parameters that differ, then metrics.
    matrix : tuple of tuples of float, [names, names], -1 to 1
        NaN where fewer than `MIN_RUNS` runs have both, or one of them never changes.
    n : int
        Runs that were compared.
    """

    names: tuple[str, ...]
    matrix: tuple[tuple[float, ...], ...]
    n: int

    def __repr__(self) -> str:
        return f"Correlation(Spearman, {self.n} runs, {', '.join(self.names)})"


def ranks(values: Any) -> Floats:
    """Return the ranks of finite numbers, 1 to n; equal values share the mean of theirs."""
    import numpy as np

    _, inverse, counts = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means: Floats = (ends - (counts - 1) / 2)[inverse]
    return means


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Return Spearman's rank correlation of two columns of finite numbers; NaN where one never changes."""
    import numpy as np

    a, b = ranks(x), ranks(y)
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(np.clip(float(a @ b) / scale, -1.0, 1.0)) if scale else math.nan


def eta_squared(groups: Sequence[str], values: Sequence[float]) -> float:
    """Return the share of the variance of the values' ranks that lies between groups (one-way); NaN without any."""
    import numpy as np

    y = ranks(values)
    total = float(((y - y.mean()) ** 2).sum())
    names, inverse = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    if not total or len(names) < 2:
        return math.nan
    sums, counts = np.bincount(inverse, weights=y), np.bincount(inverse)
    between = float((counts * (sums / counts - y.mean()) ** 2).sum())
    return min(1.0, between / total)


def number_of(value: Any) -> float | None:
    """Return a finite number, or None; truth values are categories."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def importance(params: Mapping[str, Sequence[Any]], metric: str, values: Sequence[float]) -> tuple[Importance, ...]:
    """Return what each parameter explains of one metric, most first.

    Parameters
    ----------
    params : mapping of str to sequence [runs]
        None where a run lacks the parameter.
    metric : str
    values : sequence of float [runs]
        NaN where a run lacks the metric.

    Returns
    -------
    tuple of Importance
        Parameters with fewer than `MIN_RUNS` runs, with one value only, or with fewer than two runs for each
        category on average, are left out: they would explain everything or nothing by construction.
    """
    found = []
    for name, column in params.items():
        pairs = [(p, v) for p, v in zip(column, values, strict=True) if p is not None and math.isfinite(v)]
        if len(pairs) < MIN_RUNS:
            continue
        numbers = [number_of(p) for p, _ in pairs]
        metric_values = [v for _, v in pairs]
        if all(x is not None for x in numbers):
            rho = spearman([x for x in numbers if x is not None], metric_values)
            one = Importance(name, metric, rho * rho, rho, "spearman", len(pairs))
        else:
            groups = [str(p) for p, _ in pairs]
            if 2 * len(set(groups)) > len(groups):
                continue
            one = Importance(name, metric, eta_squared(groups, metric_values), None, "eta squared", len(pairs))
        if not math.isnan(one.share):
            found.append(one)
    return tuple(sorted(found, key=lambda item: (-item.share, item.param)))


def correlation(columns: Mapping[str, Sequence[float]]) -> Correlation | None:
    """Return the rank correlation of every pair of columns [runs] (NaN: absent); None for fewer than two columns."""
    names = tuple(columns)[:MAX_NAMES]
    if len(names) < 2:
        return None

    def pair(a: str, b: str) -> float:
        both = [(x, y) for x, y in zip(columns[a], columns[b], strict=True) if math.isfinite(x) and math.isfinite(y)]
        return spearman([x for x, _ in both], [y for _, y in both]) if len(both) >= MIN_RUNS else math.nan

    upper = {(a, b): pair(a, b) for i, a in enumerate(names) for b in names[i:]}
    matrix = tuple(tuple(upper[(a, b)] if (a, b) in upper else upper[(b, a)] for b in names) for a in names)
    return Correlation(names, matrix, len(next(iter(columns.values()))))
