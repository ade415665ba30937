"""Open Inference Protocol v2, JSON form: request bytes to arrays, arrays to response bytes. No I/O, no batching.

Every refusal is an `InvalidInput` that says what was expected and what came.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec
import numpy as np

from nbops.core.errors import InvalidInput, SignatureMismatch, did_you_mean
from nbops.core.records import Signature, TensorSpec

DATATYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "float16": "FP16", "float32": "FP32", "float64": "FP64", "object": "BYTES", "str": "BYTES",
}  # fmt: skip
MAX_RANK = 16
MAX_TENSORS = 64
_WHITESPACE = b" \t\r\n"
_BY_DTYPE = {np.dtype(name): datatype for name, datatype in DATATYPES.items() if datatype != "BYTES"}


class TensorIn(msgspec.Struct):
    """One input tensor as sent; `data` stays unparsed until its datatype is known."""

    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw = msgspec.Raw(b"")
    parameters: dict[str, Any] | None = None


class OutputWanted(msgspec.Struct):
    """One output that the client asks for."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(msgspec.Struct):
    """Body of an infer request."""

    inputs: list[TensorIn]
    outputs: list[OutputWanted] | None = None
    id: str | None = None
    parameters: dict[str, Any] | None = None


class TensorOut(msgspec.Struct, omit_defaults=True):
    """One output tensor; `data` is flat, row by row."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]
    parameters: dict[str, Any] = {}


class InferResponse(msgspec.Struct, omit_defaults=True):
    """Body of an infer response; an absent `id` is left out, never null."""

    model_name: str
    model_version: str
    outputs: list[TensorOut]
    id: str | None = None


class Decoded(msgspec.Struct):
    """A request that fits the signature: arrays by name, their rows, what to return."""

    inputs: dict[str, Any]
    rows: int
    outputs: list[str]
    id: str | None


_request = msgspec.json.Decoder(InferRequest)
_encoder = msgspec.json.Encoder()


def datatype_of(spec: TensorSpec) -> str:
    """Return the protocol's name of a tensor's type: ``FP32`` for ``float32``."""
    return DATATYPES[spec.dtype]


def metadata_of(spec: TensorSpec) -> dict[str, Any]:
    """Return a tensor's entry in the model's metadata."""
    return {"name": spec.name, "datatype": datatype_of(spec), "shape": list(spec.shape)}


class RequestReader:
    """Reads infer requests for one model.

    Parameters
    ----------
    signature : Signature
        What the model takes and gives; dimension 0 of an input counts rows where it is dynamic.
    """

    def __init__(self, signature: Signature) -> None:
        self._specs = {spec.name: spec for spec in signature.inputs}
        self._by_rows = [spec.name for spec in signature.inputs if spec.shape and spec.shape[0] < 0]
        self._outputs = [spec.name for spec in signature.outputs]

    def read(self, body: bytes) -> Decoded:
        """Return the arrays of a request's JSON body.

        Raises
        ------
        InvalidInput
            The body is no infer request.
        SignatureMismatch
            A name, datatype, shape or value does not fit; the message has expected and got.
        """
        request = _parse(body)
        specs = self._specs
        arrays: dict[str, Any] = {}
        for tensor in request.inputs:
            spec = specs.get(tensor.name)
            if spec is None:
                raise SignatureMismatch(
                    f"unknown input '{tensor.name}': expected {_names(specs)}", hint=did_you_mean(tensor.name, specs)
                )
            if tensor.name in arrays:
                raise SignatureMismatch(f"input '{tensor.name}' is given twice")
            arrays[tensor.name] = _array(tensor, spec)
        if len(arrays) != len(specs):
            missing = [name for name in specs if name not in arrays]
            raise SignatureMismatch(f"missing input {_names(missing)}: expected {_names(specs)}, got {_names(arrays)}")
        wanted = self._wanted(request.outputs) if request.outputs else self._outputs
        return Decoded(arrays, self._rows(arrays), wanted, request.id)

    def _rows(self, arrays: Mapping[str, Any]) -> int:
        names = self._by_rows
        rows = len(arrays[names[0]]) if names else 1
        if len(names) > 1 and any(len(arrays[name]) != rows for name in names):
            counts = {name: len(arrays[name]) for name in names}
            raise SignatureMismatch(f"inputs differ in rows: expected equal numbers, got {counts}")
        return rows

    def _wanted(self, outputs: list[OutputWanted]) -> list[str]:
        known = self._outputs
        wanted = [output.name for output in outputs]
        for name in wanted:
            if name not in known:
                raise SignatureMismatch(
                    f"unknown output '{name}': expected {_names(known)}", hint=did_you_mean(name, known)
                )
        if len(set(wanted)) != len(wanted):
            raise SignatureMismatch(f"an output is asked for twice: {_names(wanted)}")
        return wanted


def encode_response(name: str, version: str, outputs: Mapping[str, Any], *, wanted: list[str], id: str | None) -> bytes:
    """Return the JSON body for `outputs` (arrays by name); NaN and infinities become null and are counted."""
    tensors = []
    for key in wanted:
        array = outputs[key]
        tensors.append(TensorOut(key, list(array.shape), _datatype(array), array.ravel().tolist()))
    response = InferResponse(name, version, tensors, id)
    data = _encoder.encode(response)
    if b"null" in data:
        for tensor in tensors:
            array = outputs[tensor.name]
            bad = int(array.size - np.isfinite(array).sum()) if array.dtype.kind == "f" else 0
            if bad:
                tensor.parameters = {"nonfinite": bad}
        data = _encoder.encode(response)
    return data


def _parse(body: bytes) -> InferRequest:
    try:
        request = _request.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"not an infer request: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        hint = "Send null for a missing number." if b"NaN" in body or b"Infinity" in body else ""
        raise InvalidInput(f"body is not JSON: {error}", hint=hint) from None
    except RecursionError:
        raise InvalidInput("body is not an infer request: JSON is nested too deeply") from None
    if not 0 < len(request.inputs) <= MAX_TENSORS:
        raise InvalidInput(f"expected 1 to {MAX_TENSORS} inputs, got {len(request.inputs)}")
    return request


def _array(tensor: TensorIn, spec: TensorSpec) -> Any:
    where, shape = f"input '{tensor.name}'", tensor.shape
    expected = DATATYPES[spec.dtype]
    if tensor.datatype != expected:
        raise SignatureMismatch(f"{where}: expected datatype {expected}, got {tensor.datatype}")
    if not _fits(shape, spec.shape):
        raise SignatureMismatch(f"{where}: expected shape {spec.shape}, got {shape}")
    size = math.prod(shape)
    if size == 0:
        raise SignatureMismatch(f"{where}: shape {shape} has no elements, expected at least one row")
    raw = bytes(tensor.data)
    if not raw:
        binary = "binary_data_size" in (tensor.parameters or {})
        hint = "Send data as JSON: this server does not take binary tensors." if binary else ""
        raise SignatureMismatch(f"{where}: expected data, got none", hint=hint)
    array = _values(raw, spec.dtype, where, len(shape))
    if array.ndim > 1 and list(array.shape) != shape:
        raise SignatureMismatch(f"{where}: expected data of shape {shape}, got {list(array.shape)}")
    if array.size != size:
        raise SignatureMismatch(f"{where}: shape {shape} expects {size} elements, got {array.size}")
    return array.reshape(shape)


def _fits(shape: list[int], expected: list[int]) -> bool:
    if len(shape) != len(expected) or len(shape) > MAX_RANK:
        return False
    for have, want in zip(shape, expected, strict=True):  # noqa: SIM110  (quicker, on the path of every request)
        if have < 0 or want not in (have, -1):
            return False
    return True


def _values(raw: bytes, dtype: str, where: str, rank: int) -> Any:
    depth = _depth(raw)
    if depth == 0 or depth > max(rank, 1):
        raise SignatureMismatch(f"{where}: expected data nested 1 or {rank} deep, got {depth}")
    try:
        values = _decoder(dtype, depth).decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SignatureMismatch(f"{where}: data is not {DATATYPES[dtype]}: {error}") from None
    try:
        with np.errstate(over="raise"):
            return np.array(values, dtype=_storage(dtype))
    except (OverflowError, FloatingPointError):
        at, value = _first_outside(values, dtype)
        raise SignatureMismatch(
            f"{where}: element {at} is {value}, expected a value in the range of {DATATYPES[dtype]}"
        ) from None
    except ValueError:
        raise SignatureMismatch(f"{where}: data is ragged: expected lists of equal length at each level") from None


def _depth(raw: bytes) -> int:
    depth = 0
    for char in raw:
        if char == 0x5B:
            depth += 1
        elif char not in _WHITESPACE:
            break
    return depth


@cache
def _decoder(dtype: str, depth: int) -> msgspec.json.Decoder[Any]:
    kinds: dict[str, Any] = {"f": float | None, "i": int, "u": int, "b": bool, "O": str}
    kind: Any = kinds[_storage(dtype).kind]
    for _ in range(depth):
        kind = list[kind]
    return msgspec.json.Decoder(kind)


@cache
def _storage(dtype: str) -> np.dtype[Any]:
    return np.dtype(object if dtype in ("str", "object") else dtype)


def _first_outside(values: list[Any], dtype: str) -> tuple[int, Any]:
    flat: list[Any] = values
    while flat and isinstance(flat[0], list):
        flat = [item for part in flat for item in part]
    kind = _storage(dtype)
    limits: Any = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
    number = float if kind.kind == "f" else int
    low, high = number(limits.min), number(limits.max)
    bad = ((i, v) for i, v in enumerate(flat) if v is not None and not low <= v <= high)
    return next(bad, (0, flat[0]))


def _datatype(array: Any) -> str:
    kind = array.dtype
    return "BYTES" if kind.kind in "OUST" else _BY_DTYPE[kind]


def _names(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"
