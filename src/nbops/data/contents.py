"""What a snapshot is of: a table or a folder of files. Each is found again, described and kept in its own way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from nbops.core.errors import CorruptData, NotFound
from nbops.core.query import Both, Compare, Field, Node, Order
from nbops.core.records import Dataset
from nbops.data.digest import SCHEME
from nbops.data.folders import files
from nbops.data.folders.scanning import Scan
from nbops.data.hashed import Hashed
from nbops.data.profiling import profile_frame
from nbops.data.storing import NPZ, NPZ_TYPE, PIECES, pack
from nbops.data.versions.manifest import Manifest, read_manifest
from nbops.store.manifests import DATASET_TYPE, FOLDER_TYPE
from nbops.store.workspace import Workspace

_LOOKED_AT = 1000  # snapshots of one number of rows that this data could be


@dataclass(frozen=True)
class Kept:
    """What stands in the store before a record names it.

    Attributes
    ----------
    manifest, media_type : bytes and str
        Its tree or its files.
    stored : str
        How the data is stored, or why not.
    is_stored : bool
        Whether it is.
    data, data_type : bytes and str
        One file beside the manifest, if that is the form.
    """

    manifest: bytes
    media_type: str
    stored: str
    is_stored: bool
    data: bytes = b""
    data_type: str = ""


class Content(Protocol):
    """What `nb.snapshot` does not ask the sort of."""

    def find(self, ws: Workspace, name: str) -> Dataset | None:
        """Return the version of a dataset that has this content; None if there is none."""

    def told(self) -> dict[str, Any]:
        """Return the fields of a record that describe it."""

    def keep(self, ws: Workspace, name: str, *, store: bool | None) -> Kept:
        """Write what is to be kept to the store."""


@dataclass(frozen=True, eq=False)
class TableContent:
    """A table, or arrays."""

    hashed: Hashed

    def find(self, ws: Workspace, name: str) -> Dataset | None:
        """Return the version of a dataset that has this content, whichever way its digest was made."""
        found = newest(ws, named(name, "digest", self.hashed.digest))
        older = older_ones(ws, self.hashed, name) if found is None else ()
        return found or next((one for one in older if self.hashed.is_content_of(one)), None)

    def told(self) -> dict[str, Any]:
        """Return digest, size, columns and profile."""
        frame = self.hashed.frame
        return {
            "digest": self.hashed.digest, "rows": frame.rows, "columns": self.hashed.schema, "scheme": SCHEME,
            "profile": profile_frame(frame),
        }  # fmt: skip

    def keep(self, ws: Workspace, name: str, *, store: bool | None) -> Kept:
        """Store the cells, or what the version before does not have of them."""
        packed = pack(
            self.hashed.frame, self.hashed.tree, store=store, max_bytes=ws.settings.dataset_max_bytes,
            base=_base(ws, name), artifacts=ws.artifacts,
        )  # fmt: skip
        data_type = NPZ_TYPE if packed.form == NPZ else ""
        return Kept(packed.manifest.encoded(), DATASET_TYPE, packed.form or packed.why, bool(packed.form), packed.data,
                    data_type)  # fmt: skip


@dataclass(frozen=True, eq=False)
class FolderContent:
    """A folder of files."""

    found: Scan

    def find(self, ws: Workspace, name: str) -> Dataset | None:
        """Return the version of a dataset that has these files."""
        return newest(ws, named(name, "digest", self.found.digest))

    def told(self) -> dict[str, Any]:
        """Return digest and number of files; their bytes, and what was left out, as the profile."""
        profile = {"size_bytes": self.found.size_bytes, "left_out": self.found.left_out}
        return {"digest": self.found.digest, "rows": len(self.found.files), "scheme": files.FILES, "profile": profile}

    def keep(self, ws: Workspace, name: str, *, store: bool | None) -> Kept:
        """Store the files if that is asked for, each once whatever its names."""
        if store:
            files.store_files(self.found, artifacts=ws.artifacts)
        manifest = files.FolderManifest(format=1, files=list(self.found.files))
        return Kept(manifest.encoded(), FOLDER_TYPE, files.FILES if store else "only with store=True", bool(store))


def newest(ws: Workspace, where: Node) -> Dataset | None:
    """Return the highest version among the datasets that match; None if none does."""
    found = ws.store.find(Dataset, where, order_by=[Order(Field("version"), descending=True)], limit=1)
    return found[0] if found else None


def named(name: str, field: str, value: str | int) -> Node:
    """Return the query for a dataset's versions in which a field has a value."""
    return Both("and", (Compare(Field("name"), "==", name), Compare(Field(field), "==", value)))


def older_ones(ws: Workspace, hashed: Hashed, name: str = "") -> Iterator[Dataset]:
    """Yield the snapshots of before trees (of one name) that have as many rows, newest first."""
    where: Node = Compare(Field("rows"), "==", hashed.frame.rows)
    if name:
        where = Both("and", (Compare(Field("name"), "==", name), where))
    yield from (one for one in ws.store.find(Dataset, where, limit=_LOOKED_AT) if one.scheme is None)


def _base(ws: Workspace, name: str) -> Manifest | None:
    """Return the manifest of the newest version whose data is stored in pieces; None if there is none."""
    dataset = newest(ws, Both("and", (Compare(Field("name"), "==", name),
                                      Compare(Field("stored", space="tags"), "==", PIECES))))  # fmt: skip
    if dataset is None:
        return None
    try:
        return read_manifest(dataset, artifacts=ws.artifacts)
    except (CorruptData, NotFound):  # told by `workspace check`; it must not cost the new version
        return None
