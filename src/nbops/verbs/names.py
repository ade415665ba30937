"""Names for completion: what the store knows now, within a time limit, and without making a workspace."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from nbops.core.labelling import LabelSet
from nbops.core.records import Alias, Dataset, Endpoint, ModelVersion, Record, Run, kinds

TIME_LIMIT_S = 0.05
_FRESH_S = 2.0  # names this young are given without asking the store again
_NEWEST = 300
_FIELDS = ("name", "status", "created_at", "ended_at", "duration_s", "parent", "type", "version", "rows", "number")
_known: dict[str, tuple[float, list[str]]] = {}


def stored_names(sort: str, *, limit_s: float = TIME_LIMIT_S) -> list[str]:
    """Return stored names of one sort (see `grammar.Argument.completes`).

    Reading goes on beyond `limit_s` (seconds) in the background, so the next call has the names.
    """
    from nbops.store.discovery import locate

    if sort not in _READERS or not locate().is_dir():
        return []
    key = f"{locate()}:{sort}"
    at, names = _known.get(key, (0.0, []))
    if time.monotonic() - at < _FRESH_S:
        return names
    reader = threading.Thread(target=_read, args=(key, sort), name="nbops-names", daemon=True)
    reader.start()
    reader.join(limit_s)
    return _known.get(key, (0.0, []))[1]


def _read(key: str, sort: str) -> None:
    from nbops.store.workspace import workspace

    names = list(dict.fromkeys(_READERS[sort](workspace().store)))
    _known[key] = (time.monotonic(), names)


def _newest(store: Any, kind: type[Record]) -> list[Any]:
    found: list[Any] = store.find(kind, limit=_NEWEST)
    return found


def _refs(store: Any) -> Iterable[str]:
    versions = _newest(store, ModelVersion)
    yield from (v.name for v in versions)
    yield from (a.name for a in _newest(store, Alias))
    yield from (v.ref for v in versions)


def _ids(store: Any) -> Iterable[str]:
    yield from _refs(store)
    yield from (f"{d.name}/{d.version}" for d in _newest(store, Dataset))
    yield from (r.name for r in _newest(store, Run))
    yield from (e.name for e in _newest(store, Endpoint))


def _fields(store: Any) -> Iterable[str]:
    yield from _FIELDS
    for run in _newest(store, Run):
        yield from (f"metrics.{name}" for name in run.metrics)
        yield from (f"params.{name}" for name in run.params)
        yield from (f"tags.{name}" for name in run.tags)


_READERS: dict[str, Callable[[Any], Iterable[str]]] = {
    "runs": lambda store: (r.name for r in _newest(store, Run)),
    "models": lambda store: (v.name for v in _newest(store, ModelVersion)),
    "aliases": lambda store: (a.alias for a in _newest(store, Alias)),
    "versions": lambda store: (str(v.number) for v in _newest(store, ModelVersion)),
    "refs": _refs,
    "datasets": lambda store: (name for d in _newest(store, Dataset) for name in (d.name, f"{d.name}/{d.version}")),
    "labelsets": lambda store: (s.name for s in _newest(store, LabelSet)),
    "endpoints": lambda store: (e.name for e in _newest(store, Endpoint) if e.status in ("READY", "STARTING")),
    "ids": _ids,
    "fields": _fields,
    "metrics": lambda store: (name for r in _newest(store, Run) for name in r.metrics),
}


def names_of(sort: str, fragment: str, namespace: Mapping[str, Any] | None) -> list[str]:
    """Return everything of one sort that can stand where `fragment` stands."""
    if sort == "variables":
        return [name for name in namespace or () if not name.startswith("_")]
    if sort == "tables":
        return [*names_of("variables", fragment, namespace), *stored_names("datasets")]
    if sort == "checks":
        from nbops.data.checking import checks

        return list(checks)
    if sort == "rules":
        from nbops.debugging.rules import rules

        return list(rules)
    if sort == "kinds":
        return [f"{kind[:-2]}es" if kind.endswith("is") else f"{kind}es" if kind.endswith("s") else f"{kind}s"
                for kind in kinds]  # fmt: skip
    if sort in ("paths", "notebooks"):
        return _paths(fragment, ".ipynb" if sort == "notebooks" else "")
    return stored_names(sort)


def _paths(fragment: str, ending: str) -> list[str]:
    folder, slash, _ = fragment.rpartition("/")
    base = Path(folder or "/" if slash else ".").expanduser()
    try:
        entries = sorted(base.iterdir())
    except OSError:  # no such folder, or it is closed to us: nothing to offer
        return []
    return [
        f"{folder}{slash}{entry.name}{'/' if entry.is_dir() else ''}"
        for entry in entries
        if not entry.name.startswith(".") and (entry.is_dir() or entry.name.endswith(ending))
    ]
