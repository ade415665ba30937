"""Passes of a changed batch: what the output of a model depends on. Nothing is judged here.

A few samples go through a copy in evaluation mode, without gradients and without the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from nbops.debugging.places import Place, place_of_call
from nbops.debugging.preflight import passes
from nbops.debugging.preflight.passes import Pass, run_pass
from nbops.debugging.preflight.subject import BYTES_PER_S, REAL_BYTES, Subject
from nbops.debugging.specs import first_tensor_in, shape_of, tensors_in

SHARE = 0.3  # of the time that is left, which all probes may take together
LEAST_S = 0.5  # which they may always take: the first pass in a kernel uses the budget up by loading torch
NOTICED = 1e-4  # of the largest value; what an output changes by, where rounding is not the reason
_SAMPLES = (4, 3, 5, 2)
_PASSES = 4  # at least, of each probe


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a module in a probe: its first input, its first output, and the line that calls it."""

    path: str
    module: nn.Module
    place: Place | None
    given: Tensor | None
    gave: Tensor | None


class Prober:
    """Runs changed batches of a few samples through one copy; see `prober_of`."""

    def __init__(self, subject: Subject, *, whole: bool = False) -> None:
        self._subject = subject
        self._budget_s = _budget_s(subject)
        self._spent_s = 0.0
        axes = {int(n) for _, t in subject.inputs for n in t.shape[1:]}
        fits = [n for n in _SAMPLES if n <= subject.batch_size and n not in axes]
        self.samples = (fits or [min(4, subject.batch_size)])[0] if subject.is_sliceable else subject.batch_size
        if whole:
            self.samples = subject.batch_size
        few = subject.sliced(self.samples) if subject.is_sliceable and not whole else subject.batch
        self._twin, job = subject.shaken_job(few)
        self._job = replace(job, loss=None)
        self.inputs = [t for _, t in job.plan.tensors()]  # the copies; put back after each pass
        self.calls: list[Call] = []  # of the last pass that kept them
        self.has_failed = False

    def run(self, changes: Mapping[int, Tensor] | None = None, *, keep: bool = False) -> list[Tensor] | None:
        """Return the outputs with some inputs, by their number, replaced; None where no time is left or it fails.

        Parameters
        ----------
        keep : bool
            Whether to keep what each module gave, in `calls`: to find the place of a fault, whatever the budget.
        """
        if self._spent_s > self._budget_s and not keep:
            self._subject.notes.append("some dependencies were not looked at: a pass takes too long")
            return None
        with self._changed(changes or {}), self._kept() if keep else _nothing(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            done = run_pass(
                self._job, self._twin, backward=False, training=False, limit_s=max(LEAST_S, self._subject.left_s)
            )
        self._spent_s += done.duration_s
        if not done.is_complete:
            self.has_failed = True
            return None
        outputs = [t.detach() for _, t in tensors_in(done.output) if t.is_floating_point() and t.ndim and t.numel()]
        return outputs if outputs and all(bool(torch.isfinite(t).all()) for t in outputs) else None

    @contextmanager
    def _changed(self, changes: Mapping[int, Tensor]) -> Iterator[None]:
        before = {i: self.inputs[i].detach().clone() for i in changes}
        with torch.no_grad():
            for i, value in changes.items():
                self.inputs[i].copy_(value)
            try:
                yield
            finally:
                for i, value in before.items():
                    self.inputs[i].copy_(value)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        self.calls = []
        places: list[Place | None] = []

        def enter(*_: Any) -> None:
            places.append(place_of_call(within=passes.__file__))

        def leave(path: str) -> Callable[..., None]:
            def keep(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
                given = [t.detach().clone() for t in (first_tensor_in([args, kwargs]), first_tensor_in(output))
                         if t is not None]  # fmt: skip
                place = places.pop() if places else None
                if len(given) == 2:
                    self.calls.append(Call(path, module, place, *given))

            return keep

        handles: list[Any] = []
        for path, module in self._job.model.named_modules():
            handles.append(module.register_forward_pre_hook(enter))
            handles.append(module.register_forward_hook(leave(path), with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @cached_property
    def base(self) -> list[Tensor] | None:
        """The outputs of the unchanged samples; None if two passes differ, so that nothing can be read from others."""
        first = self.run()
        again = self.run() if first is not None else None
        if first is None or again is None or not _alike(first, again):
            return None
        return None if any(differs(a, b) for a, b in zip(first, again, strict=True)) else first

    def outputs(self, changes: Mapping[int, Tensor]) -> list[Tensor] | None:
        """Return the outputs of a changed batch where they have the shapes of `base`, else None."""
        if self.base is None:
            return None
        made = self.run(changes)
        return made if made is not None and _alike(self.base, made) else None

    def first_changed(
        self, changes: Mapping[int, Tensor], part: Callable[[Tensor], Tensor | None]
    ) -> tuple[str, list[Call]]:
        """Return the path of the first module that changes a `part` of its output, and all calls of a plain pass.

        Where what the module was given has changed already, it is the module around it.
        """
        changed = self.calls if self.run(changes, keep=True) is not None else []
        plain = self.calls if self.run(keep=True) is not None else []
        called = {call.path for call in plain}
        for one, other in zip(plain, changed, strict=False):
            if one.path != other.path or not _part_differs(one.gave, other.gave, part):
                continue
            path = one.path
            if _part_differs(one.given, other.given, part):
                path = path.rpartition(".")[0]
                while path and path not in called:
                    path = path.rpartition(".")[0]
            return path, plain
        return "", plain


def prober_of(subject: Subject) -> Prober | None:
    """Return what probes a subject; None where the forward pass fails, is not ours to change, or takes too long."""
    if subject.prober is None and _is_ready(subject):
        few = Prober(subject)
        is_refused = few.samples < subject.batch_size and few.base is None and few.has_failed
        is_quick = _PASSES * subject.forward_s(subject.batch_size) <= _budget_s(subject)
        subject.prober = Prober(subject, whole=True) if is_refused and is_quick else few  # sizes are written in forward
    return subject.prober if isinstance(subject.prober, Prober) else None


def _is_ready(subject: Subject) -> bool:
    done: Pass = subject.training
    if subject.forward is not None:
        subject.notes.append("dependencies were not looked at: forward= is called as it is")
        return False
    if done.timed_out or (done.crash is not None and done.crash.phase == "forward"):
        return False
    sizes = sum(p.numel() * p.element_size() for p in subject.parameters.values())
    if sizes > REAL_BYTES or subject.batch_size < 1:
        return False
    samples = 4 if subject.is_sliceable else subject.batch_size
    needed_s = sizes / BYTES_PER_S + _PASSES * subject.forward_s(samples)
    if needed_s > _budget_s(subject):
        subject.notes.append("dependencies were not looked at: a pass takes too long")
        return False
    return True


def _budget_s(subject: Subject) -> float:
    return max(LEAST_S, SHARE * subject.left_s)


def differs(one: Tensor, other: Tensor) -> bool:
    """Return whether two outputs of one shape differ by more than rounding."""
    return bool((one - other).abs().max() > NOTICED * one.abs().max() + 1e-30)


def _part_differs(one: Tensor | None, other: Tensor | None, part: Callable[[Tensor], Tensor | None]) -> bool:
    if one is None or other is None or one.shape != other.shape or not one.is_floating_point():
        return False
    a, b = part(one), part(other)
    return a is not None and b is not None and bool(a.numel()) and differs(a, b)


def _alike(some: list[Tensor], others: list[Tensor]) -> bool:
    return [shape_of(t) for t in some] == [shape_of(t) for t in others]


@contextmanager
def _nothing() -> Iterator[None]:
    yield
