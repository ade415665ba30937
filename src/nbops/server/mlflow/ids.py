"""Ids of both worlds: ours are a prefix and 128 bits in base 32, MLflow's the same 128 bits in hex.

The mapping needs no table: every run of the workspace has an MLflow id, also one that MLflow never saw.
"""

from __future__ import annotations

import re

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUE = {letter: value for value, letter in enumerate(_ALPHABET)}
_HEX = re.compile(r"[0-9a-fA-F]{32}")
_OURS = re.compile(r"([a-z]+)_([0-7][0-9A-HJKMNP-TV-Z]{25})")


def to_hex(id: str) -> str:
    """Return the 32 hexadecimal digits of one of our ids; an id of another form is returned as it is."""
    match = _OURS.fullmatch(id)
    if match is None:
        return id
    value = 0
    for letter in match[2]:
        value = value << 5 | _VALUE[letter]
    return f"{value:032x}"


def from_hex(text: str, prefix: str) -> str:
    """Return our id for 32 hexadecimal digits; any other text is returned as it is."""
    if not _HEX.fullmatch(text):
        return text
    value = int(text, 16)
    digits = []
    for _ in range(26):
        digits.append(_ALPHABET[value & 31])
        value >>= 5
    return f"{prefix}_{''.join(reversed(digits))}"


def model_id(id: str) -> str:
    """Return MLflow's id of a logged model: ``m-`` and 32 hexadecimal digits."""
    return f"m-{to_hex(id)}"
