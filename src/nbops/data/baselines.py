"""The profile of a baseline, with the bins of its numbers: what checks compare later data with."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbops.data.bins import quantile_bins
from nbops.data.columns import Frame
from nbops.data.profiling import profile_frame


def baseline_profile(frame: Frame) -> dict[str, Any]:
    """Return `profile_frame`, whose columns of numbers have `edges` and `counts` over the finite values."""
    profile = profile_frame(frame)
    for column in frame.columns:
        stats = profile["columns"][column.name]
        if column.is_number and "edges" not in stats:
            values = column.values if column.missing is None else column.values[~column.missing]
            stats["edges"], stats["counts"] = quantile_bins(values[np.isfinite(values)])
    return profile
