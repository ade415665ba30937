"""Numbers of the last batch: inputs, targets, predictions, and hashes of samples. Computed on sampled steps only."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nbops.debugging.aspects import BatchView, TensorStats
from nbops.debugging.tensors import pack

_VALUES = 65_536
_CLASSES = 4096
_ROWS, _FEATURES = 256, 256
_REMEMBERED = 50_000  # hashes of training samples
_RECENT = 16  # batches
_DEPTH = 6  # operations on a target that are looked through
_INDEXED = ("cross_entropy", "nll_loss", "multi_margin_loss")
_LOGITS = ("cross_entropy",)
_BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits", "soft_margin_loss")


@dataclass(slots=True)
class LossCall:
    """Arguments of one call of a loss function, cut from their graphs; its result is read by others."""

    name: str
    prediction: Tensor
    target: Tensor
    ignore_index: int | None
    value: Tensor | None = None
    weight: Tensor | None = None
    is_bootstrapped: bool = False


_SAME, _BESIDE = 0.9999, 0.8  # correlations with the target: of a copy, and of the columns beside a window's last one


def loss_call(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any = None) -> LossCall | None:
    """Return the call if both prediction and target are tensors."""
    prediction = args[0] if args else kwargs.get("input")
    target = args[1] if len(args) > 1 else kwargs.get("target")
    if not isinstance(prediction, Tensor) or not isinstance(target, Tensor):
        return None
    ignored = kwargs.get("ignore_index", args[4] if len(args) > 4 else -100) if name in _INDEXED[:2] else None
    value = result.detach() if isinstance(result, Tensor) and result.ndim == 0 else None
    weight = kwargs.get("weight", args[2] if len(args) > 2 else None) if name in _INDEXED else None
    return LossCall(
        name, prediction.detach(), target.detach(), ignored if isinstance(ignored, int) else None, value,
        weight=weight if isinstance(weight, Tensor) else None, is_bootstrapped=is_bootstrapped(target),
    )  # fmt: skip


def is_bootstrapped(target: Tensor) -> bool:
    """Return whether a target is a constant tensor plus a product of something with a graph: ``r + gamma * value``."""
    node = target.grad_fn
    for _ in range(_DEPTH):
        if node is None:
            return False
        live = [one for one, _ in node.next_functions if one is not None]
        if node.name().startswith("Add"):
            return len(node.next_functions) == 2 and len(live) == 1 and live[0].name().startswith("Mul")
        if len(live) != 1:
            return False
        node = live[0]
    return False


def first_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return the first tensor among the arguments of a call, whatever its type."""
    todo: list[Any] = [*args, *kwargs.values()]
    while todo:
        value = todo.pop(0)
        if isinstance(value, Tensor):
            return value
        if isinstance(value, dict):
            todo = [*value.values(), *todo]
        elif isinstance(value, list | tuple):
            todo = [*value, *todo]
    return None


def stats(tensor: Tensor | None) -> TensorStats | None:
    """Return the numbers of one tensor; reads the device."""
    if tensor is None or tensor.is_sparse or tensor.is_complex() or tensor.numel() == 0:
        return None
    flat = tensor.detach().reshape(-1)
    flat = flat[:: max(1, flat.numel() // _VALUES)]
    sizes, dtype = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
    if not flat.is_floating_point():
        return _integer_stats(flat, sizes, dtype)
    x = flat.float() if flat.dtype in (torch.float16, torch.bfloat16) else flat
    low, high = torch.aminmax(x)
    std, mean = torch.std_mean(x, correction=0)
    found = pack([mean, std, low, high, (x == 0).to(x.dtype).mean()]).tolist()
    if all(map(math.isfinite, found[:4])):
        return TensorStats(sizes, dtype, found[0], found[1], found[2], found[3], zero_share=found[4])
    good = x[torch.isfinite(x)]
    nan, inf = int(torch.isnan(x).sum()), int(torch.isinf(x).sum())
    if good.numel() == 0:
        return TensorStats(sizes, dtype, nan_count=nan, inf_count=inf, zero_share=found[4])
    std, mean = torch.std_mean(good, correction=0)
    return TensorStats(
        sizes, dtype, mean.item(), std.item(), good.min().item(), good.max().item(), nan, inf, zero_share=found[4]
    )


def _integer_stats(flat: Tensor, sizes: tuple[int, ...], dtype: str) -> TensorStats:
    values = flat.to(torch.int64)
    low, high = (int(v) for v in torch.stack(torch.aminmax(values)).tolist())
    wide = values.double()
    top = distinct = None
    if 0 <= high - low < _CLASSES:
        counts = torch.bincount(values - low)
        top, distinct = (float(v) for v in torch.stack([counts.max(), (counts > 0).sum()]).tolist())
        top /= len(flat)
    std, mean, zeros = torch.stack([*torch.std_mean(wide, correction=0), (values == 0).double().mean()]).tolist()
    return TensorStats(
        sizes, dtype, mean, std, float(low), float(high), zero_share=zeros, top_share=top,
        distinct=None if distinct is None else int(distinct),
    )  # fmt: skip


class Samples:
    """Hashes of samples that were trained on, bounded: duplicates, repetitions, and samples of an evaluation."""

    def __init__(self) -> None:
        self._trained: dict[int, None] = {}
        self._recent: deque[set[int]] = deque(maxlen=_RECENT)
        self._known: deque[float] = deque(maxlen=5)  # share of samples of a batch that had been trained on before
        self._weights: Tensor | None = None

    def hashes(self, batch: Tensor | None) -> list[int]:
        """Return one number per sample, equal for equal samples; of at most 256 samples and 256 values of each."""
        if batch is None or batch.ndim < 2 or batch.is_sparse or batch.is_complex() or batch.numel() == 0:
            return []
        rows = batch.detach()[:_ROWS].reshape(min(len(batch), _ROWS), -1)
        rows = rows[:, :: max(1, rows.shape[1] // _FEATURES)]
        if rows.shape[1] < 4:  # too few values: equal samples are no surprise
            return []
        if rows.is_floating_point():
            bits = (rows.float() + 0.0).contiguous().view(torch.int32).to(torch.int64)
        else:
            bits = rows.to(torch.int64)
        if self._weights is None or len(self._weights) < bits.shape[1] or self._weights.device != bits.device:
            made = torch.Generator().manual_seed(20_260_101)
            size = max(bits.shape[1], _FEATURES)
            self._weights = (torch.randint(1, 2**62, (size,), generator=made) * 2 + 1).to(bits.device)
        is_plain = (rows == rows[:, :1]).all(dim=1)  # one value throughout: padding, no sample
        found: list[int] = ((bits * self._weights[: bits.shape[1]]).sum(dim=1) * ~is_plain).tolist()
        return [one for one in found if one]

    def train(self, batch: Tensor | None) -> tuple[int, float | None, float | None]:
        """Remember a training batch; return its hashed samples, and the shares of duplicates and of repetitions."""
        found = self.hashes(batch)
        if not found:
            return 0, None, None
        distinct = set(found)
        repeated = sum(any(one in seen for seen in self._recent) for one in found)
        self._recent.append(distinct)
        self._known.append(sum(one in self._trained for one in found) / len(found))
        if len(self._trained) < _REMEMBERED:
            self._trained.update(dict.fromkeys(found))
        return len(found), 1 - len(distinct) / len(found), repeated / len(found)

    def begin_epoch(self) -> None:
        """Forget the latest batches."""
        self._recent.clear()

    @property
    def is_complete(self) -> bool:
        """Whether training brings no samples any more that were not seen before."""
        return len(self._known) == 5 and min(self._known) >= 0.95

    @property
    def distinct_batches(self) -> int:
        """How many different batches the last five were."""
        return len({frozenset(batch) for batch in list(self._recent)[-5:]})

    def leaked(self, batch: Tensor | None) -> tuple[int, int]:
        """Return how many samples of an evaluation batch were hashed, and how many of them were trained on."""
        found = self.hashes(batch)
        return len(found), sum(one in self._trained for one in found)


def batch_view(inputs: Tensor | None, call: LossCall | None, samples: Samples) -> BatchView:
    """Return the numbers of one batch; reads the device."""
    rows, duplicates, repeated = samples.train(inputs)
    view = BatchView(
        inputs=stats(inputs), rows=rows, duplicate_share=duplicates, repeated_share=repeated,
        distinct_batches=samples.distinct_batches,
    )  # fmt: skip
    if call is None:
        return view
    prediction, target = call.prediction, call.target
    return replace(
        view, loss_value=float(call.value) if call.value is not None else None, targets=stats(target),
        predictions=stats(prediction), loss_name=call.name,
        is_output_constant=_is_constant(prediction), is_target_bootstrapped=call.is_bootstrapped,
        **_judged(call), **_label_column(inputs, target), **_class_weights(call), **_target_sums(call),
    )  # fmt: skip


def _class_weights(call: LossCall) -> dict[str, Any]:
    """Return how uneven the labels are, and whether the weights of the loss make up for it."""
    target, weight = call.target, call.weight
    if weight is None or weight.ndim != 1 or target.is_floating_point() or not target.numel():
        return {}
    known = target.reshape(-1)
    known = known[(known >= 0) & (known < len(weight))]
    counts = torch.bincount(known, minlength=len(weight))
    present = counts > 0
    if int(present.sum()) < 2:
        return {}
    rare, common = torch.where(present, counts, counts.max() + 1).argmin(), counts.argmax()
    found = pack([counts[common] / counts[rare], weight[rare] / weight[common].clamp(min=1e-12)]).tolist()
    return {"label_imbalance": found[0], "rare_weight": found[1]}


def _target_sums(call: LossCall) -> dict[str, Any]:
    """Return the smallest and largest sum of targets that are given as probabilities of classes."""
    target = call.target
    if call.name != "cross_entropy" or not target.is_floating_point() or target.shape != call.prediction.shape:
        return {}
    if target.ndim < 2 or target.numel() == 0:
        return {}
    sums = target.float().sum(1)
    low, high = torch.stack(torch.aminmax(sums)).tolist()
    return {"target_sums": (low, high)}


def _label_column(inputs: Tensor | None, target: Tensor) -> dict[str, Any]:
    """Return the column of the inputs that goes with the target most; none where its neighbours do nearly as well.

    Those are windows of a series whose next value is the target: the last value goes with it, and the one before, too.
    """
    if inputs is None or inputs.ndim != 2 or not inputs.is_floating_point() or not 16 <= len(inputs) == len(target):
        return {}
    if inputs.shape[1] < 2 or inputs.shape[1] > 512 or target.numel() != len(target) or inputs.is_sparse:
        return {}
    y, x = target.reshape(-1).double(), inputs.detach().double()
    if not target.is_floating_point() and len(set(target.reshape(-1).tolist())) != 2:
        return {}
    x, y = x - x.mean(0), y - y.mean()
    size = x.norm(dim=0) * y.norm()
    together = ((x * y[:, None]).sum(0).abs() / size).nan_to_num(0.0, posinf=0.0)
    top = int(together.argmax())
    best, beside = float(together[top]), together[max(0, top - 1) : top + 2].sort(descending=True).values
    if best < _SAME and len(beside) > 1 and float(beside[1]) > _BESIDE:
        return {}
    return {"label_column": top, "label_correlation": best}


def _is_constant(prediction: Tensor) -> bool | None:
    if prediction.ndim == 0 or len(prediction) < 2:
        return None
    some = prediction[:_ROWS].reshape(min(len(prediction), _ROWS), -1)[:, :_FEATURES]
    return bool((some == some[:1]).all())


def _judged(call: LossCall) -> dict[str, Any]:
    """Return what can be said of a classification: shares of classes, entropy, right predictions."""
    prediction, target = call.prediction.float(), call.target
    if call.name in _BINARY and prediction.shape == target.shape and prediction.numel():
        limit = 0.0 if "logits" in call.name or "margin" in call.name else 0.5
        guess, truth = prediction > limit, target > 0.5
        ones, right = torch.stack([guess.float().mean(), (guess == truth).float().mean()]).tolist()
        return {"classes": 2, "predicted_top_share": max(ones, 1 - ones), "accuracy": right}
    if call.name not in _INDEXED or prediction.ndim < 2 or prediction.shape[1] < 2:
        return {}
    logits = prediction.movedim(1, -1).reshape(-1, prediction.shape[1])
    if target.is_floating_point():
        goal = target.movedim(1, -1).reshape(-1, target.shape[1]).argmax(1) if target.ndim > 1 else target.long()
    else:
        goal = target.reshape(-1)
    step = max(1, len(logits) // _ROWS // 4)
    logits, goal = logits[::step], goal[::step]
    if len(goal) != len(logits) or not len(goal):
        return {}
    counts = goal != call.ignore_index if call.ignore_index is not None else torch.ones_like(goal, dtype=torch.bool)
    guess = logits.argmax(1)
    log_p = logits.log_softmax(1) if call.name in _LOGITS else logits
    entropy = -(log_p.exp() * log_p).nan_to_num(0.0).sum(1).mean() / math.log(logits.shape[1])
    sums = logits.sum(1)
    flat = ((logits >= 0).all() & ((sums - 1).abs() < 1e-3).all()).float()
    top = torch.nn.functional.one_hot(guess, logits.shape[1]).float().mean(0).max()
    right = ((guess == goal) & counts).float().sum() / counts.float().sum().clamp(min=1)
    values = pack([top, entropy, right, 1 - counts.float().mean(), flat.to(top.device)]).tolist()
    return {
        "classes": logits.shape[1], "predicted_top_share": values[0], "entropy": values[1], "accuracy": values[2],
        "ignored_share": values[3], "ignore_index": call.ignore_index,
        "is_softmaxed": bool(values[4]) if call.name in _LOGITS else None,
    }  # fmt: skip
