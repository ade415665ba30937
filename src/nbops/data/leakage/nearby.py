"""Rows that are nearly the same: numbers within a small distance in every column, texts that differ in writing only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nbops.data.columns import Array, Column, Frame, Hashes, Mask, mixed
from nbops.data.splits.identity import found_in, identities
from nbops.data.splits.proving import spread_of

LONG_TEXT = 20  # characters on average: a text column, not a set of categories
_DIRECTIONS = 4
_GRIDS = 4  # each shifted: a pair at the largest distance is missed by all four in 3 of 100 cases
_CELL = 8  # sizes of the largest distance
_MOST = 64  # rows of one cell that are compared


@dataclass(frozen=True, eq=False)
class Near:
    """What was found: which test rows have a near twin in train, and how many would by chance [share]."""

    rows: Mask
    expected: float


def near_numbers(train: Frame, test: Frame, names: list[str], *, distance: float) -> Near | None:
    """Find test rows whose numbers all lie within `distance` standard deviations of a train row's, and are not equal.

    Other columns of `names` must be equal. None if there are no two columns of numbers. Chance is estimated as if
    columns were independent.
    """
    numeric, other = _sorts(train, test, names)
    if len(numeric) < 2:
        return None
    scale, rows = _scales(train, numeric), min(train.rows, 1000)
    if len(scale) < 2:
        return None
    a, b = (np.stack([_filled(frame.column(name)) / width for name, width in scale.items()], axis=1)
            for frame in (train, test))  # fmt: skip
    chance = 1.0
    for column in range(a.shape[1]):
        some = np.sort(a[:: max(1, len(a) // rows), column])
        near = np.searchsorted(some, some + distance, "right") - np.searchsorted(some, some - distance, "left")
        chance *= float(np.mean(near - 1)) / max(len(some) - 1, 1) + 1 / len(some) ** 2
    keys = [_exact(frame, [*other, *(name for name in numeric if name not in scale)]) for frame in (train, test)]
    for name in other:
        _, counts = np.unique(identities([train.column(name)], train.rows), return_counts=True)
        chance *= float(((counts / train.rows) ** 2).sum())
    return Near(_close(a, b, keys[0], keys[1], distance), chance * train.rows)


def near_texts(train: Frame, test: Frame, names: list[str]) -> Mask | None:
    """Find test rows whose long texts have the letters and digits of a train row's, but are not equal.

    None if there is no column of long texts. Columns other than texts are not compared.
    """
    long = [name for name in names if train.column(name).is_text and test.column(name).is_text
            and len(train.column(name).values) >= LONG_TEXT * max(train.rows, 1)]  # fmt: skip
    if not long:
        return None
    plain = [
        spread_of(identities([letters_only(frame.column(name)) for name in long], frame.rows))
        for frame in (train, test)
    ]
    exact = [spread_of(identities([frame.column(name) for name in long], frame.rows)) for frame in (train, test)]
    return found_in(plain[1], plain[0]) & ~found_in(exact[1], exact[0])


def letters_only(column: Column) -> Column:
    """Return texts without anything but letters and digits, in lower case; other alphabets stay as they are."""
    assert column.offsets is not None  # noqa: S101 (a text column has them)
    keep = np.arange(256, dtype=np.uint8)
    keep[ord("A") : ord("Z") + 1] += 32
    is_kept = np.array([chr(i).isalnum() or i > 127 for i in range(128)] + [True] * 128)
    kept = is_kept[column.values]
    through = np.zeros(len(kept) + 1, np.int64)
    np.cumsum(kept, out=through[1:])
    return Column(column.name, "text", keep[column.values[kept]], column.missing, through[column.offsets])


def _sorts(train: Frame, test: Frame, names: list[str]) -> tuple[list[str], list[str]]:
    pairs = [(name, train.column(name), test.column(name)) for name in names]
    plain = [(name, a, b) for name, a, b in pairs if not (a.is_tensor or b.is_tensor)]
    numeric = [name for name, a, b in plain if a.is_number and b.is_number]
    return numeric, [name for name, _, _ in plain if name not in numeric]


def _scales(train: Frame, names: list[str]) -> dict[str, float]:
    """Return the width of each column that varies: that of its middle half, but between a fifth and all of its spread.

    A few large values make the standard deviation large, many equal ones make the middle half narrow.
    """
    found = {}
    for name in names:
        values = _filled(train.column(name))
        low, high = np.quantile(values, (0.25, 0.75)) if len(values) else (0.0, 0.0)
        spread = float(values.std())
        width = min(spread, max(float(high - low) / 1.349, spread / 5))
        if np.isfinite(width) and width > 0:
            found[name] = width
    return found


def _filled(column: Column) -> Array:
    values = column.values.astype(np.float64)
    bad = ~np.isfinite(values)
    if column.missing is not None:
        bad |= column.missing
    return np.where(bad, 0.0, values)


def _exact(frame: Frame, names: list[str]) -> Hashes:
    return identities([frame.column(name) for name in names], frame.rows)


def _close(a: Array, b: Array, a_key: Hashes, b_key: Hashes, distance: float) -> Mask:
    """Return which rows of `b` have one in `a` within `distance` in every column but not equal, and an equal key."""
    random = np.random.default_rng(0)  # fixed: the same rows give the same answer
    directions = random.normal(size=(a.shape[1], min(_DIRECTIONS, a.shape[1])))
    directions /= np.sqrt((directions**2).sum(axis=0))
    lines = [side @ directions / (_CELL * distance) for side in (a, b)]
    found = np.zeros(len(b), np.bool_)
    for _ in range(_GRIDS):
        shift = random.random(directions.shape[1])
        cells = [_cell(line + shift, key) for line, key in ((lines[0], a_key), (lines[1], b_key))]
        order = np.argsort(cells[0], kind="stable")
        ordered = cells[0][order]
        first, last = (np.searchsorted(ordered, cells[1], side) for side in ("left", "right"))
        for step in range(min(int((last - first).max(initial=0)), _MOST)):
            rows = np.flatnonzero((first + step < last) & ~found)
            twins = order[first[rows] + step]
            apart = np.abs(b[rows] - a[twins])
            found[rows] |= (apart <= distance).all(axis=1) & (apart > 0).any(axis=1)
    return found


def _cell(line: Array, key: Hashes) -> NDArray[np.uint64]:
    total = key.copy()
    for column in np.floor(line).astype(np.int64).T:
        total = mixed(total) + np.ascontiguousarray(column).view(np.uint64)
    return mixed(total)
