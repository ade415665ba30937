"""Numbers, durations, sizes, times and text for the eye: units always, three or four significant digits.

Nothing here knows about HTML or about cards.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from typing import Any

MISSING = "—"


def number(value: Any) -> str:
    """Return a number with up to four significant digits and separated thousands; other values as text."""
    if value is None:
        return MISSING
    if isinstance(value, bool) or not isinstance(value, int | float):
        return text(value)
    if isinstance(value, int):
        return f"{value:,}"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    size = abs(value)
    if size != 0 and (size >= 1e7 or size < 1e-4):
        mantissa, _, exponent = f"{value:.3g}".partition("e")
        return f"{mantissa}e{int(exponent)}" if exponent else mantissa
    return f"{value:,.0f}" if size >= 1000 else f"{float(f'{value:.4g}'):g}"


def signed(value: float) -> str:
    """Return a difference: as `number` has it, with a sign also where it is positive."""
    return f"+{number(value)}" if value > 0 else number(value)


def quantity(value: Any, unit: str) -> str:
    """Return a number with its unit; the unit ``share`` (0 to 1) becomes per cent."""
    if value is None:
        return MISSING
    if unit == "share" and isinstance(value, int | float):
        return f"{number(float(value) * 100)} %"
    return f"{number(value)} {unit}".strip()


def duration(seconds: float | None) -> str:
    """Return a duration given in seconds: ``0.4 ms``, ``3.2 s``, ``2 min 14 s``, ``1 h 5 min``, ``3 d 2 h``."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 1:
        return f"{number(float(f'{seconds * 1000:.2g}'))} ms"
    if seconds < 60:
        return f"{float(f'{seconds:.3g}'):g} s"
    whole = round(seconds)
    for size, name, small, small_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {name} {rest} {small_name}" if rest else f"{whole // size} {name}"
    return f"{whole} s"


def size(count: int | float | None) -> str:
    """Return a size given in bytes, in decimal units: ``512 B``, ``1.8 GB``."""
    if count is None:
        return MISSING
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def when(seconds: float | None) -> str:
    """Return a moment (seconds since the epoch) in local time, to the minute."""
    if not seconds:
        return MISSING
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")


def text(value: Any) -> str:
    """Return one line of text without control characters, so that no value can steer a terminal."""
    raw = value if isinstance(value, str) else str(value)
    if raw.isprintable():
        return raw
    return " ".join("".join(c if c.isprintable() else " " for c in raw).split())


def columns(line: str) -> int:
    """Return how many terminal columns `line` takes: two for wide characters, none for combining ones."""
    if line.isascii():
        return len(line)
    return sum(_columns_of(c) for c in line)


def _columns_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(line: str, limit: int) -> str:
    """Return `line` in at most `limit` columns, with its middle replaced by ``…`` where it is longer."""
    if columns(line) <= limit:
        return line
    if limit < 3:
        return "…"[:limit]
    left, right = line[: (limit + 1) // 2], line[-(limit // 2) :]
    while columns(left) + columns(right) + 1 > limit:
        left, right = (left[:-1], right) if columns(left) >= columns(right) else (left, right[1:])
    return f"{left}…{right}"


def wrap(line: str, limit: int, *, indent: str = "") -> list[str]:
    """Return `line` as lines of at most `limit` columns, broken at blanks; all but the first begin with `indent`."""
    rows, row = [], ""
    for word in line.split(" "):
        longer = f"{row} {word}" if row.strip() else f"{row}{word}"
        while columns(longer) > limit:
            if row.strip():
                rows.append(row)
                row = indent
            else:  # one word that is too long by itself
                head = next(i for i in range(min(len(longer), limit), 0, -1) if columns(longer[:i]) <= limit or i == 1)
                rows.append(longer[:head])
                row, word = indent, longer[head:]
            longer = f"{row}{word}"
        row = longer
    return [*rows, row]


def cell(cell_id: str | None) -> str:
    """Return a cell by the first eight characters of its id; cells without one (in a terminal) have no name."""
    return f"cell {text(cell_id)[:8]}" if cell_id and not cell_id.startswith("source-") else ""


def plural(count: int, noun: str) -> str:
    """Return ``1 run``, ``3 runs``, ``2 entries``."""
    if count == 1:
        return f"1 {noun}"
    if noun.endswith("is"):
        return f"{count:,} {noun[:-2]}es"
    if noun.endswith("s"):
        return f"{count:,} {noun}es"
    return f"{count:,} {noun[:-1]}ies" if noun[-1:] == "y" and noun[-2:-1] not in "aeiou" else f"{count:,} {noun}s"


def some(names: Sequence[str], count: int) -> str:
    """Return the first names, and how many more there are: ``a, b and 3 more``."""
    left = len(names) - count
    shown = ", ".join(text(name) for name in names[:count])
    return f"{shown} and {left:,} more" if left > 0 else shown
