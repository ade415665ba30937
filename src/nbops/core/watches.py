"""How a watched training stands, beside the numbers of its run: whether it listens, waits, and what was changed."""

from __future__ import annotations

from typing import Any, ClassVar

from nbops.core.records import Record

OPEN, PAUSED, CLOSED = "open", "paused", "closed"


class WatchState(Record, frozen=True, kw_only=True):
    """One watch of one run, as whoever wants to pause or stop the training must know it."""

    kind: ClassVar[str] = "watch"
    prefix: ClassVar[str] = "wat"

    name: str  # of the watch
    status: str = OPEN  # open, paused, closed
    parent: str | None = None  # run
    model: str = ""  # its class
    step: int | None = None  # of the last change; while paused, the one that is waited before
    note: str = ""  # why it is paused
    actor: str = ""  # who made the last change
    lr: float | None = None  # learning rate after the last change; None before the first
    changes: tuple[dict[str, Any], ...] = ()  # the last ones, oldest first: step, what, before, after, by
