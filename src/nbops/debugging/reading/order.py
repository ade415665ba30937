"""Rules about the order of what a round of training does: backward, unscale, clip, step, update, zero."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from torch.optim import SGD

from nbops.debugging.preflight.found import Found
from nbops.debugging.reading.facts import Act, Reading, Round
from nbops.debugging.reading.noting import noted, patch, readings, replaced
from nbops.debugging.reading.scopes import Scope

_FEW = 3  # batches of a sum
_OF_GRADIENTS = ("backward", "step", "scaled", "zero")


def _next(acts: tuple[Act, ...], at: int, kinds: tuple[str, ...]) -> str:
    """Return the kind of the next act of some kinds after `at`, going round."""
    ring = [*acts[at + 1 :], *acts[:at]]
    return next((one.kind for one in ring if one.kind in kinds), "")


def _before(acts: tuple[Act, ...], at: int, kinds: tuple[str, ...]) -> str:
    ring = [*acts[:at][::-1], *acts[at + 1 :][::-1]]
    return next((one.kind for one in ring if one.kind in kinds), "")


def _misplaced(one: Round) -> tuple[Act, str] | None:
    """Return a clipping that finds no gradient, and where it stands; None if one of the round finds some."""
    found = None
    for at, act in enumerate(one.acts):
        if act.kind != "clip":
            continue
        last, follows = _before(one.acts, at, _OF_GRADIENTS), _next(one.acts, at, _OF_GRADIENTS)
        if last in ("zero", "step", "scaled") and follows == "backward":
            found = act, "before" if last == "zero" or act.node.lineno < one.of("backward")[0].node.lineno else "after"
        elif last in ("step", "scaled") and follows == "zero":
            found = act, "after"
        else:
            return None
    return found


@readings.register("clipped-at-wrong-place")
def clipped_at_wrong_place(reading: Reading) -> Iterator[Found]:
    """Find gradients that are clipped before there are any, or after the step has used them.

    What it measures
        The order of the calls in a round of training: a clipping that stands between ``zero_grad()`` and the backward
        pass, or between the step and the next ``zero_grad()``, while no other one stands in the right place.
    Why it matters
        It changes nothing: the step is taken with gradients that were never clipped, and recurrent networks explode.
    When it is wrong
        Not known. Two optimizers that clip for each other are left alone.
    Fix
        Clip between ``loss.backward()`` and ``optimizer.step()``.
    References
        torch.nn.utils.clip_grad_norm_ works on the gradients as they are at the call.
    """
    for one in reading.rounds:
        hit = _misplaced(one)
        if hit is None:
            continue
        act, where = hit
        scope, statement = one.scope, one.scope.statement(act.node)
        backward = scope.statement(one.of("backward")[-1].node)
        is_plain = isinstance(statement, ast.Expr | ast.Assign) and len(one.of("backward")) == 1
        remedy = patch(scope, drop=[statement], after=[(backward, scope.text(statement))]) if is_plain else ""
        yield noted(
            scope, act.node, "clip-at-wrong-place", "exploding-gradient", layer="optimizer", patch=remedy,
            what=f"gradients are clipped {where} they are " + ("computed" if where == "before" else "used"),
            why="There " + ("is nothing to clip before loss.backward()." if where == "before" else "the step is over.")
            + " The step is taken with gradients that were not clipped.",
            expected="backward, clip, step",
            got="clip, backward, step" if where == "before" else "backward, step, clip",
        )  # fmt: skip


@readings.register("scaler-misused")
def scaler_misused(reading: Reading) -> Iterator[Found]:
    """Find loops that use a gradient scaler by halves.

    What it measures
        The calls of a round in which the loss is scaled: whether the optimizer steps by itself instead of by
        ``scaler.step``, whether gradients are clipped before ``scaler.unscale_``, whether ``scaler.update`` is called.
    Why it matters
        The scaler multiplies gradients by 65,536 and more: a step that does not divide them again goes far too far
        (under Adam: never skips a step that overflowed), and a limit for clipping means nothing.
    When it is wrong
        Loops that divide the gradients by hand.
    Fix
        ``scaler.scale(loss).backward()``, ``scaler.unscale_(optimizer)``, clip, ``scaler.step(optimizer)``,
        ``scaler.update()``.
    References
        The notes on automatic mixed precision in torch's documentation.
    """
    for one in reading.rounds:
        scope = one.scope
        scaled = [a for a in one.of("backward") if isinstance(owner := _owner(a.node), ast.Call) and _is_scale(owner)]
        if not scaled or any(_is_off(reading, one, a) for a in scaled):
            continue
        scaler = _scaler_of(scaled[0].node, scope)
        plain, stepped, unscaled = one.of("step"), one.of("scaled"), one.of("unscale")
        clips = one.of("clip")
        if plain and not stepped and not unscaled:
            act = plain[0]
            remedy = patch(scope, swap=[(act.node, f"{scaler}.step({act.on})")]) if not act.node.args else ""
            if remedy and not one.of("update"):
                statement = scope.statement(act.node)
                remedy = replaced(scope, statement, f"{scaler}.step({act.on})\n{scaler}.update()")
            yield _scaler(scope, act.node, "the loss is scaled, and the optimizer steps without the scaler",
                          "The step is taken with gradients that are still multiplied by the scale.",
                          f"{scaler}.step({act.on})", scope.text(act.node), remedy)  # fmt: skip
        elif clips and stepped and not unscaled and not scope.is_called_in_file("unscale_"):
            act = clips[0]
            statement = scope.statement(act.node)
            remedy = patch(scope, before=[(statement, f"{scaler}.unscale_({stepped[0].on})")])
            yield _scaler(scope, act.node, "gradients are clipped while they are still scaled",
                          "The limit is compared with gradients that are multiplied by the scale, 65,536 at first.",
                          f"{scaler}.unscale_({stepped[0].on}) before", scope.text(act.node), remedy)  # fmt: skip
        elif stepped and not one.of("update") and not _updates(reading):
            act = stepped[-1]
            remedy = patch(scope, after=[(scope.statement(act.node), f"{scaler}.update()")])
            yield _scaler(scope, act.node, "the scaler is never updated",
                          "Its scale stays as it was, so after one overflow no step is taken any more.",
                          f"{scaler}.update() after it", "no update", remedy, confidence=0.9)  # fmt: skip


def _scaler(
    scope: object, node: ast.AST, what: str, why: str, expected: str, got: str, remedy: str, confidence: float = 0.95
) -> Found:
    return noted(
        scope, node, "scaler-misused", layer="optimizer", what=what, why=why, patch=remedy,  # type: ignore[arg-type]
        expected=expected, got=got, confidence=confidence,
    )  # fmt: skip


def _owner(call: ast.Call) -> ast.expr | None:
    return call.func.value if isinstance(call.func, ast.Attribute) else None


def _is_scale(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr == "scale" and len(call.args) == 1


def _scaler_of(backward: ast.Call, scope: object) -> str:
    owner = _owner(backward)
    inner = owner.func.value if isinstance(owner, ast.Call) and isinstance(owner.func, ast.Attribute) else None
    return scope.expression(inner) if inner is not None else "scaler"  # type: ignore[attr-defined]


def _is_off(reading: Reading, one: Round, act: Act) -> bool:
    """Return whether the scaler is one that does nothing (``enabled=False``)."""
    owner = _owner(act.node)
    scaler = one.scope.value(owner.func.value) if isinstance(owner, ast.Call) and isinstance(
        owner.func, ast.Attribute) else None  # fmt: skip
    is_enabled = getattr(scaler, "is_enabled", None)
    return callable(is_enabled) and type(scaler).__module__.startswith("torch.") and not is_enabled()


def _updates(reading: Reading) -> bool:
    return any(True for scope in reading.scopes for _ in scope.calls("update"))


@readings.register("accumulation-not-averaged")
def accumulation_not_averaged(reading: Reading) -> Iterator[Found]:
    """Find gradients of several batches that are summed before a step of plain SGD, and not averaged.

    What it measures
        A step and a ``zero_grad()`` that run every n-th batch only, beside a backward pass that runs for each, of a
        loss that is a mean and is divided by nothing, under ``SGD``; n is 3 or more.
    Why it matters
        Each step is n times as long as that of one batch: the learning rate is n times too high.
    When it is wrong
        A learning rate that was chosen for the sum.
    Fix
        ``(loss / n).backward()``.
    References
        The notes on gradient accumulation in torch's documentation of automatic mixed precision.
    """
    for one in reading.rounds:
        scope, passes, steps = one.scope, one.of("backward"), one.of("step")
        if len(passes) != 1 or len(steps) != 1 or one.of("scaled"):
            continue
        every = _every(scope, steps[0].node)
        zeros = [_every(scope, a.node) for a in one.of("zero")]
        is_summed = every is not None and zeros and all(z is not None for z in zeros)
        if not is_summed or every is None or _every(scope, passes[0].node) is not None:
            continue
        count = scope.number(every)
        optimizer = scope.value(ast.parse(steps[0].on, mode="eval").body) if steps[0].on else None
        loss = _owner(passes[0].node)
        if count is None or count < _FEW or not isinstance(optimizer, SGD) or loss is None or _is_divided(scope, loss):
            continue
        text, by = scope.text(loss), scope.text(every)
        yield noted(
            scope, passes[0].node, "accumulation-not-scaled", "lr-too-high", layer="optimizer", status="warning",
            confidence=0.9, patch=patch(scope, swap=[(loss, f"({text} / {by})")]),
            what=f"the gradients of {count:g} batches are summed before a step, and not averaged",
            why=f"Each step is {count:g} times as long as that of one batch.", fix=f"Write ({text} / {by}).backward().",
            expected=f"({text} / {by}).backward()", got=scope.text(passes[0].node),
        )  # fmt: skip


def _every(scope: Scope, node: ast.AST) -> ast.expr | None:
    """Return the n of an ``if i % n == …`` around a node."""
    for above in scope.around(node):
        if isinstance(above, ast.If):
            found = next(
                (n for n in ast.walk(above.test) if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Mod)), None
            )
            if found is not None:
                return found.right
    return None


def _is_divided(scope: Scope, loss: ast.expr, depth: int = 3) -> bool:
    """Return whether a loss is divided or multiplied by anything, or is no plain mean."""
    if any(isinstance(n, ast.BinOp | ast.keyword) for n in ast.walk(loss)):
        return True
    name = scope.expression(loss)
    bindings = scope.bindings.get(name, []) if name else []
    if any(b.how == "add" for b in bindings):
        return True
    return depth > 0 and any(_is_divided(scope, b.value, depth - 1) for b in bindings)
