"""Logging, folding and reading back, beside MLflow on its SQLite store and plain SQLite, in one run."""

from __future__ import annotations

import sqlite3
import statistics
import subprocess
import sys
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


def tensorboard(folder: Path) -> dict[str, tuple[float, float]]:
    """Return p50 and p99 of one scalar with torch's writer, which keeps it in a queue at first."""
    module = pytest.importorskip("torch.utils.tensorboard")
    writer, steps = module.SummaryWriter(str(folder / "tensorboard")), iter(range(1 << 30))
    times = times_us(lambda: writer.add_scalar("loss", 0.5, next(steps)), 5_000)
    writer.close()
    return {"TensorBoard (queued)": times}


def wandb_offline(folder: Path) -> dict[str, tuple[float, float]]:
    """Return p50 and p99 of one scalar with W&B offline, which hands it to a process of its own."""
    wandb = pytest.importorskip("wandb")
    settings = wandb.Settings(silent=True, disable_git=True, disable_code=True)
    run = wandb.init(mode="offline", dir=str(folder), project="bench", settings=settings)
    times = times_us(lambda: run.log({"loss": 0.5}), 2_000)
    run.finish()
    return {f"W&B {wandb.__version__} offline": times}


def test_log_call(bench: Any, mlflow: Any, tmp_path: Path) -> None:
    with nb.run("bench"):
        one = times_us(lambda: nb.log(loss=0.5), 20_000)
        ten_metrics = {f"m{i}": 0.5 for i in range(10)}
        ten = times_us(lambda: nb.log(**ten_metrics), 10_000)
    assert len(nb.series("bench", "loss")) >= 20_000
    assert len(nb.series("bench", "m9")) >= 10_000
    with mlflow.start_run():
        peer = times_us(lambda: mlflow.log_metric("loss", 0.5), 100)
        peer_ten = times_us(lambda: mlflow.log_metrics(ten_metrics), 50)
    name = f"MLflow {mlflow.__version__}"
    others = {**tensorboard(tmp_path), **wandb_offline(tmp_path)}
    p50 = {name: peer[0], **{other: times[0] for other, times in others.items()}}
    p99 = {name: peer[1], **{other: times[1] for other, times in others.items()}}
    bench.row(GROUP, "one `log(loss=x)`, p50", ours=one[0], unit="µs", peers=p50, goal="≤ 3 µs")
    bench.row(GROUP, "one `log(loss=x)`, p99", ours=one[1], unit="µs", peers=p99, goal="≤ 20 µs")
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
    assert len(nb.series(run, "loss")) == POINTS
    assert np.array_equal(nb.series(run, "whole").values, values)
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


def test_start_and_finish(bench: Any, mlflow: Any, tmp_path: Path) -> None:
    def once(call: Callable[[], Any]) -> float:
        begin = time.perf_counter()
        with call():
            pass
        return (time.perf_counter() - begin) * 1e3

    ours = statistics.median(once(lambda: nb.run("bench")) for _ in range(50))
    assert [run.status for run in nb.find("runs", "name == 'bench'", limit=50)] == ["FINISHED"] * 50
    peer = statistics.median(once(lambda: mlflow.start_run()) for _ in range(20))
    peers = {f"MLflow {mlflow.__version__}": peer}
    wandb = pytest.importorskip("wandb")
    settings = wandb.Settings(silent=True, disable_git=True, disable_code=True)
    begun = lambda: wandb.init(mode="offline", dir=str(tmp_path), project="bench", settings=settings)  # noqa: E731
    peers[f"W&B {wandb.__version__} offline"] = statistics.median(once(begun) for _ in range(3))
    bench.row(GROUP, "start and finish of a run", ours=ours, unit="ms", peers=peers, goal="≤ 20 ms")


def test_the_hook_after_a_cell(bench: Any) -> None:
    """What a cell with an open run waits for, with many variables and large frames in the namespace."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=config)
    shell.run_line_magic("load_ext", "nbops")
    hook = shell._nbops_session._recorder
    took: list[float] = []
    after = hook.after

    def timed(result: Any) -> Any:
        begin = time.perf_counter()
        found = after(result)
        took.append((time.perf_counter() - begin) * 1e3)
        return found

    hook.after = timed
    shell.run_cell("import numpy as np\nfor i in range(1000): globals()[f'v{i}'] = i", store_history=True)
    shell.run_cell(
        "big = [np.zeros((1000, 1000)) for _ in range(60)]\nimport nbops as nb\nnb.start('cells')", store_history=True
    )
    took.clear()
    for i in range(300):
        shell.run_cell(f"v{i} = v{i + 1} + len(big)\nnb.log(x={i})", store_history=True)
    shell.run_cell("nb.end();", store_history=True)
    assert len(nb.series("cells", "x")) == 300
    shell.run_line_magic("unload_ext", "nbops")
    InteractiveShell.clear_instance()
    p50, p95 = float(np.percentile(took, 50)), float(np.percentile(took, 95))
    what = "after a cell that logs, 1,000 variables and 480 MB of arrays in the namespace"
    bench.row(GROUP, f"{what}, p50", ours=p50, unit="ms", peers={})
    bench.row(GROUP, f"{what}, p95", ours=p95, unit="ms", peers={}, goal="≤ 2 ms")


CROWD = """
import os, sys, time
{setup}
ready, go = os.pipe()
begin = time.perf_counter()
children = []
for number in range(32):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(go)
            os.read(ready, 1)
            {work}
            code = 0
        finally:
            os._exit(code)
    children.append(pid)
os.close(ready)
begin = time.perf_counter()
os.close(go)
failed = sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0 for pid in children)
print(failed, time.perf_counter() - begin)
"""
OURS = (
    "import nbops as nb\nnb.init(sys.argv[1])\nnb.workspace().close()",
    "nb.init(sys.argv[1])\n            with nb.run('p') as run:\n"
    "                for step in range(1000): nb.log(step, x=0.5)\n            nb.workspace().close()",
)
MLFLOW = (
    "import mlflow\nmlflow.set_tracking_uri(f'sqlite:///{sys.argv[1]}/crowd.db')\nmlflow.set_experiment('crowd')\n"
    "mlflow.tracking._tracking_service.utils._get_store().engine.dispose()",
    "with mlflow.start_run():\n                for step in range(50): mlflow.log_metric('x', 0.5, step)",
)


def test_32_processes_at_once(bench: Any, mlflow: Any, tmp_path: Path) -> None:
    def crowd(parts: tuple[str, str], name: str) -> tuple[int, float]:
        (tmp_path / name).mkdir()
        code = CROWD.format(setup=parts[0], work=parts[1])
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / name)], capture_output=True, text=True, check=True
        )
        failed, seconds = done.stdout.split()[-2:]
        return int(failed), float(seconds)

    failed, seconds = crowd(OURS, "ours")
    ws = init(tmp_path / "ours")
    kept = sum(run.summary["x"].count for run in nb.find("runs", limit=None) if "x" in run.summary)
    ws.close()
    peer_failed, peer_seconds = crowd(MLFLOW, "theirs")
    name = f"MLflow {mlflow.__version__}"
    bench.row(GROUP, "32 processes × 1,000 logs: points lost", ours=32_000 - kept, unit="", peers={}, goal="0")
    bench.row(
        GROUP, "32 processes at once: processes that failed (MLflow: × 50 logs)", ours=failed, unit="",
        peers={name: peer_failed}, goal="0",
    )  # fmt: skip
    bench.row(
        GROUP, "32 processes at once: start, log, finish, all of them together", ours=32_000 / seconds,
        unit="points/s", peers={name: 32 * 50 / peer_seconds}, lower_is_better=False,
    )  # fmt: skip
