"""Gradients, weights and updates of one optimizer step, as numbers. Reads the device once per sampled step."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors

from nbops.debugging.signals.activations import Board
from nbops.debugging.signals.structure import tied_layers
from nbops.debugging.tensors import dense, named_layers, norms, pack, slice_of
from nbops.debugging.views import LayerView

_ROWS = 32
_SMALL = 1 << 14  # values: to copy them costs less than one more call


@dataclass(frozen=True, slots=True)
class Owned:
    """One parameter of the model that an optimizer holds."""

    layer: str
    name: str
    tensor: Tensor


class Layout:
    """Which parameter belongs to which layer. Holds ids, no tensors, so that a dropped model is freed."""

    def __init__(self, model: nn.Module) -> None:
        self.kinds: dict[str, str] = {}
        self.trainable: dict[str, float | None] = {}
        self._names: dict[int, tuple[str, str]] = {}
        layers = list(named_layers(model))
        self.tied = tied_layers(layers)
        self.trainable_values = 0
        for layer, module in layers:
            self.kinds[layer] = type(module).__name__
            owned = [(name, p) for name, p in module._parameters.items() if p is not None]
            values = sum(p.numel() for _, p in owned)
            free = sum(p.numel() for _, p in owned if p.requires_grad)
            self.trainable[layer] = free / values if values else None
            for name, p in owned:
                if id(p) not in self._names:  # tied: the first layer counts
                    self._names[id(p)] = (layer, name)
                    self.trainable_values += p.numel() if p.requires_grad else 0

    def owned(self, optimizer: torch.optim.Optimizer) -> list[Owned]:
        """Return the model's parameters that `optimizer` holds."""
        names = self._names
        found = [p for group in optimizer.param_groups for p in group["params"] if id(p) in names]
        return [Owned(*names[id(p)], p) for p in found]

    def sorted(self, order: dict[str, int]) -> dict[str, str]:
        """Return layer names and kinds in forward order; those that were never called come last."""
        return dict(sorted(self.kinds.items(), key=lambda item: order.get(item[0], len(order))))


def grad_norms(owned: list[Owned]) -> tuple[list[Owned], list[Tensor]]:
    """Return the parameters that have a gradient, and the norms of those gradients as device scalars."""
    have = [o for o in owned if o.tensor.grad is not None]
    return have, norms([dense(o.tensor.grad) for o in have if o.tensor.grad is not None])


class Few:
    """Norms of all gradients of one optimizer in as few calls as may be: what is known of a step that is not measured.

    The small ones are copied into one vector. Only for dense gradients of one type on the CPU, where a call costs more
    than what it computes.
    """

    def __init__(self, owned: list[Owned]) -> None:
        tensors = [o.tensor for o in owned]
        self.small = [p for p in tensors if p.numel() <= _SMALL]
        self.large = [p for p in tensors if p.numel() > _SMALL]
        self.is_possible = (
            len({p.dtype for p in tensors}) == 1 and tensors[0].dtype in (torch.float32, torch.float64)
            and all(p.device.type == "cpu" and (p.grad is None or p.grad.layout is torch.strided) for p in tensors)
        )  # fmt: skip

    def norms(self) -> list[Tensor]:
        """Return scalars; the root of the sum of their squares is the norm of all gradients."""
        small = [grad for p in self.small if (grad := p.grad) is not None]
        large = [grad for p in self.large if (grad := p.grad) is not None]
        if small:
            large.append(_flatten_dense_tensors(small))  # type: ignore[no-untyped-call]
        return list(torch._foreach_norm(large)) if large else []


class _Reading:
    """Scalars on the device, each with the layer and the field that it is for; read at once."""

    def __init__(self) -> None:
        self._scalars: list[Tensor] = []
        self._places: list[tuple[str, str]] = []

    def add(self, layer: str, **scalars: Tensor) -> None:
        for field, scalar in scalars.items():
            self._places.append((layer, field))
            self._scalars.append(scalar)

    def read(self) -> dict[str, dict[str, list[float]]]:
        """Return the values by layer and field."""
        found: dict[str, dict[str, list[float]]] = {}
        values = pack(self._scalars).tolist() if self._scalars else []
        for (layer, field), value in zip(self._places, values, strict=True):
            found.setdefault(layer, {}).setdefault(field, []).append(value)
        return found


def measure(
    model: nn.Module, layout: Layout, board: Board, have: list[Owned], grads: list[float],
    *, missing: set[str], owned: list[Owned], scale: float,
) -> dict[str, LayerView]:  # fmt: skip
    """Return the layers of one step, in forward order: gradients, weights, and what the board saw.

    Parameters
    ----------
    have, grads : list
        Parameters with a gradient, and the gradients' norms.
    missing : set of str
        Layers with a gradient that no optimizer holds.
    owned : list of Owned
        What the optimizer that steps holds.
    scale : float
        Factor of the loss that is still in the gradients.
    """
    modules = dict(named_layers(model))
    held, silent = {o.layer for o in owned}, _silent(owned)
    low = {o.layer for o in owned if o.tensor.element_size() <= 2}
    reading = _Reading()
    sizes: dict[str, int] = {}
    lengths: dict[str, list[float]] = {}
    for o, length, norm in zip(have, grads, norms([dense(o.tensor) for o in have]), strict=True):
        grad = dense(o.tensor.grad) if o.tensor.grad is not None else o.tensor
        lengths.setdefault(o.layer, []).append(length / scale)
        sizes[o.layer] = sizes.get(o.layer, 0) + o.tensor.numel()
        if o.tensor.numel() and grad.numel():
            weight = torch.aminmax(dense(o.tensor))
            slope = torch.aminmax(grad)
            reading.add(o.layer, weight_norm=norm, weight_low=weight.min, weight_high=weight.max,
                        grad_low=slope.min, grad_high=slope.max)  # fmt: skip
        if o.tensor.ndim > 1 and len(o.tensor) > 1 and not o.tensor.grad.is_sparse:  # type: ignore[union-attr]
            reading.add(o.layer, symmetric_share=_symmetric_share(grad))
    for name in [n for n in board.seen if n in modules]:
        reading.add(name, **board.scalars(name, modules[name]))
    values = reading.read()
    views: dict[str, LayerView] = {}
    for name, kind in layout.sorted(board.order).items():
        found = values.get(name, {})
        if not found and name not in missing and name not in lengths:
            continue
        fields: dict[str, Any] = _norms_of(lengths.get(name, []), found, sizes.get(name, 0), scale)
        if "symmetric_share" in found:
            fields["symmetric_share"] = max(found["symmetric_share"])
        seen = board.seen.get(name)
        if seen is not None and "activation_mean" in found:
            fields |= {field: found[field][0] for field in _ACTIVATIONS if field in found}
            board.samples[name] = board.samples.get(name, 0) + seen.samples
            fields |= {"samples": board.samples[name], "sizes": seen.sizes, "calls": seen.calls,
                       "is_training": seen.is_training}  # fmt: skip
        views[name] = LayerView(
            name, kind=kind, is_missing=name in missing, is_held=name in held,
            silent=silent.get(name, ()), is_low_precision=name in low, trainable_share=layout.trainable.get(name),
            tied_with=layout.tied.get(name, ()), **fields,
        )  # fmt: skip
    board.clear()
    return views


_ACTIVATIONS = (
    "activation_mean", "activation_rms", "activation_absmax", "zero_share", "dead_share", "constant_share",
    "saturated_share",
)  # fmt: skip


def _norms_of(grads: list[float], found: dict[str, list[float]], size: int, scale: float) -> dict[str, Any]:
    if not grads:
        return {}
    root = math.sqrt(size) if size else 1.0
    fields = {"grad_norm": math.hypot(*grads)}
    fields["grad_rms"] = fields["grad_norm"] / root
    if "weight_norm" in found:
        fields["weight_norm"] = math.hypot(*found["weight_norm"])
        fields["weight_rms"] = fields["weight_norm"] / root
        fields["weight_absmax"] = max(map(abs, [*found["weight_low"], *found["weight_high"]]))
        fields["grad_absmax"] = max(map(abs, [*found["grad_low"], *found["grad_high"]])) / scale
    return fields


def _symmetric_share(grad: Tensor) -> Tensor:
    """Return the share of rows, of 32, that equal an earlier one and are not zero."""
    some = grad[:: max(1, len(grad) // _ROWS)][:_ROWS]
    rows = some.reshape(len(some), -1)
    rows = rows[:, :: max(1, rows.shape[1] // _ROWS)]
    same = (rows[:, None] == rows[None]).all(dim=-1).tril(-1).any(dim=1)
    return (same & (rows != 0).any(dim=1)).float().mean()


def _silent(owned: list[Owned]) -> dict[str, tuple[str, ...]]:
    """Return the parameters without a gradient, by layer, of layers that have others with one."""
    having = {o.layer for o in owned if o.tensor.grad is not None}
    found: dict[str, tuple[str, ...]] = {}
    for o in owned:
        if o.layer in having and o.tensor.requires_grad and o.tensor.grad is None:
            found[o.layer] = (*found.get(o.layer, ()), o.name)
    return found


def missing_layers(model: nn.Module, covered: set[int]) -> set[str]:
    """Return layers with a trainable parameter that has a gradient other than zero and is in no optimizer."""
    found = set()
    for layer, module in named_layers(model):
        for p in module._parameters.values():
            if p is None or not p.requires_grad or p.grad is None or id(p) in covered:
                continue
            if bool(dense(p.grad).any()):
                found.add(layer)
    return found


class Around:
    """Slices of the weights from before a step, to be compared with those after it."""

    def __init__(self, have: list[Owned]) -> None:
        self._have = have
        self._before = [slice_of(o.tensor).clone() for o in have]
        self._grad_norms = norms([slice_of(o.tensor.grad) for o in have if o.tensor.grad is not None])

    def compare(self, layers: dict[str, LayerView]) -> dict[str, LayerView]:
        """Return the layers with `update_ratio`, `update_gain` and `moved` filled in."""
        if not self._have:
            return layers
        changes = [slice_of(o.tensor) - old for o, old in zip(self._have, self._before, strict=True)]
        moved = [_moved_share(change, o.tensor.grad) for change, o in zip(changes, self._have, strict=True)]
        values = pack([*norms(changes), *norms(self._before), *self._grad_norms, *moved]).tolist()
        count = len(self._have)
        found: dict[str, list[tuple[float | None, float | None, bool | None, float]]] = {}
        for i, o in enumerate(self._have):
            change, before, grad = values[i], values[count + i], values[2 * count + i]
            size = self._before[i].numel()
            ratio = gain = None
            if o.tensor.ndim > 1 and before > 1e-12 * math.sqrt(size):
                ratio = change / before
                gain = change / math.sqrt(size) * math.sqrt(o.tensor.numel() / o.tensor.shape[0])
            found.setdefault(o.layer, []).append((ratio, gain, change > 0 if grad > 0 else None, values[3 * count + i]))
        for name, parts in found.items():
            ratio, gain = max(((r, g) for r, g, _, _ in parts if r is not None), default=(None, None))
            acted = [(m, share) for _, _, m, share in parts if m is not None]
            if name in layers:
                layers[name] = replace(
                    layers[name], update_ratio=ratio, update_gain=gain,
                    moved=any(m for m, _ in acted) if acted else None,
                    moved_share=min(share for _, share in acted) if acted else None,
                )  # fmt: skip
        return layers


def _moved_share(change: Tensor, grad: Tensor | None) -> Tensor:
    """Return the share of values with a gradient that changed."""
    if grad is None or grad.is_sparse:
        return torch.ones((), device=change.device)
    has = slice_of(grad) != 0
    return ((change != 0) & has).float().sum() / has.float().sum().clamp(min=1)
