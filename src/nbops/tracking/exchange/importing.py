"""Importing runs of other tools: each becomes a run of ours under an id made from its own, so that twice is once."""

from __future__ import annotations

import mimetypes
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tqdm.auto import tqdm

from nbops.core.errors import NotFound
from nbops.core.ids import new_id, stable_id
from nbops.core.protocols import Points
from nbops.core.query import Compare, Field
from nbops.core.records import Artifact, Run, replace
from nbops.core.reports import Report
from nbops.store.maintenance import in_trash
from nbops.store.points import Columns
from nbops.store.workspace import Workspace, workspace
from nbops.tracking.exchange.bundle_importing import import_bundle
from nbops.tracking.exchange.bundle_reading import is_bundle
from nbops.tracking.exchange.importers.leaf import Incoming, Tell, importer_for
from nbops.tracking.redaction import redact

FROM, ORIGINAL = "imported_from", "original_id"
_MAX_NAME = 250
_MAX_METRIC = 250


def import_runs(source: str | Path, *, format: str | None = None) -> Report:
    """Bring runs of another workspace, of MLflow, W&B, trackio or TensorBoard into this one.

    Importing the same runs again adds nothing, or what they gained since. Runs keep their names,
    times, parameters, tags, notes, all points and the files on this machine; the tags
    ``imported_from`` and ``original_id`` say where each came from.

    The runs of a bundle, which `export_runs` wrote, are the same runs under the same ids, with all that belongs to
    them. It is brought in as a whole or not at all; what is here under an id of the bundle is never changed.

    Parameters
    ----------
    source : str or Path
        A bundle (``NAME.nbops.zip``), a file (``mlflow.db``, ``run-….wandb``, a trackio database, an event file), a
        folder of them (``mlruns``, ``wandb``, a log directory), or the URL of MLflow's database.
    format : str, optional
        ``bundle``, ``mlflow-database``, ``mlflow-files``, ``wandb``, ``trackio`` or ``tensorboard``; found out if None.

    Returns
    -------
    Report
        How many runs, points and files were added; what is of a sort that is not imported is in
        `left_out`, what could not be read in `problems`.

    Raises
    ------
    InvalidInput
        No importer takes the source, or several do.
    NotFound
        No such file, or no such format.
    StoreError
        The database cannot be read.
    CorruptData
        A bundle that is damaged, of a newer format, or not as nbops writes it.
    """
    text = str(source)
    if "://" not in text and not Path(text).expanduser().exists():
        raise NotFound(f"no file or folder '{text}'", hint=f"Check the path; the working folder is {Path.cwd()}.")
    if format == "bundle" or (format is None and is_bundle(text)):
        return import_bundle(workspace(), Path(text).expanduser())
    leaf = importer_for(text, format)
    taker, tell = _Taker(workspace(), leaf.tool), Tell()
    with tqdm(leaf.read(text, tell), desc=f"importing from {leaf.tool}", unit=" runs", leave=False) as runs:
        for run in runs:
            taker.take(run)
    taker.join()
    counts = {noun: taker.counts[noun] for noun in ("runs", "points", "files", "already there", "in the trash")}
    shown = {noun: count for noun, count in counts.items() if count or noun == "runs"}
    problems = (*tell.problems, *taker.problems)
    return Report(f"import from {leaf.tool}", shown, text, left_out=tuple(tell.left_out), problems=problems)


class _Taker:
    """Writes incoming runs; each whole or not at all."""

    def __init__(self, ws: Workspace, tool: str) -> None:
        self.ws = ws
        self.tool = tool
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self._ids: dict[str, str] = {}
        self._parents: dict[str, str] = {}

    def take(self, run: Incoming) -> None:
        """Write one run, or what it gained since it was imported."""
        store = self.ws.store
        id = stable_id(Run.prefix, at=run.created_at, of=f"{self.tool}\0{run.original_id}")
        self._ids[run.original_id] = id
        if run.parent:
            self._parents[id] = run.parent
        if in_trash(store, id):
            self.counts["in the trash"] += 1
            return
        found = store.find(Run, Compare(Field("id"), "==", id), limit=1)
        known = found[0] if found else None
        batch = self._fresh(id, run.series, known)
        artifacts = self._artifacts(id, run)
        record = self._record(id, run, known)
        is_changed = known is None or replace(known, summary={}) != record
        if not (batch or artifacts or is_changed):
            self.counts["already there"] += 1
            return
        with store.transaction():
            store.add_points(batch)
            if is_changed or batch:
                store.put(record)
            for artifact in artifacts:
                store.put(artifact)
                store.link(id, "produced", artifact.id)
        self.counts["runs"] += 1
        self.counts["points"] += sum(len(points.steps) // 8 for points in batch)
        self.counts["files"] += len(artifacts)

    def join(self) -> None:
        """Link the runs of this import with their parents."""
        for id, original in self._parents.items():
            parent = self._ids.get(original)
            if parent is None:
                self.problems.append(f"the parent {original} of {id} is not among the runs")
                continue
            found = self.ws.store.find(Run, Compare(Field("id"), "==", id), limit=1)
            if found and found[0].parent != parent:
                with self.ws.store.transaction():
                    self.ws.store.put(replace(found[0], parent=parent))
                    self.ws.store.link(parent, "parent_of", id)

    def _record(self, id: str, run: Incoming, known: Run | None) -> Run:
        tags = {key: str(value) for key, value in redact(run.tags).items() if value != ""}
        tags |= {FROM: self.tool, ORIGINAL: run.original_id}
        params = redact(run.params)
        if known is not None:  # what was changed here since stays as it is
            tags, params = {**tags, **known.tags}, {**params, **known.params}
        return Run(
            id=id,
            created_at=run.created_at,
            name=run.name[:_MAX_NAME] if known is None else known.name,
            type="script",
            status=run.status,
            parent=known.parent if known else None,
            ended_at=run.ended_at,
            params=params,
            tags=tags,
            note=run.note if known is None else known.note,
        )

    def _fresh(self, id: str, series: Mapping[str, Columns], known: Run | None) -> list[Points]:
        batch = []
        for name, columns in series.items():
            metric = name.replace("\x00", "")[:_MAX_METRIC]
            start = known.summary[metric].count if known is not None and metric in known.summary else 0
            if len(columns) > start:
                batch.append(columns.slice(start, len(columns)).to_points(id, metric))
        return batch

    def _artifacts(self, id: str, run: Incoming) -> list[Artifact]:
        known = {(a.name, a.size_bytes) for a in self.ws.store.find(Artifact, Compare(Field("parent"), "==", id))}
        made = []
        for name, data in run.files:
            try:
                size = data.stat().st_size if isinstance(data, Path) else len(data)
                if (name, size) in known:
                    continue
                digest, size = self.ws.artifacts.put(data)
            except OSError as error:
                self.problems.append(f"{run.name}: the file '{name}' cannot be read: {error.strerror}")
                continue
            media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
            made.append(Artifact(id=new_id(Artifact.prefix), created_at=run.ended_at or run.created_at, name=name,
                                 digest=digest, size_bytes=size, media_type=media_type, parent=id))  # fmt: skip
        return made
