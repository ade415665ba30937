"""The check ``special-characters``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.columns import Column, Mask
from nbops.data.leaf import Sample, checks, judged, percent

_BROKEN = (0xEF, 0xBF, 0xBD)  # U+FFFD in UTF-8: what a decoder writes where it could not read


@checks.register("special-characters")
def special_characters(sample: Sample, *, max_share: float = 0.001) -> Iterator[CheckResult]:
    """Texts without a letter or digit, with control characters, or broken by a wrong encoding.

    What it measures
        The share of texts that have only punctuation, that hold a control character other than tab and line breaks, or
        the mark U+FFFD of bytes that could not be decoded. WARN above `max_share`. Empty texts are the matter of
        `mixed-nulls`.

    Why it matters
        They tell of a wrong encoding or separator, or of a form that people filled with anything to get past it.

    When it is wrong
        In columns of symbols: currency signs, grades such as "+" and "-", emoji (which count as letters).

    Fix
        Read the file with its real encoding and separator; map the marks to missing.

    References
        Google, TensorFlow Data Validation, anomaly ENUM_TYPE_INVALID_UTF8.
    """
    for column in sample.columns:
        if not column.is_text or column.offsets is None:
            continue
        bad = _odd(column)
        if column.missing is not None:
            bad &= ~column.missing
        present, count = column.rows - column.missing_count, int(np.count_nonzero(bad))
        share = count / present if present else 0.0
        shown = ", ".join(repr(str(column.value(int(row)))[:30]) for row in np.flatnonzero(bad)[:3])
        yield judged(
            share,
            warn=max_share,
            column=column.name,
            unit="share",
            message=f"{count:,} of {present:,} texts have no letter, or broken ones ({percent(share)}): {shown}",
            fix="Read the file with its real encoding, or map the marks to missing.",
            evidence={"texts": count},
            rows=bad,
        )


def _odd(column: Column) -> Mask:
    """Return which texts are only punctuation, or hold a control character or U+FFFD."""
    data, offsets = column.values, column.offsets
    if offsets is None or not len(data):
        return np.zeros(column.rows, np.bool_)
    letter, control = _TABLE[data] == 1, _TABLE[data] == 2
    if (data == _BROKEN[0]).any():
        control = control.copy()
        control[:-2] |= (data[:-2] == _BROKEN[0]) & (data[1:-1] == _BROKEN[1]) & (data[2:] == _BROKEN[2])
    lengths = np.diff(offsets)
    blank = _count(_TABLE[data] == 3, offsets)
    found: Mask = ((_count(letter, offsets) == 0) & (blank < lengths)) | (_count(control, offsets) > 0)
    return found


def _count(flags: Mask, offsets: np.ndarray) -> np.ndarray:
    total = np.zeros(len(flags) + 1, np.int64)
    np.cumsum(flags, out=total[1:])
    return np.diff(total[offsets])


def _kinds() -> np.ndarray:
    """Return for each byte: 1 letter, digit or part of a longer character, 2 control, 3 blank, 0 punctuation."""
    kinds = np.zeros(256, np.uint8)
    kinds[0x80:] = 1
    kinds[[*b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"]] = 1
    kinds[:0x20], kinds[0x7F] = 2, 2
    kinds[[*b" \t\r\n\f\v"]] = 3
    return kinds


_TABLE = _kinds()
