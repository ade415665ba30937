"""What each cell of a run used: the samples of system metrics, attributed to cells by time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nbops.core.query import parse
from nbops.core.records import Cell, Run
from nbops.store.workspace import workspace
from nbops.tracking.machine.sampling import PREFIX
from nbops.tracking.reading import series


@dataclass(frozen=True)
class CellUsage:
    """What one execution of a cell used.

    Attributes
    ----------
    cell_id, execution_count, duration_s
        As recorded.
    mean, peak : dict of str to float
        By metric (``cpu_percent``, ``memory_bytes`` …, see the series ``system/…`` of the run): the mean weighted by
        time, and the greatest sample that fell at least partly into the cell.
    """

    cell_id: str
    execution_count: int | None
    duration_s: float
    mean: dict[str, float] = field(default_factory=dict)
    peak: dict[str, float] = field(default_factory=dict)


def cell_usage(run: Run | str) -> list[CellUsage]:
    """Return what each cell of a run used, in the order of execution.

    A sample stands for the time since the sample before it (the first: since the run began). A cell
    that ended after the last sample, or ran before the run began, has no values.

    Parameters
    ----------
    run : Run or str
        Record or id.
    """
    ws = workspace()
    ws.flush()
    record = ws.store.get(Run, run if isinstance(run, str) else run.id)
    cells = sorted(ws.store.find(Cell, parse(f'parent == "{record.id}"')), key=lambda cell: cell.created_at)
    found = {name: series(record.id, name) for name in record.summary if name.startswith(PREFIX)}
    usages = []
    for cell in cells:
        usage = CellUsage(cell.cell_id, cell.execution_count, cell.duration_s)
        for name, points in found.items():
            ends = points.times_ms / 1000.0
            starts = np.concatenate([[min(record.created_at, ends[0])], ends[:-1]])
            begin, end = cell.created_at, cell.created_at + cell.duration_s
            overlap = np.clip(np.minimum(ends, end) - np.maximum(starts, begin), 0.0, None)
            inside = overlap > 0
            if inside.any():
                short = name.removeprefix(PREFIX)
                usage.mean[short] = float(np.average(points.values[inside], weights=overlap[inside]))
                usage.peak[short] = float(points.values[inside].max())
        usages.append(usage)
    return usages
