"""A profile of each column: enough to describe a dataset and to check or compare later data against it.

Deterministic: the same data gives the same profile, in any order of pieces, threads or rows. Figures are exact up to
`EXACT_VALUES` values a column; above, ``approximate`` names those that are not.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from nbops.data.columns import Column, Frame
from nbops.data.profiles.counting import EXACT_VALUES
from nbops.data.profiles.meaning import told_meaning
from nbops.data.profiles.passing import Passed, pass_over
from nbops.data.profiles.texts import MAX_CATEGORIES, value_counts

__all__ = ["EXACT_VALUES", "MAX_CATEGORIES", "profile_column", "profile_frame", "value_counts"]

T = TypeVar("T")
_THREADED_CELLS = 1 << 18  # below, starting threads takes longer than it saves
_MAX_THREADS = 4


def profile_frame(frame: Frame) -> dict[str, Any]:
    """Return ``{"rows": …, "label": …, "columns": {name: profile}}`` of plain values that can be stored.

    Each column has ``dtype``, ``missing``, ``distinct``, ``distinct_exact`` and ``meaning``, a guess at its values.

    - Numbers, over the finite ones: ``min``, ``max``, ``mean``, ``std``, ``skew``, ``kurtosis`` (None if there are
      none); ``zeros``, ``negative``, ``infinite`` (counts); ``quantiles``, by their share as text; ``edges`` and
      ``counts``, as `nbops.data.bins.quantile_bins` returns them; ``common``, the commonest numbers with their counts.
      Decimals are counted as float64.
    - Text and bool: ``values``, the count of each; where there are more than 200, ``top``, of the 20 commonest.
      Text also ``min_length``, ``max_length``, ``mean_length`` and ``lengths`` (edges and counts), in characters.
    - Dates, datetimes, durations: ``min`` and ``max`` as ISO text; ``edges`` and ``counts`` in seconds (since 1970).
    - ``approximate``, where it stands, names the figures that are not exact.
    """
    done = in_threads(profile_column, frame.columns, is_worth_it=is_large(frame))
    return {"rows": frame.rows, "label": frame.label, "columns": dict(zip(frame.names, done, strict=True))}


def profile_column(column: Column) -> dict[str, Any]:
    """Return the profile of one column; see `profile_frame`."""
    return with_meaning(column.name, column.rows, pass_over(lambda: [column], column.rows))


def with_meaning(name: str, rows: int, passed: Passed) -> dict[str, Any]:
    """Return the figures of a column with what its values mean, where that can be told."""
    meaning = told_meaning(name, passed.figures, passed.texts, rows=rows)
    return passed.figures | ({"meaning": meaning} if meaning else {})


def is_large(frame: Frame) -> bool:
    """Tell whether threads would save time on a frame."""
    return frame.rows * len(frame.columns) > _THREADED_CELLS


def in_threads(work: Callable[[Any], T], items: Any, *, is_worth_it: bool) -> list[T]:
    """Return ``work(item)`` of each item, in order; NumPy sorts and hashes outside Python's lock."""
    workers = min(os.cpu_count() or 1, _MAX_THREADS)
    if not is_worth_it or workers < 2 or len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(workers, thread_name_prefix="nbops-profile") as pool:
        return list(pool.map(work, items))
