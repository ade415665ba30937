"""Rules about the divergence of a variational autoencoder: how it is reduced, and with which sign."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from torch import nn

from nbops.debugging.preflight.found import Found
from nbops.debugging.reading.counting import names_in
from nbops.debugging.reading.facts import Act, Reading
from nbops.debugging.reading.kinds import kind
from nbops.debugging.reading.noting import noted, patch, readings
from nbops.debugging.reading.objectives import differentiated, terms
from nbops.debugging.reading.scopes import Scope
from nbops.debugging.source import name_of

_LOG_VAR = re.compile(r"log_?var|log_?sigma|log_?std|(?<![a-z])lv(?![a-z])", re.I)


def _whole(reading: Reading, scope: Scope, act: Act) -> list[tuple[Scope, int, ast.expr]]:
    """Return the terms of what a backward pass begins at, with their signs; those of the user's own loss as well."""
    found: list[tuple[Scope, int, ast.expr]] = []
    for sign, term in terms(scope, differentiated(act), 1, act.node):
        own = next((one for one in reading.scopes if one.call is not None and one.call is term), None)
        given = [n for n in own.nodes if isinstance(n, ast.Return) and n.value is not None] if own is not None else []
        if own is None or len(given) != 1:
            found.append((scope, sign, term))
            continue
        value = given[0].value
        value = value.elts[0] if isinstance(value, ast.Tuple) and value.elts else value
        found += [(own, inner, part) for inner, part in terms(own, value, sign, given[0])]
    return found


@readings.register("divergence-summed")
def divergence_summed(reading: Reading) -> Iterator[Found]:
    """Find variational autoencoders that average the reconstruction and sum the divergence.

    What it measures
        A sum of two terms: a loss that averages over all values, and a divergence (of a mean and a log-variance) that
        is summed over samples and dimensions without a factor.
    Why it matters
        The divergence outweighs the reconstruction by the number of values, and the code carries nothing.
    When it is wrong
        A weight that is applied elsewhere.
    Fix
        Sum both, or divide the divergence by the number of values.
    References
        Kingma and Welling 2014; torch's example sums both.
    """
    for one in reading.rounds:
        for act in one.of("backward"):
            found = _whole(reading, one.scope, act)
            means = [t for where, _, t in found if _is_averaged(where, t)]
            summed = [(where, t) for where, _, t in found if _is_summed_divergence(where, t)]
            if not means or not summed or len(found) > 4:
                continue
            scope, inner = summed[0]
            mean = scope.text(inner).replace("torch.sum(", "torch.mean(").replace(".sum()", ".mean()")
            is_whole = mean != scope.text(inner)
            yield noted(
                scope, scope.statement(inner), "loss-terms-unbalanced", layer="loss", status="error", confidence=0.9,
                patch=patch(scope, swap=[(inner, mean)]) if is_whole else "",
                what="the divergence is summed over the batch, and the reconstruction is averaged",
                why="The divergence outweighs it by the number of values: the code carries nothing.",
                expected="both summed, or both averaged", got=scope.text(inner)[:80],
            )  # fmt: skip
            return


def _is_averaged(scope: Scope, term: ast.expr) -> bool:
    if not isinstance(term, ast.Call) or kind(scope, term) != "loss":
        return False
    module = scope.value(term.func)
    reduction = next((k.value for k in term.keywords if k.arg == "reduction"), None)
    if isinstance(reduction, ast.Constant) and reduction.value != "mean":
        return False
    return getattr(module, "reduction", "mean") == "mean" if isinstance(module, nn.Module) else True


def _is_summed_divergence(scope: Scope, term: ast.expr) -> bool:
    """Return whether a term is ``-0.5 * sum(1 + log_var - mean² - exp(log_var))``, with no division or small factor."""
    text, calls = scope.text(term), [n for n in ast.walk(term) if isinstance(n, ast.Call)]
    sums = [c for c in calls if name_of(c.func) == "sum" and not any(k.arg in ("dim", "axis") for k in c.keywords)
            and len(c.args) <= (1 if name_of(getattr(c.func, "value", c)) == "torch" else 0)]  # fmt: skip
    if not sums or any(name_of(c.func) == "mean" for c in calls) or "/" in text:
        return False
    factors = [n.value for n in ast.walk(term) if isinstance(n, ast.Constant) and isinstance(n.value, float)]
    if any(0 < f < 0.4 for f in factors) or re.search(r"\b(beta|kl_weight|kld_weight|weight|anneal)\b", text):
        return False
    whole = [text, *(scope.text(b.value) for name in names_in(scope, term) for b in scope.bindings.get(name, []))]
    return any(".exp()" in one or "torch.exp(" in one for one in whole) and any(
        re.search(r"log_?var|log_?sigma|lv\b", one, re.I) for one in whole)  # fmt: skip


@readings.register("divergence-with-wrong-sign")
def divergence_with_wrong_sign(reading: Reading) -> Iterator[Found]:
    """Find variational autoencoders that make their divergence as large as they can.

    What it measures
        The sign of the log-variance in what the backward pass begins at: the divergence is
        ``-0.5 * sum(1 + log_var - mean² - exp(log_var))``, so that it must be negative.
    Why it matters
        The code runs away from the prior, and the loss falls without end.
    When it is wrong
        Objectives that are maximised.
    Fix
        ``loss = reconstruction - 0.5 * sum(1 + log_var - mean² - exp(log_var))``.
    References
        Kingma and Welling 2014, appendix B.
    """
    for one in reading.rounds:
        for act in one.of("backward"):
            for scope, sign, term in _whole(reading, one.scope, act):
                names = [scope.text(term), *(scope.text(b.value) for n in names_in(scope, term)
                                             for b in scope.bindings.get(n, []))]  # fmt: skip
                if not any("exp(" in t and _LOG_VAR.search(t) for t in names):
                    continue
                of_it, of_power = _sign(scope, term), _sign(scope, term, powers=True)
                if of_it * sign <= 0 or of_it * of_power >= 0:  # of a Gaussian's likelihood both have one sign
                    continue
                yield noted(
                    scope, scope.statement(term), "loss-sign", layer="loss", confidence=0.96,
                    patch=patch(scope, swap=[(term, f"-({scope.text(term)})")]),
                    what=f"the divergence has the wrong sign in {scope.text(term)[:80]}",
                    why="Training makes it as large as it can.", fix="Put a minus before it.",
                    expected="-0.5 * sum(1 + log_var - mean² - exp(log_var))", got=scope.text(term)[:80],
                )  # fmt: skip
                return


def _sign(scope: Scope, node: ast.AST, depth: int = 12, *, powers: bool = False) -> int:
    """Return the sign of the log-variance itself in an expression, or of its exponential; 0 where it cannot be told."""
    if depth <= 0:
        return 0
    if powers and isinstance(node, ast.Call) and name_of(node.func) == "exp":
        return 1 if _LOG_VAR.search(scope.text(node)) else 0
    if isinstance(node, ast.Name | ast.Attribute):
        name = scope.expression(node)
        if _LOG_VAR.search(name):
            return 0 if powers else 1
        bindings = [b for b in scope.bindings.get(name, []) if name]
        return (
            _sign(scope, bindings[0].value, depth - 1, powers=powers)
            if len(bindings) == 1 and bindings[0].how == "assign"
            else 0
        )
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_sign(scope, node.operand, depth - 1, powers=powers)
    if isinstance(node, ast.BinOp):
        return _sign_of_sum(scope, node, depth, powers)
    if isinstance(node, ast.Call) and name_of(node.func) in ("sum", "mean"):
        is_function = isinstance(node.func, ast.Attribute) and scope.expression(node.func.value) in ("torch", "np")
        inner = node.args[0] if is_function and node.args else getattr(node.func, "value", None)
        return _sign(scope, inner, depth - 1, powers=powers) if inner is not None else 0
    return 0


def _sign_of_sum(scope: Scope, node: ast.BinOp, depth: int, powers: bool) -> int:
    left, right = (_sign(scope, one, depth - 1, powers=powers) for one in (node.left, node.right))
    if isinstance(node.op, ast.Add | ast.Sub):
        right = right if isinstance(node.op, ast.Add) else -right
        return left or right if 0 in (left, right) else left if left == right else 0
    if isinstance(node.op, ast.Mult | ast.Div):
        factor = scope.number(node.left if right else node.right)
        found = right or left
        return found if factor is None or factor > 0 else -found if factor < 0 else 0
    return 0
