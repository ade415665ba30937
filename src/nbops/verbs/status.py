"""What a bare `%mlops` shows: the workspace at a glance. Reading it makes no workspace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from nbops.core.display import Shown
from nbops.core.query import parse, parse_order
from nbops.core.records import Alias, Dataset, Endpoint, ModelVersion, Run
from nbops.core.table import Table
from nbops.store.context import current_run
from nbops.store.discovery import locate
from nbops.store.workspace import is_open, workspace
from nbops.verbs.grammar import Call

_SERVING = 'status in ("READY", "STARTING")'


@dataclass(frozen=True)
class Status(Shown):
    """The workspace at a glance; `path` is empty where there is none yet, and `would_be` says where it would lie."""

    path: str = ""
    would_be: str = ""
    store: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    running: int = 0
    current: str = ""
    tables: tuple[Table[Any], ...] = ()
    notes: tuple[str, ...] = ()
    next: tuple[str, ...] = ()


def read_status(call: Call) -> Status:
    """Return the status of the current workspace, or of none."""
    if not is_open() and not locate().is_dir():
        return Status(would_be=str(locate()), notes=("No workspace is here yet; the first run makes it.",),
                      next=(_first(call),))  # fmt: skip
    ws = workspace()
    ws.flush()
    serving = ws.store.find(Endpoint, parse(_SERVING), limit=5)
    counts = {kind.kind: ws.store.count(kind) for kind in (Run, Dataset, ModelVersion)}
    counts["endpoint"] = ws.store.count(Endpoint, parse(_SERVING))
    running = ws.store.count(Run, parse('status == "RUNNING"'))
    runs = ws.store.find(Run, limit=5)
    tables: list[Table[Any]] = [Table("run", runs, total=counts["run"])]
    tables.append(Table("alias", ws.store.find(Alias, order_by=parse_order("name"), limit=5)))
    tables.append(Table("endpoint", serving, total=counts["endpoint"]))
    current = current_run() or ""
    notes = ((f"Current run: {current}",) if current else ()) + call.notes
    return Status(str(ws.path), "", _store_name(ws.settings.store_url), counts, running, current,
                  tuple(t for t in tables if len(t)), notes, () if runs else (_first(call),))  # fmt: skip


def _first(call: Call) -> str:
    return "%%mlops run NAME" if call.namespace is not None else "nbops run NOTEBOOK.ipynb"


def _store_name(url: str) -> str:
    """Return the database without user and password."""
    if not url:
        return "SQLite"
    parts = urlsplit(url)
    return f"{parts.scheme.partition('+')[0]}://{parts.hostname or ''}{parts.path}"
