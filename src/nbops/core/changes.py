"""Changes of records as data: what a store does later what could not be done at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from nbops.core.codec import decode, encode
from nbops.core.errors import NotFound
from nbops.core.protocols import Store
from nbops.core.records import Link, Record, kinds


class Put(msgspec.Struct, frozen=True, kw_only=True, tag="put"):
    """Insert or replace a record; `body` is its JSON."""

    kind: str
    body: str
    event: str = ""
    payload: dict[str, Any] = {}


class Amend(msgspec.Struct, frozen=True, kw_only=True, tag="amend"):
    """Change fields of a record: `fields` are set, the entries of `maps` are added to its maps.

    Nothing happens to a record that is gone, or of which one of `only_if` is different by then.
    """

    kind: str
    id: str
    fields: dict[str, Any] = {}
    maps: dict[str, dict[str, Any]] = {}
    only_if: dict[str, Any] = {}
    event: str = ""


class Join(msgspec.Struct, frozen=True, kw_only=True, tag="join"):
    """Add a link."""

    source: str
    relation: str
    target: str


Change = Put | Amend | Join


def put_of(record: Record, *, event: str = "", payload: Mapping[str, Any] | None = None) -> Put:
    """Return the change that puts `record`."""
    return Put(kind=record.kind, body=encode(record).decode(), event=event, payload=dict(payload or {}))


def join_of(link: Link) -> Join:
    """Return the change that adds `link`."""
    return Join(source=link.source, relation=link.relation, target=link.target)


def difference(before: Record, after: Record, *, only_if: Mapping[str, Any] | None = None, event: str = "") -> Amend:
    """Return the change that makes `after` of `before`: of maps, only the entries that differ."""
    fields: dict[str, Any] = {}
    maps: dict[str, dict[str, Any]] = {}
    for name in after.__struct_fields__:
        old, new = getattr(before, name), getattr(after, name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict) and not old.keys() - new.keys():
            maps[name] = {key: value for key, value in new.items() if key not in old or old[key] != value}
        else:
            fields[name] = new
    return Amend(kind=after.kind, id=after.id, fields=fields, maps=maps, only_if=dict(only_if or {}), event=event)


def pack(changes: Sequence[Change]) -> bytes:
    """Return changes as bytes, NaN and infinities included."""
    return encode(list(changes))


def unpack(data: bytes) -> list[Change]:
    """Return what `pack` wrote; nothing of what a newer nbops wrote in another form."""
    try:
        return decode(data, list[Change])
    except msgspec.ValidationError:
        return []


def apply(store: Store, changes: Iterable[Change]) -> list[str]:
    """Carry out changes, in order; to carry one out twice changes nothing more than an event.

    Returns
    -------
    list of str
        A sentence for each that cannot be carried out here: of a kind of record that this nbops does not know.
    """
    problems = []
    for change in changes:
        if isinstance(change, Join):
            store.link(change.source, change.relation, change.target)
        elif change.kind not in kinds:
            problems.append(f"a record of the kind '{change.kind}' is left out: upgrade nbops to keep such records")
        elif isinstance(change, Put):
            record = decode(change.body, kinds[change.kind])
            store.put(record, event=change.event, payload=change.payload or None)
        else:
            _amend(store, change)
    return problems


def _amend(store: Store, change: Amend) -> None:
    def amended(record: Record) -> Record:
        maps = {name: {**getattr(record, name), **more} for name, more in change.maps.items()}
        plain = {name: getattr(record, name) for name in record.__struct_fields__}
        return decode(encode({**plain, **change.fields, **maps}), type(record))

    kind = kinds[change.kind]
    try:
        now = store.get(kind, change.id)
    except NotFound:  # deleted meanwhile
        return
    if all(getattr(now, name) == value for name, value in change.only_if.items()):
        store.update(kind, change.id, amended, event=change.event)
