"""`nb.preflight`: the stages in order, each check in its stage, fail-fast, within a budget of time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from types import FrameType
from typing import Any

import torch
from torch import nn

from nbops.core.errors import InvalidInput, NbopsError
from nbops.core.records import Diagnosis
from nbops.debugging.definitions import Definitions, scopes_of_caller
from nbops.debugging.findings import store
from nbops.debugging.loading import last_of, one_batch
from nbops.debugging.places import Place, place_of_call
from nbops.debugging.preflight.arranging import arrangement
from nbops.debugging.preflight.batches import loading_error
from nbops.debugging.preflight.building import Built, build
from nbops.debugging.preflight.finishing import finished_findings
from nbops.debugging.preflight.found import STAGES, Found, checks, diagnosis_of, stage_of
from nbops.debugging.preflight.report import PreflightReport, Stage, in_order
from nbops.debugging.preflight.subject import Subject
from nbops.debugging.randomness import untouched_randomness
from nbops.debugging.reading import running as reading
from nbops.debugging.specs import spec
from nbops.debugging.tensors import unwrap
from nbops.store.context import current_run

Many = Any  # one of a kind, or several in a list


def preflight(
    model: nn.Module | Callable[[], nn.Module], batch: Any, *, loss: Callable[..., Any] | None = None,
    optimizer: Many = None, forward: Callable[[nn.Module, Any], Any] | None = None, scheduler: Many = None,
    last_batch: Any = None, overfit: bool = False, budget_s: float = 3.0,
) -> PreflightReport:  # fmt: skip
    """Look at a model, a batch, a loss and an optimizer before the first training step, and say what is wrong.

    Everything runs on copies, most of it on tensors without values: nothing of yours changes.

    Parameters
    ----------
    model : nn.Module or callable
        The model; or a function without arguments that makes it: then errors of its constructor are found too.
    batch : object
        One batch as the loop gets it: ``(inputs, target)``, a mapping, a tensor; or a loader, whose first is taken.
    loss : callable, optional
        A loss module, or a function of output and target. Leave it out for models that return their loss.
    optimizer : Optimizer, iterable of them, or callable, optional
        A function is called with the model's parameters.
    forward : callable, optional
        ``forward(model, batch)`` for models that are called in another way; it returns the output, or the loss.
    scheduler : LRScheduler or iterable of them, optional
        Its settings are looked at.
    last_batch : object or int, optional
        The last batch of an epoch, or how many samples it has. Without it a smaller one is made of `batch`.
    overfit : bool
        Whether to train a copy on this one batch for some seconds: a loss that does not fall says that it cannot learn.
    budget_s : float, seconds
        How long it may take, without `overfit`; what no time is left for is skipped and said to be.

    Returns
    -------
    PreflightReport
        ``is_ok``, ``findings``, ``stages``, ``raise_if_bad()``.

    Raises
    ------
    InvalidInput
        Not a module, a loss or a forward that cannot be called, not an optimizer, a budget that is no positive number.
    """
    began = time.perf_counter()
    _require(model, loss, forward, budget_s)
    scopes, call, frame = scopes_of_caller(), place_of_call(), sys._getframe(1)
    built = build(model, optimizer)
    if built.model is None:
        refused = [("constructor-error", one) for one in built.found]
        return _report(getattr(model, "__name__", "model"), refused, [Stage("structure", "fail")], began, 0, batch)
    inner = unwrap(built.model)
    first, problem = _loaded(batch)
    if problem is not None:
        refused = [("loading-error", problem)]
        return _report(type(inner).__name__, refused, [Stage("batch", "fail")], began, 0, batch)
    definitions = Definitions(inner, scopes)
    last, is_known = last_of(batch, first, definitions.variables()) if last_batch is None else (last_batch, True)
    subject = Subject(
        inner, first, loss=unwrap_loss(loss), optimizers=built.optimizers, schedulers=_listed(scheduler),
        forward=forward, last_batch=last, definitions=definitions, deadline=began + budget_s, is_last_known=is_known,
        overfits=overfit, arrange=arrangement(inner, loss, scopes),
    )  # fmt: skip
    return _inspected(subject, built, call, began, frame)


def _inspected(
    subject: Subject, built: Built, call: Place | None, began: float, frame: FrameType
) -> PreflightReport:  # fmt: skip
    told = reading.findings(
        frame, model=subject.model, loss=subject.loss, optimizers=subject.optimizers, batch=subject.batch
    )
    try:
        with untouched_randomness():  # repairs are made of new layers
            found, stages = run_stages(subject)
    finally:
        subject.forget()
    size = sum(p.numel() for p in subject.parameters.values()) if subject.is_constructed else 0
    told = reading.untold(told, frame, by="preflight")
    found = [*(("constructor-error", one) for one in built.found), *found]
    found = list(finished_findings(subject, [(name, _placed(subject, one, call)) for name, one in found], call))
    found += [(name, _placed(subject, one, call)) for name, one in told]
    return _report(subject.name, found, stages, began, size, subject.batch)


def _loaded(batch: Any) -> tuple[Any, Found | None]:
    """Return the first batch, or what its loader raised."""
    try:
        return one_batch(batch), None
    except NbopsError:
        raise
    except Exception as error:  # a data set may raise anything, and that is what we want to know
        return None, loading_error(error)


def _placed(subject: Subject, one: Found, call: Place | None) -> Found:
    """Return a finding with the line of the batch, target or loss that it is about; at last that of the call."""
    if one.place is not None:
        return one
    about = {
        "batch": [subject.batch, *(t for _, t in subject.inputs)],
        "target": [*(t for _, t in subject.targets), subject.batch],
        "loss": [subject.loss],
    }.get(one.layer)
    if about is None and one.layer not in ("optimizer", "scheduler"):
        return one
    lines = (subject.definitions.of_variable(value) for value in about or () if value is not None)
    return replace(one, place=next((line for line in lines if line is not None), call))


def unwrap_loss(loss: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """Return the loss inside ``torch.compile``."""
    return unwrap(loss) if isinstance(loss, nn.Module) else loss


def _require(model: object, loss: object, forward: object, budget_s: object) -> None:
    if not isinstance(model, nn.Module) and not callable(model):
        raise InvalidInput(
            f"cannot look at a {type(model).__name__}", hint="Pass a torch.nn.Module, or a function that makes one."
        )
    if loss is not None and not callable(loss):
        raise InvalidInput(
            f"loss is a {type(loss).__name__}", hint="Pass a loss module or a function of output and target."
        )
    if forward is not None and not callable(forward):
        raise InvalidInput(f"forward is a {type(forward).__name__}", hint="Pass forward=lambda model, batch: …")
    if not isinstance(budget_s, int | float) or not budget_s > 0:
        raise InvalidInput(f"budget_s is {budget_s!r}", hint="Give a number of seconds above 0.")


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, Iterable) and not isinstance(value, torch.optim.Optimizer) else [value]


def run_stages(subject: Subject, names: Sequence[str] = STAGES) -> tuple[list[tuple[str, Found]], list[Stage]]:
    """Run the checks of some stages; behind a finding that blocks them the others are skipped."""
    found: list[tuple[str, Found]] = []
    stages: list[Stage] = []
    blocked = ""
    for stage in names:
        if stage == "overfit" and not subject.overfits:
            continue
        if blocked:
            stages.append(Stage(stage, "skipped", note=f"after the error in '{blocked}'"))
            continue
        subject.notes.clear()
        began = time.perf_counter()
        here, failed = _run_stage(subject, stage)
        found += here
        verdict = "error" if failed else _verdict(here)
        note = "; ".join(dict.fromkeys([*failed, *subject.notes]))
        stages.append(Stage(stage, verdict, time.perf_counter() - began, note))
        if any(one.blocks for _, one in here):
            blocked = stage
    return found, stages


def _run_stage(subject: Subject, stage: str) -> tuple[list[tuple[str, Found]], list[str]]:
    here: list[tuple[str, Found]] = []
    failed: list[str] = []
    loaded = set(checks)
    for name in [n for n, of in stage_of.items() if of == stage and n in loaded]:
        try:
            here += [(name, one) for one in checks[name](subject)]
        except Exception as error:  # one broken check must not end a preflight
            failed.append(f"check {name}: {type(error).__name__}: {str(error)[:200]}")
        if stage == "structure" and any(one.blocks for _, one in here):
            break
    return here, failed


def _verdict(here: list[tuple[str, Found]]) -> str:
    kinds = {one.status for _, one in here}
    return "fail" if "error" in kinds else "warn" if "warning" in kinds else "pass"


def _report(
    name: str, found: list[tuple[str, Found]], stages: list[Stage], began: float, parameters: int, batch: Any
) -> PreflightReport:
    run_id = current_run()
    records: list[Diagnosis] = [diagnosis_of(check, one, run_id=run_id) for check, one in found]
    if run_id is not None:
        for record in records:
            store(record, run_id)
    return PreflightReport(name, in_order(records), tuple(stages), time.perf_counter() - began, parameters, spec(batch))
