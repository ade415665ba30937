"""The current data counted into what the reference's profile knows: its edges, its values, its missing cells.

After this, both sides of a column are a few dozen numbers. A current profile is counted too, as far as its own
bins tell; what they leave open is placed so that it speaks for no drift.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbops.data.bins import counted
from nbops.data.columns import Array, Column, hashes
from nbops.data.drifting.distances import Counts
from nbops.data.frames import from_array
from nbops.data.objects import from_text
from nbops.data.profiles.numbers import seconds
from nbops.data.profiles.texts import text_lengths
from nbops.data.profiling import MAX_CATEGORIES, value_counts

TOP = 20  # values of free text that a profile keeps
Profile = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Tally:
    """One column of the current data, counted against a reference.

    Attributes
    ----------
    dtype : str
    rows : float
        Rows that are independent of each other: those of the table, for the cells of a tensor too.
    missing, infinite : float
        How many of those rows.
    bins : array [edges + 1] or None
        Counts up to each edge of the reference, and above the last one.
    values : array [known values] or None
        Counts of the values that the reference knows, in its order.
    new : dict
        The commonest values that it does not know, with their counts.
    new_counts : array [new values]
        The counts of all of them, the largest first.
    lengths : array [edges + 1] or None
        Counts of text lengths, as `bins`.
    is_approximate : bool
        True where only a profile of the current data was there.
    """

    dtype: str
    rows: float
    missing: float
    infinite: float = 0.0
    bins: Counts | None = None
    values: Counts | None = None
    new: dict[str, float] = field(default_factory=dict)
    new_counts: Counts = field(default_factory=lambda: np.zeros(0))
    lengths: Counts | None = None
    is_approximate: bool = False

    @property
    def new_rows(self) -> float:
        """Rows with values that the reference does not know."""
        return float(self.new_counts.sum())

    @property
    def new_distinct(self) -> int:
        """How many such values there are."""
        return len(self.new_counts)


def family(dtype: str) -> str:
    """Return what sort of comparison a type allows: number, bool, text, time, duration, tensor, null or other."""
    if dtype.startswith(("int", "uint", "float", "decimal")):
        return "number"
    if dtype.startswith("date"):
        return "time"
    if dtype in ("duration", "time"):
        return "duration"
    return "tensor" if dtype.startswith("tensor") else dtype if dtype in ("bool", "text", "null") else "other"


def known_values(reference: Profile) -> dict[str, int]:
    """Return the values that a profile lists, with their counts: all, or the commonest of free text."""
    listed: dict[str, int] = reference.get("values") or reference.get("top") or reference.get("kinds") or {}
    return listed


def decimal_values(column: Column) -> NDArray[np.float64]:
    """Return decimals, which are kept as their digits, as floats: [rows], NaN where they are missing."""
    offsets = np.zeros(1, np.int64) if column.offsets is None else column.offsets
    digits, ends = column.values.tobytes(), offsets.tolist()
    return np.array([float(digits[a:b] or b"nan") for a, b in pairwise(ends)], np.float64)


def finite_values(column: Column) -> Array:
    """Return the present, finite values of a column, times as seconds since the epoch: [values]."""
    if column.dtype == "decimal":
        column = from_array(column.name, decimal_values(column))
    values = column.values if column.missing is None else column.values[~column.missing]
    values = values.reshape(-1)
    if values.dtype.kind in "mM":
        return seconds(values)
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        return values if finite.all() else values[finite]
    return values


def present_lengths(column: Column) -> NDArray[np.int64]:
    """Return the length in characters of each present text."""
    offsets = np.zeros(column.rows + 1, np.int64) if column.offsets is None else column.offsets
    lengths = text_lengths(column, offsets)
    return lengths if column.missing is None else lengths[~column.missing]


def tally(column: Column, reference: Profile) -> Tally:
    """Return a column counted into the edges and values of the reference's profile of it."""
    kind = family(column.dtype)
    missing: float = column.missing_count
    if kind == "tensor":
        missing *= column.rows / max(1, column.values.size)
    if kind != family(reference["dtype"]):
        return Tally(column.dtype, column.rows, missing)
    if kind in ("text", "bool"):
        return _tally_values(column, reference, missing)
    if kind == "other":
        kinds = known_values(reference)
        values = np.array([column.kinds.get(name, 0) for name in kinds], np.float64) if kinds else None
        others = sorted(column.kinds.items(), key=lambda pair: -pair[1]) if kinds else []
        new = {name: float(count) for name, count in others if name not in kinds}
        return Tally(column.dtype, column.rows, missing, values=values, new=new, new_counts=_descending(new.values()))
    if kind == "null" or "edges" not in reference:
        return Tally(column.dtype, column.rows, missing)
    finite = finite_values(column)
    cells = column.values.size if kind == "tensor" else column.rows
    scale = column.rows / max(1, cells)
    infinite = (cells - column.missing_count - len(finite)) * scale
    bins = counted(*_same_precision(finite, reference)).astype(np.float64) * scale
    return Tally(column.dtype, column.rows, missing, infinite, bins=bins)


def _same_precision(values: Array, reference: Profile) -> tuple[Array, Array]:
    """Return values and edges in the coarser of their two float types, so that 0.1 is 0.1 on both sides."""
    edges = np.asarray(reference["edges"])
    if values.dtype.kind == "f" and len(edges):
        told = reference["dtype"].removeprefix("tensor<").partition(">")[0]
        if told.startswith("float"):
            coarser = min(values.dtype, np.dtype(told), key=lambda dtype: dtype.itemsize)
            with np.errstate(over="ignore"):
                return values.astype(coarser, copy=False), edges.astype(coarser)
    return values, edges


def _tally_values(column: Column, reference: Profile, missing: float) -> Tally:
    counts, new, new_counts = _value_counts(column, list(known_values(reference)))
    lengths = None
    if column.is_text and "values" not in reference and "lengths" in reference:
        lengths = counted(present_lengths(column), reference["lengths"]["edges"]).astype(np.float64)
    return Tally(column.dtype, column.rows, missing, values=counts, new=new, new_counts=new_counts, lengths=lengths)


def _descending(counts: Iterable[float]) -> Counts:
    found: Counts = -np.sort(-np.fromiter(counts, np.float64))
    return found


def _value_counts(column: Column, known: Sequence[str]) -> tuple[Counts, dict[str, float], Counts]:
    """Return the counts of `known` values, and of the others the commonest, and all their counts."""
    few = value_counts(column, limit=MAX_CATEGORIES)
    if few is not None:
        listed = np.array([few.get(value, 0) for value in known], np.float64)
        others = {value: count for value, count in few.items() if value not in set(known)}
        return listed, dict(list(others.items())[:TOP]), _descending(others.values())
    present = np.arange(column.rows) if column.missing is None else np.flatnonzero(~column.missing)
    codes, first, counts = np.unique(hashes(column)[present], return_index=True, return_counts=True)
    wanted = hashes(from_text("", known)) if known else np.zeros(0, np.uint64)
    place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    is_there = codes[place] == wanted
    listed = np.where(is_there, counts[place], 0).astype(np.float64)
    other = np.ones(len(codes), np.bool_)
    other[place[is_there]] = False
    rest = np.flatnonzero(other)
    commonest = rest[np.argsort(-counts[rest], kind="stable")[:TOP]]  # ties in the order of their hashes
    new = {str(column.value(int(present[first[i]]))): int(counts[i]) for i in commonest}
    return listed, dict(sorted(new.items(), key=lambda pair: (-pair[1], pair[0]))), _descending(counts[rest])


def tally_profile(current: Profile, rows: int, reference: Profile) -> Tally:
    """Return a column of which only a profile is there, counted into the reference's edges and values."""
    dtype, kind = current["dtype"], family(current["dtype"])
    scale = rows / max(1, current["cells"]) if kind == "tensor" else 1.0
    missing, infinite = current["missing"] * scale, (current.get("infinite") or 0) * scale
    plain = Tally(dtype, rows, missing, infinite, is_approximate=True)
    if kind != family(reference["dtype"]):
        return plain
    if kind in ("text", "bool", "other"):
        return _profile_values(current, reference, plain)
    if "edges" in current and "edges" in reference:
        bins = rebinned(current["edges"], current["counts"], reference["edges"], reference["counts"]) * scale
        return Tally(dtype, rows, missing, infinite, bins=bins, is_approximate=True)
    return plain


def _profile_values(current: Profile, reference: Profile, plain: Tally) -> Tally:
    known, listed = known_values(reference), known_values(current)
    present = plain.rows - plain.missing
    total = max(1, sum(known.values()) if "top" not in reference else _present_of(reference))
    # a value that the current profile does not list is rarer than those that it lists, or not there at all
    most = min(listed.values(), default=0) if "top" in current else 0
    values = [listed.get(value, min(most, count / total * present)) for value, count in known.items()]
    new = {value: float(count) for value, count in listed.items() if value not in known}
    lengths = None
    if "values" not in reference and "lengths" in reference and "lengths" in current:
        theirs, ours = reference["lengths"], current["lengths"]
        lengths = rebinned(ours["edges"], ours["counts"], theirs["edges"], theirs["counts"])
    counts = [*new.values()]
    if "top" in current:  # of the others only their number is known: they are taken to be equally common
        others = max(0, current["distinct"] - len(new) - sum(value in listed for value in known))
        counts += [max(0.0, present - sum(values) - sum(counts)) / others] * others if others else []
    return Tally(plain.dtype, plain.rows, plain.missing, values=np.array(values, np.float64),
                 new=dict(list(new.items())[:TOP]), new_counts=_descending(counts), lengths=lengths,
                 is_approximate=True)  # fmt: skip


def _present_of(reference: Profile) -> int:
    """Return how many texts a profile saw, from their lengths; a profile of free text has them."""
    return int(sum(reference["lengths"]["counts"])) if "lengths" in reference else sum(known_values(reference).values())


def rebinned(
    edges: Sequence[float], counts: Sequence[float], other: Sequence[float], expected: Sequence[float]
) -> Counts:
    """Return counts in ``(…, edge]`` bins counted into `other` edges: [len(other) + 1].

    Where one of the other edges cuts a bin, the bin is divided as near to the shares of `expected` (the counts
    in the other edges) as the bin allows: what is not known is no drift.
    """
    if not len(edges):
        return np.zeros(len(other) + 1)
    upto = np.concatenate(([0.0], np.cumsum(np.asarray(counts, dtype=np.float64))))
    at = np.asarray(other)
    least = upto[np.searchsorted(np.asarray(edges), at, side="right")]
    first_above = np.searchsorted(np.asarray(edges), at, side="left")
    most = np.where(at < edges[0], 0.0, upto[np.minimum(first_above + 1, len(edges))])
    wanted = np.cumsum(np.asarray(expected, dtype=np.float64)) / max(1.0, float(np.sum(expected))) * upto[-1]
    below = np.clip(wanted, least, np.maximum(least, most))
    return np.diff(below, prepend=0.0, append=upto[-1])
