"""How the user's loop prepares what it gives to the loss: ``criterion(net(x).flatten(0, 1), y.flatten())``.

Read from the code around, never run there: the expressions are evaluated on the copies of a pass.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from nbops.debugging.definitions import Scope
from nbops.debugging.places import assignments
from nbops.debugging.tensors import unwrap

Arrangement = Callable[[Any, Any], tuple[Any, Any]]
_DEPTH = 4  # variables that are followed
_OUTPUT, _TARGET = "_nbops_output", "_nbops_target"
_PLAIN = (
    ast.Attribute, ast.Call, ast.Name, ast.Constant, ast.Subscript, ast.Slice, ast.UnaryOp, ast.BinOp, ast.Tuple,
    ast.keyword, ast.expr_context, ast.operator, ast.unaryop,
)  # fmt: skip


def arrangement(model: Any, loss: Any, scopes: Sequence[Scope]) -> Arrangement | None:
    """Return what makes the loss's first two arguments of output and target, as the loop does it.

    None where the loop passes them as they are, where no call of the loss is found, or calls prepare them differently.
    """
    found: dict[str, tuple[ast.Expression, Mapping[str, Any]]] = {}
    is_plain = False
    for scope in scopes if loss is not None else ():
        models = {name for name, value in scope.variables.items() if value is not None and _is(value, model)}
        for call in _calls(scope, loss):
            first, second = (_followed(node, models, scope) for node in call.args[:2])
            output, target = _output_in(first, models), _target_in(second, scope)
            if output is None or target is None:
                continue
            if output is first and target is second:
                is_plain = True
                continue
            pair = ast.Tuple([_with(first, output, _OUTPUT), _with(second, target, _TARGET)], ast.Load())
            if all(isinstance(node, _PLAIN) for node in ast.walk(pair)):
                made = ast.fix_missing_locations(ast.Expression(pair))
                found.setdefault(ast.dump(made), (made, scope.variables))
    if is_plain or len(found) != 1:
        return None
    [(expression, variables)] = found.values()
    code = compile(expression, "<loss>", "eval")

    def arrange(output: Any, target: Any) -> tuple[Any, Any]:
        first, second = eval(code, {**variables, _OUTPUT: output, _TARGET: target})  # noqa: S307 (the user's own)
        return first, second

    return arrange


def _is(value: Any, model: Any) -> bool:
    return value is model or (hasattr(value, "forward") and unwrap(value) is model)


def _calls(scope: Scope, loss: Any) -> Iterator[ast.Call]:
    """Iterate over the calls of the loss with two arguments or more, by its variables or its function's name."""
    names = {name for name, value in scope.variables.items() if value is loss}
    own = getattr(loss, "__name__", "")
    for node in ast.walk(scope.body):
        if not isinstance(node, ast.Call) or len(node.args) < 2 or any(isinstance(a, ast.Starred) for a in node.args):
            continue
        is_function = isinstance(node.func, ast.Attribute) and node.func.attr == own and bool(own)
        if is_function or (isinstance(node.func, ast.Name) and node.func.id in names):
            yield node


def _followed(node: ast.expr, models: set[str], scope: Scope, depth: int = _DEPTH) -> ast.expr:
    """Return an expression with what variables were given in their place, as far as that is made of an output."""

    class Following(ast.NodeTransformer):
        def visit_Name(self, inner: ast.Name) -> Any:
            values = [v for _, v in assignments(scope.body, inner.id, of_self=False) if v is not None]
            if not depth or len({ast.dump(v) for v in values}) != 1:
                return inner
            value = _followed(values[0], models, scope, depth - 1)
            return copy.deepcopy(value) if _output_in(value, models) is not None else inner

    if isinstance(node, ast.Name):
        made: ast.expr = Following().visit(node)
        return made
    return node if _output_in(node, models) is not None else Following().visit(copy.deepcopy(node))


def _output_in(node: ast.expr, models: set[str]) -> ast.expr | None:
    """Return the only part of an expression that calls the model."""
    found = [one for one in ast.walk(node) if _is_output(one, models)]
    return found[0] if len(found) == 1 and isinstance(found[0], ast.expr) else None


def _is_output(node: ast.AST, models: set[str]) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in models


def _target_in(node: ast.expr, scope: Scope) -> ast.expr | None:
    """Return the only variable of an expression that holds no module or function."""
    names = [one for one in ast.walk(node) if isinstance(one, ast.Name) and not _is_code(scope.variables.get(one.id))]
    return names[0] if len(names) == 1 else None


def _is_code(value: Any) -> bool:
    return isinstance(value, ModuleType) or (callable(value) and not hasattr(value, "shape"))


def _with(node: ast.expr, part: ast.expr, name: str) -> ast.expr:
    """Return a copy of an expression in which one part is a variable."""

    class Replacing(ast.NodeTransformer):
        def visit(self, inner: ast.AST) -> Any:
            return ast.Name(name, ast.Load()) if inner is part else self.generic_visit(inner)

    memo: dict[int, Any] = {id(part): part}  # the part stays the same object, so that it is found in the copy
    made: ast.expr = Replacing().visit(copy.deepcopy(node, memo))
    return made
