"""The strata of a split: the values of some columns, and the deciles of numbers with many values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nbops.core.errors import InvalidInput
from nbops.data.columns import Column
from nbops.data.objects import from_text
from nbops.data.splits.identity import identities, salted
from nbops.data.splits.sides import Strata

MOST_VALUES = 200  # of a column that is taken as it is
_BINS = 10


def read_strata(columns: Sequence[Column], *, salt: str) -> Strata | None:
    """Return the strata of some columns, None for no columns.

    Missing cells are a value of their own.

    Raises
    ------
    InvalidInput
        Cells of higher rank; text or dates with more than 200 values.
    """
    if not columns:
        return None
    codes, names = _values(columns[0])
    for column in columns[1:]:
        more, others = _values(column)
        pairs, codes = np.unique(codes * len(others) + more, return_inverse=True)
        names = [f"{names[pair // len(others)]}, {others[pair % len(others)]}" for pair in pairs.tolist()]
    draws = salted(identities([from_text("names", names)], len(names)), f"{salt}/strata") / 2.0**64
    return Strata(codes, names, draws)


def _values(column: Column) -> tuple[NDArray[np.intp], list[str]]:
    if column.is_tensor:
        raise InvalidInput(f"cannot stratify by '{column.name}': it is {column.dtype}", hint="Name a plain column.")
    ids, first, codes = np.unique(identities([column], column.rows), return_index=True, return_inverse=True)
    if len(ids) > MOST_VALUES:
        if column.is_number:
            return _deciles(column)
        raise InvalidInput(f"cannot stratify by '{column.name}': it has {len(ids):,} values",
                           hint=f"Name a column with at most {MOST_VALUES} values, or join rare ones.")  # fmt: skip
    values = [column.value(row) for row in first.tolist()]
    order = sorted(range(len(values)), key=lambda i: (values[i] is None, _rank(values[i])))
    place = np.empty(len(order), np.intp)
    place[order] = np.arange(len(order))
    return place[codes], ["missing" if values[i] is None else str(values[i])[:60] for i in order]


def _rank(value: object) -> tuple[float, str]:
    return (float(value), "") if isinstance(value, int | float) else (0.0, str(value))


def _deciles(column: Column) -> tuple[NDArray[np.intp], list[str]]:
    gone = np.zeros(column.rows, np.bool_) if column.missing is None else column.missing
    present = np.sort(column.values[~gone])
    edges = np.unique(present[np.arange(1, _BINS) * len(present) // _BINS])
    codes = np.searchsorted(edges, column.values, side="right")
    names = [f"below {edge:.6g}" for edge in edges.tolist()] + [f"from {edges[-1]:.6g}"]
    codes[gone] = len(names)
    return codes, [*names, "missing"] if gone.any() else names
