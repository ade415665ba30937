"""Every route says what it does; what reads changes nothing; what does more is refused to a viewer."""

from __future__ import annotations

import inspect
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_server.base.handlers import APIHandler
from tables import contents
from tornado import web

from nbops.core.roles import NEEDS, Action, Role
from nbops.server import handlers as panel
from nbops.server.backend import Backend
from nbops.server.mlflow import handlers as jupyter
from nbops.server.mlflow import standalone
from nbops.server.mlflow.desk import Desk, desk_of
from nbops.server.mlflow.errors import MlflowError
from nbops.server.mlflow.files import place_of, save
from nbops.server.mlflow.routes import action_of, answer
from nbops.server.mlflow.serving import Api
from nbops.server.mlflow.table import fixed, patterns
from nbops.server.mlflow.wire import Args
from nbops.store.workspace import Workspace

READS = """
GET experiments/get | GET experiments/get-by-name | GET experiments/search | POST experiments/search
GET runs/get | GET runs/search | POST runs/search
GET metrics/get-history | GET metrics/get-history-bulk | GET metrics/get-history-bulk-interval
GET artifacts/list | GET logged-models/{model_id}/artifacts/directories
GET logged-models/{model_id} | POST logged-models/search
GET registered-models/get | GET registered-models/search | POST registered-models/search
GET registered-models/get-latest-versions | POST registered-models/get-latest-versions
GET registered-models/alias
GET model-versions/get | GET model-versions/search | POST model-versions/search | GET model-versions/get-download-uri
"""
DECIDES = """
POST registered-models/alias | DELETE registered-models/alias | POST model-versions/transition-stage
DELETE registered-models/delete | POST registered-models/delete
PATCH registered-models/rename | POST registered-models/rename
DELETE model-versions/delete | POST model-versions/delete
"""


def listed(text: str) -> set[str]:
    return {route.strip() for line in text.strip().splitlines() for route in line.split("|")}


def all_routes() -> Iterator[tuple[str, str, str]]:
    """Yield method, path as it is declared, and a path that can be asked for."""
    for method, path in fixed:
        yield method, path, path
    for method, pattern, _ in patterns:
        declared = pattern.pattern
        for name in pattern.groupindex:
            declared = declared.replace(f"(?P<{name}>[^/]+)", f"{{{name}}}")
        yield method, declared, declared.replace("{model_id}", "MODEL").replace("{tag_key}", "k")


@pytest.fixture
def desk(workspace: Workspace) -> Desk:
    return desk_of(workspace)


def ask(desk: Desk, method: str, route: str, /, **fields: Any) -> Any:
    return answer(desk, method, route, Args(fields))


@pytest.fixture
def known(desk: Desk) -> dict[str, Any]:
    """One of everything, and the fields by which it is asked for."""
    experiment = ask(desk, "POST", "experiments/create", name="e")["experiment_id"]
    run = ask(desk, "POST", "runs/create", experiment_id=experiment)["run"]["info"]["run_id"]
    ask(desk, "POST", "runs/log-metric", run_id=run, key="k", value=1.0, timestamp=1, step=1)
    model = ask(desk, "POST", "logged-models", experiment_id=experiment, name="m")["model"]["info"]["model_id"]
    ask(desk, "POST", "registered-models/create", name="m")
    ask(desk, "POST", "model-versions/create", name="m", source=f"runs:/{run}/model")
    ask(desk, "POST", "registered-models/alias", name="m", version="1", alias="prod")
    save(desk, place_of(desk, f"{experiment}/{run}/artifacts/model/x"), io.BytesIO(b"x"))
    return {
        "experiment_id": experiment, "experiment_name": "e", "experiment_ids": [experiment], "run_id": run,
        "run_ids": [run], "metric_key": "k", "model_id": model, "name": "m", "version": "1", "alias": "prod",
        "path": "", "stages": ["None"], "max_results": 10,
    }  # fmt: skip


# ---- each route says what it does ------------------------------------------------------------------------------------


def test_each_route_of_mlflow_says_what_it_does() -> None:
    found = {f"{method} {declared}": action_of(method, path) for method, declared, path in all_routes()}
    assert {route for route, action in found.items() if action is Action.READ} == listed(READS)
    assert {route for route, action in found.items() if NEEDS[action] is Role.APPROVER} == listed(DECIDES)
    trash = {route for route, action in found.items() if action is Action.TRASH}
    assert trash == {
        "POST experiments/delete", "POST experiments/restore", "POST runs/delete", "POST runs/restore",
        "DELETE logged-models/{model_id}",
    }  # fmt: skip


def methods_of(kind: type[web.RequestHandler]) -> Iterator[tuple[str, Any]]:
    """Yield the HTTP methods that a handler answers itself."""
    for name in web.RequestHandler.SUPPORTED_METHODS:
        method = inspect.getattr_static(kind, name.lower())
        if not any(method is getattr(base, name.lower(), None) for base in (web.RequestHandler, APIHandler)):
            yield name, method


def test_each_method_of_each_handler_says_what_it_does_or_asks_the_table(tmp_path: Path) -> None:
    backend = Backend(tmp_path / ".nbops")
    local = [rule.target for rule in standalone.application(backend, token="").wildcard_router.rules]
    kinds = [*(kind for _, kind in panel.routes("/")), *(kind for _, kind in jupyter.routes("/")), *local]
    seen = 0
    for kind in kinds:
        if issubclass(kind, Api):
            continue  # `Api.answer` looks the action up by path: see above, and below what a viewer hears
        for name, method in methods_of(kind):
            wanted = Action.RECORD if name in ("PUT", "DELETE") and "Files" in kind.__name__ else Action.READ
            assert method.action is wanted, (kind, name)
            seen += 1
    assert seen == 7 + 2 * (3 + 1 + 5)


# ---- what reads changes nothing --------------------------------------------------------------------------------------


def test_what_reads_changes_nothing(desk: Desk, known: dict[str, Any], workspace: Workspace) -> None:
    before, files = contents(workspace), sorted(workspace.path.rglob("*"))
    for method, declared, path in all_routes():
        if action_of(method, path) is Action.READ:
            asked = path.replace("MODEL", known["model_id"])
            try:
                found = ask(desk, method, asked, **known)
            except MlflowError as error:
                raise AssertionError(f"{method} {declared} was not answered: {error}") from error
            assert found
    assert contents(workspace) == before
    assert sorted(workspace.path.rglob("*")) == files


def test_a_change_would_be_seen(desk: Desk, known: dict[str, Any], workspace: Workspace) -> None:
    before = contents(workspace)
    ask(desk, "POST", "runs/set-tag", run_id=known["run_id"], key="a", value="b")
    assert contents(workspace) != before


# ---- what a viewer hears ---------------------------------------------------------------------------------------------


def test_a_viewer_reads_by_every_route_that_reads_and_by_no_other(team: Any) -> None:
    run = team.good("POST", "runs/create", {"experiment_id": "0"}, who="bert")["run"]["info"]["run_id"]
    before = team.good("POST", "runs/search", {"experiment_ids": ["0"]}, who="anna")
    for method, declared, path in all_routes():
        fields = {"run_id": run, "experiment_id": "0", "name": "m", "key": "k", "value": "1"}
        body = fields if method in ("POST", "PATCH", "PUT") else None
        status, told = team.ask(method, path, body, who="vera")
        if action_of(method, path) is Action.READ:
            assert status in (200, 400, 404), (method, declared, told)
        else:
            assert (status, told["error_code"]) == (403, "PERMISSION_DENIED"), (method, declared)
            needed = NEEDS[action_of(method, path)]
            assert f"'vera' is a viewer; it takes an {needed} to" in told["message"]
    assert team.good("POST", "runs/search", {"experiment_ids": ["0"]}, who="anna") == before


def test_what_is_not_there_is_not_there_for_anybody(team: Any) -> None:
    for who in team.tokens:
        assert team.ask("POST", "traces", {}, who=who)[0] == 404
