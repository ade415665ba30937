"""``nbops mlflow-server``: the same interface without Jupyter, on this machine only, behind a token."""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import hmac
import os
import secrets
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tornado import httpserver, netutil, web

from nbops.server.backend import Backend
from nbops.server.mlflow.serving import API, FILES, INFO, OTHER, Api, Files, Info, Other

TOKEN = "NBOPS_MLFLOW_TOKEN"  # noqa: S105 (the name of a variable)
_HOST = "127.0.0.1"
_OPEN = ("health", "version")


class Guarded(web.RequestHandler):
    """Lets in who knows the token: as Bearer, or as the password of Basic."""

    async def prepare(self) -> None:
        """Refuse a request without the token, and one for another host name (DNS rebinding)."""
        host = self.request.host_name
        if host not in ("localhost", _HOST, "[::1]", "::1"):
            raise web.HTTPError(403, f"this server answers to localhost, not to {host!r}")
        token: str = self.settings["nbops_token"]
        if not token or self.request.path.strip("/") in _OPEN:
            return
        if not hmac.compare_digest(_token_of(self.request.headers.get("Authorization", "")).encode(), token.encode()):
            self.set_header("WWW-Authenticate", "Bearer")
            raise web.HTTPError(401, "Set MLFLOW_TRACKING_TOKEN to the token that the server printed.")


def _token_of(header: str) -> str:
    scheme, _, value = header.partition(" ")
    if scheme.lower() in ("bearer", "token"):
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


class LocalApi(Guarded, Api):
    """Tracking and registry."""

    async def get(self, path: str) -> None:
        """Answer."""
        await self.answer(path)

    post = patch = put = delete = get


@web.stream_request_body
class LocalFiles(Guarded, Files):
    """Artifacts."""

    async def prepare(self) -> None:
        """Begin an upload only for somebody who may make it."""
        await super().prepare()
        self.begin(self.path_args[0])

    async def put(self, path: str) -> None:
        """Store a file."""
        await self.store()

    async def get(self, path: str) -> None:
        """Send a file or a list."""
        await self.send_file(path)

    async def delete(self, path: str) -> None:
        """Remove a file."""
        await self.forget(path)


class LocalInfo(Guarded, Info):
    """What is offered."""

    def get(self) -> None:
        """Answer."""
        self.tell()


class LocalOther(Guarded, Other):
    """Probes, and what is not offered."""

    def get(self, path: str) -> None:
        """Answer."""
        self.tell(path)

    post = patch = put = delete = get


def application(backend: Backend, *, token: str) -> web.Application:
    """Return the routes over one workspace; an empty token lets everybody on this machine in."""
    return web.Application(
        [("/" + API, LocalApi), ("/" + FILES, LocalFiles), ("/" + INFO, LocalInfo), ("/" + OTHER, LocalOther)],
        nbops=backend,
        nbops_token=token,
        log_function=lambda handler: None,
    )


def main(words: Sequence[str]) -> int:
    """Serve until a signal, or until standard input closes if that is wished; return the exit code."""
    parser = argparse.ArgumentParser(prog="nbops mlflow-server", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 for a free one")
    parser.add_argument("--token", default=None, help=f"the token; {TOKEN} or a new one if absent, '' for none")
    parser.add_argument("--workspace", default=None, help="the workspace; found like git if absent")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with the process that started it")
    given = parser.parse_args(list(words))
    token = os.environ.get(TOKEN) or secrets.token_urlsafe(24) if given.token is None else given.token
    asyncio.run(_serve(given.port, token, _workspace_at(given.workspace), watch=given.until_stdin_closes))
    return 0


def _workspace_at(path: str | None) -> Path:
    from nbops.store.discovery import as_workspace, locate

    return locate() if path is None else as_workspace(Path(path))


async def _serve(port: int, token: str, path: Path, *, watch: bool) -> None:
    backend = Backend(path)
    server = httpserver.HTTPServer(application(backend, token=token), max_body_size=64 << 20)
    sockets = netutil.bind_sockets(port, address=_HOST)
    server.add_sockets(sockets)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    if watch:
        loop.add_reader(sys.stdin.fileno(), lambda: ended.set() if not os.read(sys.stdin.fileno(), 64) else None)
    print(f"export MLFLOW_TRACKING_URI=http://{_HOST}:{sockets[0].getsockname()[1]}")
    print(f"export MLFLOW_TRACKING_TOKEN={token}", flush=True)
    try:
        await ended.wait()
    finally:
        server.stop()
        await server.close_all_connections()
        await asyncio.to_thread(backend.close)
