"""The MLflow interface beside MLflow's own server: the same HTTP client, the same bodies, in one run."""

from __future__ import annotations

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

GROUP = "MLflow interface"
NOW = 1_700_000_000_000


class Client:
    """One connection that is kept open."""

    def __init__(self, uri: str) -> None:
        self.uri, place = uri, urlsplit(uri)
        self.connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=60)

    def ask(self, path: str, fields: Any) -> Any:
        body = json.dumps(fields)
        head = {"Authorization": "Bearer token", "Content-Type": "application/json"}
        self.connection.request("POST", f"/api/2.0/mlflow/{path}", body=body, headers=head)
        answer = self.connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text
        return json.loads(text)

    def new_run(self) -> str:
        id: str = self.ask("runs/create", {"experiment_id": "0", "start_time": NOW})["run"]["info"]["run_id"]
        return id


@contextmanager
def ours(folder: Path) -> Iterator[Client]:
    words = ["mlflow-server", "--token", "token", "--workspace", str(folder), "--until-stdin-closes"]
    process = subprocess.Popen(
        [sys.executable, "-m", "nbops", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    client = Client(process.stdout.readline().strip().partition("=")[2])
    try:
        yield client
    finally:
        client.connection.close()
        process.stdin.close()
        process.stdout.close()
        process.wait(30)


@contextmanager
def theirs(folder: Path) -> Iterator[Client]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["server", "--port", str(port), "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *words, "--default-artifact-root", str(folder)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
    )  # fmt: skip
    client = Client(f"http://127.0.0.1:{port}")
    try:
        for _ in range(600):
            try:
                client.ask("experiments/search", {"max_results": 1})
                break
            except (OSError, http.client.HTTPException, AssertionError):
                client.connection.close()
                time.sleep(0.1)
        yield client
    finally:
        client.connection.close()
        os.killpg(process.pid, 15)
        process.wait(30)


def batches_ms(client: Client, count: int) -> float:
    """Return the p50 of one batch of 1,000 metrics: ten series, a hundred points each."""
    run, took = client.new_run(), []
    for batch in range(count):
        metrics = [
            {"key": f"m{i % 10}", "value": i / 7, "timestamp": NOW + batch, "step": batch * 1000 + i}
            for i in range(1000)
        ]
        begin = time.perf_counter()
        client.ask("runs/log-batch", {"run_id": run, "metrics": metrics})
        took.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(took)


def singles_ms(client: Client, count: int) -> float:
    """Return the p50 of one metric."""
    run, took = client.new_run(), []
    for step in range(count):
        begin = time.perf_counter()
        client.ask("runs/log-metric", {"run_id": run, "key": "loss", "value": 0.5, "timestamp": NOW, "step": step})
        took.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(took)


def history_ms(client: Client, points: int) -> float:
    """Return the median of three readings of one metric's history by MLflow's client, which asks for pages."""
    from mlflow.tracking import MlflowClient

    run, took = client.new_run(), []
    for start in range(0, points, 1000):
        metrics = [{"key": "loss", "value": i / 7, "timestamp": NOW + i, "step": i} for i in range(start, start + 1000)]
        client.ask("runs/log-batch", {"run_id": run, "metrics": metrics})
    reader = MlflowClient(client.uri)
    for _ in range(3):
        begin = time.perf_counter()
        history = reader.get_metric_history(run, "loss")
        took.append(time.perf_counter() - begin)
        assert [point.step for point in history] == list(range(points))
    return 1e3 * statistics.median(took)


@pytest.mark.leaks("MLflow's client keeps its connections open")
def test_reading_a_history_with_the_client(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "token")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    (tmp_path / "peer").mkdir()
    with ours(tmp_path) as client:
        mine = history_ms(client, 100_000)
    with theirs(tmp_path / "peer") as client:
        peer = history_ms(client, 100_000)
    name = f"MLflow {mlflow.__version__} server"
    bench.row(GROUP, "history of 100,000 points by MLflow's client", ours=mine, unit="ms", peers={name: peer})
    assert mine < peer


def test_logging_over_http(bench: Any, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    (tmp_path / "peer").mkdir()
    with ours(tmp_path) as client:
        batch, single = batches_ms(client, 60), singles_ms(client, 300)
    with theirs(tmp_path / "peer") as client:
        peer_batch, peer_single = batches_ms(client, 10), singles_ms(client, 50)
    name = f"MLflow {mlflow.__version__} server"
    bench.row(GROUP, "log-batch of 1,000 metrics, p50", ours=batch, unit="ms", peers={name: peer_batch}, goal="≤ 15 ms")
    bench.row(GROUP, "log-metric, p50", ours=single, unit="ms", peers={name: peer_single}, goal="≤ 2 ms")
    assert batch < peer_batch
    assert single < peer_single
