"""Summaries of a run's metrics: one row each in `series`, and once the run has ended all of them sealed in its own row.

The rows are the truth. A seal is a copy that makes one row of a hundred; whoever changes a row breaks the seal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from nbops.core.records import Record, Run, Summary, replace
from nbops.store.rows import SUMMARY_COLUMNS, summary_from
from nbops.store.tables import record, series

R = TypeVar("R", bound=Record)
Summaries = dict[str, Summary]
_MANY = 500  # values bound in one statement
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Summaries).decode


def has_points(kind: type[Record]) -> bool:
    """Return whether records of this kind have metrics that points make."""
    return issubclass(kind, Run)


def read_summaries(connection: sa.Connection, ids: Sequence[str]) -> dict[str, Summaries]:
    """Return the summaries of runs from their rows, by id."""
    found: dict[str, Summaries] = {id: {} for id in ids}
    for start in range(0, len(ids), _MANY):
        query = sa.select(*SUMMARY_COLUMNS).where(series.c.run.in_(ids[start : start + _MANY]))
        for run, metric, *values in _plain_rows(connection, query.order_by(series.c.run, series.c.metric)):
            found[run][metric] = summary_from(*values)
    return found


def with_summaries(connection: sa.Connection, items: Sequence[R], sealed: Sequence[bytes | None]) -> list[R]:
    """Return runs with their summaries: from the seal where there is one, else from the rows."""
    opened = [None if data is None else open_seal(data) for data in sealed]
    loose = [item.id for item, found in zip(items, opened, strict=True) if found is None]
    read = read_summaries(connection, loose) if loose else {}
    both = ((item, read[item.id] if found is None else found) for item, found in zip(items, opened, strict=True))
    return [replace(item, summary=summary) if summary else item for item, summary in both]


def seal(connection: sa.Connection, ids: Sequence[str]) -> None:
    """Copy the summaries of runs into their own rows."""
    for id, summaries in read_summaries(connection, ids).items():
        connection.execute(sa.update(record).where(record.c.id == id).values(summary=_encode(summaries)))


def break_seals(connection: sa.Connection, ids: Iterable[str]) -> None:
    """Let the summaries of runs be read from their rows: one of them changes."""
    sealed = (record.c.id.in_(list(ids)), record.c.summary.is_not(None))
    connection.execute(sa.update(record).where(*sealed).values(summary=None))


def unsealed(connection: sa.Connection, *, limit: int) -> list[str]:
    """Return ids of runs that have ended and are not sealed."""
    loose = (record.c.kind == Run.kind, record.c.status != "RUNNING", record.c.summary.is_(None))
    return list(connection.execute(sa.select(record.c.id).where(*loose).limit(limit)).scalars())


def open_seal(data: bytes) -> Summaries | None:
    """Return what a seal says, or None for one that is damaged."""
    try:
        return _decode(data)
    except msgspec.MsgspecError:
        return None


def _plain_rows(connection: sa.Connection, query: sa.Select[Any]) -> list[tuple[Any, ...]]:
    """Return rows as the driver gives them: of millions of numbers, wrapping each row would take half the time."""
    with connection.execute(query) as result:
        return list(result.cursor.fetchall()) if result.cursor is not None else []
