"""Libraries that log to MLflow by themselves, unmodified, and what their user finds in nbops afterwards."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nbops as nb
from nbops.server.mlflow.ids import from_hex, to_hex
from nbops.store.workspace import Workspace

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = ROOT / ".venv-mlflow"
PYTHON = ENVIRONMENT / "integrations" / "bin" / "python"

Train = Callable[..., dict[str, Any]]


@pytest.fixture
def train(server: Any, tmp_path: Path) -> Train:
    """Run one part of `training.py` with the libraries' own Python; return what it told."""

    def run(part: str, *, before: str = "") -> dict[str, Any]:
        if not PYTHON.exists() or not (ENVIRONMENT / before).exists():
            pytest.skip("no environment with Lightning, Hugging Face, scikit-learn and xgboost: make test")
        path = [str(ENVIRONMENT / before)] if before else []
        ran = subprocess.run(
            [PYTHON, Path(__file__).with_name("training.py"), part],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([*path, os.environ["PYTHONPATH"]]),
                "MLFLOW_TRACKING_URI": server.uri,
                "MLFLOW_TRACKING_TOKEN": "a-token-for-tests",
                "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
                "MLFLOW_DISABLE_TELEMETRY": "true",
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert ran.returncode == 0, f"{ran.stdout[-2000:]}\n{ran.stderr[-4000:]}"
        told: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
        return told

    return run


@pytest.fixture
def opened(server: Any) -> Iterator[Workspace]:
    """The server's workspace, as a notebook beside it opens it."""
    found = nb.init(server.folder)
    yield found
    found.close()


def run_of(id: str) -> Any:
    """Return the run with MLflow's id."""
    (found,) = nb.find("runs", f"id == '{from_hex(id, 'run')}'")
    return found


def points(run: Any, metric: str, **more: Any) -> list[list[float]]:
    """Return steps and values of a series."""
    series = nb.series(run, metric, **more)
    return [list(pair) for pair in zip(series.steps.tolist(), series.values.tolist(), strict=True)]


def files(record: Any) -> dict[str, Any]:
    """Return the artifacts of a run or a logged model by path."""
    return {one.name: one for one in nb.find("artifacts", f"parent == '{record.id}'", limit=None)}


def experiment(run: Any) -> str:
    """Return the name of a run's experiment."""
    (found,) = nb.find("experiments", f"id == 'exp_{run.tags['nbops.experiment']}'")
    name: str = found.name
    return name


def models_of(run: Any) -> list[Any]:
    """Return the logged models that a run produced, by lineage."""
    return [node for node in nb.lineage(run).nodes if node.kind == "logged-model"]


def test_lightning_logs_points_hyperparameters_and_its_best_checkpoint(train: Train, opened: Workspace) -> None:
    told = train("lightning")
    run = run_of(told["run"])
    assert (run.name, str(run.status), experiment(run)) == ("line", "FINISHED", "lightning")
    assert run.params["lr"] == 0.1
    assert run.params["layers"] == "(2, 1)"
    assert run.params["note"] == "x" * 250
    assert run.tags["team"] == "a"
    # a second fit into the same run does not say to MLflow that the run goes on: its points are added
    steps = [*range(12), *range(12)]
    logged = zip(steps, told["train"] + told["again"], strict=True)
    assert points(run, "train/loss mse") == [[step, value] for step, value in logged]
    assert [value for _, value in points(run, "val_loss")][:3] == told["val"]
    assert run.summary["val_loss"].count == 6
    kept, name = files(run), told["checkpoint"]
    assert set(kept) == {f"{name}/{file}" for file in (f"{name}.ckpt", "metadata.yaml", "aliases.txt")}
    with opened.artifacts.open(kept[f"{name}/aliases.txt"].digest) as stream:
        assert stream.read() == b"['latest', 'best']"
    broken = run_of(told["broken"])
    assert (broken.name, str(broken.status)) == ("broken", "FAILED")


@pytest.mark.parametrize(("generation", "before"), [("4", "transformers-4"), ("5", "")])
def test_hugging_face_logs_steps_resumes_nests_and_keeps_checkpoints(
    train: Train, opened: Workspace, generation: str, before: str
) -> None:
    told = train("hugging_face", before=before)
    assert told["version"].split(".")[0] == generation
    plain = run_of(told["plain"]["run"])
    assert (plain.name, str(plain.status), experiment(plain)) == ("bert", "FINISHED", f"hf-{generation}-plain")
    assert plain.tags["release"] == "2.0"
    assert (plain.params["max_steps"], plain.params["hidden_size"], plain.params["use_cpu"]) == (4, 8, True)
    assert len(plain.params) > 100  # more than one batch of params
    # MLFLOW_RUN_ID: the same run goes on from step 2, and what it logged before is not lost
    first, second = told["plain"]["losses"], told["resumed"]
    assert [step for step, _ in first + second] == [1, 2, 3, 4, 3, 4]
    assert points(plain, "loss", segments="all") == first + second
    assert points(plain, "loss") == first[:2] + second
    assert plain.metrics["loss"] == second[-1][1]
    assert files(plain) == {}
    # HF_MLFLOW_LOG_ARTIFACTS: each checkpoint is a logged model of its run
    kept = run_of(told["files"]["run"])
    assert points(kept, "loss") == told["files"]["losses"]
    models = {one.name: one for one in models_of(kept)}
    assert {f"m-{to_hex(one.id)}": name for name, one in models.items()} == dict(told["files"]["models"])
    assert set(models) == {"checkpoint-2", "checkpoint-4"}
    assert {one.status for one in models.values()} == {"LOGGED_MODEL_READY"}
    inside = files(models["checkpoint-4"])
    assert {"MLmodel", "artifacts/checkpoint-4/config.json", "artifacts/checkpoint-4/model.safetensors"} <= set(inside)
    with opened.artifacts.open(inside["artifacts/checkpoint-4/config.json"].digest) as stream:
        assert json.load(stream)["hidden_size"] == 8
    # MLFLOW_NESTED_RUN: a child of the run that was open, which stays open
    outer = run_of(told["nested"]["outer"])
    (child,) = nb.find("runs", f"parent == '{outer.id}'")
    assert (child.name, str(child.status), str(outer.status)) == ("bert", "FINISHED", "FINISHED")
    assert points(child, "loss") == told["nested"]["losses"]
    assert outer.metrics == {"done": 1.0}


def test_scikit_learn_and_xgboost_log_by_themselves(train: Train, opened: Workspace) -> None:
    told = train("classical")
    run = run_of(told["logistic"]["run"])
    assert (run.name, str(run.status), experiment(run)) == ("logistic", "FINISHED", "sklearn")
    assert (run.params["C"], run.params["fit_intercept"]) == (0.5, True)
    assert run.tags["estimator_name"] == "LogisticRegression"
    assert run.metrics["training_accuracy_score"] == told["logistic"]["accuracy"]
    assert {"estimator.html", "training_confusion_matrix.png", "training_roc_curve.png"} <= set(files(run))
    (model,) = models_of(run)
    assert {"MLmodel", "requirements.txt"} <= set(files(model))
    assert model.metrics["training_accuracy_score"] == told["logistic"]["accuracy"]
    used = {one["tags"][0]["value"]: one["dataset"] for one in run.context["mlflow"]["datasets"]}
    assert set(used) == {"train", "eval"}
    assert json.loads(used["train"]["profile"])["features_shape"] == [80, 3]
    # a search: one run with a child for each candidate
    search = run_of(told["search"]["run"])
    assert search.params["best_C"] == told["search"]["best"]
    assert search.metrics["best_cv_score"] == told["search"]["best_score"]
    children = nb.find("runs", f"parent == '{search.id}'")
    scores = {str(one.params["C"]): one.metrics["mean_test_score"] for one in children}
    assert scores == told["search"]["scores"]
    assert {str(one.status) for one in children} == {"FINISHED"}
    (best,) = nb.find("runs", f"parent == '{search.id}'", order_by="metrics.mean_test_score desc", limit=1)
    assert best.params["C"] == told["search"]["best"]
    assert "cv_results.csv" in files(search)
    # boosting: a point for each round
    trees = run_of(told["trees"]["run"])
    assert points(trees, "train-logloss") == [[float(i), value] for i, value in enumerate(told["trees"]["logloss"])]
    assert (trees.params["max_depth"], trees.params["num_boost_round"]) == (2, 12)
    weights = files(trees)["feature_importance_weight.json"]
    with opened.artifacts.open(weights.digest) as stream:
        assert json.load(stream) == told["trees"]["importance"]
    assert "MLmodel" in files(models_of(trees)[0])


def test_system_metrics_of_mlflow_are_series(train: Train, opened: Workspace) -> None:
    told = train("system_metrics")
    run = run_of(told["run"])
    assert str(run.status) == "FINISHED"
    assert points(run, "system/cpu_utilization_percentage") == told["cpu"]
    assert {"system/system_memory_usage_megabytes", "system/disk_usage_percentage"} <= set(run.summary)
    assert run.metrics == {"loss": 0.5}  # the key figures of the run's page are the user's own
