"""Bringing a bundle into the workspace: judged as a whole first, then written in one transaction, or not at all.

A record that is here already is never changed: the same one adds nothing, another one under its id is told.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from nbops.core.codec import encode
from nbops.core.errors import Conflict
from nbops.core.records import (
    Artifact,
    Cell,
    CheckReport,
    Dataset,
    Diagnosis,
    Link,
    ModelVersion,
    Record,
    Run,
    RunStatus,
    replace,
)
from nbops.core.reports import Report
from nbops.store.maintenance import DIGEST, TRASH, kinds_of
from nbops.store.manifests import MANIFESTS, stored_files
from nbops.store.points import Columns
from nbops.store.rows import attr_rows, record_row
from nbops.store.workspace import Workspace
from nbops.tracking.exchange.bundle_reading import Bundle
from nbops.tracking.exchange.bundles import (
    KINDS,
    LINKS,
    NUMBERED,
    ORIGINS,
    Origin,
    damaged,
    entry_of,
    without_number,
)

_CHUNKS = 64  # that are written at once
_MAX_GAP = 10_000  # numbers that are passed over so that a version keeps its own
_LATEST = 253_402_300_799.0  # the last second that a date can be made of
_ID = re.compile(r"[0-9A-Za-z]{1,64}")
_RELATION = re.compile(r"[a-z_]{1,60}")


def import_bundle(ws: Workspace, path: Path) -> Report:
    """Bring the runs of a bundle into the workspace with all that belongs to them, under their own ids.

    Raises
    ------
    CorruptData
        The bundle is damaged, of a newer format, or not as nbops writes it; nothing of it is imported.
    """
    with Bundle(path) as bundle, tqdm(desc="importing a bundle", unit=" records", leave=False) as bar:
        bundle.verify()
        ws.flush()
        taker = _Taker(ws, bundle)
        taker.judge()
        taker.choose()
        taker.write(bar)
    counts = {noun: taker.counts[noun] for noun in ("runs", "points", "files", "datasets", "models", "already there",
                                                   "in the trash")}  # fmt: skip
    shown = {noun: count for noun, count in counts.items() if count or noun == "runs"}
    return Report("import from bundle", shown, str(path), notes=tuple(taker.notes), left_out=tuple(taker.left_out),
                  problems=tuple(taker.problems))  # fmt: skip


class _Taker:
    """Takes in one bundle; memory holds ids, not records."""

    def __init__(self, ws: Workspace, bundle: Bundle) -> None:
        self.counts: Counter[str] = Counter()
        self.notes: list[str] = []
        self.left_out: list[str] = []
        self.problems: list[str] = []
        self._ws = ws
        self._bundle = bundle
        self._ids: dict[str, type[Record]] = {}  # of all records of the bundle
        self._wanted: set[str] = set()  # those that are written
        self._origins: dict[str, Origin] = {}

    # ---- judging

    def judge(self) -> None:
        """Read the whole bundle and refuse it if anything in it is not sound."""
        known = {entry_of(kind) for kind in KINDS}
        for name in self._bundle.manifest.entries:
            if name.startswith("records/") and name not in known:
                self.left_out.append(f"records of the sort '{name[8:-6]}', which this nbops does not bring")
        for kind in KINDS:
            for one in self._records(kind):
                if one.id in self._ids:
                    raise damaged(f"{one.id} is in it twice")
                _check(one)
                self._ids[one.id] = kind
        for one in (one for kind in KINDS for one in self._records(kind)):
            self._check_parent(one)
        for name in self._bundle.manifest.entries:
            if name.startswith("points/"):
                self._check_points(name[7:-4])
        for link in self._links():
            if not {link.source, link.target} <= self._ids.keys() or not _RELATION.fullmatch(link.relation):
                raise damaged(f"a link leads out of it: {link.source[:60]} {link.relation[:60]} {link.target[:60]}")
        for origin in self._bundle.lines(ORIGINS, Origin):
            if origin.id not in self._ids or not 0 <= origin.at <= _LATEST:
                raise damaged(f"it says who made {origin.id[:60]}, which is not in it")
            self._origins[origin.id] = origin

    def _records(self, kind: type[Any]) -> Iterator[Any]:
        return self._bundle.lines(entry_of(kind), kind)

    def _links(self) -> Iterator[Link]:
        return self._bundle.lines(LINKS, Link)

    def _check_parent(self, one: Any) -> None:
        """Refuse what would hang itself onto a record of this workspace; a run may lie within one that is not there."""
        if isinstance(one, Dataset | Run):
            return
        allowed = (Run, Dataset, ModelVersion) if isinstance(one, Artifact) else (Run,)
        if self._ids.get(one.parent or "") not in allowed:
            raise damaged(f"{one.id} belongs to {str(one.parent)[:60]}, which is not in it")

    def _check_points(self, run: str) -> None:
        if self._ids.get(run) is not Run:
            raise damaged(f"it has points of {run[:60]}, which is not in it")
        seen: set[str] = set()
        last = ""
        for metric, _ in self._bundle.points(run):
            if metric != last and metric in seen:
                raise damaged(f"the points of '{metric[:60]}' of {run} do not lie together")
            seen.add(metric)
            last = metric

    # ---- choosing

    def choose(self) -> None:
        """Decide which records are written: those that are not here, unless they belong to what is here otherwise."""
        there = kinds_of(self._ws.store, self._ids)
        barred: set[str] = set()  # what belongs to these stays away
        judged: tuple[type[Record], ...] = (Dataset, Run, ModelVersion)
        for kind in judged:
            for one in self._records(kind):
                if one.id not in there:
                    self._wanted.add(one.id)
                elif there[one.id].startswith(TRASH):
                    barred.add(one.id)
                    self.counts["in the trash"] += 1
                elif there[one.id] == kind.kind and self._is_same(one):
                    self.counts["already there"] += isinstance(one, Run)
                else:
                    barred.add(one.id)
                    self.problems.append(f"{_name(one)} is here with other content, which was left alone")
        belonging: tuple[type[Record], ...] = (ModelVersion, Cell, Artifact, CheckReport, Diagnosis)
        for kind in belonging:
            for one in self._records(kind):
                if one.parent in barred:
                    self._wanted.discard(one.id)
                    barred.add(one.id)
                elif one.id not in there:
                    self._wanted.add(one.id)

    def _is_same(self, one: Any) -> bool:
        found = self._ws.store.get(type(one), one.id)
        if encode(without_number(found)) != encode(without_number(one)):
            return False
        return not isinstance(one, Run) or self._digests_of(one.id) == self._digests_here(found)

    def _digests_of(self, run: str) -> dict[str, str]:
        found: dict[str, _PointsDigest] = {}
        for metric, columns in self._bundle.points(run):
            found.setdefault(metric, _PointsDigest()).add(columns)
        return {metric: each.text for metric, each in found.items()}

    def _digests_here(self, run: Run) -> dict[str, str]:
        found = {}
        for metric in run.summary:
            each = _PointsDigest()
            each.add(Columns.of(self._ws.store.points(run.id, metric)))
            found[metric] = each.text
        return found

    # ---- writing

    def write(self, bar: Any) -> None:
        """Store the files that are needed, then the records with their links and points in one transaction."""
        if not self._wanted:
            return
        self._store_files()
        store = self._ws.store
        with store.transaction():
            if kinds_of(store, self._wanted):
                raise Conflict("somebody else brings in the same records", hint="Import again when they are done.")
            for kind in KINDS:
                numbers = self._numbers(kind)
                for one in self._records(kind):
                    if one.id in self._wanted:
                        self._put(replace(one, **{NUMBERED[kind.kind]: numbers[one.id]}) if numbers else one)
                        bar.update()
            for link in self._links():
                if {link.source, link.target} & self._wanted:
                    store.link(link.source, link.relation, link.target)

    def _numbers(self, kind: type[Any]) -> dict[str, int]:
        """Return the number of each version: its own where that was never given here, else the next one."""
        field = NUMBERED.get(kind.kind)
        if field is None:
            return {}
        wanted = ((one.name, getattr(one, field), one.id) for one in self._records(kind) if one.id in self._wanted)
        found: dict[str, int] = {}
        for name, number, id in sorted(wanted):
            given = self._ws.store.next_number(f"{kind.kind}/{name}")
            while given < number <= given + _MAX_GAP:
                given = self._ws.store.next_number(f"{kind.kind}/{name}")
            found[id] = given
            if given != number:
                self.notes.append(f"{kind.kind} {name}/{number} is {name}/{given} here")
        return found

    def _store_files(self) -> None:
        stored: set[str] = set()
        for kind in (Run, Cell, Artifact):
            for one in self._records(kind):
                if one.id not in self._wanted:
                    continue
                self._store(DIGEST.findall(encode(one).decode()), stored)
                if isinstance(one, Artifact) and one.media_type in MANIFESTS:
                    self._store(self._named_in(one), stored)

    def _named_in(self, manifest: Artifact) -> list[str]:
        """Return what the manifest of a dataset names; it is in the bundle, or here already."""
        name = f"blobs/{manifest.digest}"
        if name not in self._bundle:
            return []
        with self._bundle.open(name) as entry:
            data = b"".join(iter(entry.read, b""))
        return stored_files(data)

    def _store(self, digests: Iterable[str], stored: set[str]) -> None:
        """Store what the bundle has of some files and this workspace has not."""
        for digest in digests:
            name = f"blobs/{digest}"
            if digest in stored or name not in self._bundle:
                continue
            stored.add(digest)
            if not self._ws.artifacts.exists(digest):
                with self._bundle.open(name) as entry:
                    self._ws.artifacts.put(entry)  # type: ignore[arg-type]

    def _put(self, one: Any) -> None:
        store = self._ws.store
        origin = self._origins.get(one.id)
        payload = {"by": origin.by, "at": origin.at} if origin is not None else {}
        if isinstance(one, Run):
            self._points(one.id)
            self.counts["runs"] += 1
        elif isinstance(one, Artifact):
            self.counts["files"] += 1
            if f"blobs/{one.digest}" not in self._bundle and not self._ws.artifacts.exists(one.digest):
                self.problems.append(f"the file '{one.name}' of {one.parent} has no bytes in the bundle")
        elif isinstance(one, Dataset | ModelVersion):
            self.counts["datasets" if isinstance(one, Dataset) else "models"] += 1
        store.put(one, event=f"{one.kind}.imported", payload=payload)

    def _points(self, run: str) -> None:
        """Append the points of a run, some chunks at a time."""
        waiting: dict[str, list[Columns]] = {}
        for count, (metric, columns) in enumerate(self._bundle.points(run), 1):
            waiting.setdefault(metric, []).append(columns)
            if count % _CHUNKS == 0:
                self._append(run, waiting)
        self._append(run, waiting)

    def _append(self, run: str, waiting: dict[str, list[Columns]]) -> None:
        whole = {metric: Columns.joined(parts) for metric, parts in waiting.items()}
        if whole:
            self._ws.store.add_points([columns.to_points(run, metric) for metric, columns in whole.items()])
        self.counts["points"] += sum(map(len, whole.values()))
        waiting.clear()


def _check(one: Record) -> None:
    """Refuse a record that nbops would not have written, or could not store."""
    prefix, _, own = one.id.rpartition("_")
    if prefix != one.prefix or not _ID.fullmatch(own):
        raise damaged(f"{one.id[:60]!r} is no id of the sort '{one.kind}'")
    if isinstance(one, Run) and one.status is RunStatus.RUNNING:
        raise damaged(f"the run {one.id} is not over")
    if isinstance(one, Artifact) and not DIGEST.fullmatch(one.digest):
        raise damaged(f"{one.id} names no file")
    number = getattr(one, NUMBERED[one.kind]) if one.kind in NUMBERED else 1
    times = [one.created_at, *filter(None, [getattr(one, "ended_at", None)]), *getattr(one, "resumes", ())]
    if number < 1 or not all(math.isfinite(at) and 0 <= at <= _LATEST for at in times):
        raise damaged(f"{one.id} has a number or a time that cannot be")
    try:
        record_row(one)
        list(attr_rows(one))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise damaged(f"{one.id} cannot be stored: {error}") from error


def _name(one: Any) -> str:
    kind = "model version" if isinstance(one, ModelVersion) else one.kind
    return f"the {kind} '{one.name}' ({one.id})"


class _PointsDigest:
    """One digest over the points of a metric, however they are cut into chunks."""

    def __init__(self) -> None:
        self._hashers = [hashlib.sha256() for _ in range(4)]
        self._count = 0
        self._cell = ""

    def add(self, columns: Columns) -> None:
        """Go on with further points."""
        for hasher, array in zip(self._hashers, (columns.steps, columns.times_ms, columns.values), strict=False):
            hasher.update(array.tobytes())
        for start, cell in columns.cells or ((0, ""),):
            if cell != self._cell:
                self._hashers[3].update(f"{self._count + start} {cell}\0".encode())
                self._cell = cell
        self._count += len(columns)

    @property
    def text(self) -> str:
        """The digest."""
        return "".join(hasher.hexdigest() for hasher in self._hashers)
