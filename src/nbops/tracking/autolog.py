"""MLflow clients of this kernel write into the workspace: finds the Jupyter server's interface, or starts one.

No server is imported here: Jupyter's is found by the file that it leaves for its kernels, another is a process.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nbops.core.display import Shown
from nbops.core.errors import MissingDependency, StoreError
from nbops.store.discovery import VARIABLE
from nbops.store.workspace import workspace

URI, TOKEN = "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN"
STORE_URL, ARTIFACTS_URL = "NBOPS_STORE_URL", "NBOPS_ARTIFACTS_URL"
_REGISTRY = "MLFLOW_REGISTRY_URI"
_SERVER_TOKEN = "NBOPS_MLFLOW_TOKEN"  # noqa: S105
_TIMEOUT_S = 5.0
_process: subprocess.Popen[str] | None = None
_process_workspace = ""
_before: dict[str, str | None] | None = None


@dataclass(frozen=True)
class Autolog(Shown):
    """Where MLflow's clients of this kernel write.

    Attributes
    ----------
    uri : str
        What ``MLFLOW_TRACKING_URI`` is now; empty if it is as it was before.
    server : str
        ``jupyter``, ``process`` or empty.
    """

    uri: str
    server: str

    def __repr__(self) -> str:
        if not self.uri:
            return "MLflow's clients write where they wrote before."
        by = "the Jupyter server" if self.server == "jupyter" else "a process beside this kernel"
        return f"MLflow's clients write into this workspace, through {by}: {self.uri}"


def autolog(*, off: bool = False) -> Autolog:
    """Let MLflow's clients and MLflow's autologging in this kernel write into the workspace.

    Sets ``MLFLOW_TRACKING_URI`` and ``MLFLOW_TRACKING_TOKEN`` to the Jupyter server that started this kernel if it
    reads this workspace, else to a process that ends with this one; then calls ``mlflow.autolog()``. Calling it
    again is fine.

    Parameters
    ----------
    off : bool
        Undo it: autologging off, the variables as they were, the process ended.

    Raises
    ------
    MissingDependency
        MLflow is not installed.
    StoreError
        The process did not start.
    """
    if find_spec("mlflow") is None:
        raise MissingDependency.of("mlflow", "mlflow")
    if off:
        return _undo()
    current = workspace()
    found = jupyter_server(current.path)
    server = "jupyter" if found else "process"
    urls = {STORE_URL: current.settings.store_url, ARTIFACTS_URL: current.settings.artifacts_url}
    uri, token = found or _own_server(current.path, {name: url for name, url in urls.items() if url})
    _point_to(uri, token)
    mlflow: Any = import_module("mlflow")
    mlflow.set_tracking_uri(uri)
    mlflow.autolog(silent=True)
    return Autolog(uri, server)


def _point_to(uri: str, token: str) -> None:
    global _before
    if _before is None:
        _before = {name: os.environ.get(name) for name in (URI, TOKEN, _REGISTRY)}
    os.environ.pop(_REGISTRY, None)
    os.environ.update({URI: uri, TOKEN: token})


def _undo() -> Autolog:
    global _before
    if _before is None:
        return Autolog("", "")
    mlflow: Any = import_module("mlflow")
    mlflow.autolog(disable=True, silent=True)
    while mlflow.active_run() is not None:
        mlflow.end_run()
    mlflow.set_tracking_uri(_before[URI] or "")  # sets the variable too, so it goes first
    for name, value in _before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    _before = None
    _stop()
    return Autolog("", "")


def jupyter_server(path: Path) -> tuple[str, str] | None:
    """Return the URI and token of the interface of the Jupyter server that started this kernel.

    None if there is none, if it has no such interface, or if it reads another workspace than `path`.
    """
    parent, folder = os.environ.get("JPY_PARENT_PID", ""), _runtime_folder()
    if not parent.isdigit() or folder is None:
        return None
    try:
        told = json.loads((folder / f"jpserver-{parent}.json").read_text())
        url, token = str(told["url"]), str(told["token"])
        head = {"Authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"{url}nbops/api/v1/info", headers=head)  # noqa: S310 (Jupyter's own file)
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
            read = Path(json.load(answer)["workspace"])
    except (OSError, ValueError, KeyError, urllib.error.URLError):  # no server of that kind: another way is taken
        return None
    if not token or read.resolve() != path.resolve():
        return None
    return f"{url}nbops/mlflow", token


def _runtime_folder() -> Path | None:
    """Return where Jupyter keeps the files of running servers and kernels: beside this kernel's own."""
    given = os.environ.get("JUPYTER_RUNTIME_DIR")
    if given:
        return Path(given)
    ipykernel: Any = sys.modules.get("ipykernel.connect")
    if ipykernel is None:
        return None
    try:
        return Path(ipykernel.get_connection_file()).parent
    except RuntimeError:  # IPython without a kernel
        return None


def _own_server(path: Path, urls: dict[str, str]) -> tuple[str, str]:
    global _process, _process_workspace
    if _process is not None and _process.poll() is None and _process_workspace == str(path):
        return os.environ[URI], os.environ[TOKEN]
    _stop()
    token = secrets.token_urlsafe(24)
    _process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
        [sys.executable, "-P", "-m", "nbops", "mlflow-server", "--workspace", os.fspath(path), "--until-stdin-closes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # the kernel's interrupt is not for it
        env={**os.environ, _SERVER_TOKEN: token, VARIABLE: os.fspath(path), **urls},
    )
    _process_workspace = str(path)
    line = _process.stdout.readline() if _process.stdout else ""
    if "=" not in line:
        _stop()
        raise StoreError(
            f"the MLflow interface over {path} did not start",
            hint=f"Read what it says: {Path(sys.executable).name} -m nbops mlflow-server",
        )
    return line.strip().partition("=")[2], token


@atexit.register
def _stop() -> None:
    """End the process that was started here."""
    global _process
    process, _process = _process, None
    if process is None:
        return
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
    try:
        process.wait(10.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
