"""The cells of a run as the pages want them, and where its notebook lies under the server."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nbops.core.protocols import Store
from nbops.core.query import Both, Compare, Field, Order
from nbops.core.records import Cell, Failure, Run
from nbops.store.workspace import Workspace

Json = dict[str, Any]
_MOST_CELLS = 1000
_SOURCE_CHARS = 4000
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_NAMES = ("id", "cell_id", "execution_count", "execution", "status", "duration_s")


def cell_rows(store: Store, run_id: str) -> list[Json]:
    """Return a run's cells, oldest first, each with the beginning of its source."""
    found = store.find(Cell, _of(run_id), order_by=[Order(Field("created_at"))], limit=_MOST_CELLS)
    return [_row(cell) | {"source": cell.source[:_SOURCE_CHARS]} for cell in found]


def run_cells(workspace: Workspace, run_id: str, *, ids: Sequence[str], executions: Sequence[str]) -> list[Json]:
    """Return cells with the whole source that is kept of them; `NotFound` for an unknown run.

    Parameters
    ----------
    workspace : Workspace
    run_id : str
    ids, executions : sequence of str
        Those with one of these record ids, or with one of these executions; all cells if both are empty.

    Returns
    -------
    list of dict
        As on the run's page, and ``is_whole``: whether ``source`` is all that was executed. Else secrets were taken
        out of it or, where ``is_cut``, its end is not kept.
    """
    store = workspace.store
    store.get(Run, run_id)
    asked = [Compare(Field(name), "in", tuple(values))
             for name, values in (("id", ids), ("execution", [e for e in executions if e])) if values]  # fmt: skip
    tree = Both("and", (_of(run_id), Both("or", tuple(asked)))) if asked else _of(run_id)
    found = store.find(Cell, tree, order_by=[Order(Field("created_at"))], limit=_MOST_CELLS)
    limit = workspace.settings.cell_source_max_bytes
    return [_row(cell) | _source(cell, limit) for cell in found]


def _of(run_id: str) -> Compare:
    return Compare(Field("parent"), "==", run_id)


def _row(cell: Cell) -> Json:
    return {name: getattr(cell, name) for name in _NAMES} | {"error": shown_failure(cell.error)}


def _source(cell: Cell, limit_bytes: int) -> Json:
    kept = cell.source.encode()
    is_whole = hashlib.sha256(kept).hexdigest() == cell.source_digest
    # up to three bytes of a character that the limit splits are left out too
    return {"source": cell.source, "is_whole": is_whole, "is_cut": not is_whole and len(kept) > limit_bytes - 4}


def shown_failure(error: Failure | None) -> Json | None:
    """Return an error without a terminal's colours."""
    if error is None:
        return None
    shown = {name: getattr(error, name) for name in ("type", "cell_id", "line")}
    return shown | {"message": _ESCAPES.sub("", error.message), "traceback": _ESCAPES.sub("", error.traceback)}


def notebook_path(run: Run, root: Path | None) -> str | None:
    """Return where the run's notebook lies, as the server names it: relative to `root`, with slashes.

    None if the run was made in no notebook, or in one that does not lie under `root`.
    """
    source = Path(str(run.context.get("source", "")))
    if root is None or source.suffix != ".ipynb" or not source.is_absolute():
        return None
    path = Path(os.path.normpath(source))
    for known in (root, root.resolve()):
        if path.is_relative_to(known):
            return path.relative_to(known).as_posix()
    return None
