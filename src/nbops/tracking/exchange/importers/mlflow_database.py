"""MLflow's tracking database: SQLite by path, PostgreSQL and others by URL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbops.core.errors import CorruptData, NbopsError
from nbops.store.foreign import Tables, open_tables
from nbops.tracking.exchange.importers.leaf import Gathered, Incoming, Tell, importer, is_sqlite
from nbops.tracking.exchange.importers.mlflow_common import (
    NAME,
    NOTE,
    PARENT,
    artifacts_in,
    seconds,
    status_of,
    value_of,
)

_NEEDED = {"experiments", "runs", "metrics", "params", "tags"}
_LEFT_OUT = {
    "registered_models": "registered models; register them anew with nb.register",
    "logged_models": "logged models; their files are in the artifact folders",
    "trace_info": "traces",
    "inputs": "dataset inputs",
}


def _accepts(source: str) -> bool:
    is_url = "://" in source and not source.startswith(("sqlite:", "file:"))
    if not is_url and not is_sqlite(source):
        return False
    try:
        with open_tables(source) as tables:
            return tables.names >= _NEEDED
    except NbopsError:
        return is_url  # so that the reader says what is wrong with it


@importer("mlflow-database", tool="mlflow", accepts=_accepts)
def read(source: str, tell: Tell) -> Iterator[Incoming]:
    """Read MLflow's database: ``mlflow.db``, ``sqlite:///mlflow.db`` or ``postgresql://user@host/mlflow``.

    What it reads
        Experiments, runs, parameters, tags, every point of every metric (NaN and infinities as they
        were logged), and the artifacts on this machine.
    What it cannot read
        Deleted runs, traces, dataset inputs, logged models and the model registry; what there is of
        them is told.
    References
        ``mlflow/store/tracking/dbmodels/models.py``.
    """
    with open_tables(source) as tables:
        if not tables.names >= _NEEDED:
            raise CorruptData(f"'{source}' is no database of MLflow: it lacks {', '.join(_NEEDED - tables.names)}",
                              hint="Pass the database given as --backend-store-uri.")  # fmt: skip
        experiments = {row["experiment_id"]: row for row in tables.rows("experiments")}
        deleted = 0
        for row in list(tables.rows("runs", order_by=("start_time", "run_uuid"))):
            if row.get("lifecycle_stage") == "deleted":
                deleted += 1
                continue
            yield _run(tables, row, experiments.get(row["experiment_id"], {}), source, tell)
        if deleted:
            tell.left_out.append(f"{deleted} deleted runs were left out")
        for table, what in _LEFT_OUT.items():
            count = sum(1 for _ in tables.rows(table))
            if count:
                tell.left_out.append(f"{count} {what} were left out")


def _run(tables: Tables, row: dict[str, Any], experiment: dict[str, Any], source: str, tell: Tell) -> Incoming:
    id = str(row["run_uuid"])
    tags = {t["key"]: t["value"] or "" for t in tables.rows("tags", order_by=("key",), run_uuid=id)}
    status, also = status_of(str(row["status"]))
    run = Incoming(
        original_id=id,
        name=str(tags.pop(NAME, None) or row.get("name") or id),
        created_at=seconds(row["start_time"]) or 0.0,
        ended_at=seconds(row["end_time"]),
        status=status,
        params={p["key"]: p["value"] for p in tables.rows("params", order_by=("key",), run_uuid=id)},
        note=tags.pop(NOTE, ""),
        parent=tags.pop(PARENT, ""),
        tags={**tags, **also, "experiment": str(experiment.get("name", ""))},
    )
    if row.get("user_id"):
        run.tags.setdefault("mlflow.user", str(row["user_id"]))
    points = Gathered()
    for p in tables.rows("metrics", order_by=("timestamp", "step"), run_uuid=id):
        points.add(p["key"], int(p["step"]), int(p["timestamp"]), value_of(float(p["value"]), p["is_nan"]))
    run.series = points.columns()
    folder = Path(source.removeprefix("sqlite:///")).expanduser().parent if is_sqlite(source) else Path.cwd()
    places = [folder / kind / str(row["experiment_id"]) / id / "artifacts" for kind in ("mlruns", "mlartifacts")]
    run.files = artifacts_in(row.get("artifact_uri"), run=run, nearby=places, tell=tell)
    return run
