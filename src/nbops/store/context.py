"""What is going on right now in this process: the current run, the executing cell, which run trained an object.

Floors above meet here instead of importing each other. Runs opened by ``with nb.run()`` live
in a context variable, so concurrent and async cells do not mix; a run opened by ``nb.start()``
is the process's default.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

_run: ContextVar[str | None] = ContextVar("nbops_run", default=None)
_default_run: str | None = None
_cell: CellRef | None = None
_trained_in: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class CellRef:
    """The notebook cell that executes now."""

    cell_id: str
    source: str = ""


def current_run() -> str | None:
    """Return the id of the innermost open run here, or None."""
    return _run.get() or _default_run


def set_default_run(run_id: str | None) -> None:
    """Make `run_id` current wherever no ``with nb.run()`` block is open."""
    global _default_run
    _default_run = run_id


@contextmanager
def inside_run(run_id: str) -> Iterator[None]:
    """Make `run_id` current within the block."""
    token = _run.set(run_id)
    try:
        yield
    finally:
        _run.reset(token)


def current_cell() -> CellRef | None:
    """Return the executing cell, or None outside a notebook."""
    return _cell


def set_cell(cell: CellRef | None) -> None:
    """Tell which cell executes; called by the notebook hooks."""
    global _cell
    _cell = cell


def note_run_of(thing: Any, run_id: str) -> None:
    """Remember that `thing` (a model) was trained in `run_id`, as long as it lives."""
    _trained_in[thing] = run_id


def run_of(thing: Any) -> str | None:
    """Return the run that `thing` was trained in, or None."""
    try:
        return _trained_in.get(thing)
    except TypeError:  # not hashable or not weakly referable: it was never noted
        return None
