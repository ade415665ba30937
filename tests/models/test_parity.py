"""Parity: equal models pass, one wrong weight fails, and a frozen batch is seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from nbops.core.errors import InvalidInput, NotFound
from nbops.core.records import Verdict
from nbops.models.exporters import exporters
from nbops.models.parity import compare, parity
from nbops.models.registering import register
from nbops.models.runtimes import CPU, OnnxRuntime
from nbops.models.torch_exporter import export_torch
from nbops.store.workspace import Workspace

Array = np.ndarray[Any, Any]


@pytest.fixture
def exported(exported_cnn: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "cnn.onnx"
    path.write_bytes(exported_cnn)
    return path


def test_a_faithful_export_passes_on_every_row(exported: Path, trained_cnn: Any, digits: tuple[Array, Array]) -> None:
    report = parity(trained_cnn, exported, rows=digits[0])
    assert (report.verdict, report.passed, report.rows, report.worst) == (Verdict.PASS, True, 1797, None)
    assert report.batches == [1797, 1, 2]
    [figures] = report.outputs
    assert figures.max_rel < 1e-5
    assert figures.argmax_changed_share == 0
    assert "equal to the torch model within" in report.message


@pytest.mark.parametrize("scale", [1.1, 1.01, -1.0])
def test_one_wrong_weight_fails(
    exported: Path, trained_cnn: Any, digits: tuple[Array, Array], plant_wrong_weight: Callable[..., None], scale: float
) -> None:
    plant_wrong_weight(exported, scale=scale)
    report = parity(trained_cnn, exported, rows=digits[0][:200])
    assert (report.verdict, report.passed) == (Verdict.FAIL, False)
    assert report.worst is not None
    assert report.worst.output == "output"
    assert report.worst.expected != report.worst.got
    assert report.message.startswith(f"output 'output' row {report.worst.row} ")
    assert report.outputs[0].max_rel > 1e-4


def test_a_looser_tolerance_is_the_users_choice(
    exported: Path, trained_cnn: Any, digits: tuple[Array, Array], plant_wrong_weight: Callable[..., None]
) -> None:
    plant_wrong_weight(exported, scale=-5.0)
    strict = parity(trained_cnn, exported, rows=digits[0][:200])
    loose = parity(trained_cnn, exported, rows=digits[0][:200], tolerance=100.0)
    assert (strict.verdict, loose.verdict) == (Verdict.FAIL, Verdict.WARN)  # some digit is now read as another
    assert loose.outputs[0].argmax_changed_share
    for tolerance in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InvalidInput, match="is no share of scale"):
            parity(trained_cnn, exported, rows=digits[0][:2], tolerance=tolerance)


def _reshaping(rows: int) -> bytes:
    """ONNX that declares a dynamic batch but reshapes to a fixed number of rows: a batch frozen inside."""
    shape = numpy_helper.from_array(np.array([rows, 3]), "shape")
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["z"]), helper.make_node("Identity", ["z"], ["y"])],
        "frozen",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [shape],
    )
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    ).SerializeToString()
    return data


def test_a_batch_frozen_inside_the_graph_fails_at_another_size(workspace: Workspace) -> None:
    import torch

    rows = np.random.default_rng(0).random((4, 3), dtype=np.float32)
    report = parity(torch.nn.Identity(), _reshaping(4), rows=rows)
    assert report.verdict is Verdict.FAIL
    assert "at batch size 1 (the exported model fails" in report.message
    alone = parity(_reshaping(4), _reshaping(4), rows=rows)  # no original: still seen
    assert alone.verdict is Verdict.FAIL


def test_small_columns_beside_large_ones_are_not_drowned(linear: Callable[..., bytes]) -> None:
    rows = {"x": np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)}
    right, wrong = np.diag([1e4, 3.0]), np.diag([1e4, 3.01])

    def original(batch: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": (batch["x"] @ right).astype(np.float32)}

    for weight, verdict in ((right, Verdict.PASS), (wrong, Verdict.FAIL)):
        runtime = OnnxRuntime(linear(weight, np.zeros(2)), providers=[CPU])
        assert compare(original, runtime, rows, original="numpy").verdict is verdict


def test_nan_and_infinity_must_stand_in_the_same_places(linear: Callable[..., bytes]) -> None:
    x = np.eye(3, dtype=np.float32)
    x[0, 0], x[1, 1] = np.nan, np.inf
    runtime = OnnxRuntime(linear(np.ones((3, 1)), np.zeros(1)), providers=[CPU])

    def same(batch: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": batch["x"].sum(axis=1, keepdims=True)}

    def without(batch: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": np.nan_to_num(batch["x"].sum(axis=1, keepdims=True), nan=0.0)}

    assert compare(same, runtime, {"x": x}, original="numpy").passed
    report = compare(without, runtime, {"x": x}, original="numpy")
    assert not report.passed
    assert "expected 0, got nan" in report.message


def test_another_shape_or_number_of_outputs_is_told(small: bytes, three_rows: Array) -> None:
    runtime = OnnxRuntime(small, providers=[CPU])
    y = runtime.predict({"x": three_rows})["y"]

    def wider(batch: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": np.zeros((len(batch["x"]), 4), dtype=np.float32)}

    def more(batch: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": y[: len(batch["x"])], "z": y}

    assert "expected shape [3, 4], got shape [3, 2]" in compare(wider, runtime, {"x": three_rows}, original="n").message
    assert "the original gives 2 outputs, the exported model 1" in compare(more, runtime, {"x": three_rows}).message


def test_whole_numbers_must_be_equal(linear: Callable[..., bytes]) -> None:
    rows = {"x": np.arange(6).reshape(3, 2)}
    runtime = OnnxRuntime(linear(np.eye(2), np.zeros(2), dtype=TensorProto.INT64), providers=[CPU])
    for shift, verdict in ((0, Verdict.PASS), (1, Verdict.FAIL)):
        report = compare(lambda batch, by=shift: {"y": batch["x"] + by}, runtime, rows, original="numpy")
        assert report.verdict is verdict


def test_a_registered_version_can_be_compared_again(
    workspace: Workspace, trained_cnn: Any, digits: tuple[Array, Array]
) -> None:
    version = register(trained_cnn, "digits", example=digits[0][:20], aliases="prod")
    for artifact in (version, "digits@prod", "digits"):
        assert parity(trained_cnn, artifact, rows=digits[0][100:150]).passed
    with pytest.raises(NotFound, match="no file 'gone.onnx'"):
        parity(trained_cnn, "gone.onnx", rows=digits[0][:2])
    Path("text.onnx").write_text("<html>not found</html>")
    with pytest.raises(InvalidInput, match="is not an ONNX model"):
        parity(trained_cnn, "text.onnx", rows=digits[0][:2])


def test_a_file_with_other_names_is_compared_by_position(linear: Callable[..., bytes]) -> None:
    import torch

    module = torch.nn.Linear(3, 2)
    weight, bias = module.weight.detach().numpy().T, module.bias.detach().numpy()
    report = parity(module, linear(weight, bias), rows=np.random.default_rng(0).random((6, 3)))
    assert report.passed
    assert report.outputs[0].name == "y"


def test_half_precision_is_judged_by_its_own_tolerance(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4)).half()
    rows = np.random.default_rng(0).random((20, 16))
    path = tmp_path / "half.onnx"
    export_torch(module, exporters["torch"].bind(module, rows), path)
    report = parity(module, path, rows=rows)
    assert report.passed
    assert (report.outputs[0].dtype, report.outputs[0].tolerance) == ("float16", 1e-2)
