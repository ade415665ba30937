"""Tiny ONNX models whose answers can be told by eye, registered and served for real."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from nbops.core.records import ModelVersion
from nbops.serving import endpoints as serving
from nbops.serving.live import LiveEndpoint
from nbops.store.workspace import Workspace

Array = np.ndarray[Any, Any]


def scaling_onnx(factor: float, columns: int = 4) -> bytes:
    """Return ONNX bytes of ``y = factor * x``, float32 [rows, columns]."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "f"], ["y"])],
        "scaling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", columns])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", columns])],
        [numpy_helper.from_array(np.array(factor, np.float32), "f")],
    )
    return _bytes(graph)


def two_way_onnx() -> bytes:
    """Return ONNX bytes of ``total = a + b`` and ``looked_up = table[i]`` (int64 [rows], table of 5)."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["total"]), helper.make_node("Gather", ["table", "i"], ["looked_up"])],
        "two-way",
        [
            helper.make_tensor_value_info("a", TensorProto.FLOAT, ["rows", 2]),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, ["rows", 2]),
            helper.make_tensor_value_info("i", TensorProto.INT64, ["rows"]),
        ],
        [
            helper.make_tensor_value_info("total", TensorProto.FLOAT, ["rows", 2]),
            helper.make_tensor_value_info("looked_up", TensorProto.INT64, ["rows"]),
        ],
        [numpy_helper.from_array(np.array([10, 11, 12, 13, 14], np.int64), "table")],
    )
    return _bytes(graph)


def _bytes(graph: Any) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


Register = Callable[..., ModelVersion]


@pytest.fixture
def register(workspace: Workspace) -> Register:
    """Register ``y = factor * x`` as the next version: ``register("scaler", factor=2, aliases=["prod"])``."""
    from nbops.models.registering import register as register_model

    def make(name: str = "scaler", *, factor: float = 2.0, aliases: tuple[str, ...] = ("prod",)) -> ModelVersion:
        rows = np.arange(12, dtype=np.float32).reshape(3, 4)
        return register_model(scaling_onnx(factor), name, example=rows, aliases=aliases)

    return make


@pytest.fixture
def register_two_way(workspace: Workspace) -> Callable[[], ModelVersion]:
    """Register a model with three inputs and two outputs as ``two-way``."""
    from nbops.models.registering import register as register_model

    def make() -> ModelVersion:
        rows = np.ones((3, 2), np.float32)
        example = {"a": rows, "b": rows, "i": np.array([0, 1, 2])}
        return register_model(two_way_onnx(), "two-way", example=example)

    return make


@pytest.fixture(autouse=True)
def _no_endpoint_stays(tmp_path: Path) -> Iterator[None]:
    """End what a failing test would leave running; such processes are nobody's children."""
    yield
    for file in tmp_path.glob("**/endpoints/ep_*.json"):
        known: dict[str, Any] = msgspec.json.decode(file.read_bytes())
        if known["pid"]:
            try:
                os.kill(known["pid"], signal.SIGKILL)
            except ProcessLookupError:
                continue


@pytest.fixture
def scaler(register: Register) -> Iterator[LiveEndpoint]:
    """A running endpoint of ``y = 2 * x``."""
    register()
    live = serving.serve("scaler@prod")
    yield live
    live.stop()
