"""Histories of metrics."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nbops.core.roles import Action
from nbops.server.mlflow import limits
from nbops.server.mlflow.desk import Desk
from nbops.server.mlflow.errors import MlflowError
from nbops.server.mlflow.histories import Ints, Row
from nbops.server.mlflow.runview import run_of
from nbops.server.mlflow.table import route
from nbops.server.mlflow.wire import Args, Json, next_token, page_of

Floats = npt.NDArray[np.float64]
_MOST_RUNS = 100
_MOST_BULK = 25_000
_MOST_INTERVAL = 2500


@route("GET", "metrics/get-history", does=Action.READ)
def get_history(desk: Desk, args: Args) -> Json:
    """Return a page of all points of one metric, or all of them."""
    id, key = args.need("run_id", "run_uuid"), args.need("metric_key")
    size = limits.page(args.whole("max_results"), 10**9) if args.has("max_results") else 0
    offset, count = page_of(args.text("page_token"))
    desk.flush()
    run = run_of(desk, id)
    history = desk.histories.of(run, key, count=count)
    end = min(offset + size, len(history)) if size else len(history)
    answer: Json = {"metrics": history.encoded(offset, end)}
    if end < len(history):
        return answer | {"next_page_token": next_token(end, count=history.count)}
    desk.histories.forget(run, history)
    return answer


@route("GET", "metrics/get-history-bulk", does=Action.READ)
def get_bulk(desk: Desk, args: Args) -> Json:
    """Return the histories of one metric in several runs."""
    key = args.need("metric_key")
    left = min(limits.page(args.whole("max_results", _MOST_BULK), 10**9), _MOST_BULK)
    desk.flush()
    found: list[Row] = []
    for id in _run_ids(args, "run_id"):
        history = desk.histories.of(run_of(desk, id), key)
        found += history.rows(slice(0, left - len(found)), run_id=id)
    return {"metrics": found}


@route("GET", "metrics/get-history-bulk-interval", does=Action.READ)
def get_interval(desk: Desk, args: Args) -> Json:
    """Return of each run at most `max_results` points between two steps; the highest and lowest are among them."""
    key = args.need("metric_key")
    size = limits.page(args.whole("max_results", _MOST_INTERVAL), _MOST_INTERVAL)
    if args.has("start_step") != args.has("end_step"):
        raise MlflowError("If either start step or end step are specified, both must be specified.")
    low, high = args.whole("start_step", -(2**63)), args.whole("end_step", 2**63 - 1)
    if low > high:
        raise MlflowError(f"end_step must be greater than start_step. Found start_step={low} and end_step={high}.")
    desk.flush()
    found: list[Row] = []
    for id in _run_ids(args, "run_ids"):
        history = desk.histories.of(run_of(desk, id), key)
        steps = history.columns.steps
        inside = np.flatnonzero((steps >= low) & (steps <= high))
        inside = inside[np.argsort(steps[inside], kind="stable")]
        found += history.rows(inside[_sample(history.columns.values[inside], size)], run_id=id)
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
