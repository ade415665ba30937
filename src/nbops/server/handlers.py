"""The routes. Reading happens on a thread; a user's mistake is answered with 4xx and ``{error, hint}``."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

from nbops import __version__
from nbops.core.errors import Conflict, InvalidInput, NbopsError, NotFound, NotPermitted
from nbops.core.roles import Action
from nbops.server.access import doing
from nbops.server.asking import Asking
from nbops.server.backend import Backend
from nbops.server.watching import Watcher

if TYPE_CHECKING:
    from nbops.store.workspace import Workspace

API_VERSION = 1
MOST_ROWS = 500
MOST_METRICS = 200
MOST_PX = 4000
_NO_ROWS: dict[str, Any] = {"total": 0, "rows": []}


class NbopsHandler(Asking, APIHandler):
    """What our routes share."""

    auth_resource = "nbops"
    etag: str | None = None

    @property
    def backend(self) -> Backend:
        """The workspace of this server."""
        backend: Backend = self.settings["nbops"]
        return backend

    async def answer(self, read: Callable[[Workspace], Any], *, empty: Any = None) -> None:
        """Send what `read` makes of the workspace; `empty` (or 404) while there is no workspace."""
        watcher: Watcher = self.settings["nbops_watcher"]
        try:
            await watcher.want()
            self.send(await asyncio.to_thread(self._read, read, empty))
        except NbopsError as error:
            self.refuse(error)

    def refuse(self, error: NbopsError) -> None:
        """Finish with what went wrong."""
        self.set_status(_status_of(error))
        self.send({"error": error.message, "hint": error.hint})

    def _read(self, read: Callable[[Workspace], Any], empty: Any) -> Any:
        workspace = self.backend.workspace()
        if workspace is not None:
            return read(workspace)
        if empty is None:
            raise NotFound(f"no workspace at {self.backend.path}", hint="Start a run first: with nb.run('first'): …")
        return empty

    def send(self, body: Any) -> None:
        """Finish with JSON; a page that has gone meanwhile is nobody's error, so nothing waits for it."""
        self.finish(msgspec.json.encode(body, enc_hook=str))

    def compute_etag(self) -> str | None:
        """Use the version of the data where it is known without reading them, else the digest of the answer."""
        return self.etag or super().compute_etag()

    def whole(self, name: str, default: int, *, low: int, high: int) -> int:
        """Return an argument that is a whole number from `low` to `high`."""
        text = self.get_query_argument(name, str(default))
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise InvalidInput(f"{name}={text!r} is out of range", hint=f"Use a whole number from {low} to {high}.")
        return value

    def window(self) -> dict[str, int]:
        """Return the arguments ``offset`` and ``limit`` of a page."""
        return {
            "offset": self.whole("offset", 0, low=0, high=2**31),
            "limit": self.whole("limit", 200, low=1, high=MOST_ROWS),
        }


def _status_of(error: NbopsError) -> int:
    if isinstance(error, NotFound):
        return 404
    if isinstance(error, Conflict):
        return 409
    if isinstance(error, NotPermitted):
        return 403
    return 400 if isinstance(error, InvalidInput) else 503


class Info(NbopsHandler):
    """``GET info``: which interface this is, which workspace it reads, who asks, and their role where there are any."""

    @web.authenticated
    @authorized
    @doing(Action.READ)
    async def get(self) -> None:
        """Answer without opening the workspace."""
        watcher: Watcher = self.settings["nbops_watcher"]
        exists = self.backend.path.exists()
        if exists:
            await watcher.want()
        person = self.person()
        self.send(
            {
                "api_version": API_VERSION,
                "version": __version__,
                "workspace": str(self.backend.path),
                "exists": exists,
                "user": person.name,
                "role": person.role.value if person.in_force else None,
                "doubt": person.doubt,
            }
        )


class Runs(NbopsHandler):
    """``GET runs?offset&limit&where&q&order&metric``: one page of runs."""

    @web.authenticated
    @authorized
    @doing(Action.READ)
    async def get(self) -> None:
        """Answer with total and rows."""

        def read(workspace: Workspace) -> Any:
            from nbops.server.reading import run_page

            return run_page(
                workspace,
                where=self.get_query_argument("where", ""),
                words=self.get_query_argument("q", ""),
                order=self.get_query_argument("order", ""),
                metrics=self.get_query_arguments("metric"),
                **self.window(),
            )

        await self.answer(read, empty=_NO_ROWS)


class RunDetail(NbopsHandler):
    """``GET runs/ID``: all that the page of a run shows but its points."""

    @web.authenticated
    @authorized
    @doing(Action.READ)
    async def get(self, id: str) -> None:
        """Answer with the run."""

        def read(workspace: Workspace) -> Any:
            from nbops.server.reading import run_detail

            return run_detail(workspace, id, root=self.backend.root)

        await self.answer(read)


class RunCells(NbopsHandler):
    """``GET runs/ID/cells?id&execution``: cells with the whole source that is kept of them."""

    @web.authenticated
    @authorized
    @doing(Action.READ)
    async def get(self, id: str) -> None:
        """Answer with the cells that have one of the ids or executions, or with all."""

        def read(workspace: Workspace) -> Any:
            from nbops.server.cells import run_cells

            ids, executions = (self.get_query_arguments(name) for name in ("id", "execution"))
            return {"cells": run_cells(workspace, id, ids=ids, executions=executions)}

        await self.answer(read)


class RunSeries(NbopsHandler):
    """``GET runs/ID/series?metric&metric&px``: points for charts that are so many pixels wide."""

    @web.authenticated
    @authorized
    @doing(Action.READ)
    async def get(self, id: str) -> None:
        """Answer with the series, or 304 without reading a point."""

        def read(workspace: Workspace) -> Any:
            from nbops.server.reading import run_series, series_version

            px = self.whole("px", 600, low=1, high=MOST_PX)
            metrics = self.get_query_arguments("metric")
            if not 1 <= len(metrics) <= MOST_METRICS:
                raise InvalidInput(f"{len(metrics)} metrics are asked for", hint=f"Name 1 to {MOST_METRICS} metrics.")
            version = f"{id} {px} {series_version(workspace, id, metrics)}"
            self.etag = f'"{hashlib.sha256(version.encode()).hexdigest()}"'
            if self.request.headers.get("If-None-Match") == self.etag:
                return {}  # the etag is compared again when the answer is sent, and makes it a 304
            return run_series(workspace, id, metrics=metrics, px=px)

        await self.answer(read)


class Models(NbopsHandler):
    """``GET models?offset&limit``: versions with their aliases."""

    @web.authenticated
    @authorized
    @doing(Action.READ)
    async def get(self) -> None:
        """Answer with total and rows."""

        def read(workspace: Workspace) -> Any:
            from nbops.server.reading import model_page

            return model_page(workspace, **self.window())

        await self.answer(read, empty=_NO_ROWS)


class Endpoints(NbopsHandler):
    """``GET endpoints?offset&limit``: what was served and what is."""

    @web.authenticated
    @authorized
    @doing(Action.READ)
    async def get(self) -> None:
        """Answer with total and rows."""

        def read(workspace: Workspace) -> Any:
            from nbops.server.reading import endpoint_page

            return endpoint_page(workspace, **self.window())

        await self.answer(read, empty=_NO_ROWS)


def routes(base_url: str) -> list[tuple[str, type[NbopsHandler]]]:
    """Return patterns and handlers under ``base_url``."""
    table: dict[str, type[NbopsHandler]] = {
        "info": Info,
        "runs": Runs,
        r"runs/([^/]+)": RunDetail,
        r"runs/([^/]+)/cells": RunCells,
        r"runs/([^/]+)/series": RunSeries,
        "models": Models,
        "endpoints": Endpoints,
    }
    return [(url_path_join(base_url, "nbops", "api", "v1", path), handler) for path, handler in table.items()]
