"""Files of registered versions: whoever changes them changes what an alias means, and must be trusted with that."""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote

from nbops.core.mlflow_records import LoggedModel, RegisteredVersion
from nbops.core.records import Run
from nbops.core.roles import Action
from nbops.server.access import allows, demand
from nbops.server.mlflow.desk import Desk
from nbops.server.mlflow.ids import from_hex

_HEX = "([0-9a-fA-F]{32})"
_ROOTS = (
    (re.compile(rf"models:/m-{_HEX}/?(.*)", re.DOTALL), LoggedModel.prefix),
    (re.compile(rf"runs:/{_HEX}/?(.*)", re.DOTALL), Run.prefix),
    (re.compile(rf".*?models/m-{_HEX}/artifacts/?(.*)", re.DOTALL), LoggedModel.prefix),
    (re.compile(rf".*?/{_HEX}/artifacts/?(.*)", re.DOTALL), Run.prefix),
)
_SHARED = re.compile(r"mlflow-artifacts:(?://[^/]*)?/(.*)", re.DOTALL)


def guard(desk: Desk, parent: str, path: str = "") -> None:
    """Let pass who may change a file or folder, also if it is one of a registered version.

    Parameters
    ----------
    desk : Desk
    parent : str
        Our id of the run or logged model that keeps it; any other text for what belongs to none.
    path : str
        Below that; empty for all of it.

    Raises
    ------
    NotPermitted
        It belongs to a registered version, and whoever asks may not delete one.
    """
    if allows(Action.DELETE_MODEL):
        return
    roots = (_root_of(version.source) for version in desk.store.find(RegisteredVersion))
    if any(_touches(root, parent, path) for root in roots):
        demand(Action.DELETE_MODEL)


def _root_of(source: str) -> tuple[str, str]:
    """Return the parent and the path of a version's files; the parent is empty for what belongs to no record."""
    decoded = source
    for _ in range(8):  # a source may be quoted more than once
        decoded, before = unquote(decoded), decoded
        if decoded == before:
            break
    for pattern, prefix in _ROOTS:
        match = pattern.fullmatch(decoded)
        if match is not None:
            return from_hex(match[1], prefix), _normal(match[2])
    shared = _SHARED.fullmatch(decoded)
    return "", _normal(shared[1] if shared else decoded)


def _normal(path: str) -> str:
    found = posixpath.normpath(path.strip("/")) if path.strip("/") else ""
    return "" if found == "." else found


def _touches(root: tuple[str, str], parent: str, path: str) -> bool:
    """Return whether a path is a version's folder, lies in it, or holds it."""
    keeper, folder = root
    is_same = keeper == parent if keeper else not parent.startswith((f"{Run.prefix}_", f"{LoggedModel.prefix}_"))
    one, other = f"{folder}/" if folder else "", f"{path}/" if path else ""
    return is_same and (one.startswith(other) or other.startswith(one))
