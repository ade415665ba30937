"""What three people hear when they use an unmodified MLflow client. Run by each client's own Python.

``python people.py`` with MLFLOW_TRACKING_URI, and TOKEN_VERA (a viewer), TOKEN_BERT (an editor) and TOKEN_ANNA (an
approver); prints what passed. Nothing of nbops is imported here.
"""

from __future__ import annotations

import os
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

MODEL = f"digits-{uuid.uuid4().hex[:8]}"
VARIABLES = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


def become(name: str, *, by_password: bool = False) -> MlflowClient:
    """Let all that follows be asked by somebody else."""
    for variable in VARIABLES:
        os.environ.pop(variable, None)
    token = os.environ[f"TOKEN_{name.upper()}"]
    given = dict(zip(VARIABLES[1:], (name, token), strict=True)) if by_password else {VARIABLES[0]: token}
    os.environ.update(given)
    return MlflowClient()


def raised(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Exception:
    """Return what a call raises, which it must."""
    try:
        call(*args, **kwargs)
    except Exception as error:
        return error
    raise AssertionError(f"{call} was not refused")


def denied(who: str, needed: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Check that a call is refused with the name of who asks and the role that it takes."""
    error = raised(call, *args, **kwargs)
    assert getattr(error, "error_code", "PERMISSION_DENIED") == "PERMISSION_DENIED", error
    told = str(error) + str(getattr(getattr(error, "response", None), "text", ""))
    assert f"'{who}' is a" in told, told
    assert f"it takes an {needed} to" in told, told


def main() -> None:
    client = become("bert")
    experiment = mlflow.set_experiment(MODEL).experiment_id
    with tempfile.TemporaryDirectory() as folder, mlflow.start_run(run_name="fit") as run:
        Path(folder, "model.bin").write_bytes(b"weights")
        mlflow.log_params({"lr": 0.1})
        mlflow.log_metrics({"loss": 0.5}, step=1)
        mlflow.set_tag("a", "b")
        mlflow.log_artifact(str(Path(folder, "model.bin")), "model")
    id = run.info.run_id
    client.create_registered_model(MODEL)
    for _ in range(2):
        client.create_model_version(MODEL, f"{run.info.artifact_uri}/model", id)
    client.set_model_version_tag(MODEL, "1", "seen", "yes")
    denied("bert", "approver", client.set_registered_model_alias, MODEL, "prod", "1")
    denied("bert", "approver", client.transition_model_version_stage, MODEL, "1", "Production")
    denied("bert", "approver", client.delete_model_version, MODEL, "1")
    denied("bert", "approver", client.rename_registered_model, MODEL, "other")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "model.bin").write_bytes(b"other weights")
        denied("bert", "approver", client.log_artifact, id, str(Path(folder, "model.bin")), "model")
    print("passed editor")

    client = become("vera", by_password=True)
    assert [found.info.run_id for found in client.search_runs([experiment], "params.lr = '0.1'")] == [id]
    assert [point.value for point in client.get_metric_history(id, "loss")] == [0.5]
    assert [file.path for file in client.list_artifacts(id, "model")] == ["model/model.bin"]
    with tempfile.TemporaryDirectory() as folder:
        assert Path(client.download_artifacts(id, "model/model.bin", folder)).read_bytes() == b"weights"
        Path(folder, "more.bin").write_bytes(os.urandom(int(os.environ.get("BIG_BYTES", "1000"))))
        denied("vera", "editor", client.log_artifact, id, str(Path(folder, "more.bin")))
    versions = sorted(int(version.version) for version in client.search_model_versions(f"name = '{MODEL}'"))
    assert versions == [1, 2], versions
    denied("vera", "editor", client.create_run, experiment)
    denied("vera", "editor", client.log_metric, id, "loss", 0.1)
    denied("vera", "editor", client.log_param, id, "lr", "0.2")
    denied("vera", "editor", client.set_tag, id, "a", "c")
    denied("vera", "editor", client.delete_run, id)
    denied("vera", "editor", client.create_experiment, "hers")
    denied("vera", "editor", client.create_registered_model, "hers")
    denied("vera", "approver", client.set_registered_model_alias, MODEL, "prod", "1")
    os.environ["MLFLOW_TRACKING_USERNAME"] = "anna"  # somebody else's name with one's own token
    assert "Set MLFLOW_TRACKING_TOKEN to your token" in str(raised(client.get_run, id))
    print("passed viewer")

    client = become("anna")
    client.set_registered_model_alias(MODEL, "prod", "1")
    assert client.get_model_version_by_alias(MODEL, "prod").version in ("1", 1)
    client.transition_model_version_stage(MODEL, "2", "Staging")
    client.delete_registered_model_alias(MODEL, "prod")
    client.delete_model_version(MODEL, "2")
    client.log_metric(id, "loss", 0.25, step=2)
    print("passed approver")

    become("bert")
    os.environ["MLFLOW_TRACKING_TOKEN"] += "x"
    assert isinstance(raised(MlflowClient().get_run, id), MlflowException)
    print("passed stranger")


if __name__ == "__main__":
    sys.exit(main())
