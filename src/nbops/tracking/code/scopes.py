"""What the body of a function, a class or a comprehension takes from outside it, by Python's rules of scope.

Knows no order of statements and no notebook: `names` follows a whole cell.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable


class Scope(ast.NodeVisitor):
    """What the body of a function, class or comprehension loads, stores, and passes on from scopes inside it."""

    def __init__(self) -> None:
        self.loads: dict[str, None] = {}
        self.stores: set[str] = set()
        self.shared: set[str] = set()  # declared global
        self.outer: set[str] = set()  # declared nonlocal
        self.nested: dict[str, None] = {}  # free in scopes inside this one
        self.walrus: set[str] = set()
        self.global_writes: set[str] = set()

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.loads.setdefault(node.id)
        else:
            self.stores.add(node.id)

    def visit_Global(self, node: ast.Global) -> None:
        self.shared.update(node.names)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self.outer.update(node.names)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.walrus.add(node.target.id)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.loads.setdefault(node.target.id)
        self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> None:
        self.stores.update(bound_by(node))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            self._visit_all(evaluated_first(node))
            self._take(function_scope(node))
        elif isinstance(node, ast.ClassDef):
            self._visit_all(evaluated_first(node))
            inner = scope_of(node.body)
            self._take(inner, own={**without(inner.loads, inner.stores), **inner.nested})
        elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            self.visit(node.generators[0].iter)  # evaluated outside: [x for x in x]
            inner = Scope()
            ast.NodeVisitor.generic_visit(inner, node)
            inner.stores -= inner.walrus
            self.stores |= inner.walrus
            self._take(inner)
        else:
            super().generic_visit(node)

    def _visit_all(self, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)

    def _take(self, inner: Scope, *, own: dict[str, None] | None = None) -> None:
        self.nested.update(inner.free() if own is None else own)
        self.global_writes |= inner.global_writes

    def free(self) -> dict[str, None]:
        """Return the names taken from outside, in order."""
        hidden = self.stores - self.shared - self.outer
        return without({**self.loads, **self.nested}, hidden)


def without(names: dict[str, None], hidden: set[str]) -> dict[str, None]:
    """Return `names` in order, less the hidden ones."""
    return {name: None for name in names if name not in hidden}


def scope_of(body: Iterable[ast.AST]) -> Scope:
    """Return the scope that `body` makes."""
    scope = Scope()
    for node in body:
        scope.visit(node)
    scope.global_writes |= scope.stores & scope.shared
    return scope


Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def function_scope(node: Function) -> Scope:
    """Return what the body of a function loads and stores, its parameters bound."""
    scope = scope_of(node.body if isinstance(node.body, list) else [node.body])
    a = node.args
    given = [*a.posonlyargs, *a.args, *a.kwonlyargs, *(arg for arg in (a.vararg, a.kwarg) if arg is not None)]
    scope.stores.update(arg.arg for arg in given)
    scope.stores.update(str(each.name) for each in getattr(node, "type_params", ()))
    return scope


def evaluated_first(node: Function | ast.ClassDef) -> list[ast.AST]:
    """Return what runs where the definition stands: decorators, bases, defaults, annotations."""
    if isinstance(node, ast.ClassDef):
        return [*node.decorator_list, *node.bases, *node.keywords]
    a = node.args
    found: list[ast.AST | None] = [*a.defaults, *a.kw_defaults]
    if not isinstance(node, ast.Lambda):
        given = [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg]
        found = [*node.decorator_list, *found, *(arg.annotation for arg in given if arg is not None), node.returns]
    return [each for each in found if each is not None]


def bound_by(node: ast.AST) -> list[str]:
    """Return the names that a node binds other than by an assigned `ast.Name`."""
    match node:
        case ast.Import(names=names):
            return [alias.asname or alias.name.partition(".")[0] for alias in names]
        case ast.ImportFrom(names=names):
            return [alias.asname or alias.name for alias in names]
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            return [name]
        case ast.MatchMapping(rest=str(name)):
            return [name]
    return []
