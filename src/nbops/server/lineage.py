"""Where a run comes from and what came of it, as rows of nodes: data → run → model → endpoint."""

from __future__ import annotations

from typing import Any

from nbops.core.errors import NotFound
from nbops.core.protocols import Store
from nbops.core.records import CheckReport, Dataset, Diagnosis, Endpoint, ModelVersion, Record, Run, kinds

_MOST_NODES = 40
_MOST_DEPTH = 4
_ELSEWHERE = ("artifact", "cell")  # these have their own section of the page


def lineage_of(store: Store, run: Run) -> list[dict[str, Any]]:
    """Return nodes with their distance from `run`: upstream negative, downstream positive, itself 0."""
    nodes = [_node(run, 0)]
    seen = {run.id}
    for way in (-1, 1):
        frontier = [run.id]
        for distance in range(1, _MOST_DEPTH + 1):
            reached = [id for at in frontier for id in _next(store, at, way) if id not in seen]
            frontier = []
            for id in dict.fromkeys(reached):
                record = _record(store, id)
                if record is None or len(nodes) >= _MOST_NODES:
                    continue
                seen.add(id)
                frontier.append(id)
                nodes.append(_node(record, way * distance))
    return sorted(nodes, key=lambda node: (node["depth"], node["kind"], node["id"]))


def _next(store: Store, id: str, way: int) -> list[str]:
    links = store.links(id)
    if way < 0:
        return [link.source for link in links if link.target == id]
    return [link.target for link in links if link.source == id]


def _record(store: Store, id: str) -> Record | None:
    """Return the record of any kind with this id; None if it was deleted or is shown elsewhere."""
    prefix = id.partition("_")[0]
    kind = next((kind for kind in kinds.values() if kind.prefix == prefix), None)
    if kind is None or kind.kind in _ELSEWHERE:
        return None
    try:
        return store.get(kind, id)
    except NotFound:
        return None


def _node(record: Record, depth: int) -> dict[str, Any]:
    title, detail = _words(record)
    status = getattr(record, "status", "")
    has_status = isinstance(record, Run | Endpoint | CheckReport | Diagnosis)
    return {
        "id": record.id,
        "kind": record.kind,
        "title": title,
        "detail": detail,
        "status": str(status) if has_status else "",
        "depth": depth,
    }


def _words(record: Record) -> tuple[str, str]:
    match record:
        case Dataset(name=name, version=version, rows=rows):
            return f"{name} v{version}", f"{rows:,} rows"
        case ModelVersion():
            return record.ref, f"{record.size_bytes:,} bytes"
        case Endpoint(name=name, url=url):
            return name, url
        case Diagnosis(name=name, what=what):
            return name, what
        case Run(name=name, type=kind):
            return name, kind
    return str(getattr(record, "name", record.id)), ""
