"""MLflow's search grammar: comparisons joined by AND, and sort keys. What they mean is decided in `search`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbops.server.mlflow.errors import MlflowError

_KEY = r"""(?:(?P<space>[A-Za-z_]\w*)\s*\.\s*)?(?:"(?P<dq>[^"]*)"|`(?P<bq>[^`]*)`|(?P<plain>[^\s=<>!()'"`,]+))"""
_OP = r"(?P<op>>=|<=|!=|=|<|>|NOT\s+ILIKE|NOT\s+LIKE|ILIKE|LIKE|NOT\s+IN|IN|IS\s+NOT\s+NULL|IS\s+NULL)"
_TEXT = r"""'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.)*\""""
_VALUE = rf"(?P<value>{_TEXT}|\((?:[^()'\"]|{_TEXT})*\)|[^\s()'\"]+)"
_LEFT = re.compile(rf"\s*{_KEY}\s*{_OP}", re.IGNORECASE)
_RIGHT = re.compile(rf"\s*{_VALUE}")
_AND = re.compile(r"\s*\bAND\b", re.IGNORECASE)
_ORDER = re.compile(rf"\s*{_KEY}(?:\s+(?P<way>ASC|DESC))?\s*", re.IGNORECASE)
_LIST = re.compile(_TEXT)
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INT64_DIGITS = 19

NUMERIC = (">", ">=", "!=", "=", "<", "<=")
TEXTUAL = ("!=", "=", "LIKE", "ILIKE")
PRESENCE = ("IS NULL", "IS NOT NULL")
MEMBERS = ("IN", "NOT IN")


@dataclass(frozen=True)
class Condition:
    """``space.key op value``; `space` is empty for an attribute, `value` a tuple for IN, None for IS NULL."""

    space: str
    key: str
    op: str
    value: Any = None


@dataclass(frozen=True)
class SortKey:
    """One sort key."""

    space: str
    key: str
    descending: bool


def parse(text: str, spaces: Mapping[str, str]) -> list[Condition]:
    """Return the comparisons of a filter.

    Parameters
    ----------
    text : str
        ``metrics.acc > 0.9 AND params.model = 'cnn'``.
    spaces : mapping
        What may stand before the dot, and the space that it means.

    Raises
    ------
    MlflowError
        The text cannot be understood; the part that is wrong is named.
    """
    found: list[Condition] = []
    at = 0
    while text[at:].strip():
        if found:
            joined = _AND.match(text, at)
            if joined is None:
                raise MlflowError(f"Invalid clause(s) in filter string: '{text[at:].strip()}'. Join them with AND.")
            at = joined.end()
        left = _LEFT.match(text, at)
        if left is None:
            raise MlflowError(f"Invalid clause(s) in filter string: '{text[at:].strip()}'")
        op = " ".join(left["op"].upper().split())
        space, key = _place(left, spaces)
        at = left.end()
        if op in PRESENCE:
            found.append(Condition(space, key, op))
            continue
        right = _RIGHT.match(text, at)
        if right is None:
            raise MlflowError(f"Invalid clause(s) in filter string: '{left[0].strip()}' has no value to compare with.")
        found.append(Condition(space, key, op, _value(space, key, op, right["value"])))
        at = right.end()
    return found


def parse_order(text: str, spaces: Mapping[str, str]) -> SortKey:
    """Return a sort key from ``metrics.acc DESC``."""
    match = _ORDER.fullmatch(text)
    if match is None:
        raise MlflowError(f"Invalid order_by clause '{text}'. Could not be parsed.")
    space, key = _place(match, spaces)
    return SortKey(space, key, (match["way"] or "ASC").upper() == "DESC")


def _place(match: re.Match[str], spaces: Mapping[str, str]) -> tuple[str, str]:
    word = match["space"]
    key = next(part for part in (match["dq"], match["bq"], match["plain"]) if part is not None)
    if word is None:
        return "", key
    if word.lower() not in spaces:
        valid = sorted(set(spaces))
        raise MlflowError(f"Invalid entity type '{word}'. Valid values are {valid}")
    return spaces[word.lower()], key


def _value(space: str, key: str, op: str, text: str) -> Any:
    if op in MEMBERS:
        if not text.startswith("("):
            raise MlflowError(f"Expected a list of quoted string values for '{key}'. Got value {text}")
        return tuple(_unquoted(item) for item in _LIST.findall(text))
    if text[0] in "'\"":
        return _unquoted(text)
    if _NUMBER.fullmatch(text):
        return int(text) if text.lstrip("+-").isdigit() and len(text) < _INT64_DIGITS else float(text)
    raise MlflowError(f"Expected a quoted string value for {space or 'attribute'} (e.g. 'my-value'). Got value {text}")


def _unquoted(text: str) -> str:
    return text[1:-1].replace("''", "'") if text[0] == "'" else text[1:-1]


def like(pattern: str, text: str, *, ignore_case: bool) -> bool:
    """Return whether `text` is like an SQL pattern: ``%`` any text, ``_`` any letter."""
    parts = (".*" if c == "%" else "." if c == "_" else re.escape(c) for c in pattern)
    return re.fullmatch("".join(parts), text, re.DOTALL | (re.IGNORECASE if ignore_case else 0)) is not None


def holds(op: str, have: Any, want: Any) -> bool:
    """Return whether ``have op want``; nothing but IS NULL holds for an absent value."""
    if op in PRESENCE:
        return (have is None) == (op == "IS NULL")
    if have is None:
        return False
    if op in MEMBERS:
        return (str(have) in want) == (op == "IN")
    if op.endswith("LIKE"):
        return like(str(want), str(have), ignore_case=op.endswith("ILIKE")) != op.startswith("NOT")
    if isinstance(want, str) != isinstance(have, str):
        have, want = str(have), str(want)
    tests = {"=": have == want, "!=": have != want, "<": have < want, "<=": have <= want}
    return tests[op] if op in tests else bool(have > want if op == ">" else have >= want)
