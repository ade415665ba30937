"""A run of the workspace as a run of MLflow: ids, status, params as text, experiment and inputs."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from nbops.core.errors import NotFound
from nbops.core.query import Both, Compare, Field, IsSet, Node, Not
from nbops.core.records import Run, RunStatus, replace
from nbops.server.mlflow.desk import CONTEXT, Desk
from nbops.server.mlflow.errors import MlflowError, absent
from nbops.server.mlflow.ids import from_hex, to_hex
from nbops.server.mlflow.limits import OWN
from nbops.server.mlflow.wire import Json, double, millis

EXPERIMENT = f"{OWN}experiment"
GONE = f"{OWN}deleted"
RUN_NAME, PARENT = "mlflow.runName", "mlflow.parentRunId"
STATUS = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
TO_OURS = {
    "RUNNING": RunStatus.RUNNING,
    "SCHEDULED": RunStatus.RUNNING,
    "FINISHED": RunStatus.FINISHED,
    "FAILED": RunStatus.FAILED,
    "KILLED": RunStatus.INTERRUPTED,
}
_TO_THEIRS = {
    RunStatus.RUNNING: "RUNNING",
    RunStatus.FINISHED: "FINISHED",
    RunStatus.FAILED: "FAILED",
    RunStatus.INTERRUPTED: "KILLED",
    RunStatus.SUPERSEDED: "KILLED",
}
_EXACT_INT = 2**53


def typed(text: str) -> Any:
    """Return a param's text as a number or truth value where its text is exactly that, so that it can be compared.

    ``"0.1"`` becomes 0.1; ``"1e-1"`` stays text, because it would come back as another text.
    """
    if text in ("True", "False"):
        return text == "True"
    try:
        if (whole := int(text)) is not None and str(whole) == text and abs(whole) <= _EXACT_INT:
            return whole
    except ValueError:
        try:
            number = float(text)
        except ValueError:
            return text
        if math.isfinite(number) and str(number) == text:
            return number
    return text


def extra(run: Run) -> dict[str, Any]:
    """Return what only MLflow knows of a run."""
    found: dict[str, Any] = run.context.get(CONTEXT, {})
    return found


def with_extra(run: Run, **changes: Any) -> Run:
    """Return the run with changes to what only MLflow knows of it."""
    return replace(run, context={**run.context, CONTEXT: {**extra(run), **changes}})


def experiment_number(run: Run) -> str:
    """Return the id of a run's experiment; runs that MLflow did not make are in experiment 0."""
    return run.tags.get(EXPERIMENT, "0")


def stage_of(run: Run) -> str:
    """Return ``active`` or ``deleted``."""
    return "deleted" if GONE in run.tags else "active"


def status_of(run: Run) -> str:
    """Return MLflow's word for the status."""
    if run.status is RunStatus.RUNNING and extra(run).get("scheduled"):
        return "SCHEDULED"
    return _TO_THEIRS[run.status]


def artifact_uri(run: Run) -> str:
    """Return where clients find the run's files."""
    default = f"mlflow-artifacts:/{experiment_number(run)}/{to_hex(run.id)}/artifacts"
    found: str = extra(run).get("artifact_uri") or default
    return found


def runs_of(numbers: Sequence[str]) -> Node:
    """Return the query for the runs of some experiments."""
    mine: Node = Compare(Field(EXPERIMENT, "tags"), "in", tuple(numbers))
    return Both("or", (mine, Not(IsSet(Field(EXPERIMENT, "tags"))))) if "0" in numbers else mine


def info(run: Run) -> Json:
    """Return the head of a run as clients read it."""
    shown = {
        "run_id": to_hex(run.id),
        "run_uuid": to_hex(run.id),
        "run_name": run.name,
        "experiment_id": experiment_number(run),
        "user_id": extra(run).get("user_id", ""),
        "status": status_of(run),
        "start_time": millis(run.created_at),
        "artifact_uri": artifact_uri(run),
        "lifecycle_stage": stage_of(run),
    }
    return shown if run.ended_at is None else shown | {"end_time": millis(run.ended_at)}


def tags_of(run: Run) -> dict[str, str]:
    """Return a run's tags as clients see them."""
    mine = {key: value for key, value in run.tags.items() if not key.startswith(OWN)}
    parent = {PARENT: to_hex(run.parent)} if run.parent and run.parent.startswith("run_") else {}
    note = {"mlflow.note.content": run.note} if run.note else {}
    return {**parent, **note, **mine, RUN_NAME: run.name}


def shown(desk: Desk, run: Run, *, is_exact: bool = True) -> Json:
    """Return a whole run as clients read it."""
    own = extra(run)
    metrics = [
        {"key": metric, "value": double(value), "timestamp": at, "step": step}
        for metric, (step, at, value) in desk.newest(run, is_exact=is_exact).items()
    ]
    return {
        "info": info(run),
        "data": {
            "metrics": metrics,
            "params": [{"key": key, "value": str(value)} for key, value in run.params.items()],
            "tags": [{"key": key, "value": value} for key, value in tags_of(run).items()],
        },
        "inputs": {"dataset_inputs": own.get("datasets", []), "model_inputs": own.get("models_in", [])},
        "outputs": {"model_outputs": own.get("models_out", [])},
    }


def run_of(desk: Desk, id: str, *, active: bool = False) -> Run:
    """Return the run with MLflow's id.

    Raises
    ------
    MlflowError
        There is none, or it was deleted and `active` is wished.
    """
    try:
        run = desk.store.get(Run, from_hex(id, Run.prefix))
    except NotFound:
        raise absent(f"Run with id={id} not found") from None
    if active:
        need_active(run)
    return run


def need_active(run: Run) -> None:
    """Refuse to change a deleted run."""
    if GONE in run.tags:
        raise MlflowError(f"The run {to_hex(run.id)} must be in the 'active' state. Current state is deleted.")


def mark_deleted(desk: Desk, run_id: str, gone: bool) -> None:
    """Mark a run as deleted, or take the mark away."""

    def change(run: Run) -> Run:
        rest = {key: value for key, value in run.tags.items() if key != GONE}
        return replace(run, tags={**rest, GONE: str(round(time.time() * 1000))} if gone else rest)

    desk.store.update(Run, run_id, change, event="run.mlflow-deleted" if gone else "run.mlflow-restored")
