"""Rules about targets that should stand still: bootstrapped ones, and those of a teacher."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from torch import nn
from torch.optim import Optimizer

from nbops.debugging.preflight.found import Found
from nbops.debugging.reading.counting import names_in
from nbops.debugging.reading.facts import Reading, Round
from nbops.debugging.reading.kinds import kind
from nbops.debugging.reading.noting import noted, patch, readings
from nbops.debugging.reading.objectives import REWARD
from nbops.debugging.reading.scopes import Scope
from nbops.debugging.source import name_of

_PULLS = ("mse_loss", "smooth_l1_loss", "huber_loss", "l1_loss", "kl_div", "MSELoss", "SmoothL1Loss", "HuberLoss",
          "L1Loss", "KLDivLoss")  # fmt: skip
_STOPS = ("detach", "no_grad", "stop_gradient", "item", "numpy", "tolist")


@readings.register("gradient-through-the-target")
def gradient_through_the_target(reading: Reading) -> Iterator[Found]:
    """Find targets of a loss through which the gradient flows: bootstrapped ones, and those of a teacher.

    What it measures
        The second argument of a squared error, a Huber loss or a divergence: a reward plus what the trained model
        itself gives for the next state, or what another model gives whose parameters the stepping optimizer holds;
        neither detached nor under ``no_grad``.
    Why it matters
        The target is moved towards the prediction: both agree on nothing.
    When it is wrong
        Residual gradients, and two networks that are trained to agree on purpose.
    Fix
        ``.detach()``, or compute the target under ``torch.no_grad()``.
    References
        Mnih et al. 2015, on fixed targets; Hinton et al. 2015, on distillation.
    """
    for one in reading.rounds:
        scope = one.scope
        for call in [c for c in scope.calls() if scope.inside(c, one.block) and len(c.args) > 1]:
            if name_of(call.func) not in _PULLS and kind(scope, call.func) != "criterion":
                continue
            trained = {scope.expression(c.func) for c in forwards(scope, call.args[0])}
            for inner, is_bootstrapped in _moving(scope, call.args[1]):
                name = scope.expression(inner.func)
                is_teacher = name not in trained and _is_stepped(reading, one, scope.value(inner.func))
                if not (is_bootstrapped and name in trained) and not is_teacher:
                    continue
                yield noted(
                    scope, inner, "detach-missing" if is_teacher else "target-not-detached",
                    *(["parameters-not-in-optimizer"] if is_teacher else []), layer="loss", confidence=0.96,
                    patch=patch(scope, swap=[(inner, f"{scope.text(inner)}.detach()")]),
                    what=f"the gradient flows through the target, {scope.text(inner)}",
                    why=f"'{name}' is trained as well, and is pulled to what it is compared with.",
                    fix="Write .detach() behind it.", expected=f"{scope.text(inner)}.detach()", got=scope.text(inner),
                )  # fmt: skip
                return


def forwards(scope: Scope, node: ast.AST, depth: int = 4) -> Iterator[ast.Call]:
    """Iterate over the calls of models that an expression is made of, through the names that stand for them."""
    for part in ast.walk(node):
        if isinstance(part, ast.Call) and kind(scope, part.func) == "model":
            yield part
            continue
        bound = scope.bound(part.id, before=part) if isinstance(part, ast.Name) and depth else None
        if bound is not None and bound.how == "assign" and not isinstance(bound.value, ast.Constant):
            yield from forwards(scope, bound.value, depth - 1)


def _moving(scope: Scope, node: ast.expr, depth: int = 3) -> Iterator[tuple[ast.Call, bool]]:
    """Iterate over the calls of models that a target is made of with a graph, and whether a reward is added."""
    if isinstance(node, ast.Name):
        bound = scope.bound(node.id, before=node)
        if bound is not None and bound.how == "assign" and depth and not scope.is_without_gradients(bound.statement):
            yield from _moving(scope, bound.value, depth - 1)
        return
    if any(isinstance(n, ast.Call) and name_of(n.func) in _STOPS for n in ast.walk(node)):
        return
    is_sum = any(isinstance(n, ast.BinOp) and isinstance(n.op, ast.Add) for n in ast.walk(node))
    has_reward = any(REWARD.search(n.rpartition(".")[2]) for n in names_in(scope, node))
    for part in ast.walk(node):
        if isinstance(part, ast.Call) and kind(scope, part.func) == "model":
            yield part, is_sum and has_reward
        elif isinstance(part, ast.Name) and part is not node and is_sum and has_reward and depth:
            bound = scope.bound(part.id, before=part)
            if bound is not None and bound.how == "assign" and not scope.is_without_gradients(bound.statement):
                yield from ((c, True) for c, _ in _moving(scope, bound.value, depth - 1))


def _is_stepped(reading: Reading, one: Round, model: object) -> bool:
    """Return whether the optimizer that steps in a round holds a parameter of a model."""
    if not isinstance(model, nn.Module):
        return False
    mine = {id(p) for p in model.parameters()}
    for act in one.of("step", "scaled"):
        optimizer = one.scope.value(ast.parse(act.on, mode="eval").body) if act.on else None
        if isinstance(optimizer, Optimizer) and any(id(p) in mine for g in optimizer.param_groups for p in g["params"]):
            return True
    return False
