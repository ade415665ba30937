"""One training step under the tracker: forward, loss, backward, optimizer step; and what it allocates."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from nbops.debugging.memory.faking import Optimizers, fake_batch, fake_model, faking
from nbops.debugging.memory.trace import (
    BACKWARD,
    BATCH,
    BUFFERS,
    FORWARD,
    GRADIENTS,
    PARAMETERS,
    STATE,
    STEP,
    Peak,
    Trace,
    peak_of,
)
from nbops.debugging.memory.tracker import StorageTracker, bytes_of, tensors_in

Forward = Callable[[nn.Module, Any], Tensor]


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes
    ----------
    model : nn.Module
        The user's, with data; it is copied.
    batch : nested tensors
    size : int
        Of the batch that was given.
    forward : callable
        Returns the loss of a model and a batch.
    optimizer : callable
        Returns the optimizer of a copy of the model.
    device : str
        Whose habits count: ``"cpu"`` or ``"cuda"``.
    autocast, dtype : torch.dtype, optional
        Precision of operations, and of parameters.
    change : callable, optional
        Changes the copy before it runs: checkpointing.
    keeps_output : bool
        Whether the output of a step lives until the next one has made its own, as a loop's variable does.
    """

    model: nn.Module
    batch: Any
    size: int
    forward: Forward
    optimizer: Optimizers | None
    device: str
    autocast: torch.dtype | None = None
    dtype: torch.dtype | None = None
    change: Callable[[nn.Module], None] | None = None
    keeps_output: bool = True


@dataclass(frozen=True)
class Taken:
    """What one step takes.

    Attributes
    ----------
    trace : Trace
    start : int
        Index of the event with which the step begins that counts: the optimizer has its state by then.
    peak : Peak
    parameters, trainable : int, counts
    state_bytes : int
    """

    trace: Trace
    start: int
    peak: Peak
    parameters: int
    trainable: int
    state_bytes: int


def run_fake(plan: Plan, *, size: int | None = None) -> Taken:
    """Return what a step takes with a batch of `size`, without allocating it."""
    with faking():
        model = fake_model(plan.model, dtype=plan.dtype)
        batch = fake_batch(plan.batch, size=size or plan.size, of=plan.size, dtype=plan.dtype)
        return _run(plan, model, batch)


def run_real(plan: Plan, *, size: int | None = None) -> Taken:
    """Return what a step takes, run with data on the CPU: for code that looks at values."""
    wanted = size or plan.size
    model = copy.deepcopy(plan.model).cpu()
    if plan.dtype is not None:
        model = model.to(plan.dtype)
    state = torch.get_rng_state()
    try:
        return _run(plan, model, _resized(plan.batch, wanted, of=plan.size, dtype=plan.dtype))
    finally:
        torch.set_rng_state(state)


def _resized(batch: Any, size: int, *, of: int, dtype: torch.dtype | None) -> Any:
    """Return copies of a batch's tensors with so many samples: some of them, or all several times."""

    def change(item: Any) -> Any:
        if not isinstance(item, Tensor):
            return item
        found = item.detach().cpu()
        if found.ndim and found.shape[0] == of:
            found = found[torch.arange(size) % of]
        return found.to(dtype) if dtype is not None and found.is_floating_point() else found.clone()

    return tree_map(change, batch)


def _run(plan: Plan, model: nn.Module, batch: Any) -> Taken:
    """Run one step with an optimizer that has its state already, as it has from the second step on."""
    model.train()
    if plan.change is not None:
        plan.change(model)
    optimizer = plan.optimizer(model) if plan.optimizer is not None else None
    tracker = StorageTracker(model, device=plan.device)
    tracker.note(model.parameters(), sort=PARAMETERS)
    tracker.note(model.buffers(), sort=BUFFERS)
    tracker.note(tensors_in(batch), sort=BATCH)
    with tracker:
        if optimizer is not None:
            _make_state(optimizer, tracker)
        start = len(tracker.trace.events)
        if _step(plan, model, batch, optimizer, tracker):
            start = len(tracker.trace.events)
            _step(plan, model, batch, optimizer, tracker)
    state = bytes_of(tensors_in(list(optimizer.state.values()))) if optimizer is not None else 0
    counts = [p.numel() for p in model.parameters()]
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Taken(tracker.trace, start, peak_of(tracker.trace, since=start), sum(counts), trainable, state)


def _make_state(optimizer: torch.optim.Optimizer, tracker: StorageTracker) -> None:
    tracker.phase = STEP
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    tracker.note(tensors_in(list(optimizer.state.values())), sort=STATE)
    optimizer.zero_grad(set_to_none=True)


def _step(
    plan: Plan, model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer | None, tracker: StorageTracker
) -> bool:
    """Take a step; return whether some state was dropped, of parameters that the loss does not reach."""
    start, tracker.phase = len(tracker.trace.events), FORWARD
    outputs: list[int] = []
    hook = model.register_forward_hook(lambda _, args, found: outputs.append(bytes_of(tensors_in(found))))
    with torch.autocast("cpu", dtype=plan.autocast) if plan.autocast is not None else nullcontext():
        loss = plan.forward(model, batch)
    hook.remove()
    if outputs and plan.keeps_output:  # the step before left it to this one
        tracker.trace.insert(outputs[-1], phase=FORWARD, between=(start, len(tracker.trace.events)))
    tracker.phase = BACKWARD
    loss.backward()  # type: ignore[no-untyped-call]
    tracker.note((p.grad for p in model.parameters() if p.grad is not None), sort=GRADIENTS)
    if optimizer is None:
        return False
    tracker.phase = STEP
    optimizer.step()
    unused = [p for group in optimizer.param_groups for p in group["params"] if p.grad is None and p in optimizer.state]
    for parameter in unused:
        del optimizer.state[parameter]
    optimizer.zero_grad(set_to_none=True)
    return bool(unused)


def with_change(plan: Plan, **changes: Any) -> Plan:
    """Return a plan that differs in some fields."""
    return replace(plan, **changes)
