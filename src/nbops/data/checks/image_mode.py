"""The check ``image-mode``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.columns import Mask
from nbops.data.images.folders import Pictures, named, pictures_or_why
from nbops.data.leaf import Sample, checks, judged, percent

# what a model gets when it asks for the channels as they are
_CHANNELS = {"1": "grey", "L": "grey", "LA": "grey and alpha", "RGB": "colour", "P": "a palette", "PA": "a palette",
             "RGBA": "colour and alpha", "CMYK": "CMYK"}  # fmt: skip


@checks.register("image-mode")
def image_mode(sample: Sample, *, max_share: float = 0.0) -> Iterator[CheckResult]:
    """Pictures with other channels than most, turned on their side, or moving.

    What it measures
        Pictures whose channels (grey, colour, alpha, a palette, CMYK, 16 bits) are not those of most; whose EXIF says
        that they are to be turned; and files with several frames, where most have one. WARN above `max_share`.

    Why it matters
        Viewers turn a photograph by its EXIF, most training code does not: it learns from people who lie on their
        side. A fourth channel or a single one stops a batch, or is broadcast; transparent becomes black.

    When it is wrong
        Where the loader converts and turns already.

    Fix
        image.convert("RGB") and PIL.ImageOps.exif_transpose(image) when loading.

    References
        JEITA CP-3451, "Exchangeable image file format for digital still cameras: Exif", tag 0x0112.
    """
    pictures = pictures_or_why(sample)
    if isinstance(pictures, CheckResult):
        yield pictures
        return
    kinds = [_CHANNELS.get(one.mode, one.mode) for one in pictures.found]
    counts = Counter(kind for kind, one in zip(kinds, pictures.found, strict=True) if not one.error)
    usual = counts.most_common(1)[0][0] if counts else ""
    other = np.array([kind != usual for kind in kinds], np.bool_) & pictures.readable
    rest = ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common() if kind != usual)
    yield _judged(pictures, other, f"are not {usual or 'readable'} like most{f' ({rest})' if rest else ''}", "mode",
                  max_share, 'Convert when loading: image.convert("RGB").')  # fmt: skip
    turned = np.array([one.orientation != 1 for one in pictures.found], np.bool_)
    yield _judged(pictures, turned, "are to be turned by their EXIF", "path", max_share,
                  "Turn when loading: PIL.ImageOps.exif_transpose(image).")  # fmt: skip
    moving = np.array([one.frames > 1 for one in pictures.found], np.bool_)
    few = max_share if np.mean(moving) < 0.5 else None
    yield _judged(pictures, moving, "have several frames", "path", few, "Say which frame counts, or leave them out.")


def _judged(pictures: Pictures, rows: Mask, what: str, column: str, max_share: float | None, fix: str) -> CheckResult:
    found = np.flatnonzero(rows)
    share = len(found) / len(rows)
    return judged(
        share,
        warn=max_share,
        column=column,
        unit="share",
        message=f"{len(found):,} of {len(rows):,} pictures {what} ({percent(share)})"
        f"{': ' if len(found) else ''}{named(pictures.paths, found)}",
        fix=fix,
        rows=rows,
    )
