"""Arrays against a model's signature: reading rows from what a user passes, and checking dtype and shape.

NumPy only, so that the serving process can check requests with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nbops.core.errors import InvalidInput, SignatureMismatch, did_you_mean
from nbops.core.records import Signature, TensorSpec

Array = np.ndarray[Any, Any]


def as_array(value: Any) -> Array:
    """Return `value` (array, tensor of any device, data frame, nested list) as a NumPy array.

    A bfloat16 tensor becomes float32, because NumPy has no bfloat16.

    Raises
    ------
    InvalidInput
        For ragged lists and for objects that are no numbers, booleans or text.
    """
    if hasattr(value, "detach"):
        tensor = value.detach().cpu()
        value = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    elif not isinstance(value, np.ndarray) and hasattr(value, "to_numpy"):
        value = value.to_numpy()
    try:
        array: Array = np.asarray(value)
    except ValueError as error:
        raise InvalidInput(f"cannot make one array of these rows: {error}", hint="Pass rows of equal length.") from None
    if array.dtype.kind == "O" and not all(isinstance(item, str) for item in array.flat):
        raise InvalidInput(
            f"cannot make a numeric array of {type(value).__name__} values",
            hint="Select numeric columns, or convert with .astype('float32').",
        )
    return array


def describe(dtype: str, shape: Sequence[int]) -> str:
    """Return e.g. ``float32 [batch, 1, 8, 8]``; a dynamic dimension beyond the first is ``?``."""
    sides = ["batch" if i == 0 and side < 0 else "?" if side < 0 else str(side) for i, side in enumerate(shape)]
    return f"{dtype} [{', '.join(sides)}]"


def conform(signature: Signature, inputs: Any) -> dict[str, Array]:
    """Return `inputs` as arrays by name that a runtime with this signature takes.

    Parameters
    ----------
    signature : Signature
        What the model takes.
    inputs : array, tensor, data frame, nested list, tuple of these, or dict of these by input name
        One array serves a model with one input; a tuple gives several in the signature's order.

    Returns
    -------
    dict of name to array
        C-contiguous, of the signature's dtypes. Only casts that lose nothing are made, and
        float64 to float32 where every value stays finite; a nested list has no dtype of its
        own, so whole numbers in it may become floats.

    Raises
    ------
    SignatureMismatch
        A missing or unknown input, another rank, size or dtype, or unequal numbers of rows.
    """
    arrays = {}
    rows: dict[str, int] = {}
    for spec, value in _pair(signature.inputs, inputs):
        try:
            array = as_array(value)
        except InvalidInput as error:
            raise SignatureMismatch(f"input '{spec.name}': {error.message}", hint=error.hint) from None
        _check_shape(spec, array)
        arrays[spec.name] = _cast(spec, array, is_plain=isinstance(value, list | tuple))
        if spec.shape and spec.shape[0] < 0:
            rows[spec.name] = array.shape[0]
    if len(set(rows.values())) > 1:
        counts = ", ".join(f"'{name}' has {count}" for name, count in rows.items())
        raise SignatureMismatch(f"inputs differ in rows: {counts}", hint="Give every input the same number of rows.")
    return arrays


def _pair(specs: list[TensorSpec], inputs: Any) -> list[tuple[TensorSpec, Any]]:
    names = [spec.name for spec in specs]
    if isinstance(inputs, Mapping):
        for name in inputs:
            if name not in names:
                hint = did_you_mean(str(name), names) or f"Use: {', '.join(names)}."
                raise SignatureMismatch(f"no input '{name}'; the model takes {_listed(names)}", hint=hint)
        missing = [name for name in names if name not in inputs]
        if missing:
            raise SignatureMismatch(
                f"input {_listed(missing)} is missing", hint=f"Pass a dict with the keys {', '.join(names)}."
            )
        return [(spec, inputs[spec.name]) for spec in specs]
    if len(specs) == 1:
        return [(specs[0], inputs)]
    if isinstance(inputs, tuple) and len(inputs) == len(specs):
        return list(zip(specs, inputs, strict=True))
    raise SignatureMismatch(
        f"the model takes {len(specs)} inputs ({_listed(names)}), got one {type(inputs).__name__}",
        hint=f"Pass a dict with the keys {', '.join(names)}.",
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _mismatch(spec: TensorSpec, array: Array, hint: str) -> SignatureMismatch:
    expected, got = describe(spec.dtype, spec.shape), describe(str(array.dtype), array.shape)
    return SignatureMismatch(f"input '{spec.name}': expected {expected}, got {got}", hint=hint)


def _check_shape(spec: TensorSpec, array: Array) -> None:
    if array.ndim == len(spec.shape) - 1 and spec.shape[0] < 0 and _fits(spec.shape[1:], array.shape):
        raise _mismatch(spec, array, "Add the batch dimension: x[None].")
    if not _fits(spec.shape, array.shape):
        raise _mismatch(spec, array, "Reshape the rows to the expected sizes; only 'batch' and '?' are free.")


def _fits(expected: Sequence[int], got: Sequence[int]) -> bool:
    return len(expected) == len(got) and all(a in (-1, b) for a, b in zip(expected, got, strict=True))


def _cast(spec: TensorSpec, array: Array, *, is_plain: bool) -> Array:
    if spec.dtype == "str":
        if array.dtype.kind not in "UO":
            raise _mismatch(spec, array, "Pass text: x.astype(str).")
        return np.require(array.astype(object), requirements="C")
    target = np.dtype(spec.dtype)
    if array.dtype == target:
        return np.require(array, requirements="C")
    hint = f"Convert first: x.astype('{spec.dtype}')."
    if array.dtype.kind not in "biuf":
        raise _mismatch(spec, array, hint)
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(target)
    if np.can_cast(array.dtype, target, "safe"):
        return cast
    if array.dtype == np.float64 and target == np.float32:
        lost = np.isfinite(array) & ~np.isfinite(cast)
        if lost.any():
            raise _mismatch(spec, array, f"Scale the values: {array[lost].flat[0]:g} does not fit into float32.")
        return cast
    if is_plain and array.dtype.kind in "iu" and bool((cast.astype(np.float64) == array.astype(np.float64)).all()):
        return cast
    raise _mismatch(spec, array, hint)
