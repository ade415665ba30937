"""The routes as a page uses them, on a real Jupyter server."""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError

from nbops.core.ids import new_id
from nbops.core.records import (
    Alias,
    Cell,
    Dataset,
    Diagnosis,
    Endpoint,
    Failure,
    ModelVersion,
    Run,
    RunStatus,
    Signature,
)
from nbops.server.backend import Backend
from nbops.server.watching import SCHEMA_ID, Watcher
from nbops.store.workspace import Workspace

Get = Callable[..., Awaitable[tuple[int, Any]]]


def add_run(workspace: Workspace, name: str, **fields: Any) -> Run:
    fields.setdefault("created_at", time.time())
    run = Run(id=new_id(Run.prefix), name=name, **fields)
    workspace.store.put(run)
    return run


def names(page: dict[str, Any]) -> list[str]:
    return [row["name"] for row in page["rows"]]


async def test_info_names_interface_and_workspace(get: Get, jp_root_dir: Path) -> None:
    status, info = await get("info")
    assert status == 200
    assert info["api_version"] == 1
    assert info["workspace"] == str(jp_root_dir / ".nbops")
    assert info["exists"] is False


async def test_reading_makes_no_workspace(get: Get, jp_root_dir: Path) -> None:
    assert await get("runs") == (200, {"total": 0, "rows": []})
    assert await get("models") == (200, {"total": 0, "rows": []})
    status, error = await get("runs", "run_1")
    assert status == 404
    assert "no workspace" in error["error"]
    assert error["hint"].startswith("Start a run")
    assert not (jp_root_dir / ".nbops").exists()


async def test_runs_come_in_pages_newest_first(get: Get, seeded: Workspace) -> None:
    for i in range(7):
        add_run(seeded, f"run-{i}", created_at=1_000.0 + i)
    _, first = await get("runs", limit=3)
    _, second = await get("runs", limit=3, offset=3)
    _, last = await get("runs", limit=3, offset=6)
    _, beyond = await get("runs", limit=3, offset=9)
    assert first["total"] == second["total"] == last["total"] == 7
    assert names(first) == ["run-6", "run-5", "run-4"]
    assert names(second) == ["run-3", "run-2", "run-1"]
    assert names(last) == ["run-0"]
    assert beyond == {"total": 7, "rows": []}


async def test_runs_can_be_ordered(get: Get, seeded: Workspace) -> None:
    for name in ("b", "c", "a"):
        add_run(seeded, name)
    _, page = await get("runs", order="name asc")
    assert names(page) == ["a", "b", "c"]
    status, error = await get("runs", order="name sideways")
    assert status == 400
    assert "sideways" in error["error"]


async def test_filter_takes_the_query_language(get: Get, seeded: Workspace) -> None:
    good = add_run(seeded, "good", params={"lr": 0.1})
    add_run(seeded, "poor", params={"lr": 0.1})
    for run, acc in ((good, 0.97),):
        seeded.log(run.id, 0, {"acc": acc})
    seeded.flush()
    _, page = await get("runs", where="metrics.acc > 0.9 and params.lr == 0.1")
    assert names(page) == ["good"]
    assert page["rows"][0]["metrics"] == [["acc", 0.97]]


async def test_plain_words_search_names_and_ids(get: Get, seeded: Workspace) -> None:
    wide = add_run(seeded, "resnet wide sweep")
    add_run(seeded, "resnet small")
    add_run(seeded, "100% sure")
    _, page = await get("runs", q="RESNET sweep")
    assert names(page) == ["resnet wide sweep"]
    _, page = await get("runs", q=wide.id[-8:].lower())
    assert names(page) == ["resnet wide sweep"]
    _, page = await get("runs", q="0%")
    assert names(page) == ["100% sure"]
    _, page = await get("runs", q="resnet", where="'small' in name")
    assert names(page) == ["resnet small"]


async def test_bad_query_is_400_with_a_hint(get: Get, seeded: Workspace) -> None:
    status, error = await get("runs", where="metrics.acc >")
    assert status == 400
    assert "cannot parse" in error["error"]
    assert error["hint"].startswith("Write e.g.")


@pytest.mark.parametrize("params", [{"limit": "0"}, {"limit": "9999"}, {"offset": "-1"}, {"offset": "many"}])
async def test_bad_page_is_400_with_the_range(get: Get, seeded: Workspace, params: dict[str, str]) -> None:
    status, error = await get("runs", **params)
    assert status == 400
    assert error["hint"].startswith("Use a whole number")


async def test_wished_metrics_come_first(get: Get, seeded: Workspace) -> None:
    run = add_run(seeded, "many")
    seeded.log(run.id, 0, {f"layer/{i:02d}": 1.0 for i in range(12)} | {"zeta": 2.0, "loss": math.nan})
    seeded.flush()
    _, page = await get("runs", metric=["layer/11"])
    assert [name for name, _ in page["rows"][0]["metrics"]][:3] == ["layer/11", "loss", "zeta"]
    assert page["rows"][0]["metrics"][1] == ["loss", "NaN"]
    seeded.log(run.id, 1, {"val_loss": 3.0, "acc/test": 0.5})
    seeded.flush()
    _, page = await get("runs")
    assert [name for name, _ in page["rows"][0]["metrics"]][:4] == ["acc/test", "val_loss", "loss", "zeta"]


async def test_run_page_has_all_its_parts(get: Get, seeded: Workspace) -> None:
    error = Failure(type="ValueError", message="\x1b[31mloss is NaN\x1b[0m", cell_id="c-2", line=3, traceback="…")
    run = add_run(
        seeded, "broken", status=RunStatus.FAILED, error=error, created_at=1_000.0, ended_at=1_002.5,
        params={"lr": 0.1, "limits": [math.inf]}, tags={"team": "x"}, cell_id="c-2",
    )  # fmt: skip
    for i, status in enumerate(("ok", "error")):
        seeded.store.put(
            Cell(id=new_id("cell"), created_at=float(i), parent=run.id, cell_id=f"c-{i + 1}", execution_count=i + 1,
                 source_digest="0", source="x = 1", status=status, error=error if status == "error" else None)
        )  # fmt: skip
    seeded.save_artifact(b"weights", name="net.pt", parent=run.id)
    seeded.log(run.id, 0, {"loss": 1.0})
    seeded.log(run.id, 1, {"loss": math.nan})
    seeded.flush()
    status, page = await get("runs", run.id)
    assert status == 200
    assert page["status"] == "FAILED"
    assert page["error"]["message"] == "loss is NaN"
    assert page["error"]["cell_id"] == "c-2"
    assert page["params"] == [["lr", 0.1], ["limits", ["Infinity"]]]
    assert [(cell["cell_id"], cell["status"]) for cell in page["cells"]] == [("c-1", "ok"), ("c-2", "error")]
    assert page["cells"][1]["error"]["type"] == "ValueError"
    assert page["artifacts"][0]["name"] == "net.pt"
    assert dict(page["summary"])["loss"]["nan_count"] == 1
    assert page["duration_s"] == 2.5


async def test_unknown_run_is_404(get: Get, seeded: Workspace) -> None:
    for path in (("runs", "run_none"), ("runs", "run_none", "series")):
        status, error = await get(*path, metric="loss")
        assert status == 404
        assert "run_none" in error["error"]


async def test_lineage_runs_from_data_to_endpoint(get: Get, seeded: Workspace) -> None:
    run, child = add_run(seeded, "train"), add_run(seeded, "trial")
    common: dict[str, Any] = {"created_at": time.time()}
    data = Dataset(id=new_id("ds"), name="digits", version=2, digest="d", rows=1797, **common)
    model = ModelVersion(id=new_id("mv"), name="digits", number=1, digest="m", parent=run.id,
                         signature=Signature(inputs=[], outputs=[]), **common)  # fmt: skip
    alias = Alias(id=new_id("al"), name="digits@prod", model="digits", alias="prod", number=1, **common)
    endpoint = Endpoint(id=new_id("ep"), name="digits", url="http://127.0.0.1:1", status="READY", pid=1,
                        models=["digits/1"], ref="digits@prod", **common)  # fmt: skip
    found = Diagnosis(id=new_id("dg"), name="dead-units", status="warning", step=3, layer="relu1", measured=0.9,
                      limit=0.5, what="90 % of units are dead", why="", fix="", confidence=0.8, **common)  # fmt: skip
    store = seeded.store
    for record in (data, model, alias, endpoint, found):
        store.put(record)
    for source, relation, target in (
        (data.id, "used_by", run.id), (run.id, "produced", model.id), (model.id, "served_by", endpoint.id),
        (run.id, "found", found.id), (run.id, "parent_of", child.id), (run.id, "produced", "art_gone"),
    ):  # fmt: skip
        store.link(source, relation, target)
    _, page = await get("runs", run.id)
    flow = [(node["depth"], node["kind"], node["title"]) for node in page["lineage"]]
    assert flow == [
        (-1, "dataset", "digits v2"), (0, "run", "train"), (1, "diagnosis", "dead-units"), (1, "model", "digits/1"),
        (1, "run", "trial"), (2, "endpoint", "digits"),
    ]  # fmt: skip
    _, models = await get("models")
    assert models["total"] == 1
    assert models["rows"][0]["aliases"] == ["prod"]
    assert models["rows"][0]["parent"] == run.id
    _, endpoints = await get("endpoints")
    assert endpoints["rows"][0]["status"] == "READY"
    assert endpoints["rows"][0]["ref"] == "digits@prod"


async def test_series_comes_as_wide_as_asked(get: Get, seeded: Workspace) -> None:
    run = add_run(seeded, "long")
    for step in range(3000):
        seeded.log(run.id, step, {"loss": 1000.0 if step == 1234 else 1.0 / (step + 1), "acc": 0.5})
    seeded.flush()
    _, answer = await get("runs", run.id, "series", metric=["loss", "acc"], px=100)
    loss, acc = answer["series"]
    assert (loss["metric"], acc["metric"]) == ("loss", "acc")
    assert loss["count"] == 3000
    assert len(loss["steps"]) <= 500
    assert loss["values"][loss["steps"].index(1234)] == 1000.0


async def test_series_is_not_read_again_when_nothing_came(
    get: Get, jp_fetch: Callable[..., Awaitable[Any]], seeded: Workspace
) -> None:
    run = add_run(seeded, "steady")
    seeded.log(run.id, 0, {"loss": 1.0})
    seeded.flush()
    path = ("nbops", "api", "v1", "runs", run.id, "series")
    first = await jp_fetch(*path, params={"metric": "loss"})
    etag = first.headers["Etag"]
    with pytest.raises(HTTPClientError) as same:
        await jp_fetch(*path, params={"metric": "loss"}, headers={"If-None-Match": etag})
    assert same.value.code == 304
    seeded.log(run.id, 1, {"loss": 0.5})
    seeded.flush()
    changed = await jp_fetch(*path, params={"metric": "loss"}, headers={"If-None-Match": etag})
    assert json.loads(changed.body)["series"][0]["steps"] == [0, 1]


async def test_series_refuses_unknown_and_absent_metrics(get: Get, seeded: Workspace) -> None:
    run = add_run(seeded, "r")
    seeded.log(run.id, 0, {"loss": 1.0})
    seeded.flush()
    status, error = await get("runs", run.id, "series", metric="los")
    assert (status, error["hint"]) == (400, "Did you mean 'loss'?")
    status, error = await get("runs", run.id, "series")
    assert (status, error["error"]) == (400, "0 metrics are asked for")
    status, error = await get("runs", run.id, "series", metric="loss", px=0)
    assert status == 400


@pytest.mark.parametrize("path", ["info", "runs", "runs/run_1", "runs/run_1/series", "models", "endpoints"])
async def test_nothing_without_a_token(jp_fetch: Callable[..., Awaitable[Any]], path: str) -> None:
    with pytest.raises(HTTPClientError) as refused:
        await jp_fetch("nbops", "api", "v1", *path.split("/"), headers={"Authorization": "token wrong"})
    assert refused.value.code == 403


async def test_background_questions_do_not_keep_a_server_alive(get: Get, jp_serverapp: Any, seeded: Workspace) -> None:
    settings = jp_serverapp.web_app.settings
    before = settings.get("api_last_activity")
    await get("runs", no_track_activity=1)
    assert settings.get("api_last_activity") == before
    await get("runs")
    assert settings.get("api_last_activity") != before


async def test_kernels_get_the_workspace_of_the_server(jp_serverapp: Any, jp_root_dir: Path) -> None:
    assert os.environ["NBOPS_WORKSPACE"] == str(jp_root_dir / ".nbops")


async def test_workspace_that_cannot_be_read_is_503_with_a_hint(get: Get, seeded: Workspace) -> None:
    seeded.close()
    for file in seeded.path.glob("nbops.db*"):
        file.unlink()
    (seeded.path / "nbops.db").write_bytes(b"no database " * 400)
    status, error = await get("runs")
    assert status == 503
    assert "cannot open the store" in error["error"]
    assert error["hint"].startswith("Check")


async def test_replaced_workspace_is_opened_again(get: Get, seeded: Workspace, jp_root_dir: Path) -> None:
    add_run(seeded, "old")
    assert names((await get("runs"))[1]) == ["old"]
    seeded.close()
    (jp_root_dir / ".nbops").rename(jp_root_dir / "moved")
    assert (await get("runs"))[1]["total"] == 0
    fresh = Workspace.open(jp_root_dir)
    add_run(fresh, "new")
    fresh.close()
    assert names((await get("runs"))[1]) == ["new"]
    shutil.rmtree(jp_root_dir / "moved")


async def test_a_page_that_goes_away_is_nobodys_error(
    get: Get, jp_http_port: int, jp_base_url: str, jp_auth_header: dict[str, str], seeded: Workspace,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with seeded.store.transaction():
        for i in range(300):
            add_run(seeded, f"r{i}")
    for _ in range(5):
        _, writer = await asyncio.open_connection("127.0.0.1", jp_http_port)
        head = f"GET {jp_base_url}nbops/api/v1/runs HTTP/1.1\r\nHost: localhost\r\n"
        writer.write((head + f"Authorization: {jp_auth_header['Authorization']}\r\n\r\n").encode())
        await writer.drain()
        writer.transport.abort()
    await asyncio.sleep(0.5)
    assert (await get("runs"))[1]["total"] == 300
    assert [r.getMessage() for r in caplog.records if "Uncaught" in r.getMessage()] == []


# ---- the event ------------------------------------------------------------------------------------------------------


@pytest.fixture
def told(jp_serverapp: Any) -> asyncio.Queue[dict[str, Any]]:
    """What a page hears on Jupyter's event websocket."""
    queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def listen(logger: Any, schema_id: str, data: dict[str, Any]) -> None:
        queue.put_nowait(data)

    jp_serverapp.event_logger.add_listener(schema_id=SCHEMA_ID, listener=listen)
    return queue


@pytest.fixture
def watcher(jp_serverapp: Any) -> Watcher:
    found: Watcher = jp_serverapp.web_app.settings["nbops_watcher"]
    return found


async def test_a_write_is_told_to_who_asked(
    get: Get, told: asyncio.Queue[dict[str, Any]], watcher: Watcher, seeded: Workspace
) -> None:
    add_run(seeded, "before")
    assert not watcher.is_watching
    await get("runs")
    assert watcher.is_watching
    run = add_run(seeded, "after")
    event = await asyncio.wait_for(told.get(), 10)
    assert event["subjects"] == [run.id]
    seeded.log(run.id, 0, {"loss": 1.0})
    seeded.flush()
    assert (await asyncio.wait_for(told.get(), 10))["subjects"] == [run.id]
    assert told.empty()


async def test_first_run_of_a_new_workspace_is_told(
    get: Get, told: asyncio.Queue[dict[str, Any]], jp_root_dir: Path
) -> None:
    await get("runs")
    opened = Workspace.open(jp_root_dir)
    run = add_run(opened, "first")
    opened.close()
    assert run.id in (await asyncio.wait_for(told.get(), 10))["subjects"]


async def test_many_changes_are_told_without_their_ids(
    get: Get, told: asyncio.Queue[dict[str, Any]], seeded: Workspace
) -> None:
    await get("runs")
    with seeded.store.transaction():
        for i in range(150):
            add_run(seeded, f"r{i}")
    event = await asyncio.wait_for(told.get(), 10)
    assert "subjects" not in event


async def test_nobody_looking_means_no_polling(
    get: Get, watcher: Watcher, seeded: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbops.server.watching.QUIET_S", 0.0)
    await get("runs")
    await asyncio.wait_for(watcher._task, 10)  # type: ignore[arg-type]
    assert not watcher.is_watching


async def test_broken_store_is_logged_once_and_watching_goes_on(
    get: Get, watcher: Watcher, backend: Backend, seeded: Workspace, told: asyncio.Queue[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    await get("runs")
    aside = seeded.path.with_name("aside")
    seeded.path.rename(aside)
    seeded.path.write_text("a file where the folder was")
    await asyncio.sleep(4)
    assert len([r for r in caplog.records if "cannot watch" in r.message]) == 1
    seeded.path.unlink()
    aside.rename(seeded.path)
    run = add_run(seeded, "again")
    while run.id not in (await asyncio.wait_for(told.get(), 20)).get("subjects", [run.id]):
        pass
    assert watcher.is_watching
