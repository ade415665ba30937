"""Histories of metrics."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nbops.core.records import Run
from nbops.server.mlflow import limits
from nbops.server.mlflow.desk import Desk
from nbops.server.mlflow.errors import MlflowError
from nbops.server.mlflow.runview import run_of
from nbops.server.mlflow.table import route
from nbops.server.mlflow.wire import Args, Json, double, next_token, offset_of

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_MOST_RUNS = 100
_MOST_BULK = 25_000
_MOST_INTERVAL = 2500


def _history(desk: Desk, run: Run, metric: str) -> tuple[Ints, Ints, Floats]:
    """Return times, steps and values ordered by these; the same point twice is one."""
    points = desk.store.points(run.id, metric)
    steps: Ints = np.frombuffer(points.steps, "<i8")
    times: Ints = np.frombuffer(points.times_ms, "<i8")
    values: Floats = np.frombuffer(points.values, "<f8")
    order = np.lexsort((values, steps, times))
    steps, times, values = steps[order], times[order], values[order]
    bits = values.view(np.int64)
    same = (np.diff(steps) == 0) & (np.diff(times) == 0) & (np.diff(bits) == 0)
    kept = np.concatenate([[True], ~same]) if len(steps) else np.zeros(0, dtype=bool)
    return times[kept], steps[kept], values[kept]


def _shown(key: str, times: Ints, steps: Ints, values: Floats) -> list[Json]:
    rows = zip(times.tolist(), steps.tolist(), values.tolist(), strict=True)
    return [{"key": key, "value": double(value), "timestamp": at, "step": step} for at, step, value in rows]


@route("GET", "metrics/get-history")
def get_history(desk: Desk, args: Args) -> Json:
    """Return a page of all points of one metric, or all of them."""
    run, key = run_of(desk, args.need("run_id", "run_uuid")), args.need("metric_key")
    size = limits.page(args.whole("max_results"), 10**9) if args.has("max_results") else 0
    offset = offset_of(args.text("page_token"))
    desk.workspace.flush()
    times, steps, values = _history(desk, run, key)
    end = offset + size if size else len(times)
    answer: Json = {"metrics": _shown(key, times[offset:end], steps[offset:end], values[offset:end])}
    return answer | {"next_page_token": next_token(end)} if end < len(times) else answer


@route("GET", "metrics/get-history-bulk")
def get_bulk(desk: Desk, args: Args) -> Json:
    """Return the histories of one metric in several runs."""
    key = args.need("metric_key")
    left = min(args.whole("max_results", _MOST_BULK), _MOST_BULK)
    desk.workspace.flush()
    found: list[Json] = []
    for id in _run_ids(args, "run_id"):
        times, steps, values = _history(desk, run_of(desk, id), key)
        room = left - len(found)
        found += [point | {"run_id": id} for point in _shown(key, times[:room], steps[:room], values[:room])]
    return {"metrics": found}


@route("GET", "metrics/get-history-bulk-interval")
def get_interval(desk: Desk, args: Args) -> Json:
    """Return of each run at most `max_results` points between two steps; the highest and lowest are among them."""
    key = args.need("metric_key")
    size = limits.page(args.whole("max_results", _MOST_INTERVAL), _MOST_INTERVAL)
    if args.has("start_step") != args.has("end_step"):
        raise MlflowError("If either start step or end step are specified, both must be specified.")
    low, high = args.whole("start_step", -(2**63)), args.whole("end_step", 2**63 - 1)
    if low > high:
        raise MlflowError(f"end_step must be greater than start_step. Found start_step={low} and end_step={high}.")
    desk.workspace.flush()
    found: list[Json] = []
    for id in _run_ids(args, "run_ids"):
        times, steps, values = _history(desk, run_of(desk, id), key)
        inside = np.flatnonzero((steps >= low) & (steps <= high))
        inside = inside[np.argsort(steps[inside], kind="stable")]
        chosen = inside[_sample(values[inside], size)]
        found += [point | {"run_id": id} for point in _shown(key, times[chosen], steps[chosen], values[chosen])]
    return {"metrics": found}


def _run_ids(args: Args, name: str) -> list[str]:
    ids = args.texts(name)
    if not ids:
        raise MlflowError(f"{name} must be specified.")
    if len(ids) > _MOST_RUNS:
        raise MlflowError(f"GetMetricHistoryBulk request cannot specify more than {_MOST_RUNS} run_ids.")
    return ids


def _sample(values: Floats, size: int) -> Ints:
    """Return the indices of at most `size` points: of each stretch the lowest and the highest, and both ends."""
    if len(values) <= size:
        return np.arange(len(values))
    if size < 4:
        return np.linspace(0, len(values) - 1, size).astype(np.int64)
    parts = np.array_split(np.arange(len(values)), (size - 2) // 2)
    lows = [int(part[np.argmin(np.nan_to_num(values[part], nan=np.inf))]) for part in parts]
    highs = [int(part[np.argmax(np.nan_to_num(values[part], nan=-np.inf))]) for part in parts]
    return np.unique(np.array([0, *lows, *highs, len(values) - 1], dtype=np.int64))
