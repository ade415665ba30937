"""Runs: create, get, update, search, delete and restore."""

from __future__ import annotations

import secrets
import time
from typing import Any

from nbops.core.ids import new_id
from nbops.core.query import Field, IsSet, Node, Not, Order
from nbops.core.records import Run, RunStatus, replace, resumed
from nbops.core.roles import Action
from nbops.server.mlflow import limits
from nbops.server.mlflow.desk import NEWEST, Desk
from nbops.server.mlflow.errors import MlflowError
from nbops.server.mlflow.experiments import VIEWS, artifact_root, ensure_default, experiment_of
from nbops.server.mlflow.ids import from_hex, to_hex
from nbops.server.mlflow.runview import (
    EXPERIMENT,
    GONE,
    PARENT,
    RUN_NAME,
    STATUS,
    TO_OURS,
    artifact_uri,
    extra,
    info,
    mark_deleted,
    need_active,
    run_of,
    runs_of,
    shown,
    status_of,
    tags_of,
    typed,
    with_extra,
)
from nbops.server.mlflow.search import Column, Page, Searchable, search
from nbops.server.mlflow.table import route
from nbops.server.mlflow.wire import Args, Json

_FIRST = (
    "able bold brave calm clean clever eager fair fast fine fond glad gentle kind lively loud merry neat proud quick"
)
_SECOND = "auk bat bee cat crow deer dove duck elk finch fox gnu hare hawk ibis jay koi lark mole newt owl pug ram seal"
_MOST_SERIES = 2000  # more of them on one page are not searched for their newest point
_SPACES = {
    "metric": "metrics", "metrics": "metrics",
    "param": "params", "params": "params", "parameter": "params", "parameters": "params",
    "tag": "tags", "tags": "tags",
    "attribute": "", "attributes": "", "attr": "", "run": "",
    "dataset": "datasets", "datasets": "datasets",
}  # fmt: skip


def _statuses(word: str) -> tuple[str, ...]:
    if word == "KILLED":
        return (RunStatus.INTERRUPTED.value, RunStatus.SUPERSEDED.value)
    return (TO_OURS[word].value,) if word in TO_OURS else ()


def _lookup(run: Run, space: str, key: str) -> Any:
    if space == "tags":
        return tags_of(run).get(key)
    if space == "params":
        return str(run.params[key]) if key in run.params else None
    if space == "metrics":
        return run.metrics.get(key)
    if key not in ("name", "digest", "context"):
        raise MlflowError(f"Invalid dataset key '{key}' specified. Valid keys are ['name', 'digest', 'context']")
    used = extra(run).get("datasets", [])
    if key != "context":
        return [one["dataset"].get(key) for one in used]
    return [tag["value"] for one in used for tag in one.get("tags", []) if tag["key"] == "mlflow.data.context"]


_STATUS = Column(status_of, "status", convert=_statuses, recheck=("RUNNING", "SCHEDULED"))
_NAME = Column(lambda run: run.name, "name")
_START = Column(lambda run: run.created_at, "created_at", 1000.0, True)
RUNS = Searchable(
    Run,
    {
        "run_id": Column(lambda run: to_hex(run.id), "id", convert=lambda text: from_hex(text, Run.prefix)),
        "run_name": _NAME,
        "Run name": _NAME,
        "Run Name": _NAME,
        "run name": _NAME,
        "user_id": Column(lambda run: extra(run).get("user_id", "")),
        "status": _STATUS,
        "start_time": _START,
        "created": _START,
        "Created": _START,
        "end_time": Column(lambda run: run.ended_at, "ended_at", 1000.0, True),
        "artifact_uri": Column(artifact_uri),
    },
    _SPACES,
    (Order(Field("created_at"), descending=True), Order(Field("id"))),
    lookup=_lookup,
    values=lambda space, value: _typed(value) if space == "params" else value,
    fields={("tags", RUN_NAME): "name"},
)


def _typed(value: Any) -> Any:
    return tuple(typed(item) for item in value) if isinstance(value, tuple) else typed(value) if value else value


def random_name() -> str:
    """Return a name for a run that was given none."""
    return f"{secrets.choice(_FIRST.split())}-{secrets.choice(_SECOND.split())}-{secrets.randbelow(1000)}"


@route("POST", "runs/create", does=Action.RECORD)
def create(desk: Desk, args: Args) -> Json:
    """Open a run."""
    experiment = experiment_of(desk, args.text("experiment_id", "0") or "0", active=True)
    tags = {limits.key(k): v[: limits.TAG] for k, v in args.pairs("tags")}
    name, tagged = args.text("run_name"), tags.pop(RUN_NAME, "")
    if name and tagged and name != tagged:
        raise MlflowError(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values "
            f"(run_name='{name}', mlflow.runName='{tagged}')."
        )
    id, parent = new_id(Run.prefix), None
    if PARENT in tags:
        parent = run_of(desk, tags[PARENT]).id
    started = args.whole("start_time", 0)
    mine: Json = {"user_id": args.text("user_id")}
    if experiment.artifact_location:
        mine["artifact_uri"] = artifact_root(experiment, to_hex(id))
    run = Run(
        id=id,
        created_at=started / 1000 if started > 0 else time.time(),
        name=name or tagged or random_name(),
        type="mlflow",
        parent=parent,
        tags={**tags, EXPERIMENT: experiment.number},
        context={"mlflow": mine},
    )
    with desk.store.transaction():
        desk.store.put(run)
        if parent:
            desk.store.link(parent, "parent_of", run.id)
    desk.opened(run.id)
    return {"run": shown(desk, run)}


@route("GET", "runs/get", does=Action.READ)
def get(desk: Desk, args: Args) -> Json:
    """Return one run."""
    id = args.need("run_id", "run_uuid")
    desk.flush()
    return {"run": shown(desk, run_of(desk, id))}


@route("POST", "runs/update", does=Action.RECORD)
def update(desk: Desk, args: Args) -> Json:
    """End a run, open it again, or rename it."""
    run = run_of(desk, args.need("run_id", "run_uuid"), active=True)
    status = args.choice("status", STATUS, "") if args.has("status") else ""
    ended = args.whole("end_time", 0)
    name = args.text("run_name")
    now = time.time()

    def change(old: Run) -> Run:
        need_active(old)
        if name:
            old = replace(old, name=name)
        if ended:
            old = replace(old, ended_at=ended / 1000)
        if not status:
            return old
        new = TO_OURS[status]
        if new is RunStatus.RUNNING:
            goes_on = old.status is RunStatus.RUNNING
            again = replace(old if goes_on else resumed(old, at=now), status=new, ended_at=None)
            return with_extra(again, scheduled=True) if status == "SCHEDULED" else _not_scheduled(again)
        old = replace(old, status=new, ended_at=old.ended_at or now)
        return with_extra(_not_scheduled(old), **{NEWEST: noted})

    noted = desk.ended(run.id) if status in ("FINISHED", "FAILED", "KILLED") else {}
    if status in ("RUNNING", "SCHEDULED"):
        desk.flush()  # a run that goes on begins new segments where its points end
        desk.goes_on(run.id)
    changed = desk.store.update(Run, run.id, change)
    if changed.ended_at is not None:
        desk.forget(run.id)
    return {"run_info": info(changed)}


def _not_scheduled(run: Run) -> Run:
    return with_extra(run, scheduled=False) if extra(run).get("scheduled") else run


@route("POST", "runs/delete", does=Action.TRASH)
def delete(desk: Desk, args: Args) -> Json:
    """Mark a run as deleted; nothing is lost."""
    mark_deleted(desk, run_of(desk, args.need("run_id", "run_uuid")).id, True)
    return {}


@route("POST", "runs/restore", does=Action.TRASH)
def restore(desk: Desk, args: Args) -> Json:
    """Take the mark away."""
    mark_deleted(desk, run_of(desk, args.need("run_id", "run_uuid")).id, False)
    return {}


@route("POST GET", "runs/search", does=Action.READ)
def find(desk: Desk, args: Args) -> Json:
    """Return a page of runs."""
    desk.flush()
    ensure_default(desk)
    view = args.choice("run_view_type", VIEWS, "ACTIVE_ONLY")
    numbers = args.texts("experiment_ids") or ([args.text("experiment_id")] if args.text("experiment_id") else [])
    if not numbers:
        return {"runs": []}
    base: list[Node] = [runs_of(numbers)]
    gone = IsSet(Field(GONE, "tags"))
    views: dict[str, list[Node]] = {"ACTIVE_ONLY": [Not(gone)], "DELETED_ONLY": [gone]}
    base += views.get(view, [])
    page = Page.of(args, default=1000, most=50_000)
    found, token = search(desk.store, RUNS, base, args.text("filter"), args.texts("order_by"), page)
    is_exact = sum(len(run.summary) for run in found) <= _MOST_SERIES
    answer: Json = {"runs": [shown(desk, run, is_exact=is_exact) for run in found]}
    return answer | {"next_page_token": token} if token else answer
