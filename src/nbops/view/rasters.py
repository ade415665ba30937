"""Many cells as a picture of one pixel each: an indexed PNG inside an SVG, small and quick to make.

`heatmaps` draws few cells with words in them; here are thousands, without.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Sequence
from html import escape

from nbops.view.format import cut, number, text
from nbops.view.heatmaps import cividis

_LEVELS = 64
_BAD = _LEVELS + 1  # where a value is not finite
_BLANK = 0
_PALETTE = b"\0\0\0" + b"".join(bytes.fromhex(cividis(i / (_LEVELS - 1))[1:]) for i in range(_LEVELS)) + b"\xc6\x2a\x2f"
_NAME_PX = 11  # height that a row's name takes
_NAME_COLUMNS = 13

Rows = Sequence[Sequence[float | None]]


def raster(
    title: str, names: Sequence[str], rows: Rows, ends: tuple[str, str], *, is_log: bool,
    at: tuple[float, float] = (0, 0), width: int = 385,
) -> tuple[str, int]:  # fmt: skip
    """Return a heat map as an SVG group, and its height in pixels.

    Parameters
    ----------
    title : str
        What is measured; the range is said after it.
    names : sequence of str
        One for each row.
    rows : sequence of sequences, [rows, columns]
        None leaves a cell blank, a value that is not finite is red.
    ends : (str, str)
        What the first and the last column are.
    is_log : bool
        By the logarithm, from the least positive value to the greatest; else from 0 to 1.
    at : (x, y), pixels
    width : int, pixels
    """
    low, high = _range(rows, is_log=is_log)
    left, high_px = 92, max(28, min(160, 12 * len(rows)))
    x, y = at
    said = f"{cut(text(title), 30)}  {number(low)} – {number(high)}"
    data = base64.b64encode(_png([[_level(v, low, high, is_log=is_log) for v in row] for row in rows])).decode()
    every = math.ceil(len(rows) * _NAME_PX / high_px)
    row_px = high_px / len(rows)
    labels = "".join(
        f'<text x="{x + left - 6:.0f}" y="{y + 18 + row_px * (i + 0.5) + 4:.1f}" text-anchor="end">'
        f"{escape(cut(text(name), _NAME_COLUMNS))}</text>"
        for i, name in enumerate(names) if i % every == 0
    )  # fmt: skip
    below = y + 18 + high_px + 12
    bar = "".join(f'<rect x="{x + width - 84 + 8 * i}" y="{y + 2}" width="8" height="8" fill="{cividis(i / 9)}"/>'
                  for i in range(10))  # fmt: skip
    group = (
        f'<g fill="var(--nb-dim,#6b7280)" font-size="11">'
        f'<text x="{x + left:.0f}" y="{y + 11:.0f}">{escape(said)}</text>'
        f'{bar}<image x="{x + left:.0f}" y="{y + 18:.0f}" width="{width - left - 4}" height="{high_px}" '
        f'preserveAspectRatio="none" style="image-rendering:pixelated" href="data:image/png;base64,{data}"/>{labels}'
        f'<text x="{x + left:.0f}" y="{below:.0f}">{escape(ends[0])}</text>'
        f'<text x="{x + width - 4:.0f}" y="{below:.0f}" text-anchor="end">{escape(ends[1])}</text></g>'
    )
    return group, 18 + high_px + 22


def _range(rows: Rows, *, is_log: bool) -> tuple[float, float]:
    if not is_log:
        return 0.0, 1.0
    known = [v for row in rows for v in row if v is not None and math.isfinite(v) and v > 0]
    return (min(known), max(known)) if known else (0.0, 0.0)


def _level(value: float | None, low: float, high: float, *, is_log: bool) -> int:
    if value is None:
        return _BLANK
    if not math.isfinite(value):
        return _BAD
    if not is_log:
        share = value
    elif value <= low or low <= 0:
        share = 0.0
    else:
        share = math.log(value / low) / (math.log(high / low) or 1.0)
    return 1 + round(min(max(share, 0.0), 1.0) * (_LEVELS - 1))


def _png(rows: Sequence[Sequence[int]]) -> bytes:
    """Return an indexed PNG (ISO/IEC 15948) of palette entries; entry 0 is transparent."""
    head = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 3, 0, 0, 0)
    lines = b"".join(b"\0" + bytes(row) for row in rows)
    parts = ((b"IHDR", head), (b"PLTE", _PALETTE), (b"tRNS", b"\0"), (b"IDAT", zlib.compress(lines, 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )
