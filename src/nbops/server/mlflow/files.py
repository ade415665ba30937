"""Artifacts of runs and logged models, by path: each file is an artifact record of the workspace, named by its path."""

from __future__ import annotations

import mimetypes
import posixpath
import re
import time
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import unquote

from nbops.core.errors import NotFound
from nbops.core.ids import new_id
from nbops.core.mlflow_records import LoggedModel
from nbops.core.query import Both, Compare, Field
from nbops.core.records import Artifact, Run
from nbops.core.roles import Action
from nbops.server.mlflow.desk import Desk
from nbops.server.mlflow.errors import MlflowError, absent
from nbops.server.mlflow.guarding import guard
from nbops.server.mlflow.ids import from_hex
from nbops.server.mlflow.models import model_of, model_root
from nbops.server.mlflow.runview import artifact_uri, run_of
from nbops.server.mlflow.table import route
from nbops.server.mlflow.wire import Args, Json

_RUN = re.compile(r"(?:.*?/)?([0-9a-f]{32})/artifacts(?:/(.*))?", re.DOTALL)
_MODEL = re.compile(r"(?:.*?/)?models/m-([0-9a-f]{32})/artifacts(?:/(.*))?", re.DOTALL)
_SHARED = "mlflow-artifacts"  # the parent of files that belong to no run


@dataclass(frozen=True)
class Place:
    """Where a file is: the record that it belongs to and its path below that."""

    parent: str
    path: str


def clean_path(path: str, *, empty: bool = True) -> str:
    """Return a relative path that stays below its root.

    Raises
    ------
    MlflowError
        It is absolute, leads upwards, or is empty where it must not be.
    """
    once = path
    for _ in range(8):  # a path may come quoted more than once
        decoded = unquote(once)
        if decoded == once:
            break
        once = decoded
    parts = once.replace("\\", "/").split("/")
    if ".." in parts or once.startswith(("/", "\\")) or "\x00" in once or re.match(r"[A-Za-z]:[\\/]", once):
        raise MlflowError(f"Invalid path: {path}")
    normal = posixpath.normpath(path) if path else ""
    normal = "" if normal == "." else normal
    if not normal and not empty:
        raise MlflowError(f"Invalid path: {path}")
    return normal


def place_of(desk: Desk, path: str, *, empty: bool = True) -> Place:
    """Return the place that a path below ``mlflow-artifacts:/`` means."""
    whole = clean_path(path, empty=empty)
    for pattern, kind in ((_MODEL, LoggedModel), (_RUN, Run)):
        match = pattern.fullmatch(whole)
        if match is None:
            continue
        id = from_hex(match[1], kind.prefix)
        try:
            desk.store.get(kind, id)
        except NotFound:
            continue
        return Place(id, match[2] or "")
    return Place(_SHARED, whole)


def _records(desk: Desk, place: Place) -> list[Artifact]:
    """Return the newest record of each file of a parent."""
    found: dict[str, Artifact] = {}
    for one in desk.store.find(Artifact, Compare(Field("parent"), "==", place.parent)):
        found.setdefault(one.name, one)
    return list(found.values())


def _named(desk: Desk, place: Place) -> list[Artifact]:
    mine = (Compare(Field("parent"), "==", place.parent), Compare(Field("name"), "==", place.path))
    return [one for one in desk.store.find(Artifact, Both("and", mine)) if one.name == place.path]


def save(desk: Desk, place: Place, stream: BinaryIO) -> None:
    """Store a file; one that was there under this path is replaced."""
    guard(desk, place.parent, place.path)
    digest, size = desk.workspace.artifacts.put(stream)
    guard(desk, place.parent, place.path)  # a version may have been registered while the bytes came
    old = _named(desk, place)
    if old and old[0].digest == digest:  # the same file again: an upload that was repeated
        return
    made = Artifact(
        id=new_id(Artifact.prefix),
        created_at=time.time(),
        name=place.path,
        digest=digest,
        size_bytes=size,
        media_type=mimetypes.guess_type(place.path)[0] or "application/octet-stream",
        parent=place.parent,
    )
    with desk.store.transaction():
        for one in old:
            desk.store.delete(Artifact, one.id)
        desk.store.put(made)
        if place.parent != _SHARED:
            desk.store.link(place.parent, "produced", made.id)


def open_file(desk: Desk, place: Place) -> tuple[Artifact, BinaryIO]:
    """Return the record of a file and a reader of its verified bytes."""
    found = _named(desk, place)
    if not found:
        raise absent(f"No such artifact: '{place.path}'")
    return found[0], desk.workspace.artifacts.open(found[0].digest)


def remove(desk: Desk, place: Place) -> None:
    """Forget a file or everything below a folder; the bytes go when the workspace is purged."""
    guard(desk, place.parent, place.path)
    inside = f"{place.path}/" if place.path else ""
    for one in desk.store.find(Artifact, Compare(Field("parent"), "==", place.parent)):
        if one.name == place.path or one.name.startswith(inside):
            desk.store.delete(Artifact, one.id)


def listing(desk: Desk, place: Place) -> list[Json]:
    """Return the files and folders right below a path; nothing for a file."""
    inside = f"{place.path}/" if place.path else ""
    found: dict[str, Json] = {}
    for one in _records(desk, place):
        if not one.name.startswith(inside):
            continue
        first, slash, _ = one.name[len(inside) :].partition("/")
        path = inside + first
        if slash:
            found[path] = {"path": path, "is_dir": True}
        else:
            found.setdefault(path, {"path": path, "is_dir": False, "file_size": one.size_bytes})
    return [found[path] for path in sorted(found)]


@route("GET", "artifacts/list", does=Action.READ)
def list_of_run(desk: Desk, args: Args) -> Json:
    """Return what a run keeps right below a path."""
    run = run_of(desk, args.need("run_id", "run_uuid"))
    place = Place(run.id, clean_path(args.text("path")))
    return {"root_uri": artifact_uri(run), "files": listing(desk, place)}


@route("GET", "logged-models/{model_id}/artifacts/directories", does=Action.READ)
def list_of_model(desk: Desk, args: Args) -> Json:
    """Return what a logged model keeps right below a path."""
    model = model_of(desk, args.need("model_id"))
    place = Place(model.id, clean_path(args.text("artifact_directory_path")))
    return {"root_uri": model_root(desk, model), "files": listing(desk, place)}


def list_shared(desk: Desk, args: Args) -> Json:
    """Return what lies right below a path of ``mlflow-artifacts:/``, with names relative to it."""
    place = place_of(desk, args.text("path"))
    inside = f"{place.path}/" if place.path else ""
    return {"files": [one | {"path": one["path"][len(inside) :]} for one in listing(desk, place)]}
