"""Where a non-finite value was made: in the weights, the batch, a layer, between layers, or behind them.

Runs once, after something was found: the bad call is run forward again without gradients,
with hooks of its own; random state and buffers are put back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nbops.debugging.batch import Call
from nbops.debugging.signals.batches import LossCall
from nbops.debugging.signals.repeating import restored
from nbops.debugging.tensors import dense, floating, is_finite, named_layers, unwrap
from nbops.debugging.views import Origin


@dataclass(slots=True)
class _Visit:
    layer: str
    kind: str
    is_input_finite: bool
    is_output_finite: bool
    counts: tuple[int, int] = (0, 0)  # NaN and infinities of its output


def locate(
    model: nn.Module, call: Call | None, *, bad_layers: Sequence[str], good_layers: Sequence[str], order: dict[str, int]
) -> Origin:
    """Return where the first non-finite value was made.

    Parameters
    ----------
    model : nn.Module
        The watched model, with the weights that the bad step used.
    call : Call or None
        Arguments of the bad forward call; None if it is not known.
    bad_layers, good_layers : sequence of str
        Layers whose gradients are non-finite, and finite.
    order : dict
        Layer to its position in the forward pass.
    """
    inner = unwrap(model)
    found = _in_weights(inner, order)
    if found is not None:
        return found
    visits: list[_Visit] = []
    is_output_finite: bool | None = None
    if call is not None:
        bad_inputs = [t for t in floating((call.args, call.kwargs)) if not is_finite(t)]
        visits, is_output_finite = _run_again(inner, call)
        if bad_inputs:
            first = visits[0].layer if visits else next(iter(order), "input")
            nan, inf = _counts(bad_inputs)
            values = "1 non-finite value" if nan + inf == 1 else f"{nan + inf} non-finite values"
            detail = f"the batch already holds {values} when it reaches layer '{first}'"
            return Origin(first, "input", detail, 0.98, nan, inf)
    found = _in_forward(visits, is_output_finite)
    return found or _in_backward(is_output_finite is True, bad_layers, good_layers, order)


def bad_target(call: LossCall | None) -> Origin | None:
    """Return the batch as the origin, if the target that a loss was given holds non-finite values."""
    if call is None or not call.target.is_floating_point() or is_finite(call.target):
        return None
    nan, inf = _counts([call.target])
    return Origin("batch", "input", f"the targets hold {nan + inf} non-finite values", 0.98, nan, inf)


def _counts(tensors: Sequence[Tensor]) -> tuple[int, int]:
    """Return how many values are NaN and how many infinite."""
    found = [torch.stack([torch.isnan(dense(t)).sum(), torch.isinf(dense(t)).sum()]).tolist() for t in tensors]
    return sum(nan for nan, _ in found), sum(inf for _, inf in found)


def _in_weights(model: nn.Module, order: dict[str, int]) -> Origin | None:
    bad = []
    for layer, module in named_layers(model):
        for name, p in module._parameters.items():
            if p is not None and not is_finite(p):
                bad.append((order.get(layer, len(order)), layer, name, _counts([p.detach()]), p.numel()))
    if not bad:
        return None
    _, layer, name, (nan, inf), size = min(bad, key=lambda entry: entry[0])
    detail = f"'{layer}.{name}' holds non-finite values already ({nan + inf} of {size})"
    return Origin(layer, "weights", detail, 0.98, nan, inf)


def _in_forward(visits: Sequence[_Visit], is_output_finite: bool | None) -> Origin | None:
    for index, visit in enumerate(visits):
        if not visit.is_input_finite:
            before = f"after '{visits[index - 1].layer}' and " if index else ""
            detail = f"made {before}before layer '{visit.layer}', between layers"
            return Origin(visit.layer, "between", detail, 0.85)
        if not visit.is_output_finite:
            detail = f"first in the output of layer '{visit.layer}' ({visit.kind}), whose input is finite"
            return Origin(visit.layer, "output", detail, 0.95, *visit.counts)
    if visits and is_output_finite is False:
        last = visits[-1].layer
        return Origin(last, "between", f"made after the last layer '{last}', in forward()", 0.85)
    return None


def _in_backward(
    is_forward_finite: bool, bad_layers: Sequence[str], good_layers: Sequence[str], order: dict[str, int]
) -> Origin:
    by_position = sorted(bad_layers, key=lambda layer: order.get(layer, -1))
    if by_position and good_layers:
        layer = by_position[-1]  # gradients flow from the last layer to the first
        return Origin(layer, "gradient", f"first in the gradient of layer '{layer}'", 0.85)
    if is_forward_finite:
        detail = "the model's output is finite, so it was made in the loss or in its backward pass"
        return Origin("loss", "loss", detail, 0.8)
    if by_position:
        detail = f"in every gradient, so at or behind the last layer '{by_position[-1]}'"
        return Origin(by_position[-1], "unknown", detail, 0.5)
    return Origin("loss", "loss", "the gradients are finite, so only the loss is concerned", 0.6)


def _run_again(model: nn.Module, call: Call) -> tuple[list[_Visit], bool | None]:
    """Return the visited layers in order and whether the output was finite, None when it cannot be run again."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return [], None  # one rank alone would wait for the others for ever
    visits: list[_Visit] = []

    def hook_of(name: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            inputs = all(is_finite(t) for t in floating((args, kwargs)))
            bad = [t for t in floating(output) if not is_finite(t)]
            visits.append(_Visit(name, type(module).__name__, inputs, not bad, _counts(bad)))

        return hook

    handles = [m.register_forward_hook(hook_of(name), with_kwargs=True) for name, m in named_layers(model)]
    device, is_autocast, dtype = call.autocast
    try:
        with restored(model), torch.no_grad(), torch.autocast(device, enabled=is_autocast, dtype=dtype):
            output = model(*call.args, **call.kwargs)
        return visits, all(is_finite(t) for t in floating(output))
    except Exception:  # a forward that cannot be run twice, for a reason of its own: what was visited still counts
        return visits, None
    finally:
        for handle in handles:
            handle.remove()
