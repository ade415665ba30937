"""Which runs are meant: by record, handle, id, name, model, table or query."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from nbops.core.errors import InvalidInput, NotFound, QuerySyntaxError
from nbops.core.query import Compare, Field, IsSet, Node, parse
from nbops.core.records import ModelVersion, Run, RunStatus
from nbops.core.table import Table
from nbops.store.workspace import Workspace
from nbops.tracking.lineage import resolve

MAX_RUNS = 1000


def selected(ws: Workspace, items: Iterable[Any]) -> list[Run]:
    """Return the runs that `items` mean, each once, in the order in which they are named.

    Raises
    ------
    NotFound
        Nothing is called so, or a query matches no run.
    InvalidInput
        A value that means no run, none at all, or more than `MAX_RUNS`.
    """
    found = {run.id: run for item in items for run in _runs(ws, item)}
    if not found:
        raise InvalidInput("no run is named", hint="Pass runs, their ids or names, a table of runs, or a query.")
    if len(found) > MAX_RUNS:
        raise InvalidInput(f"{len(found):,} runs are too many to compare", hint=f"Choose at most {MAX_RUNS:,}.")
    return list(found.values())


def _runs(ws: Workspace, item: Any) -> Iterator[Run]:
    if isinstance(item, str):
        yield from _named(ws, item)
    elif isinstance(item, Run):
        yield ws.store.get(Run, item.id) if item.status is RunStatus.RUNNING or not item.summary else item
    elif isinstance(item, ModelVersion):
        yield _source(ws, item)
    elif isinstance(item, Table | list | tuple):
        for one in item:
            yield from _runs(ws, one)
    elif isinstance(getattr(item, "record", None), Run):
        yield item.record
    else:
        kind = type(item).__name__
        raise InvalidInput(f"a {kind} is no run", hint="Pass a run, its id or name, a table of runs, or a query.")


def _named(ws: Workspace, text: str) -> list[Run]:
    if not ws.store.find(Run, Compare(Field("name"), "==", text), limit=1):
        node = _query(text)
        if node is not None:
            found = ws.store.find(Run, node, limit=MAX_RUNS + 1)
            if not found:
                raise NotFound(f"no run matches {text}", hint="Loosen the query; list all with nb.find('runs').")
            return found
        if "@" in text:
            return [_source(ws, resolve(ws, text, kind=ModelVersion))]
    return [resolve(ws, text, kind=Run)]


def _query(text: str) -> Node | None:
    """Return the tree of a text that compares something; a lone word is a name."""
    try:
        node = parse(text)
    except QuerySyntaxError:
        if any(sign in text for sign in ("==", "<", ">", "!=", " in ")):
            raise
        return None
    return None if isinstance(node, IsSet) else node


def _source(ws: Workspace, version: ModelVersion) -> Run:
    if not version.parent:
        raise NotFound(f"model {version.ref} has no run", hint="Register with run=…, or inside a run.")
    return ws.store.get(Run, version.parent)
