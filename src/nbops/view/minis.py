"""Small pictures that stand in a row of a table: histograms from quantile bins, bars of commonest values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from nbops.view.format import cut, number, text

BLOCKS = " ▁▂▃▄▅▆▇█"
_BARS = 24
_FAR = 4.0  # extremes so many times as far apart as the 1 % quantiles are not drawn


@dataclass(frozen=True)
class Shape:
    """Heights of bars over equal steps of a range.

    Attributes
    ----------
    heights : tuple of float
        Rows in each bar.
    low, high : float
        The range that is drawn.
    is_cut : bool
        Whether extremes lie outside it.
    """

    heights: tuple[float, ...]
    low: float
    high: float
    is_cut: bool = False


def shape_of(figures: Mapping[str, Any], *, bars: int = _BARS) -> Shape | None:
    """Return the bars of a column's ``edges`` and ``counts``, or None where it has none.

    Within a bin the rows are spread evenly; a column of few numbers has a bar for each.
    """
    edges, counts = figures.get("edges") or [], figures.get("counts") or []
    if not edges:
        return None
    low, high = float(edges[0]), float(edges[-1])
    if figures.get("distinct", len(edges)) <= bars and len(edges) <= bars:
        return Shape(tuple(map(float, counts)), low, high)
    told = figures.get("quantiles") or {}
    near, far = told.get("0.01", low), told.get("0.99", high)
    is_cut = bool(far > near and high - low > _FAR * (far - near))
    if is_cut:
        low, high = near, far
    import numpy as np  # views are listed without it

    grid = np.linspace(low, high, bars + 1)
    upto = np.interp(grid, edges, np.cumsum(counts))
    if not is_cut:
        upto[0] = 0.0  # the mass at the minimum belongs to the first bar
    return Shape(tuple(np.diff(upto).tolist()), low, high, is_cut)


def bars(shape: Shape, *, width: int = 120, height: int = 26, label: str = "") -> str:
    """Return the bars as an ``<svg>`` element."""
    top = max(shape.heights) or 1.0
    step = min(width / len(shape.heights), width / 3)
    parts = []
    for i, value in enumerate(shape.heights):
        tall = round(value / top * (height - 2), 1)
        if value and tall < 0.8:
            tall = 0.8  # what is there is seen
        if tall:
            parts.append(f"M{i * step:.1f} {height - 1}v-{tall:g}h{max(1.0, step - 1):.1f}v{tall:g}z")
    return _svg(
        f'<path d="M0 {height - 0.5:g}h{width}" stroke="var(--nb-line,#e5e7eb)"/>'
        f'<path fill="var(--nb-s0,#0072B2)" d="{"".join(parts)}"/>', width, height, label,
    )  # fmt: skip


def ranks(counts: Sequence[int], *, width: int = 120, height: int = 26, label: str = "") -> str:
    """Return counts, the largest first, as one bar that is divided by them; as an ``<svg>`` element."""
    total = sum(counts) or 1
    parts, x = [], 0.0
    for i, count in enumerate(counts[:7]):
        wide = count / total * width
        opacity = 0.95 - 0.11 * i
        parts.append(f'<rect x="{x:.1f}" y="7" width="{max(0.5, wide - 1):.1f}" height="{height - 14}" '
                     f'fill="var(--nb-s0,#0072B2)" fill-opacity="{opacity:.2f}"/>')  # fmt: skip
        x += wide
    if x < width - 0.5:
        parts.append(f'<rect x="{x:.1f}" y="7" width="{width - x:.1f}" height="{height - 14}" '
                     'fill="var(--nb-line,#e5e7eb)"/>')  # fmt: skip
    return _svg("".join(parts), width, height, label)


def blocks(shape: Shape) -> str:
    """Return the bars as characters."""
    half = [sum(pair) for pair in zip(shape.heights[::2], (*shape.heights[1::2], 0.0), strict=False)]
    heights = half if len(shape.heights) > 12 else list(shape.heights)
    top = max(heights) or 1.0
    return "".join(BLOCKS[min(8, max(1 if value else 0, round(value / top * 8)))] for value in heights)


def described(shape: Shape) -> str:
    """Return in words what range the bars span."""
    cut_off = ", extremes beyond the 1 % quantiles are not drawn" if shape.is_cut else ""
    return f"from {number(shape.low)} to {number(shape.high)}{cut_off}"


def _svg(body: str, width: int, height: int, label: str) -> str:
    said = f' role="img" aria-label="{escape(cut(text(label), 100), quote=True)}"' if label else ' aria-hidden="true"'
    return (f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" style="margin:0"{said}>'
            f"{body}</svg>")  # fmt: skip
