"""The routes in a Jupyter server, under its own address and token: ``{base_url}nbops/mlflow``.

Each method is decorated by itself: Jupyter's decorator keeps what the first request of a decorated function did.
"""

from __future__ import annotations

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

from nbops.core.roles import Action
from nbops.server.access import doing
from nbops.server.asking import Asking
from nbops.server.mlflow.serving import API, FILES, INFO, OTHER, Api, Files, Info, Other, Speaking

RESOURCE = "nbops"


class JupyterApi(Asking, Api, APIHandler):
    """Tracking and registry."""

    auth_resource = RESOURCE

    @web.authenticated
    @authorized
    async def get(self, path: str) -> None:
        """Answer."""
        await self.answer(path)

    @web.authenticated
    @authorized
    async def post(self, path: str) -> None:
        """Answer."""
        await self.answer(path)

    @web.authenticated
    @authorized
    async def patch(self, path: str) -> None:
        """Answer."""
        await self.answer(path)

    @web.authenticated
    @authorized
    async def put(self, path: str) -> None:
        """Answer."""
        await self.answer(path)

    @web.authenticated
    @authorized
    async def delete(self, path: str) -> None:
        """Answer."""
        await self.answer(path)


@web.stream_request_body
class JupyterFiles(Asking, Files, APIHandler):
    """Artifacts."""

    auth_resource = RESOURCE

    async def prepare(self) -> None:  # type: ignore[override] # Jupyter's own API handlers leave the argument out too
        """Begin an upload only for somebody who may make it."""
        await super().prepare()
        if self.request.method == "PUT":
            if self.current_user is None:
                raise web.HTTPError(403, "Forbidden")
            allowed = await self.authorizer_allows()
            if not allowed:
                raise web.HTTPError(403, f"{self.current_user} is not authorized to write {RESOURCE}")
            self.begin(self.path_args[0])

    async def authorizer_allows(self) -> bool:
        """Return whether the user may write here."""
        answer = self.authorizer.is_authorized(self, self.current_user, "write", RESOURCE)
        return bool(answer if isinstance(answer, bool) else await answer)

    @web.authenticated
    @authorized
    @doing(Action.RECORD)
    async def put(self, path: str) -> None:
        """Store a file."""
        await self.store()

    @web.authenticated
    @authorized
    @doing(Action.READ)
    async def get(self, path: str) -> None:
        """Send a file or a list."""
        await self.send_file(path)

    @web.authenticated
    @authorized
    @doing(Action.RECORD)
    async def delete(self, path: str) -> None:
        """Remove a file."""
        await self.forget(path)


class JupyterInfo(Asking, Info, APIHandler):
    """What is offered."""

    auth_resource = RESOURCE

    @web.authenticated
    @authorized
    @doing(Action.READ)
    async def get(self) -> None:
        """Answer."""
        self.tell()


class JupyterOther(Asking, Other, APIHandler):
    """Probes, and what is not offered."""

    auth_resource = RESOURCE

    @web.authenticated
    @authorized
    @doing(Action.READ)
    async def get(self, path: str) -> None:
        """Answer."""
        self.tell(path)

    @web.authenticated
    @authorized
    @doing(Action.READ)
    async def post(self, path: str) -> None:
        """Answer."""
        self.tell(path)

    @web.authenticated
    @authorized
    @doing(Action.READ)
    async def patch(self, path: str) -> None:
        """Answer."""
        self.tell(path)

    @web.authenticated
    @authorized
    @doing(Action.READ)
    async def put(self, path: str) -> None:
        """Answer."""
        self.tell(path)

    @web.authenticated
    @authorized
    @doing(Action.READ)
    async def delete(self, path: str) -> None:
        """Answer."""
        self.tell(path)


def routes(base_url: str) -> list[tuple[str, type[Speaking]]]:
    """Return patterns and handlers under ``base_url``."""
    table: list[tuple[str, type[Speaking]]] = [
        (API, JupyterApi),
        (FILES, JupyterFiles),
        (INFO, JupyterInfo),
        (OTHER, JupyterOther),
    ]
    root = url_path_join(base_url, "nbops", "mlflow")
    return [(f"{root}/{pattern}" if pattern != OTHER else f"{root}/?{pattern}", kind) for pattern, kind in table]
