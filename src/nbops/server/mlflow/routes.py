"""From method, path and fields of a request to its answer. No HTTP library here."""

from __future__ import annotations

from typing import Any

from nbops.core.roles import Action
from nbops.server.mlflow import experiments, files, logs, metrics, models, registry, runs, versions
from nbops.server.mlflow.desk import Desk
from nbops.server.mlflow.errors import NO_ENDPOINT, MlflowError
from nbops.server.mlflow.table import Answer, actions, fixed, patterns
from nbops.server.mlflow.wire import Args, Json

RESOURCES = (experiments, runs, logs, metrics, files, models, registry, versions)  # imported: that fills the table
VERSION = "3.17.2"  # of the interface that is spoken
SERVER_INFO: dict[str, Any] = {
    "store_type": "SqlStore",
    "workspaces_enabled": False,
    "artifact_serving_enabled": True,
    "multipart_uploads_enabled": False,
    "multipart_downloads_enabled": False,
    "artifacts_presigned_only": False,
    "tracking_auth": False,
}


def find(method: str, path: str) -> tuple[Answer, dict[str, str]]:
    """Return what answers a request, and the fields that its path holds.

    Parameters
    ----------
    method : str
        GET, POST, PATCH, PUT or DELETE.
    path : str
        Below ``api/2.0/mlflow/``.

    Raises
    ------
    MlflowError
        Nothing answers there.
    """
    path = path.strip("/")
    function = fixed.get((method, path))
    if function is not None:
        return function, {}
    for verb, pattern, function in patterns:
        match = pattern.fullmatch(path)
        if match is not None and verb == method:
            return function, match.groupdict()
    raise MlflowError(f"No endpoint answers {method} {path}", NO_ENDPOINT)


def action_of(method: str, path: str) -> Action:
    """Return what a request does; raises as `find` does."""
    return actions[find(method, path)[0]]


def answer(desk: Desk, method: str, path: str, args: Args) -> Json:
    """Return the answer to one request.

    Parameters
    ----------
    desk : Desk
        The workspace.
    method : str
        GET, POST, PATCH, PUT or DELETE.
    path : str
        Below ``api/2.0/mlflow/``.
    args : Args
        The fields.

    Raises
    ------
    MlflowError
        Nothing answers there, or the fields cannot be accepted.
    """
    function, fields = find(method, path)
    return function(desk, Args({**args.fields, **fields}) if fields else args)
