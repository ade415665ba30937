"""Roles on a real Jupyter server that knows three people, and on one that knows a token only."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from jupyter_server.auth import Authorizer, User
from people import People
from tables import contents
from tornado.httpclient import HTTPClientError

from nbops.core.records import Run
from nbops.server.backend import Backend
from nbops.server.handlers import routes
from nbops.store.auditing import walk
from nbops.store.workspace import Workspace

Ask = Callable[..., Awaitable[tuple[int, Any]]]
MLFLOW = ("nbops", "mlflow", "api", "2.0", "mlflow")
FILES = ("nbops", "mlflow", "api", "2.0", "mlflow-artifacts", "artifacts")
ROLES = '[roles]\nanna = "approver"\nbert = "editor"\n'
POINT = {"key": "loss", "value": 1.5, "timestamp": 1_700_000_000_000, "step": 3}


class ReadOnly(Authorizer):
    """Jupyter's own authorisation, which stands before roles: nobody writes."""

    def is_authorized(self, handler: Any, user: User, action: str, resource: str) -> bool:
        return action == "read" or resource != "nbops"


@pytest.fixture
def provider(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Which classes decide who is let in; a test names others."""
    return getattr(request, "param", {"identity_provider_class": People})


@pytest.fixture
def jp_server_config(provider: dict[str, Any]) -> dict[str, Any]:
    app = {"jpserver_extensions": {"nbops": True, "jupyter_server_terminals": False}, **provider}
    return {"ServerApp": app}


@pytest.fixture
def config(jp_root_dir: Path) -> Path:
    """The settings of the server's workspace, with roles."""
    (jp_root_dir / ".nbops").mkdir()
    path = jp_root_dir / ".nbops" / "config.toml"
    path.write_text(ROLES)
    return path


@pytest.fixture
def ask(jp_fetch: Callable[..., Awaitable[Any]], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Ask a route in somebody's name; return the status and the JSON, also for an error."""
    monkeypatch.setenv("NBOPS_USER", "server")

    async def call(
        who: str, method: str, *path: str, fields: Any = None, data: bytes | None = None, params: Any = None
    ) -> tuple[int, Any]:
        body = json.dumps(fields).encode() if fields is not None else data
        if body is None and method in ("POST", "PUT", "PATCH"):
            body = b""
        head = {"Authorization": f"Person {who}"} if who else None
        try:
            answer = await jp_fetch(
                *path, method=method, body=body, headers=head, params=params or {}, allow_nonstandard_methods=True
            )
        except HTTPClientError as error:
            text = error.response.body if error.response is not None else b""
            return error.code, json.loads(text) if text else None
        return answer.code, json.loads(answer.body) if answer.body[:1] in (b"{", b"[") else answer.body

    return call


async def new_run(ask: Ask, who: str, **fields: Any) -> str:
    status, made = await ask(who, "POST", *MLFLOW, "runs", "create", fields={"experiment_id": "0", **fields})
    assert status == 200, made
    id: str = made["run"]["info"]["run_id"]
    return id


def opened(backend: Backend) -> Workspace:
    found = backend.workspace()
    assert found is not None
    return found


def actors(backend: Backend, *kinds: str) -> list[str]:
    store = opened(backend).store
    assert walk(store).is_whole
    return [event.actor for event in store.events(limit=100_000) if event.kind in kinds]


# ---- who may what ----------------------------------------------------------------------------------------------------


async def test_a_viewer_reads_an_editor_records_an_approver_promotes(ask: Ask, config: Path, backend: Backend) -> None:
    run = await new_run(ask, "bert")
    for who, wanted in (("vera", 403), ("bert", 200), ("anna", 200)):
        point = {"run_id": run, **POINT, "key": f"by-{who}"}
        status, told = await ask(who, "POST", *MLFLOW, "runs", "log-metric", fields=point)
        assert status == wanted, told
        status, found = await ask(who, "POST", *MLFLOW, "runs", "search", fields={"experiment_ids": ["0"]})
        assert (status, len(found["runs"])) == (200, 1)
        assert (await ask(who, "GET", "nbops", "api", "v1", "runs"))[1]["total"] == 1
        status, told = await ask(who, "PUT", *FILES, "some", who, data=b"x")
        assert status == wanted, told
    for path, fields in (
        ("registered-models/create", {"name": "digits"}),
        ("model-versions/create", {"name": "digits", "source": f"runs:/{run}/m"}),
    ):
        assert (await ask("bert", "POST", *MLFLOW, *path.split("/"), fields=fields))[0] == 200
    alias = {"name": "digits", "alias": "prod", "version": "1"}
    for who, role in (("vera", "a viewer"), ("bert", "an editor")):
        status, told = await ask(who, "POST", *MLFLOW, "registered-models", "alias", fields=alias)
        assert (status, told["error_code"]) == (403, "PERMISSION_DENIED")
        assert told["message"].startswith(f"'{who}' is {role}; it takes an approver to set or delete an alias")
    assert (await ask("anna", "POST", *MLFLOW, "registered-models", "alias", fields=alias))[0] == 200
    assert (await ask("bert", "DELETE", *FILES, "some", "bert"))[0] == 200
    assert (await ask("vera", "DELETE", *FILES, "some", "anna"))[0] == 403
    assert (await ask("vera", "GET", *FILES, "some", "anna"))[0] == 200
    assert actors(backend, "mlflow-model.alias-set") == ["anna"]
    assert actors(backend, "points.added", "artifact.created") == ["bert", "bert", "anna", "anna"]
    assert actors(backend, "artifact.deleted") == ["bert"]
    assert "vera" not in actors(backend, *{event.kind for event in opened(backend).store.events()})


async def test_the_panel_is_told_who_looks_at_it(ask: Ask, config: Path) -> None:
    info = ("nbops", "api", "v1", "info")
    found = {who: (await ask(who, "GET", *info))[1] for who in ("anna", "bert", "vera")}
    assert {who: (one["user"], one["role"], one["doubt"]) for who, one in found.items()} == {
        "anna": ("anna", "approver", ""), "bert": ("bert", "editor", ""), "vera": ("vera", "viewer", ""),
    }  # fmt: skip


async def test_what_the_panel_reads_changes_nothing(ask: Ask, config: Path, backend: Backend) -> None:
    run = await new_run(ask, "bert")
    await ask("bert", "POST", *MLFLOW, "runs", "log-metric", fields={"run_id": run, **POINT})
    (found,) = opened(backend).store.find(Run)
    before = contents(opened(backend))
    for pattern, _ in routes("/"):
        path = pattern.strip("/").replace("([^/]+)", found.id)
        status, told = await ask("vera", "GET", *path.split("/"), params={"metric": "loss"})
        assert status == 200, (pattern, told)
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert (await ask("anna", method, *path.split("/")))[0] == 405
    assert contents(opened(backend)) == before


async def test_without_roles_everybody_whom_jupyter_let_in_may_everything(ask: Ask, backend: Backend) -> None:
    status, info = await ask("vera", "GET", "nbops", "api", "v1", "info")
    assert (status, info["user"], info["role"]) == (200, "vera", None)
    await new_run(ask, "vera")
    assert (await ask("vera", "POST", *MLFLOW, "registered-models", "create", fields={"name": "m"}))[0] == 200
    assert (await ask("vera", "DELETE", *MLFLOW, "registered-models", "delete", fields={"name": "m"}))[0] == 200
    assert actors(backend, "run.created", "mlflow-model.deleted") == ["vera", "vera"]


async def test_roles_that_change_count_at_once_and_broken_ones_close(
    ask: Ask, config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = await new_run(ask, "bert")
    tag = {"run_id": run, "key": "a", "value": "b"}

    async def status_of(who: str) -> int:
        return (await ask(who, "POST", *MLFLOW, "runs", "set-tag", fields=tag))[0]

    assert (await status_of("bert"), await status_of("vera")) == (200, 403)
    config.write_text('[roles]\nvera = "editor"\n')
    assert (await status_of("bert"), await status_of("vera")) == (403, 200)
    for broken in ('[roles]\nanna = "aprover"\n', "[roles", "", "dataset_max_byte = 1\n" + ROLES):
        config.write_text(broken)
        status, told = await ask("anna", "POST", *MLFLOW, "runs", "set-tag", fields=tag)
        assert (status, told["error_code"]) == (403, "PERMISSION_DENIED")
        assert told["message"].startswith("only reading is allowed now: ")
        assert (await ask("anna", "PUT", *FILES, "x", data=b"x"))[0] == 403
        assert (await ask("vera", "GET", "nbops", "api", "v1", "runs", run))[0] in (200, 404)
        assert (await ask("vera", "POST", *MLFLOW, "runs", "search", fields={"experiment_ids": ["0"]}))[0] == 200
        info = (await ask("anna", "GET", "nbops", "api", "v1", "info"))[1]
        assert info["role"] == "viewer"
        assert info["doubt"]
    config.write_text(ROLES)
    assert (await status_of("anna"), await status_of("vera")) == (200, 403)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("text", [b"[roles", b'[roles]\nanna = "\xff"', None], ids=["torn", "not UTF-8", "a folder"])
async def test_settings_that_are_broken_from_the_start_are_told_and_nothing_falls_over(
    ask: Ask, config: Path, text: bytes | None
) -> None:
    config.unlink()
    config.mkdir() if text is None else config.write_bytes(text)
    status, info = await ask("anna", "GET", "nbops", "api", "v1", "info")
    assert (status, info["role"]) == (200, "viewer")
    assert "config.toml" in info["doubt"]
    status, told = await ask("anna", "POST", *MLFLOW, "runs", "create", fields={"experiment_id": "0"})
    assert (status, told["error_code"]) == (403, "PERMISSION_DENIED")
    status, told = await ask("anna", "GET", "nbops", "api", "v1", "runs")
    assert status == (503 if text is None else 400)
    assert told["hint"]


# ---- who asks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", [{}], indirect=True)
async def test_a_token_holder_is_the_user_of_the_server_s_process(
    ask: Ask, config: Path, jp_fetch: Any, monkeypatch: pytest.MonkeyPatch, backend: Backend
) -> None:
    assert (await ask("", "GET", "nbops", "api", "v1", "info"))[1]["user"] == "server"
    assert (await ask("", "POST", *MLFLOW, "runs", "create", fields={"experiment_id": "0"}))[0] == 403
    monkeypatch.setenv("NBOPS_USER", "bert")
    await new_run(ask, "")
    assert (await ask("Person bert", "GET", "nbops", "api", "v1", "info"))[0] == 403, "no such provider here"
    assert actors(backend, "run.created") == ["bert"]


async def test_a_name_that_was_made_up_is_nobody_unless_it_comes_with_the_token(
    ask: Ask, config: Path, jp_fetch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBOPS_USER", "anna")
    by_token = await jp_fetch("nbops", "api", "v1", "info")
    assert json.loads(by_token.body)["user"] == "anna"
    cookie = by_token.headers["Set-Cookie"].partition(";")[0]
    by_cookie = await jp_fetch("nbops", "api", "v1", "info", headers={"Authorization": "none", "Cookie": cookie})
    info = json.loads(by_cookie.body)
    assert re.fullmatch("[0-9a-f]{32}", info["user"])
    assert info["role"] == "viewer"


async def test_without_any_token_nobody_gets_in(ask: Ask, config: Path, jp_fetch: Any) -> None:
    for path in (("nbops", "api", "v1", "info"), (*MLFLOW, "experiments", "search"), (*FILES, "x")):
        with pytest.raises(HTTPClientError) as told:
            await jp_fetch(*path, headers={"Authorization": "Bearer no"})
        assert told.value.code == 403


@pytest.mark.parametrize("provider", [{"identity_provider_class": People, "authorizer_class": ReadOnly}], indirect=True)
async def test_jupyters_own_authorisation_comes_first(ask: Ask, config: Path, backend: Backend) -> None:
    for _ in range(2):  # also after something was read by the same route
        assert (await ask("anna", "GET", *MLFLOW, "experiments", "get-by-name"))[0] == 400
        for method, *path in (("POST", *MLFLOW, "runs", "create"), ("DELETE", *FILES, "x"), ("PUT", *FILES, "x")):
            status, told = await ask("anna", method, *path, fields={"experiment_id": "0"})
            assert (status, told["error_code"]) == (403, "PERMISSION_DENIED")
            assert "authorized" in told["message"]
    assert opened(backend).store.count(Run) == 0


# ---- side by side ----------------------------------------------------------------------------------------------------


async def test_requests_of_different_people_do_not_mix(ask: Ask, config: Path, backend: Backend) -> None:
    async def work(who: str, n: int) -> None:
        run = await new_run(ask, who, run_name=f"{who}-{n}")
        await asyncio.gather(
            ask(who, "POST", *MLFLOW, "runs", "log-metric", fields={"run_id": run, **POINT}),
            ask("vera", "GET", *MLFLOW, "runs", "search"),
            ask(who, "POST", *MLFLOW, "runs", "set-tag", fields={"run_id": run, "key": "a", "value": "b"}),
            ask(who, "PUT", *FILES, "0", run, "artifacts", "f", data=who.encode()),
        )

    await asyncio.gather(*(work(who, n) for n in range(12) for who in ("anna", "bert")))
    store = opened(backend).store
    assert walk(store).is_whole
    runs = store.find(Run)
    assert len(runs) == 24
    for run in runs:
        events = [event for event in store.events(subject=run.id) if event.kind != "artifact.created"]
        assert {event.actor for event in events} == {run.name.partition("-")[0]}
        assert {"run.created", "points.added", "run.updated"} <= {event.kind for event in events}
