"""A small blocking client of one endpoint, on the standard library: what `LiveEndpoint` talks through."""

from __future__ import annotations

import http.client
import threading
import weakref
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import numpy as np

from nbops.core.errors import EndpointError, InvalidInput, NotFound
from nbops.core.records import Signature, TensorSpec
from nbops.models.signature import conform
from nbops.serving.tensors import DATATYPES, datatype_of

_DTYPES = {datatype: dtype for dtype, datatype in DATATYPES.items()}  # BYTES is "str"
_ERRORS = {400: InvalidInput, 404: NotFound}


class Client:
    """Calls one model of one endpoint over a connection that stays open.

    Parameters
    ----------
    url : str
        ``http://127.0.0.1:41235``.
    token : str
        Bearer token, or empty.
    model : str
        Name of the model.
    timeout_s : float, seconds
        How long one answer may take.
    """

    def __init__(self, url: str, *, token: str, model: str, timeout_s: float = 60.0) -> None:
        self.url = url
        self.model = model
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._open: list[http.client.HTTPConnection] = []  # one at most
        weakref.finalize(self, _close, self._open)  # a handle that a cell drops leaves no socket behind
        self._signature: Signature | None = None

    def infer(self, inputs: Any) -> Any:
        """Return the outputs for `inputs`: an array, or a dict of arrays if the model has several outputs.

        Raises
        ------
        SignatureMismatch
            `inputs` do not fit the model's signature.
        EndpointError
            The endpoint does not answer, or answers with an error of its own.
        """
        arrays = conform(self.signature(), inputs)
        specs = {spec.name: datatype_of(spec) for spec in self.signature().inputs}
        tensors = [
            {"name": name, "shape": list(a.shape), "datatype": specs[name], "data": _plain(a)}
            for name, a in arrays.items()
        ]
        answer = self.post(f"/v2/models/{quote(self.model)}/infer", {"inputs": tensors})
        outputs = {out["name"]: _array(out) for out in answer["outputs"]}
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    def signature(self) -> Signature:
        """Return what the model takes and gives, asked once."""
        if self._signature is None:
            answer = self.get(f"/v2/models/{quote(self.model)}")
            self._signature = Signature(
                inputs=[_spec(item) for item in answer["inputs"]], outputs=[_spec(item) for item in answer["outputs"]]
            )
        return self._signature

    def get(self, path: str) -> Any:
        """Return the JSON answer of a GET."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: Any) -> Any:
        """Return the JSON answer of a POST of `body` as JSON."""
        return self._ask("POST", path, msgspec.json.encode(body))

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        with self._lock:
            _close(self._open)

    def _ask(self, method: str, path: str, body: bytes | None) -> Any:
        with self._lock:
            status, data = self._exchange(method, path, body)
        if status == 200:
            return msgspec.json.decode(data)
        try:
            message = msgspec.json.decode(data, type=dict[str, Any])["error"]
        except (msgspec.DecodeError, KeyError):
            message = f"{self.url} answered {status}"
        if status in _ERRORS:
            raise _ERRORS[status](message)
        raise EndpointError(f"{message} (status {status})", hint="Read the endpoint's .logs().")

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        is_fresh = not self._open
        connection = self._connect() if is_fresh else self._open[0]
        try:
            connection.request(method, path, body, {**self._headers, "Content-Type": "application/json"})
            response = connection.getresponse()
            data = response.read()
        except (http.client.HTTPException, OSError) as error:
            _close(self._open)
            if not is_fresh and isinstance(error, ConnectionError | http.client.RemoteDisconnected):
                return self._exchange(method, path, body)  # the server closed the idle connection
            what = "no answer" if not isinstance(error, TimeoutError) else f"no answer within {self._timeout_s:g} s"
            raise EndpointError(
                f"{what} from {self.url}: {error}", hint="Serve it again with nb.serve, or list nb.endpoints()."
            ) from error
        if response.will_close:
            _close(self._open)
        return response.status, data

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=self._timeout_s)
        self._open.append(connection)
        return connection


def _close(connections: list[http.client.HTTPConnection]) -> None:
    while connections:
        connections.pop().close()


def _plain(array: Any) -> list[Any]:
    values: list[Any] = array.ravel().tolist()
    return values


def _spec(item: dict[str, Any]) -> TensorSpec:
    return TensorSpec(name=item["name"], dtype=_DTYPES[item["datatype"]], shape=item["shape"])


def _array(output: dict[str, Any]) -> Any:
    dtype = _DTYPES[output["datatype"]]
    return np.array(output["data"], dtype=object if dtype == "str" else dtype).reshape(output["shape"])
