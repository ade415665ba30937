"""Cards as plain text: aligned, at most 120 columns, no escape codes. Used by consoles and by `nbops VERB`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbops.view.cards import Card, Chip, Code, Drawing, Facts, Grid, Key, Mono, Note, Part, Picture, Ranked, Section
from nbops.view.figures import Figure, sparkline
from nbops.view.format import columns, cut, text, wrap
from nbops.view.graphs import Graph

WIDTH = 120
ROWS = 60
_GAP = 2


def render(card: Card, *, width: int = WIDTH) -> str:
    """Return `card` as lines of at most `width` columns."""
    lines = [_head(card.chip, card.title, card.id, card.facts, width)]
    if card.keys:
        lines.extend(wrap(" · ".join(_key(k) for k in card.keys), width))
    for part in card.parts:
        lines.extend(_part(part, width))
    lines.extend(cut(f"→ {text(action)}", width) for action in card.actions)
    return "\n".join(line.rstrip() for line in lines)


def _key(key: Key) -> str:
    note = f" ({text(key.note)})" if key.note else ""
    return f"{text(key.label)} {text(key.value)}{note}"


def _head(chip: Chip | None, title: str, id: str, facts: tuple[str, ...], width: int) -> str:
    words = [text(str(chip))] if chip else []
    words += [text(word) for word in (title, id) if word]
    left = cut("  ".join(words), width)
    right = " · ".join(text(fact) for fact in facts if fact)
    if not right:
        return left
    room = width - columns(left) - 3
    return f"{left}   {cut(right, room)}" if room >= 12 else left


def _part(part: Part, width: int) -> list[str]:
    match part:
        case Grid():
            return table(part, width=width)
        case Note(text=line):
            return [row for piece in line.split("\n") for row in wrap(text(piece), width)]
        case Facts(title=title, pairs=pairs):
            line = " · ".join(f"{text(name)} {cut(text(value), 60)}".strip() for name, value in pairs)
            return wrap(f"{text(title)}  {line}", width, indent="  ")
        case Code(text=body):
            return [row for line in body.splitlines() for row in _code(line.expandtabs(4), width)]
        case Figure():
            return [cut(line, width) for line in sparkline(part)]
        case Graph():
            return [cut(line, width) for line in part.lines()]
        case Picture(lines=lines):
            fits = ([line] if columns(line) <= width else wrap(line, width, indent="  ") for line in lines)
            return [row for rows in fits for row in rows]
        case Section():
            return ["", _head(part.chip, part.title, "", part.facts, width)]
        case Ranked():
            return _ranked(part, width)


def _ranked(part: Ranked, width: int) -> list[str]:
    rows = [cut(text(part.title), width)] if part.items else []
    for place, item in enumerate(part.items, 1):
        note = f" ({text(item.note)})" if item.note else ""
        rows += wrap(f"{place}. {text(item.text)}{note}", width, indent="   ")
        rows += [
            f"   {row}" for label, line in item.lines if line
            for row in wrap(f"{text(label)}: {text(line)}", width - 3, indent="  ")
        ]  # fmt: skip
    return rows


def _code(line: str, width: int) -> list[str]:
    """Return a line of code, indented as it is, on further lines where it is too long."""
    indent = " " * min(40, 4 + len(line) - len(line.lstrip(" ")))
    rows = wrap(text(line.strip()), width - len(indent) - 4)
    return [f"{indent}{row}" if i == 0 else f"{indent}    {row}" for i, row in enumerate(rows)]


def cell(value: Any) -> str:
    """Return one table cell as text."""
    if isinstance(value, Chip):
        return text(str(value))
    return text(value.text if isinstance(value, Mono | Drawing) else value)


def table(grid: Grid, *, width: int = WIDTH, rows: int = ROWS) -> list[str]:
    """Return the rows aligned under their heads, in `width` columns; long text is cut, in the last column wrapped."""
    body = [[cell(value) for value in row] for row in grid.rows[:rows]]
    heads = [f"{text(name)} ↓" if i == grid.sorted_by else text(name) for i, name in enumerate(grid.head)]
    widths = _fit([heads, *body], grid.right, width)
    shown = [heads, *body] if any(heads) else body
    lines = [line for row in shown for line in _lines(row, widths, grid.right)]
    left_out = len(grid.rows) - len(body)
    if left_out > 0:
        lines.append(f"… and {left_out:,} more")
    return [*lines, *([cut(text(grid.more), width)] if grid.more else [])]


def _fit(rows: Sequence[Sequence[str]], right: frozenset[int], width: int) -> list[int]:
    """Return the width of each column; the last columns go where not even narrow ones would fit."""
    widths = [max(columns(row[i]) for row in rows) for i in range(len(rows[0]))]
    least = [w if i in right else min(w, 8) for i, w in enumerate(widths)]
    while len(widths) > 1 and sum(least) + _GAP * (len(least) - 1) > width:
        widths.pop()
        least.pop()
    while sum(widths) + _GAP * (len(widths) - 1) > width:
        last = len(widths) - 1
        wide = [i for i in range(len(widths)) if widths[i] > (28 if i == last and i not in right else least[i])]
        wide = wide or [i for i in range(len(widths)) if widths[i] > 1]
        widest = max(wide, key=lambda i: (i == last and i not in right, widths[i]))
        widths[widest] -= 1
    return widths


def _lines(row: Sequence[str], widths: Sequence[int], right: frozenset[int]) -> list[str]:
    last = len(widths) - 1
    wrapped = [row[last]] if last in right else wrap(row[last], widths[last])
    first = _line([*row[:last], wrapped[0]], widths, right)
    indent = " " * (sum(widths[:last]) + _GAP * last)
    return [first, *(f"{indent}{cut(more, widths[last])}" for more in wrapped[1:])]


def _line(row: Sequence[str], widths: Sequence[int], right: frozenset[int]) -> str:
    parts = []
    for i, (value, limit) in enumerate(zip(row, widths, strict=False)):
        shown = cut(value, limit)
        blank = " " * (limit - columns(shown))
        parts.append(blank + shown if i in right else shown + blank)
    return (" " * _GAP).join(parts).rstrip()
