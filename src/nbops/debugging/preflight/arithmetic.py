"""What failed sums, products and joins of types mean: shapes that do not broadcast, factors that are not transposed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from nbops.debugging.preflight.explaining import Explanation
from nbops.debugging.preflight.mending import projected
from nbops.debugging.preflight.observing import FailedCall
from nbops.debugging.preflight.passes import Crash
from nbops.debugging.preflight.repairs import Repair
from nbops.debugging.preflight.speaking import at_call, first_line, made
from nbops.debugging.preflight.subject import Subject
from nbops.debugging.specs import dtype_name, listed, shape_of, spec

SUMS = {
    "add": "+",
    "add_": "+=",
    "sub": "-",
    "sub_": "-=",
    "mul": "*",
    "mul_": "*=",
    "div": "/",
    "truediv": "/",
    "rsub": "-",
    "__radd__": "+",
    "__rmul__": "*",
    "__rsub__": "-",
    "__iadd__": "+=",
    "__isub__": "-=",
    "__imul__": "*=",
    "where": "where",
    "maximum": "maximum",
    "minimum": "minimum",
    "pow": "**",
}
PRODUCTS = ("matmul", "mm", "bmm", "__matmul__", "__rmatmul__", "addmm", "baddbmm", "mv", "dot")


def explain_product(subject: Subject, crash: Crash, call: FailedCall) -> Explanation | None:
    two = [a for a in call.args if isinstance(a, Tensor)][-2:]
    if len(two) < 2:
        return None
    a, b = two
    if a.dtype != b.dtype:
        return explain_types(subject, crash, call, two)
    inner = int(b.shape[-2 if b.ndim > 1 else 0]) if b.ndim else 0
    repairs = []
    if a.ndim and b.ndim > 1 and a.shape[-1] == b.shape[-1]:
        repairs.append(
            Repair(
                "the second factor is not transposed",
                "Write b.transpose(-1, -2).",
                "a @ b.transpose(-1, -2)",
                0.85,
                rewrite=at_call(crash, lambda x, k: (torch.matmul, (x[-2], x[-1].transpose(-1, -2)), {})),
                name="axes-swapped",
            )
        )
    if a.ndim > 1 and a.shape[-2] == inner:
        repairs.append(
            Repair(
                "the first factor is not transposed",
                "Write a.transpose(-1, -2).",
                "a.transpose(-1, -2) @ b",
                0.6,
                rewrite=at_call(crash, lambda x, k: (torch.matmul, (x[-2].transpose(-1, -2), x[-1]), {})),
                name="axes-swapped",
            )
        )
    return made(
        subject,
        crash,
        "shape-mismatch",
        f"a matrix product of {listed(shape_of(a))} and {listed(shape_of(b))} is not defined",
        *repairs,
        expected=f"{a.shape[-1] if a.ndim else 1} rows in the second factor",
        got=f"{spec(a)} and {spec(b)}",
    )


def explain_sum(subject: Subject, crash: Crash, call: FailedCall) -> Explanation | None:
    two = [a for a in call.args if isinstance(a, Tensor)][:2]
    if len(two) < 2:
        return None
    a, b = two
    bad = [
        (-i, m, n)
        for i, (m, n) in enumerate(zip(reversed(shape_of(a)), reversed(shape_of(b)), strict=False), 1)
        if m != n and 1 not in (m, n)
    ]
    if not bad:
        return None
    repairs = list(_fits_of(crash, a, b))
    axis, m, n = bad[0]
    if not repairs and a.ndim == b.ndim == 4:
        is_channel = [d for d, _, _ in bad] == [-3]
        patch = _shortcut(subject, crash, a, b)
        repairs.append(_other_channels(int(a.shape[1]), int(b.shape[1]), patch) if is_channel else _other_sides(patch))
    sign = SUMS[call.name]
    return made(
        subject,
        crash,
        "shape-mismatch",
        f"'{sign}' of {listed(shape_of(a))} and {listed(shape_of(b))}: axis {axis} has "
        f"{m} on one side and {n} on the other",
        *repairs,
        expected="equal sizes, or 1, in every axis",
        got=f"{spec(a)} and {spec(b)}",
    )


def _shortcut(subject: Subject, crash: Crash, a: Tensor, b: Tensor) -> str:
    owner = subject.module(crash.path)
    return projected(crash.place, owner, shape_of(b), shape_of(a)) or projected(
        crash.place, owner, shape_of(a), shape_of(b)
    )


def _other_channels(has: int, wants: int, patch: str) -> Repair:
    return Repair(
        "the two paths give different numbers of channels",
        f"Bring the shortcut to {wants} channels with a 1 × 1 convolution.",
        f"self.shortcut = nn.Conv2d({has}, {wants}, 1)",
        0.6,
        name="shape-mismatch",
        patch=patch,
    )


def _other_sides(patch: str) -> Repair:
    return Repair(
        "the two paths give maps of different sizes",
        "Give both paths the same stride, and a padding of half the kernel.",
        "nn.Conv2d(…, kernel_size=3, padding=1)",
        0.6,
        name="shape-mismatch",
        patch=patch,
    )


def _fits_of(crash: Crash, a: Tensor, b: Tensor) -> Iterator[Repair]:
    """Yield what would make the second tensor fit the first: another axis, or a swap of the last two."""
    for axis in range(b.ndim + 1):
        wide = b.unsqueeze(axis)
        if _broadcasts(shape_of(a), shape_of(wide)) and a.ndim >= wide.ndim:
            yield Repair(
                "the second tensor lacks an axis",
                f"Write b.unsqueeze({axis}).",
                f"b.unsqueeze({axis})",
                0.6,
                rewrite=at_call(crash, _unsqueezed(axis)),
                name="shape-mismatch",
            )
    if b.ndim > 1 and _broadcasts(shape_of(a), shape_of(b.transpose(-1, -2))):
        yield Repair(
            "the last two axes are swapped",
            "Write b.transpose(-1, -2).",
            "b.transpose(-1, -2)",
            0.6,
            name="axes-swapped",
        )


def _unsqueezed(axis: int) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
    return lambda args, kwargs: (torch.add, (args[0], args[1].unsqueeze(axis)), {})  # any sum has that shape


def _broadcasts(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(m == n or 1 in (m, n) for m, n in zip(reversed(one), reversed(other), strict=False))


def explain_types(subject: Subject, crash: Crash, call: FailedCall, tensors: list[Tensor]) -> Explanation:
    kinds = list(dict.fromkeys(dtype_name(t.dtype) for t in tensors))
    want = "float32" if "float32" in kinds else kinds[0] if kinds else "float32"
    fix = Repair(
        f"tensors of {' and '.join(kinds)} meet",
        "Convert one of them, best where it is made: x.float().",
        "x = x.float()",
        0.8,
        name="dtype-mismatch",
    )
    return made(
        subject,
        crash,
        "dtype-mismatch",
        f"{call.name}() was given {' and '.join(kinds)}",
        fix,
        expected=f"one type, {want}",
        got=call.shapes(),
    )


def explain_devices(subject: Subject, crash: Crash, call: FailedCall, devices: set[str]) -> Explanation:
    where = " and ".join(sorted(devices)) or first_line(crash.error)
    fix = Repair(
        "a tensor that is made in forward(), or kept as a plain attribute, does not move with the model",
        "Make it with device=x.device, or keep it with register_buffer.",
        "torch.zeros(…, device=x.device)",
        0.7,
        name="device-mismatch",
    )
    other = Repair(
        "the batch was not moved",
        "Move the batch to the model's device.",
        "x, y = x.to(device), y.to(device)",
        0.6,
        name="device-mismatch",
    )
    return made(
        subject,
        crash,
        "device-mismatch",
        f"{call.name}() was given tensors on {where}",
        fix,
        other,
        expected="all tensors on one device",
        got=call.shapes(),
    )
