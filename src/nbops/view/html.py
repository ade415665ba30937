"""Cards as HTML: self-contained, no script, JupyterLab's colours with fallbacks for light and dark, at most 20 KB.

Every text that comes from a value passes `esc`; nothing else builds markup. A front end that does not trust a notebook
drops styles and SVG: then the blanks between the parts, an image and plain arrows are what is left to read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from typing import Any
from urllib.parse import quote

from nbops.view import graphs
from nbops.view.cards import (
    Card,
    Chip,
    Code,
    Drawing,
    Facts,
    Grid,
    Item,
    Key,
    Mono,
    Note,
    Part,
    Picture,
    Ranked,
    Section,
)
from nbops.view.figures import BRIGHT, COLOURS, Figure, sparkline, svg
from nbops.view.format import cut, text
from nbops.view.graphs import Graph

MAX_BYTES = 20_000
_CELL, _PROSE = 48, 200  # columns of a name and of a sentence in one table cell; the whole is in the title

_BRIGHT = "".join(f"--nb-s{i}:{colour};" for i, colour in enumerate(BRIGHT))
_PLAIN = "".join(f"--nb-s{i}:{colour};" for i, colour in enumerate(COLOURS))
_LIGHT = "--a:#1c1c1e;--b:#6b7280;--c:#e5e7eb;--d:#f7f7f8;--e:#0b62d6;--f:#18794e;--g:#8a5a00;--h:#c62a2f;--i:#fff;"
_DARK = "--a:#e8e8ea;--b:#9ca3af;--c:#2f3136;--d:#1a1b1e;--e:#6ea8fe;--f:#4cc38a;--g:#e2b340;--h:#ff6b6b;--i:#111;"
_CSS = f"""<style>
.nbops{{{_LIGHT}{_PLAIN}color-scheme:light}}
@media(prefers-color-scheme:dark){{.nbops{{{_DARK}{_BRIGHT}color-scheme:dark}}}}
body[data-jp-theme-light="true"] .nbops{{{_LIGHT}{_PLAIN}color-scheme:light}}
body[data-jp-theme-light="false"] .nbops{{{_DARK}{_BRIGHT}color-scheme:dark}}
.nbops{{--nb-fg:var(--jp-content-font-color1,var(--a));--nb-dim:var(--jp-content-font-color2,var(--b));--nb-line:var(--c);
--nb-soft:var(--d);--nb-accent:var(--e);--nb-ok:var(--f);--nb-warn:var(--g);--nb-bad:var(--h);--nb-live:var(--e);
color:var(--nb-fg);background:var(--jp-layout-color1,var(--i));border:1px solid var(--jp-border-color2,var(--c));
border-radius:8px;padding:12px 14px;margin:2px 0 8px;max-width:900px;box-sizing:border-box;overflow-x:auto;
font:13px/1.45 system-ui,-apple-system,"Segoe UI",sans-serif}}
.nbops .row{{display:flex;align-items:center;gap:4px 10px;flex-wrap:wrap}}.nbops .sp{{flex:1}}
.nbops .name{{font-weight:600;font-size:14px}}.nbops .dim{{color:var(--nb-dim)}}.nbops .bad{{color:var(--nb-bad)}}
.nbops .mono,.nbops pre{{font:12px/1.4 ui-monospace,Menlo,Consolas,monospace}}
.nbops .chip{{border-radius:10px;padding:1px 8px;font-size:12px;font-weight:600;white-space:nowrap;color:var(--k);
background:color-mix(in srgb,var(--k) 13%,transparent)}}.nbops td .chip{{background:none;padding:0}}
.nbops .alt{{display:none!important}}.nbops .pic{{display:block!important}}
.nbops .keys{{margin:6px 0 4px}}.nbops .keys b{{display:block;font-size:18px;
font-weight:600;font-variant-numeric:tabular-nums}}.nbops .keys span{{color:var(--nb-dim);font-size:12px}}
.nbops p{{margin:8px 0 0;max-width:90ch}}.nbops svg{{display:block;margin-top:10px;max-width:100%;height:auto;
font-family:inherit}}
.nbops thead{{border:0}}.nbops table{{border-collapse:collapse;table-layout:auto;
width:100%;margin:8px 0 0;font-size:13px;font-variant-numeric:tabular-nums;
border:0;color:inherit}}.nbops tr,.nbops tbody tr:nth-child(n){{background:none;height:28px}}
.nbops td,.nbops th{{padding:3px 7px;text-align:left;border:0;border-bottom:1px solid var(--nb-line);white-space:nowrap;
vertical-align:middle;max-width:none}}.nbops th{{color:var(--nb-dim);font-weight:500}}.nbops .r{{text-align:right}}
.nbops .w{{white-space:normal}}.nbops td:first-child,.nbops th:first-child{{padding-left:0}}
.nbops tr:last-child td{{border-bottom:0}}
.nbops pre{{background:var(--nb-soft);color:inherit;border-radius:6px;padding:8px 10px;margin:8px 0 0;
white-space:pre-wrap}}
.nbops ol{{margin:4px 0 0;padding-left:20px;max-width:90ch}}.nbops li{{margin:0 0 6px}}
.nbops .sec{{margin-top:14px;padding-top:10px;border-top:1px solid var(--nb-line)}}
</style>"""
_LEFT = ' style="text-align:left"'
# Shown by our style; where that is dropped, the bare words of the picture stay unseen.
_HIDDEN = '<div class="pic" style="display:none">'
_TONES = {"ok": "ok", "warn": "warn", "bad": "bad", "live": "live", "dim": "dim"}


def esc(value: Any, limit: int = 200) -> str:
    """Return one line of text of at most `limit` columns, safe within an element and within a quoted attribute."""
    return escape(cut(text(value), limit), quote=True)


def render(card: Card, *, limit: int = MAX_BYTES) -> str:
    """Return `card` as HTML of at most `limit` bytes; rows and points give way until it fits."""
    found = ""
    for rows, points, words in ((30, 640, 600), (20, 400, 400), (12, 240, 240), (6, 120, 120), (2, 40, 60)):
        found = _render(card, rows, points, words)
        if len(found.encode()) <= limit:
            break
    return found


def _render(card: Card, rows: int, points: int, words: int) -> str:
    parts = [_head(card, words)]
    if card.keys:
        parts.append(f'<div class="keys">{"".join(_key(key) for key in card.keys[:4])}</div>')
    parts += [_part(part, rows, points, words) for part in card.parts]
    if card.actions:
        lines = " ".join(f'<span class="mono">{esc(action, words)}</span>' for action in card.actions[:4])
        parts.append(f'<div class="row dim" style="margin-top:10px">{lines}</div>')
    return f'{_CSS}<div class="nbops">{"".join(parts)}</div>'


def _key(key: Key) -> str:
    label = cut(text(key.label), 40) + (f" {cut(text(key.note), 40)}" if key.note else "")
    value = f"<b>{esc(key.value, 24)}</b> <span>{esc(label)}</span>"
    return f'<div style="display:inline-block;margin:4px 26px 0 0">{value}</div>'


def _head(card: Card, words: int) -> str:
    return f'<div class="row">{_title_row(card.chip, card.title, card.id, card.facts, words)}</div>'


def _title_row(chip: Chip | None, title: str, id: str, facts: tuple[str, ...], words: int) -> str:
    parts = [_chip(chip)] if chip else []
    if title:
        parts.append(f'<span class="name"{_title(title, 60)}>{esc(title, 60)}</span>')
    if id:
        parts.append(f'<span class="dim mono">{esc(id, 40)}</span>')
    if facts:
        said = " · ".join(esc(fact, min(words, 60)) for fact in facts if fact)
        parts.append(f'<span class="sp"></span> <span class="dim">{said}</span>')
    return " ".join(parts)


def _chip(chip: Chip) -> str:
    tone = _TONES.get(chip.tone, "dim")
    return f'<span class="chip" style="--k:var(--nb-{tone})">{esc(chip.sign, 4)} {esc(chip.word, 48)}</span>'


def _title(value: Any, limit: int) -> str:
    whole = text(value)
    return f' title="{esc(whole, 240)}"' if len(whole) > limit else ""


def _part(part: Part, rows: int, points: int, words: int) -> str:
    drawers: dict[type, Callable[[Any], str]] = {
        Grid: lambda p: _table(p, rows, words),
        Note: lambda p: "".join(_note(line, p.tone, words) for line in p.text.split("\n") if line.strip()),
        Facts: lambda p: _facts(p, words),
        Code: lambda p: f"<pre>{_code(p.text, words)}</pre>",
        Figure: lambda p: _figure(p, points),
        Graph: lambda p: _graph(p, words),
        Picture: lambda p: _picture(p.svg, p.lines, words),
        Section: lambda p: f'<div class="row sec">{_title_row(p.chip, p.title, "", p.facts, words)}</div>',
        Ranked: lambda p: _ranked(p, words),
    }
    return drawers[type(part)](part)


def _graph(graph: Graph, words: int) -> str:
    """Return the picture, and its paths as text for where no picture is let through."""
    return _picture(graphs.svg(graph), graph.lines(), words)


def _picture(picture: str, lines: Iterable[str], words: int) -> str:
    said = "".join(f'<p class="alt">{esc(line, words)}</p>' for line in lines)
    return f"{_HIDDEN}{picture}</div>{said}"


def _figure(figure: Figure, points: int) -> str:
    """Return the picture, and a coarser one as an image where only that is let through."""
    picture = svg(figure, points=points)
    if not picture:
        return ""
    data = quote(svg(figure, points=points // 3, alone=True).replace('"', "'"), safe=" ='/:;,()-.!*")
    said = esc(" ".join(sparkline(figure)), 240)
    return f'{_HIDDEN}{picture}</div><img class="alt" alt="{said}" src="data:image/svg+xml,{data}">'


def _code(body: str, words: int) -> str:
    lines = (line.expandtabs(4) for line in body.splitlines()[: max(4, words // 10)])
    return "\n".join(" " * (len(line) - len(line.lstrip(" "))) + esc(line.strip(), words) for line in lines)


def _note(line: str, tone: str, words: int) -> str:
    kind = f' class="{_TONES[tone]}"' if tone in _TONES else ""
    return f"<p{kind}>{esc(line, words)}</p>"


def _facts(part: Facts, words: int) -> str:
    pairs = " · ".join(
        f'<span class="dim">{esc(name, 40)}</span> {esc(value, 60)}'
        for name, value in part.pairs[: max(4, words // 20)]
    )
    return f'<p><span class="dim">{esc(part.title, 40)}:</span> {pairs}</p>'


def _ranked(part: Ranked, words: int) -> str:
    items = "".join(_item(item, words) for item in part.items)
    return f'<p class="dim">{esc(part.title, 80)}</p><ol>{items}</ol>' if items else ""


def _item(item: Item, words: int) -> str:
    note = f' <span class="dim">{esc(item.note, 40)}</span>' if item.note else ""
    lines = "".join(
        f'<br><span class="dim">{esc(label, 40)}:</span> {esc(line, words)}' for label, line in item.lines if line
    )
    return f"<li>{esc(item.text, words)}{note}{lines}</li>"


def _table(grid: Grid, rows: int, words: int) -> str:
    if not grid.rows:
        return ""
    head = ""
    if any(grid.head):
        names = (f"{name} ↓" if i == grid.sorted_by else name for i, name in enumerate(grid.head))
        head = "".join(f"<th{_right(grid, i)}{_title(name, 32)}>{esc(name, 32)}</th>" for i, name in enumerate(names))
        head = f"<thead><tr>{head}</tr></thead>"
    body = "".join(
        f"<tr>{''.join(_cell(grid, i, value, words) for i, value in enumerate(row))}</tr>" for row in grid.rows[:rows]
    )
    left_out = len(grid.rows) - rows
    more = [f"… and {left_out:,} more"] if left_out > 0 else []
    more += [grid.more] if grid.more else []
    tail = f'<p class="dim">{esc(" · ".join(more))}</p>' if more else ""
    return f"<table>{head}<tbody>{body}</tbody></table>{tail}"


def _right(grid: Grid, index: int) -> str:
    """Return what aligns a head; left is said in place, since JupyterLab aligns all cells right."""
    return ' class="r"' if index in grid.right else _LEFT


def _cell(grid: Grid, index: int, value: Any, words: int) -> str:
    if isinstance(value, Chip):
        return f"<td{_LEFT}>{_chip(value)}</td>"
    if isinstance(value, Drawing):
        return f'<td{_LEFT}>{_HIDDEN}{value.svg}</div><span class="alt mono">{esc(value.text, 40)}</span></td>'
    raw = text(value.text if isinstance(value, Mono) else value)
    limit = min(_PROSE if raw.count(" ") > 2 else _CELL, words)  # prose wraps, a long name is cut
    kind = " ".join(
        name
        for name, holds in (
            ("r", index in grid.right), ("mono", isinstance(value, Mono)), ("w", len(raw) > 40),
        )
        if holds
    )  # fmt: skip
    kind = f' class="{kind}"' if kind else ""
    kind += "" if index in grid.right else _LEFT
    return f"<td{kind}{_title(raw, limit)}>{esc(raw, limit)}</td>"
