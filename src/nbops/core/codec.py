"""Records to JSON and back, and digests. NaN and infinities survive in records as tagged text."""

from __future__ import annotations

import hashlib
import math
from typing import Any, TypeVar

import msgspec

R = TypeVar("R")

_NON_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def encode(value: Any) -> bytes:
    """Return compact JSON of a record or of plain data; unknown objects become their ``str``."""
    return msgspec.json.encode(_finite(msgspec.to_builtins(value, enc_hook=_unknown, str_keys=True)))


def decode(data: bytes | str, kind: type[R]) -> R:
    """Return the `kind` that `encode` wrote; fields it does not know are ignored."""
    is_tagged = b'"$float"' in data if isinstance(data, bytes) else '"$float"' in data
    if not is_tagged:  # as good as always: one pass
        return msgspec.json.decode(data, type=kind, strict=False)
    return msgspec.convert(_restore(msgspec.json.decode(data)), kind, strict=False)


def digest_of(value: Any) -> str:
    """Return the sha256 (hex) of canonical JSON: sorted keys, so equal values have equal digests."""
    plain = _finite(msgspec.to_builtins(value, enc_hook=_unknown, str_keys=True))
    return hashlib.sha256(msgspec.json.encode(plain, order="sorted")).hexdigest()


def _unknown(value: Any) -> Any:
    item = getattr(value, "item", None)  # NumPy and torch scalars
    if callable(item) and getattr(value, "ndim", None) == 0:
        return item()
    return str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": _NON_FINITE[str(value)]}
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _restore(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"$float"}:
            return float(value["$float"])
        return {key: _restore(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_restore(item) for item in value]
    return value
