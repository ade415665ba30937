"""A resumed run writes a new segment; where it goes back, the older points at those steps are no longer its view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbops.core.protocols import Points

if TYPE_CHECKING:
    from nbops.store.points import Columns


def newest_view(points: Points, resumes: Sequence[float]) -> Columns:
    """Return the points of one metric as they stand after every resumption.

    Parameters
    ----------
    points : Points
        All points, in the order in which they were logged.
    resumes : sequence of float
        Times of resumption, seconds since the epoch, oldest first.
    """
    import numpy as np

    from nbops.store.points import Columns

    columns = Columns.of(points)
    for at in resumes:
        new = columns.times_ms >= int(at * 1000)
        if not new.any():
            continue
        first = columns.steps[np.argmax(new)]  # where the run took up again
        keep = new | (columns.steps < first)
        columns = Columns(columns.steps[keep], columns.times_ms[keep], columns.values[keep])
    return columns
