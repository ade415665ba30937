"""Loaded models: what they take, what they refuse, and what they say about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from nbops.core.display import mimebundle
from nbops.core.errors import Conflict, InvalidInput, NotFound, SignatureMismatch
from nbops.core.records import Signature, TensorSpec
from nbops.models.loading import LoadedModel, load
from nbops.models.registering import register
from nbops.models.signature import as_array, conform
from nbops.store.workspace import Workspace

Array = np.ndarray[Any, Any]


@pytest.fixture
def model(workspace: Workspace, small: bytes, three_rows: Array) -> LoadedModel:
    register(small, "m", example=three_rows)
    return load("m", threads=1)


def test_every_form_of_rows_gives_the_same_answer(model: LoadedModel, three_rows: Array) -> None:
    import pandas as pd
    import torch

    expected = np.asarray(model.predict(three_rows))
    tensor = torch.from_numpy(three_rows).requires_grad_()
    for rows in (
        {"x": three_rows}, tensor, tensor.bfloat16(), three_rows.astype(np.float64), three_rows.tolist(),
        three_rows.astype(int).tolist(), pd.DataFrame(three_rows), np.asfortranarray(three_rows),
        three_rows.astype(">f4"), three_rows.astype(np.int16), three_rows[::-1][::-1],
    ):  # fmt: skip
        answer = model.predict(rows)
        assert isinstance(answer, np.ndarray)
        assert answer.dtype == np.float32
        np.testing.assert_array_equal(answer, expected)


def test_wrong_rows_say_expected_and_got(model: LoadedModel, three_rows: Array) -> None:
    expected = "m/1: input 'x': expected float32 [batch, 3], got "
    for rows, got, hint in (
        (three_rows[:, :2], "float32 [3, 2]", "Reshape the rows"),
        (three_rows[0], "float32 [3]", "Add the batch dimension: x[None]."),
        (three_rows[None], "float32 [1, 3, 3]", "Reshape the rows"),
        (three_rows.astype(np.int64), "int64 [3, 3]", "Convert first: x.astype('float32')."),
        (three_rows.astype(complex), "complex128 [3, 3]", "Convert first"),
        ([["a", "b", "c"]], "<U1 [1, 3]", "Convert first"),
        (three_rows.astype(np.float64) * 1e300, "float64 [3, 3]", "Scale the values: 1e+300 does not fit"),
        ([[2**24 + 1, 0, 0]], "int64 [1, 3]", "Convert first"),
    ):
        with pytest.raises(SignatureMismatch) as caught:
            model.predict(rows)
        assert caught.value.message == expected + got
        assert caught.value.hint.startswith(hint)


def test_wrong_names_and_things_are_told(model: LoadedModel, three_rows: Array) -> None:
    for rows, message in (
        ({"xx": three_rows}, "no input 'xx'; the model takes 'x'"),
        ({}, "input 'x' is missing"),
        ([[1.0, 2.0], [3.0]], "input 'x': cannot make one array"),
        ([[None, 1, 2]], "input 'x': cannot make a numeric array of list values"),
    ):
        with pytest.raises(SignatureMismatch, match=message):
            model.predict(rows)


def test_several_inputs_come_by_name_or_in_order(workspace: Workspace) -> None:
    def info(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2])

    nodes = [helper.make_node("Sub", ["a", "b"], ["d"]), helper.make_node("Add", ["a", "b"], ["s"])]
    graph = helper.make_graph(nodes, "g", [info("a"), info("b")], [info("d"), info("s")])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()
    a, b = np.ones((2, 2), dtype=np.float32), np.full((2, 2), 3, dtype=np.float32)
    register(data, "two", example=(a, b))
    with load("two") as model:
        for rows in ({"b": b, "a": a}, (a, b)):
            answer = model.predict(rows)
            assert isinstance(answer, dict)
            assert {name: float(value[0, 0]) for name, value in answer.items()} == {"d": -2.0, "s": 4.0}
        for wrong, message in (
            (a, r"takes 2 inputs \('a', 'b'\), got one ndarray"),
            ({"a": a}, "input 'b' is missing"),
            ((a, b[:1]), "inputs differ in rows: 'a' has 2, 'b' has 1"),
        ):
            with pytest.raises(SignatureMismatch, match=message):
                model.predict(wrong)


def test_a_closed_model_says_how_to_load_it_again(model: LoadedModel, three_rows: Array) -> None:
    assert model.memory_bytes() > 0
    with model as same:
        assert same is model
    model.close()
    with pytest.raises(Conflict, match="m/1 is closed") as caught:
        model.predict(three_rows)
    assert caught.value.hint == "Load it again: nb.load('m/1')."
    assert "closed" in repr(model)


def test_it_shows_what_it_takes_and_gives(model: LoadedModel) -> None:
    text = mimebundle(model)["text/plain"]
    for part in ("m/1", "float32 [batch, 3]", "float32 [batch, 2]"):
        assert part in text


def test_the_models_own_failure_is_told(workspace: Workspace, linear: Callable[..., bytes]) -> None:
    def info(name: str, kind: int) -> Any:
        return helper.make_tensor_value_info(name, kind, ["batch", 2])

    nodes = [helper.make_node("GatherElements", ["x", "i"], ["y"], axis=1)]
    inputs = [info("x", TensorProto.FLOAT), info("i", TensorProto.INT64)]
    graph = helper.make_graph(nodes, "g", inputs, [info("y", TensorProto.FLOAT)])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()
    x, i = np.ones((2, 2), dtype=np.float32), np.zeros((2, 2), dtype=np.int64)
    register(data, "gather", example=(x, i))
    with load("gather") as model, pytest.raises(InvalidInput, match="gather/1: the model failed on these inputs"):
        model.predict((x, i + 99))


def test_a_missing_model_is_told_with_the_nearest_name(model: LoadedModel) -> None:
    with pytest.raises(NotFound, match="no model 'mm'"):
        load("mm")


def _takes(dtype: str) -> Signature:
    return Signature(inputs=[TensorSpec(name="x", dtype=dtype, shape=[-1])], outputs=[])


@given(st.lists(st.floats(width=32, allow_nan=True), min_size=1), st.sampled_from(["float32", "float64"]))
def test_casts_keep_every_value(values: list[float], dtype: str) -> None:
    array = np.array(values, dtype=np.float64)
    cast = conform(_takes(dtype), array)["x"]
    assert cast.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(cast.astype(np.float64), array)


@given(st.sampled_from(["int8", "int32", "int64", "uint8", "float16", "float32", "float64", "bool"]),
       st.sampled_from(["int8", "int32", "int64", "uint8", "float16", "float32", "float64", "bool"]))  # fmt: skip
def test_only_safe_casts_are_made(source: str, target: str) -> None:
    array = np.ones(3, dtype=source)
    is_allowed = np.can_cast(source, target, "safe") or (source, target) == ("float64", "float32")
    if is_allowed:
        assert conform(_takes(target), array)["x"].dtype == np.dtype(target)
    else:
        with pytest.raises(SignatureMismatch):
            conform(_takes(target), array)


def test_text_is_taken_by_models_of_text() -> None:
    assert conform(_takes("str"), ["a", "b"])["x"].tolist() == ["a", "b"]
    with pytest.raises(SignatureMismatch, match=r"expected str \[batch\], got int64 \[2\]"):
        conform(_takes("str"), [1, 2])
    with pytest.raises(InvalidInput, match="cannot make one array"):
        as_array([[1], [1, 2]])
