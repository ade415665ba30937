"""Events as a hash chain: each carries a digest over itself and the digest of the one before."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from nbops.core.codec import encode
from nbops.core.records import Event

_FIELDS = ("at", "kind", "subject", "payload", "actor")


def linked(before: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return the row of an event with its digest; `before` is that of the newest event, "" for none."""
    return {**row, "digest": _digest(before, [row[name] for name in _FIELDS])}


def follows(before: str, event: Event) -> bool:
    """Return whether `event` is as it was written, after the event with the digest `before`."""
    payload = encode(event.payload).decode()
    return event.digest == _digest(before, [event.at, event.kind, event.subject, payload, event.actor])


def _digest(before: str, entry: list[Any]) -> str:
    return hashlib.sha256(msgspec.json.encode([before, *entry])).hexdigest()
