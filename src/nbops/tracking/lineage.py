"""Walking the links between records, and finding a record by what people call it."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from nbops.core.errors import not_found
from nbops.core.protocols import Store
from nbops.core.query import Both, Compare, Field, Node
from nbops.core.records import Alias, Dataset, Endpoint, Link, ModelVersion, Record, Run, kinds
from nbops.store.workspace import Workspace

R = TypeVar("R", bound=Record)
MAX_NODES = 1000
_NAMED: tuple[type[Record], ...] = (ModelVersion, Run, Dataset, Endpoint)


def kind_of(id: str) -> type[Record] | None:
    """Return the class whose ids begin as `id` does, or None."""
    prefix = id.rpartition("_")[0]
    return next((cls for cls in kinds.values() if cls.prefix == prefix), None)


def resolve(ws: Workspace, ref: str, *, kind: type[R] | None = None) -> R:
    """Return the record that `ref` means: an id, ``model@alias``, ``name/version``, or the newest of a name.

    Raises
    ------
    NotFound
        Nothing is called so; with the nearest name as the hint.
    """
    store = ws.store
    cls = kind_of(ref)
    found: Record | None = None
    if cls is not None and (kind is None or cls is kind):
        found = _newest(store, cls, ("id", ref))  # else it is a name that looks like an id: run_2
    if found is None and "@" in ref and kind in (None, ModelVersion):
        alias = _newest(store, Alias, ("name", ref))
        found = alias and _newest(store, ModelVersion, ("name", alias.model), ("number", alias.number))
    classes = [c for c in _NAMED if kind in (None, c)]
    name, _, number = ref.rpartition("/")
    if found is None and name and number.isdecimal():
        for c in classes:
            field = {ModelVersion: "number", Dataset: "version"}.get(cast(Any, c))
            found = found or (_newest(store, c, ("name", name), (field, int(number))) if field else None)
    for c in classes:
        found = found or _newest(store, c, ("name", ref))
    if found is None:
        names = {str(getattr(r, "name", "")) for c in classes for r in store.find(c, limit=200)}
        hint = "Pass an id or a name; list them with nb.find."
        raise not_found((kind or cls or Record).kind or "record", ref, names, hint=hint)
    return cast(R, found)


def _newest(store: Store, cls: type[R], *equals: tuple[str, Any]) -> R | None:
    tests: tuple[Node, ...] = tuple(Compare(Field(key), "==", value) for key, value in equals)
    found = store.find(cls, Both("and", tests), limit=1)
    return found[0] if found else None


def walk(store: Store, root: Record) -> tuple[list[Record], list[Link]]:
    """Return the ancestors and descendants of `root`, sources first, and the links between them."""
    links: set[tuple[str, str, str]] = set()
    up = _reach(store, root.id, links, upward=True)
    down = _reach(store, root.id, links, upward=False)
    ids = [*reversed(up), root.id, *down]
    nodes: list[Record] = []
    for id in dict.fromkeys(ids):
        record = root if id == root.id else _load(store, id)
        if record is not None:
            nodes.append(record)
    known = {node.id for node in nodes}
    edges = [Link(source=s, relation=r, target=t) for s, r, t in sorted(links) if s in known and t in known]
    return nodes, edges


def _reach(store: Store, start: str, links: set[tuple[str, str, str]], *, upward: bool) -> list[str]:
    order: list[str] = []
    frontier, seen = [start], {start}
    while frontier and len(seen) < MAX_NODES:
        id = frontier.pop(0)
        for link in store.links(id):
            here, there = (link.target, link.source) if upward else (link.source, link.target)
            if here != id:
                continue
            links.add((link.source, link.relation, link.target))
            if there not in seen:
                seen.add(there)
                order.append(there)
                frontier.append(there)
    return order


def _load(store: Store, id: str) -> Record | None:
    cls = kind_of(id)
    found = store.find(cls, Compare(Field("id"), "==", id), limit=1) if cls else []
    return found[0] if found else None
