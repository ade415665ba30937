"""What a name stands for in a training loop: the model, an optimizer, a scheduler, a loss, an output, a loader."""

from __future__ import annotations

import ast
import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils.data import DataLoader

from nbops.debugging.patches import LOSSES
from nbops.debugging.reading.scopes import Scope
from nbops.debugging.reading.values import MISSING
from nbops.debugging.source import name_of

_OPTIMIZER = re.compile(r"^(SGD|ASGD|Adam|AdamW|NAdam|RAdam|Adamax|RMSprop|Adagrad|Adadelta|LBFGS|Rprop|SparseAdam)$")
_SCHEDULER = re.compile(r"(LR|LRScheduler|ReduceLROnPlateau|CosineAnnealingWarmRestarts|_schedule_with_warmup)$")
_FALLING = re.compile(r"(^|_)(loss|losses|err|error|errors|cost|nll|mse|mae|rmse|bce|ppl|perplexity|wer|cer)(_|\d|$)")
_RISING = re.compile(
    r"(^|_)(acc|accuracy|f1|auc|auroc|precision|recall|iou|miou|dice|bleu|r2|map|top1|psnr|ssim)(_|\d|$)"
)
_KEEPS = {"to", "cuda", "cpu", "float", "double", "half", "squeeze", "unsqueeze", "view", "reshape", "flatten",
"contiguous",
          "view_as", "permute", "transpose", "clone", "type_as", "type"}  # fmt: skip


def kind(scope: Scope, node: ast.AST | None, depth: int = 8) -> str:
    """Return what an expression stands for.

    Returns
    -------
    str
        ``model``, ``optimizer``, ``scheduler``, ``scaler``, ``loader``, ``criterion``, ``output`` (raw scores of a
        model), ``loss`` (a tensor), ``number`` (of ``.item()``), ``tensor``, or "" where it cannot be told.
    """
    if node is None or depth <= 0:
        return ""
    named = of_value(scope.value(node))
    if named and named != "tensor":
        return named
    if isinstance(node, ast.Name | ast.Attribute):
        return _of_name(scope, node, depth) or named
    if isinstance(node, ast.Call):
        return _of_call(scope, node, depth)
    if isinstance(node, ast.BinOp):
        sides = [kind(scope, side, depth - 1) for side in (node.left, node.right)]
        return next((one for one in ("loss", "number", "tensor") if one in sides), "")
    if isinstance(node, ast.UnaryOp):
        return kind(scope, node.operand, depth - 1)
    if isinstance(node, ast.Subscript):
        return kind(scope, node.value, depth - 1)
    return ""


def of_value(value: Any) -> str:
    """Return what an object is, by its class."""
    if isinstance(value, nn.Module):
        is_loss = isinstance(value, nn.modules.loss._Loss) or type(value).__name__.endswith(("Loss", "Criterion"))
        return "criterion" if is_loss else "model"
    for types, name in (
        (Optimizer, "optimizer"), ((LRScheduler, ReduceLROnPlateau), "scheduler"), (DataLoader, "loader"),
        (torch.amp.GradScaler, "scaler"), (Tensor, "tensor"),
    ):  # fmt: skip
        if isinstance(value, types):
            return name
    return "scaler" if type(value).__name__ == "GradScaler" else ""


def _of_name(scope: Scope, node: ast.expr, depth: int) -> str:
    name = scope.expression(node)
    bound = scope.bound(name, before=node) if name else None
    if bound is not None and bound.how in ("assign", "part") and bound.value is not node:
        found = kind(scope, bound.value, depth - 1)
        if found:
            return found
    if isinstance(node, ast.Name) and node.id in scope.given:
        caller, expression = scope.given[node.id]
        return kind(caller, expression, depth - 1)
    last = name.rpartition(".")[2].lower()
    if re.search(r"sched", last):
        return "scheduler"
    if re.search(r"scaler", last) and "scale" in {name_of(c.func) for c in scope.calls("scale")}:
        return "scaler"
    return "optimizer" if re.match(r"opt(im(izer)?)?(_\w+|\d*)$|optimizer\w*$", last) else ""


def _of_call(scope: Scope, call: ast.Call, depth: int) -> str:
    called = name_of(call.func)
    target = scope.value(call.func)
    if isinstance(target, type):
        if issubclass(target, nn.Module):
            is_loss = issubclass(target, nn.modules.loss._Loss) or target.__name__.endswith("Loss")
            return "criterion" if is_loss else "model"
        if issubclass(target, Optimizer):
            return "optimizer"
        if issubclass(target, DataLoader):
            return "loader"
    if _OPTIMIZER.match(called):
        return "optimizer"
    if _SCHEDULER.search(called) and called[:1].isupper():
        return "scheduler"
    if called in ("DataLoader", "GradScaler", "Sequential"):
        return {"DataLoader": "loader", "GradScaler": "scaler", "Sequential": "model"}[called]
    if (
        called == "scale"
        and isinstance(call.func, ast.Attribute)
        and kind(scope, call.func.value, depth - 1) == "scaler"
    ):
        return "loss"
    if called in LOSSES:
        return "loss"
    if called == "item":
        return "number"
    whose = kind(scope, call.func, depth - 1)
    if whose == "criterion":
        return "loss"
    if whose == "model":
        return "output"
    if isinstance(call.func, ast.Attribute):
        if called in _KEEPS:
            return kind(scope, call.func.value, depth - 1)
        if called in ("mean", "sum"):
            return "loss" if kind(scope, call.func.value, depth - 1) == "loss" else ""
    return ""


def direction(name: str) -> int:
    """Return -1 for the name of something that is to fall (a loss), 1 for one that is to rise, 0 for any other."""
    last = name.rpartition(".")[2].lower()
    falls, rises = bool(_FALLING.search(last)), bool(_RISING.search(last))
    return 0 if falls == rises else -1 if falls else 1


def is_raw(scope: Scope, node: ast.AST | None) -> bool:
    """Return whether an expression is what a model gave, at most reshaped: no activation stands between."""
    return kind(scope, node) == "output"


def is_missing(value: Any) -> bool:
    """Return whether nothing is known of a value."""
    return value is MISSING
