"""``nbops mlflow-server``: the same interface without Jupyter, on this machine only, behind a token or one for each."""

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

from nbops.core.roles import Action, Person, Role
from nbops.server.access import doing
from nbops.server.backend import Backend
from nbops.server.mlflow.serving import API, FILES, INFO, OTHER, Api, Files, Info, Other
from nbops.server.mlflow.users import Users, new_entry
from nbops.store.identity import process_user

TOKEN = "NBOPS_MLFLOW_TOKEN"  # noqa: S105 (the name of a variable)
_HOST = "127.0.0.1"
_OPEN = ("health", "version")


class Guarded(web.RequestHandler):
    """Lets in who knows a token: as Bearer, or as the password of Basic."""

    _person: Person | None = None

    async def prepare(self) -> None:
        """Refuse a request without a token, and one for another host name (DNS rebinding)."""
        host = self.request.host_name
        if host not in ("localhost", _HOST, "[::1]", "::1"):
            raise web.HTTPError(403, f"this server answers to localhost, not to {host!r}")
        name, token = _credentials_of(self.request.headers.get("Authorization", ""))
        users: Users | None = self.settings["nbops_users"]
        if users is not None:
            self._person = users.person(name, token)
        elif not self._token or hmac.compare_digest(token.encode(), self._token.encode()):
            self._person = Person(name=process_user(), role=Role.APPROVER, in_force=False)
        if self._person is None and self.request.path.strip("/") not in _OPEN:
            self.set_header("WWW-Authenticate", "Bearer")
            whose = "the token that the server printed" if users is None else "your token"
            raise web.HTTPError(401, f"Set MLFLOW_TRACKING_TOKEN to {whose}.")

    @property
    def _token(self) -> str:
        token: str = self.settings["nbops_token"]
        return token

    def person(self) -> Person:
        """Return who asks; somebody unknown gets no further than what is open to all."""
        return self._person or Person(name="", role=Role.VIEWER)


def _credentials_of(header: str) -> tuple[str | None, str]:
    """Return the user name, None where none is given, and the token of a header."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() in ("bearer", "token"):
        return None, value.strip()
    if scheme.lower() == "basic":
        try:
            name, _, token = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None, ""
        return name, token
    return None, ""


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

    @doing(Action.RECORD)
    async def put(self, path: str) -> None:
        """Store a file."""
        await self.store()

    @doing(Action.READ)
    async def get(self, path: str) -> None:
        """Send a file or a list."""
        await self.send_file(path)

    @doing(Action.RECORD)
    async def delete(self, path: str) -> None:
        """Remove a file."""
        await self.forget(path)


class LocalInfo(Guarded, Info):
    """What is offered."""

    @doing(Action.READ)
    async def get(self) -> None:
        """Answer."""
        self.tell()


class LocalOther(Guarded, Other):
    """Probes, and what is not offered."""

    @doing(Action.READ)
    async def get(self, path: str) -> None:
        """Answer."""
        self.tell(path)

    post = patch = put = delete = get


def application(backend: Backend, *, token: str, users: Users | None = None) -> web.Application:
    """Return the routes over one workspace; an empty token lets everybody on this machine in.

    With `users` the token means nothing: each has their own.
    """
    return web.Application(
        [("/" + API, LocalApi), ("/" + FILES, LocalFiles), ("/" + INFO, LocalInfo), ("/" + OTHER, LocalOther)],
        nbops=backend,
        nbops_token=token,
        nbops_users=users,
        log_function=lambda handler: None,
    )


def main(words: Sequence[str]) -> int:
    """Serve until a signal, or until standard input closes if that is wished; return the exit code.

    Raises
    ------
    InvalidInput
        The file of users, or the name of a new one, cannot be used.
    """
    parser = argparse.ArgumentParser(prog="nbops mlflow-server", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 for a free one")
    parser.add_argument("--token", default=None, help=f"the token; {TOKEN} or a new one if absent, '' for none")
    parser.add_argument("--users", default=None, metavar="FILE", help="people with a role and a token each, as TOML")
    parser.add_argument("--new-user", default=None, metavar="NAME", help="make an entry for that file, and end")
    parser.add_argument("--role", default="viewer", choices=[role.value for role in Role], help="of the new user")
    parser.add_argument("--workspace", default=None, help="the workspace; found like git if absent")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with the process that started it")
    given = parser.parse_args(list(words))
    if given.new_user is not None:
        return _make_user(given.new_user, Role(given.role))
    if given.users is not None and given.token is not None:
        parser.error("--token is for a server without --users")
    users = None if given.users is None else Users(Path(given.users))
    token = os.environ.get(TOKEN) or secrets.token_urlsafe(24) if given.token is None else given.token
    backend = Backend(_workspace_at(given.workspace))
    asyncio.run(_serve(given.port, application(backend, token=token, users=users), watch=given.until_stdin_closes))
    return 0


def _make_user(name: str, role: Role) -> int:
    """Print an entry, and beside it the token, which is nowhere else."""
    token, lines = new_entry(name, role)
    print(lines)
    print(f"MLFLOW_TRACKING_TOKEN of {name}, shown only now: {token}", file=sys.stderr)
    return 0


def _workspace_at(path: str | None) -> Path:
    from nbops.store.discovery import as_workspace, locate

    return locate() if path is None else as_workspace(Path(path))


async def _serve(port: int, served: web.Application, *, watch: bool) -> None:
    server = httpserver.HTTPServer(served, max_body_size=64 << 20)
    sockets = netutil.bind_sockets(port, address=_HOST)
    server.add_sockets(sockets)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    if watch:
        loop.add_reader(sys.stdin.fileno(), lambda: ended.set() if not os.read(sys.stdin.fileno(), 64) else None)
    print(f"export MLFLOW_TRACKING_URI=http://{_HOST}:{sockets[0].getsockname()[1]}")
    token = served.settings["nbops_token"] if served.settings["nbops_users"] is None else "…  # everybody's own"
    print(f"export MLFLOW_TRACKING_TOKEN={token}", flush=True)
    try:
        await ended.wait()
    finally:
        server.stop()
        await server.close_all_connections()
        await asyncio.to_thread(served.settings["nbops"].close)
