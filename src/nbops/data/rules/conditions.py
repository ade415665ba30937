"""Conditions on rows (``when="country == 'CH' and age >= 18"``), in the language of queries, over columns.

A comparison with a missing cell is false, a bare name means that the cell is not missing.
"""

from __future__ import annotations

import operator
from datetime import UTC, datetime
from typing import Any

import numpy as np

from nbops.core.errors import InvalidInput
from nbops.core.query import Both, Compare, IsSet, Node, Not, parse
from nbops.data.columns import Array, Column, Mask
from nbops.data.rules.facts import Facts, Unfit, among, hashes_of, texts

_OPS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def columns_of(text: str) -> set[str]:
    """Return the names of the columns that a condition compares."""
    return _names(parse(text))


def rows_where(facts: Facts, text: str) -> Mask:
    """Return which rows satisfy a condition, bool [rows].

    Raises
    ------
    NotFound
        It names a column that is not there.
    InvalidInput
        It compares what cannot be compared: a text with a number.
    """
    return _rows(facts, parse(text), text)


def _names(node: Node) -> set[str]:
    if isinstance(node, Both):
        return set().union(*(_names(item) for item in node.items))
    return _names(node.item) if isinstance(node, Not) else {str(node.field)}


def _rows(facts: Facts, node: Node, text: str) -> Mask:
    if isinstance(node, Both):
        masks = [_rows(facts, item, text) for item in node.items]
        both: Mask = np.logical_and.reduce(masks) if node.op == "and" else np.logical_or.reduce(masks)
        return both
    if isinstance(node, Not):
        return ~_rows(facts, node.item, text)
    name = str(node.field)
    there = facts.there(name)
    is_there: Mask = np.ones(facts.rows, np.bool_) if there is None else there
    if isinstance(node, IsSet):
        return is_there
    try:
        return _compared(facts, name, node, is_there)
    except (Unfit, TypeError, ValueError) as error:
        raise InvalidInput(
            f"when {text!r}: column '{name}' {error}", hint="Compare it with values of its own type."
        ) from None


def _compared(facts: Facts, name: str, node: Compare, there: Mask) -> Mask:
    column = facts.column(name)
    if node.value is None:
        return ~there if node.op == "==" else there
    if node.op in ("==", "!=", "in"):
        values = node.value if node.op == "in" else (node.value,)
        same = among(facts.hashes(name), hashes_of(column, [_cell(column, value) for value in values]))
        return there & (~same if node.op == "!=" else same)
    if column.is_text:
        return there & _text(column, node, there)
    if isinstance(node.value, str) and column.values.dtype.kind != "M":
        raise Unfit(f"holds {column.dtype}, and {node.value!r} is text")
    if node.op == "contains":
        raise Unfit(f"holds {column.dtype}, not text")
    values_of = column.values if column.values.dtype.kind == "M" else facts.numbers(name)
    if values_of.ndim == 2:
        raise Unfit("holds arrays")
    found: Mask = there & _OPS[node.op](values_of, _cell(column, node.value))
    return found


def _text(column: Column, node: Compare, there: Mask) -> Mask:
    """Compare texts one by one; capitals count in an order, and not in ``"x" in name``."""
    if not isinstance(node.value, str):
        raise Unfit(f"holds text, and {node.value!r} is none")
    rows: Array = np.flatnonzero(there)
    found = np.zeros(column.rows, np.bool_)
    if node.op == "contains":
        told = [node.value.lower() in text.lower() for text in texts(column, rows)]
    else:
        told = [_OPS[node.op](text, node.value) for text in texts(column, rows)]
    found[rows] = told
    return found


def _cell(column: Column, value: Any) -> Any:
    """Return a value as the column holds it: for dates, of ISO text or (for names in ``_at``) of epoch seconds."""
    if column.offsets is not None or column.values.dtype.kind != "M":
        return value
    if isinstance(value, float):
        zone = UTC if column.dtype.startswith("datetime[") else None
        return np.datetime64(datetime.fromtimestamp(value, zone).replace(tzinfo=None))
    return np.datetime64(value)
