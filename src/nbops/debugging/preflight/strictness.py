"""What real tensors refuse and fake ones let pass: mixed types, indices out of range, targets of the wrong type.

A fake pass raises here what the real operation would raise, so that both fail in the same place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nbops.debugging.specs import dtype_name

_JOINS = frozenset({"linear", "matmul", "mm", "bmm", "__matmul__", "__rmatmul__", "addmm", "baddbmm", "bilinear"})
_NORMS = frozenset({"layer_norm", "batch_norm", "group_norm", "instance_norm"})
_CLASSES = frozenset({"cross_entropy", "nll_loss"})
_SAME_TYPE = frozenset({"binary_cross_entropy", "huber_loss"})
REFUSED = _JOINS | _NORMS | _CLASSES | _SAME_TYPE | {"embedding", "binary_cross_entropy_with_logits", "kl_div"}


def refusal(name: str, settings: dict[str, Any], args: Any, *, index: Tensor | None) -> Exception | None:
    """Return what the real operation would raise, or None.

    Parameters
    ----------
    name : str
        The operation.
    settings : dict
        Its arguments by name, as far as known.
    args : tuple
        Its positional arguments.
    index : Tensor or None
        The values of the index or of the target, where they are known.
    """
    if name in _JOINS or name in _NORMS or name.startswith("conv"):
        tensors = [a for a in [*args, *settings.values()] if isinstance(a, Tensor)]
        return _join(name, tensors)
    if name == "embedding" and index is not None:
        weight = settings.get("weight")
        return _outside(index, 0, int(weight.shape[0])) if isinstance(weight, Tensor) else None
    given, target = settings.get("input"), settings.get("target")
    if not isinstance(given, Tensor) or not isinstance(target, Tensor):
        return None
    if name in _CLASSES:
        return _classes(given, target, index, settings)
    is_whole = not target.is_floating_point()
    if (name in _SAME_TYPE and target.dtype != given.dtype) or (name.endswith("with_logits") and is_whole):
        return RuntimeError(f"Found dtype {_word(target)} but expected {_word(given)}")
    if name == "kl_div" and is_whole:
        return RuntimeError("kl_div: Integral inputs not supported.")
    return None


def _word(tensor: Tensor) -> str:
    return dtype_name(tensor.dtype)


def _join(name: str, tensors: list[Tensor]) -> Exception | None:
    dtypes = {t.dtype for t in tensors}
    if len(dtypes) < 2 or torch.is_autocast_enabled(tensors[0].device.type):
        return None
    if name in _NORMS and not (torch.float64 in dtypes or any(not d.is_floating_point for d in dtypes)):
        return None  # narrow inputs with float32 weights are fine there
    first, other = tensors[0].dtype, next(t.dtype for t in tensors if t.dtype != tensors[0].dtype)
    return RuntimeError(
        f"expected m1 and m2 to have the same dtype, but got: {dtype_name(first)} != {dtype_name(other)}"
    )


def _outside(index: Tensor, low: int, size: int) -> Exception | None:
    if index.numel() and (int(index.min()) < low or int(index.max()) >= size):
        return IndexError("index out of range in self")
    return None


def _classes(given: Tensor, target: Tensor, index: Tensor | None, settings: dict[str, Any]) -> Exception | None:
    if target.is_floating_point():
        same = target.shape == given.shape
        return None if same else RuntimeError(f"expected target dtype to be Long or Byte, but got {_word(target)}")
    if target.dtype not in (torch.int64, torch.uint8):
        return RuntimeError(f"expected target dtype to be Long or Byte, but got {_word(target)}")
    if index is None or not index.numel():
        return None
    classes = int(given.shape[1 if given.ndim > 1 else 0]) if given.ndim else 1
    kept = index[index != settings.get("ignore_index", -100)]
    if kept.numel() and (int(kept.min()) < 0 or int(kept.max()) >= classes):
        worst = int(kept.max()) if int(kept.max()) >= classes else int(kept.min())
        return IndexError(f"Target {worst} is out of bounds.")
    return None
