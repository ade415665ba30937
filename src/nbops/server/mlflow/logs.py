"""What clients log into a run: metrics, params, tags, inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from nbops.core.query import Both, Compare, Field, IsSet, Not
from nbops.core.records import Run, replace
from nbops.core.roles import Action
from nbops.server.mlflow import limits
from nbops.server.mlflow.desk import Desk, Point
from nbops.server.mlflow.errors import BAD, MlflowError, absent
from nbops.server.mlflow.ids import from_hex
from nbops.server.mlflow.limits import OWN
from nbops.server.mlflow.models import measure
from nbops.server.mlflow.runview import GONE, PARENT, RUN_NAME, extra, need_active, run_of, tags_of, typed, with_extra
from nbops.server.mlflow.table import route
from nbops.server.mlflow.wire import Args, Json, decoded, double_of, invalid, missing, whole_of

_LOGGED = "mlflow.log-model.history"
_NOTED = ("run_id", "artifact_path", "utc_time_created", "model_uuid", "flavors")


def _id_of_active(desk: Desk, args: Args) -> str:
    """Return our id of the run that is written to, without reading its record."""
    id = args.need("run_id", "run_uuid")
    ours = from_hex(id, Run.prefix)
    is_active = Both("and", (Compare(Field("id"), "==", ours), Not(IsSet(Field(GONE, "tags")))))
    if not desk.store.count(Run, is_active):
        run_of(desk, id, active=True)
        raise absent(f"Run with id={id} not found")
    return ours


def _change(desk: Desk, id: str, change: Callable[[Run], Run]) -> None:
    def safely(run: Run) -> Run:
        need_active(run)
        return change(run)

    desk.store.update(Run, id, safely)


def _point(fields: dict[str, Any], path: str = "") -> Point:
    name = fields.get("key") or fields.get("name")
    for field in ("value", "timestamp"):
        if fields.get(field) is None:
            raise missing(f"{path}{field}")
    if not name:
        raise missing(f"{path}key")
    if not isinstance(name, str):
        raise invalid(f"{path}key", name)
    value = double_of(f"{path}value", fields["value"])
    at = whole_of(f"{path}timestamp", fields["timestamp"])
    if at < 0:
        raise MlflowError(
            f"Invalid value {at} for parameter '{path}timestamp' supplied: metric '{name}' (value={value}). "
            "Timestamp must be a nonnegative long (64-bit integer) "
        )
    step = fields.get("step")
    return limits.key(name, f"{path}name"), 0 if step is None else whole_of(f"{path}step", step), at, value


def _add_params(run: Run, params: Sequence[tuple[str, str]], id: str) -> Run:
    fresh = {}
    for key, text in params:
        if key not in run.params:
            fresh[key] = typed(text)
        elif str(run.params[key]) != text:
            raise MlflowError(
                f"Changing param values is not allowed. Param with key='{key}' was already logged with "
                f"value='{run.params[key]}' for run ID='{id}'. Attempted logging new value '{text}'."
            )
    return replace(run, params={**run.params, **fresh}) if fresh else run


def _add_tags(run: Run, tags: Sequence[tuple[str, str]]) -> Run:
    found = dict(tags)
    name, parent = found.pop(RUN_NAME, ""), found.get(PARENT)
    if name:
        run = replace(run, name=name)
    if parent:
        run = replace(run, parent=from_hex(parent, Run.prefix))
    return replace(run, tags={**run.tags, **found})


def _measure_models(desk: Desk, run_id: str, metrics: Sequence[dict[str, Any]]) -> None:
    for id in dict.fromkeys(str(m["model_id"]) for m in metrics if m.get("model_id")):
        measure(desk, id, [{**m, "run_id": run_id} for m in metrics if m.get("model_id") == id])


@route("POST", "runs/log-batch", does=Action.RECORD)
def log_batch(desk: Desk, args: Args) -> Json:
    """Log metrics, params and tags; nothing is stored if one of them is refused."""
    id = args.need("run_id", "run_uuid")
    metrics, params, tags = args.several("metrics"), args.items("params"), args.items("tags")
    limits.batch(len(metrics), len(params), len(tags))
    for item in metrics:
        if not isinstance(item, dict):
            raise invalid("metrics", item)
    points = [_point(item, f"metrics[{i}].") for i, item in enumerate(metrics)]
    named = [
        (limits.key(item.need("key"), f"params[{i}].key"), item.text("value")[: limits.PARAM])
        for i, item in enumerate(params)
    ]
    limits.unique(key for key, _ in named)
    tagged = [
        (limits.key(item.need("key"), f"tags[{i}].key"), item.text("value")[: limits.TAG])
        for i, item in enumerate(tags)
    ]
    run_id = _id_of_active(desk, args)
    if named or tagged:
        _change(desk, run_id, lambda run: _add_tags(_add_params(run, named, id), tagged))
    if points:
        desk.log(run_id, points)
        _measure_models(desk, id, metrics)
    return {}


@route("POST", "runs/log-metric", does=Action.RECORD)
def log_metric(desk: Desk, args: Args) -> Json:
    """Log one point."""
    run_id = _id_of_active(desk, args)
    desk.log(run_id, [_point(dict(args.fields))])
    _measure_models(desk, args.need("run_id", "run_uuid"), [dict(args.fields)])
    return {}


@route("POST", "runs/log-parameter", does=Action.RECORD)
def log_param(desk: Desk, args: Args) -> Json:
    """Log one param; it cannot be changed afterwards."""
    id, key = args.need("run_id", "run_uuid"), limits.key(args.need("key"))
    value = args.text("value")[: limits.PARAM]
    run = run_of(desk, id, active=True)
    _change(desk, run.id, lambda run: _add_params(run, [(key, value)], id))
    return {}


@route("POST", "runs/set-tag", does=Action.RECORD)
def set_tag(desk: Desk, args: Args) -> Json:
    """Set a tag."""
    key = limits.key(args.need("key"))
    run = run_of(desk, args.need("run_id", "run_uuid"), active=True)
    _change(desk, run.id, lambda run: _add_tags(run, [(key, args.text("value")[: limits.TAG])]))
    return {}


@route("POST", "runs/delete-tag", does=Action.RECORD)
def delete_tag(desk: Desk, args: Args) -> Json:
    """Remove a tag."""
    id, key = args.need("run_id", "run_uuid"), args.need("key")
    run = run_of(desk, id, active=True)
    if key.startswith(OWN) or key not in tags_of(run):
        raise absent(f"No tag with name: {key} in run with id {id}")
    _change(desk, run.id, lambda run: replace(run, tags={k: v for k, v in run.tags.items() if k != key}))
    return {}


@route("POST", "runs/log-model", does=Action.RECORD)
def log_model(desk: Desk, args: Args) -> Json:
    """Note that a model was logged, as clients before version 3 do."""
    text = args.need("model_json")
    try:
        model = decoded(text)
    except ValueError as error:
        raise MlflowError(f"Malformed model info. \n {text} \n not valid JSON: {error}") from error
    lacking = {"artifact_path", "flavors", "utc_time_created", "run_id"} - set(model if isinstance(model, dict) else ())
    if lacking:
        raise MlflowError(f"Model json is missing mandatory fields: {lacking}")
    run = run_of(desk, args.need("run_id", "run_uuid"), active=True)
    noted = {field: model.get(field) for field in _NOTED}

    def add(run: Run) -> Run:
        models = [*_history(run), noted]
        return replace(run, tags={**run.tags, _LOGGED: msgspec.json.encode(models).decode()})

    _change(desk, run.id, add)
    return {}


def _history(run: Run) -> list[Any]:
    """Return what the tag of logged models says, nothing if somebody wrote something else into it."""
    try:
        found = decoded(run.tags.get(_LOGGED, "[]"))
    except ValueError:
        return []
    return found if isinstance(found, list) else []


@route("POST", "runs/log-inputs", does=Action.RECORD)
def log_inputs(desk: Desk, args: Args) -> Json:
    """Note datasets and models that a run uses; the same one twice is one."""
    run = run_of(desk, args.need("run_id", "run_uuid"), active=True)
    datasets = [_dataset(item) for item in args.items("datasets")]
    models = [{"model_id": item.need("model_id")} for item in args.items("models")]

    def add(run: Run) -> Run:
        return with_extra(
            run,
            datasets=_joined(extra(run).get("datasets", []), datasets),
            models_in=_joined(extra(run).get("models_in", []), models),
        )

    _change(desk, run.id, add)
    return {}


@route("POST", "runs/outputs", does=Action.RECORD)
def log_outputs(desk: Desk, args: Args) -> Json:
    """Note models that a run made."""
    run = run_of(desk, args.need("run_id", "run_uuid"), active=True)
    models = [{"model_id": item.need("model_id"), "step": item.whole("step", 0)} for item in args.items("models")]
    _change(desk, run.id, lambda run: with_extra(run, models_out=_joined(extra(run).get("models_out", []), models)))
    return {}


def _dataset(item: Args) -> Json:
    fields = item.raw("dataset")
    if not isinstance(fields, dict):
        raise MlflowError("Dataset cannot be None")
    dataset = {key: str(value) for key, value in fields.items() if value is not None}
    for key in ("name", "digest", "source_type", "source"):
        if key not in dataset:
            raise MlflowError(f"Dataset {key} cannot be None", BAD if key == "name" else "INVALID_PARAMETER_VALUE")
    for key, most in limits.DATASET.items():
        limits.length(dataset.get(key, ""), most, key)
    tags = [{"key": key, "value": value} for key, value in item.pairs("tags")]
    for tag in tags:
        for part, most in limits.DATASET_TAG.items():
            limits.length(tag[part], most, part)
    return {"dataset": dataset, "tags": tags}


def _joined(old: list[Json], new: list[Json]) -> list[Json]:
    return [*old, *(one for i, one in enumerate(new) if one not in old and one not in new[:i])]
