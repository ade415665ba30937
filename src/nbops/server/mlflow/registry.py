"""MLflow's registry: names of models, their tags and aliases."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from nbops.core.ids import new_id
from nbops.core.mlflow_records import RegisteredModel, RegisteredVersion
from nbops.core.query import Both, Compare, Field
from nbops.core.records import replace
from nbops.core.roles import Action
from nbops.server.mlflow import limits
from nbops.server.mlflow.desk import Desk
from nbops.server.mlflow.errors import EXISTS, MlflowError, absent
from nbops.server.mlflow.search import MODELS, Page, search
from nbops.server.mlflow.table import route
from nbops.server.mlflow.wire import Args, Json, millis, pairs_of

STAGES = ("None", "Staging", "Production", "Archived")
_COUNTER = "mlflow model "
_INT64_DIGITS = 19


def registered(desk: Desk, name: str) -> RegisteredModel:
    """Return the registered model of a name."""
    limits.model_name(name)
    found = _find(desk, name)
    if found is None:
        raise absent(f"Registered Model with name={name} not found")
    return found


def _find(desk: Desk, name: str) -> RegisteredModel | None:
    found = desk.store.find(RegisteredModel, Compare(Field("name"), "==", name))
    return next((one for one in found if one.name == name), None)


def versions_of(desk: Desk, model: RegisteredModel) -> list[RegisteredVersion]:
    """Return the versions of a model, the newest first."""
    found = desk.store.find(RegisteredVersion, Compare(Field("parent"), "==", model.id))
    return sorted(found, key=lambda one: -one.number)


def version_of(desk: Desk, name: str, number: str) -> tuple[RegisteredModel, RegisteredVersion]:
    """Return a registered model and one of its versions."""
    if not re.fullmatch("[0-9]+", number):
        raise MlflowError(f"Parameter 'version' must be an integer, got '{number}'.")
    limits.model_name(name)
    model = _find(desk, name)
    if model is not None and len(number) < _INT64_DIGITS:
        mine = (Compare(Field("parent"), "==", model.id), Compare(Field("number"), "==", int(number)))
        found = desk.store.find(RegisteredVersion, Both("and", mine))
        if found:
            return model, found[0]
    raise absent(f"Model Version (name={name}, version={number}) not found")


def next_version(desk: Desk, model: RegisteredModel) -> int:
    """Return a number that no version of this name ever had. Within a transaction: the counter orders the writers."""
    newest = max((one.number for one in versions_of(desk, model)), default=0)
    while (number := desk.store.next_number(_COUNTER + model.name)) <= newest:
        pass
    return number


def shown_version(model: RegisteredModel, version: RegisteredVersion) -> Json:
    """Return a version as clients read it."""
    return {
        "name": model.name,
        "version": str(version.number),
        "creation_timestamp": millis(version.created_at),
        "last_updated_timestamp": millis(version.updated_at),
        "current_stage": version.stage,
        "description": version.description,
        "source": version.source,
        "run_id": version.run,
        "status": version.status,
        "tags": pairs_of(version.tags),
        "run_link": version.run_link,
        "aliases": sorted(alias for alias, number in model.aliases.items() if number == version.number),
    } | ({"model_id": version.model} if version.model else {})


def latest(desk: Desk, model: RegisteredModel) -> list[RegisteredVersion]:
    """Return the newest version of each stage."""
    found: dict[str, RegisteredVersion] = {}
    for one in versions_of(desk, model):
        found.setdefault(one.stage, one)
    return list(found.values())


def shown(desk: Desk, model: RegisteredModel) -> Json:
    """Return a registered model as clients read it."""
    return {
        "name": model.name,
        "creation_timestamp": millis(model.created_at),
        "last_updated_timestamp": millis(model.updated_at),
        "latest_versions": [shown_version(model, one) for one in latest(desk, model)],
        "tags": pairs_of(model.tags),
        "aliases": [{"alias": alias, "version": str(number)} for alias, number in sorted(model.aliases.items())],
    } | ({"description": model.description} if model.description else {})


def change_model(desk: Desk, name: str, change: Callable[[RegisteredModel], RegisteredModel], *, event: str = "") -> (
    RegisteredModel
):  # fmt: skip
    """Change a registered model so that no other writer comes between."""
    id = registered(desk, name).id
    return desk.store.update(RegisteredModel, id, lambda one: replace(change(one), updated_at=time.time()), event=event)


def _tag(key: str, value: str) -> tuple[str, str]:
    return limits.key(key), limits.length(value, limits.REGISTRY_TAG, "value")


@route("POST", "registered-models/create", does=Action.REGISTER)
def create(desk: Desk, args: Args) -> Json:
    """Make a name."""
    name = limits.model_name(args.text("name"))
    tags = dict(_tag(key, value) for key, value in args.pairs("tags"))
    now = time.time()
    made = RegisteredModel(
        id=new_id(RegisteredModel.prefix),
        created_at=now,
        updated_at=now,
        name=name,
        description=args.text("description"),
        tags=tags,
    )
    with desk.store.transaction():
        desk.store.next_number("mlflow models")  # one writer at a time
        if _find(desk, name) is not None:
            raise MlflowError(f"Registered Model (name={name}) already exists.", EXISTS)
        desk.store.put(made)
    return {"registered_model": shown(desk, made)}


@route("GET", "registered-models/get", does=Action.READ)
def get(desk: Desk, args: Args) -> Json:
    """Return one registered model."""
    return {"registered_model": shown(desk, registered(desk, args.text("name")))}


@route("GET POST", "registered-models/search", does=Action.READ)
def find(desk: Desk, args: Args) -> Json:
    """Return a page of registered models."""
    page = Page.of(args, default=100, most=1000)
    found, token = search(desk.store, MODELS, (), args.text("filter"), args.texts("order_by"), page)
    answer: Json = {"registered_models": [shown(desk, one) for one in found]}
    return answer | {"next_page_token": token} if token else answer


@route("PATCH POST", "registered-models/update", does=Action.REGISTER)
def update(desk: Desk, args: Args) -> Json:
    """Describe a model."""
    changed = change_model(desk, args.text("name"), lambda one: replace(one, description=args.text("description")))
    return {"registered_model": shown(desk, changed)}


@route("POST PATCH", "registered-models/rename", does=Action.DELETE_MODEL)
def rename(desk: Desk, args: Args) -> Json:
    """Give a model, with all its versions, another name."""
    if not args.text("new_name"):
        raise MlflowError("Registered model name cannot be empty.")
    name = limits.model_name(args.text("new_name"))
    with desk.store.transaction():
        desk.store.next_number("mlflow models")
        model = registered(desk, args.text("name"))
        if _find(desk, name) is not None:
            raise MlflowError(f"Registered Model (name={name}) already exists.", EXISTS)
        given = desk.store.next_number(_COUNTER + model.name) - 1  # also to versions that were deleted
        changed = change_model(desk, model.name, lambda one: replace(one, name=name))
        for version in versions_of(desk, changed):
            desk.store.update(RegisteredVersion, version.id, lambda one: replace(one, name=name))
        while given and desk.store.next_number(_COUNTER + name) < given:
            pass
    return {"registered_model": shown(desk, changed)}


@route("DELETE POST", "registered-models/delete", does=Action.DELETE_MODEL)
def delete(desk: Desk, args: Args) -> Json:
    """Delete a model with all its versions; their numbers are not given again."""
    with desk.store.transaction():
        model = registered(desk, args.text("name"))
        for version in versions_of(desk, model):
            desk.store.delete(RegisteredVersion, version.id)
        desk.store.delete(RegisteredModel, model.id)
    return {}


@route("POST GET", "registered-models/get-latest-versions", does=Action.READ)
def latest_versions(desk: Desk, args: Args) -> Json:
    """Return the newest version of each stage that is asked for."""
    model = registered(desk, args.text("name"))
    stages = [stage_of(text) for text in args.texts("stages")]
    found = [one for one in latest(desk, model) if not stages or one.stage in stages]
    return {"model_versions": [shown_version(model, one) for one in found]}


def stage_of(text: str) -> str:
    """Return the stage that a text names, whatever its case."""
    for stage in STAGES:
        if text.lower() == stage.lower():
            return stage
    raise MlflowError(f"Invalid Model Version stage: {text}. Value must be one of {', '.join(STAGES)}.")


@route("POST", "registered-models/set-tag", does=Action.REGISTER)
def set_tag(desk: Desk, args: Args) -> Json:
    """Set a tag."""
    key, value = _tag(args.need("key"), args.text("value"))
    change_model(desk, args.text("name"), lambda one: replace(one, tags={**one.tags, key: value}))
    return {}


@route("DELETE POST", "registered-models/delete-tag", does=Action.REGISTER)
def delete_tag(desk: Desk, args: Args) -> Json:
    """Remove a tag; nothing happens if it is not there."""
    key = args.need("key")
    change_model(
        desk, args.text("name"), lambda one: replace(one, tags={k: v for k, v in one.tags.items() if k != key})
    )
    return {}


@route("POST", "registered-models/alias", does=Action.PROMOTE)
def set_alias(desk: Desk, args: Args) -> Json:
    """Point an alias at a version; every setting stays in the workspace's events."""
    alias = limits.alias(args.text("alias"))
    model, version = version_of(desk, args.text("name"), args.need("version"))
    with desk.store.transaction():
        change_model(desk, model.name, lambda one: replace(one, aliases={**one.aliases, alias: version.number}))
        desk.store.emit("mlflow-model.alias-set", model.id, {"alias": alias, "version": version.number})
    return {}


@route("DELETE", "registered-models/alias", does=Action.PROMOTE)
def delete_alias(desk: Desk, args: Args) -> Json:
    """Remove an alias; nothing happens if it is not there."""
    alias = limits.alias(args.text("alias"))
    with desk.store.transaction():
        changed = change_model(
            desk,
            args.text("name"),
            lambda one: replace(one, aliases={k: v for k, v in one.aliases.items() if k != alias}),
        )
        desk.store.emit("mlflow-model.alias-deleted", changed.id, {"alias": alias})
    return {}


@route("GET", "registered-models/alias", does=Action.READ)
def get_alias(desk: Desk, args: Args) -> Json:
    """Return the version that an alias points at."""
    alias = limits.alias(args.text("alias"))
    model = registered(desk, args.text("name"))
    if alias not in model.aliases:
        raise MlflowError(f"Registered model alias {alias} not found.")
    _, version = version_of(desk, model.name, str(model.aliases[alias]))
    return {"model_version": shown_version(model, version)}
