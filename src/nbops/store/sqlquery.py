"""Query trees to SQL: columns where the record table has one, `attr` rows for all else.

The meaning is that of `nbops.core.query.matches`, which the store contract tests against.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from nbops.core.query import Both, Compare, Field, IsSet, Node, Not, Order
from nbops.store.rows import clean
from nbops.store.tables import attr, record

_COLUMNS: dict[str, sa.ColumnElement[Any]] = {
    "id": record.c.id,
    "name": record.c.name,
    "status": record.c.status,
    "parent": record.c.parent,
    "created_at": record.c.created_at,
}
Clause = sa.ColumnElement[bool]
_OPERATORS: dict[str, Callable[[Any, Any], Clause]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def compile_where(node: Node) -> Clause:
    """Return the WHERE clause of a query tree."""
    match node:
        case Both(op=op, items=items):
            parts = [compile_where(item) for item in items]
            return sa.and_(*parts) if op == "and" else sa.or_(*parts)
        case Not(item=item):
            return sa.not_(sa.func.coalesce(compile_where(item), sa.false()))
        case IsSet(field=field):
            return _is_set(field)
        case Compare(field=field, op=op, value=value):
            return _compare(field, op, value)


def compile_order(orders: Sequence[Order]) -> list[sa.ColumnElement[Any]]:
    """Return ORDER BY terms: absent and NaN values last, newest first among equals."""
    terms: list[sa.ColumnElement[Any]] = []
    for order in orders:
        column = _COLUMNS.get(order.field.key) if not order.field.space else None
        values: list[sa.ColumnElement[Any]]
        values = [column] if column is not None else [_lookup(order.field, c) for c in (attr.c.num, attr.c.text)]
        terms.append(sa.case((sa.and_(*(v.is_(None) for v in values)), 1), else_=0))
        terms += [v.desc() if order.descending else v.asc() for v in values]
    return [*terms, record.c.created_at.desc(), record.c.id.desc()]


def _is_set(field: Field) -> Clause:
    column = _COLUMNS.get(field.key) if not field.space else None
    return column.is_not(None) if column is not None else _exists(field)


def _compare(field: Field, op: str, value: Any) -> Clause:
    if op == "in":
        return sa.or_(sa.false(), *(_compare(field, "==", item) for item in value))
    if value is None:
        if op not in ("==", "!="):
            return sa.false()
        return _is_set(field) if op == "!=" else sa.not_(_is_set(field))
    column = _COLUMNS.get(field.key) if not field.space else None
    if column is not None:
        if isinstance(value, str) == (column is record.c.created_at):
            return column.is_not(None) if op == "!=" else sa.false()
        return _operate(column, op, value)
    side = attr.c.text if isinstance(value, str) or op == "contains" else attr.c.num
    if op == "!=":
        return _exists(field, sa.or_(side.is_(None), side != value))
    return _exists(field, _operate(side, op, value))


def _operate(column: sa.ColumnElement[Any], op: str, value: Any) -> Clause:
    if isinstance(value, bool):
        value = int(value)
    elif isinstance(value, str):
        value = clean(value)
    if op == "contains":
        return sa.func.lower(column).contains(str(value).lower(), autoescape=True)
    return _OPERATORS[op](column, value)


def _exists(field: Field, *conditions: Clause) -> Clause:
    return (
        sa.select(sa.literal(1))
        .where(attr.c.record == record.c.id, attr.c.space == field.space, attr.c.key == field.key, *conditions)
        .correlate(record)
        .exists()
    )


def _lookup(field: Field, column: sa.ColumnElement[Any]) -> sa.ScalarSelect[Any]:
    return (
        sa.select(column)
        .where(attr.c.record == record.c.id, attr.c.space == field.space, attr.c.key == field.key)
        .correlate(record)
        .scalar_subquery()
    )
