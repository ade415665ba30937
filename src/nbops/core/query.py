"""The query language: a small Python expression, parsed with `ast`, never evaluated.

``metrics.acc > 0.9 and params.lr < 0.1 or tags.team == "x"``. Left sides are fields of the
record (`name`, `status`, `created_at` …) or a key in the spaces `params`, `tags` and
`metrics` (``params["weird key"]`` where the key is no identifier). Operators: ``== != < <=
> >= in``, ``not in``, ``and or not``; ``"text" in name`` searches within text; a bare field
means that it is set. Times (`created_at`, `ended_at`) are compared to ISO dates:
``created_at > "2026-11-01"``. The store compiles the same tree to SQL; `matches` judges one record.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from nbops.core.errors import QuerySyntaxError

SPACES = ("params", "tags", "metrics")
_OPS = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip
_MIRROR = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
Value = str | int | float | bool | None


@dataclass(frozen=True)
class Field:
    """A place in a record: a top-level `key`, or `key` within a `space`."""

    key: str
    space: str = ""

    def __str__(self) -> str:
        return f"{self.space}.{self.key}" if self.space else self.key


@dataclass(frozen=True)
class Compare:
    """``field op value``; `value` is a tuple for ``in``; op ``contains`` is ``"text" in field``."""

    field: Field
    op: str
    value: Any


@dataclass(frozen=True)
class IsSet:
    """A bare field: it exists and is not None."""

    field: Field


@dataclass(frozen=True)
class Not:
    """Negation of `item`."""

    item: Node


@dataclass(frozen=True)
class Both:
    """``and`` (every) or ``or`` (any) of `items`."""

    op: str
    items: tuple[Node, ...]


Node = Compare | IsSet | Not | Both


@dataclass(frozen=True)
class Order:
    """One sort key; records without the field come last."""

    field: Field
    descending: bool = False


def parse(text: str) -> Node:
    """Return the tree of a query, or raise `QuerySyntaxError` naming the part that is wrong."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise _wrong(text, f"cannot parse {text.strip()!r}") from error
    return _node(tree, text)


def parse_order(text: str | None) -> list[Order]:
    """Return sort keys from ``"metrics.acc desc, created_at"``; empty for None."""
    orders = []
    for part in (text or "").split(","):
        words = part.split()
        if not words:
            continue
        direction = words[-1].lower() if len(words) > 1 else "asc"
        if direction not in ("asc", "desc") or len(words) > 2:
            raise QuerySyntaxError(f"cannot order by {part.strip()!r}", hint="Write e.g. 'metrics.acc desc'.")
        orders.append(Order(_field_of(ast.parse(words[0], mode="eval").body, text or ""), direction == "desc"))
    return orders


def _wrong(text: str, what: str) -> QuerySyntaxError:
    return QuerySyntaxError(f"{what} in query {text.strip()!r}" if what[:6] != "cannot" else what,
                            hint="Write e.g. metrics.acc > 0.9 and params.lr < 0.1")  # fmt: skip


def _node(tree: ast.expr, text: str) -> Node:
    match tree:
        case ast.BoolOp(op=op, values=values):
            return Both("and" if isinstance(op, ast.And) else "or", tuple(_node(v, text) for v in values))
        case ast.UnaryOp(op=ast.Not(), operand=item):
            return Not(_node(item, text))
        case ast.Compare(left=left, ops=ops, comparators=rights):
            sides = [left, *rights]
            parts = [_compare(sides[i], ops[i], sides[i + 1], text) for i in range(len(ops))]
            return parts[0] if len(parts) == 1 else Both("and", tuple(parts))
        case _:
            return IsSet(_field_of(tree, text))


def _compare(left: ast.expr, op: ast.cmpop, right: ast.expr, text: str) -> Node:
    name = _OPS.get(type(op))
    if name is None:
        raise _wrong(text, f"operator '{ast.unparse(ast.Compare(left, [op], [right]))}' is not supported")
    if name in ("in", "not in") and _is_value(left):
        found = Compare(_field_of(right, text), "contains", _value_of(left, text))
        return found if name == "in" else Not(found)
    if name in ("in", "not in"):
        if not isinstance(right, ast.Tuple | ast.List | ast.Set):
            raise _wrong(text, f"'{ast.unparse(right)}' is no list of values")
        return _within(_field_of(left, text), [_value_of(e, text) for e in right.elts], name == "in", text)
    if _is_value(left) and not _is_value(right):
        left, right, name = right, left, _MIRROR[name]
    value = _value_of(right, text)
    if value is None and name not in ("==", "!="):
        raise _wrong(text, f"nothing is '{name} None'")
    field = _field_of(left, text)
    return (
        _at_time(field, name, value, text)
        if _is_time(field) and isinstance(value, str)
        else Compare(field, name, value)
    )


def _within(field: Field, values: list[Value], inside: bool, text: str) -> Node:
    found: Node = Compare(field, "in", tuple(values))
    if _is_time(field) and any(isinstance(value, str) for value in values):
        tests = (_at_time(field, "==", v, text) if isinstance(v, str) else Compare(field, "==", v) for v in values)
        found = Both("or", tuple(tests))
    return found if inside else Not(found)


def _is_time(field: Field) -> bool:
    """Return whether the field holds seconds since the epoch: by convention all that end in ``_at``."""
    return not field.space and field.key.endswith("_at")


def _at_time(field: Field, op: str, said: str, text: str) -> Node:
    """Compare a time to an ISO date, local time unless it says otherwise; a date equals all moments of its day."""
    try:
        moment = datetime.fromisoformat(said)
        start = moment.timestamp()
        end = (moment + timedelta(days=1)).timestamp()
    except (ValueError, OverflowError, OSError):
        raise _wrong(text, f"{said!r} is no date (write e.g. '2026-11-01' or '2026-11-01T14:30')") from None
    if op not in ("==", "!=") or len(said) > len("2026-11-01"):
        return Compare(field, op, start)
    day = Both("and", (Compare(field, ">=", start), Compare(field, "<", end)))
    return day if op == "==" else Both("and", (IsSet(field), Not(day)))


def _is_value(tree: ast.expr) -> bool:
    return isinstance(tree, ast.Constant) or (isinstance(tree, ast.UnaryOp) and isinstance(tree.operand, ast.Constant))


def _value_of(tree: ast.expr, text: str) -> Value:
    try:
        value = ast.literal_eval(tree)
    except ValueError:
        raise _wrong(text, f"'{ast.unparse(tree)}' is no plain value (quote text)") from None
    if not isinstance(value, str | int | float | bool | None):
        raise _wrong(text, f"'{ast.unparse(tree)}' is no plain value")
    return value


def _field_of(tree: ast.expr, text: str) -> Field:
    match tree:
        case ast.Name(id=key):
            return Field(key)
        case ast.Subscript(value=ast.Name(id=space), slice=ast.Constant(value=str(key))) if space in SPACES:
            return Field(key, space)
        case ast.Attribute():
            path: list[str] = []
            node: ast.expr = tree
            while isinstance(node, ast.Attribute):
                path.append(node.attr)
                node = node.value
            if isinstance(node, ast.Name) and node.id in SPACES:
                return Field(".".join(reversed(path)), node.id)
    raise _wrong(text, f"'{ast.unparse(tree)}' is no field (fields: a name, params.x, tags.x, metrics.x)")


_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def matches(node: Node, record: Any) -> bool:
    """Return whether `record` satisfies the tree; a comparison with an absent field is false."""
    match node:
        case Both(op="and", items=items):
            return all(matches(i, record) for i in items)
        case Both(items=items):
            return any(matches(i, record) for i in items)
        case Not(item=item):
            return not matches(item, record)
        case IsSet(field=field):
            return value_in(record, field) is not None
        case Compare(field=field, op=op, value=value):
            return _test(value_in(record, field), op, value)


def value_in(record: Any, field: Field) -> Value:
    """Return the scalar at `field` of `record`, or None."""
    if not field.space:
        value = getattr(record, field.key, None)
    else:
        space = getattr(record, field.space, None)
        value = space.get(field.key) if isinstance(space, Mapping) else None
    if isinstance(value, bool):
        return value
    return value if isinstance(value, str | int | float) else None


def _test(have: Value, op: str, want: Any) -> bool:
    if op == "in":
        return any(_test(have, "==", item) for item in want)
    if op == "contains":
        return isinstance(have, str) and str(want).lower() in have.lower()
    if want is None:
        return op in ("==", "!=") and (have is None) == (op == "==")
    if have is None or isinstance(have, str) != isinstance(want, str):
        return op == "!=" and have is not None
    if isinstance(have, float) and math.isnan(have):
        return op == "!="
    return _TESTS[op](have, want)
