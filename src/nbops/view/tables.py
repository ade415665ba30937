"""Tables of records: the columns that one asks for, kind by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from nbops.core.display import Bundle
from nbops.core.ids import short_id
from nbops.core.records import (
    Alias,
    AliasMove,
    Cell,
    CheckReport,
    Dataset,
    Diagnosis,
    Endpoint,
    Event,
    ModelVersion,
    Run,
)
from nbops.core.splits import Look, SplitRecord
from nbops.tracking.comparing.ranking import ranked
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Grid, Mono, Note, chip
from nbops.view.format import cell, duration, number, plural, size, when

_NEXT = {
    "run": "Start one with %%mlops run NAME at the top of a cell, or with nb.run().",
    "dataset": "Keep one with %mlops snapshot df --name NAME.",
    "model": "Register one with %mlops register net NAME --example x.",
    "endpoint": "Serve a model with %mlops serve NAME@prod.",
    "check": "Check a frame with %mlops check df.",
    "split": "Split data with %mlops split df.",
    "look": "Seal a test set with %mlops split df --seal.",
    "mute": "Say that a finding is no problem here with %mlops watch-mute RULE.",
    "watch": "Watch a model with %mlops watch net while a run is open.",
    "diagnosis": "Watch a model with %mlops watch net --optimizer opt.",
}


def show_table(value: Any) -> Bundle:
    """Draw a `Table` of records; an empty one says what to type next."""
    noun = str(value.kind)
    title = plural(value.total, noun)
    if not len(value):
        title = title.replace("0", "no", 1)
        return bundle(Card(title, parts=(Note(_NEXT.get(noun, "Nothing is recorded yet."), "dim"),)))
    facts = (f"{len(value):,} shown",) if value.total > len(value) else ()
    return bundle(Card(title, facts=facts, parts=(grid_of(value),)))


def grid_of(value: Any, *, limit: int | None = None) -> Grid:
    """Return the grid of a `Table`; `limit` keeps its first rows and says how many more there are."""
    kept = list(value)[:limit]
    grid = _GRIDS.get(str(value.kind), _any)(kept)
    left_out = len(value) - len(kept)
    more = f"… and {left_out:,} more" if left_out > 0 else ""
    return Grid(grid.head, grid.rows, grid.right, grid.sorted_by, more)


def _frequent(rows: Iterable[Iterable[str]], count: int) -> list[str]:
    seen = Counter(name for row in rows for name in row)
    return [name for name, _ in seen.most_common(count)]


def _telling(runs: Sequence[Run]) -> list[str]:
    """Return up to three parameters: those that differ between these runs first, then the most frequent."""
    values: dict[str, set[str]] = {}
    for name in _frequent((run.params for run in runs), 200):
        found = [run.params[name] for run in runs if name in run.params]
        if not isinstance(found[0], dict | list):
            values[name] = {str(value) for value in found}
    return sorted(values, key=lambda name: len(values[name]) < 2)[:3]


def _runs(runs: Sequence[Run]) -> Grid:
    metrics = ranked(_frequent((run.metrics for run in runs), 20))[:3]
    params = _frequent((run.params for run in runs), 3)
    head = ("state", "name", "id", "started", "duration", *metrics, *params)
    rows = tuple(
        (chip(r.status), r.name, Mono(short_id(r.id)), when(r.created_at), duration(r.duration_s),
         *(number(r.metrics[m]) if m in r.metrics else "" for m in metrics),
         *(number(r.params[p]) if p in r.params else "" for p in params))
        for r in runs
    )  # fmt: skip
    return Grid(head, rows, frozenset(range(4, len(head))))


def _datasets(found: Sequence[Dataset]) -> Grid:
    rows = tuple((f"{d.name}/{d.version}", Mono(short_id(d.id)), when(d.created_at), f"{d.rows:,}", len(d.columns),
                  Mono(d.digest[:12]), d.source.origin) for d in found)  # fmt: skip
    return Grid(("dataset", "id", "kept", "rows", "columns", "sha256", "origin"), rows, frozenset({3, 4}))


def _models(found: Sequence[ModelVersion]) -> Grid:
    metrics = ranked(_frequent((m.metrics for m in found), 20))[:3]
    head = ("state", "model", "id", "registered", "size", *metrics, "run")
    rows = tuple((chip(m.status), m.ref, Mono(short_id(m.id)), when(m.created_at), size(m.size_bytes),
                  *(number(m.metrics.get(name)) if name in m.metrics else "" for name in metrics),
                  Mono(short_id(m.parent or ""))) for m in found)  # fmt: skip
    return Grid(head, rows, frozenset(range(4, len(head) - 1)))


def _aliases(found: Sequence[Alias]) -> Grid:
    rows = []
    for alias in found:
        last = alias.history[-1] if alias.history else AliasMove(number=alias.number, at=alias.created_at)
        rows.append((alias.name, f"{alias.model}/{alias.number}", when(last.at), last.by, last.reason))
    return Grid(("alias", "version", "since", "by", "reason"), tuple(rows))


def _endpoints(found: Sequence[Endpoint]) -> Grid:
    rows = tuple((chip(e.status), e.name, ", ".join(e.models), Mono(e.url), e.pid, when(e.created_at)) for e in found)
    return Grid(("state", "endpoint", "serves", "url", "pid", "started"), rows, frozenset({4}))


def _checks(found: Sequence[CheckReport]) -> Grid:
    rows = tuple((chip(c.status), c.name, Mono(short_id(c.id)), when(c.created_at), f"{c.rows:,} × {c.columns:,}",
                  sum(r.verdict.severity > 1 for r in c.results), len(c.results)) for c in found)  # fmt: skip
    return Grid(("state", "checked", "id", "when", "size", "open", "of"), rows, frozenset({4, 5, 6}))


def _diagnoses(found: Sequence[Diagnosis]) -> Grid:
    rows = tuple((chip(d.status), d.name, d.step, Mono(d.layer), number(d.measured), number(d.limit),
                  when(d.created_at), d.fix) for d in found)  # fmt: skip
    head = ("state", "rule", "step", "layer", "measured", "limit", "when", "what to do")
    return Grid(head, rows, frozenset({2, 4, 5}))


def _events(found: Sequence[Event]) -> Grid:
    rows = tuple((e.seq, when(e.at), e.kind, Mono(short_id(e.subject))) for e in found)
    return Grid(("seq", "when", "event", "about"), rows, frozenset({0}))


def _artifacts(found: Sequence[Any]) -> Grid:
    rows = tuple((a.name, size(a.size_bytes), a.media_type, Mono(a.digest[:12]), when(a.created_at)) for a in found)
    return Grid(("file", "size", "type", "sha256", "kept"), rows, frozenset({1}))


def _cells(found: Sequence[Cell]) -> Grid:
    rows = tuple(
        (chip(c.status), c.execution_count or "", Mono(cell(c.cell_id).removeprefix("cell ")), duration(c.duration_s),
         Mono(c.source.strip().partition("\n")[0]), c.error.type if c.error else "")
        for c in found
    )  # fmt: skip
    return Grid(("state", "count", "cell", "duration", "source", "error"), rows, frozenset({1, 3}))


def _splits(found: Sequence[SplitRecord]) -> Grid:
    rows = tuple((s.name, Mono(short_id(s.id)), s.status, when(s.created_at), s.method,
                  *(f"{s.sizes.get(side, 0):,}" for side in ("train", "val", "test"))) for s in found)  # fmt: skip
    return Grid(("split", "id", "state", "when", "by", "train", "val", "test"), rows, frozenset({5, 6, 7}))


def _looks(found: Sequence[Look]) -> Grid:
    rows = tuple((k.number, k.split_name, k.name, cell(k.cell_id), Mono(short_id(k.parent or "")), when(k.created_at))
                 for k in found)  # fmt: skip
    return Grid(("look", "at the test rows of", "why", "cell", "run", "when"), rows, frozenset({0}))


def _any(found: Sequence[Any]) -> Grid:
    """Return columns for a kind without its own: name, id, state, when."""
    rows = tuple((str(getattr(r, "name", "")), Mono(short_id(getattr(r, "id", ""))), str(getattr(r, "status", "")),
                  when(getattr(r, "created_at", None))) for r in found)  # fmt: skip
    return Grid(("name", "id", "state", "when"), rows)


_GRIDS: dict[str, Callable[[Sequence[Any]], Grid]] = {
    "run": _runs, "dataset": _datasets, "model": _models, "alias": _aliases, "endpoint": _endpoints,
    "check": _checks, "diagnosis": _diagnoses, "event": _events, "artifact": _artifacts, "cell": _cells,
    "split": _splits, "look": _looks,
}  # fmt: skip
