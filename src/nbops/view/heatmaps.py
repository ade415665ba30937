"""Matrices as coloured cells: cividis for amounts, two hues around a zero that means something. SVG and text."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from html import escape
from typing import Any

from nbops.view.format import columns, cut, text

MAX_CELLS = 30
_WRITTEN = 12  # so many rows and columns still have room for a number in each cell
_CIVIDIS = (
    "#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838",
)  # fmt: skip
_LOW, _HIGH = "var(--nb-s0,#0072B2)", "var(--nb-s1,#D55E00)"


@dataclass(frozen=True)
class HeatMap:
    """A matrix to draw.

    Attributes
    ----------
    title, note : str
        What it is, and what is to be known about it.
    rows, columns : tuple of str
    values : tuple of tuples of float, [rows, columns]
        0 to 1, or -1 to 1 where `is_signed`; NaN is left blank.
    words : tuple of tuples of str, [rows, columns]
        What stands in each cell where there is room.
    x, y : str
        What columns and rows are.
    said : tuple of str
        Lines that tell the gist where no picture can be shown.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    words: tuple[tuple[str, ...], ...]
    note: str = ""
    x: str = ""
    y: str = ""
    is_signed: bool = False
    said: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the matrix as lines of text where it is small, else its gist."""
        if max(len(self.rows), len(self.columns)) > _WRITTEN:
            return [text(line) for line in self.said]
        names = [cut(text(name), 14) for name in self.rows]
        heads = [cut(text(name), 8) for name in self.columns]
        left = max(columns(name) for name in [*names, ""])
        widths = [max(columns(w) for w in (head, *(row[i] for row in self.words))) for i, head in enumerate(heads)]
        rows = [_row("", heads, left, widths)]
        rows += [_row(name, words, left, widths) for name, words in zip(names, self.words, strict=True)]
        return [*rows, *(text(line) for line in self.said)]


def _row(name: str, words: Any, left: int, widths: list[int]) -> str:
    cells = "  ".join(" " * (width - columns(word)) + word for word, width in zip(words, widths, strict=True))
    return f"{name}{' ' * (left - columns(name))}  {cells}"


def svg(heat: HeatMap, *, alone: bool = False) -> str:
    """Return the matrix as an ``<svg>`` element, or an empty string for an empty one; at most 30 × 30 cells."""
    rows, across = heat.rows[:MAX_CELLS], heat.columns[:MAX_CELLS]
    if not rows or not across:
        return ""
    most = max(len(rows), len(across))
    longest = max(columns(text(name)) for name in across)
    wide, high = (min(76, max(46, 7 * longest + 6)), 24) if most <= _WRITTEN else (14, 14)
    left = 12 + 6.6 * max(columns(cut(text(name), 18)) for name in rows)
    top = (
        (40.0 if heat.y else 22.0)
        if most <= _WRITTEN
        else 26 + 5.2 * max(columns(cut(text(name), 18)) for name in across)
    )
    width, height = left + wide * len(across) + 12, top + high * len(rows) + 6
    cells: dict[str, list[str]] = defaultdict(list)
    words: dict[str, list[str]] = defaultdict(list)
    for i in range(len(rows)):
        for j in range(len(across)):
            value = heat.values[i][j]
            if math.isnan(value):
                continue
            x, y = left + wide * j, top + high * i
            cells[_fill(value, heat.is_signed)].append(f"M{x:.0f} {y:.0f}h{wide - 1}v{high - 1}h{1 - wide}z")
            if most <= _WRITTEN and heat.words[i][j]:
                said = (
                    f'<text x="{x + wide / 2:.0f}" y="{y + high / 2 + 4:.0f}">{escape(cut(heat.words[i][j], 7))}</text>'
                )
                words[_ink(value, heat.is_signed)].append(said)
    body = "".join(f'<path {fill} d="{"".join(paths)}"/>' for fill, paths in cells.items())
    body += "".join(f'<g text-anchor="middle" font-size="11" fill="{ink}">{"".join(w)}</g>' for ink, w in words.items())
    body += _names(heat, rows, across, (left, top, wide, high), slanted=most > _WRITTEN)
    space = 'xmlns="http://www.w3.org/2000/svg" ' if alone else ""
    style = "<style>svg{font:11px system-ui,sans-serif;--nb-dim:#7d8590;--nb-fg:#7d8590}</style>" if alone else ""
    label = escape(cut(text(heat.title), 120))
    return (
        f'<svg {space}viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img" '
        f'aria-label="{label}">{style}{body}</svg>'
    )


def _names(
    heat: HeatMap,
    rows: tuple[str, ...],
    across: tuple[str, ...],
    place: tuple[float, float, int, int],
    *,
    slanted: bool,
) -> str:
    left, top, wide, high = place
    parts = [f'<text x="{left:.0f}" y="12">{escape(heat.x)}{" → " if heat.x else ""}{escape(heat.y)} ↓</text>'
             if heat.y else ""]  # fmt: skip
    for i, name in enumerate(rows):
        y = top + high * i + high / 2 + 4
        parts.append(f'<text x="{left - 6:.0f}" y="{y:.0f}" text-anchor="end">{escape(cut(text(name), 18))}</text>')
    for j, name in enumerate(across):
        x = left + wide * j + wide / 2
        if slanted:
            turn = f'transform="rotate(-90 {x + 4:.0f} {top - 5:.0f})"'
            parts.append(f'<text x="{x + 4:.0f}" y="{top - 5:.0f}" {turn}>{escape(cut(text(name), 18))}</text>')
        else:
            short = escape(cut(text(name), (wide - 4) // 7))
            parts.append(f'<text x="{x:.0f}" y="{top - 7:.0f}" text-anchor="middle">{short}</text>')
    return f'<g fill="var(--nb-dim,#6b7280)" font-size="11">{"".join(parts)}</g>'


def _fill(value: float, is_signed: bool) -> str:
    if is_signed:
        return f'fill="{_HIGH if value > 0 else _LOW}" fill-opacity="{0.05 + 0.7 * round(abs(value) * 15) / 15:.2f}"'
    return f'fill="{cividis(round(value * 20) / 20)}"'


def _ink(value: float, is_signed: bool) -> str:
    return "var(--nb-fg,#1c1c1e)" if is_signed else "#fff" if value < 0.5 else "#111"


def cividis(share: float) -> str:
    """Return the colour of 0 to 1 in cividis (Nuñez, Anderton and Renslow, PLoS ONE 13(7), 2018), as ``#rrggbb``."""
    at = min(max(share, 0.0), 1.0) * (len(_CIVIDIS) - 1)
    low = min(int(at), len(_CIVIDIS) - 2)
    a, b = _CIVIDIS[low], _CIVIDIS[low + 1]
    mixed = (int(a[i : i + 2], 16) + (at - low) * (int(b[i : i + 2], 16) - int(a[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part):02x}" for part in mixed)


def plotly(heat: HeatMap) -> dict[str, Any]:
    """Return the matrix as plotly's JSON, a plain dict."""
    values = [[None if math.isnan(v) else round(v, 4) for v in row[:MAX_CELLS]] for row in heat.values[:MAX_CELLS]]
    scale: Any = [[0, "#0072B2"], [0.5, "#f7f7f7"], [1, "#D55E00"]] if heat.is_signed else "Cividis"
    across, down = [text(n) for n in heat.columns[:MAX_CELLS]], [text(n) for n in heat.rows[:MAX_CELLS]]
    trace = {
        "type": "heatmap", "x": across, "y": down,
        "z": values, "colorscale": scale, "zmin": -1 if heat.is_signed else 0, "zmax": 1,
        "text": [list(row[:MAX_CELLS]) for row in heat.words[:MAX_CELLS]], "texttemplate": "%{text}",
        "xgap": 1, "ygap": 1,
    }  # fmt: skip
    layout = {
        "title": {"text": text(heat.title), "font": {"size": 13}}, "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)", "font": {"color": "#6b7280"}, "margin": {"l": 80, "r": 16, "t": 60, "b": 30},
        "xaxis": {"title": {"text": heat.x}, "type": "category", "side": "top"},
        "yaxis": {"title": {"text": heat.y}, "type": "category", "autorange": "reversed"},
    }  # fmt: skip
    return {"data": [trace], "layout": layout, "config": {"displaylogo": False}}
