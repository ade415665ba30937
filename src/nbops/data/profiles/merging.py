"""One profile of two partitions from theirs: exact where counts add, and said to be approximate where they do not.

Moments are put together by the formulas of Chan, Golub and LeVeque (1979), the third and fourth by those of Pébay
(Sandia report SAND2008-6212).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from nbops.core.errors import InvalidInput
from nbops.data.bins import BINS
from nbops.data.profiles.numbers import QUANTILES
from nbops.data.profiles.texts import MAX_CATEGORIES, TOP

Figures = Mapping[str, Any]


def merged(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Return the profile of the rows of `a` and those of `b`.

    Associations and duplicate rows between the two cannot be told and are left out.

    Raises
    ------
    InvalidInput
        The two have other columns, or a column of another type.
    """
    other = sorted(set(a["columns"]) ^ set(b["columns"]))
    if other:
        raise InvalidInput(
            f"only one of the two profiles has the column '{other[0]}'", hint="Merge partitions of one table."
        )
    columns = {name: _column(name, one, b["columns"][name], a, b) for name, one in a["columns"].items()}
    return {"rows": a["rows"] + b["rows"], "label": a["label"], "columns": columns}


def _column(name: str, a: Figures, b: Figures, whole_a: Figures, whole_b: Figures) -> dict[str, Any]:
    dtypes = {a["dtype"], b["dtype"]} - {"null"}
    if len(dtypes) > 1:
        raise InvalidInput(f"column '{name}' is {a['dtype']} in one profile and {b['dtype']} in the other",
                           hint="Convert it to one type before profiling.")  # fmt: skip
    if a["dtype"] == "null" or b["dtype"] == "null":
        known, empty = (b, a) if a["dtype"] == "null" else (a, b)
        return {**known, "missing": known["missing"] + empty["missing"]}
    dtype = a["dtype"]
    rough = {*a.get("approximate", ()), *b.get("approximate", ())}
    found: dict[str, Any] = {"dtype": dtype, "missing": a["missing"] + b["missing"]}
    if "cells" in a:
        found["cells"] = a["cells"] + b["cells"]
    found |= _distinct(a, b, rough)
    found |= _values(a, b, rough, found["distinct"])
    found |= _extremes(a, b)
    if "mean" in a:
        found |= _moments(a, b, _finite(a, whole_a["rows"]), _finite(b, whole_b["rows"]))
    for key in ("infinite", "zeros", "negative"):
        if key in a and key in b:
            found[key] = a[key] + b[key]
    if "edges" in a:
        found["edges"], found["counts"], is_exact = _bins(a, b)
        rough |= set() if is_exact else {"edges"}
        if "quantiles" in a:
            found["quantiles"] = _quantiles(found["edges"], found["counts"])
            rough.add("quantiles")
    if "lengths" in a:
        found |= _lengths(a, b, rough, _present(a, whole_a["rows"]), _present(b, whole_b["rows"]))
    kinds = {kind: a.get("kinds", {}).get(kind, 0) + b.get("kinds", {}).get(kind, 0)
             for kind in [*a.get("kinds", {}), *b.get("kinds", {})]}  # fmt: skip
    found |= {"kinds": kinds} if kinds else {}
    if a.get("meaning", {}).get("type") == b.get("meaning", {}).get("type") and "meaning" in a:
        found["meaning"] = a["meaning"]
    return found | ({"approximate": sorted(rough)} if rough else {})


def _present(figures: Figures, rows: int) -> int:
    return int(figures.get("cells", rows) - figures["missing"])


def _finite(figures: Figures, rows: int) -> int:
    return _present(figures, rows) - int(figures.get("infinite", 0))


def _distinct(a: Figures, b: Figures, rough: set[str]) -> dict[str, Any]:
    """Return how many distinct values there are: exact by name, or where ranges do not meet; else at least so many."""
    exact = bool(a["distinct_exact"] and b["distinct_exact"])
    if "values" in a and "values" in b:
        return {"distinct": len({**a["values"], **b["values"]}), "distinct_exact": exact}
    infinite = a.get("infinite") or b.get("infinite")
    if (
        a.get("edges")
        and b.get("edges")
        and not infinite
        and (a["edges"][-1] < b["edges"][0] or b["edges"][-1] < a["edges"][0])
    ):
        return {"distinct": a["distinct"] + b["distinct"], "distinct_exact": exact}
    rough.add("distinct")
    return {"distinct": max(a["distinct"], b["distinct"]), "distinct_exact": False}


def _values(a: Figures, b: Figures, rough: set[str], distinct: int) -> dict[str, Any]:
    counts: dict[Any, int] = {}
    for side in (a, b):
        for value, count in (side.get("values") or side.get("top") or {}).items():
            counts[value] = counts.get(value, 0) + count
    found: dict[str, Any] = {}
    ordered = dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
    if "top" in a or "top" in b:
        rough.add("top")
    if "values" in a and "values" in b and distinct <= MAX_CATEGORIES:
        found["values"] = ordered
    elif any(key in side for side in (a, b) for key in ("values", "top")):
        found["top"] = dict(list(ordered.items())[:TOP])
    if "common" in a:
        numbers: dict[float, int] = {}
        for number, count in [*a["common"], *b["common"]]:
            numbers[number] = numbers.get(number, 0) + count
        found["common"] = [[n, c] for n, c in sorted(numbers.items(), key=lambda pair: (-pair[1], pair[0]))[:5]]
        rough.add("common")
    return found


def _extremes(a: Figures, b: Figures) -> dict[str, Any]:
    found = {}
    for key, choose, place in (("min", min, 0), ("max", max, -1)):
        if key not in a and key not in b:
            continue
        there = [side for side in (a, b) if side.get(key) is not None]
        if all(side.get("edges") for side in there):  # times by their seconds: their text does not sort
            found[key] = choose(there, key=lambda side: side["edges"][place])[key] if there else None
        else:
            found[key] = choose(side[key] for side in there) if there else None
    return found


def _moments(a: Figures, b: Figures, n: int, m: int) -> dict[str, float | None]:
    names = [name for name in ("mean", "std", "skew", "kurtosis") if name in a]
    if not n or not m or any(side["std"] is None for side in (a, b)):
        return {name: (a if n else b)[name] if not n or not m else None for name in names}
    rows, step = n + m, b["mean"] - a["mean"]
    away = step / rows
    (a2, a3, a4), (b2, b3, b4) = _central(a, n), _central(b, m)
    second = a2 + b2 + step * away * n * m
    third = a3 + b3 + step * away * away * n * m * (n - m) + 3 * away * (n * b2 - m * a2)
    fourth = (a4 + b4 + step * away**3 * n * m * (n * n - n * m + m * m) + 6 * away**2 * (n * n * b2 + m * m * a2)
              + 4 * away * (n * b3 - m * a3))  # fmt: skip
    mean = a["mean"] + away * m
    std = math.sqrt(max(second, 0.0) / rows)
    if not std:
        return dict.fromkeys(names) | {"mean": mean, "std": 0.0}
    found = {"mean": mean, "std": std, "skew": third / rows / std**3, "kurtosis": fourth / rows / std**4 - 3}
    return {name: found[name] for name in names}


def _central(figures: Figures, rows: int) -> tuple[float, float, float]:
    """Return the sums of the second, third and fourth powers of the distances from the mean."""
    std = figures["std"]
    third, fourth = figures.get("skew") or 0.0, (figures.get("kurtosis") or 0.0) + 3
    return rows * std**2, rows * third * std**3, rows * fourth * std**4 if std else 0.0


def _bins(a: Figures, b: Figures) -> tuple[list[float], list[int], bool]:
    """Return the bins of both on the edges of the first, drawn out to hold the second's extremes."""
    if not a["edges"] or not b["edges"]:
        side = a if a["edges"] else b
        return list(side["edges"]), list(side["counts"]), True
    if a["edges"] == b["edges"]:
        return list(a["edges"]), [x + y for x, y in zip(a["counts"], b["counts"], strict=True)], True
    edges = sorted({*a["edges"], b["edges"][0], b["edges"][-1]})
    total = _upto(a["edges"], a["counts"], edges) + _upto(b["edges"], b["counts"], edges)
    counts = np.diff(np.round(total), prepend=0).astype(np.int64).tolist()
    while len(edges) > BINS + 1:  # the two neighbours that hold least become one
        least = min(range(1, len(edges) - 1), key=lambda i: (counts[i] + counts[i + 1], i))
        joined = counts.pop(least)
        counts[least] += joined
        edges.pop(least)
    return edges, counts, False


def _upto(edges: list[float], counts: list[int], limits: list[float]) -> Any:
    """Return about how many values are at most each limit, evenly spread within a bin."""
    return np.interp(limits, edges, np.cumsum(counts), left=0.0)


def _quantiles(edges: list[float], counts: list[int]) -> dict[str, float]:
    if not edges:
        return {}
    total = np.cumsum(counts)
    places = np.array(QUANTILES) * total[-1]
    return {str(q): float(v) for q, v in zip(QUANTILES, np.interp(places, total, edges), strict=True)}


def _lengths(a: Figures, b: Figures, rough: set[str], n: int, m: int) -> dict[str, Any]:
    edges, counts, is_exact = _bins(a["lengths"], b["lengths"])
    rough |= set() if is_exact else {"lengths"}
    bounds = [[side[key] for side in (a, b) if side[key] is not None] for key in ("min_length", "max_length")]
    total = n * (a["mean_length"] or 0.0) + m * (b["mean_length"] or 0.0)
    return {
        "min_length": min(bounds[0], default=None), "max_length": max(bounds[1], default=None),
        "mean_length": total / (n + m) if n + m else None, "lengths": {"edges": edges, "counts": counts},
    }  # fmt: skip
