"""Checks of settings against the table of what is legal: layers, losses, optimizers, schedulers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nbops.core.records import Cause
from nbops.debugging.places import Place
from nbops.debugging.preflight.found import Found, check
from nbops.debugging.preflight.limits import LAYERS, LOSSES, OPTIMIZERS, SCHEDULES, Broken, broken, numbers
from nbops.debugging.preflight.mending import line_patch
from nbops.debugging.preflight.subject import Subject
from nbops.debugging.preflight.twins import is_lazy


def _found(hit: Broken, layer: str, kind: str, place: Place | None, *, blocks: bool) -> Found:
    name, value = hit.limit.name, _shown(hit.value)
    fix = hit.limit.fix or f"Set {name} to {hit.limit.expected}."
    measured = numbers(hit.value)
    return Found(
        layer, hit.limit.status, f"{name} of {kind} is {value}", f"It must be {hit.limit.expected}.", fix,
        0.98 if hit.limit.status == "error" else 0.8, measured=measured[0] if measured else None, place=place,
        expected=f"{name} {hit.limit.expected}", got=f"{name}={value}", blocks=blocks and hit.limit.status == "error",
        causes=(Cause(text=f"{name}={value} is not {hit.limit.expected}", fix=fix, example=f"{kind}(…, {name}=…)",
                      confidence=0.9, name=_cause_of(name, measured[0] if measured else None)),),
    )  # fmt: skip


def _cause_of(setting: str, value: float | None) -> str:
    """Return the cause that an illegal setting of an optimizer, or of a layer, comes to."""
    if setting == "lr":
        return "lr-too-high" if value is not None and value > 1e-3 else "lr-too-low"
    known = {"momentum": "momentum-too-high", "betas": "momentum-too-high", "eps": "eps-wrong",
             "weight_decay": "weight-decay-too-high", "p": "too-much-regularisation"}  # fmt: skip
    return known.get(setting, "wrong-call")


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"tensor {[round(n, 4) for n in numbers(value)[:6]]}"
    if isinstance(value, tuple) and len(set(value)) == 1:
        return str(value[0])
    return f"{value:g}" if isinstance(value, float) else repr(value)


@check("illegal-layer-setting", stage="settings")
def illegal_layer_setting(subject: Subject) -> Iterator[Found]:
    """Find layers with settings that cannot work.

    What it measures
        Each layer's settings against a table: kernels, strides, dilations and paddings of convolutions and pools,
        groups that divide the channels, heads that divide the width, dropout shares, padding indices, momentum and eps
        of normalisation, bounds of activations.
    Why it matters
        torch accepts many of them when the layer is made and fails later, or computes something that nobody meant.
    When it is wrong
        Settings that are legal but never useful are warnings: a dropout of 1, a momentum of 0.
    Fix
        The range that is shown.
    References
        Refty (ICSE 2022): 2.8 % of failed jobs misuse an API.
    """
    for path, module in subject.model.named_modules():
        if any(is_lazy(p) for p in module._parameters.values() if p is not None):
            continue
        for hit in broken(type(module), vars(module), LAYERS):
            kind = type(module).__name__
            yield _found(hit, subject.called(path), kind, subject.place_of(path), blocks=True)


@check("illegal-loss-setting", stage="settings")
def illegal_loss_setting(subject: Subject) -> Iterator[Found]:
    """Find losses with settings that cannot work.

    What it measures
        Whether the loss is a class and no object; label smoothing, class weights (their number is checked against the
        output in a later stage), margins, exponents, the kind of reduction.
    Why it matters
        The loss fails, or its value says nothing.
    When it is wrong
        Not known.
    Fix
        The range that is shown.
    References
        The parameter sections of torch's losses.
    """
    if isinstance(subject.loss, type):
        name = subject.loss.__name__
        yield Found(
            "loss", "error", f"the loss is the class {name}, not an object of it",
            "Calling the class makes a loss module; it computes nothing.", f"Write {name}().", 0.97, blocks=True,
            place=subject.definitions.of_variable(subject.loss), expected=f"{name}()", got=name,
            causes=(Cause(text="the brackets are missing", fix=f"Write {name}().", example=f"criterion = nn.{name}()",
                          confidence=0.95, name="wrong-call"),),
        )  # fmt: skip
    if isinstance(subject.loss, nn.Module):
        for module in subject.loss.modules():
            settings = {**vars(module), **{n: b for n, b in module._buffers.items() if b is not None}}
            for hit in broken(type(module), settings, LOSSES):
                place = subject.definitions.of_variable(subject.loss)
                yield _found(hit, "loss", type(module).__name__, place, blocks=False)


@check("illegal-optimizer-setting", stage="settings")
def illegal_optimizer_setting(subject: Subject) -> Iterator[Found]:
    """Find optimizers with settings that cannot work, or that nobody means.

    What it measures
        Learning rate (type, sign, zero without a warm-up, absurd sizes for the kind of optimizer), momentum, betas,
        weight decay, eps, and what a kind needs besides, in each group; maximisation of a loss that is to fall;
        sparse gradients under an optimizer that cannot take them.
    Why it matters
        Nothing is learned, or the first steps destroy the weights.
    When it is wrong
        Rates outside of the usual are warnings.
    Fix
        The range that is shown.
    References
        UMLAUT (CHI 2021): learning rates above 0.01 or below 1e-7; SageMaker Debugger.
    """
    for optimizer in subject.optimizers:
        place = subject.definitions.of_variable(optimizer)
        kind = type(optimizer).__name__
        told: set[str] = set()
        for group in optimizer.param_groups:
            for hit in broken(type(optimizer), group, OPTIMIZERS):
                if hit.limit.name not in told:
                    told.add(hit.limit.name)
                    yield _found(hit, "optimizer", kind, place, blocks=False)
        if any(group.get("maximize") for group in optimizer.param_groups) and isinstance(subject.loss, nn.Module):
            yield Found(
                "optimizer", "warning", f"{kind} maximises the loss",
                f"{type(subject.loss).__name__} is to become small.",
                "Leave maximize out.", 0.9, place=place, expected="maximize=False", got="maximize=True",
                causes=(Cause(text="maximize=True", fix="Leave it out.", example="maximize=False", confidence=0.9,
                              name="loss-sign", patch=_minimised(place)),),
            )  # fmt: skip
        yield from _sparse(subject, optimizer, place)


def _minimised(place: Place | None) -> str:
    return line_patch(place, place.code.replace("maximize=True", "maximize=False")) if place is not None else ""


def _sparse(subject: Subject, optimizer: torch.optim.Optimizer, place: Place | None) -> Iterator[Found]:
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    takes = isinstance(optimizer, torch.optim.SGD | torch.optim.SparseAdam | torch.optim.Adagrad)
    for path, module in subject.model.named_modules():
        is_sparse = isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.sparse
        if is_sparse and id(module.weight) in held and not takes:
            yield Found(
                path, "error", f"'{path}' gives sparse gradients, which {type(optimizer).__name__} does not take",
                "optimizer.step() raises.", "Use SparseAdam or SGD for it, or sparse=False.", 0.98,
                place=subject.place_of(path), expected="sparse=False, or an optimizer for sparse gradients",
                got="sparse=True",
                causes=(Cause(text="sparse=True", fix="Leave sparse out.", example="sparse=False", confidence=0.8,
                    name="sparse-gradient-unsupported"),),
            )  # fmt: skip
    if isinstance(optimizer, torch.optim.SparseAdam):
        sparse = {
            id(m.weight) for m in subject.model.modules()
            if isinstance(m, nn.Embedding | nn.EmbeddingBag) and m.sparse
        }  # fmt: skip
        dense = [name for name, p in subject.trainable.items() if id(p) in held and id(p) not in sparse]
        if dense:
            yield Found(
                "optimizer", "error", f"SparseAdam holds '{dense[0]}', whose gradient is dense",
                "optimizer.step() raises.",
                "Use Adam for it.", 0.95, place=place, expected="sparse gradients only",
                got=f"{len(dense)} dense parameters",
                causes=(Cause(text="SparseAdam is for sparse embeddings", fix="Use Adam.",
                              example="torch.optim.Adam(model.parameters())", confidence=0.9,
                                  name="sparse-gradient-unsupported"),),
            )  # fmt: skip


@check("illegal-schedule", stage="settings")
def illegal_schedule(subject: Subject) -> Iterator[Found]:
    """Find schedulers with settings that cannot work, or of another optimizer.

    What it measures
        Periods, factors and bounds; whether milestones rise; whether the scheduler holds the optimizer that was given.
    Why it matters
        The learning rate does not go where it should.
    When it is wrong
        Not known.
    Fix
        The range that is shown.
    References
        The parameter sections of torch's schedulers.
    """
    for scheduler in subject.schedulers:
        place = subject.definitions.of_variable(scheduler)
        settings: Mapping[str, Any] = vars(scheduler)
        for hit in broken(type(scheduler), settings, SCHEDULES):
            yield _found(hit, "scheduler", type(scheduler).__name__, place, blocks=False)
        owner = getattr(scheduler, "optimizer", None)
        if subject.optimizers and owner is not None and all(owner is not o for o in subject.optimizers):
            yield Found(
                "scheduler", "error", f"{type(scheduler).__name__} changes the rate of another optimizer",
                "The learning rate of this one stays as it is.", "Build the scheduler from this optimizer.", 0.95,
                place=place, expected="this optimizer", got="another one",
                causes=(Cause(text="the optimizer was built again after the scheduler",
                              fix="Build the scheduler again.",
                              example=f"{type(scheduler).__name__}(optimizer, …)", confidence=0.9,
                                  name="scheduler-of-another-optimizer"),),
            )  # fmt: skip
