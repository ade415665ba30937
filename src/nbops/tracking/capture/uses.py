"""Which cells are made from which datasets: by what they used themselves, and by the names that they take from others.

Each statement hands on what the names that it takes were made from to the names that it makes. So a chart of a part of
a snapshot's rows is known to come from the snapshot, and a cell beside it that takes none of these names is not.
Nothing is followed before this process uses a dataset; the cells before that are caught up with then.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any

from nbops.core.errors import NotFound
from nbops.core.records import replace
from nbops.core.uses import DataUse
from nbops.store.context import PARENT_VARIABLE, CellRef, executed_cells
from nbops.store.using import NOTHING, Origin, is_following, notebook_path, origin_of, uses_in
from nbops.tracking.code.names import Step, steps_of
from nbops.tracking.redaction import redact_source

if TYPE_CHECKING:
    from nbops.store.workspace import Workspace

_HEAD_CHARS = 100
_MOST_WAITING = 500


class UseRecorder:
    """Follows what the cells of one shell are made from.

    Parameters
    ----------
    namespace : callable
        Returns the notebook's variables.
    """

    def __init__(self, namespace: Callable[[], Mapping[str, Any]]) -> None:
        self._namespace = namespace
        self._origins: dict[str, Origin] = {}
        self._last: CellRef | None = next(reversed(executed_cells()), None)
        self._bare: dict[str, None] = {}  # cells that use no data, and may have done so before

    def after(self, cell: CellRef, execution_count: int | None) -> DataUse | None:
        """Follow a cell that has ended; return its record if it was made from data."""
        if not is_following():
            self._without(cell)
            return None
        found = NOTHING
        for one in self._not_followed(cell):
            found = self._follow(one)
        self._last = cell
        if not found.uses:
            self._without(cell)
            return None
        self._bare.pop(cell.cell_id, None)
        newest: dict[str, int] = {}
        for used in found.uses:  # of two versions of one dataset the older one counts: part of the output is that old
            newest[used.name] = min(used.version, newest.get(used.name, used.version))
        notebook, parent = notebook_path(), os.environ.get(PARENT_VARIABLE) or None
        return DataUse(
            id=use_id(parent or notebook, cell.cell_id), created_at=time.time(), cell_id=cell.cell_id,
            notebook=notebook, parent=parent, execution_count=execution_count, head=_head(cell.source),
            datasets=newest, after=sorted(found.cells - {cell.cell_id}),
        )  # fmt: skip

    def settle_bare(self, ws: Workspace) -> None:
        """Take back what is recorded of cells that used data once and no more; not for the cell's own thread."""
        place = os.environ.get(PARENT_VARIABLE) or notebook_path()
        waiting, self._bare = self._bare, {}
        for cell_id in waiting:
            with suppress(NotFound):  # almost always there is no such record
                known = ws.store.get(DataUse, use_id(place, cell_id))
                if known.datasets:
                    ws.outbox.put(replace(known, datasets={}, created_at=time.time()))

    @property
    def has_bare(self) -> bool:
        """Whether `settle_bare` has something to look at."""
        return bool(self._bare)

    def _without(self, cell: CellRef) -> None:
        if len(self._bare) < _MOST_WAITING:
            self._bare[cell.cell_id] = None

    def _not_followed(self, cell: CellRef) -> list[CellRef]:
        cells = executed_cells()
        begin = max((place + 1 for place, one in enumerate(cells) if one is self._last), default=0)
        end = max((place for place, one in enumerate(cells) if one is cell), default=len(cells) - 1)
        return cells[begin : end + 1]

    def _follow(self, cell: CellRef) -> Origin:
        """Hand on what names were made from, statement by statement; return what the whole cell was made from."""
        found = Origin(uses_in(cell))
        for step in steps_of(cell.source):
            found |= self._handed_on(step, cell)
        return found

    def _handed_on(self, step: Step, cell: CellRef) -> Origin:
        taken = NOTHING
        for name in step.takes:
            taken |= self._origin(name)
        made = taken | Origin(cells=frozenset({cell.cell_id}))
        for name in step.makes:
            self._origins[name] = made
        for name in step.changes:
            if not isinstance(self._namespace().get(name), ModuleType):
                self._origins[name] = self._origins.get(name, NOTHING) | made
        return taken

    def _origin(self, name: str) -> Origin:
        value = self._namespace().get(name)
        if isinstance(value, ModuleType):
            return NOTHING
        found = self._origins.get(name, NOTHING) | origin_of(value)
        return found if found.uses else NOTHING


def use_id(place: str, cell_id: str) -> str:
    """Return the id of the record of a cell of a notebook, or of a step's run."""
    return f"{DataUse.prefix}_{hashlib.sha256(f'{place}#{cell_id}'.encode()).hexdigest()[:26]}"


def _head(source: str) -> str:
    lines = [line.strip() for line in redact_source(source).splitlines() if line.strip()]
    return (lines or [""])[0][:_HEAD_CHARS]
