"""Points in SQL: chunks of columns and one summary row per metric of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from nbops.core.protocols import Points
from nbops.core.records import Run, Summary
from nbops.store.points import CHUNK_POINTS, Columns, decode_chunk, encode_chunk, merge, split, summarise
from nbops.store.rows import clean, series_row, storable, summary_of
from nbops.store.tables import attr, chunk, journal, series

Upsert = Callable[[sa.Connection, sa.Table, Sequence[Mapping[str, Any]]], None]


class SeriesTables:
    """Reads and writes the tables `series`, `chunk` and `journal` on a given connection."""

    def __init__(self, upsert: Upsert) -> None:
        self._upsert = upsert

    def advance(self, connection: sa.Connection, name: str, start: int, end: int) -> bool:
        """Move a journal's folded offset from `start` to `end`; False if it is elsewhere."""
        if start == 0 and self.folded(connection, name) == 0:
            self._upsert(connection, journal, [{"name": name, "folded": end}])
            return True
        moved = connection.execute(
            sa.update(journal).where(journal.c.name == name, journal.c.folded == start).values(folded=end)
        )
        return bool(moved.rowcount)

    def folded(self, connection: sa.Connection, name: str) -> int:
        """Return the folded offset of a journal, 0 for an unknown one."""
        return int(connection.execute(sa.select(journal.c.folded).where(journal.c.name == name)).scalar() or 0)

    def add(self, connection: sa.Connection, batch: Sequence[Points]) -> dict[str, dict[str, int]]:
        """Append points; return per run how many points each metric gained."""
        counts: dict[str, dict[str, int]] = {}
        rows: dict[str, list[dict[str, Any]]] = {"series": [], "chunk": [], "attr": []}
        for points in batch:
            fresh = Columns.of(points)
            if not len(fresh):
                continue
            self._append(connection, points.run, points.metric, fresh, rows)
            counts.setdefault(points.run, {})[points.metric] = len(fresh)
        for table in (series, chunk, attr):
            if rows[table.name]:
                self._upsert(connection, table, rows[table.name])
        return counts

    def _append(
        self, connection: sa.Connection, run: str, metric: str, fresh: Columns, rows: dict[str, list[dict[str, Any]]]
    ) -> None:
        known = connection.execute(
            sa.select(series).where(series.c.run == run, series.c.metric == metric).with_for_update()
        ).first()
        summary = merge(summary_of(known) if known else None, summarise(fresh))
        number = known.chunks if known else 0
        if number:
            last = connection.execute(
                sa.select(chunk.c.data).where(
                    chunk.c.run == run,
                    chunk.c.metric == metric,
                    chunk.c.number == number - 1,
                    chunk.c.count < CHUNK_POINTS,
                )
            ).scalar()
            if last is not None:  # the last chunk has room: write it anew, longer
                fresh, number = Columns.joined([decode_chunk(last), fresh]), number - 1
        for piece in split(fresh):
            rows["chunk"].append(
                {"run": run, "metric": metric, "number": number, "count": len(piece), "data": encode_chunk(piece)}
            )
            number += 1
        rows["series"].append(series_row(run, metric, summary, number))
        rows["attr"].append(_value_row(run, metric, summary))

    def sort(self, connection: sa.Connection, run: str, metric: str, *, starts: Sequence[int]) -> None:
        """Put the points of one metric into the order of their times; those of one time stay as they stand.

        So do those of one segment: `starts` are the places where the later ones begin.
        """
        mine = (chunk.c.run == run, chunk.c.metric == metric)
        connection.execute(
            sa.select(series.c.count).where(series.c.run == run, series.c.metric == metric).with_for_update()
        )
        columns = Columns.of(self.read(connection, run, metric))
        segment = np.searchsorted(starts, np.arange(len(columns)), side="right")
        order = np.lexsort((columns.times_ms, segment))
        if not len(order) or (order[1:] > order[:-1]).all():
            return
        columns = columns.take(order)
        pieces, summary = list(split(columns)), summarise(columns)
        connection.execute(sa.delete(chunk).where(*mine))
        made = [
            {"run": run, "metric": metric, "number": number, "count": len(piece), "data": encode_chunk(piece)}
            for number, piece in enumerate(pieces)
        ]
        self._upsert(connection, chunk, made)
        self._upsert(connection, series, [series_row(run, metric, summary, len(pieces))])
        self._upsert(connection, attr, [_value_row(run, metric, summary)])

    def read(self, connection: sa.Connection, run: str, metric: str) -> Points:
        """Return all points of one metric."""
        query = sa.select(chunk.c.data).where(chunk.c.run == run, chunk.c.metric == metric).order_by(chunk.c.number)
        parts = [decode_chunk(data) for data in connection.execute(query).scalars()]
        return Columns.joined(parts).to_points(run, metric)


def _value_row(run: str, metric: str, summary: Summary) -> dict[str, Any]:
    """Return the row by which queries find a metric's last value."""
    value = {"num": storable(summary.last), "text": None}
    return {"record": run, "kind": Run.kind, "space": "metrics", "key": clean(metric), **value}
