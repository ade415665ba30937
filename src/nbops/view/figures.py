"""One description of a line chart, drawn as inline SVG, as plotly's JSON (without plotly) and as a line of text.

Thin lines in Okabe-Ito order, labelled at their ends; faint horizontal grid, round ticks;
extremes are never lost and the first value that is not finite is marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any

from nbops.view.format import cut, number, text
from nbops.view.scales import Axis, axis, clean, thin, wants_log

MAX_LINES = 7
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
BRIGHT = ("#4BA3DB", "#FF8A3D", "#2BC79B", "#E6A0C8", "#F2B63C", "#7CCBF5", "#F6EE7A")
# Words stay legible on lines: the background is drawn around them first.
HALO = 'paint-order="stroke" stroke="var(--jp-layout-color1,var(--i,transparent))" stroke-width="3"'
_BLOCKS = "▁▂▃▄▅▆▇█"
_MAX_GAPS = 20


@dataclass(frozen=True)
class _Drawn:
    """A line as it is drawn: steps ascending, and the step of its first value that is not finite."""

    name: str
    steps: Any
    values: Any
    bad: int | None


@dataclass(frozen=True)
class Line:
    """One series: numbers over steps, of equal length; values may be NaN or infinite."""

    name: str
    steps: Any
    values: Any


@dataclass(frozen=True)
class Figure:
    """Up to seven lines over one axis. `log` None lets the range decide."""

    title: str
    lines: tuple[Line, ...]
    x: str = "step"
    log: bool | None = None

    @cached_property
    def is_log(self) -> bool:
        """Whether the vertical axis is logarithmic."""
        import numpy as np

        if self.log is not None or not self.lines:
            return bool(self.log)
        return wants_log(np.concatenate([np.asarray(line.values, dtype=np.float64) for line in self.lines]))

    @cached_property
    def drawn(self) -> tuple[_Drawn, ...]:
        """The lines as they are drawn; worked out once, since one figure is drawn in several forms."""
        return tuple(_Drawn(line.name, *clean(line.steps, line.values)) for line in self.lines[:MAX_LINES])


def _usable(drawn: _Drawn, log: bool) -> Any:
    import numpy as np

    return np.isfinite(drawn.values) & ((drawn.values > 0) if log else True)


def svg(figure: Figure, *, width: int = 790, height: int = 170, points: int = 1200, alone: bool = False) -> str:
    """Return the figure as an ``<svg>`` element, or an empty string if there is nothing to draw.

    Parameters
    ----------
    width, height : int, pixels
    points : int
        Upper limit of points over all lines together.
    alone : bool
        Whether it must stand as a file of its own (name space and style inside).
    """
    import numpy as np

    drawn = [line for line in figure.drawn if len(line.steps)]
    if not drawn:
        return ""
    log = figure.is_log
    values = np.concatenate([line.values[_usable(line, log)] for line in drawn])
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    first, last = min(float(x.steps[0]) for x in drawn), max(float(x.steps[-1]) for x in drawn)
    labels = [cut(text(line.name), 18) for line in drawn]
    across_name = cut(text(figure.x), 18) + (", log y" if log else "")
    right = width - 14 - 6.4 * max(len(label) for label in [*labels, across_name])
    if not log and 0 < low < high * 0.3:
        low = 0.0  # near enough: heights can then be compared
    across, up = axis(first, last, 48, right), axis(low, high, height - 24, 10, log=log)
    if first == last:
        across = Axis(first - 1, last + 1, 48, right)
    columns = max(10, min(int(right - 48), points // (2 * len(drawn)) - 2))
    body = [_grid(across, up, right, height, across_name, log)]
    body += [_path(line, across, up, i, columns, log) for i, line in enumerate(drawn)]
    body.append(_ends(drawn, labels, across, up, height, log))
    body.append(_first_bad(drawn, across, height))
    names = ", ".join(cut(text(line.name), 30) for line in drawn)
    space = 'xmlns="http://www.w3.org/2000/svg" ' if alone else ""
    label = escape(f"{cut(text(figure.title), 60)}: {names} over {cut(text(figure.x), 30)}")
    head = (
        f'<svg {space}viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{label}">'
    )
    return f"{head}{_style() if alone else ''}{''.join(body)}</svg>"


def _style() -> str:
    """Return the style of a picture on its own: greys that can be read on white and on black."""
    return "<style>svg{font:11px system-ui,sans-serif;--nb-dim:#7d8590;--nb-line:#7d859055;--nb-bad:#d9474f}</style>"


def _grid(across: Axis, up: Axis, right: float, height: int, label: str, log: bool) -> str:
    ticks = up.ticks(4)
    if log and len(ticks) < 2:
        ticks = [up.low, up.high]
    lines = "".join(f'<line x1="48" x2="{right:.0f}" y1="{up.at(t):.1f}" y2="{up.at(t):.1f}"/>' for t in ticks)
    names = "".join(f'<text x="42" y="{up.at(t) + 4:.1f}" text-anchor="end">{escape(number(t))}</text>' for t in ticks)
    below = [t for t in across.ticks(6) if t == int(t)] or [across.low]
    names += "".join(
        f'<text x="{across.at(t):.1f}" y="{height - 6}" text-anchor="middle">{escape(number(int(t)))}</text>'
        for t in below
    )
    names += f'<text x="{right + 8:.0f}" y="{height - 6}">{escape(label)}</text>'
    return f'<g stroke="var(--nb-line,#e5e7eb)">{lines}</g><g fill="var(--nb-dim,#6b7280)" font-size="11">{names}</g>'


def _colour(index: int) -> str:
    return f"var(--nb-s{index},{COLOURS[index]})"


def _path(line: _Drawn, across: Axis, up: Axis, index: int, columns: int, log: bool) -> str:
    import numpy as np

    good = _usable(line, log)
    pieces = []
    for steps, values in _segments(line.steps, line.values, good):
        share = max(2, round(columns * len(steps) / max(1, int(good.sum()))))
        x, y = thin(steps, values, share)
        px, py = across.at(x), up.at(np.asarray(y))
        if len(px) == 1:
            pieces.append(f'<circle cx="{px[0]:.1f}" cy="{py[0]:.1f}" r="2.5" fill="{_colour(index)}" stroke="none"/>')
        else:
            dots = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(px.tolist(), py.tolist(), strict=True))
            pieces.append(f'<polyline points="{dots}"/>')
    return f'<g fill="none" stroke="{_colour(index)}" stroke-width="1.6" stroke-linejoin="round">{"".join(pieces)}</g>'


def _segments(steps: Any, values: Any, good: Any) -> list[tuple[Any, Any]]:
    """Return runs of usable points; where gaps are very many they are bridged, so the picture stays small."""
    import numpy as np

    edges = np.flatnonzero(np.diff(np.concatenate(([0], good.astype(np.int8), [0]))))
    runs = list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
    if len(runs) > _MAX_GAPS:
        return [(steps[good], values[good])]
    return [(steps[a:b], values[a:b]) for a, b in runs]


def _ends(drawn: Sequence[_Drawn], labels: Sequence[str], across: Axis, up: Axis, height: int, log: bool) -> str:
    """Return the labels at the line ends, pushed apart where they would overlap."""
    places = []
    for i, line in enumerate(drawn):
        good = _usable(line, log)
        if good.any():
            places.append([float(up.at(float(line.values[good][-1]))), float(across.at(line.steps[good][-1])), i])
    places.sort()
    reach = 6.4 * max((len(label) for label in labels), default=0) + 8  # labels this far apart cannot overlap
    for n, place in enumerate(places):
        near = [above[0] for above in places[:n] if abs(above[1] - place[1]) < reach]
        place[0] = max([place[0], *(y + 13 for y in near)])
    for n in range(len(places) - 1, -1, -1):
        near = [below[0] for below in places[n + 1 :] if abs(below[1] - places[n][1]) < reach]
        places[n][0] = min([places[n][0], height - 26.0, *(y - 13 for y in near)])
    names = "".join(
        f'<text x="{x + 8:.0f}" y="{y + 4:.1f}" fill="{_colour(int(i))}">{escape(labels[int(i)])}</text>'
        for y, x, i in places
    )
    return f'<g font-size="11" {HALO}>{names}</g>'


def _first_bad(drawn: Sequence[_Drawn], across: Axis, height: int) -> str:
    steps = [line.bad for line in drawn if line.bad is not None]
    if not steps:
        return ""
    step, colour = min(steps), "var(--nb-bad,#c62a2f)"
    x = min(max(float(across.at(float(step))), across.start), across.end)
    side, dx = ("end", -5) if x > across.end - 60 else ("start", 5)
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="10" y2="{height - 24}" stroke="{colour}" stroke-dasharray="3 3"/>'
        f'<text x="{x + dx:.1f}" y="{height - 30}" text-anchor="{side}" font-size="11" fill="{colour}">'
        f"✕ not finite from step {step:,}</text>"
    )


def plotly(figure: Figure, *, points: int = 1600) -> dict[str, Any]:
    """Return the figure as plotly's JSON (mime type ``application/vnd.plotly.v1+json``), a plain dict."""
    import numpy as np

    drawn = figure.drawn
    columns = max(10, points // (2 * max(1, len(drawn))))
    traces = []
    for i, line in enumerate(drawn):
        good = np.isfinite(line.values)
        x, y = thin(line.steps[good], line.values[good], columns)
        traces.append(
            {
                "type": "scatter", "mode": "lines", "name": text(line.name), "x": x.tolist(),
                "y": [float(f"{v:.6g}") for v in y.tolist()], "line": {"color": COLOURS[i], "width": 1.6},
            }
        )  # fmt: skip
    kind = "log" if figure.is_log else "linear"
    buttons = [
        {"label": name, "method": "relayout", "args": [{"yaxis.type": name}]} for name in ("linear", "log")
    ]  # fmt: skip
    layout = {
        "title": {"text": text(figure.title), "font": {"size": 13}}, "height": 300, "showlegend": len(drawn) > 1,
        "margin": {"l": 56, "r": 16, "t": 40, "b": 40}, "hovermode": "x unified",
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "font": {"color": "#6b7280"},
        "xaxis": {"title": {"text": text(figure.x)}, "showgrid": False, "zeroline": False},
        "yaxis": {"type": kind, "gridcolor": "rgba(128,128,128,0.25)", "zeroline": False},
        "updatemenus": [{"type": "buttons", "direction": "right", "x": 1, "xanchor": "right", "y": 1.16,
                         "active": int(kind == "log"), "buttons": buttons}],
    }  # fmt: skip
    return {"data": traces, "layout": layout, "config": {"displaylogo": False}}


def sparkline(figure: Figure, *, width: int = 48) -> list[str]:
    """Return one line of text per series: name, a row of blocks, first → last value and the number of points."""
    import numpy as np

    log = figure.is_log
    drawn = [line for line in figure.drawn if len(line.steps)]
    if not drawn:
        return []
    name_width = max(len(cut(text(line.name), 24)) for line in drawn)
    rows = []
    for line in drawn:
        good = line.values[_usable(line, log)]
        blocks = ""
        if good.size:
            parts = np.array_split(np.log10(good) if log else good, min(width, good.size))
            middle = float(np.concatenate(parts).mean())
            chosen = np.array([part[np.abs(part - middle).argmax()] for part in parts])
            span = float(chosen.max() - chosen.min()) or 1.0
            blocks = "".join(_BLOCKS[int(v)] for v in np.minimum((chosen - chosen.min()) / span * 8, 7))
        tail = f"{number(float(line.values[0]))} → {number(float(line.values[-1]))}, {len(line.values):,} points"
        bad = f", not finite from step {line.bad:,}" if line.bad is not None else ""
        rows.append(f"{cut(text(line.name), 24):<{name_width}}  {blocks}  {tail}{bad}")
    return rows
