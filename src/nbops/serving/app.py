"""The endpoint's HTTP face: a raw ASGI application with the routes of Open Inference Protocol v2.

Who may ask, how large a body may be, and which status an error becomes. No model is loaded here.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any
from urllib.parse import unquote

import msgspec

from nbops.core.errors import InvalidInput, did_you_mean
from nbops.core.records import Signature
from nbops.serving.batching import Batcher, Overdue, QueueFull, Stopping
from nbops.serving.engines import EngineFailure
from nbops.serving.metrics import CONTENT_TYPE, EndpointMetrics, ModelMetrics
from nbops.serving.tensors import RequestReader, encode_response, metadata_of

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Reply = tuple[int, bytes, list[tuple[bytes, bytes]]]

log = logging.getLogger("nbops.serving")
JSON = (b"content-type", b"application/json")
LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
_OPEN = frozenset({"/v2/health/live", "/v2/health/ready"})
_CLOSE = (b"connection", b"close")


class ServedModel:
    """One model version behind its batcher.

    Parameters
    ----------
    name, version : str
        As in the URL.
    signature : Signature
        What it takes and gives.
    batcher : Batcher
        Where its rows go.
    metrics : ModelMetrics
        Where its requests are counted.
    """

    def __init__(
        self, name: str, version: str, *, signature: Signature, batcher: Batcher, metrics: ModelMetrics
    ) -> None:
        self.name = name
        self.version = version
        self.signature = signature
        self.reader = RequestReader(signature)
        self.batcher = batcher
        self.metrics = metrics

    def metadata(self) -> dict[str, Any]:
        """Return the answer of ``GET /v2/models/NAME``."""
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": "onnxruntime_onnx",
            "inputs": [metadata_of(spec) for spec in self.signature.inputs],
            "outputs": [metadata_of(spec) for spec in self.signature.outputs],
        }


class Refused(Exception):
    """A request that ends before a model sees it."""

    def __init__(self, status: int, message: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class App:
    """ASGI application of one endpoint.

    Parameters
    ----------
    models : list of ServedModel
        What is served; each answers under its name and under its name and version.
    token : str
        Bearer token; empty lets everybody in.
    hosts : set of str
        Accepted names in the Host header, without the port.
    max_body_bytes : int, bytes
        Largest request body.
    """

    def __init__(
        self,
        models: list[ServedModel],
        *,
        metrics: EndpointMetrics,
        token: str,
        hosts: frozenset[str] = LOCAL_HOSTS,
        max_body_bytes: int = 64 << 20,
        server_version: str = "",
    ) -> None:
        self.models = models
        self.metrics = metrics
        self.is_draining = False
        self.is_alone: Callable[[], bool] = _never  # set by the server: whether one request is being handled only
        self._token = token.encode()
        self._hosts = hosts
        self._max_body = max_body_bytes
        self._version = server_version
        self._infer: dict[str, ServedModel] = {}
        self._get: dict[str, Callable[[], Reply]] = {
            "/": self._about,
            "/v2": self._about,
            "/v2/health/live": lambda: _json({"live": True, "ready": not self._why_not_ready()}),
            "/v2/health/ready": self._ready,
            "/v2/models": lambda: _json({"models": [m.name for m in self.models]}),
            "/v2/stats": self._stats,
            "/metrics": self._metrics,
        }
        for model in models:
            self._add(model)

    def _add(self, model: ServedModel) -> None:
        for base in (f"/v2/models/{model.name}", f"/v2/models/{model.name}/versions/{model.version}"):
            self._infer[f"{base}/infer"] = model
            self._get[base] = lambda: _json(model.metadata())
            self._get[f"{base}/ready"] = lambda: self._model_ready(model)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            self._admit(scope)
            model = self._infer.get(scope["path"])
            if model is not None and scope["method"] == "POST":
                reply = await self._run(model, scope, receive)
            else:
                reply = self._other(scope)
        except Refused as refusal:
            reply = _error(refusal.status, str(refusal), *refusal.headers)
        status, body, headers = reply
        if self.is_draining:
            headers = [*headers, _CLOSE]
        headers = [*headers, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _run(self, model: ServedModel, scope: Scope, receive: Receive) -> Reply:
        body = await self._body(scope, receive)
        began = perf_counter()
        rows = 0
        try:
            request = model.reader.read(body)
            rows = request.rows
            answer = await model.batcher.submit(request.inputs, rows, is_alone=self.is_alone())
            data = encode_response(model.name, model.version, answer.outputs, wanted=request.outputs, id=request.id)
            reply: Reply = (200, data, [JSON])
        except Exception as error:  # every failure is an answer; the process goes on
            reply = _failed(error)
        model.metrics.answered(reply[0], perf_counter() - began, rows)
        return reply

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        for name, value in scope["headers"]:
            if name == b"content-length" and int(value) > self._max_body:
                raise self._too_large(int(value))
            if name == b"inference-header-content-length":
                raise Refused(400, "this server takes JSON tensors only, got binary ones. Send binary_data=False.")
            if name == b"content-encoding" and value.lower() != b"identity":
                raise Refused(415, f"expected a body without content-encoding, got {value.decode('latin-1')}")
        message = await receive()
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            return body
        parts, size = [body], len(body)
        while message.get("more_body", False):
            message = await receive()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._max_body:
                raise self._too_large(size)
        return b"".join(parts)

    def _too_large(self, size: int) -> Refused:
        self.metrics.refuse("size")
        return Refused(413, f"body of {size} bytes exceeds the limit of {self._max_body} bytes", _CLOSE)

    def _admit(self, scope: Scope) -> None:
        """Refuse a foreign Host (a page that rebinds its DNS name to this machine) and a wrong token."""
        host = given = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                given = value
            elif name == b"host":
                host = value
            elif name == b"x-api-key" and not given:
                given = b"Bearer " + value
        name, _, port = host.decode("latin-1").lower().rpartition(":")
        if (name if name and port.isdigit() else host.decode("latin-1").lower()) not in self._hosts:
            self.metrics.refuse("host")
            raise Refused(403, f"host '{host.decode('latin-1')}' is not served here: expected {_any_of(self._hosts)}")
        if not self._token or scope["path"] in _OPEN:
            return
        scheme, _, token = given.partition(b" ")
        if scheme.lower() not in (b"bearer", b"token") or not hmac.compare_digest(token.strip(), self._token):
            self.metrics.refuse("auth")
            got = "a wrong token" if given else "no token"
            challenge = (b"www-authenticate", b'Bearer realm="nbops"')
            raise Refused(401, f"expected 'Authorization: Bearer TOKEN', got {got}", challenge)

    def _other(self, scope: Scope) -> Reply:
        path, method = scope["path"], scope["method"]
        if len(path) > 1:
            path = path.rstrip("/") or "/"
        if path in self._infer:
            if method == "POST":
                raise Refused(404, f"no route '{scope['path']}'. Did you mean '{path}'?")
            raise Refused(405, f"expected POST, got {method}", (b"allow", b"POST"))
        answer = self._get.get(path)
        if answer is None:
            raise self._no_route(path)
        if method not in ("GET", "HEAD"):
            raise Refused(405, f"expected GET, got {method}", (b"allow", b"GET, HEAD"))
        return answer()

    def _no_route(self, path: str) -> Refused:
        parts = [unquote(part) for part in path.split("/")]
        if parts[:3] == ["", "v2", "models"] and len(parts) > 3:
            served = {model.name: model for model in self.models}
            if parts[3] not in served:
                near = did_you_mean(parts[3], served)
                return Refused(404, f"no model '{parts[3]}': this endpoint serves {_any_of(served)}. {near}".rstrip())
            version = served[parts[3]].version
            if parts[4:5] == ["versions"] and parts[5:6] != [version]:
                return Refused(
                    404, f"no version '{''.join(parts[5:6])}' of '{parts[3]}': this endpoint serves '{version}'"
                )
        return Refused(404, f"no route '{path}'. {did_you_mean(path, [*self._get, *self._infer])}".rstrip())

    def _about(self) -> Reply:
        return _json({"name": "nbops", "version": self._version, "extensions": []})

    def _why_not_ready(self) -> str:
        if self.is_draining:
            return "the endpoint is stopping"
        stuck = [model.name for model in self.models if model.batcher.is_stuck]
        return f"no answer from the engine of {_any_of(stuck)}" if stuck else ""

    def _ready(self) -> Reply:
        why = self._why_not_ready()
        return _json({"live": True, "ready": False, "error": why}, 503) if why else _json({"live": True, "ready": True})

    def _model_ready(self, model: ServedModel) -> Reply:
        why = self._why_not_ready()
        if why:
            return _json({"name": model.name, "ready": False, "error": why}, 503)
        return _json({"name": model.name, "ready": True})

    def _stats(self) -> Reply:
        return _json({f"{m.name}/{m.version}": m.metrics.summary() for m in self.models})

    def _metrics(self) -> Reply:
        waiting = {model.name: model.batcher.waiting_rows for model in self.models}
        return 200, self.metrics.text(waiting), [(b"content-type", CONTENT_TYPE)]


def _never() -> bool:
    return False


def _failed(error: Exception) -> Reply:
    """Return the answer for a request that did not get its outputs."""
    match error:
        case InvalidInput():
            return _error(400, " ".join(str(error).split("\n")))
        case QueueFull():
            return _error(429, error.message, (b"retry-after", b"1"))
        case Overdue():
            return _error(504, error.message)
        case Stopping():
            return _error(503, error.message, (b"retry-after", b"1"))
        case EngineFailure():
            return _error(500, error.message)
        case _:
            log.error("an infer request failed", exc_info=error)
            return _error(500, f"internal error: {type(error).__name__}")


def _json(value: Any, status: int = 200) -> Reply:
    return status, msgspec.json.encode(value), [JSON]


def _error(status: int, message: str, *headers: tuple[bytes, bytes]) -> Reply:
    return status, msgspec.json.encode({"error": message}), [JSON, *headers]


def _any_of(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))
