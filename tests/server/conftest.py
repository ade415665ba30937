"""A real Jupyter server with our extension, and a workspace with runs in it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_jupyter.jupyter_server import *  # noqa: F403 - fixtures and hooks for this folder only
from tornado.httpclient import HTTPClientError

from nbops.server.backend import Backend
from nbops.store.workspace import Workspace

Get = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture
def jp_server_config() -> dict[str, Any]:
    return {"ServerApp": {"jpserver_extensions": {"nbops": True, "jupyter_server_terminals": False}}}


@pytest.fixture
def jp_serverapp(
    jp_server_config: dict[str, Any],
    jp_configurable_serverapp: Callable[..., Any],
    jp_asyncio_loop: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Any]:
    """A server that starts without a workspace named in the environment; what our extension started is stopped."""
    monkeypatch.setenv("NBOPS_WORKSPACE", "")  # so that the name which the extension sets is taken away again
    monkeypatch.delenv("NBOPS_WORKSPACE")
    app = jp_configurable_serverapp(config=jp_server_config)
    yield app
    jp_asyncio_loop.run_until_complete(app.web_app.settings["nbops_watcher"].stop())
    app.web_app.settings["nbops"].close()


@pytest.fixture
def seeded(jp_root_dir: Path) -> Iterator[Workspace]:
    """The workspace of the server's root folder, as a notebook beside the server would hold it."""
    opened = Workspace.open(jp_root_dir)
    yield opened
    opened.close()


@pytest.fixture
def backend(jp_serverapp: Any) -> Backend:
    found: Backend = jp_serverapp.web_app.settings["nbops"]
    return found


@pytest.fixture
def get(jp_fetch: Callable[..., Awaitable[Any]]) -> Get:
    """Ask one of our routes; return the status and the JSON, also for an error."""

    async def ask(*parts: str, headers: dict[str, str] | None = None, **params: Any) -> tuple[int, Any]:
        pairs = [(k, v) for k, vs in params.items() for v in (vs if isinstance(vs, list) else [vs])]
        try:
            answer = await jp_fetch("nbops", "api", "v1", *parts, params=pairs, headers=headers)
        except HTTPClientError as error:
            body = error.response.body if error.response is not None else b""
            return error.code, json.loads(body) if body else None
        return answer.code, json.loads(answer.body)

    return ask
