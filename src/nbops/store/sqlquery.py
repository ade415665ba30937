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


def compile_where(node: Node, kind: str) -> Clause:
    """Return the WHERE clause of a query tree over records of one kind."""
    match node:
        case Both(op=op, items=items):
            parts = [compile_where(item, kind) for item in items]
            return sa.and_(*parts) if op == "and" else sa.or_(*parts)
        case Not(item=item):
            return sa.not_(sa.func.coalesce(compile_where(item, kind), sa.false()))
        case IsSet(field=field):
            return _is_set(field, kind)
        case Compare(field=field, op=op, value=value):
            return _compare(field, op, value, kind)


def ordered(query: sa.Select[Any], orders: Sequence[Order]) -> sa.Select[Any]:
    """Return a query of `record` in order: absent and NaN values last, newest first among equals.

    Each key is joined once, so that a value is looked up once per row and not once per term.
    """
    source: sa.FromClause = record
    terms: list[sa.ColumnElement[Any]] = []
    for order in orders:
        column = _COLUMNS.get(order.field.key) if not order.field.space else None
        values: list[sa.ColumnElement[Any]]
        if column is not None:
            values = [column]
        else:
            key = attr.alias()
            place = sa.and_(key.c.record == record.c.id, key.c.space == order.field.space, key.c.key == order.field.key)
            source = source.outerjoin(key, place)
            values = [key.c.num, key.c.text]
        terms.append(sa.case((sa.and_(*(v.is_(None) for v in values)), 1), else_=0))
        terms += [v.desc() if order.descending else v.asc() for v in values]
    return query.select_from(source).order_by(*terms, record.c.created_at.desc(), record.c.id.desc())


def _is_set(field: Field, kind: str) -> Clause:
    column = _COLUMNS.get(field.key) if not field.space else None
    return column.is_not(None) if column is not None else _has(field, kind)


def _compare(field: Field, op: str, value: Any, kind: str) -> Clause:
    if op == "in":
        return sa.or_(sa.false(), *(_compare(field, "==", item, kind) for item in value))
    if value is None:
        if op not in ("==", "!="):
            return sa.false()
        return _is_set(field, kind) if op == "!=" else sa.not_(_is_set(field, kind))
    column = _COLUMNS.get(field.key) if not field.space else None
    if column is not None:
        if isinstance(value, str) == (column is record.c.created_at):
            return column.is_not(None) if op == "!=" else sa.false()
        return _operate(column, op, value)
    side = attr.c.text if isinstance(value, str) or op == "contains" else attr.c.num
    if op == "!=":
        return _has(field, kind, sa.or_(side.is_(None), side != value))
    return _has(field, kind, _operate(side, op, value))


def _operate(column: sa.ColumnElement[Any], op: str, value: Any) -> Clause:
    if isinstance(value, bool):
        value = int(value)
    elif isinstance(value, str):
        value = clean(value)
    if op == "contains":
        return sa.func.lower(column).contains(str(value).lower(), autoescape=True)
    return _OPERATORS[op](column, value)


def _has(field: Field, kind: str, *conditions: Clause) -> Clause:
    """Return whether the record is among those whose value meets `conditions`: one walk along an index of `attr`."""
    found = sa.select(attr.c.record).where(
        attr.c.kind == kind, attr.c.space == field.space, attr.c.key == field.key, *conditions
    )
    return record.c.id.in_(found)
