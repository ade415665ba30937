"""From method, path and fields of a request to its answer. No HTTP library here."""

from __future__ import annotations

from typing import Any

from nbops.server.mlflow import experiments, files, logs, metrics, models, registry, runs, versions
from nbops.server.mlflow.desk import Desk
from nbops.server.mlflow.errors import NO_ENDPOINT, MlflowError
from nbops.server.mlflow.limits import body
from nbops.server.mlflow.table import fixed, patterns
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
_BATCH = "runs/log-batch"


def answer(desk: Desk, method: str, path: str, args: Args, *, size: int = 0) -> Json:
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
    size : int, bytes
        Of the body.

    Raises
    ------
    MlflowError
        Nothing answers there, or the fields cannot be accepted.
    """
    path = path.strip("/")
    if path == _BATCH:
        body(size)
    function = fixed.get((method, path))
    if function is not None:
        return function(desk, args)
    for verb, pattern, function in patterns:
        match = pattern.fullmatch(path)
        if match is not None and verb == method:
            return function(desk, Args({**args.fields, **match.groupdict()}))
    raise MlflowError(f"No endpoint answers {method} {path}", NO_ENDPOINT)
