"""The routes that tell which cells of a notebook are stale, and that show the overviews which are kept."""

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


class Overviews(NbopsHandler):
    """``GET overviews?offset&limit``: the overviews that are kept, newest first."""

    @web.authenticated
    @authorized
    @doing(Action.READ)
    async def get(self) -> None:
        """Answer with total and rows."""
        await self.answer(lambda workspace: overview_page(workspace, **self.window()), empty={"total": 0, "rows": []})


class OverviewPage(NbopsHandler):
    """``GET overviews/ID``: one of them as a page, without its data and without computing."""

    @web.authenticated
    @authorized
    @doing(Action.READ)
    async def get(self, id: str) -> None:
        """Answer with HTML, which may run no script and ask for nothing."""

        def read(workspace: Workspace) -> Any:
            from nbops.core.display import mimebundle
            from nbops.core.records import Artifact
            from nbops.data.overviews.making import stored_overview
            from nbops.data.overviews.overview import OverviewPage as Page

            return mimebundle(Page(stored_overview(workspace, workspace.store.get(Artifact, id))))["text/html"]

        await self.answer(read)

    def send(self, body: Any) -> None:
        """Finish with the page; an error stays JSON."""
        if not isinstance(body, str):
            super().send(body)
            return
        self.set_header("Content-Security-Policy", "sandbox; default-src 'none'; style-src 'unsafe-inline'")
        self.finish(body, set_content_type="text/html; charset=utf-8")


def overview_page(workspace: Workspace, *, offset: int, limit: int) -> dict[str, Any]:
    """Return the overviews that are kept, with the version of the dataset that each is kept with."""
    from nbops.core.query import Compare, Field
    from nbops.core.records import Artifact, Dataset
    from nbops.data.overviews.overview import MEDIA_TYPE

    kept = Compare(Field("media_type"), "==", MEDIA_TYPE)
    rows = []
    for one in workspace.store.find(Artifact, kept, limit=limit, offset=offset):
        of = workspace.store.find(Dataset, Compare(Field("id"), "==", one.parent or ""), limit=1)
        title = f"{of[0].name} v{of[0].version}" if of else one.name
        rows.append({"id": one.id, "title": title, "created_at": one.created_at, "size_bytes": one.size_bytes})
    return {"total": workspace.store.count(Artifact, kept), "rows": rows}


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
    table = {"stale": Stale, "overviews": Overviews, r"overviews/([^/]+)": OverviewPage}
    return [(url_path_join(base_url, "nbops", "api", "v1", path), handler) for path, handler in table.items()]
