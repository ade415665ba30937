"""The list of cells whose data has moved on, and the line that a card of old data has."""

from __future__ import annotations

import sys
from typing import Any

from nbops.core.display import Bundle
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Chip, Grid, Mono, Note
from nbops.view.format import plural

_MOST_ROWS = 30


def show_stale(value: Any) -> Bundle:
    """Draw `StaleCells`: which cell, what it was made from, what is newest."""
    where = {"": "all notebooks", ".": "this notebook"}.get(value.notebook, value.notebook)
    if not len(value):
        known = (
            f"{plural(value.followed, 'cell')} {'is' if value.followed == 1 else 'are'} made from data that is newest"
        )
        said = known if value.followed else "no cell is known that was made from a dataset; keep one with nb.snapshot"
        return bundle(Card(where, Chip("✓", "nothing stale", "ok"), parts=(Note(said, "dim"),)))
    rows = tuple((*([] if value.notebook else [cell.notebook]), _count(cell), Mono(cell.head), cell.why)
                 for cell in value.cells[:_MOST_ROWS])  # fmt: skip
    left = len(value) - len(rows)
    head = (*([] if value.notebook else ["notebook"]), "cell", "begins", "why")
    grid = Grid(head, rows, more=f"… and {plural(left, 'more cell')}" if left > 0 else "")
    chip = Chip("!", plural(len(value), "stale cell"), "warn")
    facts = (f"of {plural(value.followed, 'cell')} made from data",)
    return bundle(Card(where, chip, facts=facts, parts=(grid, Note("Run these cells again, from the top.", "dim"))))


def show_use(value: Any) -> Bundle:
    """Draw a `DataUse`: the cell, and what it was made from."""
    rows = tuple((Mono(name), f"v{version}", moved_on(name, version)) for name, version in value.made_from)
    parts = (Note(value.head, "dim"), Grid(("made from", "version", ""), rows)) if rows else (Note(value.head, "dim"),)
    return bundle(Card(f"{value.notebook} {_count(value)}", parts=parts))


def _count(cell: Any) -> str:
    return f"[{cell.execution_count}]" if cell.execution_count is not None else cell.cell_id[:8]


def moved_on(name: str, version: int) -> str:
    """Return ``made from sales v3; v4 is newest``; nothing where it is newest or the workspace is not open."""
    module = sys.modules.get("nbops.store.workspace")
    if not name or module is None or not module.is_open():
        return ""
    from nbops.core.errors import StoreError
    from nbops.tracking.staleness import newest_of

    try:
        newest = newest_of(module.workspace(), name)
    except StoreError:  # a card is shown all the same
        return ""
    is_old = newest is not None and newest.version > version
    return f"made from {name} v{version}; v{newest.version} is newest" if newest is not None and is_old else ""
