"""The interface as it goes over the wire: what is refused and how, what survives, what never is a 5xx."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

import nbops as nb
from nbops.core.records import Run
from nbops.store.workspace import Workspace

POINT = {"key": "loss", "value": 1.5, "timestamp": 1_700_000_000_000, "step": 3}


def history(server: Any, run: str, metric: str = "loss", **more: Any) -> list[dict[str, Any]]:
    query = "".join(f"&{key}={value}" for key, value in more.items())
    found: list[dict[str, Any]] = server.good("GET", f"metrics/get-history?run_id={run}&metric_key={metric}{query}")[
        "metrics"
    ]
    return found


def test_probes_and_what_is_not_offered(server: Any) -> None:
    assert server.send("GET", "/health", headers={}) == (200, b"OK")
    assert server.send("GET", "/version", headers={})[1].startswith(b"3.")
    status, info = server.send("GET", "/api/3.0/mlflow/server-info")
    assert status == 200
    assert json.loads(info)["workspaces_enabled"] is False
    for method, path in (
        ("POST", "/api/3.0/mlflow/traces"),
        ("GET", "/api/2.0/mlflow/nothing"),
        ("POST", "/v1/traces"),
    ):
        status, text = server.send(method, path, b"{}")
        assert (status, json.loads(text)["error_code"]) == (404, "ENDPOINT_NOT_FOUND")


def test_only_who_knows_the_token_gets_in(server: Any) -> None:
    path = "/api/2.0/mlflow/experiments/get?experiment_id=0"
    basic = base64.b64encode(b"anybody:a-token-for-tests").decode()
    assert server.send("GET", path)[0] == 200
    assert server.send("GET", path, headers={"Authorization": f"Basic {basic}"})[0] == 200
    for wrong in ({}, {"Authorization": "Bearer no"}, {"Authorization": "Basic !"}, {"Authorization": "Basic //8="}):
        status, text = server.send("GET", path, headers=wrong)
        assert (status, json.loads(text)["error_code"]) == (401, "UNAUTHENTICATED")
        assert server.send("PUT", "/api/2.0/mlflow-artifacts/artifacts/x", b"x", headers=wrong)[0] == 401


def test_another_host_name_is_refused(server: Any) -> None:
    head = {"Host": "evil.example", "Authorization": "Bearer a-token-for-tests"}
    status, text = server.send("GET", "/api/2.0/mlflow/experiments/get?experiment_id=0", headers=head)
    assert (status, json.loads(text)["error_code"]) == (403, "PERMISSION_DENIED")


@pytest.mark.parametrize(
    ("path", "fields", "said"),
    [
        ("runs/log-metric", {"key": "a", "value": 1, "timestamp": 1}, "required parameter 'run_id'"),
        ("runs/log-metric", {"run_id": "RUN", "key": "a", "timestamp": 1}, "required parameter 'value'"),
        ("runs/log-metric", {"run_id": "RUN", "key": "a", "value": True, "timestamp": 1}, "Invalid value true"),
        ("runs/log-metric", {"run_id": "RUN", "key": "a", "value": "x", "timestamp": 1}, "parameter 'value'"),
        ("runs/log-metric", {"run_id": "RUN", "key": "a", "value": 1, "timestamp": -1}, "nonnegative long"),
        ("runs/log-metric", {"run_id": "RUN", "key": "a", "value": 1, "timestamp": 1, "step": 2**63}, "'step'"),
        ("runs/log-metric", {"run_id": "RUN", "value": 1, "timestamp": 1}, "required parameter 'key'"),
        ("runs/log-parameter", {"run_id": "RUN", "key": "a//b", "value": "1"}, "must not resolve to other names"),
        ("runs/log-parameter", {"run_id": "RUN", "key": "a?b", "value": "1"}, "Names may only contain"),
        ("runs/set-tag", {"run_id": "RUN", "key": "x" * 251, "value": "1"}, "exceeds the maximum length of 250"),
        ("runs/set-tag", {"run_id": "RUN", "key": "nbops.deleted", "value": "1"}, "belong to the workspace"),
        ("runs/log-batch", {"run_id": "RUN", "metrics": [POINT] * 1001}, "at most 1000 metrics. Got 1001 metrics"),
        ("runs/log-batch", {"run_id": "RUN", "metrics": ["x"]}, "parameter 'metrics'"),
        ("runs/log-batch", {"run_id": "RUN", "params": [{"key": str(i)} for i in range(101)]}, "at most 100 params"),
        ("runs/log-batch", {"run_id": "RUN", "params": [{"key": "a"}, {"key": "a"}]}, "Duplicate parameter keys"),
        ("runs/log-model", {"run_id": "RUN", "model_json": "{"}, "Malformed model info"),
        ("runs/log-model", {"run_id": "RUN", "model_json": "{}"}, "missing mandatory fields"),
        ("runs/log-inputs", {"run_id": "RUN", "datasets": [{}]}, "Dataset cannot be None"),
        ("runs/log-inputs", {"run_id": "RUN", "datasets": [{"dataset": {"name": "a"}}]}, "digest cannot be None"),
        ("runs/update", {"run_id": "RUN", "status": "DANCING"}, "parameter 'status'"),
        ("runs/create", {"run_name": "a", "tags": [{"key": "mlflow.runName", "value": "b"}]}, "different values"),
        ("runs/create", {"experiment_id": ["x", {}]}, "parameter 'experiment_id'"),
        ("runs/search", {"experiment_ids": ["0"], "max_results": 50_001}, "at most 50000"),
        ("runs/search", {"experiment_ids": ["0"], "page_token": "?"}, "Invalid page token"),
        ("runs/search", {"experiment_ids": ["0"], "filter": "run_id > 'a'"}, "Invalid comparator"),
        ("runs/search", {"experiment_ids": ["0"], "filter": "params.a = 3"}, "Expected a quoted string"),
        ("runs/search", {"experiment_ids": ["0"], "filter": "params.a > 'x'"}, "Invalid comparator"),
        ("runs/search", {"experiment_ids": ["0"], "filter": "datasets.size = 'x'"}, "Invalid dataset key"),
        ("runs/search", {"experiment_ids": ["0"], "filter": "run_id IN 'a'"}, "Expected a list"),
        ("runs/search", {"experiment_ids": ["0"], "filter": "run_id = "}, "Invalid clause"),
        ("runs/search", {"experiment_ids": ["0"], "order_by": ["metrics.a UP"]}, "Invalid order_by"),
        ("runs/search", {"experiment_ids": ["0"], "order_by": ["user_id"]}, "Invalid order_by key"),
        ("experiments/create", {"name": ""}, "Invalid experiment name"),
        ("experiments/create", {"name": "x", "artifact_location": "runs:/x"}, "cannot be a runs:/ URI"),
        ("registered-models/create", {"name": ""}, "required parameter 'name'"),
        ("registered-models/create", {"name": "a:b"}, "cannot contain"),
        ("registered-models/rename", {"name": "a"}, "cannot be empty"),
        ("model-versions/create", {"name": "a", "source": "mlflow-artifacts:/0/../../x"}, "must not lead upwards"),
        ("model-versions/transition-stage", {"name": "a", "version": "1", "stage": "None",
                                             "archive_existing_versions": True}, "cannot archive"),
        ("model-versions/set-tag", {"name": "a", "version": "x", "key": "k"}, "must be an integer"),
        ("logged-models", {"experiment_id": "0", "name": "a/b"}, "Invalid model name"),
        ("logged-models/search", {}, "experiment_ids"),
    ],
)  # fmt: skip
def test_a_users_mistake_is_told_and_never_a_5xx(server: Any, path: str, fields: dict[str, Any], said: str) -> None:
    run = server.new_run()
    status, answer = server.ask("POST", path, {k: run if v == "RUN" else v for k, v in fields.items()})
    assert (status, answer["error_code"]) in {(400, "INVALID_PARAMETER_VALUE"), (400, "BAD_REQUEST")}, answer
    assert said in answer["message"]


@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [
        ("GET", "runs/get?run_id=00000000000000000000000000000000", None),
        ("POST", "runs/set-tag", {"run_id": "nothing", "key": "a", "value": "b"}),
        ("POST", "runs/log-metric", {"run_id": "nothing", **POINT}),
        ("GET", "experiments/get?experiment_id=99", None),
        ("GET", "experiments/get-by-name?experiment_name=none", None),
        ("POST", "experiments/delete-experiment-tag", {"experiment_id": "0", "key": "none"}),
        ("GET", "registered-models/get?name=none", None),
        ("GET", "model-versions/get?name=none&version=1", None),
        ("GET", "logged-models/m-00000000000000000000000000000000", None),
        ("DELETE", "logged-models/m-none/tags/k", None),
        ("POST", "runs/create", {"experiment_id": "99"}),
        ("POST", "experiments/restore", {"experiment_id": "0"}),
    ],
)
def test_what_is_absent_is_said_to_be(server: Any, method: str, path: str, fields: Any) -> None:
    status, answer = server.ask(method, path, fields)
    assert (status, answer["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff"])
def test_a_body_that_is_no_object_is_refused(server: Any, body: bytes) -> None:
    status, text = server.send("POST", "/api/2.0/mlflow/runs/search", body)
    assert (status, json.loads(text)["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_values_that_are_not_finite_go_both_ways_as_text(server: Any) -> None:
    run = server.new_run()
    for step, value in enumerate(("NaN", "Infinity", "-Infinity", -0.0, 5e-324)):
        server.good("POST", "runs/log-metric", {"run_id": run, **POINT, "value": value, "step": str(step)})
    assert [point["value"] for point in history(server, run)] == ["NaN", "Infinity", "-Infinity", -0.0, 5e-324]
    (newest,) = server.good("GET", f"runs/get?run_id={run}")["run"]["data"]["metrics"]
    assert newest == {"key": "loss", "value": 5e-324, "timestamp": POINT["timestamp"], "step": 4}


def test_history_in_pages_and_samples(server: Any) -> None:
    run = server.new_run()
    values = [1000.0 if i == 777 else float(i % 7) for i in range(3000)]
    for start in range(0, 3000, 1000):
        part = [{"key": "m", "value": values[i], "timestamp": 1000 + i, "step": i} for i in range(start, start + 1000)]
        server.good("POST", "runs/log-batch", {"run_id": run, "metrics": part})
    seen, token = [], ""
    while True:
        page = server.good(
            "GET", f"metrics/get-history?run_id={run}&metric_key=m&max_results=900" + (token and f"&page_token={token}")
        )
        seen += [point["step"] for point in page["metrics"]]
        token = page.get("next_page_token", "")
        if not token:
            break
    assert seen == list(range(3000))
    bulk = f"metrics/get-history-bulk-interval?run_ids={run}&metric_key=m&max_results=100"
    sample = server.good("GET", bulk)["metrics"]
    assert len(sample) <= 100
    assert max(point["value"] for point in sample) == 1000.0
    inside = server.good("GET", f"{bulk}&start_step=10&end_step=12")["metrics"]
    assert [point["step"] for point in inside] == [10, 11, 12]
    assert (
        len(server.good("GET", f"metrics/get-history-bulk?run_id={run}&metric_key=m&max_results=50")["metrics"]) == 50
    )
    for wrong in (f"{bulk}&start_step=1", f"{bulk}&start_step=5&end_step=1", "metrics/get-history-bulk?metric_key=m"):
        assert server.ask("GET", wrong)[0] == 400
    many = "&".join(f"run_id={run}" for _ in range(101))
    assert server.ask("GET", f"metrics/get-history-bulk?metric_key=m&{many}")[0] == 400
    assert server.ask("GET", f"metrics/get-history?run_id={run}&metric_key=m&max_results=0")[0] == 400


def test_a_batch_that_is_sent_again_after_a_kill_is_stored_once(fresh: Any) -> None:
    server = fresh
    server.start()
    run = server.new_run()
    batch = {"run_id": run, "metrics": [{**POINT, "step": i, "value": i / 3} for i in range(1000)]}
    server.good("POST", "runs/log-batch", batch)
    server.kill()
    server.start()
    server.good("POST", "runs/log-batch", batch)
    server.good("POST", "runs/log-batch", {**batch, "metrics": [*batch["metrics"][-3:], {**POINT, "step": 1000}]})
    assert [point["step"] for point in history(server, run)] == list(range(1001))
    server.stop()
    opened = Workspace.open(server.folder)
    (found,) = opened.store.find(Run)
    assert found.summary["loss"].count == 1001
    opened.close()


def test_files_are_stored_listed_sent_and_removed(server: Any) -> None:
    run = server.new_run()
    files = f"/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts"
    data = bytes(range(256)) * 8192
    assert server.send("PUT", f"{files}/a/b%20c.bin", data) == (200, b"{}")
    assert server.send("PUT", f"{files}/a/b%20c.bin", data)[0] == 200
    assert server.send("PUT", f"{files}/empty.txt", b"")[0] == 200
    assert server.send("GET", f"{files}/a/b%20c.bin") == (200, data)
    listed = server.good("GET", f"artifacts/list?run_id={run}")
    assert listed["files"] == [{"path": "a", "is_dir": True}, {"path": "empty.txt", "is_dir": False, "file_size": 0}]
    assert server.good("GET", f"artifacts/list?run_id={run}&path=empty.txt")["files"] == []
    below = json.loads(server.send("GET", f"/api/2.0/mlflow-artifacts/artifacts?path=0/{run}/artifacts/a")[1])
    assert below["files"] == [{"path": "b c.bin", "is_dir": False, "file_size": len(data)}]
    assert server.send("DELETE", f"{files}/a")[0] == 200
    status, text = server.send("GET", f"{files}/a/b%20c.bin")
    assert (status, json.loads(text)["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert server.send("PUT", "/api/2.0/mlflow-artifacts/artifacts/shared/x.txt", b"x")[0] == 200
    assert server.send("GET", "/api/2.0/mlflow-artifacts/artifacts/shared/x.txt") == (200, b"x")


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "a/../../x",
        "%2e%2e/x",
        "a/%2e%2e/%2e%2e/x",
        "%252e%252e/x",
        "..%5cx",
        "%2fetc/passwd",
        "C:%5cx",
        "a%00b",
    ],
)
def test_paths_that_lead_out_are_refused(server: Any, path: str) -> None:
    for method, body in (("PUT", b"x"), ("GET", b""), ("DELETE", b"")):
        status, text = server.send(method, f"/api/2.0/mlflow-artifacts/artifacts/{path}", body)
        assert (status, json.loads(text)["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), (method, text)


def test_points_that_came_mixed_are_in_the_order_of_their_times_once_the_run_has_ended(fresh: Any) -> None:
    server = fresh
    server.start()
    run = server.new_run(run_name="mixed")

    def log(*steps: int) -> None:
        points = [{**POINT, "step": step, "value": step / 2, "timestamp": 1000 + step} for step in steps]
        server.good("POST", "runs/log-batch", {"run_id": run, "metrics": points})

    def seen() -> tuple[list[int], float, float]:
        (found,) = nb.find("runs", "name == 'mixed'")
        return nb.series(found, "loss").steps.tolist(), found.metrics["loss"], found.summary["loss"].first

    opened = nb.init(server.folder)
    log(2, 3), log(0, 1), log(5), log(4)
    server.good("POST", "runs/update", {"run_id": run, "status": "FINISHED"})
    assert seen() == ([0, 1, 2, 3, 4, 5], 2.5, 0.0)
    log(8), log(6, 7)  # what was under way when the client ended the run
    assert seen() == ([0, 1, 2, 3, 4, 5, 6, 7, 8], 4.0, 0.0)
    assert [len(nb.find("runs", f"metrics.loss == {value}")) for value in (2.5, 4.0)] == [0, 1]
    assert [point["step"] for point in history(server, run)] == list(range(9))
    server.good("POST", "runs/update", {"run_id": run, "status": "RUNNING"})
    log(10), log(9)
    assert server.good("GET", f"runs/get?run_id={run}")["run"]["data"]["metrics"][0]["value"] == 5.0
    assert seen()[0][-2:] == [10, 9]
    opened.close()


def test_runs_of_the_workspace_and_of_mlflow_are_the_same(fresh: Any) -> None:
    server = fresh
    opened = nb.init(server.folder)
    with nb.run("native", params={"lr": 0.1}) as live:
        nb.log(loss=0.25)
    server.start()
    (shown,) = server.good("POST", "runs/search", {"experiment_ids": ["0"], "filter": "params.lr = '0.1'"})["runs"]
    assert (shown["info"]["run_name"], shown["info"]["status"]) == ("native", "FINISHED")
    assert shown["data"]["metrics"][0]["value"] == 0.25
    run = server.new_run(run_name="theirs", tags=[{"key": "mlflow.parentRunId", "value": shown["info"]["run_id"]}])
    server.good(
        "POST", "runs/log-batch", {"run_id": run, "metrics": [POINT], "params": [{"key": "lr", "value": "0.5"}]}
    )
    server.good("POST", "runs/update", {"run_id": run, "status": "FINISHED"})
    (found,) = nb.find("runs", "type == 'mlflow' and params.lr > 0.4 and metrics.loss == 1.5")
    assert (found.name, found.parent, str(found.status)) == ("theirs", live.id, "FINISHED")
    assert nb.series(found, "loss").values.tolist() == [1.5]
    opened.close()


def test_a_version_number_is_never_given_again(server: Any) -> None:
    for expected in ("1", "2"):
        server.good("POST", "registered-models/create", {"name": "phoenix"})
        made = server.good("POST", "model-versions/create", {"name": "phoenix", "source": "mlflow-artifacts:/0/x"})
        assert made["model_version"]["version"] == expected
        server.good("DELETE", "registered-models/delete", {"name": "phoenix"})


def test_a_model_that_is_measured_at_every_step_keeps_the_newest_of_each_dataset(server: Any) -> None:
    run = server.new_run()
    made = server.good("POST", "logged-models", {"experiment_id": "0", "name": "measured", "source_run_id": run})
    id = made["model"]["info"]["model_id"]
    for step in range(20):
        point = {**POINT, "step": step, "value": step / 2, "model_id": id}
        server.good("POST", "runs/log-metric", {"run_id": run, **point})
        server.good("POST", "runs/log-metric", {"run_id": run, **point, "dataset_name": "d", "dataset_digest": "1"})
    shown = server.good("GET", f"logged-models/{id}")["model"]["data"]["metrics"]
    assert [(one["step"], one["value"], one.get("dataset_name")) for one in shown] == [(19, 9.5, None), (19, 9.5, "d")]
    assert len(history(server, run)) == 20


def test_deleting_an_experiment_takes_its_runs_along_and_brings_them_back(server: Any) -> None:
    id = server.good("POST", "experiments/create", {"name": "passing"})["experiment_id"]
    run = server.new_run(experiment_id=id)
    server.good("POST", "experiments/delete", {"experiment_id": id})
    assert server.good("GET", f"runs/get?run_id={run}")["run"]["info"]["lifecycle_stage"] == "deleted"
    status, answer = server.ask("POST", "runs/create", {"experiment_id": id})
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    server.good("POST", "experiments/restore", {"experiment_id": id})
    assert server.good("GET", f"runs/get?run_id={run}")["run"]["info"]["lifecycle_stage"] == "active"
