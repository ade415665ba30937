"""Logged models (MLflow 3): a record each, whose files are artifacts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from nbops.core.errors import NotFound
from nbops.core.ids import new_id
from nbops.core.mlflow_records import LoggedModel
from nbops.core.query import Compare, Field, IsSet, Node, Not
from nbops.core.records import replace
from nbops.core.roles import Action
from nbops.server.mlflow import limits
from nbops.server.mlflow.desk import Desk
from nbops.server.mlflow.errors import MlflowError, absent
from nbops.server.mlflow.experiments import artifact_root, experiment_of
from nbops.server.mlflow.guarding import guard
from nbops.server.mlflow.ids import from_hex, model_id, to_hex
from nbops.server.mlflow.runview import run_of
from nbops.server.mlflow.search import LOGGED, Page, search
from nbops.server.mlflow.table import route
from nbops.server.mlflow.wire import Args, Json, double, double_of, millis, pairs_of

STATUS = {
    0: "LOGGED_MODEL_STATUS_UNSPECIFIED",
    1: "LOGGED_MODEL_PENDING",
    2: "LOGGED_MODEL_READY",
    3: "LOGGED_MODEL_UPLOAD_FAILED",
}
_DELETED = f"{limits.OWN}deleted"


def model_of(desk: Desk, id: str, *, deleted: bool = False) -> LoggedModel:
    """Return the logged model with MLflow's id ``m-…``; one that was deleted is absent unless `deleted` is wished."""
    try:
        found = desk.store.get(LoggedModel, from_hex(id.removeprefix("m-"), LoggedModel.prefix))
    except NotFound:
        raise absent(f"Logged model with ID '{id}' not found.") from None
    if _DELETED in found.tags and not deleted:
        raise absent(f"Logged model with ID '{id}' not found.")
    return found


def model_root(desk: Desk, model: LoggedModel) -> str:
    """Return where clients find the model's files."""
    return artifact_root(experiment_of(desk, model.experiment), "models", model_id(model.id))


def _newest(measured: Sequence[Json], *by: str) -> list[Json]:
    """Return the newest of those that agree in the fields `by`."""
    newest: dict[tuple[Any, ...], Json] = {}
    for one in measured:
        mark = tuple(one.get(name) for name in by)
        known = newest.get(mark)
        if known is None or (one["step"], one["timestamp"]) >= (known["step"], known["timestamp"]):
            newest[mark] = one
    return list(newest.values())


def shown(desk: Desk, model: LoggedModel) -> Json:
    """Return a logged model as clients read it."""
    id = model_id(model.id)
    info = {
        "model_id": id,
        "experiment_id": model.experiment,
        "name": model.name,
        "creation_timestamp_ms": millis(model.created_at),
        "last_updated_timestamp_ms": millis(model.updated_at),
        "artifact_uri": model_root(desk, model),
        "status": model.status,
        "model_type": model.type,
        "source_run_id": to_hex(model.parent) if model.parent else "",
        "tags": pairs_of({**_versions_of(model), **{k: v for k, v in model.tags.items() if not limits.is_own(k)}}),
    }
    metrics = [{**one, "value": double(one["value"]), "model_id": id} for one in model.measured]
    return {"info": info, "data": {"params": pairs_of(model.params), "metrics": metrics}}


def _versions_of(model: LoggedModel) -> dict[str, str]:
    """Return the tag in which clients find the versions that were made of the model."""
    versions = [{"name": one["name"], "version": int(one["version"])} for one in model.registrations]
    return {"mlflow.modelVersions": json.dumps(versions)} if versions else {}


def _change(desk: Desk, args: Args, change: Callable[[LoggedModel], LoggedModel]) -> LoggedModel:
    id = model_of(desk, args.need("model_id")).id
    return desk.store.update(LoggedModel, id, lambda model: replace(change(model), updated_at=time.time()))


def measure(desk: Desk, id: str, metrics: Sequence[dict[str, Any]]) -> None:
    """Note metrics that were logged for a model: of each run and dataset the newest of each metric."""
    names = ("run_id", "dataset_name", "dataset_digest")
    fresh = [
        {
            "key": str(m.get("key")),
            "value": double_of("value", m.get("value")),
            "timestamp": int(m.get("timestamp") or 0),
            "step": int(m.get("step") or 0),
            **{name: str(m[name]) for name in names if m.get(name)},
        }
        for m in metrics
    ]

    def add(model: LoggedModel) -> LoggedModel:
        measured = _newest([*model.measured, *fresh], "key", *names)
        return replace(model, measured=measured, metrics={m["key"]: m["value"] for m in _newest(measured, "key")})

    _change(desk, Args({"model_id": id}), add)


@route("POST", "logged-models", does=Action.RECORD)
def create(desk: Desk, args: Args) -> Json:
    """Make a logged model, whose files will follow."""
    experiment = experiment_of(desk, args.need("experiment_id"), active=True)
    source = args.text("source_run_id")
    run = run_of(desk, source) if source else None
    id, now = new_id(LoggedModel.prefix), time.time()
    made = LoggedModel(
        id=id,
        created_at=now,
        updated_at=now,
        name=args.text("name") or f"model-{to_hex(id)[-8:]}",
        experiment=experiment.number,
        parent=run.id if run else None,
        type=args.text("model_type"),
        params={limits.key(k): limits.length(v, limits.PARAM, "value") for k, v in args.pairs("params")},
        tags={limits.key(k): limits.length(v, limits.TAG, "value") for k, v in args.pairs("tags")},
    )
    if any(letter in made.name for letter in "/:.%\"'"):
        raise MlflowError(
            f"Invalid model name ({made.name!r}) provided. Model name must be a non-empty string "
            "and cannot contain the following characters: ('/', ':', '.', '%', '\"', \"'\")"
        )
    with desk.store.transaction():
        desk.store.put(made)
        if run:
            desk.store.link(run.id, "produced", made.id)
    return {"model": shown(desk, made)}


@route("GET", "logged-models/{model_id}", does=Action.READ)
def get(desk: Desk, args: Args) -> Json:
    """Return one logged model."""
    return {"model": shown(desk, model_of(desk, args.need("model_id")))}


@route("PATCH", "logged-models/{model_id}", does=Action.RECORD)
def finish(desk: Desk, args: Args) -> Json:
    """Say that a model's files are there, or that the upload failed."""
    status = args.choice("status", STATUS, "LOGGED_MODEL_READY")
    return {"model": shown(desk, _change(desk, args, lambda model: replace(model, status=status)))}


@route("DELETE", "logged-models/{model_id}", does=Action.TRASH)
def delete(desk: Desk, args: Args) -> Json:
    """Mark a logged model as deleted; nothing happens if it is."""
    id = model_of(desk, args.need("model_id"), deleted=True).id
    guard(desk, id)
    at = str(millis(time.time()))
    desk.store.update(LoggedModel, id, lambda model: replace(model, tags={_DELETED: at, **model.tags}))
    return {}


@route("PATCH", "logged-models/{model_id}/tags", does=Action.RECORD)
def set_tags(desk: Desk, args: Args) -> Json:
    """Set tags."""
    tags = {limits.key(k): limits.length(v, limits.TAG, "value") for k, v in args.pairs("tags")}
    _change(desk, args, lambda model: replace(model, tags={**model.tags, **tags}))
    return {}


@route("DELETE", "logged-models/{model_id}/tags/{tag_key}", does=Action.RECORD)
def delete_tag(desk: Desk, args: Args) -> Json:
    """Remove a tag."""
    key = args.need("tag_key")
    if key not in model_of(desk, args.need("model_id")).tags or key.startswith(limits.OWN):
        raise absent(f"No tag with key {key!r} found for model with ID {args.need('model_id')!r}.")
    _change(desk, args, lambda model: replace(model, tags={k: v for k, v in model.tags.items() if k != key}))
    return {}


@route("POST", "logged-models/{model_id}/params", does=Action.RECORD)
def log_params(desk: Desk, args: Args) -> Json:
    """Add params."""
    params = {limits.key(k): limits.length(v, limits.PARAM, "value") for k, v in args.pairs("params")}
    _change(desk, args, lambda model: replace(model, params={**model.params, **params}))
    return {}


@route("POST", "logged-models/search", does=Action.READ)
def find(desk: Desk, args: Args) -> Json:
    """Return a page of logged models."""
    numbers = args.texts("experiment_ids")
    if not numbers:
        raise MlflowError("`experiment_ids` must be a non-empty list.")
    base: list[Node] = [Compare(Field("experiment"), "in", tuple(numbers)), _not_deleted()]
    order = []
    for item in args.items("order_by"):
        field = item.need("field_name")
        order.append(f"{field} {'ASC' if item.raw('ascending') is not False else 'DESC'}")
    found, token = search(desk.store, LOGGED, base, args.text("filter"), order, Page.of(args, default=100, most=50_000))
    answer: Json = {"models": [shown(desk, model) for model in found]}
    return answer | {"next_page_token": token} if token else answer


def _not_deleted() -> Node:
    """Return the query for what was not deleted."""
    return Not(IsSet(Field(_DELETED, "tags")))
