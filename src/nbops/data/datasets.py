"""`nb.snapshot`: a named, numbered version of a dataset with a digest over every cell.

Also finding a dataset by reference and by content, and reading stored data back.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from nbops.core.errors import InvalidInput, not_found
from nbops.core.ids import new_id
from nbops.core.query import Both, Compare, Field, Node, Order
from nbops.core.records import ColumnSchema, Dataset, Source, replace
from nbops.data.columns import Frame, row_hashes
from nbops.data.digest import column_digest, table_digest
from nbops.data.frames import read
from nbops.data.profiling import profile_frame
from nbops.data.sources import is_path
from nbops.data.storing import MEDIA_TYPES, Packed, pack, unpack
from nbops.store.context import current_cell_id, current_run
from nbops.store.using import note_used
from nbops.store.workspace import Workspace, workspace

_NAME = re.compile(r"[^/@\s][^/@]*")
_OWN_TAGS = ("stored", "stored_digest")


def snapshot(
    data: Any,
    name: str,
    *,
    source: str | Source | Mapping[str, str] | None = None,
    key: str | Sequence[str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> Dataset:
    """Record a version of a dataset: digest over every cell, schema, profile, and the data if it is small.

    The same content under the same name is the same version, so re-running a cell adds nothing. Content is
    column names and order, types and values; not the index, chunks, nor which library holds it.
    With a run open, the run is linked to the dataset that it used.

    Parameters
    ----------
    data
        A pandas, polars or Arrow frame, a NumPy array of any rank (rows first), a torch tensor, ``(X, y)``,
        a dict of columns, the path of a Parquet or CSV file, or ``(engine, "select …")``.
    name : str
        Name of the dataset, without ``/`` and ``@``.
    source : str, Source or mapping, optional
        Where it came from: the origin, or ``origin``, ``extraction_code``, ``label_set``, ``entry_point``.
    key : str or list of str, optional
        Columns that tell rows apart; refused unless they do. Kept in ``profile["key"]``.
    tags : mapping, optional
        Text by name. ``stored`` is added: ``parquet``, ``npz``, or why the data was not kept (``dataset_max_bytes``).

    Returns
    -------
    Dataset
        The new version, or the one that has this content already.

    Raises
    ------
    InvalidInput
        Data that cannot be read, an unusable name, source or tag, a key with repeated or missing values.
    NotFound
        A key column that is not there.
    """
    _check_name(name)
    origin, own_tags = _source(source), _tags(tags)
    hashed = Hashed(read(data))
    keys = _check_key(hashed.frame, key)
    ws = workspace()
    dataset = _newest(ws, _named(name, "digest", hashed.digest))
    packed = Packed()
    if dataset is None:
        packed = pack(hashed.frame, max_bytes=ws.settings.dataset_max_bytes)
        dataset = _amended(_described(hashed, name), origin, own_tags, keys)
    with ws.store.transaction():
        if not dataset.version:
            dataset = _numbered(ws, dataset, packed)
        amended = _amended(dataset, origin, own_tags, keys)
        if amended != dataset:  # a re-run with other tags, source or key
            ws.store.put(amended)
        if run := current_run():
            ws.store.link(amended.id, "used_by", run)
    note_used(amended, data)
    return amended


@dataclass(frozen=True, eq=False)
class Hashed:
    """A frame with its digests, each computed once."""

    frame: Frame

    @cached_property
    def columns(self) -> list[str]:
        """Digest of each column."""
        return [column_digest(column) for column in self.frame.columns]

    @cached_property
    def digest(self) -> str:
        """Digest of the table."""
        return table_digest(self.frame.columns, self.frame.rows, self.columns)

    @property
    def features_digest(self) -> str:
        """Digest of the table without its label: that of ``X`` when ``(X, y)`` was given."""
        kept = [pair for pair in zip(self.frame.columns, self.columns, strict=True) if pair[0].name != self.frame.label]
        return table_digest([column for column, _ in kept], self.frame.rows, [digest for _, digest in kept])

    @property
    def schema(self) -> list[ColumnSchema]:
        """The columns as they are recorded."""
        pairs = zip(self.frame.columns, self.columns, strict=True)
        return [ColumnSchema(name=column.name, dtype=column.dtype, digest=digest) for column, digest in pairs]


def find_dataset(ref: str | Dataset, *, ws: Workspace | None = None) -> Dataset:
    """Return the dataset of ``"name"`` (newest version) or ``"name/3"``; a `Dataset` is returned as it is.

    Raises
    ------
    NotFound
        No dataset of that name, or no such version.
    """
    if isinstance(ref, Dataset):
        return ref
    ws = ws or workspace()
    name, slash, version = ref.partition("/")
    where = _named(name, "version", int(version)) if version.isdigit() else Compare(Field("name"), "==", name)
    found = _newest(ws, where) if not slash or version.isdigit() else None
    if found is None:
        known = sorted({d.name for d in ws.store.find(Dataset, limit=1000)} - {name})
        versions = sorted(d.version for d in ws.store.find(Dataset, Compare(Field("name"), "==", name)))
        hint = f"Use a version from {versions[0]} to {versions[-1]}." if versions else "Make one with nb.snapshot."
        raise not_found("dataset", ref, [] if versions else known, hint=hint)
    if not slash:  # a version that was asked for by its number is never out of date
        note_used(found)
    return found


def is_reference(data: Any) -> bool:
    """Tell whether `data` names a dataset: a record, or text that is no path of a Parquet or CSV file."""
    return isinstance(data, Dataset) or (isinstance(data, str) and not is_path(data))


def read_data(ref: str | Dataset) -> Any:
    """Return the stored data of a dataset: a dict of arrays (``X``, ``y``), or a pyarrow Table.

    Raises
    ------
    NotFound
        No such dataset, or its data was too large to be stored.
    CorruptData
        The stored file was changed.
    """
    ws = workspace()
    return unpack(find_dataset(ref, ws=ws), artifacts=ws.artifacts)


def known_dataset(ws: Workspace, hashed: Hashed) -> Dataset | None:
    """Return the newest dataset with this content, or with its features if it has a label; None if there is none."""
    if _newest(ws, Compare(Field("rows"), "==", hashed.frame.rows)) is None:
        return None  # no digest of gigabytes where no dataset has so many rows
    found = _newest(ws, Compare(Field("digest"), "==", hashed.digest))
    if found is None and hashed.frame.label:
        found = _newest(ws, Compare(Field("digest"), "==", hashed.features_digest))
    return found


def _newest(ws: Workspace, where: Node) -> Dataset | None:
    found = ws.store.find(Dataset, where, order_by=[Order(Field("version"), descending=True)], limit=1)
    return found[0] if found else None


def _named(name: str, field: str, value: str | int) -> Node:
    return Both("and", (Compare(Field("name"), "==", name), Compare(Field(field), "==", value)))


def _described(hashed: Hashed, name: str) -> Dataset:
    """Return the record of new content; version 0 until it has a number."""
    return Dataset(
        id=new_id(Dataset.prefix),
        created_at=time.time(),
        name=name,
        version=0,
        digest=hashed.digest,
        rows=hashed.frame.rows,
        columns=hashed.schema,
        profile=profile_frame(hashed.frame),
        cell_id=current_cell_id(),
    )


def _numbered(ws: Workspace, dataset: Dataset, packed: Packed) -> Dataset:
    """Write a new version and its data, unless someone recorded the same content meanwhile; return what is there."""
    number = ws.store.next_number(f"dataset/{dataset.name}")  # waits for whoever holds the counter
    twin = _newest(ws, _named(dataset.name, "digest", dataset.digest))
    if twin is not None:
        return twin
    tags = {**dataset.tags, "stored": packed.form or packed.why}
    if packed.form:
        artifact = ws.save_artifact(
            packed.data,
            name=f"{dataset.name}-{number}.{packed.form}",
            media_type=MEDIA_TYPES[packed.form],
            parent=dataset.id,
        )
        tags["stored_digest"] = artifact.digest
    dataset = replace(dataset, version=number, tags=tags)
    ws.store.put(dataset)
    return dataset


def _amended(dataset: Dataset, origin: Source | None, tags: dict[str, str], keys: list[str]) -> Dataset:
    """Return the record with source, tags and key where they were given."""
    profile = {**dataset.profile, "key": keys} if keys else dataset.profile
    changed: Dataset = replace(dataset, source=origin or dataset.source, tags={**dataset.tags, **tags}, profile=profile)
    return changed


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInput(f"a dataset cannot be named {name!r}", hint="Use text without '/' and '@'.")


def _source(source: str | Source | Mapping[str, str] | None) -> Source | None:
    if source is None or isinstance(source, Source):
        return source
    if isinstance(source, str):
        return Source(origin=source)
    unknown = sorted(set(source) - set(Source.__struct_fields__))
    if unknown:
        raise InvalidInput(
            f"source has no field {unknown[0]!r}", hint=f"Use some of: {', '.join(Source.__struct_fields__)}."
        )
    return msgspec.convert(dict(source), Source, strict=False)


def _tags(tags: Mapping[str, str] | None) -> dict[str, str]:
    own = {str(name): str(value) for name, value in (tags or {}).items()}
    taken = [name for name in _OWN_TAGS if name in own]
    if taken:
        raise InvalidInput(f"the tag '{taken[0]}' is written by nb.snapshot", hint="Choose another name.")
    return own


def _check_key(frame: Frame, key: str | Sequence[str] | None) -> list[str]:
    if not key:
        return []
    columns = [frame.column(name) for name in ([key] if isinstance(key, str) else key)]
    names = ", ".join(column.name for column in columns)
    for column in columns:
        if column.missing_count:
            raise InvalidInput(
                f"key column '{column.name}' has {column.missing_count:,} missing cells",
                hint="Choose a key that every row has.",
            )
    repeated = frame.rows - len(np.unique(row_hashes(columns, frame.rows)))
    if repeated:
        raise InvalidInput(f"the key ({names}) repeats in {repeated:,} rows", hint="Add columns that tell rows apart.")
    return [column.name for column in columns]
