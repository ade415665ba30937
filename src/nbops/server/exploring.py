"""The route that tells which cells of a notebook are stale."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.utils import url_path_join
from tornado import web

from nbops.core.roles import Action
from nbops.server.access import doing
from nbops.server.handlers import NbopsHandler

if TYPE_CHECKING:
    from nbops.store.workspace import Workspace

_NONE_KNOWN: dict[str, Any] = {"followed": 0, "cells": []}


class Stale(NbopsHandler):
    """``GET stale?notebook&run``: the cells of a notebook whose data has a newer version.

    ``notebook`` is its path as the server names it; ``run`` the step that executed it, where its metadata names one.
    """

    @web.authenticated
    @authorized
    @doing(Action.READ)
    async def get(self) -> None:
        """Answer with how many cells are known to be made from data, and with those whose data has moved on."""

        def read(workspace: Workspace) -> Any:
            path = self.get_query_argument("notebook", "")
            return stale_rows(workspace, path, run=self.get_query_argument("run", ""), root=self.backend.root)

        await self.answer(read, empty=_NONE_KNOWN)


def stale_rows(workspace: Workspace, path: str, *, run: str, root: Path | None) -> dict[str, Any]:
    """Return what the notebook at `path` under the server's `root` has to tell."""
    from nbops.tracking.staleness import stale_cells

    found = stale_cells(workspace_path(workspace, path, root=root), run=run, ws=workspace)
    rows = [
        {
            "cell_id": cell.cell_id,
            "execution_count": cell.execution_count,
            "why": cell.why,
            "moved": [list(one) for one in cell.moved],
            "after": list(cell.after),
        }
        for cell in found
    ]
    return {"followed": found.followed, "cells": rows}


def workspace_path(workspace: Workspace, path: str, *, root: Path | None) -> str:
    """Return a notebook's path as kernels record it: relative to the workspace's folder."""
    folder = workspace.path.parent.resolve()
    there = Path(os.path.normpath((root or folder).resolve() / path))
    return there.relative_to(folder).as_posix() if there.is_relative_to(folder) else there.as_posix()


def exploring_routes(base_url: str) -> list[tuple[str, type[NbopsHandler]]]:
    """Return patterns and handlers under ``base_url``."""
    return [(url_path_join(base_url, "nbops", "api", "v1", "stale"), Stale)]
