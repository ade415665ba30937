"""Logging, folding and reading back, beside MLflow on its SQLite store and plain SQLite, in one run."""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nbops as nb
from nbops.store.workspace import init

GROUP = "Tracking"
pytestmark = pytest.mark.leaks("MLflow keeps its database open until the process ends")
POINTS = 500_000


def times_us(call: Callable[[], object], count: int) -> tuple[float, float]:
    """Return p50 and p99 of `count` calls in microseconds."""
    took = np.empty(count)
    clock = time.perf_counter_ns
    for i in range(count):
        begin = clock()
        call()
        took[i] = clock() - begin
    return float(np.percentile(took, 50)) / 1e3, float(np.percentile(took, 99)) / 1e3


@pytest.fixture
def mlflow(tmp_path: Path) -> Iterator[Any]:
    module = pytest.importorskip("mlflow")
    module.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    module.set_experiment("bench")
    yield module
    while module.active_run():
        module.end_run()


@pytest.fixture(autouse=True)
def _workspace(tmp_path: Path) -> Iterator[None]:
    ws = init(tmp_path)
    yield
    ws.close()


def test_log_call(bench: Any, mlflow: Any) -> None:
    with nb.run("bench"):
        one = times_us(lambda: nb.log(loss=0.5), 20_000)
        ten_metrics = {f"m{i}": 0.5 for i in range(10)}
        ten = times_us(lambda: nb.log(**ten_metrics), 10_000)
    with mlflow.start_run():
        peer = times_us(lambda: mlflow.log_metric("loss", 0.5), 100)
        peer_ten = times_us(lambda: mlflow.log_metrics(ten_metrics), 50)
    name = f"MLflow {mlflow.__version__}"
    bench.row(GROUP, "one `log(loss=x)`, p50", ours=one[0], unit="µs", peers={name: peer[0]}, goal="≤ 3 µs")
    bench.row(GROUP, "one `log(loss=x)`, p99", ours=one[1], unit="µs", peers={name: peer[1]}, goal="≤ 20 µs")
    bench.row(GROUP, "`log` of ten metrics, p50", ours=ten[0], unit="µs", peers={name: peer_ten[0]}, goal="≤ 6 µs")


def test_points_folded_per_second(bench: Any, mlflow: Any, tmp_path: Path) -> None:
    with nb.run("bench") as run:
        begin = time.perf_counter()
        for i in range(POINTS):
            run.log(loss=i * 0.5)
        nb.workspace().flush()
        ours = POINTS / (time.perf_counter() - begin)
        values = np.arange(5_000_000) / 7
        begin = time.perf_counter()
        run.log_series("whole", None, values)
        nb.workspace().flush()
        arrays = len(values) / (time.perf_counter() - begin)
    from mlflow.entities import Metric

    client = mlflow.MlflowClient()
    with mlflow.start_run() as peer_run:
        begin = time.perf_counter()
        for start in range(0, 10_000, 1_000):
            batch = [Metric("loss", i * 0.5, 0, i) for i in range(start, start + 1_000)]
            client.log_batch(peer_run.info.run_id, metrics=batch)
        peer = 10_000 / (time.perf_counter() - begin)
    database = sqlite3.connect(tmp_path / "plain.db")
    database.execute("pragma journal_mode=wal")
    database.execute("create table point(run, metric, step, time, value)")
    begin = time.perf_counter()
    with database:
        database.executemany(
            "insert into point values (?,?,?,?,?)", (("r", "loss", i, 0, i * 0.5) for i in range(POINTS))
        )
    plain = POINTS / (time.perf_counter() - begin)
    database.close()
    peers = {f"MLflow {mlflow.__version__} log_batch": peer, "plain SQLite, one transaction": plain}
    goal = {"unit": "points/s", "peers": peers, "lower_is_better": False}
    bench.row(GROUP, "logged one by one, folded, queryable", ours=ours, goal="≥ 500,000", **goal)
    bench.row(GROUP, "`log_series`, folded, queryable", ours=arrays, goal="≥ 10,000,000", **goal)


def test_series_read_back(bench: Any, mlflow: Any) -> None:
    with nb.run("bench") as run:
        run.log_series("loss", None, np.arange(1_000_000) / 7)
    begin = time.perf_counter()
    assert len(nb.series(run, "loss")) == 1_000_000
    ours = 1_000_000 / (time.perf_counter() - begin)
    from mlflow.entities import Metric

    client = mlflow.MlflowClient()
    with mlflow.start_run() as peer_run:
        for start in range(0, 10_000, 1_000):
            client.log_batch(peer_run.info.run_id, metrics=[Metric("m", i, 0, i) for i in range(start, start + 1_000)])
    begin = time.perf_counter()
    assert len(client.get_metric_history(peer_run.info.run_id, "m")) == 10_000
    peer = 10_000 / (time.perf_counter() - begin)
    peers = {f"MLflow {mlflow.__version__}": peer}
    bench.row(
        GROUP, "series read back as arrays", ours=ours, unit="points/s", peers=peers, goal="≥ 5,000,000",
        lower_is_better=False,
    )  # fmt: skip


def test_start_and_finish(bench: Any, mlflow: Any) -> None:
    def once(call: Callable[[], Any]) -> float:
        begin = time.perf_counter()
        with call():
            pass
        return (time.perf_counter() - begin) * 1e3

    ours = statistics.median(once(lambda: nb.run("bench")) for _ in range(50))
    peer = statistics.median(once(lambda: mlflow.start_run()) for _ in range(20))
    peers = {f"MLflow {mlflow.__version__}": peer}
    bench.row(GROUP, "start and finish of a run", ours=ours, unit="ms", peers=peers, goal="≤ 20 ms")
