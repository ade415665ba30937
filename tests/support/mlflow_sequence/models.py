"""Logged models of MLflow 3."""

from __future__ import annotations

from mlflow_sequence.replaying import AT, Ask, get, pairs, post, send


def _found(name: str, **fields: object) -> Ask:
    return post(f"find models {name}", "logged-models/search", {"experiment_ids": ["1"], **fields})


ASKS: list[Ask] = [
    post("make a model", "logged-models", {
        "experiment_id": "1", "name": "net", "model_type": "Agent", "source_run_id": "{run}",
        "params": pairs(layers="2"), "tags": pairs(a="1")}, model="model.info.model_id"),
    post("make a second model", "logged-models", {"experiment_id": "1", "name": "other"},
         model2="model.info.model_id"),
    post("make a model without a name", "logged-models", {"experiment_id": "1"},
         model3="model.info.model_id", model3_name="model.info.name"),
    post("make a model of a bad name", "logged-models", {"experiment_id": "1", "name": "a/b"}),
    post("make a model in an unknown experiment", "logged-models", {"experiment_id": "4711", "name": "x"}),
    post("make a model without an experiment", "logged-models", {"name": "x"}),
    get("get a model", "logged-models/{model}"),
    get("get an unknown model", "logged-models/m-" + "0" * 32),
    get("get a model of a bad id", "logged-models/nonsense"),
    send("PATCH", "finish a model", "logged-models/{model}", {"model_id": "{model}", "status": "LOGGED_MODEL_READY"}),
    send("PATCH", "fail a model by number", "logged-models/{model2}", {"model_id": "{model2}", "status": 3}),
    send("PATCH", "finish an unknown model", "logged-models/m-" + "0" * 32, {"model_id": "m-" + "0" * 32, "status": 2}),
    send("PATCH", "tag a model", "logged-models/{model}/tags", {"tags": pairs(b="2", a="3")}),
    send("PATCH", "tag an unknown model", "logged-models/m-" + "0" * 32 + "/tags", {"tags": pairs(b="2")}),
    send("DELETE", "untag a model", "logged-models/{model}/tags/b"),
    send("DELETE", "untag a model again", "logged-models/{model}/tags/b"),
    post("add params to a model", "logged-models/{model}/params", {"model_id": "{model}", "params": pairs(width="8")}),
    post("add params to an unknown model", "logged-models/m-" + "0" * 32 + "/params",
         {"model_id": "m-" + "0" * 32, "params": pairs(w="8")}),
    post("log a metric of a model", "runs/log-batch", {"run_id": "{run}", "metrics": [
        {"key": "acc", "value": 0.75, "timestamp": AT, "step": 3, "model_id": "{model}", "dataset_name": "d",
         "dataset_digest": "1"}]}),
    post("log a single metric of a model", "runs/log-metric", {
        "run_id": "{run}", "key": "acc", "value": 0.875, "timestamp": AT, "step": 4, "model_id": "{model}"}),
    get("get a measured model", "logged-models/{model}"),
    post("say that a run made a model", "runs/outputs",
         {"run_id": "{run}", "models": [{"model_id": "{model}", "step": "2"}]}),
    post("say that a run used a model", "runs/log-inputs", {"run_id": "{run}", "models": [{"model_id": "{model2}"}]}),
    get("get the run of models", "runs/get", {"run_id": "{run}"}),
    send("PUT", "store a file of a model", "/api/2.0/mlflow-artifacts/artifacts/1/models/{model}/artifacts/MLmodel",
         b"flavors: {}\n"),
    get("list files of a model", "logged-models/{model}/artifacts/directories"),
    get("list files of a model below", "logged-models/{model}/artifacts/directories",
        {"artifact_directory_path": "none"}),
    get("list files of an unknown model", "logged-models/m-" + "0" * 32 + "/artifacts/directories"),
    _found("newest first"),
    _found("by name", filter="name = 'net'"),
    _found("by LIKE", filter="name LIKE 'o%'"),
    _found("by metric", filter="metrics.acc > 0.8"),
    _found("by param", filter="params.layers = '2'"),
    _found("by tag", filter="tags.a = '3'"),
    _found("by run", filter="source_run_id = '{run}'"),
    _found("by status", filter="status = 'READY'"),
    _found("by type", filter="model_type = 'Agent'"),
    _found("by order", order_by=[{"field_name": "creation_timestamp", "ascending": True}]),
    _found("by metric order", order_by=[{"field_name": "metrics.acc", "ascending": False}]),
    post("find a first page of models", "logged-models/search", {"experiment_ids": ["1"], "max_results": 1},
         models="next_page_token"),
    _found("on the next page", max_results=1, page_token="{models}"),
    post("find models of nowhere", "logged-models/search", {}),
    _found("of an unknown attribute", filter="size = 'x'"),
    _found("of a bad filter", filter="nonsense ~ 3"),
    _found("of a bad order", order_by=[{"field_name": "size"}]),
    _found("of a bad token", max_results=1, page_token="?!"),
    send("PATCH", "finish with a status that is none", "logged-models/{model3}",
         {"model_id": "{model3}", "status": "DANCING"}),
    send("DELETE", "delete a model", "logged-models/{model3}"),
    send("DELETE", "delete a model again", "logged-models/{model3}"),
    get("get a deleted model", "logged-models/{model3}"),
]  # fmt: skip
