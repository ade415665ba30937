"""Text ids: a kind prefix and a ULID, so they sort by time and are never reused."""

from __future__ import annotations

import hashlib
import os
import threading
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford base 32
_lock = threading.Lock()
_last = 0


def _after_fork() -> None:
    global _lock, _last
    _lock, _last = threading.Lock(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def new_id(prefix: str) -> str:
    """Return ``prefix_`` and 26 characters: 48 bits of milliseconds, 80 random bits.

    Ids made by one process increase strictly; two processes never share one.
    Source: the ULID specification, with its monotonic variant.
    """
    global _last
    with _lock:
        value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
        if value >> 80 <= _last >> 80:
            value = _last + 1
        _last = value
    return f"{prefix}_{_text(value)}"


def stable_id(prefix: str, *, at: float, of: str) -> str:
    """Return an id that is the same for the same time (seconds) and text: for things that have a name elsewhere."""
    milliseconds = min(max(round(at * 1000), 0), (1 << 48) - 1)
    return f"{prefix}_{_text(milliseconds << 80 | int.from_bytes(hashlib.sha256(of.encode()).digest()[:10]))}"


def _text(value: int) -> str:
    digits = []
    for _ in range(26):
        digits.append(_ALPHABET[value & 31])
        value >>= 5
    return "".join(reversed(digits))


def short_id(id: str) -> str:
    """Return a form of an id for the eye: the prefix and its last six characters."""
    prefix, _, rest = id.rpartition("_")
    return f"{prefix}_…{rest[-6:]}" if len(rest) > 8 else id
