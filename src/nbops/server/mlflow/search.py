"""Searches: MLflow's comparisons become a query of the workspace; what that lacks is judged afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from nbops.core.mlflow_records import Experiment, LoggedModel, RegisteredModel, RegisteredVersion
from nbops.core.protocols import Store
from nbops.core.query import Both, Compare, Field, IsSet, Node, Not, Order
from nbops.core.records import Record
from nbops.server.mlflow import limits
from nbops.server.mlflow.errors import MlflowError
from nbops.server.mlflow.grammar import MEMBERS, NUMERIC, PRESENCE, TEXTUAL, Condition, holds, parse, parse_order
from nbops.server.mlflow.ids import from_hex, model_id, to_hex
from nbops.server.mlflow.wire import Args, next_token, offset_of

R = TypeVar("R", bound=Record)
_STRETCH = 500
_OURS = {"=": "=="}
_PROMPT = "mlflow.prompt.is_prompt"


@dataclass(frozen=True)
class Column:
    """One attribute that a filter may name.

    Attributes
    ----------
    read : callable
        Its value in a record.
    field : str
        The field of the query language with the same value, if there is one.
    divide : float
        What its number must be divided by to give the field's: 1000 for milliseconds.
    is_number : bool
        Whether it is compared as a number.
    convert : callable
        Turns the text of a comparison into the field's; a tuple means any of these.
    sort : str
        The field that has the same order, where it is another one.
    recheck : tuple of str
        Texts for which the field says too little: matches are judged again by `read`.
    """

    read: Callable[[Any], Any]
    field: str = ""
    divide: float = 0.0
    is_number: bool = False
    convert: Callable[[str], Any] = str
    sort: str = ""
    recheck: tuple[str, ...] = ()


@dataclass(frozen=True)
class Searchable(Generic[R]):
    """What one kind of record can be searched by.

    `spaces` are the words before a dot; `lookup` gives the value of a key in a space that no query can reach;
    `values` turns the text of a comparison into what the workspace stores.
    """

    kind: type[R]
    columns: Mapping[str, Column]
    spaces: Mapping[str, str]
    order: tuple[Order, ...] = ()
    lookup: Callable[[Any, str, str], Any] = lambda record, space, key: getattr(record, space).get(key)
    values: Callable[[str, Any], Any] = lambda space, value: value
    fields: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """Which records of a search are wished."""

    offset: int
    size: int

    @classmethod
    def of(cls, args: Args, *, default: int, most: int) -> Page:
        """Return the page that a request asks for."""
        size = limits.page(args.whole("max_results", default), most)
        return cls(offset_of(args.text("page_token")), size)


def search(
    store: Store, what: Searchable[R], base: Sequence[Node], filter: str, order_by: Sequence[str], page: Page
) -> tuple[list[R], str]:
    """Return one page of records and the token of the next, empty after the last.

    Raises
    ------
    MlflowError
        The filter or a sort key cannot be understood.
    """
    nodes: list[Node] = list(base)
    after: list[Condition] = []
    for condition in parse(filter, what.spaces):
        node, is_exact = _node(what, condition)
        nodes += [] if node is None else [node]
        after += [] if is_exact else [condition]
    where = None if not nodes else nodes[0] if len(nodes) == 1 else Both("and", tuple(nodes))
    order = [*(_order(what, text) for text in order_by), *what.order]
    if not after:
        found = store.find(what.kind, where, order_by=order, limit=page.size + 1, offset=page.offset)
    else:
        judged = (one for one in _all(store, what.kind, where, order) if all(_holds(what, c, one) for c in after))
        found = [one for i, one in enumerate(judged) if page.offset <= i <= page.offset + page.size]
    more = len(found) > page.size
    return found[: page.size], next_token(page.offset + page.size) if more else ""


def _all(store: Store, kind: type[R], where: Node | None, order: list[Order]) -> Iterator[R]:
    offset = 0
    while part := store.find(kind, where, order_by=order, limit=_STRETCH, offset=offset):
        yield from part
        offset += len(part)


def _column(what: Searchable[Any], key: str) -> Column:
    column = what.columns.get(key)
    if column is None:
        raise MlflowError(
            f"Invalid attribute key '{key}' specified. Valid keys are '{sorted(what.columns)}'",
        )
    return column


def _node(what: Searchable[Any], c: Condition) -> tuple[Node | None, bool]:
    """Return a query that every match satisfies, and whether it is satisfied by nothing else."""
    if c.space:
        _judge_space(c)
        if (c.space, c.key) == ("tags", _PROMPT) and c.op in ("=", "!="):  # clients leave prompts out of models
            prompts = Compare(Field(_PROMPT, "tags"), "==", "true")
            return (prompts if (c.value == "true") == (c.op == "=") else Not(prompts)), True
        name = what.fields.get((c.space, c.key))
        if name is None and c.space not in ("metrics", "params", "tags"):
            return None, False
        return _compared(Field(name) if name else Field(c.key, c.space), c.op, what.values(c.space, c.value))
    column = _column(what, c.key)
    wrong = column.is_number and (c.op not in NUMERIC or isinstance(c.value, str))
    wrong |= not column.is_number and c.op not in (*TEXTUAL, *MEMBERS, *PRESENCE, "NOT LIKE", "NOT ILIKE")
    if not column.is_number and isinstance(c.value, int | float):
        raise MlflowError(f"Expected a quoted string value for attributes. Got value {c.value}")
    if wrong:
        raise MlflowError(f"Invalid comparator '{c.op}' or value {c.value!r} for attribute '{c.key}'.")
    if not column.field:
        return None, False
    if column.is_number:
        return _compared(Field(column.field), c.op, c.value / column.divide)
    op, value = c.op, c.value
    if op in MEMBERS:
        value = tuple(column.convert(item) for item in value)
    elif op in ("=", "!="):
        value = column.convert(value)
        op = {"=": "IN", "!=": "NOT IN"}[op] if isinstance(value, tuple) else op
    node, is_exact = _compared(Field(column.field), op, value)
    return node, is_exact and c.value not in column.recheck


def _judge_space(c: Condition) -> None:
    if c.space == "metrics":
        if isinstance(c.value, str | tuple) or c.op not in NUMERIC:
            raise MlflowError(f"Expected numeric value type for metric. Found {c.value} in '{c.key} {c.op}'.")
    elif c.op not in (*TEXTUAL, *PRESENCE, *MEMBERS):
        raise MlflowError(f"Invalid comparator '{c.op}' not one of '{sorted((*TEXTUAL, *PRESENCE))}'")
    elif c.value is not None and not isinstance(c.value, str | tuple):
        raise MlflowError(f"Expected a quoted string value for {c.space} (e.g. 'my-value'). Got value {c.value}")


def _compared(place: Field, op: str, value: Any) -> tuple[Node, bool]:
    if op in PRESENCE:
        return (IsSet(place), True) if op == "IS NOT NULL" else (Not(IsSet(place)), True)
    if op in MEMBERS:
        inside = Compare(place, "in", value)
        return (inside, True) if op == "IN" else (Both("and", (IsSet(place), Not(inside))), True)
    if op.endswith("LIKE"):
        return IsSet(place), False
    is_long = isinstance(value, str) and len(value) >= _STRETCH  # the query compares a prefix of long texts
    return (IsSet(place), False) if is_long else (Compare(place, _OURS.get(op, op), value), True)


def _holds(what: Searchable[Any], c: Condition, record: Any) -> bool:
    if c.space:
        have = what.lookup(record, c.space, c.key)
        return any(holds(c.op, one, c.value) for one in have) if isinstance(have, list) else holds(c.op, have, c.value)
    return holds(c.op, _column(what, c.key).read(record), c.value)


def _order(what: Searchable[Any], text: str) -> Order:
    key = parse_order(text, what.spaces)
    if key.space:
        name = what.fields.get((key.space, key.key))
        return Order(Field(name) if name else Field(key.key, key.space), key.descending)
    column = _column(what, key.key)
    name = column.sort or column.field
    if not name:
        raise MlflowError(f"Invalid order_by key '{key.key}' specified.")
    return Order(Field(name), key.descending)


def _at(name: str) -> Callable[[Any], Any]:
    return lambda record: getattr(record, name)


def _time(name: str) -> Column:
    return Column(_at(name), name, 1000.0, True)


_TAGS = {"tag": "tags", "tags": "tags"}
_ATTRIBUTES = {"attribute": "", "attributes": "", "attr": ""}
_ID = Order(Field("id"))

EXPERIMENTS = Searchable(
    Experiment,
    {
        "name": Column(_at("name"), "name"),
        "experiment_id": Column(_at("number"), sort="created_at"),
        "creation_time": _time("created_at"),
        "last_update_time": _time("updated_at"),
    },
    {**_TAGS, **_ATTRIBUTES},
    (Order(Field("created_at"), descending=True), _ID),
)
MODELS = Searchable(
    RegisteredModel,
    {
        "name": Column(_at("name"), "name"),
        "timestamp": _time("updated_at"),
        "last_updated_timestamp": _time("updated_at"),
        "creation_timestamp": _time("created_at"),
    },
    {**_TAGS, **_ATTRIBUTES},
    (Order(Field("name")), _ID),
)
VERSIONS = Searchable(
    RegisteredVersion,
    {
        "name": Column(_at("name"), "name"),
        "run_id": Column(_at("run"), "run"),
        "source_path": Column(_at("source"), "source"),
        "source": Column(_at("source"), "source"),
        "version_number": Column(_at("number"), "number", 1.0, True),
        "creation_timestamp": _time("created_at"),
        "last_updated_timestamp": _time("updated_at"),
    },
    {**_TAGS, **_ATTRIBUTES},
    (Order(Field("updated_at"), descending=True), Order(Field("name")), Order(Field("number"), descending=True)),
)
LOGGED = Searchable(
    LoggedModel,
    {
        "name": Column(_at("name"), "name"),
        "model_id": Column(lambda one: model_id(one.id), "id", convert=lambda text: from_hex(text[2:], "lm")),
        "model_type": Column(_at("type"), "type"),
        "status": Column(lambda one: one.status.removeprefix("LOGGED_MODEL_")),
        "source_run_id": Column(lambda one: to_hex(one.parent or "")),
        "creation_timestamp": _time("created_at"),
        "creation_time": _time("created_at"),
        "last_updated_timestamp": _time("updated_at"),
    },
    {**_TAGS, **_ATTRIBUTES, "params": "params", "param": "params", "metrics": "metrics", "metric": "metrics"},
    (Order(Field("created_at"), descending=True), _ID),
)
