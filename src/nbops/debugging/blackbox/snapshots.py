"""Copies of weights, buffers and optimizer state on the CPU, and putting them back in place."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Snapshot:
    """A model and its optimizers just before a step.

    step : optimizer steps taken before
    values : parameters and buffers by name
    states : of each optimizer, the state of each of its parameters by position
    """

    step: int
    values: dict[str, Tensor]
    states: list[list[dict[str, Any] | None]]

    @property
    def size_bytes(self) -> int:
        """Bytes of all copies."""
        return sum(t.numel() * t.element_size() for t in self.values.values()) + sum(
            v.numel() * v.element_size() for state in self.states for one in state if one
            for v in one.values() if isinstance(v, Tensor)
        )  # fmt: skip


def size_of(model: nn.Module, optimizers: Iterable[torch.optim.Optimizer] = ()) -> int:
    """Return the bytes that a snapshot would take."""
    values = sum(t.numel() * t.element_size() for t in _named(model).values())
    return values + sum(
        v.numel() * v.element_size() for optimizer in optimizers for state in optimizer.state.values()
        for v in state.values() if isinstance(v, Tensor)
    )  # fmt: skip


def take(model: nn.Module, optimizers: Iterable[torch.optim.Optimizer], step: int) -> Snapshot:
    """Return a snapshot."""
    return Snapshot(step, copied(model), [_state_of(optimizer) for optimizer in optimizers])


def copied(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of all parameters and buffers on the CPU, by name."""
    return {name: _copy(t) for name, t in _named(model).items()}


def put_back(snapshot: Snapshot, model: nn.Module, optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """Write a snapshot into the model and its optimizers, in place."""
    write(snapshot.values, model)
    for optimizer, states in zip(optimizers, snapshot.states, strict=True):
        for p, kept in zip(_parameters(optimizer), states, strict=True):
            if kept is None:
                optimizer.state.pop(p, None)
                continue
            now = optimizer.state[p]
            for key in [key for key in now if key not in kept]:
                del now[key]
            for key, value in kept.items():
                here = now.get(key)
                if isinstance(value, Tensor) and isinstance(here, Tensor) and here.shape == value.shape:
                    here.copy_(value)
                else:
                    now[key] = value.clone() if isinstance(value, Tensor) else copy.deepcopy(value)


def write(values: Mapping[str, Tensor], model: nn.Module) -> None:
    """Write values into the model's parameters and buffers, in place."""
    with torch.no_grad():
        for name, tensor in _named(model).items():
            if name in values:
                tensor.copy_(values[name])


def _named(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _state_of(optimizer: torch.optim.Optimizer) -> list[dict[str, Any] | None]:
    found: list[dict[str, Any] | None] = []
    for p in _parameters(optimizer):
        state = optimizer.state.get(p)
        if not state:
            found.append(None)
        else:
            found.append({k: _copy(v) if isinstance(v, Tensor) else copy.deepcopy(v) for k, v in state.items()})
    return found


def _copy(tensor: Tensor) -> Tensor:
    kept = tensor.detach()
    return kept.clone() if kept.device.type == "cpu" else kept.to("cpu", copy=True)
