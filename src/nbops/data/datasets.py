"""`nb.snapshot`: a named, numbered version of a dataset with a digest over every cell.

Also finding a dataset by reference and by content, and reading stored data back.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from nbops.core.errors import CorruptData, InvalidInput, not_found
from nbops.core.ids import new_id
from nbops.core.query import Compare, Field
from nbops.core.records import Dataset, Source, replace
from nbops.data.columns import Frame, row_hashes
from nbops.data.contents import Content, FolderContent, Kept, TableContent, named, newest, older_ones
from nbops.data.folders.files import restore_files
from nbops.data.folders.scanning import is_folder, scan
from nbops.data.frames import read
from nbops.data.hashed import Hashed
from nbops.data.origins import completed
from nbops.data.sources import is_path
from nbops.data.storing import PIECES, unpack, write_parquet
from nbops.store.context import current_cell_id, current_run
from nbops.store.using import note_used
from nbops.store.workspace import Workspace, workspace

_NAME = re.compile(r"[^/@\s][^/@]*")
_OWN_TAGS = ("stored", "stored_digest")


def snapshot(
    data: Any, name: str, *, source: str | Source | Mapping[str, Any] | None = None,
    key: str | Sequence[str] | None = None, tags: Mapping[str, str] | None = None, store: bool | None = None,
) -> Dataset:  # fmt: skip
    """Record a version of a dataset: digest over every cell, schema, profile, and the data if it is small.

    The same content under the same name is the same version. Content is column names and order, types and values;
    not the index, chunks, nor which library holds it. An open run is linked to the dataset that it used.

    Parameters
    ----------
    data
        A pandas, polars or Arrow frame, a NumPy array of any rank (rows first), a torch tensor, ``(X, y)``,
        a dict of columns, the path of a Parquet or CSV file or of a Delta Lake table, ``(engine, "select …")``; or the
        path of a folder, whose files are the content.
    name : str
        Name of the dataset, without ``/`` and ``@``.
    source : str, Source or mapping, optional
        Where it came from: the origin, or ``origin``, ``extraction_code``, ``label_set``, ``entry_point``, and
        ``versions`` by name. What is left out is filled as far as it can be told: path, git's commit, DVC's digest,
        Delta's version, the notebook or script.
    key : str or list of str, optional
        Columns that tell rows apart; refused unless they do. Kept in ``profile["key"]``.
    tags : mapping, optional
        Text by name. ``stored`` is added: ``pieces``, ``npz``, or why the data was not kept.
    store : bool, optional
        Whether to store the data, or what changed of it. By default if it is no larger than ``dataset_max_bytes``.

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
    Conflict, MissingDependency
        A file of a folder changes while it is read; a Delta Lake table that needs `deltalake`.
    """
    _check_name(name)
    given, own_tags = _source(source), _tags(tags)
    ws = workspace()
    content, keys = _content(ws, data, key)
    known = content.find(ws, name)
    dataset = known or _described(content, name)
    kept = content.keep(ws, name, store=store) if known is None or (store and _may_be_stored(known)) else None
    origin = completed(given, data, before=known.source if known else None) if given or not known else None
    with ws.store.transaction():
        if kept is not None:
            dataset = _kept(ws, _amended(dataset, origin, own_tags, keys), kept)
        amended = _amended(dataset, origin if given is not None else None, own_tags, keys)
        if amended != dataset:  # a re-run with other tags, source or key
            ws.store.put(amended)
        if run := current_run():
            ws.store.link(amended.id, "used_by", run)
    note_used(amended, data)
    return amended


def _content(ws: Workspace, data: Any, key: str | Sequence[str] | None) -> tuple[Content, list[str]]:
    """Return what is to be recorded, read once, and the columns of its key."""
    if not is_folder(data):
        table = TableContent(Hashed(read(data)))
        return table, _check_key(table.hashed.frame, key)
    if key:
        raise InvalidInput("a folder of files has no key columns", hint="Leave key out.")
    return FolderContent(scan(data, cache=ws.path / "cache" / "folders")), []


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
    where = named(name, "version", int(version)) if version.isdigit() else Compare(Field("name"), "==", name)
    found = newest(ws, where) if not slash or version.isdigit() else None
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

    A table has the types that it was given with: categories, time zones, units, decimals, nested values. Its
    digest is compared with the record's before it is given out.

    Raises
    ------
    NotFound
        No such dataset, or its data was not stored.
    CorruptData
        A stored file was changed, or what was read is not what was recorded.
    InvalidInput
        It is a folder of files.
    """
    ws = workspace()
    dataset = find_dataset(ref, ws=ws)
    if dataset.is_folder:
        raise InvalidInput(
            f"'{dataset.name}/{dataset.version}' is a folder of files, not a table",
            hint="Write it out with nbops.data.datasets.checkout, or %mlops checkout.",
        )
    data = unpack(dataset, artifacts=ws.artifacts)
    if dataset.tags["stored"] == PIECES and Hashed(read(data)).digest != dataset.digest:
        raise CorruptData(
            f"what is stored of '{dataset.name}/{dataset.version}' is not what was recorded",
            hint="Restore the files of the workspace from a backup; nothing of it was used.",
        )
    return data


def checkout(ref: str | Dataset, *, to: str | os.PathLike[str] | None = None) -> Path:
    """Write the stored data of a dataset out: the files of a folder into a new folder, a table as Parquet.

    Parameters
    ----------
    ref : str or Dataset
        ``"images/2"``, or ``"images"`` for the newest version.
    to : path, optional
        A folder that is not there yet, or is empty; for a table a file that is not there yet. By default
        ``images-2`` or ``sales-1.parquet`` here.

    Returns
    -------
    Path
        Of what was written; it appears whole or not at all.

    Raises
    ------
    NotFound
        No such dataset, or its data was not stored.
    InvalidInput
        The target is there already, or the data is arrays, which Parquet does not hold.
    CorruptData
        Stored files are damaged.
    """
    ws = workspace()
    dataset = find_dataset(ref, ws=ws)
    if dataset.is_folder:
        return restore_files(dataset, to=to or f"{dataset.name}-{dataset.version}", artifacts=ws.artifacts)
    path = Path(to or f"{dataset.name}-{dataset.version}.parquet")
    if path.exists():
        raise InvalidInput(f"'{path}' is there already", hint="Name a new file: to=PATH, or --to PATH.")
    data = read_data(dataset)
    if isinstance(data, dict):
        raise InvalidInput(
            f"'{dataset.name}/{dataset.version}' holds arrays: {', '.join(data)}",
            hint="Read them with nbops.data.datasets.read_data and save them with numpy.savez.",
        )
    write_parquet(data, path)
    return path


def known_dataset(ws: Workspace, hashed: Hashed) -> Dataset | None:
    """Return the newest dataset with this content, or with its features if it has a label; None if there is none."""
    if newest(ws, Compare(Field("rows"), "==", hashed.frame.rows)) is None:
        return None  # no digest of gigabytes where no dataset has so many rows
    older = list(older_ones(ws, hashed))
    for with_label in (True, False) if hashed.frame.label else (True,):
        digest = hashed.digest if with_label else hashed.features_digest
        found = newest(ws, Compare(Field("digest"), "==", digest))
        found = found or next((one for one in older if hashed.is_content_of(one, with_label=with_label)), None)
        if found is not None:
            return found
    return None


def _described(content: Content, name: str) -> Dataset:
    """Return the record of new content; version 0 until it has a number."""
    return Dataset(
        id=new_id(Dataset.prefix), created_at=time.time(), name=name, version=0, cell_id=current_cell_id(),
        **content.told(),
    )  # fmt: skip


def _may_be_stored(dataset: Dataset) -> bool:
    """Whether a version that was described only can have its data yet: its manifest has the tree that storing needs."""
    return not dataset.tags.get("stored_digest") and dataset.scheme is not None


def _kept(ws: Workspace, dataset: Dataset, kept: Kept) -> Dataset:
    """Write a version and what names its data, unless someone recorded the same content meanwhile."""
    number = dataset.version
    if not number:
        number = ws.store.next_number(f"dataset/{dataset.name}")  # waits for whoever holds the counter
        twin = newest(ws, named(dataset.name, "digest", dataset.digest))
        if twin is not None:
            return twin
    stem = f"{dataset.name}-{number}"
    manifest = ws.save_artifact(
        kept.manifest, name=f"{stem}.json", media_type=kept.media_type, parent=dataset.id
    ).digest  # fmt: skip
    tags = {**dataset.tags, "stored": kept.stored}
    if kept.data:
        artifact = ws.save_artifact(kept.data, name=f"{stem}.npz", media_type=kept.data_type, parent=dataset.id)
        tags["stored_digest"] = artifact.digest
    elif kept.is_stored:
        tags["stored_digest"] = manifest
    dataset = replace(dataset, version=number, tags=tags, manifest=manifest)
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


def _source(source: str | Source | Mapping[str, Any] | None) -> Source | None:
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
