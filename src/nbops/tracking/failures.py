"""An exception as a run remembers it: type, message, and the cell and line that raised it."""

from __future__ import annotations

import traceback
from types import TracebackType

from nbops.core.errors import NbopsError
from nbops.core.records import Failure
from nbops.store.context import current_cell

_MAX_TEXT = 4000


def failure_of(error: BaseException, *, cell_id: str | None = None) -> Failure:
    """Return the record of `error`; the cell is the executing one unless given."""
    cell = current_cell()
    text = "".join(traceback.format_exception(error))
    message = error.message if isinstance(error, NbopsError) else str(error)
    return Failure(
        type=type(error).__name__,
        message=message[:_MAX_TEXT],
        cell_id=cell_id or (cell.cell_id if cell else None),
        line=_cell_line(error.__traceback__),
        traceback=text[-_MAX_TEXT:],
    )


def _cell_line(trace: TracebackType | None) -> int | None:
    """Return the line within the notebook cell: that of the last frame whose code came from a cell."""
    line = None
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if "ipykernel_" in name or name.startswith("<ipython-input"):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
