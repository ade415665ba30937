"""Rules about graphs that are built or kept without need: create_graph, lists of outputs, sums of losses."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from nbops.debugging.preflight.found import Found
from nbops.debugging.reading.counting import names_in
from nbops.debugging.reading.facts import Reading
from nbops.debugging.reading.kinds import kind
from nbops.debugging.reading.noting import noted, patch, readings
from nbops.debugging.reading.scopes import Scope
from nbops.debugging.source import name_of


@readings.register("graph-created-for-nothing")
def graph_created_for_nothing(reading: Reading) -> Iterator[Found]:
    """Find backward passes that build a graph of the gradients, which nobody goes through.

    What it measures
        ``backward(create_graph=True)`` in a round that has no second backward pass and no ``autograd.grad``.
    Why it matters
        Each gradient holds on to its graph, and each parameter to its gradient: the memory of every step is kept.
    When it is wrong
        Optimizers that differentiate the gradients themselves (AdaHessian).
    Fix
        ``loss.backward()``.
    References
        torch warns that backward(create_graph=True) makes a cycle of references that leaks memory.
    """
    for one in reading.rounds:
        scope = one.scope
        passes = one.of("backward")
        for act in passes:
            given = next((k for k in act.node.keywords if k.arg == "create_graph"), None)
            is_on = given is not None and isinstance(given.value, ast.Constant) and given.value.value is True
            others = {name_of(c.func) for c in scope.calls() if scope.inside(c, one.block)}
            if (
                not is_on
                or len(passes) > 1
                or others & {"grad", "hessian", "hvp", "jacobian"}
                or _is_second_order(one.scope)
            ):
                continue
            text = scope.text(act.node.func)
            rest = [scope.text(a) for a in act.node.args] + [
                f"{k.arg}={scope.text(k.value)}" for k in act.node.keywords if k is not given]  # fmt: skip
            yield noted(
                scope, act.node, "graph-kept", layer="loss", confidence=0.96,
                patch=patch(scope, swap=[(act.node, f"{text}({', '.join(rest)})")]),
                what="the backward pass builds a graph of the gradients, and nothing goes through it",
                why="Each gradient holds its graph and each parameter its gradient: no step's memory is let go.",
                fix="Leave create_graph out.", expected="loss.backward()", got=scope.text(act.node),
            )  # fmt: skip


def _is_second_order(scope: Scope) -> bool:
    return any("hess" in name_of(c.func).lower() or "sophia" in name_of(c.func).lower() for c in scope.calls())


@readings.register("graphs-in-a-list")
def graphs_in_a_list(reading: Reading) -> Iterator[Found]:
    """Find outputs or losses that a loop collects with their graphs, although no backward pass follows.

    What it measures
        A loop without a backward pass and outside of ``torch.no_grad()`` that appends what the model gave, or a loss,
        to a list that was made before it, or adds it to a sum.
    Why it matters
        The graphs of all batches, with all activations, stay in memory until the list is gone.
    When it is wrong
        Collections that a later backward pass of another function goes through.
    Fix
        ``with torch.no_grad():`` around the loop, or ``.detach()`` and ``.item()``.
    References
        The frequently asked questions of torch: "Don't accumulate history across your training loop".
    """
    for scope in reading.scopes:
        for node, kept, name in _collected(scope):
            loops = scope.loops(node)
            if not loops or reading.is_training_loop(scope, loops[0]) or scope.is_without_gradients(node):
                continue
            if _is_differentiated(reading, scope, loops[0], name) or not _is_made_before(scope, name, loops[0]):
                continue
            if not reading.rounds:
                continue
            what = kind(scope, kept)
            end = ".item()" if what == "loss" else ".detach()"
            yield noted(
                scope, node, "graph-kept", layer="metric", confidence=0.9, status="warning",
                patch=patch(scope, swap=[(kept, scope.text(kept) + end)]),
                what=f"'{name}' collects {'losses' if what == 'loss' else 'outputs'} with their graphs",
                why="Nothing is differentiated here, and the activations of all batches stay in memory.",
                fix="Put the loop under torch.no_grad().", expected="with torch.no_grad():", got=scope.text(kept),
            )  # fmt: skip


def _collected(scope: Scope) -> Iterator[tuple[ast.AST, ast.expr, str]]:
    for call in scope.calls("append"):
        if len(call.args) == 1 and isinstance(call.func, ast.Attribute) and _has_graph(scope, call.args[0]):
            yield call, call.args[0], scope.expression(call.func.value)
    for node in scope.nodes:
        if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add) and _has_graph(scope, node.value):
            yield node, node.value, scope.expression(node.target)


def _has_graph(scope: Scope, node: ast.expr) -> bool:
    inner = node
    while isinstance(inner, ast.BinOp):
        inner = inner.left
    return kind(scope, inner) in ("output", "loss")


def _is_made_before(scope: Scope, name: str, loop: ast.AST) -> bool:
    return any(not scope.inside(b.statement, loop) for b in scope.bindings.get(name, []))


def _is_differentiated(reading: Reading, scope: Scope, loop: ast.AST, name: str) -> bool:
    """Return whether a backward pass may go through what is collected: in this body, near the loop."""
    for one in reading.rounds:
        if one.scope is scope and scope.inside(loop, one.block):
            return True
    losses = {scope.expression(c.func.value) for c in scope.calls("backward") if isinstance(c.func, ast.Attribute)}
    if any(name in names_in(scope, c) for c in scope.calls("backward")):
        return True
    reads = {name}
    for _ in range(3):
        reads |= {n for n, bs in scope.bindings.items() for b in bs if reads & names_in(scope, b.value)}
    if reads & losses:
        return True
    returned = [n.value for n in scope.nodes if isinstance(n, ast.Return) and n.value is not None]
    is_given_back = isinstance(scope.node, ast.FunctionDef) and any(reads & names_in(scope, v) for v in returned)
    return is_given_back and not _is_evaluation(scope)


def _is_evaluation(scope: Scope) -> bool:
    named = getattr(scope.node, "name", "").lower()
    return any(word in named for word in ("eval", "valid", "test", "predict")) or any(True for _ in scope.calls("eval"))
