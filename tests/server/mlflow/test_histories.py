"""Histories in pages: complete, in MLflow's order, of one snapshot, each read once."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nbops as nb
from nbops.core.protocols import Points
from nbops.core.records import Run
from nbops.server.mlflow import histories
from nbops.server.mlflow.desk import Desk, desk_of
from nbops.server.mlflow.histories import Histories
from nbops.server.mlflow.ids import to_hex
from nbops.server.mlflow.routes import answer
from nbops.server.mlflow.wire import Args
from nbops.store.memory import MemoryStore
from nbops.store.points import Columns
from nbops.store.workspace import Workspace

ROOT = Path(__file__).resolve().parents[3]
CLIENT = (ROOT / "requirements" / "mlflow-clients.txt").read_text().split()[-1]
MILLION = 1_000_000
MIB = 1 << 20


@pytest.fixture
def desk(workspace: Workspace) -> Desk:
    return desk_of(workspace)


def logged(desk: Desk, columns: Columns, *, run: Run | None = None) -> Run:
    """Log points of the metric ``m`` into a run."""
    run = run or Run(id="run_" + "0" * 26, created_at=1.0, name="long")
    desk.store.put(run)
    desk.workspace.log_arrays(columns.to_points(run.id, "m"))
    desk.workspace.flush()
    return desk.store.get(Run, run.id)


def page(desk: Desk, run: Run, token: str = "", size: int = 0) -> tuple[list[tuple[int, int, float]], str]:
    """Return timestamps, steps and values of one page, and the token of the next."""
    fields: dict[str, Any] = {"run_id": to_hex(run.id), "metric_key": "m", "page_token": token}
    found = answer(desk, "GET", "metrics/get-history", Args(fields | ({"max_results": str(size)} if size else {})))
    rows = json.loads(bytes(found["metrics"]))
    return [(row["timestamp"], row["step"], row["value"]) for row in rows], found.get("next_page_token", "")


def pages(desk: Desk, run: Run, size: int, token: str = "") -> list[tuple[int, int, float]]:
    """Return all points from a page on."""
    found, token = page(desk, run, token, size)
    while token:
        more, token = page(desk, run, token, size)
        found += more
    return found


def counted(n: int) -> Columns:
    steps = np.arange(n)
    return Columns(steps, 1000 + steps, steps / 8)


def test_pages_are_all_points_and_the_series_is_read_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    run, read, points = logged(desk, counted(1000)), [], desk.store.points

    def reading(id: str, metric: str) -> Points:
        read.append(metric)
        return points(id, metric)

    monkeypatch.setattr(desk.store, "points", reading)
    expected = [(1000 + step, step, step / 8) for step in range(1000)]
    assert pages(desk, run, 30) == expected
    assert read == ["m"]
    assert desk.histories.points() == 0  # what was read to its end is not kept
    assert page(desk, run) == (expected, "")
    assert page(desk, run, size=5000) == (expected, "")


def test_pages_fit_together_while_the_run_goes_on(desk: Desk) -> None:
    run = logged(desk, counted(100))
    first, token = page(desk, run, size=40)
    earlier = Columns(np.arange(50), np.arange(50), np.ones(50))
    desk.workspace.log_arrays(earlier.to_points(run.id, "m"))
    assert first + pages(desk, run, 40, token) == [(1000 + step, step, step / 8) for step in range(100)]
    desk.histories.forget(run, desk.histories.of(run, "m", count=100))  # as after a restart of the server
    assert first + pages(desk, run, 40, token) == [(1000 + step, step, step / 8) for step in range(100)]
    assert len(page(desk, run)[0]) == 150


def test_a_token_that_was_made_up_is_refused_or_leads_nowhere(desk: Desk) -> None:
    from nbops.server.mlflow.errors import MlflowError
    from nbops.server.mlflow.wire import next_token

    run = logged(desk, counted(10))
    assert page(desk, run, next_token(500), 3) == ([], "")
    assert len(page(desk, run, next_token(0, count=10**9), 30)[0]) == 10
    assert page(desk, run, next_token(0, count=0), 30) == ([], "")
    for token in (next_token(-1), next_token(0, count=-1), "W10=", "eyJvZmZzZXQiOiAieCJ9"):
        with pytest.raises(MlflowError):
            page(desk, run, token, 3)


POINT = st.tuples(
    st.sampled_from([-(2**63), -1, 0, 1, 2**63 - 1]),
    st.integers(0, 3),
    st.sampled_from([0.0, -0.0, 1.0, np.inf, -np.inf, np.nan]),
)


@given(st.lists(POINT, max_size=30))
def test_the_order_is_time_step_value_and_the_same_point_twice_is_one(points: list[tuple[int, int, float]]) -> None:
    store = MemoryStore()
    run = Run(id="run_1", created_at=1.0, name="any")
    store.put(run)
    arrays = [np.array([one[i] for one in points], dtype) for i, dtype in enumerate(("<i8", "<i8", "<f8"))]
    store.add_points([Columns(arrays[0], arrays[1], arrays[2]).to_points(run.id, "m")] if points else [])
    rows = Histories(store).of(store.get(Run, run.id), "m").rows(slice(None))
    found = [(row.timestamp, row.step, str(float(row.value))) for row in rows]
    assert set(found) == {(at, step, str(value)) for step, at, value in points}
    assert len(set(found)) == len(found)
    assert [one[:2] for one in found] == sorted(one[:2] for one in found)
    values = [float(value) for _, _, value in found]
    for i in range(1, len(found)):
        if found[i][:2] == found[i - 1][:2]:
            assert not values[i] < values[i - 1]


def test_what_is_kept_has_a_limit_and_the_newest_always_is(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histories, "KEPT_POINTS", 250)
    run = logged(desk, counted(300))
    for metric in ("a", "b", "c"):
        desk.workspace.log_arrays(counted(100).to_points(run.id, metric))
    desk.workspace.flush()
    run = desk.store.get(Run, run.id)
    for metric in ("a", "b", "c"):
        desk.histories.of(run, metric)
    assert desk.histories.points() == 200
    assert desk.histories.of(run, "b") is desk.histories.of(run, "b")
    desk.histories.of(run, "m")
    assert desk.histories.points() == 300


def peak(pid: int) -> int:
    """Return the most memory that a process has had, bytes."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


@pytest.mark.slow
def test_a_million_points_come_to_a_client_complete_in_order_and_in_bounded_memory(fresh: Any) -> None:
    python = ROOT / ".venv-mlflow" / CLIENT / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no client {CLIENT}: make test")
    random = np.random.default_rng(0)
    steps = np.arange(MILLION)
    times, values = 1_700_000_000_000 + steps // 3, random.normal(size=MILLION)
    values[77], values[78] = np.nan, np.inf
    mixed = steps + random.integers(0, 40, MILLION)  # as threads of a client send them: not quite in order
    order = np.argsort(mixed, kind="stable")
    order = np.concatenate([order[:500_000], order[499_000:]])  # a thousand were sent again
    opened = nb.init(fresh.folder)
    with nb.run("long") as live:
        opened.log_arrays(Columns(steps[order], times[order], values[order]).to_points(live.id, "loss"))
    opened.close()
    digest = hashlib.sha256(b"".join(array.tobytes() for array in (times, steps, values))).hexdigest()
    fresh.start()
    id = to_hex(live.id)
    fresh.good("GET", f"metrics/get-history?run_id={id}&metric_key=loss&max_results=1")
    fresh.good("GET", f"runs/get?run_id={id}")
    before = peak(fresh.process.pid)
    environment = {**os.environ, "MLFLOW_TRACKING_URI": fresh.uri, "MLFLOW_TRACKING_TOKEN": "a-token-for-tests"}
    ran = subprocess.run(
        [python, Path(__file__).with_name("reading.py"), id, "loss"],
        env={**environment, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(ran.stdout) == {"count": MILLION, "digest": digest}
    assert peak(fresh.process.pid) - before < 50 * MIB
    status, text = fresh.send("GET", f"/api/2.0/mlflow/metrics/get-history?run_id={id}&metric_key=loss")
    assert (status, text.count(b'"timestamp"')) == (200, MILLION)  # all in one answer, as it is asked for
    assert peak(fresh.process.pid) - before < 250 * MIB
    del text
    interval = f"metrics/get-history-bulk-interval?run_ids={id}&metric_key=loss"
    sample = fresh.good("GET", f"{interval}&max_results=2500")["metrics"]
    assert 1000 < len(sample) <= 2500
    shown = [point["step"] for point in sample]
    assert shown == sorted(shown)
    finite = np.flatnonzero(np.isfinite(values))
    assert {0, int(finite[values[finite].argmin()]), 78, MILLION - 1} <= set(shown)
    inside = fresh.good("GET", f"{interval}&start_step=500000&end_step=502000")["metrics"]
    assert [point["value"] for point in inside] == values[500_000:502_001].tolist()
