"""What changed about a column, in words: read off the same counts as the tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbops.data.drifting.bars import value_text
from nbops.data.drifting.distances import Counts, shares
from nbops.data.leaf import percent

_LONGEST = 60  # characters of a value in a sentence


def quoted(value: str) -> str:
    """Return a value in quotes, the middle of a long one left out."""
    return f"'{value}'" if len(value) <= _LONGEST else f"'{value[: _LONGEST // 2]}…{value[-_LONGEST // 2 :]}'"


def moved(
    edges: Sequence[float], counts: Counts, shift: float, *, words: tuple[str, str] = ("higher", "lower")
) -> str:  # fmt: skip
    """Return where the current values lie beside the middle of the reference."""
    upto = np.cumsum(shares(counts), axis=1)
    middle = min(int(np.searchsorted(upto[0], 0.5)), len(edges) - 1)
    before, now = 1 - upto[:, middle]
    if shift < 0:
        before, now = upto[:, max(0, middle - 1)]
    side = "above" if shift >= 0 else "below"
    start = "values are " if words == ("higher", "lower") else ""
    return f"{start}{words[shift < 0]}: {percent(now)} lie {side} the reference's middle, {percent(before)} before"


def spread_out(counts: Counts, spread: float) -> str:
    """Return how much lies outside the middle half of the reference."""
    upto = np.cumsum(shares(counts), axis=1)
    low, high = np.searchsorted(upto[0], (0.25, 0.75))
    before, now = (upto[row, low] + 1 - upto[row, min(high, upto.shape[1] - 1)] for row in (0, 1))
    word = "further apart" if spread >= 0 else "closer together"
    return f"values are {word}: {percent(now)} lie outside the reference's middle half, {percent(before)} before"


def of_kind(kind: str, edges: Sequence[float], counts: Counts, *, is_one: bool = False) -> str:
    """Return the edge at which the distribution functions differ most, or the one value whose share changed most."""
    told = shares(counts)
    if is_one:
        at = int(np.abs(told[1] - told[0]).argmax())
        name = value_text(kind, edges[at]) if at < len(edges) else f"above {value_text(kind, edges[-1])}"
        return f"{name}: {percent(told[1, at])} of the values, {percent(told[0, at])} before"
    upto = np.cumsum(told, axis=1)
    at = min(int(np.abs(upto[1] - upto[0]).argmax()), len(edges) - 1)
    return (
        f"{percent(upto[1, at])} of the values are at most {value_text(kind, edges[at])}, {percent(upto[0, at])} before"
    )
