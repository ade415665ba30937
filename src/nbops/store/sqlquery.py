"""Query trees to SQL: columns where the record table has one, `attr` rows for all else.

The meaning is that of `nbops.core.query.matches`, which the store contract tests against. There are three ways to
ask: all records that match (`compile_where`), only how many (`counted`: sets of ids, mostly from an index alone), and
the first ones in an order (`first`: a walk along that order, which ends early where many records match).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from nbops.core.query import Both, Compare, Field, IsSet, Node, Not, Order
from nbops.store.rows import clean
from nbops.store.tables import attr, record

REACH = 2000  # records that a walk looks at before it gives up
_SHORT = 5  # and for each that is asked for, at first
_COLUMNS: dict[str, sa.ColumnElement[Any]] = {
    "id": record.c.id,
    "name": record.c.name,
    "status": record.c.status,
    "parent": record.c.parent,
    "created_at": record.c.created_at,
}
_NARROW = ("id", "name", "parent")  # columns of which a value is that of few records
_NEWEST = (record.c.created_at.desc(), record.c.id.desc())
Clause = sa.ColumnElement[bool]
_OPERATORS: dict[str, Callable[[Any, Any], Clause]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class _Folded(sa.sql.functions.FunctionElement[str]):
    """Text in small letters."""

    name = "folded"
    inherit_cache = True


@compiles(_Folded)
def _in_small_letters(element: _Folded, compiler: Any, **options: Any) -> str:
    return f"lower({compiler.process(element.clauses, **options)})"


@compiles(_Folded, "sqlite")
def _as_it_is(element: _Folded, compiler: Any, **options: Any) -> str:
    """Its LIKE takes a letter of ASCII for its capital, and its `lower` knows no other letters."""
    return str(compiler.process(element.clauses, **options))


def compile_where(node: Node, kind: str) -> Clause:
    """Return the WHERE clause of a query tree over records of one kind."""
    return _clause(node, lambda found: record.c.id.in_(found), kind)


def among(node: Node, kind: str) -> Clause:
    """Return the same clause for when few records match: then the index of a state finds them."""
    return record.c.id.in_(_ids(node, kind)) if _has_state(node) else compile_where(node, kind)


def counted(node: Node | None, kind: str) -> sa.Select[Any]:
    """Return the query for how many records of one kind match."""
    return sa.select(sa.func.count()).select_from(_ids(node, kind).subquery())


def first(node: Node | None, kind: str, orders: Sequence[Order], *, count: int) -> Iterator[sa.Select[Any]]:
    """Yield queries for the ids of the first `count` records in their order: a short walk, a longer one, or none.

    A walk looks at so many records in that order and at no others. Who gets fewer ids than `count` from all of them
    has to ask in full.
    """
    is_plain = not orders if node is None else _is_narrow(node)
    if is_plain or count > REACH // 2 or len(orders) > 1:
        return
    for reach in (count,) if node is None else sorted({min(_SHORT * count, REACH), REACH}):
        walk = _walk(orders[0] if orders else None, kind, reach=reach)
        if walk is not None:
            yield _along(walk, node, kind, orders, count=count)


def _along(
    walk: sa.Subquery, node: Node | None, kind: str, orders: Sequence[Order], *, count: int
) -> sa.Select[Any]:  # fmt: skip
    ranks = [walk.c.created_at.desc(), walk.c.id.desc()]
    if orders:
        ranks.insert(0, walk.c.num.desc() if orders[0].descending else walk.c.num.asc())
    query = sa.select(walk.c.id).order_by(*ranks).limit(count)
    if node is None:
        return query
    if _has_columns(node):
        query = query.join(record, record.c.id == walk.c.id)
    return query.where(_clause(node, lambda found: sa.exists(found.where(attr.c.record == walk.c.id)), kind))


def _walk(order: Order | None, kind: str, *, reach: int) -> sa.Subquery | None:
    """Return the first `reach` records in an order, whatever they hold; None for an order that no index has."""
    if order is None:
        newest = sa.select(record.c.id, record.c.created_at).where(record.c.kind == kind)
        return newest.order_by(*_NEWEST).limit(reach).subquery()
    if not order.field.space and order.field.key in _COLUMNS:
        return None
    values = sa.select(attr.c.record.label("id"), attr.c.num, record.c.created_at)
    values = values.join(record, record.c.id == attr.c.record).where(
        *_place(order.field, kind), attr.c.num.is_not(None)
    )
    return (
        values.order_by(attr.c.num.desc() if order.descending else attr.c.num.asc(), *_NEWEST).limit(reach).subquery()
    )


def texts_of(field: Field, kind: str) -> sa.Select[Any]:
    """Return a query for one record whose value of a field is text: numbers and texts have no common order."""
    return _rows(field, kind).where(attr.c.text.is_not(None)).limit(1)


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
    return query.select_from(source).order_by(*terms, *_NEWEST)


# ---- parts -----------------------------------------------------------------------------------------------------------


def _clause(node: Node, has: Callable[[sa.Select[Any]], Clause], kind: str) -> Clause:
    """Return the clause of a tree; `has` says of a query for ids that the record is among them."""
    match node:
        case Both(op=op, items=items):
            parts = [_clause(item, has, kind) for item in items]
            return sa.and_(*parts) if op == "and" else sa.or_(*parts)
        case Not(item=item):
            return sa.not_(sa.func.coalesce(_clause(item, has, kind), sa.false()))
        case Compare(op="in", value=values) if None in values:
            return _clause(_without_none(node), has, kind)
        case Compare(op="==", value=None):
            return sa.not_(_clause(IsSet(node.field), has, kind))
    column, conditions = _test(node)
    return has(_rows(node.field, kind).where(*conditions)) if column is None else sa.and_(*conditions)


def _rows(field: Field, kind: str) -> sa.Select[Any]:
    """Return the query for the records that have a value of a field in `attr`: one walk along an index."""
    return sa.select(attr.c.record).where(*_place(field, kind))


def _place(field: Field, kind: str) -> tuple[Clause, ...]:
    return attr.c.kind == kind, attr.c.space == field.space, attr.c.key == field.key


def _test(node: Compare | IsSet) -> tuple[sa.ColumnElement[Any] | None, list[Clause]]:
    """Return the column of a simple test, None for a row of `attr`, and what must hold of it."""
    field = node.field
    column = _COLUMNS.get(field.key) if not field.space else None
    op, value = ("!=", None) if isinstance(node, IsSet) else (node.op, node.value)
    if value is None:
        if op != "!=":
            return column, [sa.false()]
        return column, [] if column is None else [column.is_not(None)]
    if op == "in":
        return column, [_within(column, value)]
    if column is not None:
        if isinstance(value, str) == (column is record.c.created_at):
            return column, [column.is_not(None) if op == "!=" else sa.false()]
        return column, [_operate(column, op, value)]
    side = attr.c.text if isinstance(value, str) or op == "contains" else attr.c.num
    test = _operate(side, op, value)
    return None, [sa.or_(side.is_(None), test) if op == "!=" else test]


def _within(column: sa.ColumnElement[Any] | None, values: Sequence[Any]) -> Clause:
    """Return whether a value is one of many: a list each for texts and numbers, which no number of values outgrows."""
    texts = [_bound(value) for value in values if isinstance(value, str)]
    numbers = [_bound(value) for value in values if not isinstance(value, str)]
    if column is not None:
        return column.in_(numbers if column is record.c.created_at else texts)
    lists = ((attr.c.num, numbers), (attr.c.text, texts))
    return sa.or_(sa.false(), *(side.in_(chosen) for side, chosen in lists if chosen))


def _operate(column: sa.ColumnElement[Any], op: str, value: Any) -> Clause:
    if op == "contains":
        return _Folded(column).contains(clean(str(value)).lower(), autoescape=True)
    return _OPERATORS[op](column, _bound(value))


def _bound(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    return clean(value) if isinstance(value, str) else value


def _without_none(node: Compare) -> Node:
    """Return the same test as one for values and one for their absence."""
    values = tuple(value for value in node.value if value is not None)
    return Both("or", (Compare(node.field, "in", values), Compare(node.field, "==", None)))


def _ids(node: Node | None, kind: str) -> sa.Select[Any]:
    """Return the query for the ids of all records of one kind that match, each once."""
    everything = sa.select(record.c.id).where(record.c.kind == kind)
    if node is None:
        return everything
    if _is_of_columns(node):
        return everything.where(compile_where(node, kind))
    match node:
        case Both(op=op, items=items):
            plain = tuple(item for item in items if _is_of_columns(item))
            others = sorted((item for item in items if not _is_of_columns(item)), key=_is_equal)
            parts = [_ids(item, kind) for item in ((Both(op, plain), *others) if plain else others)]
            return _all_of(parts) if op == "and" else _joined(sa.union, parts)
        case Not(item=item):
            return _joined(sa.except_, [everything, _ids(item, kind)])
        case Compare(op="in", value=values) if None in values:
            return _ids(_without_none(node), kind)
        case Compare(op="==", value=None):
            return _joined(sa.except_, [everything, _rows(node.field, kind)])
        case _:
            return _rows(node.field, kind).where(*_test(node)[1])


def _all_of(parts: Sequence[sa.Select[Any]]) -> sa.Select[Any]:
    """Return the ids that are in every part: those of the first that the others, as lists, have too."""
    query, *others = parts
    return query.where(*(next(iter(query.selected_columns)).in_(other) for other in others))


def _is_equal(node: Node) -> bool:
    """Return whether rows of `attr` come in the order of their records, from which a list is quickly made."""
    return isinstance(node, Compare) and node.op == "=="


def _joined(join: Callable[..., sa.CompoundSelect[Any]], parts: Sequence[sa.Select[Any]]) -> sa.Select[Any]:
    if len(parts) == 1:
        return parts[0]
    found = join(*parts).subquery()  # within a select of its own: SQLite takes no brackets around a set of sets
    return sa.select(*found.c)


def _leaves(node: Node) -> Iterator[Compare | IsSet]:
    match node:
        case Both(items=items):
            for item in items:
                yield from _leaves(item)
        case Not(item=item):
            yield from _leaves(item)
        case _:
            yield node


def _is_column(field: Field) -> bool:
    return not field.space and field.key in _COLUMNS


def _is_of_columns(node: Node) -> bool:
    """Return whether a tree asks about columns of the record only."""
    return all(_is_column(leaf.field) for leaf in _leaves(node))


def _has_columns(node: Node) -> bool:
    return any(_is_column(leaf.field) for leaf in _leaves(node))


def _has_state(node: Node) -> bool:
    """Return whether every record that matches has one certain state."""
    match node:
        case Both(op="and", items=items):
            return any(_has_state(item) for item in items)
        case Compare(op="=="):
            return node.field == Field("status") and node.value is not None
    return False


def _is_narrow(node: Node) -> bool:
    """Return whether an index finds the few records that can match, so that nothing is won by a walk."""
    match node:
        case Both(op="and", items=items):
            return any(_is_narrow(item) for item in items)
        case Both(items=items):
            return all(_is_narrow(item) for item in items)
        case Compare(op="==" | "in"):
            return not node.field.space and node.field.key in _NARROW
    return False
