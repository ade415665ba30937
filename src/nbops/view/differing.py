"""The cards of two tables, or folders, that differ: what came and went, and the first of what changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbops.core.display import Bundle
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Chip, Grid, Key, Mono, Note, Part
from nbops.view.format import cut, number, plural, quantity, size, some, text

if TYPE_CHECKING:
    from nbops.data.differing import ColumnDifference, DataDifference
    from nbops.data.folders.files import FolderDifference

_COLUMNS_SHOWN, _CELLS_SHOWN, _FILES_SHOWN, _WIDTH = 12, 12, 6, 24
_SIGNS = {"added": "+", "removed": "−", "retyped": "≠", "changed": "~", "same": " ", "unknown": "?"}
_BY = {
    "position": "Rows are compared by their position; give key= to follow them.",
    "content": "Rows are compared whole, in any order; give key= to see single cells.",
    "digest": "The data was not stored, so only digests are compared: of columns, and of their chunks of 65,536 rows.",
}


def show_difference(value: DataDifference) -> Bundle:
    """Draw a `DataDifference`."""
    parts: list[Part] = []
    touched = [c for c in value.columns if c.change != "same"]
    if touched:
        parts.append(_columns(value, touched))
    if value.cells:
        parts.append(_cells(value))
    same = len(value.columns) - len(touched)
    if same and touched:
        parts.append(Note(f"{plural(same, 'column')} unchanged", "dim"))
    if any(c.change == "unknown" for c in value.columns):
        parts.append(Note("One was recorded with another scheme of digests, and neither data is stored. "
                          "Snapshot the data again to compare it.", "dim"))  # fmt: skip
    elif value.by in _BY and not value.is_same:
        parts.append(Note(_BY[value.by], "dim"))
    chip = Chip("✓", "the same", "ok") if value.is_same else Chip("~", "different", "warn")
    facts = (f"{value.rows_a:,} → {plural(value.rows_b, 'row')}",)
    return bundle(Card(f"{text(value.a)} → {text(value.b)}", chip, "", facts, _keys(value), tuple(parts)))


def _keys(value: DataDifference) -> tuple[Key, ...]:
    if value.is_same or value.by == "digest":
        return ()
    keys = [Key(f"{len(value.added):,}", "rows added"), Key(f"{len(value.removed):,}", "rows removed")]
    if value.by != "content":
        keys += [Key(f"{len(value.changed):,}", "rows changed"), Key(f"{value.changed_cells:,}", "cells changed")]
    return tuple(keys)


def _columns(value: DataDifference, touched: list[ColumnDifference]) -> Grid:
    shared = max(1, value.rows_b - len(value.added))
    rows = []
    for one in touched[:_COLUMNS_SHOWN]:
        kind = " → ".join(dict.fromkeys(filter(None, (one.dtype_a, one.dtype_b))))
        count = one.cells if one.change in ("changed", "retyped") else None
        share = None if count is None else count / shared
        told = number(count) if not one.rows else some([f"{start:,}–{stop - 1:,}" for start, stop in one.rows], 2)
        rows.append((Mono(one.name), f"{_SIGNS[one.change]} {one.change}", kind, told, quantity(share, "share")))
    left = len(touched) - len(rows)
    more = f"… and {plural(left, 'more column')}" if left else ""
    head = ("column", "change", "type", "in rows" if value.by == "digest" else "cells", "of the rows")
    return Grid(head, tuple(rows), frozenset({3, 4}), more=more)


def _cells(value: DataDifference) -> Grid:
    head = ", ".join(value.key) if value.key else "row"
    shown = []
    for one in value.cells[:_CELLS_SHOWN]:
        name = ", ".join(_cell(part) for part in one.key) if one.key else f"{one.row_b:,}"
        shown.append((Mono(one.column), cut(name, _WIDTH), _cell(one.before), _cell(one.after)))
    left = value.changed_cells - len(shown)
    more = f"… and {plural(left, 'more cell')}: .cells, .to_pandas()" if left > 0 else ""
    return Grid(("column", text(head), "before", "after"), tuple(shown), more=more)


def _cell(value: Any) -> str:
    return "missing" if value is None else cut(text(number(value) if isinstance(value, int | float) else value), _WIDTH)


def show_folders(value: FolderDifference) -> Bundle:
    """Draw a `FolderDifference`: counts, then the first files of each sort."""
    kinds = (("+ added", value.added), ("− removed", value.removed), ("~ changed", value.changed))
    rows = [(word, Mono(file.path), size(file.size_bytes)) for word, files in kinds for file in files[:_FILES_SHOWN]]
    rows += [("→ renamed", Mono(f"{old} → {new}"), "") for old, new in value.renamed[:_FILES_SHOWN]]
    left = len(value.added) + len(value.removed) + len(value.changed) + len(value.renamed) - len(rows)
    more = f"… and {plural(left, 'more file')}: .added, .removed, .changed, .renamed" if left else ""
    parts: list[Part] = [Grid(("change", "file", "size"), tuple(rows), frozenset({2}), more=more)] if rows else []
    if value.same and rows:
        parts.append(Note(f"{plural(value.same, 'file')} unchanged", "dim"))
    keys = () if value.is_same else (
        Key(f"{len(value.added):,}", "added"), Key(f"{len(value.removed):,}", "removed"),
        Key(f"{len(value.changed):,}", "changed"), Key(f"{len(value.renamed):,}", "renamed"),
    )  # fmt: skip
    chip = Chip("✓", "the same", "ok") if value.is_same else Chip("~", "different", "warn")
    return bundle(Card(f"{text(value.a)} → {text(value.b)}", chip, "", ("files",), keys, tuple(parts)))
