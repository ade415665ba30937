"""Keys that look like secrets: their values are replaced before anything is stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

REDACTED = "[redacted]"
_SECRET = re.compile(r"(?i)(^|[_\-.])(token|secret|password|passwd|pwd|api_?key|credentials?|private_?key)s?($|[_\-.])")
# Counts of tokens are no secrets: language models have them as hyper-parameters.
_HARMLESS = re.compile(r"(?i)(max|num|n|total|per|new|min)[_\-.]?.*token")


def redact(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy in which the value of each secret-looking key is replaced, at any depth."""
    return {str(key): _value(str(key), value) for key, value in values.items()}


def _value(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return redact(value)
    secret = _SECRET.search(key) and not _HARMLESS.search(key) and not isinstance(value, bool | int | float)
    return REDACTED if secret and value is not None else value
