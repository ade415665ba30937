"""The table of legal settings: of layers, losses, optimizers and schedulers. Plain data.

Most of these torch accepts when an object is made and only rejects, or silently misuses, when it is called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.rnn import RNNBase, RNNCellBase
from torch.optim import lr_scheduler as schedules

Settings = Mapping[str, Any]
Test = Callable[[Any, Settings], bool]


@dataclass(frozen=True)
class Limit:
    """One rule: for objects of `kinds`, the setting `name` must satisfy `holds`; `expected` and `fix` say it in words.

    status : ``error`` where the setting cannot work, ``warning`` where it can but nobody means it
    """

    kinds: tuple[type, ...]
    name: str
    holds: Test
    expected: str
    fix: str = ""
    status: str = "error"


@dataclass(frozen=True)
class Broken:
    """A setting that breaks a limit."""

    limit: Limit
    value: Any


def broken(kind: type, settings: Settings, limits: tuple[Limit, ...]) -> Iterator[Broken]:
    """Iterate over the limits of `kind` that `settings` breaks; a setting that is not there breaks none."""
    told = set()
    for limit in limits:
        if limit.name in told or limit.name not in settings or not issubclass(kind, limit.kinds):
            continue
        value = settings[limit.name]
        try:
            holds = limit.holds(value, settings)
        except KeyError:  # what it is compared with is not known
            holds = True
        except (TypeError, ZeroDivisionError):  # of a type for which the question makes no sense
            holds = isinstance(value, str | type(None))
        if not holds:
            told.add(limit.name)
            yield Broken(limit, value)


# ---- tests -----------------------------------------------------------------------------------------------------------


def numbers(value: Any) -> list[float]:
    """Return the numbers in a setting: a number, or a tuple of them; none for text and None."""
    if isinstance(value, Tensor):
        return [float(v) for v in value.detach().flatten().tolist()]
    if isinstance(value, list | tuple):
        return [n for item in value for n in numbers(item)]
    return [float(value)] if isinstance(value, int | float) and not isinstance(value, bool) else []


def _positive(value: Any, _: Settings) -> bool:
    return all(n > 0 for n in numbers(value))


def _not_negative(value: Any, _: Settings) -> bool:
    return all(n >= 0 for n in numbers(value))


def _whole(value: Any, _: Settings) -> bool:
    return all(n == int(n) for n in numbers(value))


def _between(low: float, high: float, *, open_high: bool = False, open_low: bool = False) -> Test:
    def holds(value: Any, _: Settings) -> bool:
        return all(
            (low < n if open_low else low <= n) and (n < high if open_high else n <= high) for n in numbers(value)
        )

    return holds


def _divides(*names: str) -> Test:
    def holds(value: Any, settings: Settings) -> bool:
        return value > 0 and all(settings[name] % value == 0 for name in names if name in settings)

    return holds


def _less_padding(value: Any, settings: Settings) -> bool:
    kernels, pads = numbers(settings["kernel_size"]), numbers(value)
    pads = pads * len(kernels) if len(pads) == 1 else pads
    kernels = kernels * len(pads) if len(kernels) == 1 else kernels
    return all(2 * pad <= kernel for pad, kernel in zip(pads, kernels, strict=False))


def _pads_same(value: Any, settings: Settings) -> bool:
    return value != "same" or all(n == 1 for n in numbers(settings.get("stride", 1)))


def _mode_is(*known: str) -> Test:
    return lambda value, _: not isinstance(value, str) or value in known


_POOLS = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.LPPool1d, nn.LPPool2d,
)  # fmt: skip
_ADAPTIVE = (
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d,
    nn.AdaptiveMaxPool3d,
)  # fmt: skip
_TRANSFORMERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer, nn.Transformer)
_PADDED_POOLS = _POOLS[:6]

LAYERS: tuple[Limit, ...] = (
    # convolutions
    Limit((_ConvNd, *_POOLS), "kernel_size", _whole, "a whole number"),
    Limit((_ConvNd, *_POOLS), "stride", _whole, "a whole number"),
    Limit((_ConvNd,), "in_channels", _positive, "at least 1"),
    Limit((_ConvNd,), "out_channels", _positive, "at least 1"),
    Limit((_ConvNd, *_POOLS, nn.Unfold, nn.Fold), "kernel_size", _positive, "at least 1"),
    Limit((_ConvNd, *_POOLS, nn.Unfold, nn.Fold), "stride", _positive, "at least 1", "Set stride=1 or more."),
    Limit((_ConvNd, *_POOLS, nn.Unfold, nn.Fold), "dilation", _positive, "at least 1", "Set dilation=1."),
    Limit((_ConvNd, *_POOLS, nn.Unfold, nn.Fold), "padding", _not_negative, "0 or more", "Set padding=0 or more."),
    Limit((_ConvNd,), "padding", _pads_same, "'same' only with stride 1", "Give the padding as a number."),
    Limit((_ConvNd,), "groups", _divides("in_channels", "out_channels"), "a divisor of in_channels and out_channels",
          "Set groups to a number that divides both, or change the channels."),
    Limit((_PADDED_POOLS), "padding", _less_padding, "at most half of kernel_size"),
    Limit(_ADAPTIVE, "output_size", _positive, "at least 1"),
    # linear layers and tables
    Limit((nn.Linear, nn.LazyLinear), "out_features", _positive, "at least 1"),
    Limit((nn.Linear,), "in_features", _positive, "at least 1"),
    Limit((nn.Embedding, nn.EmbeddingBag), "num_embeddings", _positive, "at least 1"),
    Limit((nn.Embedding, nn.EmbeddingBag), "embedding_dim", _positive, "at least 1"),
    Limit((nn.Embedding, nn.EmbeddingBag), "padding_idx",
          lambda v, s: v is None or -s["num_embeddings"] <= v < s["num_embeddings"], "below num_embeddings",
          "Set padding_idx to the index of the padding token, or leave it out."),
    Limit((nn.Embedding, nn.EmbeddingBag), "max_norm", lambda v, _: v is None or v > 0, "above 0"),
    # dropout
    Limit((_DropoutNd,), "p", _between(0, 1), "between 0 and 1", "Set p to a share between 0 and 1, as 0.1."),
    Limit((_DropoutNd,), "p", _between(0, 1, open_high=True), "below 1: at 1 every value is dropped",
          "Set p to a share such as 0.1.", "warning"),
    Limit((nn.MultiheadAttention, RNNBase), "dropout", _between(0, 1), "between 0 and 1"),
    # normalisation
    Limit((_NormBase, nn.GroupNorm, nn.LayerNorm), "eps", _positive, "above 0", "Leave eps at 1e-5."),
    Limit((nn.RMSNorm,), "eps", lambda v, _: v is None or v > 0, "above 0"),
    Limit((_NormBase,), "momentum", lambda v, _: v is None or 0 <= v <= 1,
          "between 0 and 1, the weight of the new batch", "Leave momentum at 0.1."),
    Limit((_NormBase,), "momentum", lambda v, s: v is None or v > 0 or not s["track_running_stats"],
          "above 0: at 0 the running statistics keep their first values", "Leave momentum at 0.1.", "warning"),
    Limit((_NormBase,), "momentum", lambda v, s: v is None or v < 0.95,
          "near 0.1: it is the weight of the new batch, not of the old average", "Set momentum=0.1.", "warning"),
    Limit((_NormBase,), "num_features", _positive, "at least 1"),
    Limit((nn.GroupNorm,), "num_groups", _divides("num_channels"), "a divisor of num_channels"),
    # attention and recurrence
    Limit((nn.MultiheadAttention,), "num_heads", _divides("embed_dim"), "a divisor of embed_dim"),
    Limit(_TRANSFORMERS, "nhead", _divides("d_model"), "a divisor of d_model"),
    Limit(_TRANSFORMERS, "dropout", _between(0, 1), "between 0 and 1"),
    Limit((RNNBase,), "num_layers", _positive, "at least 1"),
    Limit((RNNBase, RNNCellBase), "hidden_size", _positive, "at least 1"),
    Limit((RNNBase, RNNCellBase), "input_size", _positive, "at least 1"),
    Limit((nn.LSTM,), "proj_size", lambda v, s: 0 <= v < s["hidden_size"], "below hidden_size"),
    # activations and shapes
    Limit((nn.LeakyReLU,), "negative_slope", _between(0, 1), "between 0 and 1, as 0.01", status="warning"),
    Limit((nn.ELU, nn.CELU), "alpha", _positive, "above 0"),
    Limit((nn.Softplus,), "beta", _positive, "above 0"),
    Limit((nn.Hardtanh,), "max_val", lambda v, s: v > s["min_val"], "above min_val"),
    Limit((nn.RReLU,), "upper", lambda v, s: v >= s["lower"], "at least lower"),
    Limit((nn.Softmax, nn.LogSoftmax), "dim", lambda v, _: v is not None, "named: torch would choose by the number of "
          "dimensions, 0 for three of them", "Write dim=-1.", "warning"),
    Limit((nn.Upsample,), "scale_factor", lambda v, _: v is None or all(n > 0 for n in numbers(v)), "above 0"),
    Limit((nn.PixelShuffle,), "upscale_factor", _positive, "at least 1"),
    Limit((nn.PixelUnshuffle,), "downscale_factor", _positive, "at least 1"),
    Limit((nn.LocalResponseNorm, nn.CrossMapLRN2d), "size", _positive, "at least 1"),
    Limit((nn.CosineSimilarity, nn.PairwiseDistance), "eps", _positive, "above 0"),
)  # fmt: skip

LOSSES: tuple[Limit, ...] = (
    Limit((nn.CrossEntropyLoss,), "label_smoothing", _between(0, 1, open_high=True), "from 0, below 1",
          "Set label_smoothing to a small share such as 0.1."),
    Limit((nn.Module,), "reduction", _mode_is("none", "mean", "sum", "batchmean"), "'mean', 'sum' or 'none'"),
    Limit((nn.CrossEntropyLoss, nn.NLLLoss), "weight",
          lambda v, _: v is None or (all(n >= 0 for n in numbers(v)) and any(numbers(v))), "0 or more, and not all 0"),
    Limit((nn.BCEWithLogitsLoss,), "pos_weight", lambda v, _: v is None or all(n > 0 for n in numbers(v)), "above 0"),
    Limit((nn.HuberLoss,), "delta", _positive, "above 0"),
    Limit((nn.SmoothL1Loss,), "beta", _not_negative, "0 or more"),
    Limit((nn.TripletMarginLoss,), "margin", _positive, "above 0"),
    Limit((nn.TripletMarginLoss,), "p", _positive, "above 0"),
    Limit((nn.CosineEmbeddingLoss,), "margin", _between(-1, 1), "between -1 and 1"),
    Limit((nn.CTCLoss,), "blank", _not_negative, "0 or more"),
    Limit((nn.PoissonNLLLoss, nn.GaussianNLLLoss), "eps", _positive, "above 0"),
    Limit((nn.MarginRankingLoss, nn.HingeEmbeddingLoss), "margin", _not_negative, "0 or more"),
)  # fmt: skip

_OPTIMIZERS = (torch.optim.Optimizer,)
_ADAMS = tuple(
    kind for name in ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "SparseAdam", "RMSprop")
    if (kind := getattr(torch.optim, name, None)) is not None
)  # fmt: skip
_PLAIN = (torch.optim.SGD, torch.optim.ASGD)


def _is_rate(value: Any, _: Settings) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number or (isinstance(value, Tensor) and value.numel() == 1)


def _rate(test: Callable[[float, Settings], bool]) -> Test:
    return lambda value, settings: test(float(value), settings)


def _runs_warm(rate: float, settings: Settings) -> bool:
    """Return whether a rate of 0 is the beginning of a warm-up: a scheduler keeps the true one beside it."""
    return rate != 0 or float(settings.get("initial_lr", 0) or 0) > 0


OPTIMIZERS: tuple[Limit, ...] = (
    Limit(_OPTIMIZERS, "lr", _is_rate, "a number", "Pass lr as a float."),
    Limit(_OPTIMIZERS, "lr", _rate(lambda v, _: math.isfinite(v) and v >= 0), "above 0",
          "Set a learning rate such as 1e-3."),
    Limit(_OPTIMIZERS, "lr", _rate(_runs_warm), "above 0: at 0 no weight changes", "Set a learning rate such as 1e-3."),
    Limit(_ADAMS, "lr", _rate(lambda v, _: v <= 0.2), "about 1e-4 to 1e-2: each step moves a weight by about lr",
          "Set lr=1e-3.", "warning"),
    Limit(_PLAIN, "lr", _rate(lambda v, _: v <= 10), "about 1e-3 to 1", "Set lr=0.01.", "warning"),
    Limit(_OPTIMIZERS, "lr", _rate(lambda v, _: v == 0 or v >= 1e-9), "large enough to change float32 weights",
          "Set lr=1e-3.", "warning"),
    Limit(_OPTIMIZERS, "betas", _between(0, 1, open_high=True), "two numbers from 0, below 1",
          "Leave betas at (0.9, 0.999)."),
    Limit(_OPTIMIZERS, "momentum", _between(0, 1, open_high=True), "from 0, below 1: at 1 the steps add up for ever",
          "Set momentum=0.9."),
    Limit(_OPTIMIZERS, "dampening", lambda v, s: not (s.get("nesterov") and v), "0 with nesterov=True"),
    Limit(_OPTIMIZERS, "nesterov", lambda v, s: not v or s.get("momentum", 1) > 0, "momentum above 0"),
    Limit(_OPTIMIZERS, "weight_decay", _not_negative, "0 or more: below 0 the weights grow",
          "Set weight_decay=0.01 or 0."),
    Limit(_OPTIMIZERS, "weight_decay", lambda v, s: float(v) * float(s.get("lr", 0)) < 1,
          "small: one step takes lr * weight_decay of each weight away", "Set weight_decay=0.01.", "warning"),
    Limit(_OPTIMIZERS, "eps", _not_negative, "above 0", "Leave eps at 1e-8."),
    Limit(_OPTIMIZERS, "eps", lambda v, _: not isinstance(v, int | float) or v > 0,
          "above 0: at 0 a gradient of 0 gives 0/0", "Leave eps at 1e-8.", "warning"),
    Limit((torch.optim.RMSprop,), "alpha", _between(0, 1), "between 0 and 1", "Leave alpha at 0.99."),
    Limit((torch.optim.Adadelta,), "rho", _between(0, 1), "between 0 and 1", "Leave rho at 0.9."),
    Limit(_OPTIMIZERS, "lr_decay", _not_negative, "0 or more"),
    Limit((torch.optim.LBFGS,), "max_iter", _positive, "at least 1"),
    Limit((torch.optim.LBFGS,), "history_size", _positive, "at least 1"),
)  # fmt: skip

SCHEDULES: tuple[Limit, ...] = (
    Limit((schedules.StepLR,), "step_size", _positive, "at least 1"),
    Limit((schedules.StepLR, schedules.MultiStepLR, schedules.ExponentialLR), "gamma", _between(0, 1, open_low=True),
          "above 0, at most 1: above 1 the learning rate grows without end"),
    Limit((schedules.CosineAnnealingLR,), "T_max", _positive, "at least 1: the number of steps of the whole training"),
    Limit((schedules.CosineAnnealingLR,), "eta_min", lambda v, s: v <= max(s["base_lrs"]), "below the learning rate"),
    Limit((schedules.CosineAnnealingWarmRestarts,), "T_0", _positive, "at least 1"),
    Limit((schedules.ReduceLROnPlateau,), "factor", _between(0, 1, open_low=True, open_high=True), "between 0 and 1"),
    Limit((schedules.ReduceLROnPlateau,), "patience", _not_negative, "0 or more"),
    Limit((schedules.OneCycleLR,), "total_steps", _positive, "at least 1"),
    Limit((schedules.LinearLR, schedules.ConstantLR), "total_iters", _not_negative, "0 or more"),
    Limit((schedules.PolynomialLR,), "power", _positive, "above 0"),
)  # fmt: skip
