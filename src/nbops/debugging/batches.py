"""How a model is called with a batch, and how that becomes a loss: the ways in which people write it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_iter

from nbops.core.errors import InvalidInput
from nbops.debugging.calling import MISSING
from nbops.debugging.calling import plan as plan_of

Loss = Callable[[Any, Any], Tensor]
Forward = Callable[[nn.Module, Any], Tensor]


def forward_of(loss: Loss | None, forward: Callable[[nn.Module, Any], Any] | None) -> Forward:
    """Return what makes a loss of a model and a batch, and keeps the output as a loop does until it is called again.

    Inputs, keyword arguments and the target are told apart as in `nbops.debugging.calling`. A result with a ``loss`` is
    taken at its word. Without any loss the mean of all outputs stands for it.
    """
    kept: list[Any] = [None]  # a loop's variables `output` and `loss` live until they are set again

    def run(model: nn.Module, batch: Any) -> Tensor:
        if forward is not None:
            kept[0] = found = forward(model, batch)
            return loss_in(found)
        plan = plan_of(model, batch, loss=loss)
        if plan.problem:
            raise InvalidInput(plan.problem, hint="Pass forward=, which gets the model and the batch.")
        kept[0] = output = model(*plan.args, **plan.kwargs)
        if loss is not None and plan.target is MISSING:
            raise InvalidInput("the batch has no target", hint="Pass (inputs, targets), or pass forward=.")
        if loss is not None:
            return loss_in(loss(output, plan.target))
        return loss_in(output)

    return run


def loss_in(found: Any) -> Tensor:
    """Return the scalar to go backward from: a loss, a result's ``loss``, or the mean of all floating outputs."""
    if isinstance(found, Mapping) and isinstance(found.get("loss"), Tensor):
        return _mean(found["loss"])
    inner = getattr(found, "loss", None)
    if isinstance(inner, Tensor):
        return _mean(inner)
    outputs = [item for item in tree_iter(found) if isinstance(item, Tensor) and item.is_floating_point()]
    if not outputs:
        raise InvalidInput(f"a {type(found).__name__} holds no floating tensor to go backward from",
                           hint="Pass loss=, or forward= that returns the loss.")  # fmt: skip
    total = _mean(outputs[0])
    for output in outputs[1:]:
        total = total + _mean(output)
    return total


def _mean(tensor: Tensor) -> Tensor:
    return tensor if tensor.ndim == 0 else tensor.float().mean()
