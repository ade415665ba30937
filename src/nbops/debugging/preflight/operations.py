"""What crashes between modules mean: an operation of torch in ``forward()`` whose arguments do not fit together."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from nbops.debugging.preflight.arithmetic import (
    PRODUCTS,
    SUMS,
    explain_devices,
    explain_product,
    explain_sum,
    explain_types,
)
from nbops.debugging.preflight.explaining import Explanation
from nbops.debugging.preflight.mending import line_patch
from nbops.debugging.preflight.observing import FailedCall
from nbops.debugging.preflight.passes import Crash
from nbops.debugging.preflight.repairs import Repair
from nbops.debugging.preflight.speaking import at_call, first_line, made
from nbops.debugging.preflight.subject import Subject
from nbops.debugging.specs import dtype_name, listed, shape_of, spec

Rewrite = Callable[[str, tuple[Any, ...], dict[str, Any]], Any]


def explain_operation(subject: Subject, crash: Crash) -> Explanation | None:
    """Return what a failed operation means; None if no operation of torch failed, or one that does not say."""
    call = crash.call
    if call is None:
        return None
    tensors = [a for a in [*call.args, *call.kwargs.values()] if isinstance(a, Tensor)]
    devices = {str(t.device) for t in tensors}
    if "DeviceMismatch" in type(crash.error).__name__ or len(devices) > 1:
        return explain_devices(subject, crash, call, devices)
    if "is being used in an in-place operation" in str(crash.error):
        return _changed_leaf(subject, crash, call)
    for names, explain in _EXPLAINERS:
        if call.name in names:
            found = explain(subject, crash, call)
            if found is not None:
                return found
    if _message_is_about_types(str(crash.error)):
        return explain_types(subject, crash, call, tensors)
    return made(
        subject,
        crash,
        "shape-mismatch" if _is_about_shapes(str(crash.error)) else "error-in-forward",
        f"{call.name}() failed: {first_line(crash.error)}",
        expected="arguments that fit",
        got=call.shapes(),
    )


def _changed_leaf(subject: Subject, crash: Crash, call: FailedCall) -> Explanation:
    fix = Repair(
        f"{call.name} writes into a weight, of which autograd keeps the graph",
        "Make a new tensor (w = self.w + …), or write under torch.no_grad().", "with torch.no_grad():", 0.9,
            name="inplace-breaks-backward",
    )  # fmt: skip
    what = f"{call.name} changes a weight in place"
    return made(subject, crash, "in-place-change", what, fix, expected="a new tensor", got=first_line(crash.error))


def _is_about_shapes(text: str) -> bool:
    words = ("size", "shape", "dimension", "broadcast", "dim", "channels", "elements")
    return any(word in text.lower() for word in words)


def _message_is_about_types(text: str) -> bool:
    return any(word in text for word in ("dtype", "scalar type", "data type", "must be Long"))


# ---- by operation ----------------------------------------------------------------------------------------------------


def _view(subject: Subject, crash: Crash, call: FailedCall) -> Explanation | None:
    x = call.args[0]
    sizes = _sizes(call.args[1:])
    if not isinstance(x, Tensor) or not sizes:
        return None
    text, per_sample = str(crash.error), math.prod(shape_of(x)[1:])
    if "not compatible with input tensor's size and stride" in text or "Cannot view" in text:
        fix = Repair(
            "the tensor is not contiguous: it was transposed or permuted before",
            "Use .reshape(…) in place of .view(…).",
            "x.reshape(…)",
            0.95,
            patch=line_patch(crash.place, crash.place.code.replace(".view(", ".reshape(")) if crash.place else "",
            rewrite=at_call(crash, lambda a, k: (torch.Tensor.reshape, a, k)),
            name="axes-swapped",
        )
        return made(
            subject,
            crash,
            "shape-mismatch",
            "view() needs a contiguous tensor",
            fix,
            expected="a contiguous tensor",
            got=spec(x),
        )
    known = math.prod(n for n in sizes if n != -1)
    repairs = list(_views(crash, x, sizes, per_sample))
    return made(
        subject,
        crash,
        "shape-mismatch",
        f"{x.numel()} values cannot be viewed as {listed(tuple(sizes))}",
        *repairs,
        expected=f"a multiple of {known} values" if -1 in sizes else f"{known} values",
        got=f"{x.numel()} values: {spec(x)}",
    )


def _views(crash: Crash, x: Tensor, sizes: list[int], per_sample: int) -> Iterator[Repair]:
    if x.ndim < 2:
        return
    if sizes[0] not in (-1, x.shape[0]) and math.prod(n for n in sizes[1:] if n > 0) == per_sample:
        yield Repair(
            f"the batch size {sizes[0]} is written into the code, and this batch has {x.shape[0]} samples",
            "Take it from the tensor: x.view(x.size(0), …).",
            "x.view(x.size(0), …)",
            0.95,
            patch=_of_any_size(crash, sizes[0]),
            rewrite=at_call(crash, lambda a, k: (torch.Tensor.reshape, (a[0], a[0].shape[0], *sizes[1:]), {})),
            name="shape-mismatch",
        )
    features = math.prod(n for n in (sizes[1:] if -1 not in sizes[1:] else sizes) if n != -1)
    yield Repair(
        f"each sample has {per_sample} values here, not {features}",
        f"Write x.flatten(1), which gives {per_sample} features, and in_features={per_sample} in the layer behind it.",
        "x = x.flatten(1)",
        0.85,
        rewrite=at_call(crash, lambda a, k: (torch.flatten, (a[0], 1), {})),
        name="shape-mismatch",
    )


def _of_any_size(crash: Crash, size: int) -> str:
    """Return the patch that takes the batch size of the tensor that is viewed."""
    found = re.search(rf"(\w+)\.(view|reshape)\(\s*{size}\b", crash.place.code) if crash.place is not None else None
    if found is None or crash.place is None:
        return ""
    new = f"{found[1]}.{found[2]}({found[1]}.size(0)"
    return line_patch(crash.place, crash.place.code.replace(found[0], new, 1))


def _sizes(args: tuple[Any, ...]) -> list[int]:
    flat = args[0] if len(args) == 1 and isinstance(args[0], list | tuple) else args
    return [int(n) for n in flat if isinstance(n, int)]


def _cat(subject: Subject, crash: Crash, call: FailedCall) -> Explanation | None:
    rows = call.args[0] if call.args else call.kwargs.get("tensors")
    if not isinstance(rows, list | tuple):
        return None
    tensors = [t for t in rows if isinstance(t, Tensor)]
    shapes = [shape_of(t) for t in tensors]
    dim = call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else 0)
    got = ", ".join(map(listed, shapes))
    if len({len(s) for s in shapes}) > 1:
        return made(
            subject,
            crash,
            "shape-mismatch",
            f"{call.name}() was given tensors with different numbers of axes",
            expected="the same number of axes",
            got=got,
        )
    differ = [i for i in range(len(shapes[0])) if len({s[i] for s in shapes}) > 1] if shapes else []
    repairs = []
    if call.name != "stack" and len(differ) == 1:
        right = differ[0]
        repairs.append(
            Repair(
                f"the tensors differ in axis {right}, so they can be joined along that one only",
                f"Write dim={right}.",
                f"torch.cat([…], dim={right})",
                0.7,
                rewrite=at_call(crash, lambda a, k: (torch.cat, (a[0], right), {})),
                name="shape-mismatch",
            )
        )
    elif differ:
        repairs.append(
            Repair(
                f"the maps have different sides in axes {differ}: a padding or a stride differs on one of the paths",
                "Bring both to one size before joining them: padding in the convolutions, or F.interpolate.",
                "b = F.interpolate(b, size=a.shape[2:])",
                0.6,
                name="shape-mismatch",
            )
        )
    axis = dim % len(shapes[0]) if shapes and shapes[0] and isinstance(dim, int) else dim
    return made(
        subject,
        crash,
        "shape-mismatch",
        f"{call.name}() along axis {axis}: the tensors differ in axis "
        f"{', '.join(map(str, [d for d in differ if d != axis] or differ))}",
        *repairs,
        expected=f"equal sizes in all axes but {axis}",
        got=got,
    )


def _axes(subject: Subject, crash: Crash, call: FailedCall) -> Explanation | None:
    x = next((a for a in call.args if isinstance(a, Tensor)), None)
    if x is None:
        return None
    given = [*_sizes(call.args[1:]), *(v for v in call.kwargs.values() if isinstance(v, int))]
    what = f"{call.name}({', '.join(map(str, given))}) was called on a tensor with {x.ndim} axes"
    return made(
        subject,
        crash,
        "shape-mismatch",
        what,
        expected=f"axes from {-x.ndim} to {x.ndim - 1}" if x.ndim else "an axis",
        got=spec(x),
    )


def _mask(subject: Subject, crash: Crash, call: FailedCall) -> Explanation | None:
    two = [a for a in [*call.args, *call.kwargs.values()] if isinstance(a, Tensor)][:2]
    if len(two) < 2:
        return None
    x, mask = two
    if mask.dtype != torch.bool:
        fix = Repair(
            "a mask is true or false", "Convert it: mask.bool().", "mask = mask.bool()", 0.9, name="dtype-mismatch"
        )
        return made(
            subject,
            crash,
            "dtype-mismatch",
            f"{call.name}() was given a {dtype_name(mask.dtype)} mask",
            fix,
            expected="a bool mask",
            got=spec(mask),
        )
    return made(
        subject,
        crash,
        "shape-mismatch",
        f"the mask {listed(shape_of(mask))} does not fit {listed(shape_of(x))}",
        expected=f"a mask that broadcasts to {listed(shape_of(x))}",
        got=spec(mask),
    )


def _functional_linear(subject: Subject, crash: Crash, call: FailedCall) -> Explanation | None:
    two = [a for a in [*call.args, *call.kwargs.values()] if isinstance(a, Tensor)][:2]
    if len(two) < 2 or two[0].dtype != two[1].dtype:
        return explain_types(subject, crash, call, two) if len(two) == 2 else None
    x, weight = two
    return made(
        subject,
        crash,
        "shape-mismatch",
        f"F.linear: the weight takes {weight.shape[-1]} features and was given {x.shape[-1]}",
        expected=f"[…, {weight.shape[-1]}]",
        got=spec(x),
    )


_EXPLAINERS: tuple[tuple[tuple[str, ...], Callable[[Subject, Crash, FailedCall], Explanation | None]], ...] = (
    (("view", "reshape", "unflatten", "view_as"), _view),
    (("cat", "concat", "concatenate", "stack", "hstack", "vstack"), _cat),
    (PRODUCTS, explain_product),
    (tuple(SUMS), explain_sum),
    (
        (
            "permute",
            "transpose",
            "squeeze",
            "unsqueeze",
            "flatten",
            "softmax",
            "log_softmax",
            "mean",
            "sum",
            "max",
            "min",
            "select",
            "size",
            "argmax",
            "movedim",
            "unbind",
            "chunk",
            "split",
            "flip",
            "norm",
        ),
        _axes,
    ),
    (("masked_fill", "masked_fill_", "masked_select"), _mask),
    (("linear",), _functional_linear),
)
