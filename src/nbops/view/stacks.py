"""Stacked bars side by side, against a limit: what a whole is made of under several conditions. SVG, plotly, text."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

from nbops.view.figures import COLOURS
from nbops.view.format import columns, cut, size, text

MAX_BARS = 16
_HIGH, _TOP, _BAR = 24, 34, 14  # pixels: of a row, above the first, of a bar
_NAME = 22  # columns
_FAR = 3
_BLOCKS = "█▓▒░▚▞▖"


@dataclass(frozen=True)
class Stacks:
    """Bars to draw.

    Attributes
    ----------
    title : str
    parts : tuple of str
        What the wholes are made of; at most seven.
    bars : tuple of (str, tuple of int)
        Name and bytes of each part.
    limit : int or None, bytes
        Drawn as a line, unless every bar is far from it.
    """

    title: str
    parts: tuple[str, ...]
    bars: tuple[tuple[str, tuple[int, ...]], ...]
    limit: int | None = None

    @property
    def most(self) -> int:
        """The longest bar, or the limit if that is more and in sight."""
        longest = max([sum(values) for _, values in self.bars] + [1])
        return max(longest, self.limit or 0) if self.has_line else longest

    @property
    def has_line(self) -> bool:
        """Whether the limit is near enough to be drawn."""
        return self.limit is not None and self.limit <= _FAR * max([sum(v) for _, v in self.bars] + [1])

    def words(self, values: tuple[int, ...]) -> str:
        """Return what stands at the end of a bar."""
        total = sum(values)
        over = "" if self.limit is None or total <= self.limit else "  too much"
        return f"{size(total)}{over}"

    def lines(self, *, width: int = 40) -> list[str]:
        """Return the bars as text, and below them what the blocks mean."""
        bars = [(cut(text(name), _NAME), values) for name, values in self.bars[:MAX_BARS]]
        left = max((columns(name) for name, _ in bars), default=0)
        found = []
        for name, values in bars:
            ends = [round(width * sum(values[: i + 1]) / self.most) for i in range(len(values))]
            starts = [0, *ends]
            blocks = "".join(_BLOCKS[i] * (end - starts[i]) for i, end in enumerate(ends))
            found.append(f"{name}{' ' * (left - columns(name))}  {blocks:<{width}}  {self.words(values)}")
        present = [i for i in range(len(self.parts)) if any(values[i] for _, values in self.bars)]
        return [*found, "   ".join(f"{_BLOCKS[i]} {self.parts[i]}" for i in present)]


def svg(stacks: Stacks, *, width: int = 790, alone: bool = False) -> str:
    """Return the bars as an ``<svg>`` element, or an empty string without bars."""
    bars = stacks.bars[:MAX_BARS]
    if not bars:
        return ""
    left = 12 + 6.6 * max(columns(cut(text(name), _NAME)) for name, _ in bars)
    scale = (width - left - 130) / stacks.most
    height = _TOP + _HIGH * len(bars) + 4
    body = [_legend(stacks)]
    for i, (name, values) in enumerate(bars):
        body.append(_row(stacks, name, values, left, scale, _TOP + _HIGH * i))
    if stacks.limit is not None and stacks.has_line:
        line = f"M{left + stacks.limit * scale:.1f} {_TOP - 8}V{height - 4}"
        body.append(f'<path stroke="var(--nb-bad,#c62a2f)" stroke-dasharray="4 3" d="{line}"/>')
    space = 'xmlns="http://www.w3.org/2000/svg" ' if alone else ""
    style = "<style>svg{font:11px system-ui,sans-serif;--nb-dim:#7d8590;--nb-fg:#7d8590}</style>" if alone else ""
    return (
        f'<svg {space}viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(cut(text(stacks.title), 120))}">{style}'
        f'<g font-size="11" fill="var(--nb-dim,#6b7280)">{"".join(body)}</g></svg>'
    )


def _row(stacks: Stacks, name: str, values: tuple[int, ...], left: float, scale: float, y: int) -> str:
    found = [f'<text x="{left - 8:.0f}" y="{y + 12}" text-anchor="end">{escape(cut(text(name), _NAME))}</text>']
    x = left
    for i, value in enumerate(values):
        long = value * scale
        if long >= 0.5:
            found.append(f'<path fill="{_colour(i)}" d="M{x:.1f} {y}h{max(1.0, long - 1):.1f}v{_BAR}H{x:.1f}z"/>')
        x += long
    ink = _ink(stacks, values)
    return "".join(found) + f'<text x="{x + 7:.0f}" y="{y + 12}" fill="{ink}">{escape(stacks.words(values))}</text>'


def _legend(stacks: Stacks) -> str:
    found, x = [], 4.0
    for i, name in enumerate(stacks.parts):
        if any(values[i] for _, values in stacks.bars):
            found.append(f'<path fill="{_colour(i)}" d="M{x:.0f} 4h10v10h-10z"/>')
            found.append(f'<text x="{x + 15:.0f}" y="13">{escape(name)}</text>')
            x += 32 + 6.2 * len(name)
    return "".join(found)


def _colour(i: int) -> str:
    return f"var(--nb-s{i % len(COLOURS)},{COLOURS[i % len(COLOURS)]})"


def _ink(stacks: Stacks, values: tuple[int, ...]) -> str:
    is_over = stacks.limit is not None and sum(values) > stacks.limit
    return "var(--nb-bad,#c62a2f)" if is_over else "var(--nb-fg,#1c1c1e)"


def plotly(stacks: Stacks) -> dict[str, Any]:
    """Return the bars as plotly's JSON, a plain dict; lengths in GB."""
    names = [text(name) for name, _ in stacks.bars]
    data = [
        {
            "type": "bar", "orientation": "h", "name": part, "y": names,
            "x": [round(values[i] / 1e9, 4) for _, values in stacks.bars],
            "marker": {"color": COLOURS[i % len(COLOURS)]}, "hovertemplate": f"{part}: %{{x:.3g}} GB<extra></extra>",
        }
        for i, part in enumerate(stacks.parts)
        if any(values[i] for _, values in stacks.bars)
    ]  # fmt: skip
    shapes = [] if stacks.limit is None or not stacks.has_line else [{
        "type": "line", "x0": stacks.limit / 1e9, "x1": stacks.limit / 1e9, "y0": 0, "y1": 1, "yref": "paper",
        "line": {"dash": "dash", "color": "#c62a2f", "width": 1},
    }]  # fmt: skip
    layout = {
        "barmode": "stack", "title": {"text": text(stacks.title), "font": {"size": 13}}, "shapes": shapes,
        "height": 110 + 28 * len(names), "margin": {"l": 150, "r": 16, "t": 40, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "font": {"color": "#6b7280"},
        "xaxis": {"title": {"text": "GB"}, "gridcolor": "rgba(128,128,128,0.25)"},
        "yaxis": {"autorange": "reversed", "type": "category"},
    }  # fmt: skip
    return {"data": data, "layout": layout, "config": {"displaylogo": False}}
