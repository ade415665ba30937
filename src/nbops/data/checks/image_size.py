"""The check ``image-size``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.columns import Array, Mask
from nbops.data.images.folders import named, pictures_or_why
from nbops.data.leaf import Sample, checks, judged, percent
from nbops.data.tails import beyond

_MOST_ALIKE = 0.9
_TINY = 16  # pixels


@checks.register("image-size")
def image_size(sample: Sample, *, max_share: float = 0.0, chance: float = 0.001) -> Iterator[CheckResult]:
    """Pictures far larger, smaller, wider or higher than the others.

    What it measures
        Where 90 % of the pictures have one size: those that have another. Else: how far the logarithms of area and of
        width by height lie from their medians, against the tail of these distances (fewer than `chance` of healthy
        folders have any beyond it), from 50 pictures on; and pictures of less than 16 pixels in one direction, where
        most are larger. WARN above `max_share`.

    Why it matters
        They are scaled to one size before a model sees them: thumbnails become a blur, panoramas are squeezed.

    When it is wrong
        In collections of all sorts, where strips and stamps belong.

    Fix
        Look at them; crop or pad instead of scaling, or leave them out.

    References
        Touvron et al., "Fixing the train-test resolution discrepancy", NeurIPS 2019.
    """
    pictures = pictures_or_why(sample)
    if isinstance(pictures, CheckResult):
        yield pictures
        return
    there = pictures.readable
    width = np.array([one.width for one in pictures.found], np.float64)
    height = np.array([one.height for one in pictures.found], np.float64)
    odd, usual = _odd(width, height, there, chance)
    rows = np.flatnonzero(odd)
    at = f": {named(pictures.paths, rows, most=2)}" if len(rows) else ""
    sizes = f" ({width[rows[0]]:.0f} × {height[rows[0]]:.0f})" if len(rows) else ""
    yield judged(
        len(rows) / sample.rows,
        warn=max_share,
        column="width",
        unit="share",
        message=f"{len(rows):,} of {sample.rows:,} pictures have an odd size ({percent(len(rows) / sample.rows)})"
        f"{at}{sizes}; {usual}",
        fix="Look at them; crop or pad instead of scaling, or leave them out.",
        rows=odd,
    )


def _odd(width: Array, height: Array, there: Mask, chance: float) -> tuple[Mask, str]:
    if not there.any():
        return np.zeros(len(there), np.bool_), "none can be decoded"
    sizes = np.stack((width, height), axis=1)
    known, counts = np.unique(sizes[there], axis=0, return_counts=True)
    common = known[counts.argmax()]
    if counts.max() >= _MOST_ALIKE * there.sum():
        return there & (sizes != common).any(axis=1), f"most have {common[0]:.0f} × {common[1]:.0f}"
    odd = np.zeros(len(there), np.bool_)
    safe_width, safe_height = np.maximum(width, 1), np.maximum(height, 1)
    for values in (np.log(safe_width * safe_height), np.log(safe_width / safe_height)):
        distance = np.abs(values - np.median(values[there]))
        limit = beyond(distance[there], chance=chance)
        odd |= (distance > limit) if limit is not None else False
    tiny = np.minimum(width, height) < _TINY
    odd |= tiny if np.mean(tiny[there]) < 1 - _MOST_ALIKE else False
    middle = np.median(sizes[there], axis=0)
    return odd & there, f"half of all have up to {middle[0]:.0f} × {middle[1]:.0f}"
