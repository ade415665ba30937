"""Rules about learning-rate schedules: how long they last, what they multiply, what they are stepped by."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from types import FunctionType
from typing import Any

from torch.optim import lr_scheduler

from nbops.debugging.preflight.found import Found
from nbops.debugging.reading.counting import counts, tendency, times
from nbops.debugging.reading.facts import Act, Reading
from nbops.debugging.reading.kinds import kind, of_value
from nbops.debugging.reading.noting import noted, patch, readings
from nbops.debugging.reading.scopes import Binding, Scope
from nbops.debugging.source import name_of

_POINTS = (0, 1, 2, 5, 10, 50, 100, 1000, 10_000)
_HIGH_RATE = 0.5  # a base of which a function may well give the rate itself
_GONE = 1e-4  # of the base rate
_HARDLY_BEGUN = 0.3  # of its steps: a OneCycleLR rises for so long


def _steps(scope: Scope) -> Iterator[tuple[ast.Call, str]]:
    for call in scope.calls("step"):
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        if owner is not None and kind(scope, owner) == "scheduler":
            yield call, scope.expression(owner)


def _scheduler(scope: Scope, call: ast.Call) -> Any:
    return scope.value(call.func.value) if isinstance(call.func, ast.Attribute) else None


def _definition(reading: Reading, scheduler: Any) -> tuple[Scope, Binding] | None:
    """Return where a scheduler is built."""
    for scope in reading.scopes:
        for name, bindings in scope.bindings.items():
            last = bindings[-1]
            is_made = isinstance(last.value, ast.Call) and kind(scope, last.value) == "scheduler"
            if is_made and scope.value(_as_name(name)) is scheduler:
                return scope, last
    return None


def _as_name(name: str) -> ast.expr:
    return ast.parse(name, mode="eval").body


@readings.register("schedule-too-short")
def schedule_too_short(reading: Reading) -> Iterator[Found]:
    """Find schedules of a fixed length that end before the training does.

    What it measures
        The steps that a ``OneCycleLR`` was made for against how often the loops of the code step it; where the number
        of batches is not known, whether its steps can be a multiple of the epochs.
    Why it matters
        The step after the last one raises an error, after hours.
    When it is wrong
        Loops that end themselves by other means than ``break``.
    Fix
        ``total_steps=len(loader) * epochs``.
    References
        torch's ``OneCycleLR``: "Tried to step … times".
    """
    for scope in reading.scopes:
        for call, _ in _steps(scope):
            scheduler = _scheduler(scope, call)
            total = getattr(scheduler, "total_steps", None)
            if not isinstance(scheduler, lr_scheduler.OneCycleLR) or not isinstance(total, int):
                continue
            taken, made = counts(scope, call), _definition(reading, scheduler)
            epochs = _epochs(scope, call)
            is_known = taken is not None and taken > total
            is_odd = taken is None and made is not None and epochs is not None and _cannot_be(made, total, epochs)
            if not (is_known or is_odd):
                continue
            where, node = (made[0], made[1].statement) if made is not None else (scope, call)
            length = f"{taken:g} times" if is_known else f"in each round of {epochs:g} epochs"
            yield noted(
                where, node, "scheduler-too-short", layer="scheduler", confidence=0.95 if is_known else 0.85,
                patch=_longer(made, total, taken, epochs) if made is not None else "",
                what=f"the schedule has {total} steps, and is stepped {length}",
                why="Step number total_steps + 1 raises an error.", status="error",
                expected=f"{taken:g} steps" if taken is not None else f"a multiple of {epochs:g}", got=f"{total} steps",
            )  # fmt: skip


def _epochs(scope: Scope, call: ast.Call) -> float | None:
    """Return the rounds of the outermost loop around a call, if there are two or more."""
    loops = scope.loops(call)
    return times(scope, loops[-1]) if len(loops) > 1 else None


def _cannot_be(made: tuple[Scope, Binding], total: int, epochs: float) -> bool:
    """Return whether a length that is written as a product, or as epochs, is made for fewer epochs than there are."""
    scope, binding = made
    given = {k.arg: k.value for k in binding.value.keywords} if isinstance(binding.value, ast.Call) else {}
    planned = scope.number(given.get("epochs"))
    if planned is not None:
        return planned < epochs
    written = given.get("total_steps")
    if isinstance(written, ast.Name) and (bound := scope.bound(written.id)) is not None:
        written = bound.value
    if not (isinstance(written, ast.BinOp) and isinstance(written.op, ast.Mult)):
        return False
    factors = [scope.number(written.left), scope.number(written.right)]
    return epochs not in factors and total % epochs != 0 and any(f is not None and f < epochs for f in factors)


def _longer(made: tuple[Scope, Binding], total: int, taken: float | None, epochs: float | None) -> str:
    scope, binding = made
    for keyword in binding.value.keywords if isinstance(binding.value, ast.Call) else ():
        if keyword.arg == "epochs" and epochs is not None:
            return patch(scope, swap=[(keyword.value, f"{epochs:g}")])
        if keyword.arg == "total_steps" and taken is not None:
            return patch(scope, swap=[(keyword.value, f"{taken:.0f}")])
        if keyword.arg == "total_steps" and isinstance(keyword.value, ast.BinOp) and epochs is not None:
            sides = [keyword.value.left, keyword.value.right]
            lower = min(sides, key=lambda side: scope.number(side) or total)
            return patch(scope, swap=[(lower, f"{epochs:g}")])
    return ""


@readings.register("schedule-hardly-begun")
def schedule_hardly_begun(reading: Reading) -> Iterator[Found]:
    """Find a ``OneCycleLR`` that the training leaves while the rate still rises.

    What it measures
        How often the loops of the code step it against the steps that it was made for: less than the share in which
        it rises, 0.3 by default. Made for every batch and stepped once per epoch is the commonest way to get there.
    Why it matters
        The rate begins at a twenty-fifth of the highest one, and hardly leaves it.
    When it is wrong
        A training that is stopped early on purpose and goes on from its checkpoint.
    Fix
        Step it after each ``optimizer.step()``, or make it for as many steps as there are.
    References
        torch's ``OneCycleLR`` "should be called after a batch has been used for training".
    """
    for scope in reading.scopes:
        for call, name in _steps(scope):
            scheduler, taken = _scheduler(scope, call), counts(scope, call)
            total = getattr(scheduler, "total_steps", None)
            if not isinstance(scheduler, lr_scheduler.OneCycleLR) or not isinstance(total, int) or taken is None:
                continue
            if taken > _HARDLY_BEGUN * total:
                continue
            stepped = _inner_step(reading, scope, call)
            statement = scope.statement(call)
            yield noted(
                scope, call, "scheduler-misread", "lr-too-low", layer="scheduler", confidence=0.95, status="error",
                patch=patch(scope, drop=[statement], after=[(stepped, scope.text(statement))]) if stepped else "",
                what=f"the schedule has {total} steps, and is stepped {taken:.0f} times",
                why="It ends while the rate still rises from a twenty-fifth of the highest one.",
                fix=f"Call {name}.step() after each optimizer.step().", expected=f"{total} steps", got=f"{taken:.0f}",
            )  # fmt: skip


def _inner_step(reading: Reading, scope: Scope, call: ast.Call) -> ast.stmt | None:
    """Return the optimizer's step in a loop inside the one that steps the schedule; None if there is none."""
    outer = scope.loops(call)
    for one in reading.rounds:
        acts = one.of("step", "scaled")
        inner = scope.loops(acts[-1].node) if one.scope is scope and acts else []
        if len(inner) > len(outer) and (not outer or outer[0] in inner):
            return scope.statement(acts[-1].node)
    return None


@readings.register("schedule-of-rates")
def schedule_of_rates(reading: Reading) -> Iterator[Found]:
    """Find functions of a ``LambdaLR`` that return a rate, where a factor is wanted.

    What it measures
        What the function gives at epochs 0 to 10,000: nowhere more than the base rate itself, which is below 0.5.
    Why it matters
        The learning rate is the base rate times what the function returns: a thousandth of what was meant.
    When it is wrong
        Warm-ups that take longer than 10,000 steps.
    Fix
        Return a factor that begins at 1: ``lambda epoch: 0.95 ** epoch``.
    References
        torch's ``LambdaLR``: "the initial lr times a given function".
    """
    for scheduler in _known(reading, lr_scheduler.LambdaLR):
        for base, function in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=False):
            if not isinstance(function, FunctionType) or not 0 < base < _HIGH_RATE:
                continue
            factors, made = _factors(function), _definition(reading, scheduler)
            if made is None or not factors or not 0 < max(factors) <= 1.05 * base:
                continue
            scope, binding = made
            constant = next((n for n in ast.walk(binding.value) if isinstance(n, ast.BinOp)
                             and isinstance(n.op, ast.Mult) and scope.number(n.left) == base), None)  # fmt: skip
            yield noted(
                scope, binding.statement, "scheduler-misread", "lr-too-low", layer="scheduler",
                patch=patch(scope, swap=[(constant, scope.text(constant.right))]) if constant is not None else "",
                what=f"the schedule's function gives {max(factors):.3g} at most, which is a rate and no factor",
                why=f"LambdaLR multiplies: the rate is {base:g} times that, {base * max(factors):.3g}.",
                fix="Return a factor that begins at 1.", expected="factors near 1", got=f"{max(factors):.3g} at most",
            )  # fmt: skip
            break


def _factors(function: FunctionType) -> list[float]:
    try:
        return [float(function(point)) for point in _POINTS]
    except Exception:  # it wants another argument, or a smaller one
        return []


def _known(reading: Reading, kind_of: type) -> list[Any]:
    held = [v for scope in reading.scopes for v in list(scope.variables.values()) if isinstance(v, kind_of)]
    return list({id(one): one for one in held}.values())


@readings.register("plateau-of-wrong-mode")
def plateau_of_wrong_mode(reading: Reading) -> Iterator[Found]:
    """Find a ``ReduceLROnPlateau`` that waits for a loss to rise, or for an accuracy to fall.

    What it measures
        The mode of the scheduler against what it is stepped with, by its name or by what computes it.
    Why it matters
        Training that goes well counts as a plateau, and the learning rate is lowered again and again.
    When it is wrong
        Values with names that say the opposite of what they are.
    Fix
        ``mode="min"`` for losses and errors, ``mode="max"`` for accuracies and scores.
    References
        torch's ``ReduceLROnPlateau``; its default is "min".
    """
    for scope in reading.scopes:
        for call, _ in _steps(scope):
            scheduler = _scheduler(scope, call)
            if not isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) or not call.args:
                continue
            towards = tendency(scope, call.args[0])
            mode = scheduler.mode
            if not towards or (mode == "max") == (towards > 0):
                continue
            right, made = ("max" if towards > 0 else "min"), _definition(reading, scheduler)
            where, node = (made[0], made[1].statement) if made is not None else (scope, call)
            given = next((k.value for k in made[1].value.keywords if k.arg == "mode"), None) if (
                made is not None and isinstance(made[1].value, ast.Call)) else None  # fmt: skip
            yield noted(
                where, node, "scheduler-misread", "scheduler-decays-too-fast", layer="scheduler", confidence=0.96,
                patch=patch(where, swap=[(given, f'"{right}"')]) if given is not None else "",
                what=f"the schedule waits for '{scope.text(call.args[0])}' to " + ("rise" if mode == "max" else "fall"),
                why="It is to " + ("rise" if towards > 0 else "fall") + ", so each good epoch counts as a bad one, and "
                "the learning rate is lowered.", fix=f'Set mode="{right}".', expected=f'mode="{right}"',
                got=f'mode="{mode}"',
            )  # fmt: skip


@readings.register("epoch-schedule-per-batch")
def epoch_schedule_per_batch(reading: Reading) -> Iterator[Found]:
    """Find schedules that are counted in epochs and stepped at every batch.

    What it measures
        What is left of the learning rate of a ``StepLR``, ``MultiStepLR`` or ``ExponentialLR`` after all steps that the
        loops take, where it is stepped in the loop over batches; below a ten-thousandth it is one.
    Why it matters
        The rate is nothing after some batches, and the model stays as it is.
    When it is wrong
        Very long trainings with a decay per step that is meant.
    Fix
        Step it once per epoch, behind the loop over batches.
    References
        torch's documentation steps these schedulers once per epoch.
    """
    for scope in reading.scopes:
        for call, _ in _steps(scope):
            loops = scope.loops(call)
            scheduler, taken = _scheduler(scope, call), counts(scope, call)
            if len(loops) < 2 or taken is None or of_value(scheduler) != "scheduler":
                continue
            left, epochs = _left(scheduler, taken), times(scope, loops[-1])
            if left is None or epochs is None or left > _GONE or (_left(scheduler, epochs) or 0) < _GONE:
                continue
            statement = scope.statement(call)
            body = loops[-1].body[-1]
            yield noted(
                scope, call, "scheduler-decays-too-fast", "lr-too-low", layer="scheduler", confidence=0.96,
                patch=patch(scope, drop=[statement], after=[(body, scope.text(statement))]),
                what=f"{type(scheduler).__name__} is stepped at every batch, {taken:.0f} times",
                why=f"It leaves {left:.1g} of the learning rate; stepped once per epoch it would leave "
                f"{_left(scheduler, epochs):.1g}.", expected="one step per epoch", got="one per batch",
            )  # fmt: skip


def _left(scheduler: Any, steps: float) -> float | None:
    """Return the factor of the learning rate after some steps."""
    if isinstance(scheduler, lr_scheduler.StepLR):
        return float(scheduler.gamma ** (steps // scheduler.step_size))
    if isinstance(scheduler, lr_scheduler.MultiStepLR):
        return float(scheduler.gamma ** sum(n for at, n in scheduler.milestones.items() if at <= steps))
    if isinstance(scheduler, lr_scheduler.ExponentialLR):
        return float(scheduler.gamma**steps)
    return None


@readings.register("schedule-never-stepped")
def schedule_never_stepped(reading: Reading) -> Iterator[Found]:
    """Find schedules that are built and never stepped.

    What it measures
        A scheduler that the code builds in the body that trains, and does nothing with: no ``step()``, and it is not
        given to anybody else.
    Why it matters
        The learning rate stays where the schedule began, which under a warm-up is nothing.
    When it is wrong
        Schedulers that another notebook cell steps by hand.
    Fix
        ``scheduler.step()`` once per epoch, or once per batch, as it is counted.
    References
        TrainCheck, relation APISequence.
    """
    for one in reading.rounds:
        scope = one.scope
        for name, bindings in scope.bindings.items():
            last = bindings[-1]
            if last.how != "assign" or not isinstance(last.value, ast.Call) or kind(scope, last.value) != "scheduler":
                continue
            if not name_of(last.value.func)[:1].isupper() or last.statement.lineno > one.acts[-1].node.lineno:
                continue
            if scope.is_called_in_file("step", of=name) or any(
                _hands_on(scope, node, last.statement) for node in scope.nodes if _reads(scope, node, name)
            ):
                continue
            act: Act = one.of("step", "scaled")[-1]
            yield noted(
                scope, last.statement, "scheduler-not-stepped", layer="scheduler", confidence=0.9,
                status="error" if _starts_low(scope, name) else "warning",
                patch=patch(scope, after=[(scope.statement(act.node), f"{name}.step()")]),
                what=f"'{name}' is built and never stepped", fix=f"Call {name}.step() after {act.on}.step().",
                why="The learning rate stays where the schedule began.", expected=f"{name}.step()", got="no step",
            )  # fmt: skip


def _reads(scope: Scope, node: ast.AST, name: str) -> bool:
    return (
        isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load) and scope.expression(node) == name
    )


def _hands_on(scope: Scope, node: ast.AST, made: ast.stmt) -> bool:
    """Return whether a use of a scheduler may step it: a method other than looks, or an argument of a call."""
    above = scope.above.get(node)
    if isinstance(above, ast.Attribute):
        return above.attr not in ("get_last_lr", "last_epoch", "state_dict", "optimizer", "base_lrs", "get_lr")
    return scope.statement(node) is not made


def _starts_low(scope: Scope, name: str) -> bool:
    scheduler = scope.value(_as_name(name))
    groups = getattr(getattr(scheduler, "optimizer", None), "param_groups", [])
    return any(g.get("lr", 1) < 0.1 * g.get("initial_lr", 0) for g in groups)
