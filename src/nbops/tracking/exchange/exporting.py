"""Exporting runs: to Parquet for tools that read tables, to MLflow's file store, to a bundle for another workspace."""

from __future__ import annotations

import hashlib
import posixpath
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from tqdm.auto import tqdm

from nbops.core.codec import encode
from nbops.core.errors import InvalidInput, MissingDependency, NbopsError, did_you_mean
from nbops.core.query import Compare, Field, parse
from nbops.core.records import Artifact, Run, RunStatus
from nbops.core.reports import Report
from nbops.store.points import Columns
from nbops.store.workspace import Workspace, workspace
from nbops.tracking.capture.background import drain
from nbops.tracking.exchange.bundle_writing import write_bundle

FORMATS = ("parquet", "mlflow", "bundle")
_PAGE = 200
_STATES = {RunStatus.RUNNING: 1, RunStatus.FINISHED: 3, RunStatus.FAILED: 4}  # of MLflow's service.proto; else KILLED
_KILLED = 5
_UNUSABLE = re.compile(r"[^\w.\- :/]")
_EXPERIMENT = "nbops"


def export_runs(path: str | Path, *, where: str | None = None, format: str = "parquet") -> Report:
    """Write runs, with all their points, to files that other tools read.

    Parameters
    ----------
    path : str or Path
        A folder; made if it is not there. For a bundle a file. What an earlier export wrote there is replaced.
    where : str, optional
        A query, as for `find`; all runs if None.
    format : str
        ``parquet``: the tables ``runs``, ``params``, ``tags``, ``points`` and ``files`` (names and digests
        of the artifacts). ``mlflow``: MLflow's file store with the artifacts, which MLflow opens as
        ``file:///path/mlruns`` and our `import_runs` reads back. ``bundle``: one zip file, by custom
        ``NAME.nbops.zip``, with the runs, the runs inside them and all that belongs to them — cells, files, points,
        checks, diagnoses, the datasets that they used, the model versions that they made — which `import_runs` opens
        in another workspace as the same runs.

    Returns
    -------
    Report
        How many runs, points and files were written.

    Raises
    ------
    InvalidInput
        No such format, or no run for a bundle.
    MissingDependency
        Parquet without pyarrow.
    QuerySyntaxError
        `where` cannot be parsed.
    """
    writers: dict[str, Callable[[Workspace, Path], Any]] = {"parquet": _Parquet, "mlflow": _MLflow}
    if format not in FORMATS:
        hint = did_you_mean(format, FORMATS) or f"Use one of: {', '.join(FORMATS)}"
        raise InvalidInput(f"runs cannot be exported as '{format}'", hint=hint)
    folder = Path(path).expanduser()
    ws = workspace()
    ws.flush()
    if format == "bundle":
        drain()  # what is found out beside a run belongs to it
        return write_bundle(ws, folder, parse(where) if where and where.strip() else None)
    if folder.is_file():
        raise InvalidInput(f"'{folder}' is a file", hint="Name a folder.")
    writer = writers[format](ws, folder)
    counts = {"runs": 0, "points": 0, "files": 0}
    try:
        for run in tqdm(_runs(ws, where), desc=f"exporting to {format}", unit=" runs", leave=False):
            points, files = writer.take(run)
            counts["runs"] += 1
            counts["points"] += points
            counts["files"] += files
    finally:
        writer.close()
    return Report(f"export to {format}", counts, str(writer.folder), problems=tuple(writer.problems))


def _runs(ws: Workspace, where: str | None) -> Iterator[Run]:
    node = parse(where) if where and where.strip() else None
    ids = [run.id for run in ws.store.find(Run, node)]
    for start in range(0, len(ids), _PAGE):
        wanted = tuple(ids[start : start + _PAGE])
        yield from ws.store.find(Run, Compare(Field("id"), "in", wanted))


def _columns(ws: Workspace, run: Run) -> Iterator[tuple[str, Columns]]:
    for metric in run.summary:
        yield metric, Columns.of(ws.store.points(run.id, metric))


def _artifacts(ws: Workspace, run: Run) -> list[Artifact]:
    return ws.store.find(Artifact, Compare(Field("parent"), "==", run.id))


class _Parquet:
    """Five tables; points of one run after those of the other, so that memory stays small."""

    def __init__(self, ws: Workspace, folder: Path) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise MissingDependency.of("pyarrow", "pandas") from None
        folder.mkdir(parents=True, exist_ok=True)
        self.problems: list[str] = []
        self.folder = folder
        self._ws = ws
        self._pa = pa
        text, number, whole = pa.string(), pa.float64(), pa.int64()
        self._schemas = {
            "runs": pa.schema({"id": text, "name": text, "type": text, "status": text, "parent": text,
                               "created_at": number, "ended_at": number, "note": text, "error": text}),
            "params": pa.schema({"run": text, "key": text, "value": text, "number": number}),
            "tags": pa.schema({"run": text, "key": text, "value": text}),
            "points": pa.schema({"run": text, "metric": text, "step": whole, "time_ms": whole, "value": number}),
            "files": pa.schema({"run": text, "name": text, "digest": text, "size_bytes": whole, "media_type": text}),
        }  # fmt: skip
        self._writers = {name: pq.ParquetWriter(folder / f"{name}.parquet", s) for name, s in self._schemas.items()}
        self._waiting: dict[str, list[dict[str, Any]]] = {name: [] for name in self._schemas}

    def take(self, run: Run) -> tuple[int, int]:
        """Write one run; return its numbers of points and files."""
        error = f"{run.error.type}: {run.error.message}" if run.error else None
        self._add("runs", {"id": run.id, "name": run.name, "type": run.type, "status": str(run.status),
                           "parent": run.parent, "created_at": run.created_at, "ended_at": run.ended_at,
                           "note": run.note, "error": error})  # fmt: skip
        for key, value in run.params.items():
            number = float(value) if isinstance(value, bool | int | float) else None
            self._add("params", {"run": run.id, "key": key, "value": _text(value), "number": number})
        for key, value in run.tags.items():
            self._add("tags", {"run": run.id, "key": key, "value": value})
        points = 0
        for metric, columns in _columns(self._ws, run):
            points += len(columns)
            arrays = [columns.steps, columns.times_ms, columns.values]
            names = [self._pa.array([name] * len(columns), self._pa.string()) for name in (run.id, metric)]
            table = self._pa.table([*names, *map(self._pa.array, arrays)], schema=self._schemas["points"])
            self._writers["points"].write_table(table)
        files = _artifacts(self._ws, run)
        for file in files:
            self._add("files", {"run": run.id, "name": file.name, "digest": file.digest,
                                "size_bytes": file.size_bytes, "media_type": file.media_type})  # fmt: skip
        return points, len(files)

    def _add(self, name: str, row: dict[str, Any]) -> None:
        self._waiting[name].append(row)
        if len(self._waiting[name]) >= 10_000:
            self._write(name)

    def _write(self, name: str) -> None:
        if self._waiting[name]:
            self._writers[name].write_table(self._pa.Table.from_pylist(self._waiting[name], self._schemas[name]))
            self._waiting[name] = []

    def close(self) -> None:
        """Write what waits and end the files."""
        for name, writer in self._writers.items():
            self._write(name)
            writer.close()


class _MLflow:
    """MLflow's file store: ``mlruns/<experiment>/<run>/``; layout of ``mlflow/store/tracking/file_store.py``."""

    def __init__(self, ws: Workspace, folder: Path) -> None:
        self.folder = folder if folder.name == "mlruns" else folder / "mlruns"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.problems: list[str] = []
        self._ws = ws
        self._experiments: set[str] = set()

    def take(self, run: Run) -> tuple[int, int]:
        """Write one run; return its numbers of points and files."""
        experiment = self._experiment(run.tags.get("experiment", _EXPERIMENT), run)
        folder = self.folder / experiment / _run_id(run.id)
        shutil.rmtree(folder, ignore_errors=True)  # its name is made from our id: it is an earlier export's
        for name in ("metrics", "params", "tags", "artifacts"):
            (folder / name).mkdir(parents=True)
        tags = {**run.tags, "mlflow.runName": run.name, "nbops.id": run.id, "nbops.status": str(run.status)}
        if run.note:
            tags["mlflow.note.content"] = run.note
        if run.parent:
            tags["mlflow.parentRunId"] = _run_id(run.parent)
        for key, value in self._names(tags, run).items():
            _write(folder / "tags" / key, value)
        for key, value in self._names(run.params, run).items():
            _write(folder / "params" / key, _text(value))
        points = 0
        for key, columns in self._names(dict(_columns(self._ws, run)), run).items():
            points += len(columns)
            rows = zip(columns.times_ms.tolist(), columns.values.tolist(), columns.steps.tolist(), strict=True)
            _write(folder / "metrics" / key, "".join(f"{at} {value!r} {step}\n" for at, value, step in rows))
        files = self._files(run, folder / "artifacts")
        _write_yaml(folder / "meta.yaml", {
            "artifact_uri": (folder / "artifacts").resolve().as_uri(), "end_time": _ms(run.ended_at),
            "entry_point_name": "", "experiment_id": experiment, "lifecycle_stage": "active",
            "run_id": folder.name, "run_name": run.name, "source_name": "", "source_type": 4, "source_version": "",
            "start_time": _ms(run.created_at), "status": _STATES.get(run.status, _KILLED), "tags": [],
            "user_id": run.tags.get("mlflow.user", ""),
        })  # fmt: skip
        return points, files

    def _experiment(self, name: str, run: Run) -> str:
        id = str(int(hashlib.sha256(name.encode()).hexdigest()[:15], 16))
        if id not in self._experiments:
            self._experiments.add(id)
            folder = self.folder / id
            folder.mkdir(exist_ok=True)
            _write_yaml(folder / "meta.yaml", {
                "artifact_location": folder.resolve().as_uri(), "creation_time": _ms(run.created_at),
                "experiment_id": id, "last_update_time": _ms(run.created_at), "lifecycle_stage": "active",
                "name": name,
            })  # fmt: skip
        return id

    def _names(self, values: dict[str, Any], run: Run) -> dict[str, Any]:
        """Return `values` under names that MLflow takes and that can all be files of one folder."""
        named: dict[str, Any] = {}
        folders = {"/".join(parts[:n]) for key in values for parts in [key.split("/")] for n in range(1, len(parts))}
        for key, value in values.items():
            name = _UNUSABLE.sub("_", key)
            if name in folders or posixpath.normpath(name) != name or name.startswith(("/", "..")) or name == ".":
                name = name.replace("/", ".").replace("..", ".") if name not in folders else f"{name}."
            while name in named:
                name += "_"
            if name != key:
                self.problems.append(f"{run.name}: '{key}' is called '{name}' there, for MLflow takes no such name")
            named[name] = value
        return named

    def _files(self, run: Run, folder: Path) -> int:
        count = 0
        for file in _artifacts(self._ws, run):
            target = (folder / file.name).resolve()
            if not target.is_relative_to(folder.resolve()) or target == folder.resolve():
                self.problems.append(f"{run.name}: the file name '{file.name}' leads out of the run's folder")
                continue
            try:
                with self._ws.artifacts.open(file.digest) as source:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with target.open("wb") as stream:
                        shutil.copyfileobj(source, stream)
                count += 1
            except (NbopsError, OSError) as error:
                self.problems.append(f"{run.name}: the file '{file.name}' cannot be copied: {error}")
        return count

    def close(self) -> None:
        """Nothing is left to write."""


def _run_id(id: str) -> str:
    return hashlib.sha256(id.encode()).hexdigest()[:32]


def _ms(at: float | None) -> int | None:
    return None if at is None else round(at * 1000)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else encode(value).decode()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def _write_yaml(path: Path, values: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
