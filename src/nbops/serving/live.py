"""`LiveEndpoint`: the handle of one running endpoint."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from nbops.core.display import Shown
from nbops.core.errors import NotFound
from nbops.core.records import Endpoint
from nbops.serving import descriptor as runtime_file
from nbops.serving import records
from nbops.serving.client import Client
from nbops.serving.descriptor import Descriptor, Paths
from nbops.serving.launching import tail
from nbops.serving.records import stop_record
from nbops.serving.tensors import datatype_of

STOP_GRACE_S = 10.0


class LiveEndpoint(Shown):
    """One endpoint: call it, look at it, stop it. It lives on when this handle, or the kernel, is gone.

    Attributes
    ----------
    id, name : str
        Of its record.
    url : str
        ``http://127.0.0.1:41235``.
    token : str
        Bearer token that each request needs, in the header ``Authorization: Bearer TOKEN``.
    model : str
        Name of the model in the URL: ``{url}/v2/models/{model}/infer``.
    """

    def __init__(self, workspace: Path, descriptor: Descriptor) -> None:
        self.id = descriptor.id
        self.name = descriptor.name
        self.url = descriptor.url
        self.token = descriptor.token
        self.refs = list(descriptor.bundles)
        self.model = self.refs[0].rpartition("/")[0]
        self._workspace = workspace
        self._store_url = descriptor.store_url
        self._paths = Paths(workspace, self.id)
        self._client = Client(self.url, token=self.token, model=self.model, timeout_s=descriptor.timeout_s)

    @property
    def record(self) -> Endpoint:
        """Its record as it is now."""
        with records.opened(self._workspace, self._store_url) as workspace:
            records.refresh(workspace)
            return workspace.store.get(Endpoint, self.id)

    def is_alive(self) -> bool:
        """Return whether its process runs."""
        try:
            return runtime_file.read(self._paths.descriptor).is_alive
        except NotFound:
            return False

    def infer(self, inputs: Any) -> Any:
        """Send rows and return the outputs.

        Parameters
        ----------
        inputs : array, tensor, data frame, nested list, or dict of these by input name
            Rows in the first dimension.

        Returns
        -------
        numpy.ndarray, or dict of them if the model has several outputs

        Raises
        ------
        SignatureMismatch
            The rows do not fit the model's signature.
        EndpointError
            The endpoint does not answer, or failed.
        """
        return self._client.infer(inputs)

    def stats(self) -> dict[str, Any]:
        """Return requests, errors, rows, rows per batch, and p50 and p99 in milliseconds, by model version."""
        answer: dict[str, Any] = self._client.get("/v2/stats")
        return answer

    def curl(self) -> str:
        """Return a shell command that calls the endpoint with one row of zeros.

        The token is read from a file that only you can read, so it shows neither in the
        notebook nor in the list of processes.
        """
        inputs = []
        for spec in self._client.signature().inputs:
            shape = [max(side, 1) for side in spec.shape]
            data: Any = np.zeros(shape, object if spec.dtype == "str" else spec.dtype)
            data = ["" for _ in data.flat] if spec.dtype == "str" else data.ravel().tolist()
            inputs.append({"name": spec.name, "shape": shape, "datatype": datatype_of(spec), "data": data})
        body = msgspec.json.encode({"inputs": inputs}).decode()
        header = f"-H @{shlex.quote(str(self._paths.auth))} " if self.token else ""
        return f"curl -s {header}-d {shlex.quote(body)} {self.url}/v2/models/{self.model}/infer"

    def logs(self, lines: int = 50) -> str:
        """Return the last lines of its log."""
        return tail(self._paths, lines)

    def stop(self, *, grace_s: float = STOP_GRACE_S) -> Endpoint:
        """Let it finish what it has accepted, end it, and return its record; stopping twice is fine.

        Parameters
        ----------
        grace_s : float, seconds
            After this long it is killed.
        """
        self._client.close()
        with records.opened(self._workspace, self._store_url) as workspace:
            return stop_record(workspace, workspace.store.get(Endpoint, self.id), grace_s=grace_s)

    def __repr__(self) -> str:
        state = "running" if self.is_alive() else "stopped"
        return f"LiveEndpoint({self.name}, {state}, {self.url}, serves {', '.join(self.refs)})"
