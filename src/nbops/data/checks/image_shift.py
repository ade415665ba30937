"""The check ``image-shift``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.images.folders import pictures_of, pictures_or_why
from nbops.data.leaf import Sample, checks, judged, skipped
from nbops.data.series.lines import values_of

_MEASURES = ("brightness", "contrast", "red", "green", "blue", "width", "height")
_FEWEST = 10
_SURE = 5.0  # standard errors


@checks.register("image-shift")
def image_shift(sample: Sample, *, max_effect: float = 0.5) -> Iterator[CheckResult]:
    """Pictures that are brighter, darker, of other colour or size than those of the baseline.

    What it measures
        For brightness, contrast, the means of red, green and blue, width and height of ten pictures and more: the
        difference of the means, in standard deviations of the baseline. WARN above `max_effect`, if it is five
        standard errors from zero.

    Why it matters
        Another camera, another lens, BGR for RGB, values scaled twice: a model that was trained on the others fails
        on these without an error.

    When it is wrong
        Where the classes come in another mixture than in the baseline.

    Fix
        Look at both; scale, or train with pictures of both kinds. nb.drift tells more, from tables of embeddings.

    References
        Cohen, "Statistical power analysis for the behavioral sciences", 1988: effect sizes.
    """
    pictures = pictures_or_why(sample)
    if isinstance(pictures, CheckResult):
        yield pictures
        return
    reference = sample.reference
    if reference is None or pictures_of(reference) is None:
        yield skipped("no other folder was given", fix='Pass it: nb.check("new/", baseline="old/").')
        return
    for name in _MEASURES:
        now, before = (values_of(frame.column(name)) for frame in (sample.frame, reference))
        now, before = now[np.isfinite(now)], before[np.isfinite(before)]
        if min(len(now), len(before)) < _FEWEST:
            continue
        spread = float(before.std()) or 1.0
        effect = float(now.mean() - before.mean()) / spread
        error = float(np.sqrt(now.var() / len(now) + before.var() / len(before))) / spread
        is_sure = abs(effect) > _SURE * error
        yield judged(
            abs(effect),
            warn=max_effect if is_sure else None,
            column=name,
            unit="sd",
            message=f"{name} is {now.mean():.4g} on average, {before.mean():.4g} in the baseline",
            fix="Look at both; scale, or train with pictures of both kinds.",
        )
