"""What operations take that fake tensors do not show: while they run, and behind what they return.

Measured on PyTorch 2.13 for the CPU with its profiler. oneDNN brings the operands of a convolution into a layout of its
own, in which channels are rounded up to the width of a vector; in float32 a kernel of size 1 and an input of few
channels stay as they are. Narrow convolutions are measured, and modelled only where that would take long. Some losses
return a number whose storage has the size of the input. A recurrent layer keeps a workspace. cuDNN asks for a workspace
that depends on the algorithm that it picks, and is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from nbops.debugging.memory import measured

_FEW_CHANNELS = 4
_NARROW = (torch.bfloat16, torch.float16)
_aten = torch.ops.aten
_LOSSES = {
    _aten.mse_loss.default: 2, _aten.smooth_l1_loss.default: 2, _aten.soft_margin_loss.default: 2,
    _aten.binary_cross_entropy.default: 3,
}  # fmt: skip
# by the place of the reduction among the arguments
_NOT_REDUCED = 0
_FLOAT32 = 4  # bytes
_STEPS, _SAMPLES = 8, 16  # from so many on, the workspace of a recurrent layer grows by as much with each
_WORKSPACE = 3  # its place among the results of a recurrent layer
_WIDENED = {_aten.mean.default, _aten.mean.dim, _aten.sum.default, _aten.sum.dim_IntList}


def scratch_of(func: Callable[..., Any], args: Sequence[Any], found: Any, *, device: str) -> int:
    """Return the most bytes that an operation takes until it has made its results, these included."""
    if device != "cpu":
        return 0
    if func is _aten.convolution.default:
        return _convolution(args, found)
    if func is _aten.convolution_backward.default:
        return _convolution_back(args, found)
    if func in (_aten.mkldnn_rnn_layer.default, _aten.mkldnn_rnn_layer_backward.default):
        return _recurrent(func, args, found)
    if func in _WIDENED and args[0].dtype in (torch.bfloat16, torch.float16):
        return 2 * _size(args[0])  # the sum is taken in float32
    return 0


def _convolution(args: Sequence[Any], found: Tensor) -> int:
    x, weight = args[0], args[1]
    most = measured.convolution(args, found) if weight.dtype in _NARROW else None
    if most is not None:
        return most
    if _has_no_kernel(weight.dtype):
        return _unfolded(x, weight, found, args[3:9])
    if _is_plain(weight):
        return 0
    copies = 2 if found.dtype is torch.bfloat16 else 1
    return max(_moved(x) + _blocked(weight) + _blocked(found), _blocked(found) + copies * _size(found))


def _convolution_back(args: Sequence[Any], found: Any) -> int:
    grad, x, weight = args[:3]
    most = measured.convolution_backward(args) if weight.dtype in _NARROW else None
    if most is not None:
        return most
    if _has_no_kernel(weight.dtype):
        return _unfolded_back(args, found)
    if _is_plain(weight):
        return 0
    dx, copies = _size(x) if found[0] is not None else 0, 2 if x.dtype is torch.bfloat16 else 1
    to_input = max(_blocked(grad) + _blocked(weight) + _blocked(x), _blocked(x) + copies * dx) if dx else 0
    pad = 0 if x.dtype is not torch.bfloat16 else int(1.3 * ((_size(x) + _size(grad)) / len(x) + 2 * _size(weight)))
    return max(to_input, dx + _blocked(grad) + _moved(x) + _blocked(weight) + pad)


@cache
def _has_no_kernel(dtype: torch.dtype) -> bool:
    """Return whether oneDNN has no kernels for a narrow type on this processor, so that PyTorch's own ones are used."""
    known = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}
    is_supported = getattr(torch.ops.mkldnn, known[dtype], None) if dtype in known else None
    return is_supported is not None and not bool(is_supported())


def _unfolded(x: Tensor, weight: Tensor, out: Tensor, settings: Sequence[Any]) -> int:
    """Return what PyTorch's own convolution takes: the patches of the input as columns, group by group."""
    groups = int(settings[5])
    if groups == 1:
        return _size(out) + _columns(x, weight, out, settings)
    return _size(out) + max(_size(out), _size(x) // groups + _columns(x, weight, out, settings))


def _unfolded_back(args: Sequence[Any], found: Any) -> int:
    grad, x, weight = args[:3]
    settings = args[4:10]
    groups = int(settings[5])
    results: int = sum(_size(part) for part in found[:2] if part is not None)
    columns = _columns(x, weight, grad, settings)
    if groups == 1:
        return results + columns
    return results + max(results, (_size(x) + _size(grad)) // groups + columns)


def _columns(x: Tensor, weight: Tensor, out: Tensor, settings: Sequence[Any]) -> int:
    """Return the bytes of the columns of one group: of all samples, of one if the kernel is dilated or transposed."""
    stride, padding, dilation, is_transposed = settings[:4]
    kernel = prod(weight.shape[2:])
    if kernel == 1 and set(stride) == {1} and set(padding) == {0} and not is_transposed:
        return 0
    if is_transposed:
        return weight.shape[1] * kernel * prod(x.shape[2:]) * weight.element_size()
    samples = 1 if set(dilation) != {1} else len(x)
    return int(samples * weight.shape[1] * kernel * prod(out.shape[2:]) * weight.element_size())


def _recurrent(func: Callable[..., Any], args: Sequence[Any], found: Any) -> int:
    results = sum(_size(part) for part in found if part is not None)
    weights, inner = _size(args[1]) + _size(args[2]), _size(args[2])
    if func is _aten.mkldnn_rnn_layer.default:
        return results + _workspace_of(args) + int(1.03 * weights + 2.1 * inner)
    outputs: int = args[7].numel() * _FLOAT32
    if args[1].dtype is torch.bfloat16:
        return results + outputs + int(3.06 * weights + inner / 2)
    return results + outputs + int(1.03 * weights + 2.1 * inner)


def _workspace_of(args: Sequence[Any]) -> int:
    return _workspace(tuple(tuple(part.shape) for part in args[:7]), args[0].dtype, tuple(args[9:]))


def sizes_behind(func: Callable[..., Any], args: Sequence[Any], found: Any, *, device: str) -> dict[int, int]:
    """Return, by the place among the results, the bytes of those whose storage is larger than the fake one's."""
    if func is _aten.mkldnn_rnn_layer.default:
        return {_WORKSPACE: _workspace_of(args)}
    for loss, place in _LOSSES.items():
        if func is loss and device == "cpu" and (args[place] if len(args) > place else 1) != _NOT_REDUCED:
            return {0: _size(args[0])}
    return {}


@cache
def _workspace(shapes: tuple[tuple[int, ...], ...], dtype: torch.dtype, settings: tuple[Any, ...]) -> int:
    """Return the workspace of an LSTM layer over [time, batch, inputs]: it grows evenly with both of them."""
    length, batch, inputs = shapes[0]
    if any(shape[-2] != batch for shape in shapes[5:7]):
        return 0  # not as PyTorch 2 calls it; the operation itself does not look

    def at(steps: int, samples: int) -> int:
        with _disable_current_modes():
            x, *states = (torch.zeros(*shape, dtype=dtype) for shape in (
                (steps, samples, inputs), *((*shape[:-2], samples, shape[-1]) for shape in shapes[5:7])))  # fmt: skip
            weights = [torch.zeros(shape, dtype=dtype) for shape in shapes[1:5]]
            found = _aten.mkldnn_rnn_layer(x, *weights, *states, False, [], *settings)
        return int(found[3].untyped_storage().nbytes())

    def over_time(samples: int) -> int:
        return _on_line(lambda steps: at(steps, samples), length, _STEPS)

    return _on_line(over_time, batch, _SAMPLES)


def _on_line(value: Callable[[int], int], at: int, known: int) -> int:
    """Return `value` at a place; far out, from two places that are cheap."""
    if at <= 2 * known:
        return value(at)
    one, two = value(known), value(2 * known)
    return one + (at - known) * (two - one) // known


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


@cache
def _vector() -> int:
    return 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8


def _blocked(tensor: Tensor) -> int:
    """Return the bytes of a tensor [n, channels, …] in oneDNN's layout."""
    channels = tensor.shape[1]
    if channels <= _FEW_CHANNELS:
        return _size(tensor)
    return _size(tensor) // channels * (-(-channels // _vector()) * _vector())


def _moved(x: Tensor) -> int:
    return _blocked(x) if x.shape[1] > _FEW_CHANNELS or x.dtype is torch.bfloat16 else 0


def _is_plain(weight: Tensor) -> bool:
    return weight.dtype is not torch.bfloat16 and all(size == 1 for size in weight.shape[2:])
