"""The check of backward passes that the user wrote: each against differences of its own forward pass."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from nbops.core.records import Cause
from nbops.debugging.causes import CAUSES
from nbops.debugging.places import is_user_code, place_of_class, place_of_method
from nbops.debugging.preflight.found import Found, check
from nbops.debugging.preflight.subject import Subject

OFF = 0.1  # of the derivative
_STEPS = (1e-4, 1e-5)  # of the size of the input
_DIRECTIONS = 3
_VALUES = 1_000_000
_CALLS = 8


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of a function of the user's, and what it was called with."""

    kind: type[Function]
    args: tuple[Any, ...]


@check("wrong-backward", stage="backward")
def wrong_backward(subject: Subject) -> Iterator[Found]:
    """Find hand-written backward passes that are not the derivative of their forward pass.

    What it measures
        Each ``torch.autograd.Function`` of yours that the model calls: its gradient along three random directions, in
        double precision, beside the difference of its forward pass along them.
    Why it matters
        Training goes somewhere else than downhill, or a weight gets no gradient at all, and nothing says so.
    When it is wrong
        Gradients that are changed on purpose. Those of functions that are constant nearly everywhere (rounding), of
        the identity, and those that are a multiple of the true one (reversal) are left out.
    Fix
        Derive the backward pass again; ``torch.autograd.gradcheck`` tests it.
    References
        torch.autograd.gradcheck.
    """
    if not any(_is_users(kind) for kind in _kinds(Function)):
        return
    for call in _calls(subject):
        argument = _wrong_argument(call)
        if argument is None:
            continue
        known, name = CAUSES["wrong-backward"], call.kind.__name__
        place = place_of_method(call.kind, "backward") or place_of_class(call.kind)
        number, wanted, got = argument
        yield Found(
            _layer_of(subject, call.kind), "error",
            f"{name}.backward is not the derivative of {name}.forward for its argument {number + 1}",
            "The gradient points elsewhere than downhill." if got is not None else "It gets no gradient.",
            known.fix, 0.9, measured=got, limit=wanted, place=place, expected=f"{wanted:.4g} along a direction",
            got="None" if got is None else f"{got:.4g}",
            causes=(Cause(name="wrong-backward", text=known.text, test=known.test, fix=known.fix, confidence=0.9),),
        )  # fmt: skip


def _kinds(kind: type) -> Iterator[type]:
    todo: list[type] = list(kind.__subclasses__())
    while todo:
        one = todo.pop()
        todo += one.__subclasses__()
        yield one


def _is_users(kind: type) -> bool:
    code = getattr(getattr(kind, "backward", None), "__code__", None)
    return code is not None and is_user_code(code.co_filename)


def _calls(subject: Subject) -> list[_Call]:
    """Return the first call of each function of the user's in a pass with values."""
    if not subject.training.is_complete or subject.values is None:
        return []
    few = subject.sliced(min(subject.batch_size, 4)) if subject.is_sliceable else subject.batch
    with _recorded() as calls:
        subject.real_pass(few, backward=False)
    return list({call.kind: call for call in reversed(calls)}.values())[:_CALLS]


@contextmanager
def _recorded() -> Iterator[list[_Call]]:
    calls: list[_Call] = []
    plain = Function.__dict__["apply"]

    def apply(cls: type[Function], *args: Any, **kwargs: Any) -> Any:
        if _is_users(cls) and not kwargs and sum(a.numel() for a in args if isinstance(a, Tensor)) <= _VALUES:
            calls.append(_Call(cls, tuple(a.detach().clone() if isinstance(a, Tensor) else a for a in args)))
        return plain.__get__(None, cls)(*args, **kwargs)

    whole: Any = Function
    whole.apply = classmethod(apply)
    try:
        yield calls
    finally:
        whole.apply = plain


def _wrong_argument(call: _Call) -> tuple[int, float, float | None] | None:
    """Return the number of an argument of a wrong gradient, its derivative along a direction, and what was given."""
    args = [a.double() if isinstance(a, Tensor) and a.is_floating_point() else a for a in call.args]
    numbers = [i for i, a in enumerate(args) if isinstance(a, Tensor) and a.is_floating_point() and a.numel()]
    try:
        for number in numbers:
            pairs = _compared(call.kind, args, number)
            if pairs is None or _are_alike(pairs):
                continue
            return number, *max(pairs, key=lambda pair: abs(pair[0] - (pair[1] or 0.0)))
    except Exception:  # the user's code may refuse doubles; then nothing can be said
        return None
    return None


def _compared(kind: type[Function], args: Sequence[Any], number: int) -> list[tuple[float, float | None]] | None:
    """Return derivative and given gradient along some directions; None where differences say nothing."""
    x: Tensor = args[number]
    random = torch.Generator().manual_seed(0)
    leaf = x.clone().requires_grad_()
    given = [leaf if i == number else a for i, a in enumerate(args)]
    outputs, again = _applied(kind, given), _applied(kind, given)
    if not outputs or any(not torch.equal(a, b) for a, b in zip(outputs, again, strict=True)):
        return None
    if any(
        a.shape == x.shape and torch.equal(a, x) for a in outputs
    ):  # the identity: its gradient is changed on purpose
        return None
    weights = [torch.randn(t.shape, generator=random, dtype=torch.float64) for t in outputs]
    live = [(t, w) for t, w in zip(outputs, weights, strict=True) if t.requires_grad]
    if not live:
        return None
    total = sum(((t.double() * w).sum() for t, w in live), torch.zeros((), dtype=torch.float64))
    (gradient,) = torch.autograd.grad(total, [leaf], allow_unused=True)
    found: list[tuple[float, float | None]] = []
    for _ in range(_DIRECTIONS):
        along = torch.randn(x.shape, generator=random, dtype=torch.float64)
        slopes = [_slope(kind, args, number, along, weights, step) for step in _STEPS]
        if not all(map(math.isfinite, slopes)) or abs(slopes[0] - slopes[1]) > OFF / 2 * max(map(abs, slopes)):
            return None  # a kink, a jump, or rounding
        found.append((slopes[1], None if gradient is None else float((gradient * along).sum())))
    return None if all(abs(slope) < 1e-9 for slope, _ in found) else found


def _slope(
    kind: type[Function], args: Sequence[Any], number: int, along: Tensor, weights: Sequence[Tensor], step: float
) -> float:
    x: Tensor = args[number]
    size = step * max(float(x.abs().mean()), 1e-3)
    sums = []
    for sign in (1, -1):
        moved = [a + sign * size * along if i == number else a for i, a in enumerate(args)]
        with torch.no_grad():
            pairs = zip(_applied(kind, moved), weights, strict=True)
            sums.append(math.fsum(float((t.double() * w).sum()) for t, w in pairs))
    return (sums[0] - sums[1]) / (2 * size)


def _applied(kind: Any, args: Sequence[Any]) -> list[Tensor]:
    output = kind.apply(*args)
    items = output if isinstance(output, tuple) else (output,)
    return [t for t in items if isinstance(t, Tensor) and t.is_floating_point()]


def _are_alike(pairs: Sequence[tuple[float, float | None]]) -> bool:
    """Return whether the gradients are the derivatives, or one and the same multiple of them."""
    if any(got is None for _, got in pairs):
        return False
    size = max(abs(slope) for slope, _ in pairs)
    if all(abs(slope - (got or 0.0)) <= OFF * size for slope, got in pairs):
        return True
    ratios = [(got or 0.0) / slope for slope, got in pairs if abs(slope) > 1e-6 * size]
    return max(ratios) - min(ratios) <= 0.01 * max(map(abs, ratios)) and any(ratios)


def _layer_of(subject: Subject, kind: type[Function]) -> str:
    """Return the module whose own code names a function; the model where there is none."""
    for path, module in subject.model.named_modules():
        code = getattr(type(module).forward, "__code__", None)
        if code is not None and kind.__name__ in (*code.co_names, *code.co_freevars):
            return subject.called(path)
    return subject.name
