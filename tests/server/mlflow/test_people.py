"""A viewer, an editor and an approver at one `nbops mlflow-server`: who may what, and whom the audit log names."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import nbops as nb
from nbops.core.errors import StoreError
from nbops.core.records import Event
from nbops.server.mlflow.desk import Desk, desk_of
from nbops.server.mlflow.ids import from_hex
from nbops.store.auditing import walk
from nbops.store.identity import acting_as
from nbops.store.workspace import Workspace
from nbops.testing import a_run

ROOT = Path(__file__).resolve().parents[3]
CLIENTS = [line for line in (ROOT / "requirements" / "mlflow-clients.txt").read_text().split() if line[0].isdigit()]
POINT = {"key": "loss", "value": 1.5, "timestamp": 1_700_000_000_000, "step": 3}
FILES = "/api/2.0/mlflow-artifacts/artifacts"


def new_run(server: Any, who: str, **fields: Any) -> str:
    made = server.good(
        "POST", "runs/create", {"experiment_id": "0", "start_time": 1_700_000_000_000, **fields}, who=who
    )
    id: str = made["run"]["info"]["run_id"]
    return id


def told(server: Any, id: str = "") -> list[Event]:
    """Return the events of a record (MLflow's id of a run, or ours of anything), of all if none is given."""
    opened = Workspace.open(server.folder)
    try:
        assert walk(opened.store).is_whole
        return opened.store.events(subject=from_hex(id, "run"), limit=100_000)
    finally:
        opened.close()


def who_did(server: Any, id: str, kind: str) -> list[str]:
    return [event.actor for event in told(server, id) if event.kind == kind]


# ---- unmodified clients ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", CLIENTS)
def test_a_viewer_cannot_promote_with_an_unmodified_client(team: Any, tmp_path: Path, version: str) -> None:
    python = ROOT / ".venv-mlflow" / version / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no client {version}: make test")
    ran = subprocess.run(
        [python, Path(__file__).with_name("people.py")],
        env={
            **os.environ,
            **{f"TOKEN_{name.upper()}": token for name, token in team.tokens.items()},
            "MLFLOW_TRACKING_URI": team.uri,
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "BIG_BYTES": "5000000",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ran.returncode == 0, f"{ran.stdout[-2000:]}\n{ran.stderr[-4000:]}"
    assert ran.stdout.count("passed ") == 4
    assert {event.actor for event in told(team) if event.kind.startswith("mlflow-model.alias")} == {"anna"}
    assert "vera" not in {event.actor for event in told(team)}


# ---- who is let in ---------------------------------------------------------------------------------------------------


def test_a_token_is_its_owners_and_nobody_elses(team: Any) -> None:
    path = "/api/2.0/mlflow/experiments/get?experiment_id=0"

    def basic(name: str, token: str) -> dict[str, str]:
        return {"Authorization": f"Basic {base64.b64encode(f'{name}:{token}'.encode()).decode()}"}

    anna, vera = team.tokens["anna"], team.tokens["vera"]
    for good in (team.head("anna"), basic("anna", anna), {"Authorization": f"token {vera}"}):
        assert team.send("GET", path, headers=good)[0] == 200
    for wrong in (
        {}, {"Authorization": "Bearer "}, {"Authorization": f"Bearer {anna}x"}, {"Authorization": "Bearer \xe9"},
        basic("vera", anna), basic("", anna), basic("Anna", anna), basic("anna", ""), {"Authorization": "Basic !"},
    ):  # fmt: skip
        status, text = team.send("GET", path, headers=wrong)
        assert (status, json.loads(text)["error_code"]) == (401, "UNAUTHENTICATED"), wrong
        assert team.send("PUT", f"{FILES}/x", b"x", headers=wrong)[0] == 401
    assert team.send("GET", "/health", headers={}) == (200, b"OK")


def test_another_host_name_is_refused_whoever_asks(team: Any) -> None:
    head = {"Host": "evil.example", **team.head("anna")}
    assert team.send("GET", "/api/2.0/mlflow/experiments/get?experiment_id=0", headers=head)[0] == 403
    assert team.send("GET", "/health", headers={"Host": "evil.example"})[0] == 403


def test_people_come_and_go_while_the_server_runs(fresh_team: Any) -> None:
    server = fresh_team
    server.start()
    run = new_run(server, "bert")
    tag = {"run_id": run, "key": "a", "value": "b"}
    text = server.users.read_text()
    server.users.write_text(text.replace('role = "editor"', 'role = "viewer"'))
    assert server.ask("POST", "runs/set-tag", tag, who="bert")[0] == 403
    server.users.write_text(text)
    server.good("POST", "runs/set-tag", tag, who="bert")
    before, _, rest = text.partition("[users.bert]")
    server.users.write_text(before + rest[rest.index("[users") :])
    assert server.ask("GET", f"runs/get?run_id={run}", who="bert")[0] == 401
    server.good("GET", f"runs/get?run_id={run}", who="vera")
    for broken in (text.replace('"approver"', '"boss"'), "[users", ""):
        server.users.write_text(broken)
        server.good("GET", f"runs/get?run_id={run}", who="vera")
        status, answer = server.ask("POST", "runs/set-tag", tag, who="anna")
        assert (status, answer["error_code"]) == (403, "PERMISSION_DENIED")
        assert "only reading is allowed now" in answer["message"]
        assert server.send("PUT", f"{FILES}/x", b"x", headers=server.head("anna"))[0] == 403
        assert server.ask("GET", f"runs/get?run_id={run}", who="bert")[0] == 401
    server.users.unlink()
    assert server.ask("POST", "runs/set-tag", tag, who="anna")[0] == 403
    server.users.write_text(text)
    server.good("POST", "runs/set-tag", tag, who="anna")


# ---- uploads ---------------------------------------------------------------------------------------------------------


def test_an_upload_is_refused_before_its_body_is_read(team: Any) -> None:
    place = urlsplit(team.uri)
    head = f"PUT {FILES}/huge.bin HTTP/1.1\r\nHost: localhost\r\nContent-Length: {10**13}\r\n"
    head += f"Authorization: {team.head('vera')['Authorization']}\r\n\r\n"
    with socket.create_connection((str(place.hostname), place.port or 0), timeout=20) as connection:
        connection.sendall(head.encode())
        answer = b""
        while b"}" not in answer:
            answer += connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 403")
    assert b"PERMISSION_DENIED" in answer
    assert team.send("GET", f"{FILES}/huge.bin", headers=team.head("anna"))[0] == 404


def test_a_client_that_sends_all_of_it_first_hears_the_refusal(team: Any) -> None:
    for size in (0, 1, 100_000, 20_000_000):
        status, text = team.send("PUT", f"{FILES}/mine.bin", bytes(size), headers=team.head("vera"))
        assert (status, json.loads(text)["error_code"]) == (403, "PERMISSION_DENIED")
    assert team.send("GET", f"{FILES}/mine.bin", headers=team.head("vera"))[0] == 404


def test_files_of_a_registered_version_change_only_by_who_may_delete_it(team: Any) -> None:
    run, name = new_run(team, "bert"), "guarded"
    other = new_run(team, "bert")
    root = f"{FILES}/0/{run}/artifacts"

    def put(who: str, path: str, data: bytes = b"x") -> int:
        return int(team.send("PUT", f"{root}/{path}", data, headers=team.head(who))[0])

    assert put("bert", "model/weights") == put("bert", "notes/a.txt") == 200
    logged = team.good("POST", "logged-models", {"experiment_id": "0", "name": "l"}, who="bert")["model"]["info"]
    id = logged["model_id"]
    team.good("POST", "registered-models/create", {"name": name}, who="bert")
    sources = [f"runs:/{run}/model", f"mlflow-artifacts:/0/{other}/artifacts/%6dodel", f"models:/{id}",
               "mlflow-artifacts:/shared/kept"]  # fmt: skip
    for source in sources:
        team.good("POST", "model-versions/create", {"name": name, "source": source}, who="bert")
    assert put("bert", "model/weights", b"other") == put("bert", "model/code/more.py") == 403
    assert put("bert", "notes/a.txt", b"other") == put("bert", "model2/weights") == 200
    for path in (root, f"{root}/model", f"{root}/model/weights"):
        assert team.send("DELETE", path, headers=team.head("bert"))[0] == (400 if path == FILES else 403)
    shut = (f"0/{other}/artifacts/model/x", f"0/models/{id}/artifacts/MLmodel", "shared/kept/x")
    for path in shut:
        assert team.send("PUT", f"{FILES}/{path}", b"x", headers=team.head("bert"))[0] == 403, path
    assert team.send("PUT", f"{FILES}/shared/keptnot/x", b"x", headers=team.head("bert"))[0] == 200
    status, answer = team.ask("DELETE", f"logged-models/{id}", who="bert")
    assert (status, "change its files" in answer["message"]) == (403, True)
    assert put("anna", "model/weights", b"other") == 200
    assert team.send("DELETE", f"{root}/model", headers=team.head("anna"))[0] == 200
    team.good("DELETE", f"logged-models/{id}", who="anna")


# ---- whom the audit log names ----------------------------------------------------------------------------------------


def test_the_audit_log_names_who_asked(team: Any) -> None:
    run = new_run(team, "bert")
    fields = {"run_id": run, "metrics": [POINT], "params": [{"key": "lr", "value": "1"}]}
    team.good("POST", "runs/log-batch", fields, who="bert")
    team.good("POST", "runs/log-metric", {"run_id": run, **POINT, "step": 4}, who="anna")
    team.good("POST", "runs/search", {"experiment_ids": ["0"]}, who="vera")
    team.good("GET", f"metrics/get-history?run_id={run}&metric_key=loss", who="vera")
    team.good("POST", "runs/update", {"run_id": run, "status": "FINISHED"}, who="anna")
    assert team.send("PUT", f"{FILES}/0/{run}/artifacts/a", b"a", headers=team.head("bert"))[0] == 200
    assert who_did(team, run, "run.created") == ["bert"]
    assert who_did(team, run, "points.added") == ["bert", "anna"]
    assert who_did(team, run, "run.updated") == ["bert", "anna"]
    assert [e.actor for e in told(team) if e.kind == "artifact.created"][-1] == "bert"
    team.good("POST", "registered-models/create", {"name": "named"}, who="bert")
    team.good("POST", "model-versions/create", {"name": "named", "source": f"runs:/{run}/m"}, who="bert")
    team.good("POST", "registered-models/alias", {"name": "named", "alias": "prod", "version": "1"}, who="anna")
    (moved,) = [e for e in told(team) if e.kind == "mlflow-model.alias-set" and e.payload["version"] == 1][-1:]
    assert moved.actor == "anna"
    assert "vera" not in {event.actor for event in told(team)}


def test_requests_of_different_people_do_not_mix(team: Any) -> None:
    rounds, names = 40, ("bert", "anna")
    runs: dict[str, list[str]] = {name: [] for name in names}
    shared = new_run(team, "bert")
    failed: list[BaseException] = []

    def work(who: str) -> None:
        try:
            for step in range(rounds):
                run = new_run(team, who, tags=[{"key": "who", "value": who}])
                team.good("POST", "runs/log-metric", {"run_id": run, **POINT}, who=who)
                team.good("POST", "runs/log-metric", {"run_id": shared, **POINT, "key": who, "step": step}, who=who)
                team.good("GET", f"metrics/get-history?run_id={shared}&metric_key=loss", who="vera")
                team.good("POST", "runs/update", {"run_id": run, "status": "FINISHED"}, who=who)
                runs[who].append(run)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(who,)) for who in names for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    events = told(team)
    actors = {id: {e.actor for e in events if e.subject == from_hex(id, "run")} for ids in runs.values() for id in ids}
    for who in names:
        assert len(runs[who]) == 3 * rounds
        assert {frozenset(actors[id]) for id in runs[who]} == {frozenset({who})}
    logged = [
        (*e.payload, e.actor) for e in events if e.subject == from_hex(shared, "run") and e.kind == "points.added"
    ]
    assert sorted(set(logged)) == [("anna", "anna"), ("bert", "bert")]


@pytest.mark.postgres
def test_one_log_for_two_servers_and_a_notebook_of_a_team(
    fresh_team: Any, tmp_path_factory: pytest.TempPathFactory, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBOPS_USER", "server")
    places = f'store_url = "{postgres_url}"\nartifacts_url = "{fresh_team.folder / "files"}"\n'
    second = type(fresh_team)(tmp_path_factory.mktemp("second"), users=fresh_team.users)
    second.tokens = fresh_team.tokens
    for server in (fresh_team, second):
        (server.folder / ".nbops").mkdir()
        (server.folder / ".nbops" / "config.toml").write_text(places)
    try:
        fresh_team.start()
        second.start()
        shared = new_run(fresh_team, "bert")

        def work(server: Any, who: str) -> None:
            for step in range(15):
                point = {"run_id": shared, **POINT, "key": who, "step": step}
                server.good("POST", "runs/log-metric", point, who=who)
                server.good("GET", f"metrics/get-history?run_id={shared}&metric_key={who}", who="vera")

        threads = [threading.Thread(target=work, args=pair) for pair in ((fresh_team, "bert"), (second, "anna"))]
        for thread in threads:
            thread.start()
        monkeypatch.setenv("NBOPS_USER", "carl")
        notebook = nb.init(tmp_path_factory.mktemp("third"), store_url=postgres_url)
        with nb.run("by carl"):
            nb.log(loss=0.5)
        for thread in threads:
            thread.join()
        events = notebook.store.events(limit=10_000)
        assert walk(notebook.store).is_whole
        notebook.close()
        points = [(next(iter(e.payload)), e.actor) for e in events if e.kind == "points.added"]
        assert set(points) == {("bert", "bert"), ("anna", "anna"), ("loss", "carl")}
        assert "vera" not in {e.actor for e in events}
    finally:
        fresh_team.stop()  # before the database goes
        second.stop()


# ---- points: whose they are, in the process that answers -------------------------------------------------------------


@pytest.fixture
def desk(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("NBOPS_USER", "server")
    return desk_of(workspace)


def actors_of_points(desk: Desk, run: str) -> list[tuple[str, str]]:
    found = [event for event in desk.store.events(subject=run) if event.kind == "points.added"]
    return [(metric, event.actor) for event in found for metric in event.payload]


def test_points_in_the_journal_are_the_process_s_whoever_makes_it_fold(desk: Desk) -> None:
    run = a_run()
    desk.store.put(run)
    for who in ("", "server"):
        with acting_as(who):
            desk.log(run.id, [(f"by-{who}", 1, 1, 0.5)])
    with acting_as("anna"):
        desk.log(run.id, [("by-anna", 1, 1, 0.5)])
        desk.flush()
        desk.log(run.id, [("more-by-anna", 1, 1, 0.5)])
    with acting_as("bert"):
        desk.ended(run.id)
        desk.forget(run.id)
    assert sorted(actors_of_points(desk, run.id)) == [
        ("by-", "server"), ("by-anna", "anna"), ("by-server", "server"), ("more-by-anna", "anna"),
    ]  # fmt: skip


def test_the_thread_that_folds_later_acts_for_the_process_too(desk: Desk) -> None:
    run = a_run()
    desk.store.put(run)
    with acting_as("anna"):
        desk.log(run.id, [("a", 1, 1, 0.5)])
        with acting_as("server"):
            desk.log(run.id, [("b", 1, 1, 0.5)])  # these start the thread
    end = time.monotonic() + 20
    while len(actors_of_points(desk, run.id)) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    assert actors_of_points(desk, run.id) == [("a", "anna"), ("b", "server")]


def test_only_the_desk_folds(desk: Desk) -> None:
    for path in (ROOT / "src" / "nbops" / "server").rglob("*.py"):
        text = path.read_text()
        if path.name != "desk.py":
            assert "workspace.flush(" not in text, f"{path.name}: use desk.flush(), which tells whose points they are"
            assert "workspace.forget(" not in text, f"{path.name}: use desk.forget()"


def test_points_whose_storing_failed_are_stored_when_they_are_sent_again(desk: Desk) -> None:
    run, engine = a_run(), desk.store.engine
    desk.store.put(run)
    with acting_as("bert"):
        desk.log(run.id, [("loss", 0, 1, 0.25)])
        with engine.begin() as connection:
            connection.exec_driver_sql("alter table chunk rename to aside")
        with pytest.raises(StoreError):
            desk.log(run.id, [("loss", 1, 1, 0.5)])
        with engine.begin() as connection:
            connection.exec_driver_sql("alter table aside rename to chunk")
        for _ in range(2):
            desk.log(run.id, [("loss", 1, 1, 0.5)])
    assert struct.unpack("<2d", desk.store.points(run.id, "loss").values) == (0.25, 0.5)
    assert nb.audit().is_whole
