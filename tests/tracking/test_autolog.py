"""`%mlops autolog`: MLflow in this kernel writes into the workspace."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from nbops.core.errors import MissingDependency
from nbops.store.workspace import Workspace
from nbops.tracking.autolog import autolog

CLIENTS = sorted((Path(__file__).resolve().parents[2] / ".venv-mlflow").glob("3*/lib/python*/site-packages"))

SCRIPT = """
import os, sys
sys.path.append(sys.argv[1])  # after our own libraries: it only adds MLflow and what that needs
import mlflow
import nbops as nb
from nbops.tracking.autolog import autolog

before = os.environ.get("MLFLOW_TRACKING_URI")
first = autolog()
assert autolog() == first
assert first.server == "process", first
assert first.uri == os.environ["MLFLOW_TRACKING_URI"] == mlflow.get_tracking_uri()
assert "a process beside this kernel" in str(first)
with mlflow.start_run(run_name="theirs"):
    mlflow.log_param("lr", 0.1)
    mlflow.log_metric("acc", 0.5)
(run,) = nb.find("runs", "type == 'mlflow'")
assert (run.name, run.params, run.metrics) == ("theirs", {"lr": 0.1}, {"acc": 0.5})
assert "wrote before" in str(autolog(off=True))
assert "wrote before" in str(autolog(off=True))
assert os.environ.get("MLFLOW_TRACKING_URI") == before
assert "127.0.0.1" not in mlflow.get_tracking_uri()
print("done")
"""


@pytest.mark.skipif(find_spec("mlflow") is not None, reason="MLflow is installed here")
def test_without_mlflow_it_is_said_what_to_install(workspace: Workspace) -> None:
    with pytest.raises(MissingDependency, match="mlflow is not installed") as told:
        autolog()
    assert told.value.hint == "Install it with: pip install 'nbops[mlflow]'"


@pytest.mark.skipif(not CLIENTS, reason="no MLflow client: make test")
def test_a_kernel_without_jupyter_gets_a_server_of_its_own(workspace: Workspace, tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name not in ("JPY_PARENT_PID", "PYTHONWARNINGS")}
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(CLIENTS[-1])],
        env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ran.stdout.endswith("done\n"), f"{ran.stdout}\n{ran.stderr[-3000:]}"
