"""The Jupyter server extension: REST under ``{base_url}nbops/api/v1/`` and one event on Jupyter's own websocket.

Importing this package loads nothing; `setup` registers routes, and the store is loaded by the first request.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def setup(server_app: Any) -> None:
    """Add the routes to a Jupyter server, and give its kernels its workspace.

    ``NBOPS_WORKSPACE`` is set to the workspace of the server's root folder unless somebody has set it, so that all
    notebooks of one Lab write where its panel reads. The folder is not made: that is left to the first run.

    Parameters
    ----------
    server_app : jupyter_server.serverapp.ServerApp
        The server that loads the extension.
    """
    from nbops.server.access import Access
    from nbops.server.backend import Backend
    from nbops.server.controlling import control_routes
    from nbops.server.exploring import exploring_routes
    from nbops.server.handlers import routes
    from nbops.server.mlflow.handlers import routes as mlflow_routes
    from nbops.server.watching import Watcher, register_schema
    from nbops.store.discovery import VARIABLE, locate

    path = locate(Path(server_app.root_dir))
    os.environ.setdefault(VARIABLE, os.fspath(path))
    backend = Backend(path, root=Path(server_app.root_dir))
    register_schema(server_app.event_logger)
    watcher = Watcher(backend, server_app.event_logger, log=server_app.log)
    server_app.web_app.settings["nbops"] = backend
    server_app.web_app.settings["nbops_access"] = Access(path)
    server_app.web_app.settings["nbops_watcher"] = watcher
    base_url = server_app.web_app.settings["base_url"]
    own = [*routes(base_url), *control_routes(base_url), *exploring_routes(base_url)]
    server_app.web_app.add_handlers(".*$", [*own, *mlflow_routes(base_url)])
    server_app.log.info("nbops reads the workspace %s", path)
