"""Parallel coordinates: one line per run over the parameters to the metric; the good ones stand out. SVG and plotly."""

from __future__ import annotations

import math
from collections import defaultdict
from html import escape
from typing import Any

from nbops.view.figures import COLOURS, HALO
from nbops.view.format import cut, number, text
from nbops.view.scales import Axis, axis

MAX_LINES = 160
_TOP, _BOTTOM = 34, 14
_SHADES = 6


def svg(parallel: Any, *, width: int = 790, height: int = 210, alone: bool = False) -> str:
    """Return a `Parallel` as an ``<svg>`` element of at most 30 KB; an empty string without lines.

    Lines are darker the better their run is by the metric; the best is in the second colour. Of more than
    `MAX_LINES` runs the best, the worst and an even choice between are drawn.
    """
    order = ordered(parallel)
    if not order:
        return ""
    axes = parallel.axes
    places = [70 + (width - 150) * i / (len(axes) - 1) for i in range(len(axes))]
    scales = [_scale(one, height) for one in axes]
    shades: dict[int, list[str]] = defaultdict(list)
    for place, run in enumerate(reversed(order)):
        path = _path(axes, places, scales, run)
        is_best = place == len(order) - 1 and parallel.is_more_better is not None
        shade = _SHADES if is_best else round(place / max(1, len(order) - 1) * (_SHADES - 1))
        shades[shade].append(path)
    parts = [_line(shade, "".join(paths)) for shade, paths in sorted(shades.items())]
    parts += [_axis(one, at, scale, height) for one, at, scale in zip(axes, places, scales, strict=True)]
    label = escape(cut(text(f"parallel coordinates of {len(parallel.labels)} runs"), 80))
    space = 'xmlns="http://www.w3.org/2000/svg" ' if alone else ""
    style = "<style>svg{font:11px system-ui,sans-serif;--nb-dim:#7d8590;--nb-line:#7d859099}</style>" if alone else ""
    return (
        f'<svg {space}viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{label}">{style}{"".join(parts)}</svg>'
    )


def ordered(parallel: Any) -> list[int]:
    """Return the runs to draw, best first; those without the metric are left out."""
    values = parallel.axes[-1].values
    have = [i for i, value in enumerate(values) if value is not None]
    have.sort(key=lambda i: values[i] if parallel.is_more_better is False else -values[i])
    if len(have) <= MAX_LINES:
        return have
    return [have[round(i * (len(have) - 1) / (MAX_LINES - 1))] for i in range(MAX_LINES)]


def lines(parallel: Any) -> list[str]:
    """Return the best and the worst run in words."""
    order = ordered(parallel)
    if not order:
        return []
    first, last = ("best", "worst") if parallel.is_more_better is not None else ("highest", "lowest")
    picked = [(first, order[0]), *([(last, order[-1])] if len(order) > 1 else [])]
    return [f"{word} by {text(parallel.axes[-1].name)}: {text(parallel.labels[run])}: {_said(parallel, run)}"
            for word, run in picked]  # fmt: skip


def _said(parallel: Any, run: int) -> str:
    return " · ".join(f"{text(one.name)} {_value(one, run)}" for one in parallel.axes)


def _value(one: Any, run: int) -> str:
    value = one.values[run]
    if value is None:
        return "—"
    return text(one.categories[int(value)]) if one.categories else number(value)


def _scale(one: Any, height: int) -> Axis:
    if one.categories:
        return axis(0.0, float(max(1, len(one.categories) - 1)), height - _BOTTOM, _TOP)
    have = [value for value in one.values if value is not None] or [0.0]
    low, high = min(have), max(have)
    if one.is_log:
        return Axis(low, high, height - _BOTTOM, _TOP, True)
    return axis(low, high, height - _BOTTOM, _TOP)


def _path(axes: Any, places: list[float], scales: list[Axis], run: int) -> str:
    """Return the line of one run; it is broken where a run has no value."""
    parts, pen = [], "M"
    for one, at, scale in zip(axes, places, scales, strict=True):
        value = one.values[run]
        if value is None:
            pen = "M"
            continue
        parts.append(f"{pen}{at:.0f} {float(scale.at(value)):.0f}")
        pen = "L"
    return "".join(parts)


def _line(shade: int, path: str) -> str:
    colour, opacity, width = f"var(--nb-s0,{COLOURS[0]})", 0.2 + 0.12 * shade, 1.2
    if shade == _SHADES:
        colour, opacity, width = f"var(--nb-s1,{COLOURS[1]})", 1.0, 2.2
    return f'<path fill="none" stroke="{colour}" stroke-opacity="{opacity:.2f}" stroke-width="{width}" d="{path}"/>'


def _axis(one: Any, at: float, scale: Axis, height: int) -> str:
    if one.categories:
        kept = range(len(one.categories)) if len(one.categories) <= 6 else (0, len(one.categories) - 1)
        ticks = [(float(i), cut(text(one.categories[i]), 12)) for i in kept]
    else:
        ticks = [(value, number(value)) for value in dict.fromkeys((scale.low, scale.high))]
    said = "".join(
        f'<text x="{at + 5:.0f}" y="{float(scale.at(value)) + 4:.0f}">{escape(name)}</text>' for value, name in ticks
    )
    name = escape(cut(text(one.name), 16) + (" (log)" if one.is_log else ""))
    weight = ' font-weight="600"' if one.is_metric else ""
    return (
        f'<line x1="{at:.0f}" x2="{at:.0f}" y1="{_TOP}" y2="{height - _BOTTOM}" stroke="var(--nb-line,#e5e7eb)"/>'
        f'<g fill="var(--nb-dim,#6b7280)" font-size="11" {HALO}>{said}'
        f'<text x="{at:.0f}" y="16" text-anchor="middle"{weight}>{name}</text></g>'
    )


def plotly(parallel: Any) -> dict[str, Any]:
    """Return a `Parallel` as plotly's JSON (``parcoords``), a plain dict; runs with a gap are left out."""
    order = [i for i in ordered(parallel) if all(one.values[i] is not None for one in parallel.axes)]
    dimensions = []
    for one in parallel.axes:
        values = [one.values[i] for i in order]
        dimension: dict[str, Any] = {"label": cut(text(one.name), 30)}
        if one.categories:
            dimension |= {
                "tickvals": list(range(len(one.categories))),
                "ticktext": [cut(text(c), 20) for c in one.categories],
            }
        elif one.is_log:
            values = [math.log10(value) for value in values]
            powers = list(range(math.floor(min(values, default=0)), math.ceil(max(values, default=1)) + 1))
            dimension |= {"tickvals": powers, "ticktext": [number(10.0**power) for power in powers]}
        dimension["values"] = [float(f"{value:.6g}") for value in values]
        dimensions.append(dimension)
    colours = dimensions[-1]["values"]
    trace = {
        "type": "parcoords", "dimensions": dimensions,
        "line": {"color": colours, "colorscale": "Cividis", "reversescale": parallel.is_more_better is False},
    }  # fmt: skip
    layout = {
        "height": 320, "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "#6b7280"}, "margin": {"l": 70, "r": 50, "t": 60, "b": 30},
    }  # fmt: skip
    return {"data": [trace], "layout": layout, "config": {"displaylogo": False}}
