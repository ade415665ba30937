"""Unmodified MLflow clients, two of version 2 and two of version 3, each in an environment that `make test` makes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
CLIENTS = [line for line in (ROOT / "requirements" / "mlflow-clients.txt").read_text().split() if line[0].isdigit()]
PARTS = 12


@pytest.mark.parametrize("version", CLIENTS)
def test_an_unmodified_client_hears_what_it_expects(server: Any, tmp_path: Path, version: str) -> None:
    python = ROOT / ".venv-mlflow" / version / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no client {version}: make test")
    ran = subprocess.run(
        [python, Path(__file__).with_name("conversation.py")],
        env={
            **os.environ,
            "MLFLOW_TRACKING_URI": server.uri,
            "MLFLOW_TRACKING_TOKEN": "a-token-for-tests",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ran.returncode == 0, f"{ran.stdout[-2000:]}\n{ran.stderr[-4000:]}"
    assert ran.stdout.count("passed ") == PARTS


def test_there_are_two_clients_of_each_generation() -> None:
    assert sorted(version[0] for version in CLIENTS) == ["2", "2", "3", "3"]
