"""Experiments: create, get, search, rename, tag, delete and restore."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from nbops.core.errors import NotFound
from nbops.core.mlflow_records import ACTIVE, DELETED, Experiment
from nbops.core.query import Compare, Field
from nbops.core.records import Run, replace
from nbops.core.roles import Action
from nbops.server.mlflow import limits
from nbops.server.mlflow.desk import Desk
from nbops.server.mlflow.errors import EXISTS, MlflowError, absent
from nbops.server.mlflow.runview import mark_deleted, runs_of
from nbops.server.mlflow.search import EXPERIMENTS, Page, search
from nbops.server.mlflow.table import route
from nbops.server.mlflow.wire import Args, Json, millis, pairs_of

DEFAULT = "exp_0"
VIEWS = {1: "ACTIVE_ONLY", 2: "DELETED_ONLY", 3: "ALL"}
_COUNTER = "mlflow experiment"


def ensure_default(desk: Desk) -> None:
    """Make the experiment 0, which always exists."""
    try:
        desk.store.get(Experiment, DEFAULT)
    except NotFound:
        now = time.time()
        desk.store.put(Experiment(id=DEFAULT, created_at=now, updated_at=now, name="Default"))


def experiment_of(desk: Desk, number: str, *, active: bool = False) -> Experiment:
    """Return the experiment with MLflow's id `number`.

    Raises
    ------
    MlflowError
        There is none, or it was deleted and `active` is wished.
    """
    if not re.fullmatch(r"[0-9]{1,18}", number):
        raise MlflowError(f"Invalid experiment ID '{number}'. Experiment ID must be a valid integer.")
    if number == "0":
        ensure_default(desk)
    try:
        found = desk.store.get(Experiment, f"exp_{number}")
    except NotFound:
        raise absent(f"No Experiment with id={number} exists") from None
    if active and found.status != ACTIVE:
        raise MlflowError(f"The experiment {number} must be in the 'active' state. Current state is {found.status}.")
    return found


def shown(experiment: Experiment) -> Json:
    """Return an experiment as MLflow's clients read it."""
    return {
        "experiment_id": experiment.number,
        "name": experiment.name,
        "artifact_location": experiment.artifact_location or f"mlflow-artifacts:/{experiment.number}",
        "lifecycle_stage": experiment.status,
        "creation_time": millis(experiment.created_at),
        "last_update_time": millis(experiment.updated_at or experiment.created_at),
        "tags": pairs_of(experiment.tags),
    }


def _named(desk: Desk, name: str) -> Experiment | None:
    found = desk.store.find(Experiment, Compare(Field("name"), "==", name))
    return next((one for one in found if one.name == name), None)


@route("POST", "experiments/create", does=Action.RECORD)
def create(desk: Desk, args: Args) -> Json:
    """Make an experiment; a name is given once."""
    name = args.text("name")
    if not name:
        raise MlflowError(f"Invalid experiment name: '{name}'")
    limits.length(name, limits.EXPERIMENT_NAME, "name")
    location = args.text("artifact_location")
    if location.startswith("runs:"):
        raise MlflowError(f"Artifact location cannot be a runs:/ URI. Given: '{location}'")
    tags = {limits.key(key): limits.length(value, limits.EXPERIMENT_TAG, "value") for key, value in args.pairs("tags")}
    ensure_default(desk)
    with desk.store.transaction():
        number = desk.store.next_number(_COUNTER)  # first: from here on one writer at a time
        if _named(desk, name) is not None:
            raise MlflowError(f"Experiment(name={name}) already exists.", EXISTS)
        now = time.time()
        desk.store.put(
            Experiment(
                id=f"exp_{number}",
                created_at=now,
                updated_at=now,
                name=name,
                tags=tags,
                artifact_location=location.rstrip("/"),
            )
        )
    return {"experiment_id": str(number)}


@route("GET", "experiments/get", does=Action.READ)
def get(desk: Desk, args: Args) -> Json:
    """Return one experiment, also a deleted one."""
    return {"experiment": shown(experiment_of(desk, args.need("experiment_id")))}


@route("GET", "experiments/get-by-name", does=Action.READ)
def get_by_name(desk: Desk, args: Args) -> Json:
    """Return the experiment of a name; absence is how clients decide to make it."""
    name = args.need("experiment_name")
    ensure_default(desk)
    found = _named(desk, name)
    if found is None:
        raise absent(f"Could not find experiment with name '{name}'")
    return {"experiment": shown(found)}


@route("GET POST", "experiments/search", does=Action.READ)
def find(desk: Desk, args: Args) -> Json:
    """Return a page of experiments."""
    ensure_default(desk)
    view = args.choice("view_type", VIEWS, "ACTIVE_ONLY")
    stage = {"ACTIVE_ONLY": ACTIVE, "DELETED_ONLY": DELETED}.get(view)
    base = () if stage is None else (Compare(Field("status"), "==", stage),)
    page = Page.of(args, default=1000, most=50_000)
    found, token = search(desk.store, EXPERIMENTS, base, args.text("filter"), args.texts("order_by"), page)
    return _with_token({"experiments": [shown(one) for one in found]}, token)


def _with_token(answer: Json, token: str) -> Json:
    return answer | {"next_page_token": token} if token else answer


def _change(desk: Desk, args: Args, change: Callable[[Experiment], Experiment]) -> Json:
    found = experiment_of(desk, args.need("experiment_id"))
    desk.store.update(Experiment, found.id, lambda one: replace(change(one), updated_at=time.time()))
    return {}


@route("POST", "experiments/update", does=Action.RECORD)
def update(desk: Desk, args: Args) -> Json:
    """Rename an experiment."""
    name = limits.length(args.need("new_name"), limits.EXPERIMENT_NAME, "name")
    with desk.store.transaction():
        desk.store.next_number(f"{_COUNTER} renamed")  # one writer at a time
        experiment_of(desk, args.need("experiment_id"), active=True)
        taken = _named(desk, name)
        if taken is not None and taken.number != args.need("experiment_id"):
            raise MlflowError(f"Experiment(name={name}) already exists.", EXISTS)
        return _change(desk, args, lambda one: replace(one, name=name))


@route("POST", "experiments/set-experiment-tag", does=Action.RECORD)
def set_tag(desk: Desk, args: Args) -> Json:
    """Set a tag."""
    key = limits.key(args.need("key"))
    value = limits.length(args.text("value"), limits.EXPERIMENT_TAG, "value")
    experiment_of(desk, args.need("experiment_id"), active=True)
    return _change(desk, args, lambda one: replace(one, tags={**one.tags, key: value}))


@route("POST", "experiments/delete-experiment-tag", does=Action.RECORD)
def delete_tag(desk: Desk, args: Args) -> Json:
    """Remove a tag."""
    key = args.need("key")
    experiment = experiment_of(desk, args.need("experiment_id"), active=True)
    if key not in experiment.tags:
        raise absent(f"No tag with name: {key} in experiment with id {experiment.number}")
    return _change(desk, args, lambda one: replace(one, tags={k: v for k, v in one.tags.items() if k != key}))


@route("POST", "experiments/delete", does=Action.TRASH)
def delete(desk: Desk, args: Args) -> Json:
    """Mark an experiment and its runs as deleted; nothing is lost."""
    experiment = experiment_of(desk, args.need("experiment_id"))
    if experiment.status == DELETED:
        raise absent(f"No Experiment with id={experiment.number} exists")  # MLflow's words: none that is active
    return _mark(desk, args, DELETED)


@route("POST", "experiments/restore", does=Action.TRASH)
def restore(desk: Desk, args: Args) -> Json:
    """Take the mark away, also from its runs."""
    experiment = experiment_of(desk, args.need("experiment_id"))
    if experiment.status == ACTIVE:
        raise absent(f"No Experiment with id={experiment.number} exists")  # MLflow's words: none that was deleted
    return _mark(desk, args, ACTIVE)


def _mark(desk: Desk, args: Args, stage: str) -> Json:
    number = args.need("experiment_id")
    with desk.store.transaction():
        for run in desk.store.find(Run, runs_of([number])):
            mark_deleted(desk, run.id, stage == DELETED)
        return _change(desk, args, lambda one: replace(one, status=stage))


def artifact_root(experiment: Experiment, *below: str) -> str:
    """Return where an experiment keeps the files of a run or a model."""
    location: Any = shown(experiment)["artifact_location"]
    return "/".join((location, *below, "artifacts"))
