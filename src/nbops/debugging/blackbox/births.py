"""The first operation that makes a NaN or an infinity out of finite values: a dispatch mode for one replayed step."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nbops.debugging.tensors import floating

_FILLS = ("full", "fill", "masked_fill", "where", "new_full", "scalar_tensor", "lift_fresh", "constant_pad_nd")
_UNWRITTEN = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_")  # memory as it lies
_OVERWRITES = ("zero_", "fill_", "copy_", "normal_", "uniform_", "random_", "bernoulli_", "exponential_", "set_")
_WHERE = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')
_SKIPPED = ("/torch/", "\\torch\\", "/nbops/debugging/", "\\nbops\\debugging\\", "<frozen")
_VIEWS = ("detach", "alias", "view", "_unsafe_view", "t", "transpose", "expand", "clone", "lift_fresh")


@dataclass
class Birth:
    """One operation that gave a non-finite value.

    op : name of the operation in torch: ``aten.log``
    node : backward passes: the autograd node that ran it
    is_in_model : whether the model's forward was running, its own lines between two layers included
    kind : ``nan`` or ``inf``
    rows : positions along the first axis that are not finite
    """

    op: str
    kind: str
    file: str
    line: int
    function: str
    module: str
    node: str = ""
    is_in_model: bool = False
    sizes: tuple[int, ...] = ()
    rows: list[int] = field(default_factory=list)
    nan: int = 0
    inf: int = 0


class Births(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records where non-finite values come from, and where they were met first.

    An infinity that is written on purpose (a mask filled with ``-inf``) is no birth; a NaN made of it is.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.born: Birth | None = None
        self.infinite: Birth | None = None  # the first infinity, if no NaN came of it yet
        self.met: Birth | None = None  # the first operation that was given a non-finite value
        self.modules: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.__name__.partition(".")[0]
        before = _state((args[1:] if name in _OVERWRITES else args, kwargs))
        result = func(*args, **kwargs)
        if self.born is None and name not in _UNWRITTEN:
            self._look(func, args, kwargs, before, result)
        return result

    def _look(self, func: Any, args: Any, kwargs: Any, before: tuple[bool, bool], result: Any) -> None:
        has_nan, has_inf = before
        nan, inf = _state(result)
        name = func.__name__.partition(".")[0]
        if (has_nan or has_inf) and self.met is None and name not in _VIEWS:
            self.met = self._birth(func, "nan" if has_nan else "inf", args)
        if nan and not has_nan:
            self.born = self.infinite if has_inf and self.infinite is not None else self._birth(func, "nan", result)
        elif inf and not (has_inf or has_nan) and self.infinite is None and not _is_written(name, args, kwargs):
            self.infinite = self._birth(func, "inf", result)

    def first(self) -> Birth | None:
        """Return the operation to name: where the first NaN comes from, else where the first infinity does."""
        return self.born or self.infinite

    def _birth(self, func: Any, kind: str, result: Any) -> Birth:
        node = torch._C._current_autograd_node()
        file, line, function = _here()
        if node is not None and not file:
            file, line, function = _forward_place(node)
        tensor = next((t for t in floating(result) if not bool(torch.isfinite(t).all())), None)
        birth = Birth(
            f"{func.namespace}.{func.__name__.partition('.')[0]}", kind, file, line, function,
            self.modules[-1] if self.modules else "", node=node.name() if node is not None else "",
            is_in_model=bool(self.modules),
        )  # fmt: skip
        if tensor is not None:
            bad = ~torch.isfinite(tensor)
            birth.sizes, birth.nan = tuple(tensor.shape), int(torch.isnan(tensor).sum())
            birth.inf = int(bad.sum()) - birth.nan
            if tensor.ndim:
                birth.rows = bad.reshape(len(tensor), -1).any(1).nonzero().flatten().tolist()
        return birth


def _state(value: Any) -> tuple[bool, bool]:
    """Return whether any value is NaN, and whether any is infinite."""
    nan = inf = False
    for t in floating(value):
        if t.numel() and not t.is_sparse and not bool(torch.isfinite(t).all()):
            nan = nan or bool(torch.isnan(t).any())
            inf = inf or bool(torch.isinf(t).any())
    return nan, inf


def _is_written(name: str, args: Any, kwargs: Any) -> bool:
    """Return whether an infinity is an argument of the call: a mask."""
    if name.rstrip("_") not in _FILLS:
        return False
    values = [*args, *kwargs.values()]
    return name == "lift_fresh" or any(isinstance(v, float) and math.isinf(v) for v in values) or any(
        isinstance(v, Tensor) and v.ndim == 0 and bool(torch.isinf(v).any()) for v in values if isinstance(v, Tensor)
        and v.is_floating_point()
    )  # fmt: skip


def _here() -> tuple[str, int, str]:
    """Return file, line and function of the user's code that is running."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not any(part in name for part in _SKIPPED):
            inside_backward = "backward" in frame.f_code.co_name
            if torch._C._current_autograd_node() is None or inside_backward:
                return name, frame.f_lineno, frame.f_code.co_name
            return "", 0, ""
        frame = frame.f_back
    return "", 0, ""


def _forward_place(node: Any) -> tuple[str, int, str]:
    """Return the user's line of the forward operation that an autograd node belongs to, from anomaly mode's notes."""
    for text in reversed(node.metadata.get("traceback_", [])):
        found = _WHERE.search(text)
        if found and not any(part in found["file"] for part in _SKIPPED):
            return found["file"], int(found["line"]), ""
    return "", 0, ""
