"""What a narrow convolution takes on the CPU, measured: oneDNN picks a kernel by processor, type and shape.

It is run with zeros for four and eight samples; from there on what it takes grows evenly with their number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

_FEW, _MORE = 4, 8
_MOST_WORK = 4e9  # multiplications of one run: about half a second
_Shape = tuple[int, ...]


def convolution(args: Sequence[Any], out: Tensor) -> int | None:
    """Return the most bytes that ``aten.convolution`` takes, its result included; None where it cannot be measured."""
    x, weight = args[0], args[1]
    return _of_batch(tuple(x.shape), tuple(weight.shape), tuple(out.shape), x.dtype, _frozen(args[3:9]), None)


def convolution_backward(args: Sequence[Any]) -> int | None:
    """Return the most bytes that ``aten.convolution_backward`` takes, its results included; None as above."""
    grad, x, weight = args[:3]
    wanted = tuple(map(bool, args[10]))
    return _of_batch(tuple(x.shape), tuple(weight.shape), tuple(grad.shape), x.dtype, _frozen(args[4:10]), wanted)


def _frozen(settings: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(tuple(one) if isinstance(one, list | tuple) else one for one in settings)


def _of_batch(
    x: _Shape, weight: _Shape, out: _Shape, dtype: torch.dtype, settings: tuple[Any, ...], wanted: Any
) -> int | None:
    samples = x[0]
    if _MORE * prod(weight) * prod(out[2:]) > _MOST_WORK:
        return None

    def at(n: int) -> int | None:
        return _of(n, x[1:], weight, out[1:], dtype, settings, wanted)

    if samples <= _MORE:
        return at(samples)
    few, more = at(_FEW), at(_MORE)
    return None if few is None or more is None else more + (samples - _MORE) * (more - few) // (_MORE - _FEW)


@cache
def _of(
    samples: int, x: _Shape, weight: _Shape, out: _Shape, dtype: torch.dtype, settings: tuple[Any, ...], wanted: Any
) -> int | None:
    with _disable_current_modes(), torch.no_grad():
        image, kernel = torch.zeros(samples, *x, dtype=dtype), torch.zeros(weight, dtype=dtype)
        if wanted is None:
            return taken_by(lambda: torch.ops.aten.convolution(image, kernel, None, *settings))
        grad = torch.zeros(samples, *out, dtype=dtype)
        back = torch.ops.aten.convolution_backward
        return taken_by(lambda: back(grad, image, kernel, [out[0]], *settings, list(wanted)))


def taken_by(run: Callable[[], Any]) -> int | None:
    """Return the most bytes that PyTorch's CPU allocator gives out while something runs, the results included.

    None where this PyTorch does not tell, or a profiler is running.
    """
    try:
        from torch._C._autograd import _disable_profiler_legacy, _enable_profiler_legacy, _profiler_enabled
        from torch._C._profiler import ProfilerConfig, ProfilerState, _ExperimentalConfig

        if _profiler_enabled():
            return None
        # the older profiler: the newer one writes to the error stream
        settings = ProfilerConfig(ProfilerState.CPU, False, True, False, False, False, _ExperimentalConfig())
        _enable_profiler_legacy(settings)
    except (ImportError, RuntimeError, TypeError):
        return None
    try:
        kept = run()
    finally:
        records = _disable_profiler_legacy()
    del kept
    now = most = 0
    for event in (event for thread in records for event in thread if str(event.kind()) == "memory_alloc"):
        now += event.cpu_memory_usage()
        most = max(most, now)
    return most
