"""Small models and real digits for the tests of registered models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="session")
def digits() -> tuple[Array, Array]:
    """Handwritten digits as float32 [1797, 1, 8, 8] in 0 to 1, and their labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images[:, None] / 16).astype(np.float32), data.target.astype(np.int64)


@pytest.fixture(scope="session")
def trained_cnn(digits: tuple[Array, Array]) -> Any:
    """A tiny convolutional network with batch norm and dropout, trained on 1,400 digits; left in training mode."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    x, y = torch.from_numpy(digits[0][:1400]), torch.from_numpy(digits[1][:1400])
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(128, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(15):
        for chosen in torch.randperm(len(x)).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
            optimizer.step()
    return model.train()


@pytest.fixture(scope="session")
def exported_cnn(trained_cnn: Any, digits: tuple[Array, Array], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The trained network as ONNX."""
    from nbops.models.torch_exporter import export_torch

    path = tmp_path_factory.mktemp("exported") / "cnn.onnx"
    export_torch(trained_cnn, {"input": digits[0][:4]}, path)
    return path.read_bytes()


def linear_onnx(weight: Array, bias: Array, *, batch: int | str = "batch", dtype: int = TensorProto.FLOAT) -> bytes:
    """Return ONNX bytes of ``y = x @ weight + bias``."""
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["xw"]), helper.make_node("Add", ["xw", "b"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", dtype, [batch, weight.shape[0]])],
        [helper.make_tensor_value_info("y", dtype, [batch, weight.shape[1]])],
        [numpy_helper.from_array(weight.astype(kind), "w"), numpy_helper.from_array(bias.astype(kind), "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


@pytest.fixture
def linear() -> Callable[..., bytes]:
    """Make ONNX bytes of a linear model: ``linear(weight, bias, batch=…)``."""
    return linear_onnx


@pytest.fixture
def small(linear: Callable[..., bytes]) -> bytes:
    """A linear model from 3 to 2 columns."""
    return linear(np.array([[1, 2], [3, 4], [5, 6]]), np.array([0.5, -0.5]))


@pytest.fixture
def three_rows() -> Array:
    """Three rows that the small model takes."""
    return np.arange(9, dtype=np.float32).reshape(3, 3)


def plant(path: Path, *, scale: float = 1.1) -> None:
    """Change one weight of the ONNX file at `path`: the largest of its largest initialiser, times `scale`."""
    model = onnx.load(path)
    tensor = max(model.graph.initializer, key=lambda t: np.prod(t.dims))
    values = numpy_helper.to_array(tensor).copy()
    at = np.unravel_index(np.abs(values).argmax(), values.shape)
    values[at] *= scale
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, path)


@pytest.fixture
def plant_wrong_weight() -> Callable[..., None]:
    """Change one weight of an ONNX file."""
    return plant
