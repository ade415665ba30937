"""The check of whether samples of a batch influence each other, and where their axis was mistaken for another."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nbops.core.records import Cause
from nbops.debugging.places import Place
from nbops.debugging.preflight.dependencies import is_tokens, next_token_axis
from nbops.debugging.preflight.found import Found, check
from nbops.debugging.preflight.mending import line_patch
from nbops.debugging.preflight.observing import Event
from nbops.debugging.preflight.probing import Call, Prober, differs, prober_of
from nbops.debugging.preflight.subject import Subject
from nbops.debugging.specs import listed, shape_of, tensors_in

_SEQUENTIAL = (nn.RNNBase, nn.MultiheadAttention)


@check("samples-mixed", stage="dependencies")
def samples_mixed(subject: Subject) -> Iterator[Found]:
    """Find models in which one sample of a batch changes the output of another.

    What it measures
        In evaluation mode, with one sample replaced: whether the outputs of the others change, and do not simply go
        with their samples when these change places, as they do where batch statistics are used on purpose.
    Why it matters
        An answer depends on which samples happen to stand beside it; what belongs to one sample is torn apart.
    When it is wrong
        Not for graphs, scores between samples and time-first batches, which are left out.
    Fix
        ``batch_first=True``; ``transpose`` where ``view`` is written; the first axis kept in each ``reshape``.
    References
        Karpathy, A recipe for training neural networks (2019): use backprop to chart dependencies.
    """
    if not _is_by_sample(subject):
        return
    prober = prober_of(subject)
    if prober is None or prober.base is None or prober.samples < 2:
        return
    changes = _with_another_first(subject, prober)
    outputs = prober.outputs(changes) if changes else None
    if outputs is None or not _are_by_sample(subject, prober.base, prober.samples):
        return
    by_sample = [(a, b) for a, b in zip(prober.base, outputs, strict=True) if a.ndim]
    if not any(differs(a[1:], b[1:]) for a, b in by_sample):
        return

    def others(output: Tensor) -> Tensor | None:
        return output[1:] if output.ndim and output.shape[0] == prober.samples else None

    path, calls = prober.first_changed(changes, others)
    swapped = next((call for call in calls if _is_swapped(call, prober.samples)), None)
    if swapped is not None:
        yield _axes_swapped(subject, swapped, prober.samples)
    elif not _goes_with_samples(prober):
        yield _mixed(subject, path)


def _is_by_sample(subject: Subject) -> bool:
    """Return whether the first axis of the batch is that of its samples, and inputs are such that it may be lost."""
    size, targets = subject.batch_size, {id(t) for _, t in subject.targets}
    if not subject.is_sliceable or size < 2 or any(t.shape[:1] != (size,) for _, t in subject.targets):
        return False
    inputs = [t for _, t in subject.inputs if id(t) not in targets or len(subject.inputs) == 1]
    if any(_is_graph(t, size, alone=len(inputs) == 1) for t in inputs) or _has_batch_statistics(subject, size):
        return False
    has_sequences = any(isinstance(m, _SEQUENTIAL) for m in subject.model.modules())
    return any(_has_axes(t, flat=has_sequences) and not _may_be_time_first(subject, t) for t in inputs)


def _has_axes(tensor: Tensor, *, flat: bool) -> bool:
    return is_tokens(tensor) or tensor.ndim >= 3 or (flat and tensor.ndim == 2)


def _is_graph(tensor: Tensor, size: int, *, alone: bool) -> bool:
    return tensor.layout is not torch.strided or (not alone and shape_of(tensor)[-2:] == (size, size))


def _has_batch_statistics(subject: Subject, size: int) -> bool:
    """Return whether layers use statistics of the batch, or the model holds a matrix over the samples."""
    norms = (m for m in subject.model.modules() if isinstance(m, _BatchNorm))
    if any(norm.running_mean is None for norm in norms):
        return True
    return any(shape_of(b) == (size, size) for b in subject.model.buffers())


def _may_be_time_first(subject: Subject, tensor: Tensor) -> bool:
    """Return whether an input with a target for each step may begin with the axis of time."""
    target = next((t for _, t in subject.targets), None)
    if target is None or target.ndim < 2 or tensor.ndim > 3 or target.shape[:2] != tensor.shape[:2]:
        return False
    if tensor.ndim == 2 and not is_tokens(tensor):
        return False
    return not (is_tokens(tensor) and is_tokens(target) and next_token_axis(tensor, target) == 1)


def _with_another_first(subject: Subject, prober: Prober) -> dict[int, Tensor]:
    """Return the inputs with the first sample replaced by one that is not among the others, if there is one."""
    targets = {id(t) for _, t in subject.targets}
    changes: dict[int, Tensor] = {}
    for i, ((_, whole), few) in enumerate(zip(subject.inputs, prober.inputs, strict=True)):
        if id(whole) in targets and len(subject.inputs) > 1:
            continue
        changes[i] = few.detach().clone()
        changes[i][0] = whole[-1].detach().to(few.device)
    is_other = any(not bool((prober.inputs[i][0] == new[0]).all()) for i, new in changes.items())
    return changes if is_other else {}


def _are_by_sample(subject: Subject, outputs: list[Tensor], samples: int) -> bool:
    """Return whether each output has a row for each sample, and none is a table of samples by samples."""
    table = (subject.batch_size, subject.batch_size)
    if any(shape_of(t) == table for _, t in tensors_in(subject.training.output)):
        return False
    return bool(outputs) and all(t.shape[0] == samples for t in outputs)


def _is_swapped(call: Call, samples: int) -> bool:
    """Return whether a layer that takes time first was given the samples there."""
    if not isinstance(call.module, _SEQUENTIAL) or call.module.batch_first or call.given is None:
        return False
    return call.given.ndim == 3 and call.given.shape[0] == samples and call.given.shape[1] > 1


def _goes_with_samples(prober: Prober) -> bool:
    """Return whether outputs change places as their samples do: statistics of the batch, and not a lost axis."""
    turned = prober.outputs({i: t.roll(1, 0).clone() for i, t in enumerate(prober.inputs) if t.ndim})
    if turned is None or prober.base is None:
        return True
    return not any(differs(a.roll(1, 0), b) for a, b in zip(prober.base, turned, strict=True))


def _axes_swapped(subject: Subject, call: Call, samples: int) -> Found:
    path = call.path
    above = path.rpartition(".")[0]
    if isinstance(subject.module(above), nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
        path = above
    place, kind = subject.place_of(path), type(subject.module(path)).__name__
    length = shape_of(call.given)[1] if call.given is not None else 0
    return Found(
        subject.called(path), "warning", f"'{subject.called(path)}' ({kind}) reads the samples of the batch as time",
        "It takes time first and samples second unless it is told, so a sample changes with those before it.",
        "Give it batch_first=True.", 0.9, place=place, expected=f"[{length}, N, …], or batch_first=True",
        got=f"[N, {length}, …]",
        causes=(Cause(
            name="axes-swapped", text=f"{kind} takes time as the first axis, and the batch has it as the second",
            test="replace one sample: no other output may change", fix=f"Give {kind} batch_first=True.",
            example=f"nn.{kind}(…, batch_first=True)", patch=line_patch(place, _batch_first(place, kind)),
            confidence=0.9,
        ),),
        evidence={"samples": samples},
    )  # fmt: skip


def _batch_first(place: Place | None, kind: str) -> str:
    code = place.code if place is not None else ""
    if "batch_first" in code:
        return re.sub(r"batch_first\s*=\s*\w+", "batch_first=True", code)
    changed = re.sub(rf"({kind}\([^()]*)\)", r"\1, batch_first=True)", code, count=1)
    return changed


def _mixed(subject: Subject, path: str) -> Found:
    size = subject.batch_size
    views = [e for e in subject.training.observer.events if e.kind == "batch-change"]
    views = [e for e in views if e.details["after"][0] % size] or views
    view = views[0] if views else None
    place = view.place if view is not None and view.place is not None else subject.place_of(path)
    layer = view.layer if view is not None else path
    moved = (
        ""
        if view is None
        else f": {view.name}() turns {listed(view.details['before'])} into " + listed(view.details["after"])
    )
    return Found(
        subject.called(layer), "warning", f"samples of the batch influence each other{moved}",
        "What belongs to one sample is given to another, so an answer depends on its neighbours.",
        "Keep the first axis for the samples.", 0.85, place=place, expected="outputs that depend on their own sample",
        got="others change with the first sample",
        causes=(Cause(
            name="batch-axis-mixed", text="the axis of the samples is read as another one",
            test="replace one sample: no other output may change",
            fix="Keep the samples' axis first in view() and reshape(), and move it with transpose().",
            patch="" if view is None else line_patch(view.place, _transposed(view)), confidence=0.85,
        ),),
    )  # fmt: skip


def _transposed(view: Event) -> str:
    """Return the user's line with the samples first, and then moved to where they were meant to be."""
    before, after = view.details["before"], view.details["after"]
    code = view.place.code if view.place is not None else ""
    if len(after) < 2 or after[1] != before[0]:
        return re.sub(r"\.(view|reshape)\([^)]*\)", ".flatten(1)", code)
    sizes = ", ".join(map(str, (after[0], *after[2:])))
    call = re.compile(r"(\w+)\.(view|reshape)\((?:[^()]|\([^()]*\))*\)")
    return call.sub(lambda m: f"{m[1]}.{m[2]}(len({m[1]}), {sizes}).transpose(0, 1)", code, count=1)
