"""Verbs that bring runs in and out and look after the workspace: import, export, trash, purge, move …"""

from __future__ import annotations

from typing import Any

from nbops.verbs.grammar import Call, argument, verb


@verb(
    "import",
    argument(
        "source", "a bundle; a file or folder of MLflow, W&B, trackio or TensorBoard; a database URL", completes="paths"
    ),
    argument("--format", "bundle, mlflow-database, mlflow-files, wandb, trackio, tensorboard; found out if absent"),
    examples=(
        "%mlops import shared.nbops.zip",
        "%mlops import mlruns",
        "%mlops import wandb/",
        "%mlops import postgresql://team@db/mlflow",
    ),
)
def import_(call: Call, *, source: str, format: str | None) -> Any:
    """Bring runs of another workspace or tool into this one; twice adds nothing."""
    from nbops.tracking.exchange.importing import import_runs

    return import_runs(source, format=format)


@verb(
    "export",
    argument("path", "the folder to write to; for a bundle the file", completes="paths"),
    argument("where", "which runs: metrics.acc > 0.9; all if absent", form="expression", completes="fields"),
    argument("--format", "parquet, mlflow or bundle", default="parquet", choices=("parquet", "mlflow", "bundle")),
    examples=(
        "%mlops export runs-as-tables",
        '%mlops export out --format mlflow tags.team == "x"',
        "%mlops export shared.nbops.zip --format bundle",
    ),
)
def export(call: Call, *, path: str, where: str, format: str) -> Any:
    """Write runs, with all their points, to Parquet, to MLflow's file store, or to a bundle for another workspace."""
    from nbops.tracking.exchange.exporting import export_runs

    return export_runs(path, where=where or None, format=format)


@verb(
    "trash",
    argument("ref", "what to move there: an id or a name; lists the trash if absent", form="optional", completes="ids"),
    examples=("%mlops trash run_…7XK2QF", "%mlops trash"),
)
def trash(call: Call, *, ref: str | None) -> Any:
    """Move something to the trash with what belongs to it, or list the trash."""
    from nbops.tracking.trashing import trash as move_there
    from nbops.verbs.finding import record_of

    return move_there(None if ref is None else record_of(ref))


@verb("restore", argument("id", "as the trash lists it"), examples=("%mlops restore run_01K5XYZ",))
def restore(call: Call, *, id: str) -> Any:
    """Take something out of the trash, with what went there with it."""
    from nbops.tracking.trashing import restore as take_back

    return take_back(id)


@verb(
    "purge",
    argument("--older-than", "days in the trash; 0 empties it", kind=float, default=30.0, values="DAYS"),
    examples=("%mlops purge", "%mlops purge --older-than 0"),
)
def purge(call: Call, *, older_than: float) -> Any:
    """Delete for ever what has been in the trash for some time, and files that nothing names any more."""
    from nbops.tracking.trashing import purge as delete

    return delete(older_than_days=older_than)


@verb("check-workspace", examples=("%mlops check-workspace",))
def check_workspace(call: Call) -> Any:
    """Read every record, point and file of the workspace and say what is wrong."""
    from nbops.store.inspection import check_workspace as look_over
    from nbops.store.workspace import workspace

    return look_over(workspace())


@verb("repair-workspace", examples=("%mlops repair-workspace",))
def repair_workspace(call: Call) -> Any:
    """Mend what can be mended without losing anything, and say what is left."""
    from nbops.store.inspection import repair_workspace as mend
    from nbops.store.workspace import workspace

    return mend(workspace())


@verb(
    "move-workspace",
    argument("--store", "database of records: postgresql://…", values="URL"),
    argument("--artifacts", "where files go: any fsspec URL, s3://…", values="URL"),
    examples=("%mlops move-workspace --store postgresql://team@db/nbops --artifacts s3://team/nbops",),
)
def move_workspace(call: Call, *, store: str | None, artifacts: str | None) -> Any:
    """Move records to another database and files to another place; what was moved stays until you delete it."""
    from nbops.store.moving import move

    return move(store_url=store, artifacts_url=artifacts)
