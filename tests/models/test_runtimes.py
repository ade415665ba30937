"""The ONNX runtime: what every runtime must do, quietly, and without telling anybody."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from nbops.core.errors import Conflict, InvalidInput, MissingDependency, NotFound, SignatureMismatch
from nbops.models.runtimes import CPU, OnnxRuntime, default_providers
from nbops.testing import RuntimeContract

Array = np.ndarray[Any, Any]


class TestOnnxRuntime(RuntimeContract):
    """ONNX Runtime keeps the contract of the seam."""

    @pytest.fixture
    def runtime(self, small: bytes) -> OnnxRuntime:
        return OnnxRuntime(small)

    @pytest.fixture
    def batch(self, three_rows: Array) -> dict[str, Array]:
        return {"x": three_rows}


def test_answers_are_right_by_name_and_for_every_batch_size(small: bytes) -> None:
    runtime = OnnxRuntime(small)
    rows = np.random.default_rng(0).random((9, 3), dtype=np.float32)
    expected = rows @ np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float32) + np.array([0.5, -0.5], dtype=np.float32)
    for count in (1, 2, 9):
        answers = runtime.predict({"x": rows[:count]})
        assert set(answers) == {"y"}
        np.testing.assert_allclose(answers["y"], expected[:count], rtol=1e-5)


def test_the_signature_is_what_the_model_says(small: bytes) -> None:
    signature = OnnxRuntime(small).signature
    assert [(s.name, s.dtype, s.shape) for s in signature.inputs] == [("x", "float32", [-1, 3])]
    assert [(s.name, s.dtype, s.shape) for s in signature.outputs] == [("y", "float32", [-1, 2])]


def test_wrong_inputs_are_told(small: bytes, three_rows: Array) -> None:
    runtime = OnnxRuntime(small)
    for inputs in ({}, {"z": three_rows}, {"x": three_rows, "z": three_rows}):
        with pytest.raises(SignatureMismatch, match="does not take these inputs"):
            runtime.predict(inputs)
    for array in (three_rows.astype(np.float64), three_rows[:, :2], three_rows[0]):
        with pytest.raises(SignatureMismatch, match="does not take these inputs"):
            runtime.predict({"x": array})
    assert runtime.predict({"x": three_rows})["y"].shape == (3, 2)  # still usable


def test_a_model_that_fails_on_its_values_is_told(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "s"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3]),
         helper.make_tensor_value_info("s", TensorProto.INT64, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    runtime = OnnxRuntime(model.SerializeToString())
    with pytest.raises(InvalidInput, match="the model failed on these inputs") as caught:
        runtime.predict({"x": np.ones((2, 3), dtype=np.float32), "s": np.array([5, 5])})
    assert "\n" not in caught.value.message


def test_many_threads_may_predict_at_once(small: bytes) -> None:
    runtime = OnnxRuntime(small, threads=1)
    found: list[bool] = []

    def one(seed: int) -> None:
        rows = np.full((seed + 1, 3), seed, dtype=np.float32)
        for _ in range(50):
            answer = runtime.predict({"x": rows})["y"]
        found.append(answer.shape == (seed + 1, 2) and bool((answer[:, 0] == seed * 9 + 0.5).all()))

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8


def test_closing_releases_and_predicting_then_is_told(small: bytes, three_rows: Array) -> None:
    runtime = OnnxRuntime(small)
    assert runtime.memory_bytes() > 0
    runtime.close()
    runtime.close()
    assert runtime.memory_bytes() == 0
    with pytest.raises(Conflict, match="closed"):
        runtime.predict({"x": three_rows})


def test_the_memory_estimate_grows_with_the_weights(linear: Callable[..., bytes]) -> None:
    few, many = (OnnxRuntime(linear(np.ones((n, n)), np.zeros(n))) for n in (10, 200))
    assert many.memory_bytes() > 200 * 200 * 4 > few.memory_bytes()


def test_files_that_cannot_be_loaded_are_told(tmp_path: Path, small: bytes) -> None:
    with pytest.raises(NotFound, match="no file"):
        OnnxRuntime(tmp_path / "gone.onnx")
    for data in (b"junk", small[: len(small) // 2]):
        (tmp_path / "m.onnx").write_bytes(data)
        with pytest.raises(InvalidInput, match=r"cannot load m\.onnx"):
            OnnxRuntime(tmp_path / "m.onnx")
        with pytest.raises(InvalidInput, match="cannot load the model"):
            OnnxRuntime(data)


def test_types_that_numpy_lacks_are_told() -> None:
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)], "g",
        [helper.make_tensor_value_info("x", TensorProto.BFLOAT16, ["batch"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch"])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with pytest.raises(InvalidInput, match=r"input 'x' has the type tensor\(bfloat16\)"):
        OnnxRuntime(model.SerializeToString())


def test_providers_and_threads_are_the_users_choice(small: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert default_providers() == [CPU]
    assert OnnxRuntime(small).providers == [CPU]
    assert OnnxRuntime(small, threads=1, providers=[CPU], is_optimised=False, is_spinning=True).providers == [CPU]
    with pytest.raises(MissingDependency, match="this onnxruntime has no AbacusExecutionProvider"):
        OnnxRuntime(small, providers=["AbacusExecutionProvider"])
    with pytest.raises(InvalidInput, match="threads=0"):
        OnnxRuntime(small, threads=0)


@pytest.mark.skipif(default_providers() != [CPU], reason="this machine has a usable NVIDIA device")
def test_a_provider_that_cannot_start_is_told(small: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(MissingDependency, match="has no CUDAExecutionProvider"):
            OnnxRuntime(small, providers=["CUDAExecutionProvider"])
    else:
        with pytest.raises(MissingDependency, match="CUDAExecutionProvider cannot be used here"):
            OnnxRuntime(small, providers=["CUDAExecutionProvider", CPU])
    out = capfd.readouterr()
    assert (out.out, out.err) == ("", "")


def test_a_missing_onnxruntime_says_which_to_install(small: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # what an environment without it looks like to import
    with pytest.raises(MissingDependency, match="onnxruntime is not installed") as caught:
        OnnxRuntime(small)
    assert "never both" in caught.value.hint


SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from nbops.models.runtimes import OnnxRuntime
runtime = OnnxRuntime(Path(sys.argv[1]))
runtime.predict({"x": np.ones((1, 3), dtype=np.float32)})
runtime.close()
"""


def test_nothing_is_printed_or_sent(tmp_path: Path, small: bytes) -> None:
    model, home = tmp_path / "m.onnx", tmp_path / "home"
    home.mkdir()
    graph = onnx.load_model_from_string(small)
    unused = helper.make_tensor("unused", TensorProto.FLOAT, [1], [0.0])
    graph.graph.initializer.append(unused)  # ONNX Runtime warns of it by default
    model.write_bytes(graph.SerializeToString())
    hidden = ("CI", "TF_BUILD", "GITHUB_ACTIONS", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    env = {key: value for key, value in os.environ.items() if key not in hidden} | {"HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(model)], capture_output=True, text=True, env=env, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert list(home.rglob("*")) == []  # no device id, no queue of usage events
