"""Request bytes to arrays and arrays to response bytes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nbops.core.errors import InvalidInput, SignatureMismatch
from nbops.core.records import Signature, TensorSpec
from nbops.serving.tensors import DATATYPES, Decoded, RequestReader, encode_response


def decode_request(body: bytes, signature: Signature) -> Decoded:
    return RequestReader(signature).read(body)


def signature_of(dtype: str = "float32", shape: list[int] | None = None) -> Signature:
    spec = TensorSpec(name="image", dtype=dtype, shape=[-1, 2, 2] if shape is None else shape)
    return Signature(inputs=[spec], outputs=[TensorSpec(name="score", dtype="float32", shape=[-1])])


def body(data: Any = (1, 2, 3, 4), *, shape: Any = (1, 2, 2), datatype: str = "FP32", **more: Any) -> bytes:
    tensor = {"name": "image", "shape": shape, "datatype": datatype, "data": data, **more.pop("tensor", {})}
    return json.dumps({"inputs": [tensor], **more}).encode()


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[[1, 2], [3, 4]]], [1.0, 2.0, 3e0, 4]])
def test_flat_and_nested_data_give_the_same_array(data: Any) -> None:
    request = decode_request(body(data), signature_of())
    assert request.rows == 1
    assert request.inputs["image"].dtype == np.float32
    np.testing.assert_array_equal(request.inputs["image"], [[[1, 2], [3, 4]]])


def test_null_is_a_missing_number() -> None:
    request = decode_request(body([1, None, 3, 4]), signature_of())
    assert np.isnan(request.inputs["image"][0, 0, 1])


def test_parameters_are_ignored_and_id_and_outputs_kept() -> None:
    request = decode_request(
        body(tensor={"parameters": {"a": 1}}, parameters={"b": 2}, id="7", outputs=[{"name": "score"}]), signature_of()
    )
    assert (request.id, request.outputs) == ("7", ["score"])


WRONG = [
    (body(shape=[1, 3, 2]), "input 'image': expected shape [-1, 2, 2], got [1, 3, 2]"),
    (body(shape=[4]), "input 'image': expected shape [-1, 2, 2], got [4]"),
    (body(shape=[-1, 2, 2]), "input 'image': expected shape [-1, 2, 2], got [-1, 2, 2]"),
    (body([], shape=[0, 2, 2]), "shape [0, 2, 2] has no elements, expected at least one row"),
    (body(shape=[2**62, 2, 2]), f"shape [{2**62}, 2, 2] expects {2**64} elements, got 4"),
    (body([1, 2, 3]), "shape [1, 2, 2] expects 4 elements, got 3"),
    (body([[[1, 2], [3]]]), "data is ragged"),
    (body([[[1, 2, 3, 4]]]), "expected data of shape [1, 2, 2], got [1, 1, 4]"),
    (body([[[[1, 2], [3, 4]]]]), "expected data nested 1 or 3 deep, got 4"),
    (body(4.0), "expected data nested 1 or 3 deep, got 0"),
    (body(datatype="FP64"), "input 'image': expected datatype FP32, got FP64"),
    (body(["1", "2", "3", "4"]), "data is not FP32: Expected `float | null`, got `str`"),
    (body([True, 2, 3, 4]), "data is not FP32: Expected `float | null`, got `bool`"),
    (body([1, 2, 1e39, 4]), "element 2 is 1e+39, expected a value in the range of FP32"),
    (body(tensor={"name": "imgae"}), "unknown input 'imgae': expected 'image'"),
    (b'{"inputs": [{"name": "image", "shape": [1, 2, 2], "datatype": "FP32"}]}', "expected data, got none"),
    (b'{"inputs": []}', "expected 1 to 64 inputs, got 0"),
    (b'{"input": []}', "not an infer request: Object missing required field `inputs`"),
    (body(shape=[1.5, 2, 2]), "Expected `int`, got `float`"),
    (b"not json", "body is not JSON"),
    (b"", "body is not JSON"),
    (body() + b"x", "body is not JSON"),
    (b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not an infer request"),
    (body([1, float("nan"), 3, 4]), "body is not JSON"),
    (body(outputs=[{"name": "scores"}]), "unknown output 'scores': expected 'score'"),
    (body(outputs=[{"name": "score"}, {"name": "score"}]), "an output is asked for twice"),
    (body(id=7), "Expected `str | null`, got `int`"),
]


@pytest.mark.parametrize(("sent", "message"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_request_is_refused_with_expected_and_got(sent: bytes, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode_request(sent, signature_of())
    assert message in caught.value.message


def test_hints_lead_on() -> None:
    with pytest.raises(InvalidInput) as caught:
        decode_request(body(tensor={"name": "imgae"}), signature_of())
    assert caught.value.hint == "Did you mean 'image'?"
    with pytest.raises(InvalidInput) as caught:
        decode_request(b'{"inputs": [NaN]}', signature_of())
    assert caught.value.hint == "Send null for a missing number."
    with pytest.raises(InvalidInput) as caught:
        decode_request(
            b'{"inputs": [{"name": "image", "shape": [1, 2, 2], "datatype": "FP32",'
            b' "parameters": {"binary_data_size": 16}}]}',
            signature_of(),
        )
    assert "binary" in caught.value.hint


@pytest.mark.parametrize(
    ("dtype", "data", "message"),
    [
        ("uint8", [1, 256], "element 1 is 256, expected a value in the range of UINT8"),
        ("uint64", [[-1], [2]], "element 0 is -1"),
        ("int64", [2**63, 0], f"element 0 is {2**63}"),
        ("int32", [1.0, 2], "Expected `int`, got `float`"),
        ("int32", [True, 2], "Expected `int`, got `bool`"),
        ("bool", [1, 0], "Expected `bool`, got `int`"),
        ("str", ["a", 1], "Expected `str`, got `int`"),
        ("float16", [1.0, 1e6], "element 1 is 1000000.0"),
    ],
)
def test_values_outside_a_datatype_are_refused_by_index(dtype: str, data: Any, message: str) -> None:
    with pytest.raises(SignatureMismatch) as caught:
        decode_request(body(data, shape=[2, 1], datatype=DATATYPES[dtype]), signature_of(dtype, [-1, 1]))
    assert message in caught.value.message


def test_several_inputs_must_be_whole_and_of_equal_rows() -> None:
    two = Signature(
        inputs=[TensorSpec(name=name, dtype="int64", shape=[-1]) for name in ("a", "b")],
        outputs=[TensorSpec(name="y", dtype="int64", shape=[-1])],
    )

    def send(*tensors: tuple[str, int]) -> bytes:
        sent = [{"name": n, "shape": [rows], "datatype": "INT64", "data": [1] * rows} for n, rows in tensors]
        return json.dumps({"inputs": sent}).encode()

    assert decode_request(send(("b", 2), ("a", 2)), two).rows == 2
    for tensors, message in [
        ([("a", 1)], "missing input 'b': expected 'a', 'b', got 'a'"),
        ([("a", 1), ("b", 2)], "inputs differ in rows: expected equal numbers, got {'a': 1, 'b': 2}"),
        ([("a", 1), ("a", 1), ("b", 1)], "input 'a' is given twice"),
    ]:
        with pytest.raises(SignatureMismatch) as caught:
            decode_request(send(*tensors), two)
        assert message in caught.value.message


def test_non_finite_outputs_stay_strict_json() -> None:
    outputs = {"score": np.array([1.0, np.nan, np.inf], np.float32)}
    data = encode_response("m", "1", outputs, wanted=["score"], id=None)
    answer = json.loads(data, parse_constant=pytest.fail)
    assert answer == {
        "model_name": "m",
        "model_version": "1",
        "outputs": [
            {
                "name": "score",
                "shape": [3],
                "datatype": "FP32",
                "data": [1.0, None, None],
                "parameters": {"nonfinite": 2},
            }
        ],
    }


@given(
    st.sampled_from(sorted(set(DATATYPES) - {"str", "object"})).flatmap(
        lambda dtype: hnp.arrays(
            dtype,
            hnp.array_shapes(min_dims=1, max_dims=4, max_side=4),
            elements={"allow_nan": False, "allow_infinity": False} if dtype.startswith("float") else None,
        )
    ),
    st.booleans(),
)
def test_arrays_survive_the_way_there_and_back(array: np.ndarray[Any, Any], is_nested: bool) -> None:
    dtype = array.dtype.name
    response = encode_response("m", "1", {"image": array}, wanted=["image"], id=None)
    tensor = json.loads(response)["outputs"][0]
    if is_nested:
        tensor["data"] = np.array(tensor["data"], dtype=array.dtype).reshape(array.shape).tolist()
    shape = [-1, *array.shape[1:]]
    request = decode_request(json.dumps({"inputs": [tensor]}).encode(), signature_of(dtype, shape))
    got = request.inputs["image"]
    assert got.dtype == array.dtype
    np.testing.assert_array_equal(got, array)


def test_text_survives_too() -> None:
    array = np.array([["ä", ""], ["x\0y", "日本"]], dtype=object)
    tensor = json.loads(encode_response("m", "1", {"t": array}, wanted=["t"], id=None))["outputs"][0]
    tensor["name"] = "image"
    assert tensor["datatype"] == "BYTES"
    got = decode_request(json.dumps({"inputs": [tensor]}).encode(), signature_of("str", [-1, 2]))
    assert got.inputs["image"].tolist() == array.tolist()
