"""Gradients, weights and updates of one optimizer step, as numbers. Reads the device once per sampled step."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from nbops.debugging.probes import Board
from nbops.debugging.tensors import dense, named_layers, norms, pack, slice_of
from nbops.debugging.views import LayerView


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
        self._names: dict[int, tuple[str, str]] = {}
        for layer, module in named_layers(model):
            self.kinds[layer] = type(module).__name__
            for name, p in module._parameters.items():
                if p is not None:
                    self._names.setdefault(id(p), (layer, name))  # tied: the first layer counts

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


def measure(
    model: nn.Module, layout: Layout, board: Board, have: list[Owned], grads: list[float],
    *, missing: set[str], scale: float,
) -> dict[str, LayerView]:  # fmt: skip
    """Return the layers of one step, in forward order: gradients, weights, and what the board saw.

    Parameters
    ----------
    have, grads : list
        Parameters with a gradient, and the gradients' norms.
    missing : set of str
        Layers with a gradient that no optimizer holds.
    scale : float
        Factor of the loss that is still in the gradients.
    """
    modules = dict(named_layers(model))
    scalars: list[Tensor] = norms([dense(o.tensor) for o in have])
    seen: list[tuple[str, bool]] = []
    for name in [n for n in board.seen if n in modules]:
        dead = board.dead_share(name, modules[name])
        scalars += [*board.seen[name].numbers, *([] if dead is None else [dead])]
        seen.append((name, dead is not None))
    values = iter(pack(scalars).tolist() if scalars else [])

    views = {name: LayerView(name, kind=kind) for name, kind in layout.sorted(board.order).items()}
    squares: dict[str, list[tuple[float, float]]] = {}
    for o, grad in zip(have, grads, strict=True):
        squares.setdefault(o.layer, []).append((grad / scale, next(values)))
    for name, pairs in squares.items():
        views[name] = replace(
            views[name], grad_norm=math.hypot(*(g for g, _ in pairs)), weight_norm=math.hypot(*(w for _, w in pairs))
        )
    for name, has_dead in seen:
        mean, rms, zeros = next(values), next(values), next(values)
        board.samples[name] = board.samples.get(name, 0) + board.seen[name].samples
        views[name] = replace(
            views[name], activation_mean=mean, activation_rms=rms, zero_share=zeros,
            dead_share=next(values) if has_dead else None, samples=board.samples[name],
        )  # fmt: skip
    board.seen.clear()
    for name in missing & views.keys():
        views[name] = replace(views[name], is_missing=True)
    used = {*squares, *missing, *(name for name, _ in seen)}
    return {name: view for name, view in views.items() if name in used}


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
        values = pack([*norms(changes), *norms(self._before), *self._grad_norms]).tolist()
        count = len(self._have)
        found: dict[str, list[tuple[float | None, float | None, bool | None]]] = {}
        for i, o in enumerate(self._have):
            change, before, grad = values[i], values[count + i], values[2 * count + i]
            size = self._before[i].numel()
            ratio = gain = None
            if o.tensor.ndim > 1 and before > 1e-12 * math.sqrt(size):
                ratio = change / before
                gain = change / math.sqrt(size) * math.sqrt(o.tensor.numel() / o.tensor.shape[0])
            found.setdefault(o.layer, []).append((ratio, gain, change > 0 if grad > 0 else None))
        for name, parts in found.items():
            ratio, gain = max(((r, g) for r, g, _ in parts if r is not None), default=(None, None))
            moved = [m for _, _, m in parts if m is not None]
            layers[name] = replace(
                layers[name], update_ratio=ratio, update_gain=gain, moved=any(moved) if moved else None
            )
        return layers
