"""Histograms to look at: both sides of a column over the same bins or values. Bars are made when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nbops.data.drifting.counting import Profile, Tally, known_values

BARS = 16
_VALUES_SHOWN = 7


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram: what it counts, and its share of the reference's and of the current rows."""

    label: str
    reference: float
    current: float


@dataclass(frozen=True)
class Histogram:
    """Counts of both sides up to each edge, and above the last one."""

    kind: str
    edges: Sequence[float]
    reference: Sequence[float]
    current: Sequence[float]

    def bars(self) -> tuple[Bar, ...]:
        """Return bars of equal width over the middle of the reference; the outermost hold what lies beyond.

        Few edges have a bar each. Within a bin of the profile, values are taken to be evenly spread.
        """
        told = [np.asarray(side, dtype=np.float64) / sum(side) for side in (self.reference, self.current)]
        if len(self.edges) <= BARS:
            names = [value_text(self.kind, edge) for edge in self.edges]
            found = [Bar(name, float(p), float(q)) for name, p, q in zip(names, *told, strict=False)]
            above = Bar(f"above {names[-1]}", float(told[0][-1]), float(told[1][-1]))
            return (*found, above) if above.current else tuple(found)
        at = np.asarray(self.edges, dtype=np.float64)
        scale = float(np.abs(at).max()) or 1.0
        at = at / scale  # so that no difference can overflow
        marks = np.linspace(at[1], at[-2], BARS + 1)
        inner = [np.interp(marks[1:-1], at, np.cumsum(side)[: len(at)]) for side in told]
        parts = [np.diff(np.concatenate(([0.0], side, [1.0]))) for side in inner]
        names = [
            f"{value_text(self.kind, a * scale)} to {value_text(self.kind, b * scale)}" for a, b in pairwise(marks)
        ]
        return tuple(Bar(name, float(p), float(q)) for name, p, q in zip(names, *parts, strict=True))


def value_text(kind: str, value: float) -> str:
    """Return an edge as text: a date where the column has times, else a number."""
    if kind == "time":
        whole = f"{np.datetime64(round(value), 's')}"
        return whole.removesuffix("T00:00:00").replace("T", " ")
    return f"{value:.4g}" + (" s" if kind == "duration" else "")


def bars_of_values(reference: Profile, tally: Tally, rows: int) -> tuple[Bar, ...]:
    """Return a bar for each of the commonest values, one for the other known ones, and one for new ones."""
    known = list(known_values(reference).items())
    if tally.values is None:
        return ()
    before = float(rows - reference["missing"]) or 1.0
    now = float(tally.values.sum() + tally.new_rows) or 1.0
    found = [
        Bar(value, count / before, float(current) / now)
        for (value, count), current in zip(known[:_VALUES_SHOWN], tally.values, strict=False)
    ]
    rest = Bar("other", max(0.0, 1 - sum(bar.reference for bar in found)),
               float(tally.values[_VALUES_SHOWN:].sum()) / now)  # fmt: skip
    new = [Bar("new", 0.0, tally.new_rows / now)] if tally.new_rows else []
    if "top" in reference and "values" not in reference:
        rest, new = Bar("other", rest.reference, rest.current + tally.new_rows / now), []
    return (*found, *([rest] if rest.reference > 1e-9 or rest.current else []), *new)
