"""One body of the user's code with what its names hold: of a module, a cell or a function. Nothing is executed."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nbops.debugging.places import Place, place_of_line, tree_of
from nbops.debugging.reading import values
from nbops.debugging.reading.values import MISSING
from nbops.debugging.source import Code, name_of

LOOPS = (ast.For, ast.AsyncFor, ast.While)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_DEEP = 8  # names that stand for names


@dataclass(frozen=True, slots=True)
class Binding:
    """A statement that binds a name.

    how : ``assign``, ``part`` (of a tuple: the value is the whole), ``add`` (``+=`` and its like), ``item`` (of a loop,
        over the value), ``with``
    """

    statement: ast.stmt
    value: ast.expr
    how: str = "assign"


class Scope:
    """A body of code.

    Attributes
    ----------
    file : str
        As the code carries it; IPython's own name for a cell.
    node : ast.Module or ast.FunctionDef
        The body; definitions inside it are scopes of their own.
    variables : mapping
        What the names hold, where the body is being executed; empty else.
    given : dict
        What the parameters of a function were called with: the caller's scope and expression.
    """

    def __init__(
        self, file: str, text: str, node: ast.AST, *, variables: Mapping[str, Any] | None,
        world: Mapping[str, Any], given: Mapping[str, tuple[Scope, ast.expr]] | None = None, line: int = 0,
        self_: Any = MISSING,
    ) -> None:  # fmt: skip
        self.file = file
        self.source = text
        self.node = node
        self.variables = variables if variables is not None else {}
        self.world = world
        self.given = dict(given or {})
        self.line = line  # that is being executed
        self.caller: Scope | None = None
        self.call: ast.Call | None = None
        self.self_ = self_
        self.above, self.nodes = _gathered(node)

    @cached_property
    def rows(self) -> list[bytes]:
        """The lines of the source; columns of a syntax tree count bytes."""
        return self.source.encode().split(b"\n")

    def forget(self) -> None:
        """Let go of what the names hold."""
        self.variables, self.world, self.given = {}, {}, {}
        self.self_, self.caller = MISSING, None

    # -- text and places -------------------------------------------------------------------------------------------

    def text(self, node: ast.AST) -> str:
        """Return the text of a node."""
        first, last = getattr(node, "lineno", 0), getattr(node, "end_lineno", 0)
        if not first or not last:
            return ""
        rows = self.rows[first - 1 : last]
        rows[-1] = rows[-1][: node.end_col_offset]  # type: ignore[attr-defined]
        rows[0] = rows[0][node.col_offset :]  # type: ignore[attr-defined]
        return b"\n".join(rows).decode()

    def place(self, node: ast.AST) -> Place:
        """Return the line of a node."""
        return place_of_line(self.file, getattr(node, "lineno", 1))

    def edits(self) -> Code:
        """Return a sheet for changes of this source."""
        return Code(self.source, ast.Module([], []))

    def expression(self, node: ast.expr) -> str:
        """Return what an expression is named by: ``net``, ``self.optimizer``; "" for anything but names and dots."""
        if isinstance(node, ast.Name):
            return node.id
        if isinstance(node, ast.Attribute):
            owner = self.expression(node.value)
            return f"{owner}.{node.attr}" if owner else ""
        return ""

    # -- structure -------------------------------------------------------------------------------------------------

    def around(self, node: ast.AST) -> Iterator[ast.AST]:
        """Iterate over what stands around a node, from the inside, without the scope's own body."""
        while (above := self.above.get(node)) is not None and above is not self.node:
            yield above
            node = above

    def statement(self, node: ast.AST) -> ast.stmt:
        """Return the statement that a node belongs to, itself if it is one."""
        while not isinstance(node, ast.stmt):
            node = self.above[node]
        return node

    def loops(self, node: ast.AST) -> list[ast.For | ast.AsyncFor | ast.While]:
        """Return the loops around a node, innermost first."""
        return [one for one in self.around(node) if isinstance(one, ast.For | ast.AsyncFor | ast.While)]

    def inside(self, node: ast.AST, block: ast.AST) -> bool:
        """Return whether `block` is the scope's body or stands around `node`."""
        return block is self.node or any(one is block for one in self.around(node))

    def calls(self, *names: str) -> Iterator[ast.Call]:
        """Iterate over the calls of functions and methods of these names, or over all."""
        for called, node in self._calls:
            if not names or called in names:
                yield node

    @cached_property
    def _calls(self) -> list[tuple[str, ast.Call]]:
        return [(name_of(node.func), node) for node in self.nodes if isinstance(node, ast.Call)]

    @cached_property
    def _statements(self) -> list[ast.stmt]:
        found = [node for node in self.nodes if isinstance(node, ast.stmt)]
        return sorted(found, key=lambda node: (node.lineno, node.col_offset))

    def statements(self) -> Iterator[ast.stmt]:
        """Iterate over the statements, in the order of the lines."""
        yield from self._statements

    def is_called_in_file(self, name: str, *, of: str = "") -> bool:
        """Return whether the file calls a method of that name anywhere, of the object `of` if one is named."""
        for node in ast.walk(tree_of(self.file) or self.node):
            owner = node.func.value if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else None
            if owner is not None and name_of(node.func) == name and (not of or self.expression(owner) == of):  # type: ignore[attr-defined]
                return True
        return False

    def is_without_gradients(self, node: ast.AST) -> bool:
        """Return whether a node stands under no_grad, inference_mode or set_grad_enabled, or its function does."""
        for one in [*self.around(node), self.node]:
            heads: list[ast.expr] = []
            if isinstance(one, ast.With | ast.AsyncWith):
                heads = [item.context_expr for item in one.items]
            elif isinstance(one, ast.FunctionDef):
                heads = one.decorator_list
            if any(_stops_gradients(self.text(head)) for head in heads):
                return True
        if any(name_of(call.func) == "set_grad_enabled" for call in self.calls("set_grad_enabled")):
            return True
        return self.caller is not None and self.call is not None and self.caller.is_without_gradients(self.call)

    # -- names -----------------------------------------------------------------------------------------------------

    @cached_property
    def bindings(self) -> dict[str, list[Binding]]:
        """What binds each name (``net``, ``self.net``), in the order of the lines."""
        found: dict[str, list[Binding]] = {}
        for statement in self.statements():
            for target, binding in _bound(statement):
                if name := self.expression(target):
                    found.setdefault(name, []).append(binding)
        return found

    def bound(self, name: str, *, before: ast.AST | None = None) -> Binding | None:
        """Return the last binding of a name, above the line of `before` if there is one."""
        known = self.bindings.get(name, [])
        limit = getattr(before, "lineno", 0)
        above = [one for one in known if one.statement.lineno < limit] if limit else []
        return (above or known)[-1] if known else None

    def value(self, node: ast.AST | None, depth: int = _DEEP) -> Any:
        """Return what an expression of names, dots, constants and plain indices holds now; MISSING if not known."""
        if node is None or depth <= 0:
            return MISSING
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self._named(node.id, depth)
        if isinstance(node, ast.Attribute):
            return values.attribute(self.value(node.value, depth - 1), node.attr)
        if isinstance(node, ast.Subscript):
            return values.item(self.value(node.value, depth - 1), self.value(node.slice, depth - 1))
        return MISSING

    def _named(self, name: str, depth: int) -> Any:
        if name in self.variables:
            return self.variables[name]
        if name == "self" and self.self_ is not MISSING:
            return self.self_
        if name in self.given:
            caller, expression = self.given[name]
            return caller.value(expression, depth - 1)
        own = self.bindings.get(name, [])
        if own and not isinstance(self.node, ast.Module):
            last = own[-1]
            return self.value(last.value, depth - 1) if len(own) == 1 and last.how == "assign" else MISSING
        if isinstance(self.node, ast.FunctionDef | ast.AsyncFunctionDef) and name in parameters(self.node):
            return MISSING
        return self.world.get(name, MISSING)

    def number(self, node: ast.AST | None) -> float | None:
        """Return what an expression of numbers is; None if it cannot be told."""
        found = values.number(node, self.value)
        if found is None and isinstance(node, ast.Name) and (bound := self.bound(node.id)) and bound.how == "assign":
            return values.number(bound.value, self.value)
        return found


_shapes: dict[int, tuple[ast.AST, dict[ast.AST, ast.AST], list[ast.AST]]] = {}
_MOST_SHAPES = 200


def _gathered(body: ast.AST) -> tuple[dict[ast.AST, ast.AST], list[ast.AST]]:
    """Return what stands above each node of a body, and the nodes in order, without those of definitions inside."""
    known = _shapes.get(id(body))
    if known is None or known[0] is not body:
        if len(_shapes) > _MOST_SHAPES:
            _shapes.clear()
        above: dict[ast.AST, ast.AST] = {}
        nodes: list[ast.AST] = []
        _gather(body, above, nodes)
        known = _shapes[id(body)] = body, above, nodes
    return known[1], known[2]


def _gather(node: ast.AST, above: dict[ast.AST, ast.AST], nodes: list[ast.AST]) -> None:
    for name in node._fields:
        value = getattr(node, name, None)
        for child in value if isinstance(value, list) else (value,):
            if isinstance(child, ast.AST):
                above[child] = node
                nodes.append(child)
                if not isinstance(child, (*DEFINITIONS, ast.Lambda)):
                    _gather(child, above, nodes)


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Return the names of a function's parameters, in the order of a call."""
    return [one.arg for one in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]]


def _stops_gradients(text: str) -> bool:
    return any(name in text for name in ("no_grad", "inference_mode", "set_grad_enabled"))


def _bound(statement: ast.stmt) -> Iterator[tuple[ast.expr, Binding]]:
    if isinstance(statement, ast.Assign):
        for target in statement.targets:
            yield from _spread(target, statement.value, statement, "assign")
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        yield statement.target, Binding(statement, statement.value)
    elif isinstance(statement, ast.AugAssign):
        yield statement.target, Binding(statement, statement.value, "add")
    elif isinstance(statement, ast.For | ast.AsyncFor):
        yield from _spread(statement.target, statement.iter, statement, "item")
    elif isinstance(statement, ast.With | ast.AsyncWith):
        for item in statement.items:
            if item.optional_vars is not None:
                yield from _spread(item.optional_vars, item.context_expr, statement, "with")


def _spread(
    target: ast.expr, value: ast.expr, statement: ast.stmt, how: str
) -> Iterator[tuple[ast.expr, Binding]]:  # fmt: skip
    if not isinstance(target, ast.Tuple | ast.List):
        yield target, Binding(statement, value, how)
        return
    is_row = how == "assign" and isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts)
    parts = value.elts if is_row and isinstance(value, ast.Tuple | ast.List) else [value] * len(target.elts)
    for one, part in zip(target.elts, parts, strict=True):
        inner = one.value if isinstance(one, ast.Starred) else one
        yield from _spread(inner, part, statement, how if is_row or how != "assign" else "part")
