"""A resumed run writes a new segment; where it goes back, the older points at those steps are no longer its view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nbops.core.protocols import Points

if TYPE_CHECKING:
    from nbops.store.points import Columns


def newest_view(points: Points, segments: Sequence[Mapping[str, int]]) -> Columns:
    """Return the points of one metric as they stand after every resumption.

    Parameters
    ----------
    points : Points
        All points, in the order in which they were logged.
    segments : sequence of mapping of str to int
        For each resumption, oldest first: how many points each metric had (`Run.segments`).
    """
    import numpy as np

    from nbops.store.points import Columns

    columns = Columns.of(points)
    place = np.arange(len(columns))  # of each point that is left, among all
    for segment in segments:
        new = place >= segment.get(points.metric, 0)
        if not new.any():
            continue
        begun = columns.times_ms[new].min()  # not what stands first: MLflow's clients may send step 8 before step 7
        first = columns.steps[new & (columns.times_ms == begun)].min()  # where the run took up again
        keep = new | (columns.steps < first)
        columns, place = columns.take(keep), place[keep]
    return columns
