"""Which datasets this process uses: noted for the cell that executes, and which objects of it hold a dataset's data.

Whoever reads a dataset notes it here; the hook that records cells takes the notes. An object is known by its identity
as long as it lives; what is made from it is followed elsewhere, by the names in a cell's source.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from nbops.core.records import Dataset
from nbops.store import discovery
from nbops.store.context import CellRef, current_cell

_PARTS = 100  # of a dict or a tuple, these are looked at


class Used(NamedTuple):
    """One version of one dataset."""

    name: str
    version: int


@dataclass(frozen=True)
class Origin:
    """What something was made from: versions of datasets, and the cells that it came through."""

    uses: frozenset[Used] = frozenset()
    cells: frozenset[str] = frozenset()

    def __or__(self, other: Origin) -> Origin:
        return Origin(self.uses | other.uses, self.cells | other.cells)

    def __bool__(self) -> bool:
        return bool(self.uses or self.cells)


NOTHING = Origin()
_noted: weakref.WeakKeyDictionary[CellRef, dict[Used, None]] = weakref.WeakKeyDictionary()
_marked: dict[int, tuple[weakref.ref[Any], Origin]] = {}
_has_begun = False


def note_used(dataset: Dataset, *things: Any) -> None:
    """Note that the executing cell used a dataset, and that `things` hold it: data, or what was made of it."""
    global _has_begun
    _has_begun = True
    used, cell = Used(dataset.name, dataset.version), current_cell()
    if cell is not None:
        _noted.setdefault(cell, {})[used] = None
    for thing in things:
        for part in _parts(thing):
            _mark(part, used, cell)


def is_following() -> bool:
    """Tell whether this process has used any dataset."""
    return _has_begun


def uses_in(cell: CellRef) -> frozenset[Used]:
    """Return what a cell has used."""
    return frozenset(_noted.get(cell, ()))


def origin_of(thing: Any) -> Origin:
    """Return which datasets an object is known to hold; nothing of one that is not known."""
    if isinstance(thing, Dataset):
        return Origin(frozenset({Used(thing.name, thing.version)}))
    found = NOTHING
    for part in _parts(thing):
        kept = _marked.get(id(part))
        if kept is not None and kept[0]() is part:
            found |= kept[1]
    return found


def forget() -> None:
    """Know nothing any more."""
    global _has_begun
    _has_begun = False
    _noted.clear()
    _marked.clear()


def notebook_path() -> str:
    """Return the notebook's path, else the script's, else the folder's, relative to the workspace's folder."""
    named = os.environ.get("JPY_SESSION_NAME", "")
    program = sys.argv[0] if sys.argv else ""
    if not named and program.endswith(".py") and "ipykernel" not in program:
        named = program
    path = (Path.cwd() / named).resolve()
    folder = discovery.locate().parent
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()


def _parts(thing: Any) -> Iterable[Any]:
    """Return a thing itself; of a dict of columns or a pair of data and labels, which cannot be marked, its parts."""
    if isinstance(thing, Mapping) and type(thing) is dict:
        return list(thing.values())[:_PARTS]
    return thing[:_PARTS] if type(thing) is tuple else (thing,)


def _unmark(key: int, gone: object) -> None:
    """Forget an object that is no more; `gone` is the reference to it."""
    known = _marked.get(key)
    if known is not None and known[0] is gone:
        del _marked[key]


def _mark(thing: Any, used: Used, cell: CellRef | None) -> None:
    key = id(thing)
    try:
        kept = weakref.ref(thing, partial(_unmark, key))
    except TypeError:  # a list, a number, a text: it cannot be told from its equals
        return
    before = _marked.get(key)
    others = before[1] if before is not None and before[0]() is thing else NOTHING
    uses = frozenset(one for one in others.uses if one.name != used.name) | {used}
    cells = {cell.cell_id} if cell is not None else set()
    _marked[key] = (kept, Origin(uses, frozenset(cells)))
