"""Records to table rows: the indexed columns, the JSON body, and one `attr` row per value a query may ask for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from nbops.core.codec import encode
from nbops.core.query import SPACES
from nbops.core.records import Record, Run, Summary, replace
from nbops.store.tables import series

COLUMNS = ("name", "status", "parent")
_NAN = math.nan
MAX_TEXT = 500  # an index entry of PostgreSQL holds 2,704 bytes; longer text is compared by this prefix


def record_row(record: Record) -> dict[str, Any]:
    """Return the row of the record table."""
    body = replace(record, summary={}) if "summary" in record.__struct_fields__ else record
    row = {name: getattr(record, name, None) for name in COLUMNS}
    return {
        "id": record.id,
        "kind": record.kind,
        "created_at": record.created_at,
        "body": encode(body).decode(),
        "summary": None,
        **{name: None if value is None else clean(str(value)) for name, value in row.items()},
    }


def attr_rows(record: Record) -> Iterator[dict[str, Any]]:
    """Yield the rows of the attr table; a run's metrics are not among them (points make those)."""
    for name in record.__struct_fields__:
        value = getattr(record, name)
        if name in SPACES and isinstance(value, Mapping):
            for key, item in value.items():
                yield from attr_row(record, name, str(key), item)
        elif name not in COLUMNS and name not in ("id", "created_at"):
            yield from attr_row(record, "", name, value)
    if isinstance(record, Run):
        yield from attr_row(record, "", "duration_s", record.duration_s)


def attr_row(record: Record, space: str, key: str, value: Any) -> Iterator[dict[str, Any]]:
    """Yield the row of one scalar; nothing for None and for what is no scalar."""
    if isinstance(value, str):
        num, text = None, clean(value)
    elif isinstance(value, bool | int | float):
        num, text = storable(float(value)), None
    else:
        return
    yield {"record": record.id, "kind": record.kind, "space": space, "key": clean(key), "num": num, "text": text}


def clean(text: str) -> str:
    """Return text that every database takes: no NUL, no lone surrogate, bounded."""
    return text.replace("\x00", "").encode(errors="replace").decode()[:MAX_TEXT]


def storable(value: float) -> float | None:
    """Return the number, or None for a NaN (SQLite has none)."""
    return None if math.isnan(value) else value


def series_row(run: str, metric: str, summary: Summary, chunks: int) -> dict[str, Any]:
    """Return the row of the series table."""
    return {
        "run": run,
        "metric": metric,
        "count": summary.count,
        "nan_count": summary.nan_count,
        "last_step": summary.last_step,
        "chunks": chunks,
        **{name: storable(getattr(summary, name)) for name in ("first", "last", "min", "max")},
    }


def summary_of(row: Any) -> Summary:
    """Return the summary that a row of the series table holds."""
    return summary_from(row.count, row.nan_count, row.last_step, row.first, row.last, row.min, row.max)


# what `summary_from` takes, after the run and the metric
SUMMARY_COLUMNS = tuple(
    series.c[name] for name in ("run", "metric", "count", "nan_count", "last_step", "first", "last", "min", "max")
)


def summary_from(
    count: int, nan_count: int, last_step: int, first: float | None, last: float | None, min: float | None,
    max: float | None,
) -> Summary:  # fmt: skip
    """Return a summary from columns in this order; a page of runs makes ten thousand of them."""
    return Summary(
        count=count, nan_count=nan_count, last_step=last_step,
        first=_NAN if first is None else first, last=_NAN if last is None else last,
        min=_NAN if min is None else min, max=_NAN if max is None else max,
    )  # fmt: skip
