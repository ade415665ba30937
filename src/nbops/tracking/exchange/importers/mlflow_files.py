"""MLflow's file store, the folder ``mlruns``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from nbops.core.errors import CorruptData
from nbops.tracking.exchange.importers.leaf import Gathered, Incoming, Tell, importer
from nbops.tracking.exchange.importers.mlflow_common import NAME, NOTE, PARENT, STATES, artifacts_in, seconds, status_of

_META = "meta.yaml"


def _root(source: str) -> Path | None:
    path = Path(source.removeprefix("file://")).expanduser()
    for folder in (path, path / "mlruns"):
        if folder.is_dir() and any(folder.glob(f"*/{_META}")):
            return folder
    return None


@importer("mlflow-files", tool="mlflow", accepts=lambda source: _root(source) is not None)
def read(source: str, tell: Tell) -> Iterator[Incoming]:
    """Read MLflow's file store: the folder ``mlruns``, or the one that holds it.

    What it reads
        Experiments, runs, parameters, tags, every point of every metric, and the artifacts on this machine.
    What it cannot read
        Deleted runs, traces, logged models and the model registry; what there is of them is told.
    References
        ``mlflow/store/tracking/file_store.py``.
    """
    root = _root(source)
    if root is None:
        raise CorruptData(f"'{source}' is no file store of MLflow", hint="Pass the folder mlruns.")
    for meta in sorted(root.glob(f"*/{_META}")):
        experiment = _yaml(meta, tell)
        if experiment.get("experiment_id") is None:
            continue
        for folder in sorted(p.parent for p in meta.parent.glob(f"*/{_META}")):
            if folder.name in ("models", "traces"):
                continue
            run = _run(folder, str(experiment.get("name", "")), tell)
            if run is not None:
                yield run
        models = sum(1 for _ in meta.parent.glob(f"models/*/{_META}"))
        if models:
            tell.left_out.append(
                f"{experiment.get('name')}: {models} logged models were left out; their files are in models/"
            )
    registered = sum(1 for _ in root.glob(f"models/*/{_META}"))
    if registered:
        tell.left_out.append(f"{registered} registered models were left out; register them anew with nb.register")


def _run(folder: Path, experiment: str, tell: Tell) -> Incoming | None:
    meta = _yaml(folder / _META, tell)
    id = meta.get("run_id") or meta.get("run_uuid")
    if not id:
        return None
    if meta.get("lifecycle_stage") == "deleted":
        tell.left_out.append(f"run {id} is deleted and was left out")
        return None
    tags = {name: _text(path) for name, path in _keys(folder / "tags")}
    raw = meta.get("status")
    status, also = status_of(STATES.get(raw, str(raw)) if isinstance(raw, int) else str(raw))
    run = Incoming(
        original_id=str(id),
        name=str(tags.pop(NAME, None) or meta.get("run_name") or meta.get("name") or id),
        created_at=seconds(meta.get("start_time")) or 0.0,
        ended_at=seconds(meta.get("end_time")),
        status=status,
        params={name: _text(path) for name, path in _keys(folder / "params")},
        note=tags.pop(NOTE, ""),
        parent=tags.pop(PARENT, ""),
        tags={**tags, **also, "experiment": experiment},
    )
    if meta.get("user_id"):
        run.tags.setdefault("mlflow.user", str(meta["user_id"]))
    run.series = _points(folder / "metrics", run, tell).columns()
    run.files = artifacts_in(meta.get("artifact_uri"), run=run, nearby=[folder / "artifacts"], tell=tell)
    return run


def _points(folder: Path, run: Incoming, tell: Tell) -> Gathered:
    points = Gathered()
    for name, path in _keys(folder):
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
            words = line.split(" ")
            try:
                points.add(name, int(words[2]) if len(words) > 2 else 0, int(words[0]), float(words[1]))
            except (ValueError, IndexError):
                tell.problems.append(f"{run.name}: line {number} of the metric '{name}' cannot be read: {line[:40]!r}")
    return points


def _keys(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield (name, file); a slash in a name is a folder."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace").removesuffix("\n")


def _yaml(path: Path, tell: Tell) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        tell.problems.append(f"{path} cannot be read: {str(error).splitlines()[0]}")
        return {}
    return found if isinstance(found, dict) else {}
