"""The user's own statements from the model's call to the backward pass, kept so that a step can be computed again.

Only what the loss depends on is kept: prints, lists that collect losses, progress bars and
optimizer calls in between are left out. The statements keep their file and line numbers.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

from torch import nn

from nbops.debugging.batch import Place


@dataclass
class Scene:
    """Statements, and the variables that they need.

    model_names : variables that are the watched model itself; it is held weakly
    """

    code: CodeType
    file: str
    first_line: int
    last_line: int
    variables: dict[str, Any]
    surroundings: dict[str, Any] = field(repr=False)
    model: weakref.ref[nn.Module] | None = None
    model_names: tuple[str, ...] = ()

    def run(self) -> None:
        """Execute the statements with copies of the variables' names; the caller stops at the backward pass."""
        names = {**self.surroundings, **self.variables}
        model = self.model() if self.model is not None else None
        names.update(dict.fromkeys(self.model_names, model))
        exec(self.code, names)  # noqa: S102 (the user's own code, which has run just now)


def scene_of(
    frame: FrameType | None, then: Sequence[Place], calls: Sequence[Place], model: nn.Module | None
) -> Scene | None:
    """Return the statements between a call of the model and a backward pass; None if they cannot be found.

    Parameters
    ----------
    frame : frame
        The frame that called ``backward``.
    then, calls : sequence of Place
        Where that frame and its callers were at that moment, and where they were at the call of the model.
    """
    at_call = {(key, code): line for key, code, line in calls}
    now = frame
    for key, code, line in then:
        while now is not None and now.f_code is not code:
            now = now.f_back
        if now is None:
            return None
        if (key, code) in at_call and id(now) == key:
            return _cut(now, at_call[key, code], line, model)
    return None


def _cut(frame: FrameType, first: int, last: int, model: nn.Module | None) -> Scene | None:
    name = frame.f_code.co_filename
    source = "".join(linecache.getlines(name, frame.f_globals))
    if not source or first > last:
        return None
    try:
        tree = ast.parse(source)
    except SyntaxError:  # magics, or a file that was changed meanwhile
        return None
    block = _block(tree.body, first, last)
    if block is None:
        return None
    needed = _slice(block, first)
    used = set().union(*(_names(stmt, ast.Load) | _names(stmt, ast.Store) for stmt in needed))
    local = frame.f_locals
    variables = {key: local[key] for key in used if key in local}
    is_module = local is frame.f_globals
    kept = dict(frame.f_globals) if not is_module else {k: v for k, v in local.items() if _is_definition(v)}
    if sys.version_info < (3, 13) and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        local.clear()  # a copy that the frame would keep, with the model in it
    models = tuple(key for key, value in variables.items() if value is model and model is not None)
    for key in models:
        del variables[key]
    module = ast.Module(body=needed, type_ignores=[])
    return Scene(
        compile(module, name, "exec"), name, needed[0].lineno, needed[-1].end_lineno or last, variables,
        kept,
        weakref.ref(model) if model is not None else None, models,
    )  # fmt: skip


def _is_definition(value: Any) -> bool:
    """Return whether a global is code rather than data, which is not kept alive for a replay."""
    return callable(value) or type(value).__name__ == "module" or isinstance(value, int | float | str | bool)


def _block(body: list[ast.stmt], first: int, last: int) -> list[ast.stmt] | None:
    """Return the innermost run of statements that begins at `first` and ends at `last`."""
    start = next((i for i, s in enumerate(body) if s.lineno <= first <= (s.end_lineno or s.lineno)), None)
    end = next((i for i, s in enumerate(body) if s.lineno <= last <= (s.end_lineno or s.lineno)), None)
    if start is None or end is None:
        return None
    if start == end:
        for inner in _bodies(body[start]):
            found = _block(inner, first, last)
            if found is not None:
                return found
        if isinstance(body[start], ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.For | ast.While):
            return None
    return body[start : end + 1]


def _bodies(stmt: ast.stmt) -> list[list[ast.stmt]]:
    found = [getattr(stmt, name, []) for name in ("body", "orelse", "finalbody")]
    found += [handler.body for handler in getattr(stmt, "handlers", [])]
    return [body for body in found if body]


def _slice(block: list[ast.stmt], first: int) -> list[ast.stmt]:
    """Return the statements of a block that its last one depends on, from the call of the model on."""
    kept = [block[-1]]
    needed = _names(block[-1], ast.Load)
    for stmt in reversed(block[:-1]):
        is_call = stmt.lineno <= first <= (stmt.end_lineno or stmt.lineno)
        if is_call or _names(stmt, ast.Store) & needed or _written(stmt) & needed:
            kept.insert(0, stmt)
            needed |= _names(stmt, ast.Load)
    return kept


def _names(node: ast.AST, context: type[ast.expr_context]) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, context)} | (
        {n.target.id for n in ast.walk(node) if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name)}
    )


def _written(stmt: ast.stmt) -> set[str]:
    """Return names that a statement changes in place: ``x[...] = …``, ``x.clamp_(…)``."""
    found: set[str] = set()
    for node in ast.walk(stmt):
        target: ast.expr | None = None
        if isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store):
            target = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr.endswith("_"):
            target = node.func.value
        while isinstance(target, ast.Attribute | ast.Subscript):
            target = target.value
        if isinstance(target, ast.Name):
            found.add(target.id)
    return found
