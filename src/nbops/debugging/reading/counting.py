"""How often a loop runs, and whether a number is to fall or to rise: what several rules ask of the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from nbops.debugging.reading.kinds import direction, kind
from nbops.debugging.reading.scopes import Scope
from nbops.debugging.reading.values import length
from nbops.debugging.source import name_of

_WRAPPERS = ("tqdm", "enumerate", "track", "progress_bar", "reversed", "list", "notebook_tqdm")


def times(scope: Scope, loop: ast.AST) -> float | None:
    """Return how many rounds a loop runs; None if that cannot be told, or if something breaks out of it."""
    if not isinstance(loop, ast.For) or any(
        isinstance(n, ast.Break) and _loop_of(scope, n) is loop for n in scope.nodes
    ):
        return None
    return times_of(scope, loop.iter)


def times_of(scope: Scope, iterated: ast.expr) -> float | None:
    """Return how many items an expression gives to a loop."""
    if isinstance(iterated, ast.Call):
        name = name_of(iterated.func)
        if name in ("range", "trange") and iterated.args:
            ends = [scope.number(a) for a in iterated.args]
            if any(end is None for end in ends):
                return None
            known = [int(end) for end in ends if end is not None]
            return float(len(range(*known))) if len(known) <= 3 and (len(known) < 3 or known[2]) else None
        return times_of(scope, iterated.args[0]) if name in _WRAPPERS and iterated.args else None
    return length(scope.value(iterated))


def over(iterated: ast.expr) -> ast.expr:
    """Return what a loop runs over, without ``enumerate`` or a progress bar around it."""
    while isinstance(iterated, ast.Call) and name_of(iterated.func) in _WRAPPERS and iterated.args:
        iterated = iterated.args[0]
    return iterated


def _loop_of(scope: Scope, node: ast.AST) -> ast.AST | None:
    return next(iter(scope.loops(node)), None)


def counts(scope: Scope, node: ast.AST) -> float | None:
    """Return how often a node is executed: the product of the loops around it, through the calls of its function."""
    product = 1.0
    for loop in scope.loops(node):
        found = times(scope, loop)
        if found is None:
            return None
        product *= found
    if scope.caller is not None and scope.call is not None:
        outside = counts(scope.caller, scope.call)
        return None if outside is None else product * outside
    return product


def tendency(scope: Scope, node: ast.AST | None, depth: int = 5) -> int:
    """Return -1 for an expression that is to fall (a loss), 1 for one that is to rise, 0 where neither is plain."""
    if node is None or depth <= 0:
        return 0
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -tendency(scope, node.operand, depth - 1)
    if isinstance(node, ast.Name | ast.Attribute):
        name = scope.expression(node)
        known = direction(name) if name else 0
        if known or not name:
            return known
        found = {tendency(scope, b.value, depth - 1) for b in scope.bindings.get(name, []) if _tells(b.value)}
        return found.pop() if len(found) == 1 else 0
    if isinstance(node, ast.Subscript):
        key = node.slice.value if isinstance(node.slice, ast.Constant) else ""
        return direction(key) if isinstance(key, str) and key else tendency(scope, node.value, depth - 1)
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.Mult | ast.Div):
            return tendency(scope, node.left, depth - 1)
        return 0
    if isinstance(node, ast.Call):
        return _tendency_of_call(scope, node, depth)
    return 0


def _tells(value: ast.expr) -> bool:
    return not isinstance(value, ast.Constant)


def _tendency_of_call(scope: Scope, call: ast.Call, depth: int) -> int:
    if kind(scope, call) == "loss":
        return -1
    name = name_of(call.func)
    if name in ("item", "mean", "float", "detach", "cpu", "sqrt", "numpy", "sum"):
        if call.args and name in ("float", "mean", "sum"):
            return tendency(scope, call.args[0], depth - 1)
        return tendency(scope, call.func.value, depth - 1) if isinstance(call.func, ast.Attribute) else 0
    return direction(name)


def parts(node: ast.AST) -> Iterator[ast.AST]:
    """Iterate over the nodes of an expression, itself included."""
    yield from ast.walk(node)


def names_in(scope: Scope, node: ast.AST) -> set[str]:
    """Return the names, with their dots, that an expression reads."""
    found = {scope.expression(n) for n in ast.walk(node) if isinstance(n, ast.Name | ast.Attribute)}
    return found - {""}
