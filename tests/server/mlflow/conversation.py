"""What an unmodified MLflow client says to a server, and what it must hear. Run by each client's own Python.

``python conversation.py PART…`` with MLFLOW_TRACKING_URI and MLFLOW_TRACKING_TOKEN set; prints the parts that passed.
Nothing of nbops is imported here: MLflow's own server passes too, but for infinities, which it does not keep.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

VERSION = tuple(int(part) for part in mlflow.__version__.split(".")[:2])
parts: dict[str, Callable[[], None]] = {}


def part(function: Callable[[], None]) -> Callable[[], None]:
    parts[function.__name__] = function
    return function


def unique(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def refused(code: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    error = raised(call, *args, **kwargs)
    assert getattr(error, "error_code", "") == code, (code, error)
    return str(error)


def raised(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Exception:
    """Return what a call raises, which it must. (There is no pytest in a client's environment.)"""
    try:
        call(*args, **kwargs)
    except Exception as error:
        return error
    raise AssertionError(f"{call} was not refused")


@part
def experiments() -> None:
    client = MlflowClient()
    assert client.get_experiment("0").name == "Default"
    name = unique("größe/π")
    made = mlflow.set_experiment(name)
    assert mlflow.set_experiment(name).experiment_id == made.experiment_id
    assert int(made.experiment_id) > 0
    message = refused("RESOURCE_ALREADY_EXISTS", client.create_experiment, name)
    assert "already exists" in message
    client.set_experiment_tag(made.experiment_id, "team", "x")
    assert client.get_experiment_by_name(name).tags == {"team": "x"}
    assert [e.name for e in client.search_experiments(filter_string=f"name = '{name}' AND tags.team = 'x'")] == [name]
    assert [e.name for e in client.search_experiments(filter_string="name ILIKE 'GRÖSSE%'")] == []
    assert name in [e.name for e in client.search_experiments(filter_string="name LIKE 'größe%'", order_by=["name"])]
    other = unique("renamed")
    client.rename_experiment(made.experiment_id, other)
    assert client.get_experiment(made.experiment_id).name == other
    client.delete_experiment(made.experiment_id)
    assert client.get_experiment(made.experiment_id).lifecycle_stage == "deleted"
    assert "deleted experiment" in str(raised(mlflow.set_experiment, other))
    client.restore_experiment(made.experiment_id)
    assert mlflow.set_experiment(other).experiment_id == made.experiment_id
    assert client.get_experiment_by_name("no such") is None
    refused("RESOURCE_DOES_NOT_EXIST", client.get_experiment, "987654")
    refused("INVALID_PARAMETER_VALUE", client.search_experiments, filter_string="nonsense ~ 3")
    race = unique("race")
    found: list[str] = []

    def both() -> None:
        try:
            found.append(mlflow.set_experiment(race).experiment_id)
        except MlflowException:  # old clients tell the loser of the race
            found.append(client.get_experiment_by_name(race).experiment_id)

    threads = [threading.Thread(target=both) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


@part
def runs() -> None:
    mlflow.set_experiment(unique("runs"))
    client = MlflowClient()
    with (
        mlflow.start_run(run_name="outer", tags={"stage": "dev"}) as outer,
        mlflow.start_run(run_name="inner", nested=True) as inner,
    ):
        assert inner.info.run_id != outer.info.run_id
    got = client.get_run(outer.info.run_id)
    assert (got.info.status, got.info.run_name) == ("FINISHED", "outer")
    assert got.data.tags["mlflow.runName"] == "outer"
    assert got.data.tags["stage"] == "dev"
    assert got.info.end_time >= got.info.start_time
    assert client.get_run(inner.info.run_id).data.tags["mlflow.parentRunId"] == outer.info.run_id
    with mlflow.start_run(run_id=outer.info.run_id):
        mlflow.log_metric("again", 1.0)
        assert client.get_run(outer.info.run_id).info.status == "RUNNING"
    try:
        with mlflow.start_run() as broken:
            raise ValueError("on purpose")
    except ValueError:
        pass
    failed = client.get_run(broken.info.run_id)
    assert failed.info.status == "FAILED"
    assert failed.info.run_name
    client.set_terminated(broken.info.run_id, "KILLED")
    assert client.get_run(broken.info.run_id).info.status == "KILLED"
    client.update_run(broken.info.run_id, name="mended")
    assert client.get_run(broken.info.run_id).info.run_name == "mended"
    refused("RESOURCE_DOES_NOT_EXIST", client.get_run, "0" * 32)


@part
def params() -> None:
    mlflow.set_experiment(unique("params"))
    with mlflow.start_run() as run:
        mlflow.log_param("lr", 0.1)
        mlflow.log_param("lr", 0.1)
        message = refused("INVALID_PARAMETER_VALUE", mlflow.log_param, "lr", 0.2)
        assert (
            "Changing param values is not allowed. Param with key='lr' was already logged with value='0.1'" in message
        )
        texts = {
            "a": "7.0",
            "b": "7",
            "c": "1e-3",
            "d": "True",
            "e": "None",
            "f": "",
            "g": "007",
            "h": "ü x",
            "i": "-0.0",
        }
        mlflow.log_params(texts)
        mlflow.log_params({f"p{i}": i for i in range(250)})
        mlflow.log_param("long", "x" * 6001)
    got = MlflowClient().get_run(run.info.run_id).data.params
    assert {key: got[key] for key in texts} == texts
    assert got["p249"] == "249"
    assert len(got["long"]) == 6000
    client = MlflowClient()
    id = run.info.run_id
    for bad in ("../up", "/root", "a//b", "tab\there", "x" * 251):
        refused("INVALID_PARAMETER_VALUE", client.log_param, id, bad, 1)


@part
def metrics() -> None:
    mlflow.set_experiment(unique("metrics"))
    client = MlflowClient()
    with mlflow.start_run() as run:
        id = run.info.run_id
        for step, value in enumerate([0.1, math.nan, math.inf, -math.inf, 1e-320, -0.0]):
            mlflow.log_metric("odd", value, step=step)
        mlflow.log_metric("steps", 1.0, step=-1)
        mlflow.log_metric("steps", 2.0, step=2**53 + 1)
        mlflow.log_metrics({"acc": 0.5, "loss": 2}, step=3)
        same = Metric("same", 1.5, 1_700_000_000_000, 7)
        client.log_batch(id, metrics=[same, same])
        client.log_batch(id, metrics=[same])
        client.log_batch(id, metrics=[Metric("late", 1.0, 10, 5), Metric("late", 2.0, 10, 9)])
        client.log_batch(id, metrics=[Metric("late", 3.0, 99, 2)])
        client.log_batch(id, metrics=[Metric(f"m{i % 10}", float(i), 1000 + i, i) for i in range(1000)])
    history = client.get_metric_history(id, "odd")
    values = [m.value for m in sorted(history, key=lambda m: m.step)]
    assert values[0] == 0.1
    assert math.isnan(values[1])
    assert values[2:4] == [math.inf, -math.inf]
    assert values[4] == 1e-320
    assert math.copysign(1.0, values[5]) == -1.0
    assert sorted(m.step for m in client.get_metric_history(id, "steps")) == [-1, 2**53 + 1]
    assert [(m.timestamp, m.step, m.value) for m in client.get_metric_history(id, "same")] == [
        (1_700_000_000_000, 7, 1.5)
    ]
    got = client.get_run(id).data.metrics
    assert (got["acc"], got["loss"], got["late"], got["m9"], got["steps"]) == (0.5, 2.0, 2.0, 999.0, 2.0)
    assert client.get_metric_history(id, "none at all") == []
    refused("INVALID_PARAMETER_VALUE", client.log_metric, id, "not good?", 1.0)
    client.delete_run(id)
    refused("INVALID_PARAMETER_VALUE", client.log_metric, id, "x", 1.0)
    client.restore_run(id)
    client.log_metric(id, "x", 1.0)


@part
def asynchronous() -> None:
    mlflow.set_experiment(unique("async"))
    with mlflow.start_run() as run:
        for step in range(200):
            mlflow.log_metric("loss", 1 / (step + 1), step=step, synchronous=False)
        mlflow.log_params({"a": 1}, synchronous=False)
        if hasattr(mlflow, "flush_async_logging"):
            mlflow.flush_async_logging()
        else:
            mlflow.log_param("b", 2, synchronous=False).wait()
    if hasattr(mlflow, "flush_async_logging"):
        assert len(MlflowClient().get_metric_history(run.info.run_id, "loss")) == 200


@part
def search() -> None:
    experiment = mlflow.set_experiment(unique("search")).experiment_id
    client = MlflowClient()
    ids = []
    for i in range(12):
        run = client.create_run(experiment, run_name=f"run-{i:02d}", start_time=1_700_000_000_000 + i)
        ids.append(run.info.run_id)
        acc = math.nan if i == 11 else i / 10
        client.log_batch(
            run.info.run_id,
            metrics=[Metric("acc", acc, 1, 0)],
            params=[Param("model", "cnn" if i % 2 else "mlp"), Param("lr", str(0.1 * i)), Param("a b", "x")],
            tags=[RunTag("team", f"t{i % 3}")],
        )
        client.set_terminated(run.info.run_id, "FAILED" if i == 3 else "FINISHED")

    def names(filter: str = "", order: list[str] | None = None, **more: Any) -> list[str]:
        found = client.search_runs([experiment], filter, order_by=order, **more)
        return [run.info.run_name[-2:] for run in found]

    every = [f"{i:02d}" for i in reversed(range(12))]
    assert names() == every
    assert names("metrics.acc > 0.75") == ["10", "09", "08"]
    assert names("metrics.acc >= 0.9 AND params.model = 'cnn'") == ["09"]
    assert names("metric.acc < 0.15 and params.`model` != 'cnn'") == ["00"]
    assert names('parameters."a b" = "x" AND metrics.acc <= 0') == ["00"]
    assert names("params.model LIKE 'c%' AND tags.team = 't1'") == ["07", "01"]
    assert names("params.model ILIKE 'C_N' AND tags.team ILIKE 'T1'") == ["07", "01"]
    assert names("attributes.status = 'FAILED'") == ["03"]
    assert names("status != 'FINISHED'") == ["03"]
    assert names("run_name = 'run-05'") == ["05"]
    assert names("attributes.`run name` LIKE '%-05'") == ["05"]
    assert names(f"attributes.run_id IN ('{ids[1]}', '{ids[2]}')") == ["02", "01"]
    assert names(f"run_id = '{ids[4]}'") == ["04"]
    assert names(f"attributes.start_time > {1_700_000_000_000 + 9}") == ["11", "10"]
    assert names("tags.mlflow.runName = 'run-06'") == ["06"]
    assert names("params.lr = '0.5'") == ["05"]
    assert names("metrics.acc = 0.5") == ["05"]
    assert names("metrics.nothing > 0") == []
    assert names("", ["metrics.acc DESC"])[:3] == ["10", "09", "08"]
    assert names("", ["metrics.acc ASC"])[-1] == "11"
    assert names("", ["params.model ASC", "start_time ASC"])[:2] == ["01", "03"]
    assert names("", ["attributes.run_name ASC"], max_results=2) == ["00", "01"]
    page = client.search_runs([experiment], max_results=5)
    seen = [run.info.run_name for run in page]
    while page.token:
        page = client.search_runs([experiment], max_results=5, page_token=page.token)
        seen += [run.info.run_name for run in page]
    assert len(seen) == len(set(seen)) == 12
    for wrong in (
        "metrics.acc > 'x'",
        "params.model > 3",
        "nothing.x = 'y'",
        "metrics.acc >",
        "foo = 'x'",
        "a = 1 OR b = 2",
    ):
        refused("INVALID_PARAMETER_VALUE", client.search_runs, [experiment], wrong)
    client.delete_run(ids[0])
    assert "00" not in names()
    assert names(run_view_type=ViewType.DELETED_ONLY) == ["00"]
    assert len(names(run_view_type=ViewType.ALL)) == 12
    frame = mlflow.search_runs([experiment], order_by=["start_time ASC"])
    assert list(frame["metrics.acc"])[:3] == [0.1, 0.2, 0.3]
    assert frame["params.model"][0] == "cnn"


@part
def artifacts() -> None:
    mlflow.set_experiment(unique("artifacts"))
    client = MlflowClient()
    with tempfile.TemporaryDirectory() as folder, mlflow.start_run() as run:
        root = Path(folder)
        (root / "sub dir").mkdir()
        (root / "sub dir" / "ü b.txt").write_text("hällo")
        (root / "big.bin").write_bytes(os.urandom(3_000_000))
        mlflow.log_artifacts(folder, "all")
        mlflow.log_artifact(str(root / "big.bin"))
        mlflow.log_text("text", "notes/a.txt")
        mlflow.log_text("text two", "notes/a.txt")
        mlflow.log_dict({"a": [1, 2]}, "d.json")
        mlflow.log_table({"x": [1, 2]}, "t.json")
        listed = {f.path: (f.is_dir, f.file_size) for f in client.list_artifacts(run.info.run_id)}
        assert listed["all"] == (True, None)
        assert listed["big.bin"] == (False, 3_000_000)
        assert [f.path for f in client.list_artifacts(run.info.run_id, "all/sub dir")] == ["all/sub dir/ü b.txt"]
        assert client.list_artifacts(run.info.run_id, "big.bin") == []
        local = mlflow.artifacts.download_artifacts(
            run_id=run.info.run_id, artifact_path="all", dst_path=folder + "/got"
        )
        assert (Path(local) / "sub dir" / "ü b.txt").read_text() == "hällo"
        assert (Path(local) / "big.bin").read_bytes() == (root / "big.bin").read_bytes()
        assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/notes/a.txt") == "text two"
        assert mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/d.json") == {"a": [1, 2]}
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        get_artifact_repository(run.info.artifact_uri).delete_artifacts("notes")
        assert "notes" not in [f.path for f in client.list_artifacts(run.info.run_id)]
        for wrong in ("../x", "a/../../x"):
            message = str(raised(client.list_artifacts, run.info.run_id, wrong))  # clients differ in the class
            assert "Invalid path" in message or "400" in message, message


@part
def inputs() -> None:
    import pandas as pd

    experiment = mlflow.set_experiment(unique("inputs")).experiment_id
    with mlflow.start_run() as run:
        data = mlflow.data.from_pandas(pd.DataFrame({"a": [1, 2]}), name="sales")
        mlflow.log_input(data, context="training")
        mlflow.log_input(data, context="training")
    (used,) = MlflowClient().get_run(run.info.run_id).inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("sales", data.digest)
    found = MlflowClient().search_runs([experiment], "datasets.name = 'sales' AND datasets.context = 'training'")
    assert [r.info.run_id for r in found] == [run.info.run_id]
    assert not MlflowClient().search_runs([experiment], "datasets.name = 'other'")


@part
def tags() -> None:
    mlflow.set_experiment(unique("tags"))
    client = MlflowClient()
    with mlflow.start_run() as run:
        mlflow.set_tags({"a": "1", "b": "two"})
        mlflow.set_tag("a", "3")
        mlflow.delete_tag("b")
        refused("RESOURCE_DOES_NOT_EXIST", client.delete_tag, run.info.run_id, "b")
    got = client.get_run(run.info.run_id).data.tags
    assert got["a"] == "3"
    assert "b" not in got


def _model() -> Any:
    class Plus(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input + 1

    return Plus()


@part
def logged_models() -> None:
    import numpy as np

    mlflow.set_experiment(unique("models"))
    name = unique("plus")
    client = MlflowClient()
    where = {"artifact_path": "model"} if VERSION < (3, 0) else {"name": "model"}
    with mlflow.start_run() as run:
        info = mlflow.pyfunc.log_model(
            python_model=_model(), registered_model_name=name, pip_requirements=["numpy"], **where
        )
        mlflow.log_metric("acc", 0.5)
    x = np.array([1.0, 2.0])
    (version,) = client.search_model_versions(f"name = '{name}'")
    assert (version.version if isinstance(version.version, str) else str(version.version)) == "1"
    client.set_registered_model_alias(name, "prod", "1")
    uris = [info.model_uri, f"runs:/{run.info.run_id}/model", f"models:/{name}/1", f"models:/{name}@prod"]
    for uri in uris:
        assert list(mlflow.pyfunc.load_model(uri).predict(x)) == [2.0, 3.0], uri
    if VERSION >= (3, 0):
        assert info.model_id.startswith("m-")
        got = mlflow.get_logged_model(info.model_id)
        assert (got.name, str(got.status)) == ("model", "READY") or got.name == "model"
        assert got.source_run_id == run.info.run_id
        client.set_logged_model_tags(info.model_id, {"k": "v"})
        assert client.get_logged_model(info.model_id).tags["k"] == "v"
        client.delete_logged_model_tag(info.model_id, "k")
        mlflow.log_metric("acc", 0.75, model_id=info.model_id, run_id=run.info.run_id)
        found = client.search_logged_models([run.info.experiment_id], filter_string="metrics.acc > 0.7")
        assert [one.model_id for one in found] == [info.model_id]
        outputs = client.get_run(run.info.run_id).outputs.model_outputs
        assert [one.model_id for one in outputs] == [info.model_id]


@part
def registry() -> None:
    client = MlflowClient()
    name = unique("reg")
    client.create_registered_model(name, tags={"a": "1"}, description="first")
    refused("RESOURCE_ALREADY_EXISTS", client.create_registered_model, name)
    mlflow.set_experiment(unique("registry"))
    with mlflow.start_run() as run:
        mlflow.log_text("x", "model/MLmodel")
    source = f"{run.info.artifact_uri}/model"
    for _ in range(3):
        made = client.create_model_version(name, source, run.info.run_id)
        assert made.status == "READY"
    found = client.search_model_versions(f"name='{name}'", order_by=["version_number ASC"])
    assert [str(v.version) for v in found] == ["1", "2", "3"]
    client.set_registered_model_alias(name, "prod", "1")
    client.set_registered_model_alias(name, "prod", "2")
    assert str(client.get_model_version_by_alias(name, "prod").version) == "2"
    client.delete_registered_model_alias(name, "prod")
    refused("INVALID_PARAMETER_VALUE", client.get_model_version_by_alias, name, "prod")
    for bad in ("latest", "v1", "a b", ""):
        refused("INVALID_PARAMETER_VALUE", client.set_registered_model_alias, name, bad, "1")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client.transition_model_version_stage(name, "1", "Production")
        client.transition_model_version_stage(name, "2", "production", archive_existing_versions=True)
        assert client.get_model_version(name, "1").current_stage == "Archived"
        assert client.get_model_version(name, "2").current_stage == "Production"
        assert [str(v.version) for v in client.get_latest_versions(name, ["Production"])] == ["2"]
        refused("INVALID_PARAMETER_VALUE", client.transition_model_version_stage, name, "1", "nowhere")
    client.set_model_version_tag(name, "3", "k", "v")
    assert client.get_model_version(name, "3").tags == {"k": "v"}
    client.delete_model_version_tag(name, "3", "k")
    client.update_model_version(name, "3", "better")
    assert client.get_model_version(name, "3").description == "better"
    assert client.get_model_version_download_uri(name, "3") == source
    client.set_registered_model_tag(name, "b", "2")
    assert client.get_registered_model(name).tags == {"a": "1", "b": "2"}
    assert [m.name for m in client.search_registered_models(f"name LIKE '{name[:-2]}%'")] == [name]
    client.delete_model_version(name, "3")
    refused("RESOURCE_DOES_NOT_EXIST", client.get_model_version, name, "3")
    assert str(client.create_model_version(name, source, run.info.run_id).version) == "4"
    other = unique("other")
    client.rename_registered_model(name, other)
    assert str(client.get_model_version(other, "4").version) == "4"
    client.delete_registered_model(other)
    refused("RESOURCE_DOES_NOT_EXIST", client.get_registered_model, other)
    for bad in ("a/b", "a:b"):
        refused("INVALID_PARAMETER_VALUE", client.create_registered_model, bad)


@part
def many_versions_at_once() -> None:
    client = MlflowClient()
    name = unique("busy")
    client.create_registered_model(name)
    numbers: list[int] = []
    failed: list[BaseException] = []

    def register() -> None:
        try:
            numbers.append(int(MlflowClient().create_model_version(name, "s3://bucket/x").version))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=register) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed[0]
    assert sorted(numbers) == list(range(1, 65))


def main(wanted: list[str]) -> None:
    import logging

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    for name in wanted or parts:
        parts[name]()
        print("passed", name, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
