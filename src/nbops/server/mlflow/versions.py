"""MLflow's registry: versions of models, their stages and tags."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from nbops.core.ids import new_id
from nbops.core.mlflow_records import LoggedModel, RegisteredModel, RegisteredVersion
from nbops.core.records import replace
from nbops.core.roles import Action
from nbops.server.mlflow import limits
from nbops.server.mlflow.desk import Desk
from nbops.server.mlflow.errors import MlflowError
from nbops.server.mlflow.ids import to_hex
from nbops.server.mlflow.models import model_of, model_root
from nbops.server.mlflow.registry import (
    change_model,
    next_version,
    registered,
    shown_version,
    stage_of,
    version_of,
    versions_of,
)
from nbops.server.mlflow.runview import artifact_uri, run_of
from nbops.server.mlflow.search import VERSIONS, Page, search
from nbops.server.mlflow.table import route
from nbops.server.mlflow.wire import Args, Json

_OF_LOGGED = re.compile(r"models:/(m-[0-9a-f]{32})")
_OF_RUN = re.compile(r"runs:/([^/]+)/(.+)")


@route("POST", "model-versions/create", does=Action.REGISTER)
def create(desk: Desk, args: Args) -> Json:
    """Register a version; it is ready at once and its number is never given again."""
    name, source = limits.model_name(args.text("name")), args.need("source")
    tags = {limits.key(key): limits.length(value, limits.REGISTRY_TAG, "value") for key, value in args.pairs("tags")}
    match = _OF_LOGGED.fullmatch(source)
    logged_id = args.text("model_id") or (match[1] if match else "")
    logged = model_of(desk, logged_id) if logged_id else None
    run_id = args.text("run_id") or (to_hex(logged.parent) if logged and logged.parent else "")
    run = run_of(desk, run_id) if run_id else None
    _check_source(source)
    model = registered(desk, name)
    with desk.store.transaction():
        number = next_version(desk, model)
        now = time.time()
        made = RegisteredVersion(
            id=new_id(RegisteredVersion.prefix),
            created_at=now,
            updated_at=now,
            name=name,
            number=number,
            parent=model.id,
            description=args.text("description"),
            source=source,
            run=run_id,
            run_link=args.text("run_link"),
            model=logged_id,
            tags=tags,
        )
        desk.store.put(made)
        for origin in (run, logged):
            if origin is not None:
                desk.store.link(origin.id, "produced", made.id)
        changed = change_model(desk, name, lambda one: one)
        if logged is not None:
            entry = {"name": name, "version": str(number)}
            desk.store.update(
                LoggedModel, logged.id, lambda one: replace(one, registrations=[*one.registrations, entry])
            )
    return {"model_version": shown_version(changed, made)}


def _check_source(source: str) -> None:
    """Refuse a source that leads out of where it says it is."""
    path = re.sub(r"^[A-Za-z][\w+.-]*:", "", source)
    if ".." in re.split(r"[/\\]|%2[fF]|%5[cC]", path.replace("%2e", ".").replace("%2E", ".")):
        raise MlflowError(f"Invalid model version source: '{source}'. It must not lead upwards.")


def _change(desk: Desk, args: Args, change: Callable[[RegisteredVersion], RegisteredVersion]) -> Json:
    model, version = version_of(desk, args.text("name"), args.need("version"))
    with desk.store.transaction():
        changed = desk.store.update(
            RegisteredVersion, version.id, lambda one: replace(change(one), updated_at=time.time())
        )
        model = change_model(desk, model.name, lambda one: one)
    return {"model_version": shown_version(model, changed)}


@route("GET", "model-versions/get", does=Action.READ)
def get(desk: Desk, args: Args) -> Json:
    """Return one version."""
    model, version = version_of(desk, args.text("name"), args.need("version"))
    return {"model_version": shown_version(model, version)}


@route("GET POST", "model-versions/search", does=Action.READ)
def find(desk: Desk, args: Args) -> Json:
    """Return a page of versions."""
    page = Page.of(args, default=10_000, most=200_000)
    found, token = search(desk.store, VERSIONS, (), args.text("filter"), args.texts("order_by"), page)
    models = {id: desk.store.get(RegisteredModel, id) for id in {one.parent for one in found}}
    answer: Json = {"model_versions": [shown_version(models[one.parent], one) for one in found]}
    return answer | {"next_page_token": token} if token else answer


@route("PATCH POST", "model-versions/update", does=Action.REGISTER)
def update(desk: Desk, args: Args) -> Json:
    """Describe a version."""
    return _change(desk, args, lambda one: replace(one, description=args.text("description")))


@route("DELETE POST", "model-versions/delete", does=Action.DELETE_MODEL)
def delete(desk: Desk, args: Args) -> Json:
    """Delete a version, with the aliases that point at it."""
    model, version = version_of(desk, args.text("name"), args.need("version"))
    with desk.store.transaction():
        desk.store.delete(RegisteredVersion, version.id)
        change_model(
            desk,
            model.name,
            lambda one: replace(one, aliases={k: n for k, n in one.aliases.items() if n != version.number}),
        )
    return {}


@route("GET", "model-versions/get-download-uri", does=Action.READ)
def download_uri(desk: Desk, args: Args) -> Json:
    """Return where a version's files are."""
    _, version = version_of(desk, args.text("name"), args.need("version"))
    return {"artifact_uri": _files_of(desk, version)}


def _files_of(desk: Desk, version: RegisteredVersion) -> str:
    of_logged, of_run = _OF_LOGGED.fullmatch(version.source), _OF_RUN.fullmatch(version.source)
    if of_logged:
        return model_root(desk, model_of(desk, of_logged[1]))
    if of_run:
        return f"{artifact_uri(run_of(desk, of_run[1]))}/{of_run[2]}"
    return version.source


@route("POST", "model-versions/transition-stage", does=Action.PROMOTE)
def transition(desk: Desk, args: Args) -> Json:
    """Put a version into a stage, and archive those that were in it if that is wished."""
    stage = stage_of(args.need("stage"))
    archive = args.raw("archive_existing_versions") in (True, "true", "True")
    if archive and stage not in ("Staging", "Production"):
        raise MlflowError(
            f"Model version transition cannot archive existing model versions because '{stage}' is not an Active "
            "stage. Valid stages are Staging, Production"
        )
    model, version = version_of(desk, args.text("name"), args.need("version"))
    if archive:
        now = time.time()
        with desk.store.transaction():
            for other in versions_of(desk, model):
                if other.stage == stage and other.id != version.id:
                    desk.store.update(
                        RegisteredVersion, other.id, lambda one: replace(one, stage="Archived", updated_at=now)
                    )
    return _change(desk, args, lambda one: replace(one, stage=stage))


@route("POST", "model-versions/set-tag", does=Action.REGISTER)
def set_tag(desk: Desk, args: Args) -> Json:
    """Set a tag."""
    key = limits.key(args.need("key"))
    value = limits.length(args.text("value"), limits.REGISTRY_TAG, "value")
    _change(desk, args, lambda one: replace(one, tags={**one.tags, key: value}))
    return {}


@route("DELETE POST", "model-versions/delete-tag", does=Action.REGISTER)
def delete_tag(desk: Desk, args: Args) -> Json:
    """Remove a tag; nothing happens if it is not there."""
    key = args.need("key")
    _change(desk, args, lambda one: replace(one, tags={k: v for k, v in one.tags.items() if k != key}))
    return {}
