"""What a split is measured by after it was made: shares, groups and equal rows on two sides, times that overlap."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nbops.data.columns import BLOCK, Array, Hashes, mixed
from nbops.data.splits.identity import SAMPLE, found_in, from_hex, to_hex
from nbops.data.splits.moments import Times
from nbops.data.splits.sides import LEFT_OUT, SIDES, TEST, TRAIN, VAL, Codes, Strata

LARGE_STRATUM = 200  # rows; below, one row is more than half a point
_WORST = 5  # strata that are named


@dataclass
class _Side:
    """What is known of the rows of one side so far."""

    rows: int = 0
    total: int = 0
    mixed: int = 0
    smallest: Hashes = field(default_factory=lambda: np.zeros(0, np.uint64))

    def add(self, content: Hashes, identity: Hashes) -> None:
        """Take rows in, by their evenly spread numbers."""
        self.rows += len(content)
        self.total = (self.total + int(content.sum(dtype=np.uint64))) % 2**64
        self.mixed ^= int(np.bitwise_xor.reduce(content))
        if len(self.smallest) == SAMPLE:
            identity = identity[identity < self.smallest[-1]]
        ordered = np.sort(np.concatenate([self.smallest, identity]))
        self.smallest = ordered[np.diff(ordered, prepend=~ordered[:1]) != 0][:SAMPLE]

    @property
    def digest(self) -> str:
        """The sha256 (hex) of the rows, whatever their order."""
        return hashlib.sha256(f"nbops-rows/1 {self.rows} {self.total:016x} {self.mixed:016x}".encode()).hexdigest()


@dataclass(frozen=True)
class Summary:
    """Of each side: its rows, a digest of them, and up to 256 of them as text; see `moved`."""

    sizes: dict[str, int]
    digests: dict[str, str]
    sample: dict[str, str]


def summarised(identity: Hashes, content: Hashes, codes: Codes) -> Summary:
    """Return the sides of a split in brief, in one pass: `identity` tells rows apart, `content` is all of a row."""
    sides = [_Side() for _ in SIDES]
    for start in range(0, len(codes), BLOCK):
        part, side = slice(start, start + BLOCK), codes[start : start + BLOCK]
        whole = mixed(content[part])
        own = whole if identity is content else mixed(identity[part])
        for code, known in enumerate(sides):
            here = side == code
            if here.any():
                known.add(whole[here], own[here])
    named = dict(zip(SIDES, sides, strict=True))
    return Summary(
        {name: side.rows for name, side in named.items()},
        {name: side.digest for name, side in named.items() if side.rows},
        {name: to_hex(side.smallest) for name, side in named.items() if side.rows and name != SIDES[LEFT_OUT]},
    )


def spread_of(identity: Hashes) -> Hashes:
    """Return numbers that are evenly spread and the same in every split."""
    out = np.empty_like(identity)
    for start in range(0, len(identity), BLOCK):
        out[start : start + BLOCK] = mixed(identity[start : start + BLOCK])
    return out


def moved(sample: dict[str, str], identity: Hashes, codes: Codes) -> tuple[int, int]:
    """Return of the rows in an earlier sample how many are here, and how many of these are on another side."""
    known = {SIDES.index(side): from_hex(text) for side, text in sample.items()}
    limit = max((rows[-1] for rows in known.values() if len(rows)), default=np.uint64(0))
    here = there = 0
    for start in range(0, len(codes), BLOCK):
        spread = mixed(identity[start : start + BLOCK])
        near = np.flatnonzero(spread <= limit)
        few, side = spread[near], codes[start : start + BLOCK][near]
        for code, rows in known.items():
            is_known = np.isin(few, rows) & (side != LEFT_OUT)
            here += int(np.count_nonzero(is_known))
            there += int(np.count_nonzero(is_known & (side != code)))
    return here, there


def duplicates_across(content: Hashes, codes: Codes) -> int:
    """Return how many rows of test, or of val, equal a row of another side that is learned or chosen from."""
    count, content = 0, spread_of(content)
    for code in (VAL, TEST):
        own = content[codes == code]
        if len(own):
            others = content[codes < code]
            count += int(np.count_nonzero(found_in(own, others)))
    return count


def groups_cut(group: Hashes, codes: Codes) -> int:
    """Return how many groups have rows on more than one side."""
    used = codes != LEFT_OUT
    ids, of = np.unique(group[used], return_inverse=True)
    side = codes[used]
    lowest, highest = np.full(len(ids), 255, np.uint8), np.zeros(len(ids), np.uint8)
    np.minimum.at(lowest, of, side)
    np.maximum.at(highest, of, side)
    return int(np.count_nonzero(lowest != highest))


def strata_proof(strata: Strata, codes: Codes, *, test: float, val: float) -> dict[str, Any]:
    """Return how far the shares of the strata are from what was asked: over all, and over large ones."""
    count = len(strata.names)
    rows = np.bincount(strata.codes, minlength=count)
    off = np.zeros(count)
    parts: dict[int, Array] = {}
    for code, share in ((TEST, test), (VAL, val)):
        if share:
            parts[code] = np.bincount(strata.codes[codes == code], minlength=count)
            off = np.maximum(off, np.abs(parts[code] / np.maximum(rows, 1) - share))
    large = rows >= LARGE_STRATUM
    worst = np.argsort(-off, kind="stable")[:_WORST]
    without = int(np.count_nonzero((parts[TEST] == 0) & (rows > 0))) if TEST in parts else 0
    return {
        "strata": count,
        "deviation": float(off.max(initial=0.0)),
        "large_strata": int(np.count_nonzero(large)),
        "large_deviation": float(off[large].max(initial=0.0)),
        "without_test": without,
        "worst": {strata.names[i]: {"rows": int(rows[i]), "off": float(off[i])} for i in worst},
    }


def time_proof(times: Times, codes: Codes) -> dict[str, Any]:
    """Return how many later rows are not after all of an earlier side, and when each side begins and ends."""
    overlap, newest, spans = 0, None, {}
    for code in (TRAIN, VAL, TEST):
        mine = codes == code
        if not mine.any():
            continue
        start, end = times.start[mine], times.end[mine]
        if newest is not None:
            overlap += int(np.count_nonzero(start <= newest))
        newest = end.max() if newest is None else max(newest, end.max())
        spans[SIDES[code]] = [times.shown(start.min()), times.shown(start.max())]
    return {"overlap": overlap, "spans": spans}
