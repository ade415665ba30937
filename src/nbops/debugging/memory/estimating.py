"""`nb.memory`: how much a training step takes, which batch fits, and what would help; nothing is allocated for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from nbops.core.errors import InvalidInput, NbopsError, did_you_mean
from nbops.debugging.batches import Loss, forward_of
from nbops.debugging.loading import one_batch
from nbops.debugging.memory.allocator import reserved_bytes
from nbops.debugging.memory.faking import batch_size_of, rebuilt
from nbops.debugging.memory.options import blocks_of, checkpointed, optimizer_named
from nbops.debugging.memory.report import CONTEXT_BYTES, Estimate, MemoryReport
from nbops.debugging.memory.running import Plan, Taken, run_fake, run_real, with_change
from nbops.debugging.memory.trace import curve
from nbops.debugging.tensors import unwrap

DEVICES = ("cuda", "cpu")
PRECISIONS = ("fp32", "bf16", "fp16", "bf16-autocast", "fp16-autocast")
_MOST = 1 << 20  # samples
_EXACT = 32  # the largest batch is looked for to one part in so many: batches are round numbers anyway
_GUESSES, _WIDER = 12, 64  # so many guesses before halving, each at most so many times the last
_SAFE = 0.97  # of a device: what no estimate sees
_TIMELINE = 240


def memory(
    model: nn.Module, batch: Any, *, loss: Loss | None = None, optimizer: Any = "adamw",
    forward: Callable[[nn.Module, Any], Any] | None = None, device: str = "cuda", device_gb: float | None = None,
    precision: str = "fp32", batch_sizes: Sequence[int] | None = None, what_if: bool = True,
    budget_s: float = 20.0,
) -> MemoryReport:  # fmt: skip
    """Estimate the memory of a training step, before it runs and without allocating it.

    Forward, loss, backward and the optimizer's step are run with tensors that have shapes and no data, and every
    allocation and release is followed. What remains unknown on CUDA is said in the report.

    Parameters
    ----------
    model : nn.Module
        On any device; it is not changed.
    batch : DataLoader, tensor, tuple, list or dict
        The loader, whose first batch is taken, or one batch: ``(inputs, targets)``, or the model's keyword arguments.
    loss : callable, optional
        ``loss(output, target)``; not needed where the model returns an object with a ``loss``.
    optimizer : Optimizer, str or callable, optional
        The one that you use; or its name (``"sgd"``, ``"momentum"``, ``"adamw"``, ``"adamw-8bit"`` …), or what makes
        one of the parameters. None: no step is taken.
    forward : callable, optional
        ``forward(model, batch)`` returns the loss, where the model is called in another way.
    device : {"cuda", "cpu"}
        Where it is to run: decides how the optimizer works and what the allocator holds.
    device_gb : float, GB (1e9 bytes), optional
        What the device has; the largest batch that fits is looked for.
    precision : {"fp32", "bf16", "fp16", "bf16-autocast", "fp16-autocast"}
        Of the weights, or of the operations under autocast.
    batch_sizes : sequence of int, optional
        Sizes to tabulate; by default half, double and four times the batch.
    what_if : bool
        Whether other optimizers, precision, checkpointing and accumulation are tried.
    budget_s : float, seconds
        The step itself is always estimated; the largest batch, other sizes and options as long as there is time.

    Returns
    -------
    MemoryReport

    Raises
    ------
    InvalidInput
        The batch holds no tensor, the step cannot run, or an option is none of those known.
    """
    plan = _plan(model, one_batch(batch), loss, optimizer, forward, device, precision)
    estimator = _Estimator(plan, budget_s)
    room = None if device_gb is None else int(device_gb * 1e9)
    first, size = estimator.first, estimator.plan.size
    largest = None if room is None else estimator.largest(room)
    table = estimator.table(batch_sizes)
    options = estimator.tried(_options(estimator.plan)) if what_if else ()
    return MemoryReport(
        type(unwrap(model)).__name__, _name_of(optimizer), device, first.parameters, first.trainable,
        estimator.of("as given", size, first), by_batch=tuple(sorted(table, key=lambda one: one.batch)),
        options=tuple(options), device_bytes=room, largest_batch=largest, timeline=_timeline(first),
        notes=tuple(estimator.notes()),
    )  # fmt: skip


def _plan(
    model: nn.Module, batch: Any, loss: Loss | None, optimizer: Any, forward: Callable[[nn.Module, Any], Any] | None,
    device: str, precision: str,
) -> Plan:  # fmt: skip
    if not isinstance(model, nn.Module):
        raise InvalidInput(f"a {type(model).__name__} is no model", hint="Pass a torch.nn.Module.")
    for word, known in ((device, DEVICES), (precision, PRECISIONS)):
        if word not in known:
            raise InvalidInput(
                f"{word!r} is none of {', '.join(known)}", hint=did_you_mean(str(word), known) or "Use one."
            )
    size = batch_size_of(batch)
    if not size:
        raise InvalidInput("the batch holds no tensor", hint="Pass one batch of your loader: next(iter(loader)).")
    foreach = True if device == "cuda" else None
    kind, _, how = precision.partition("-")
    dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[kind]
    return Plan(
        unwrap(model), batch, size, forward_of(loss, forward), _optimizers(optimizer, unwrap(model), foreach), device,
        autocast=dtype if how else None, dtype=None if how else dtype, keeps_output=forward is None,
    )  # fmt: skip


def _optimizers(optimizer: Any, model: nn.Module, foreach: bool | None) -> Any:
    if optimizer is None:
        return None
    if isinstance(optimizer, str):
        return optimizer_named(optimizer, foreach=foreach)
    if isinstance(optimizer, torch.optim.Optimizer):
        return rebuilt(optimizer, model, foreach=foreach)
    if callable(optimizer):
        return lambda copied: optimizer([p for p in copied.parameters() if p.requires_grad])
    raise InvalidInput(f"optimizer is a {type(optimizer).__name__}", hint="Pass an Optimizer, or a name like 'adamw'.")


def _name_of(optimizer: Any) -> str:
    if optimizer is None:
        return "none"
    return optimizer if isinstance(optimizer, str) else getattr(optimizer, "__name__", type(optimizer).__name__)


class _Estimator:
    """Runs conditions until time is over: without data where that works, else with data on the CPU.

    Attributes
    ----------
    plan : Plan
        What was asked for.
    first : Taken
        What it takes.
    """

    def __init__(self, plan: Plan, budget_s: float) -> None:
        self.plan, self._budget_s = plan, budget_s
        self._until = time.monotonic() + budget_s
        self._is_late = False
        self._because = ""
        self._run: Callable[..., Taken] = run_fake
        self.first = self._first()

    def _first(self) -> Taken:
        try:
            return run_fake(self.plan)
        except NbopsError:
            raise
        except Exception as error:  # whatever the user's code raises without data
            self._because = f"{type(error).__name__}: {_line(error)}"[:160]
        self._run = run_real
        try:
            return run_real(self.plan)
        except Exception as error:
            raise InvalidInput(
                f"the step cannot run: {type(error).__name__}: {_line(error)}",
                hint="Look where: nb.preflight(model, batch, loss=…, optimizer=…).",
            ) from error

    def of(self, name: str, size: int, taken: Taken) -> Estimate:
        """Return the estimate of one step that was run."""
        reserved = reserved_bytes(taken.trace) if self.plan.device == "cuda" else taken.peak.total
        return Estimate(name, size, taken.peak.total, reserved, taken.peak)

    def tried(self, conditions: Iterable[tuple[str, Plan, int]]) -> list[Estimate]:
        """Return the estimates of conditions, as long as there is time; those that cannot run are left out."""
        done = []
        for name, plan, size in conditions:
            if self.is_late():
                break
            taken = self._taken(plan, size)
            if taken is not None:
                done.append(self.of(name, size, taken))
        return done

    def table(self, batch_sizes: Sequence[int] | None) -> list[Estimate]:
        """Return the estimates of several batch sizes: by default half, double and four times the one given."""
        size = self.plan.size
        sizes = batch_sizes if batch_sizes is not None else [n for n in (size // 2, 2 * size, 4 * size) if n]
        found = self.tried((f"batch {n}", self.plan, n) for n in sizes if n != size)
        return [*found, self.of(f"batch {size}", size, self.first)]

    def is_late(self) -> bool:
        """Return whether time is over."""
        self._is_late = self._is_late or time.monotonic() > self._until
        return self._is_late

    def largest(self, room: int) -> int:
        """Return the largest batch that fits into `room`, bytes, to 3 %; 0 if a single sample does not.

        What a step takes grows almost evenly with its batch: each guess lies on the line through the two before it.
        """
        limit = int(room * _SAFE) - (CONTEXT_BYTES if self.plan.device == "cuda" else 0)

        def needed(size: int) -> int:
            taken = self._taken(self.plan, size)
            return limit + 1 if taken is None else self.of("", size, taken).reserved

        low, high, tried = 0, 0, 0
        size, last = self.plan.size, (0, 0)
        while not self.is_late():
            here = (size, needed(size))
            low, high = (size, high) if here[1] <= limit else (low, size)
            edge = max(1, low // _EXACT)
            if low >= _MOST or (high and high - low <= edge):
                break
            tried += 1
            grows = (here[1] - last[1]) / (here[0] - last[0]) if tried < _GUESSES else 0.0
            guess = size + int((limit - here[1]) / grows) if grows > 0 else (low + high) // 2 if high else 2 * size
            size, last = max(low + edge, min(guess, high - edge if high else min(_WIDER * size, _MOST))), here
        return low

    def notes(self) -> Iterator[str]:
        """Yield what is good to know about the figures."""
        if self._because:
            yield f"Measured with real tensors on the CPU; without data the step ended in {self._because}"
        if self._is_late:
            yield f"Not everything was tried within {self._budget_s:g} s; more with budget_s=."
        if self.plan.device == "cuda":
            yield f"CUDA itself counts as {CONTEXT_BYTES >> 20} MiB; the workspaces of cuDNN and cuBLAS are not known."

    def _taken(self, plan: Plan, size: int) -> Taken | None:
        try:
            return self._run(plan, size=size)
        except Exception:  # a size or an option that this model does not take
            return None


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _options(plan: Plan) -> Iterator[tuple[str, Plan, int]]:
    foreach = True if plan.device == "cuda" else None
    for name in ("sgd", "momentum", "adamw", "adamw-8bit"):
        if plan.optimizer is not None:
            yield name, with_change(plan, optimizer=optimizer_named(name, foreach=foreach)), plan.size
    if plan.autocast is None and plan.dtype is None:
        yield "bf16 autocast", with_change(plan, autocast=torch.bfloat16), plan.size
        yield "bf16 weights", with_change(plan, dtype=torch.bfloat16), plan.size
    if blocks_of(plan.model) and plan.change is None:
        yield "checkpointed blocks", with_change(plan, change=checkpointed), plan.size
    for parts in (2, 4):
        if plan.size % parts == 0 and plan.size > parts:
            yield f"accumulate {parts} × {plan.size // parts}", plan, plan.size // parts


def _timeline(taken: Taken) -> tuple[tuple[int, str], ...]:
    """Return the curve of the last step, thinned so that every extreme stays."""
    points = list(curve(taken.trace))[taken.start :]
    stride = max(1, -(-len(points) // (_TIMELINE // 2)))
    kept: list[tuple[int, str]] = []
    for at in range(0, len(points), stride):
        some = points[at : at + stride]
        low, high = min(some), max(some)
        kept += [low, high] if some.index(low) <= some.index(high) else [high, low]
    return tuple(kept)
