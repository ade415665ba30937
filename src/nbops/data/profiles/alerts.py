"""What stands out in a profile, in words: worst first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nbops.data.profiles.association import pairs

MOSTLY = 0.5
SOME_MISSING = 0.05
DOMINANT = 0.9
STRONG = 0.95
SKEWED = 5.0
MANY_VALUES = 1000
REPEATED = 0.01
_ORDER = ("empty", "constant", "mixed-types", "infinite", "mostly-missing", "duplicate-rows", "stored-as-text",
          "correlated", "dominant-value", "missing", "high-cardinality", "skewed")  # fmt: skip


@dataclass(frozen=True)
class Alert:
    """One thing that stands out.

    Attributes
    ----------
    kind : str
        ``constant``, ``mostly-missing``, ``correlated`` …
    column : str
        Name of the column; empty for the whole table.
    text : str
        What it is, with the figures.
    """

    kind: str
    column: str
    text: str


def alerts_of(profile: Mapping[str, Any]) -> list[Alert]:
    """Return what stands out in a profile."""
    found = list(_of_table(profile))
    for name, figures in profile["columns"].items():
        found += [Alert(kind, name, text) for kind, text in _of_column(figures, profile["rows"])]
    return sorted(found, key=lambda alert: _ORDER.index(alert.kind))


def _of_table(profile: Mapping[str, Any]) -> Iterator[Alert]:
    rows = profile["rows"]
    if not rows:
        yield Alert("empty", "", "the table has no rows")
    repeated = profile.get("duplicate_rows") or 0
    if rows and repeated / rows >= REPEATED:
        yield Alert("duplicate-rows", "", f"{repeated:,} rows repeat an earlier one ({_percent(repeated / rows)})")
    found = profile.get("associations") or {}
    told: set[tuple[str, str]] = set()
    for method, word in (("pearson", "Pearson"), ("spearman", "Spearman"), ("cramers_v", "Cramér's V")):
        for left, right, value in pairs(found, method):
            if abs(value) >= STRONG and (left, right) not in told:
                told.add((left, right))
                yield Alert("correlated", left, f"goes with '{right}' ({word} {value:.3g})")


def _of_column(figures: Mapping[str, Any], rows: int) -> Iterator[tuple[str, str]]:
    cells = figures.get("cells", rows)
    present = cells - figures["missing"]
    if not cells:
        return
    if not present:
        yield "empty", "all cells are missing"
        return
    share = figures["missing"] / cells
    meaning = figures.get("meaning", {})
    if figures.get("distinct") == 1 and present > 1:
        yield "constant", f"one value only{f', {_percent(share)} missing' if share else ''}"
    elif (most := _commonest(figures)) and most[1] / present >= DOMINANT:
        yield "dominant-value", f"{_percent(most[1] / present)} of the values are {most[0]}"
    if share >= MOSTLY:
        yield "mostly-missing", f"{_percent(share)} of the cells are missing"
    elif share >= SOME_MISSING:
        yield "missing", f"{_percent(share)} of the cells are missing"
    if figures.get("infinite"):
        yield "infinite", f"{figures['infinite']:,} infinite values"
    if meaning.get("type") == "mixed":
        yield "mixed-types", ", ".join(f"{count:,} {kind}" for kind, count in figures["kinds"].items())
    if meaning.get("type", "").endswith("-as-text"):
        yield "stored-as-text", f"text that reads as {meaning['type'].removesuffix('-as-text')}"
    if figures["dtype"] == "text" and meaning.get("type") in ("text", "category") and figures["distinct"] > MANY_VALUES:
        yield "high-cardinality", f"{figures['distinct']:,} different texts"
    skew = figures.get("skew")
    if skew is not None and abs(skew) >= SKEWED and meaning.get("type") not in ("id", "boolean", "category"):
        yield "skewed", f"skewed to the {'right' if skew > 0 else 'left'} (skew {skew:.3g})"


def _commonest(figures: Mapping[str, Any]) -> tuple[str, int] | None:
    for key in ("values", "top"):
        if figures.get(key):
            value, count = next(iter(figures[key].items()))
            return repr(value[:40]), count
    if figures.get("common"):
        number, count = figures["common"][0]
        return f"{number:,.6g}", count
    return None


def _percent(share: float) -> str:
    return "< 0.1 %" if share < 0.001 else "> 99.9 %" if 0.999 < share < 1 else f"{100 * share:.3g} %"
