"""How a journal's frames are laid out in bytes: ``length u32, crc32 u32, body``.

Bodies, by first byte: 0 owner (JSON), 1 definition (key, run, metric), 2 points of one call (count, cell, time, then
key, step, value each), 3 one metric's arrays, 4 the same with even steps at one time, 5 changes of records
(JSON), 6 definition of a cell (key, text). A cell's key stands beside the points that it logged; 0 is none.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache

OWNER, DEFINE, POINTS, ARRAYS, EVEN, CHANGES, CELL = range(7)
HEAD = struct.Struct("<II")
POINTS_HEAD = struct.Struct("<BxHIq")  # type, count, cell, time in ms
DEFINE_HEAD = struct.Struct("<BxHIH")  # type, bytes of run, key, bytes of metric
ARRAYS_HEAD = struct.Struct("<BxxxIII")  # type, key, count, cell
EVEN_HEAD = struct.Struct("<BxxxIIIqqq")  # type, key, count, cell, first step, stride, time in ms
CELL_HEAD = struct.Struct("<BxxxI")  # type, key


@cache
def points_of(count: int) -> Callable[..., bytes]:
    """Return what packs the body of a frame of `count` points: type, count, cell, time, then key, step, value each."""
    return struct.Struct("<BxHIq" + "Iqd" * count).pack


def frame(*body: bytes | memoryview) -> bytes:
    """Return a whole frame; large parts are copied once."""
    if len(body) == 1:
        return HEAD.pack(len(body[0]), zlib.crc32(body[0])) + body[0]
    checksum = 0
    for part in body:
        checksum = zlib.crc32(part, checksum)
    return b"".join((HEAD.pack(sum(map(len, body)), checksum), *body))


def definition(key: int, run: str, metric: str) -> bytes:
    """Return the body that gives a metric of a run its key."""
    names = run.encode(), metric.encode()
    return DEFINE_HEAD.pack(DEFINE, len(names[0]), key, len(names[1])) + names[0] + names[1]


def cell_definition(key: int, cell: str) -> bytes:
    """Return the body that gives a cell its key."""
    return CELL_HEAD.pack(CELL, key) + cell.encode()
