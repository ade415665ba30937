"""The check ``image-duplicates``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.images.folders import Pictures, pictures_or_why
from nbops.data.images.twins import twins
from nbops.data.leaf import Sample, checks, judged, percent

Pairs = list[tuple[int, int]]


@checks.register("image-duplicates")
def image_duplicates(
    sample: Sample, *, max_share: float = 0.0, near_share: float = 0.01, fail_share: float = 0.5
) -> Iterator[CheckResult]:
    """The same picture twice, nearly the same, or in two classes.

    What it measures
        Pictures whose file equals an earlier one's: WARN above `max_share`. Pictures that nearly equal an earlier one
        (small grey copies correlate by 0.995 and differ by 4 of 255 on average: saved again, scaled, frames of one
        scene): WARN above `near_share`. Above `fail_share` each FAILs. Equal or nearly equal pictures in two class
        folders: FAIL for any.

    Why it matters
        Copies weigh more in training, and end up on both sides of a split. One picture in two classes has a wrong
        label in one of them.

    When it is wrong
        Pictures of one plain thing on one plain ground may be nearly equal and still two. Turned, mirrored and cropped
        copies are not found. Pictures with hardly any contrast are compared by their files only.

    Fix
        Delete the copies, or keep them together: nb.split(…, group=…). Decide which class is right.

    References
        Barz and Denzler, "Do we train on test data? Purging CIFAR of near-duplicates", Journal of Imaging 6(6), 2020.
    """
    pictures = pictures_or_why(sample)
    if isinstance(pictures, CheckResult):
        yield pictures
        return
    exact, near = _equal(pictures), twins(pictures.small())
    near = [pair for pair in near if pictures.digests[pair[0]] != pictures.digests[pair[1]]]
    yield _judged(pictures, exact, "equal an earlier one", max_share, fail_share, "Delete the copies.")
    yield _judged(pictures, near, "nearly equal an earlier one", near_share, fail_share,
                  "Keep what belongs together on one side of a split, or delete the copies.")  # fmt: skip
    if sample.label is not None:
        apart = [(a, b) for a, b in [*exact, *near] if pictures.folders[a] != pictures.folders[b]]
        yield _judged(pictures, apart, "are in another class as well", None, 0.0, "Decide which class is right.")


def _equal(pictures: Pictures) -> Pairs:
    """Return each copy with the first of its kind."""
    first: dict[str, int] = {}
    rows = defaultdict(list)
    for row, digest in enumerate(pictures.digests):
        rows[first.setdefault(digest, row)].append(row)
    return [(row, copy) for row, copies in rows.items() for copy in copies[1:]]


def _judged(
    pictures: Pictures, pairs: Pairs, what: str, warn: float | None, fail: float | None, fix: str
) -> CheckResult:
    count, rows = len(pictures.paths), np.zeros(len(pictures.paths), np.bool_)
    rows[[later for _, later in pairs]] = True
    bad = int(np.count_nonzero(rows))
    shown = f": {pictures.paths[pairs[0][1]]} = {pictures.paths[pairs[0][0]]}" if pairs else ""
    more = f" and {len(pairs) - 1:,} more" if len(pairs) > 1 else ""
    return judged(
        bad / count,
        warn=warn,
        fail=fail,
        column="path",
        unit="share",
        message=f"{bad:,} of {count:,} pictures {what} ({percent(bad / count)}){shown}{more}",
        fix=fix,
        evidence={"pairs": [[pictures.paths[a], pictures.paths[b]] for a, b in pairs[:20]]},
        rows=rows,
    )
