"""Tells pages that records changed: polls the event table while somebody looks, emits one small event.

A page asks for something at least every 20 seconds while it is visible; 90 seconds after the last question the
polling stops, so that an idle server does nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from nbops.core.errors import NbopsError
from nbops.server.backend import Backend

SCHEMA_ID = "https://events.nbops.invalid/changed/v1"
POLL_S = 0.25
QUIET_S = 90.0
_MOST_SUBJECTS = 100
_SCHEMA = {
    "$id": SCHEMA_ID,
    "version": "1",
    "title": "Records changed in the nbops workspace",
    "personal-data": False,
    "type": "object",
    "properties": {
        "seq": {"type": "integer", "description": "Sequence number of the newest event"},
        "subjects": {"type": "array", "items": {"type": "string"}, "description": "Ids; absent when there are many"},
    },
    "required": ["seq"],
}


def register_schema(event_logger: Any) -> None:
    """Make our event known to Jupyter's event logger; nothing happens the second time."""
    if SCHEMA_ID not in event_logger.schemas:
        event_logger.register_event_schema(_SCHEMA)


class Watcher:
    """Polls a workspace while it is wanted.

    Parameters
    ----------
    backend : Backend
        The workspace to watch.
    event_logger : jupyter_events.EventLogger
        Where the event goes; Jupyter sends it on to every page.
    log : logging.Logger
        Where a store that cannot be read is reported, once per failure.
    """

    def __init__(self, backend: Backend, event_logger: Any, *, log: logging.Logger) -> None:
        self._backend = backend
        self._events = event_logger
        self._log = log
        self._known = 0
        self._until = 0.0
        self._task: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[dict[str, Any] | None] | None = None

    @property
    def is_watching(self) -> bool:
        """Whether the polling goes on."""
        return self._task is not None and not self._task.done()

    async def want(self) -> None:
        """Watch for the next `QUIET_S` seconds; what happens after this call is told."""
        self._until = time.monotonic() + QUIET_S
        if not self.is_watching:
            self._task = asyncio.create_task(self._watch())
            try:
                self._known = await asyncio.to_thread(self._newest)
            except NbopsError:  # the polling meets it too, and reports it
                self._known = 0

    async def stop(self) -> None:
        """End the polling; a look at the workspace that is under way is over then, so that none opens it again."""
        self._until = 0.0
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._reading is not None:
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _watch(self) -> None:
        failed = ""
        while time.monotonic() < self._until:
            await asyncio.sleep(POLL_S if not failed else 10 * POLL_S)
            try:
                self._reading = asyncio.create_task(asyncio.to_thread(self._change))
                change = await asyncio.shield(self._reading)  # a thread cannot be cancelled
                failed = ""
            except (NbopsError, OSError) as error:
                if str(error) != failed:
                    self._log.warning("nbops cannot watch %s: %s", self._backend.path, error)
                failed = str(error)
                continue
            if change is not None:
                self._events.emit(schema_id=SCHEMA_ID, data=change)

    def _newest(self) -> int:
        workspace = self._backend.workspace()
        return 0 if workspace is None else workspace.store.last_event()

    def _change(self) -> dict[str, Any] | None:
        newest = self._newest()
        if newest == self._known:
            return None
        if newest < self._known:  # another workspace lies there now
            self._known = newest
            return {"seq": newest}
        workspace = self._backend.workspace()
        events = [] if workspace is None else workspace.store.events(after=self._known, limit=10 * _MOST_SUBJECTS)
        self._known = newest
        subjects = list(dict.fromkeys(event.subject for event in events))
        if len(subjects) > _MOST_SUBJECTS or not events or events[-1].seq < newest:
            return {"seq": newest}
        return {"seq": newest, "subjects": subjects}
