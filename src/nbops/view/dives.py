"""Cards of a dive: facets of counted bars, cells or sampled points; and its rows, with small pictures of images."""

from __future__ import annotations

import base64
import os
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbops.core.display import Bundle
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Chip, Drawing, Grid, Note, Part, Picture
from nbops.view.figures import COLOURS
from nbops.view.format import cut, number, plural
from nbops.view.html import esc
from nbops.view.minis import BLOCKS
from nbops.view.staleness import moved_on
from nbops.view.text import table

if TYPE_CHECKING:
    from nbops.data.columns import Column
    from nbops.data.diving.dive import Dive, DiveRows

MAX_BYTES = 60_000
_WIDE = 860  # pixels of all facets beside each other
_HIGH, _TOP, _LEFT, _BELOW = 128, 22, 46, 22
_LEGEND = 20
_SHADES = 5
_COLUMNS = 8  # shown of a row
_TEXT = 60  # characters of a text
_THUMB_PX = 40
_THUMB_BYTES, _ALL_THUMB_BYTES = 24_000, 36_000
_SUFFIXES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".gif": "gif", ".webp": "webp"}
_MAGIC = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"))


def show_dive(value: Dive) -> Bundle:
    """Draw a `Dive`: the picture, what its colours are, and how exact it is."""
    parts: list[Part] = []
    if value.dataset and (line := moved_on(*value.dataset)):
        parts.append(Note(f"! {line}", "warn"))
    parts.append(Picture(picture(value), tuple(_lines(value))))
    parts += [Note(line, "dim") for line in notes(value)]
    said = " · ".join(f"{role} {column}" for role, column in value.chosen.items() if column)
    facts = (f"{value.frame.rows:,} × {len(value.frame.columns):,}", said)
    actions = ("dive.by(facet='…')", f"dive.rows({_example(value)})")
    return bundle(Card(value.name, Chip("i", "dive", "live"), "", facts, parts=tuple(parts), actions=actions),
                  limit=MAX_BYTES)  # fmt: skip


def _example(value: Dive) -> str:
    role = next((role for role in ("x", "facet", "color", "y") if value.chosen[role]), "x")
    labels = value.axis(role).labels
    return f"{role}={labels[len(labels) // 2]!r}"


def notes(value: Dive) -> list[str]:
    """Return what the colours are, and what is exact."""
    found = []
    if value.is_scatter:
        drawn = len(value.points())
        said = f"{drawn:,} of {value.frame.rows:,} points, from each facet and colour its share, the same each time; "
        found.append(f"{said if drawn < value.frame.rows else 'all points; '}the counts are exact")
    else:
        found.append(f"counts are exact, of all {value.frame.rows:,} rows")
    return found


def _is_cells(value: Dive) -> bool:
    return value.chosen["y"] is not None and not value.is_scatter


def picture(value: Dive) -> str:
    """Return the facets as an ``<svg>`` element."""
    counts = value.counts
    many = counts.shape[0]
    across = min(many, 4)
    wide, high = _WIDE / across, _HIGH + _TOP + _BELOW
    legend = _legend(value)
    above = _LEGEND if legend else 0
    height = above + high * -(-many // across)
    top = float(counts.sum(axis=3).max()) or 1.0
    samples = _samples(value) if value.is_scatter else {}
    body = []
    for place, label in enumerate(value.axis("facet").labels):
        x, y = (place % across) * wide, above + (place // across) * high
        total = int(counts[place].sum())
        title = f"{cut(label, 20)} · {total:,}" if label else f"{total:,} rows"
        inner = (_points(value, samples.get(place, {}), wide) if value.is_scatter
                 else _cells(counts[place].sum(axis=2), top, wide) if value.chosen["y"]
                 else _bars(counts[place, 0], top, wide))  # fmt: skip
        body.append(f'<g transform="translate({x:.0f},{y:.0f})"><text x="{_LEFT}" y="14" fill="var(--nb-fg,#222)">'
                    f"{esc(title, 60)}</text>{inner}{_words(value, top, wide)}</g>")  # fmt: skip
    said = esc(", ".join(f"{role} {column}" for role, column in value.chosen.items() if column), 100)
    return (f'<svg viewBox="0 0 {_WIDE} {height:.0f}" width="{_WIDE}" height="{height:.0f}" role="img" font-size="11" '
            f'aria-label="{said}">{legend}{"".join(body)}</svg>')  # fmt: skip


def _legend(value: Dive) -> str:
    """Return what the colours are, as one line."""
    if not value.chosen["color"] or _is_cells(value):
        return ""
    x, parts = 0.0, []
    for place, label in enumerate(value.axis("color").labels):
        said = cut(label, 18)
        parts.append(f'<rect x="{x:.0f}" y="3" width="10" height="10" fill="{_colour(place)}"/>'
                     f'<text x="{x + 15:.0f}" y="12">{esc(said, 40)}</text>')  # fmt: skip
        x += 34 + 6.6 * len(said)
    return f'<g fill="var(--nb-fg,#222)">{"".join(parts)}</g>'


def _ends(value: Dive, role: str) -> tuple[str, str]:
    """Return the words at both ends of an axis."""
    labels = value.axis(role).labels
    if not value.is_scatter:
        return labels[0], labels[-1]
    from nbops.data.drifting.bars import value_text
    from nbops.data.drifting.counting import family

    kind = family(value.frame.column(value.chosen[role] or "").dtype)
    low, high = (value_text(kind, end) for end in value.span(role))
    return low, high


def _words(value: Dive, top: float, wide: float) -> str:
    """Return the line below a facet, and the ends of its axes."""
    x, y = _ends(value, "x"), _ends(value, "y")
    base = _TOP + _HIGH
    room = int((wide - _LEFT) / 2 / 6.6)
    right = wide - 12
    up = (y[-1], y[0]) if value.chosen["y"] else (number(int(top)), "0")
    ends = "".join(
        f'<text x="{_LEFT - 4}" y="{at}" text-anchor="end">{esc(cut(word, 7), 12)}</text>'
        for word, at in ((up[0], _TOP + 9), (up[1], base))
    )  # fmt: skip
    return (f'<path d="M{_LEFT} {base + 0.5}H{right:.0f}" stroke="var(--nb-line,#e5e7eb)"/>'
            f'<g fill="var(--nb-dim,#6b7280)">{ends}<text x="{_LEFT}" y="{base + 14}">{esc(cut(x[0], room), 40)}</text>'
            f'<text x="{right:.0f}" '
            f'y="{base + 14}" text-anchor="end">{esc(cut(x[-1], room), 40)}</text></g>')  # fmt: skip


def _bars(counts: Any, top: float, wide: float) -> str:
    """Return stacked bars, [x, color]."""
    step, base = (wide - _LEFT - 12) / len(counts), _TOP + _HIGH
    done, paths = [0.0] * len(counts), []
    for place in range(counts.shape[1]):
        path = ""
        for i, count in enumerate(counts[:, place].tolist()):
            tall = count / top * _HIGH
            if tall >= 0.05:
                path += f"M{_LEFT + i * step:.1f} {base - done[i]:.1f}v-{tall:.1f}h{max(1.0, step - 1):.1f}v{tall:.1f}z"
            done[i] += tall
        paths.append(f'<path fill="{_colour(place)}" d="{path}"/>' if path else "")
    return "".join(paths)


def _cells(counts: Any, top: float, wide: float) -> str:
    """Return cells shaded by their count, [y, x]."""
    step, tall = (wide - _LEFT - 12) / counts.shape[1], _HIGH / counts.shape[0]
    paths = [""] * (_SHADES + 1)
    for j, row in enumerate(counts.tolist()):
        for i, count in enumerate(row):
            if count:
                shade = 1 + min(_SHADES - 1, int(_SHADES * count / top))
                y = _TOP + _HIGH - (j + 1) * tall
                paths[shade] += f"M{_LEFT + i * step:.1f} {y:.1f}h{step - 1:.1f}v{tall - 1:.1f}h-{step - 1:.1f}z"
    return "".join(f'<path fill="{_colour(0)}" fill-opacity="{shade / _SHADES:.2f}" d="{path}"/>'
                   for shade, path in enumerate(paths) if path)  # fmt: skip


def _samples(value: Dive) -> dict[int, dict[int, Any]]:
    """Return the sampled rows of each facet and colour."""
    rows = value.points()
    facet, color = value.axis("facet").codes[rows], value.axis("color").codes[rows]
    return {int(place): {int(code): rows[(facet == place) & (color == code)] for code in set(color.tolist())}
            for place in set(facet.tolist())}  # fmt: skip


def _points(value: Dive, groups: dict[int, Any], wide: float) -> str:
    import numpy as np  # views are listed without it

    found = []
    x, y = value.axis("x").values, value.axis("y").values
    if x is None or y is None:
        return ""
    across, up = value.span("x"), value.span("y")
    for code, rows in sorted(groups.items()):
        share = [np.clip((v[rows] - low) / ((high - low) or 1.0), 0, 1) for v, (low, high) in ((x, across), (y, up))]
        px, py = _LEFT + 3 + share[0] * (wide - _LEFT - 20), _TOP + _HIGH - 3 - share[1] * (_HIGH - 8)
        path = "".join(f"M{a:.0f} {b:.0f}h0" for a, b in zip(px.tolist(), py.tolist(), strict=True))
        if path:
            found.append(f'<path d="{path}" stroke="{_colour(code)}" stroke-width="3" stroke-linecap="round" '
                         'stroke-opacity=".6"/>')  # fmt: skip
    return "".join(found)


def _colour(place: int) -> str:
    at = place % len(COLOURS)
    return f"var(--nb-s{at},{COLOURS[at]})"


def _lines(value: Dive) -> list[str]:
    """Return each facet as a line of text."""
    counts = value.counts
    top = int(counts.sum(axis=(1, 3)).max()) or 1
    labels = value.axis("x").labels
    rows = []
    for place, label in enumerate(value.axis("facet").labels):
        shape = counts[place].sum(axis=(0, 2)).tolist()
        said = "".join(BLOCKS[min(8, max(1 if one else 0, round(8 * one / top)))] for one in shape)
        rows.append(f"{cut(label or 'all', 22):<22}  {said}  {sum(shape):,}")
    return [*rows, f"{'':<22}  {cut(labels[0], 30)} … {cut(labels[-1], 30)}" if len(labels) > 1 else labels[0]]


def show_rows(value: DiveRows) -> Bundle:
    """Draw `DiveRows`: positions and values; of images a small picture."""
    columns = list(value.frame.columns)
    columns.sort(key=lambda column: not column.is_tensor)  # what can only be seen comes first
    shown = columns[:_COLUMNS]
    found: Bundle = {}
    for count in (len(value), 120, 80, 50, 30, 12):
        found = bundle(_rows_card(value, shown, min(count, len(value)), len(columns) - len(shown)), limit=MAX_BYTES)
        if len(found["text/html"].encode()) <= MAX_BYTES:
            break
    return found


def _rows_card(value: DiveRows, shown: list[Column], count: int, hidden: int) -> Card:
    budget = [_ALL_THUMB_BYTES]
    rows = tuple((f"{int(row):,}", *(_cell(column, int(row), budget) for column in shown))
                 for row in value.positions[:count])  # fmt: skip
    right = frozenset([0, *(i for i, column in enumerate(shown, 1) if column.is_number)])
    left = value.total - len(rows)
    more = " · ".join(part for part in (f"… and {plural(left, 'more row')}" if left > 0 else "",
                                        f"{plural(hidden, 'column')} not shown" if hidden else "") if part)  # fmt: skip
    grid = Grid(("row", *(cut(column.name, 20) for column in shown)), rows, right, more=more)
    parts: tuple[Part, ...] = (Picture(_table(grid), tuple(table(grid))),) if rows else (Note("no rows", "dim"),)
    return Card(value.title, None, "", (f"{len(rows):,} of {plural(value.total, 'row')}",), parts=parts)


def _table(grid: Grid) -> str:
    """Return the rows as an HTML table: more of them than a card's tables have."""
    head = "".join(f"<th{_side(grid, i)}>{esc(name, 24)}</th>" for i, name in enumerate(grid.head))
    body = "".join(f"<tr>{''.join(f'<td{_side(grid, i)}>{_inner(one)}</td>' for i, one in enumerate(row))}</tr>"
                   for row in grid.rows)  # fmt: skip
    more = f'<p class="dim">{esc(grid.more)}</p>' if grid.more else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _side(grid: Grid, index: int) -> str:
    return ' class="r"' if index in grid.right else ' style="text-align:left"'


def _inner(value: Any) -> str:
    if isinstance(value, Drawing):
        return value.svg
    said = str(value)
    title = f' title="{esc(said, 240)}"' if len(said) > _TEXT else ""
    return f"<span{title}>{esc(said, _TEXT)}</span>" if title else esc(said, _TEXT)


def _cell(column: Column, row: int, budget: list[int]) -> Any:
    image = _image(column, row)
    if image and len(image) <= budget[0]:
        budget[0] -= len(image)
        return Drawing(f'<img alt="row {row}" src="{image}" style="max-height:{_THUMB_PX}px">', f"image {column.dtype}")
    if column.is_tensor:
        return column.dtype
    value = column.value(row)
    if value is None:
        return "—"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if not isinstance(value, str):
        return number(value)
    return value.removesuffix(".000000").removesuffix("T00:00:00") if column.dtype.startswith("date") else value


def _image(column: Column, row: int) -> str:
    """Return a picture of a cell as a data address; nothing where it is none, or too large to be shown small."""
    if column.is_tensor:
        data = _png(column, row)
        return f"data:image/png;base64,{base64.b64encode(data).decode()}" if data else ""
    if column.dtype not in ("bytes", "text"):
        return ""
    value = column.value(row)
    if isinstance(value, str):
        kind = _SUFFIXES.get(Path(value).suffix.lower(), "") if len(value) < 400 else ""
        if not kind or not os.path.isfile(value) or os.path.getsize(value) > _THUMB_BYTES:
            return ""
        value = Path(value).read_bytes()
    if value is None or len(value) > _THUMB_BYTES:
        return ""
    known = next((name for magic, name in _MAGIC if value.startswith(magic)), "")
    known = known or ("webp" if value[8:12] == b"WEBP" else "")
    return f"data:image/{known};base64,{base64.b64encode(value).decode()}" if known else ""


def _png(column: Column, row: int) -> bytes:
    """Return the cells of an image-like tensor as PNG (ISO/IEC 15948), thinned to a thumbnail; nothing of others."""
    import numpy as np

    shape = [int(part) for part in column.dtype.partition("[")[2].rstrip("]").split(",") if part]
    pixels = np.asarray(column.values[row], dtype=np.float64).reshape(shape)
    if pixels.ndim == 3 and shape[0] in (1, 3) and shape[2] not in (1, 3, 4):
        pixels = pixels.transpose(1, 2, 0)  # channels first, as torch has them
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or min(pixels.shape[:2]) < 2:
        return b""
    stride = max(1, -(-max(pixels.shape[:2]) // _THUMB_PX))
    pixels = np.nan_to_num(pixels[::stride, ::stride, :3])
    low, high = min(0.0, float(pixels.min())), float(pixels.max())
    is_bytes = column.values.dtype == np.uint8
    scaled = pixels if is_bytes else (pixels - low) / ((high - low) or 1.0) * 255
    image = np.clip(scaled, 0, 255).astype(np.uint8)
    lines = b"".join(b"\0" + line.tobytes() for line in image)
    head = struct.pack(">IIBBBBB", image.shape[1], image.shape[0], 8, 0 if image.shape[2] == 1 else 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines, 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )
