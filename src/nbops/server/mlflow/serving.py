"""What both servers' handlers do with a request: answer on a thread, stream files, say errors as MLflow does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
from tornado import web
from tornado.iostream import StreamClosedError

from nbops.core.errors import NbopsError, NotPermitted
from nbops.core.roles import Action, Person
from nbops.server.access import answering
from nbops.server.backend import Backend
from nbops.server.mlflow.errors import NO_ENDPOINT, MlflowError, as_mlflow, code_of

if TYPE_CHECKING:
    from nbops.server.mlflow.desk import Desk
    from nbops.server.mlflow.uploads import Upload

_BLOCK = 1 << 20
_NO_LIMIT = 1 << 50
_JSON = "application/json"
API = r"(?:ajax-)?api/2\.0/mlflow/(.*)"
FILES = r"(?:ajax-)?api/2\.0/mlflow-artifacts/artifacts/?(.*)"
INFO = r"(?:ajax-)?api/3\.0/mlflow/server-(?:info|features)"
OTHER = r"(.*)"


class Speaking(web.RequestHandler):
    """What every route shares; a server's own handler class comes before it, and knows who asks."""

    person: Callable[[], Person]

    @property
    def backend(self) -> Backend:
        """The workspace of this server."""
        backend: Backend = self.settings["nbops"]
        return backend

    async def work(self, function: Callable[[Desk], Any]) -> Any:
        """Return what `function` makes of the desk, on a thread."""
        return await asyncio.to_thread(self.at_desk, function)

    def at_desk(self, function: Callable[[Desk], Any]) -> Any:
        """Return what `function` makes of the desk, here."""
        from nbops.server.mlflow.desk import desk_of

        return function(desk_of(self.backend.made()))

    def say(self, body: Any) -> None:
        """Finish with JSON."""
        self.set_header("Content-Type", _JSON)
        self.finish(msgspec.json.encode(body))

    def refuse(self, error: NbopsError) -> None:
        """Finish with an error of MLflow's."""
        told = as_mlflow(error)
        self.set_status(told.status)
        self.say({"error_code": told.code, "message": told.message})

    def write_error(self, status_code: int, **info: Any) -> None:
        """Say what tornado or Jupyter refuses in MLflow's form."""
        error = (info.get("exc_info") or (None, None, None))[1]
        told = getattr(error, "log_message", None) or getattr(error, "reason", None) or self._reason
        self.say({"error_code": code_of(status_code), "message": str(told)})

    def compute_etag(self) -> str | None:
        """Send no etag: clients of this interface keep nothing."""
        return None


class Api(Speaking):
    """``api/2.0/mlflow/…``: JSON in, JSON out."""

    async def answer(self, path: str) -> None:
        """Answer one request, if whoever asks may do what it does."""
        method, body, query = str(self.request.method), self.request.body, self.request.query_arguments
        person = self.person()

        def call() -> Any:
            from nbops.server.mlflow.routes import action_of, answer
            from nbops.server.mlflow.wire import Args

            action = action_of(method, path)
            person.check(action)
            args = Args.of_body(body)
            if query:
                texts = {name: [v.decode(errors="replace") for v in values] for name, values in query.items()}
                args = Args({**{name: v[0] if len(v) == 1 else v for name, v in texts.items()}, **args.fields})
            with answering(person, action):
                return self.at_desk(lambda desk: answer(desk, method, path, args))

        try:
            self.say(await asyncio.to_thread(call))
        except NbopsError as error:
            self.refuse(error)


class Files(Speaking):
    """``api/2.0/mlflow-artifacts/artifacts/…``: files by path, streamed both ways."""

    upload: Upload | None = None
    _storing: asyncio.Task[Any] | None = None
    _is_refused = False

    def begin(self, path: str) -> None:
        """Begin to store what comes, if this is an upload by somebody who may."""
        if self.request.method != "PUT" or self._finished:
            return
        connection: Any = self.request.connection
        connection.set_max_body_size(_NO_LIMIT)
        person = self.person()
        try:
            person.check(Action.RECORD)
        except NotPermitted as error:
            self._refuse_upload(error)
            return
        from nbops.server.mlflow.files import place_of, save
        from nbops.server.mlflow.uploads import Upload

        self.upload = upload = Upload()

        def call(desk: Desk) -> None:
            try:
                save(desk, place_of(desk, path, empty=False), upload.stream)
            finally:
                upload.give_up()

        with answering(person, Action.RECORD):
            self._storing = asyncio.create_task(self.work(call))

    def _refuse_upload(self, error: NbopsError) -> None:
        """Answer before the body is read. What comes of it is dropped: a client that is cut off tries for minutes."""
        self._is_refused = True
        told = as_mlflow(error)
        body = msgspec.json.encode({"error_code": told.code, "message": told.message})
        self.set_status(told.status)
        self.set_header("Content-Type", _JSON)
        self.set_header("Content-Length", str(len(body)))
        self.write(body)
        self.flush()

    def refuse(self, error: NbopsError) -> None:
        """Finish with an error, unless it was sent already."""
        if self._is_refused:
            self.finish()
        else:
            super().refuse(error)

    async def data_received(self, chunk: bytes) -> None:
        """Hand a block of an upload on."""
        if self.upload is not None:
            await self.upload.feed(chunk)

    def on_connection_close(self) -> None:
        """Forget an upload that was cut off."""
        if self.upload is not None:
            self.upload.abort()

    async def store(self) -> None:
        """Answer an upload once it is stored."""
        if self.upload is None or self._storing is None:
            raise web.HTTPError(400, "nothing was sent")
        try:
            await self.upload.end()
            await self._storing
            self.say({})
        except NbopsError as error:
            self.refuse(error)

    async def send_file(self, path: str) -> None:
        """Send a file, or the list of a folder if no path is given."""
        from nbops.server.mlflow.files import list_shared, open_file, place_of
        from nbops.server.mlflow.wire import Args

        try:
            if not path.strip("/"):
                args = Args({"path": self.get_query_argument("path", "")})
                self.say(await self.work(lambda desk: list_shared(desk, args)))
                return
            record, stream = await self.work(lambda desk: open_file(desk, place_of(desk, path, empty=False)))
        except NbopsError as error:
            self.refuse(error)
            return
        with stream:
            self.set_header("Content-Type", "application/octet-stream")
            self.set_header("Content-Length", str(record.size_bytes))
            self.set_header("Content-Disposition", "attachment")
            self.set_header("X-Content-Type-Options", "nosniff")
            with suppress(StreamClosedError):  # who reads has gone, perhaps with all that it wanted
                while block := await asyncio.to_thread(stream.read, _BLOCK):
                    self.write(block)
                    await self.flush()
                await self.finish()

    async def forget(self, path: str) -> None:
        """Remove a file or a folder."""
        from nbops.server.mlflow.files import place_of, remove

        try:
            await self.work(lambda desk: remove(desk, place_of(desk, path, empty=False)))
            self.say({})
        except NbopsError as error:
            self.refuse(error)


class Info(Speaking):
    """What clients ask to learn whom they talk to."""

    def tell(self) -> None:
        """Say what is offered."""
        from nbops.server.mlflow.routes import SERVER_INFO

        self.say(SERVER_INFO)


class Other(Speaking):
    """``version``, ``health``, and all that is not offered."""

    def tell(self, path: str) -> None:
        """Answer the probes; anything else is not there."""
        from nbops.server.mlflow.routes import VERSION

        known = {
            "version": VERSION,
            "health": "OK",
            "": f"MLflow's tracking and registry interface, {VERSION}, by nbops{os.linesep}",
        }
        text = known.get(path.strip("/")) if self.request.method in ("GET", "HEAD") else None
        if text is None:
            self.refuse(MlflowError(f"No endpoint answers {self.request.method} {path}", NO_ENDPOINT))
            return
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.finish(text)
