"""Which cells are made from which datasets: by what they used themselves, and by the names that they take from others.

Each statement hands on what the names that it takes were made from to the names that it makes. So a chart of a part of
a snapshot's rows is known to come from the snapshot, and a cell beside it that takes none of these names is not.
Nothing is followed before this process uses a dataset; the cells before that are caught up with then.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

from nbops.core.errors import NotFound, StoreError
from nbops.core.records import replace
from nbops.core.uses import DataUse
from nbops.store.context import PARENT_VARIABLE, CellRef, executed_cells
from nbops.store.using import NOTHING, Origin, is_following, notebook_path, origin_of, uses_in
from nbops.tracking.code.names import Step, steps_of
from nbops.tracking.redaction import redact_source

if TYPE_CHECKING:
    from nbops.store.workspace import Workspace

Seen = Mapping[str, Origin]  # of the names in a cell that hold known data or modules
_MODULE = Origin(cells=frozenset({"(module)"}))  # tells modules apart: nothing is made from one
_WORD = re.compile(r"[^\W\d]\w*")
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

    def after(self, cell: CellRef, execution_count: int | None) -> Callable[[], DataUse | None] | None:
        """Look at a cell that has ended; return what follows it, to be called in this order on any thread.

        That returns the cell's record if it was made from data.
        """
        if not is_following():
            self._without(cell)
            return None
        seen = [(one, self._look(one)) for one in self._not_followed(cell)]
        self._last = cell
        parent = os.environ.get(PARENT_VARIABLE) or None
        return partial(self._follow_all, seen, execution_count, parent, time.time())

    def _look(self, cell: CellRef) -> Seen:
        """Return what the names in a cell hold now: known data, or modules."""
        namespace, held = self._namespace(), dict[str, Origin]()
        for name in set(_WORD.findall(cell.source)):
            value = namespace.get(name)
            if isinstance(value, ModuleType):
                held[name] = _MODULE
            elif value is not None and (origin := origin_of(value)):
                held[name] = origin
        return held

    def _follow_all(
        self, seen: list[tuple[CellRef, Seen]], execution_count: int | None, parent: str | None, at: float
    ) -> DataUse | None:
        found = NOTHING
        for one, held in seen:
            found = self._follow(one, held)
        cell = seen[-1][0]
        if not found.uses:
            self._without(cell)
            return None
        self._bare.pop(cell.cell_id, None)
        return _record(cell, execution_count, parent, found, at)

    def settle_bare(self, ws: Workspace) -> None:
        """Take back what is recorded of cells that used data once and no more; not for the cell's own thread."""
        place = os.environ.get(PARENT_VARIABLE) or notebook_path()
        waiting, self._bare = self._bare, {}
        try:
            for cell_id in waiting:
                with suppress(NotFound):  # almost always there is no such record
                    known = ws.store.get(DataUse, use_id(place, cell_id))
                    if known.datasets:
                        ws.outbox.put(replace(known, datasets={}, created_at=time.time()))
        except StoreError:  # out of reach: what is recorded of cells must not fail for it
            self._bare = waiting | self._bare

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

    def _follow(self, cell: CellRef, held: Seen) -> Origin:
        """Hand on what names were made from, statement by statement; return what the whole cell was made from."""
        found = Origin(uses_in(cell))
        for step in steps_of(cell.source):
            found |= self._handed_on(step, cell, held)
        return found

    def _handed_on(self, step: Step, cell: CellRef, held: Seen) -> Origin:
        taken = NOTHING
        for name in step.takes:
            taken |= self._origin(name, held)
        made = taken | Origin(cells=frozenset({cell.cell_id}))
        for name in step.makes:
            self._origins[name] = made
        for name in step.changes:
            if held.get(name) is not _MODULE:
                self._origins[name] = self._origins.get(name, NOTHING) | made
        return taken

    def _origin(self, name: str, held: Seen) -> Origin:
        known = held.get(name, NOTHING)
        if known is _MODULE:
            return NOTHING
        found = self._origins.get(name, NOTHING) | known
        return found if found.uses else NOTHING


def _record(cell: CellRef, execution_count: int | None, parent: str | None, origin: Origin, at: float) -> DataUse:
    datasets: dict[str, int] = {}
    for used in origin.uses:  # of two versions of one dataset the older one counts: part of the output is that old
        datasets[used.name] = min(used.version, datasets.get(used.name, used.version))
    notebook = notebook_path()
    return DataUse(
        id=use_id(parent or notebook, cell.cell_id), created_at=at, cell_id=cell.cell_id, notebook=notebook,
        parent=parent, execution_count=execution_count, head=_head(cell.source), datasets=datasets,
        after=sorted(origin.cells - {cell.cell_id}),
    )  # fmt: skip


def use_id(place: str, cell_id: str) -> str:
    """Return the id of the record of a cell of a notebook, or of a step's run."""
    return f"{DataUse.prefix}_{hashlib.sha256(f'{place}#{cell_id}'.encode()).hexdigest()[:26]}"


def _head(source: str) -> str:
    lines = [line.strip() for line in redact_source(source).splitlines() if line.strip()]
    return (lines or [""])[0][:_HEAD_CHARS]
