"""Heartbeats: how processes of several hosts that share a database know of each other that they live."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import sqlalchemy as sa

from nbops.store.tables import heartbeat


class Heartbeats:
    """The part of a store that keeps heartbeats; the store itself brings the connections."""

    engine: sa.Engine
    _work: Callable[[], AbstractContextManager[Any]]
    _reading: Callable[[], AbstractContextManager[sa.Connection]]
    _upsert: Callable[[sa.Connection, sa.Table, Sequence[Mapping[str, Any]]], None]

    @property
    def is_shared(self) -> bool:
        """Whether processes of other hosts may use this database."""
        return bool(self.engine.dialect.name == "postgresql")

    def beat(self, owner: str) -> float | None:
        """Tell that the process `owner` lives; return the seconds since it last said so, None for the first time."""
        with self._work() as work:
            now = self._now(work.connection)
            last = work.connection.execute(sa.select(heartbeat.c.at).where(heartbeat.c.owner == owner)).scalar()
            self._upsert(work.connection, heartbeat, [{"owner": owner, "at": now}])
            return None if last is None else now - last

    def silences(self) -> dict[str, float]:
        """Return for each process the seconds since its last heartbeat."""
        with self._reading() as connection:
            now = self._now(connection)
            return {row.owner: now - row.at for row in connection.execute(sa.select(heartbeat))}

    def forget_beats(self, owners: Sequence[str]) -> None:
        """Forget processes that have ended."""
        if owners:
            with self._work() as work:
                work.connection.execute(sa.delete(heartbeat).where(heartbeat.c.owner.in_(owners)))

    def _now(self, connection: sa.Connection) -> float:
        """Return the time by the clock that all processes of this database share."""
        if not self.is_shared:
            return time.time()
        return float(connection.execute(sa.select(sa.extract("epoch", sa.func.clock_timestamp()))).scalar_one())
