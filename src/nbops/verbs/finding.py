"""From what a user types to a record: an id, its short form as cards show it, a reference or a name."""

from __future__ import annotations

import re
from typing import Any

from nbops.core.query import Compare, Field
from nbops.core.records import Record
from nbops.verbs.words import UsageError

SHORT = re.compile(r"[a-z]+_…?([0-9A-Z]{4,25})")


def record_of(text: str) -> Record:
    """Return the record that `text` means.

    Raises
    ------
    NotFound
        Nothing is called so.
    UsageError
        A short id that fits several records.
    """
    from nbops.store.workspace import workspace
    from nbops.tracking.lineage import kind_of, resolve

    ws = workspace()
    ws.flush()
    short = SHORT.fullmatch(text)
    cls = kind_of(text)
    if short and cls is not None:
        ending = short.group(1)
        near = ws.store.find(cls, Compare(Field("id"), "contains", ending), limit=20)
        found: list[Any] = [record for record in near if record.id.endswith(ending)]
        if len(found) > 1:
            raise UsageError(
                f"'{text}' fits {len(found)} records", hint=f"Write one of: {', '.join(r.id for r in found)}"
            )
        if found:
            return found[0]  # type: ignore[no-any-return]
    return resolve(ws, text)
