"""Records as the pages want them: plain dicts, made from one workspace. No HTTP here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nbops.core.errors import InvalidInput, did_you_mean
from nbops.core.protocols import Store
from nbops.core.query import Both, Compare, Field, Node, Order, parse, parse_order
from nbops.core.records import Alias, Artifact, Endpoint, ModelVersion, Run
from nbops.server.cells import cell_rows, notebook_path, shown_failure
from nbops.server.lineage import lineage_of
from nbops.server.series import chart_series
from nbops.store.workspace import Workspace
from nbops.tracking.segments import newest_view

Json = dict[str, Any]
_ROW_METRICS = 8
_MOST_FILES = 1000
_SPLITS = "val|valid|validation|test|eval|dev"
_HELD_OUT = re.compile(rf"({_SPLITS})[_/. -]|.*[_/. -]({_SPLITS})$")


def number(value: float | None) -> float | str | None:
    """Return a float as JSON can carry it: what is not finite becomes text."""
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def plain(value: Any) -> Any:
    """Return user data as JSON can carry it."""
    if isinstance(value, float):
        return number(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def filter_of(where: str, words: str) -> Node | None:
    """Return the tree for a query and for words that must all be in the name or the id; None for neither."""
    parts: list[Node] = [parse(where)] if where.strip() else []
    for word in words.split():
        sides = tuple(Compare(Field(key), "contains", word) for key in ("name", "id"))
        parts.append(Both("or", sides))
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else Both("and", tuple(parts))


def run_page(
    workspace: Workspace, *, where: str, words: str, order: str, offset: int, limit: int, metrics: Sequence[str]
) -> Json:
    """Return one page of runs, newest first unless ordered otherwise; `metrics` come first in each row."""
    tree = filter_of(where, words)
    runs = workspace.store.find(Run, tree, order_by=parse_order(order), limit=limit, offset=offset)
    is_last = len(runs) < limit and (runs or not offset)
    total = offset + len(runs) if is_last else workspace.store.count(Run, tree)
    return {"total": total, "rows": [_run_row(run, metrics) for run in runs]}


def _run_row(run: Run, wished: Sequence[str]) -> Json:
    shown = [name for name in run.summary if name in run.metrics or name in wished]
    return {
        "id": run.id,
        "name": run.name,
        "type": run.type,
        "status": run.status.value,
        "created_at": run.created_at,
        "duration_s": run.duration_s,
        "metrics": [[name, number(run.summary[name].last)] for name in _ordered(shown, wished)[:_ROW_METRICS]],
    }


def _ordered(names: Iterable[str], wished: Sequence[str]) -> list[str]:
    """Return metric names: the wished ones, on held-out data, plain ones, then those of layers and of the machine."""

    def rank(name: str) -> tuple[int, int, str]:
        sort = 0 if _HELD_OUT.match(name) else 2 if "/" in name or "." in name else 1
        return (wished.index(name) if name in wished else len(wished), sort, name)

    return sorted(names, key=rank)


def run_detail(workspace: Workspace, id: str, *, root: Path | None = None) -> Json:
    """Return all that the page of a run shows; `NotFound` for an unknown id.

    `root` is the folder whose files the server shows.
    """
    store = workspace.store
    run = store.get(Run, id)
    mine = Compare(Field("parent"), "==", id)
    artifacts = store.find(Artifact, mine, order_by=[Order(Field("created_at"))], limit=_MOST_FILES)
    return _run_row(run, ()) | {
        "parent": run.parent,
        "note": run.note,
        "cell_id": run.cell_id,
        "notebook": notebook_path(run, root),
        "params": [[name, plain(value)] for name, value in run.params.items()],
        "tags": [[name, str(value)] for name, value in run.tags.items()],
        "summary": [[name, plain(msgspec.to_builtins(run.summary[name]))] for name in _ordered(run.summary, ())],
        "error": shown_failure(run.error),
        "cells": cell_rows(store, id),
        "artifacts": [
            {key: getattr(one, key) for key in ("id", "name", "size_bytes", "media_type", "digest")}
            for one in artifacts
        ],
        "lineage": lineage_of(store, run),
    }


def series_version(workspace: Workspace, id: str, metrics: Sequence[str]) -> str:
    """Return text that changes when one of the series does, without reading a point."""
    summary = workspace.store.get(Run, id).summary
    for metric in metrics:
        if metric not in summary:
            hint = did_you_mean(metric, summary) or f"Use one of: {', '.join(sorted(summary)[:8]) or 'none yet'}"
            raise InvalidInput(f"run '{id}' has no metric '{metric}'", hint=hint)
    return repr([(metric, summary[metric]) for metric in metrics])


def run_series(workspace: Workspace, id: str, *, metrics: Sequence[str], px: int) -> Json:
    """Return the points of some metrics for charts `px` pixels wide."""
    segments = workspace.store.get(Run, id).segments
    points = (workspace.store.points(id, metric) for metric in metrics)
    if segments:
        points = (newest_view(one, segments).to_points(id, one.metric) for one in points)
    return {"series": [chart_series(one, px=px) for one in points]}


def model_page(workspace: Workspace, *, offset: int, limit: int) -> Json:
    """Return versions of models, newest first, with the aliases that point at them."""
    store: Store = workspace.store
    named: dict[tuple[str, int], list[str]] = {}
    for alias in store.find(Alias):
        named.setdefault((alias.model, alias.number), []).append(alias.alias)
    rows = [
        {
            "id": one.id,
            "name": one.name,
            "number": one.number,
            "aliases": sorted(named.get((one.name, one.number), [])),
            "created_at": one.created_at,
            "parent": one.parent,
            "metrics": [[name, number(value)] for name, value in one.metrics.items()],
        }
        for one in store.find(ModelVersion, limit=limit, offset=offset)
    ]
    return {"total": store.count(ModelVersion), "rows": rows}


def endpoint_page(workspace: Workspace, *, offset: int, limit: int) -> Json:
    """Return endpoints, newest first."""
    found = workspace.store.find(Endpoint, limit=limit, offset=offset)
    names = ("id", "name", "url", "status", "ref", "models", "created_at")
    rows = [{name: getattr(one, name) for name in names} for one in found]
    return {"total": workspace.store.count(Endpoint), "rows": rows}
