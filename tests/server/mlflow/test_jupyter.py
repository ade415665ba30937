"""The interface in a Jupyter server: under its address, behind its token, in its workspace."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError

from nbops.core.records import Run
from nbops.server.backend import Backend
from nbops.tracking.autolog import jupyter_server

Fetch = Callable[..., Awaitable[Any]]
API = ("nbops", "mlflow", "api", "2.0", "mlflow")


@pytest.fixture
def token(jp_serverapp: Any) -> str:
    found: str = jp_serverapp.identity_provider.token
    return found


async def test_a_client_with_the_token_of_jupyter_logs_a_run(jp_fetch: Fetch, token: str, backend: Backend) -> None:
    async def ask(method: str, *path: str, fields: Any = None, **params: Any) -> Any:
        body = None if fields is None else json.dumps(fields)
        head = {"Authorization": f"Bearer {token}"}
        answer = await jp_fetch(*API, *path, method=method, body=body, headers=head, params=params)
        return json.loads(answer.body)

    made = await ask("POST", "runs", "create", fields={"experiment_id": "0", "run_name": "by token"})
    id = made["run"]["info"]["run_id"]
    point = {"key": "acc", "value": 0.5, "timestamp": 5, "step": 1}
    await ask("POST", "runs", "log-batch", fields={"run_id": id, "metrics": [point]})
    got = await ask("GET", "runs", "get", run_id=id)
    assert got["run"]["data"]["metrics"] == [point]
    workspace = backend.workspace()
    assert workspace is not None
    (run,) = workspace.store.find(Run)
    assert (run.name, run.metrics) == ("by token", {"acc": 0.5})


async def test_files_go_through_jupyter(jp_fetch: Fetch, token: str) -> None:
    place = ("nbops", "mlflow", "api", "2.0", "mlflow-artifacts", "artifacts")
    head = {"Authorization": f"Bearer {token}"}
    data = os.urandom(200_000)
    await jp_fetch(*place, "some", "file.bin", method="PUT", body=data, headers=head)
    assert (await jp_fetch(*place, "some", "file.bin", headers=head)).body == data
    listed = json.loads((await jp_fetch(*place, headers=head, params={"path": "some"})).body)
    assert listed["files"] == [{"path": "file.bin", "is_dir": False, "file_size": 200_000}]
    await jp_fetch(*place, "some", "file.bin", method="DELETE", headers=head)
    with pytest.raises(HTTPClientError) as told:
        await jp_fetch(*place, "some", "file.bin", headers=head)
    assert told.value.code == 404


async def test_nobody_gets_in_without_the_token(jp_fetch: Fetch, backend: Backend) -> None:
    for method, path, body in (
        ("GET", "api/2.0/mlflow/experiments/search", None),
        ("POST", "api/2.0/mlflow/runs/create", "{}"),
        ("PUT", "api/2.0/mlflow-artifacts/artifacts/x.txt", "x"),
        ("GET", "api/2.0/mlflow-artifacts/artifacts", None),
        ("DELETE", "api/2.0/mlflow-artifacts/artifacts/x.txt", None),
    ):
        with pytest.raises(HTTPClientError) as told:
            await jp_fetch("nbops", "mlflow", path, method=method, body=body, headers={"Authorization": "Bearer no"})
        assert told.value.code == 403, path
        assert told.value.response is not None
        assert json.loads(told.value.response.body)["error_code"] == "PERMISSION_DENIED"
    assert not backend.path.exists()


async def test_a_kernel_finds_the_server_that_started_it(
    jp_fetch: Fetch,
    http_server_port: Any,
    jp_serverapp: Any,
    token: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    backend: Backend,
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("JPY_PARENT_PID", "4242")
    assert await asyncio.to_thread(jupyter_server, backend.path) is None
    told = tmp_path / "jpserver-4242.json"
    await jp_fetch("nbops", "api", "v1", "info")  # it listens
    info = {**jp_serverapp.server_info(), "url": f"http://127.0.0.1:{http_server_port[-1]}{jp_serverapp.base_url}"}
    told.write_text(json.dumps(info))
    found = await asyncio.to_thread(jupyter_server, backend.path)
    assert found == (f"{info['url']}nbops/mlflow", token)
    assert await asyncio.to_thread(jupyter_server, tmp_path / "elsewhere" / ".nbops") is None
    told.write_text("{")
    assert await asyncio.to_thread(jupyter_server, backend.path) is None
