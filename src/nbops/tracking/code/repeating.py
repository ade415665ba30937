"""Whether executing a cell twice leaves a name as executing it once does."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from nbops.tracking.code.names import parsed


def is_repeatable(source: str, name: str) -> bool:
    """Return whether a cell that reads and changes `name` can run again without a further effect on it.

    So it is when the cell only sets parts of it, ``df["a"] = …``, and takes none of these parts before:
    ``df["a"] = df["b"] * 2`` can, ``df["a"] = df["a"] * 2`` and ``x += 1`` cannot. Source that is no
    Python cannot.
    """
    tree = parsed(source)
    if tree is None:
        return False
    if any(_binds(node, name) for node in ast.walk(tree)):
        return False
    taken: set[str] = set()
    for statement in tree.body:
        stores = {ast.unparse(node) for node in ast.walk(statement) if _sets_part(node, name)}
        taken |= set(_parts_taken(statement, name))
        if stores & taken:
            return False
    return True


def parts_set(source: str, name: str) -> set[str]:
    """Return the parts of `name` that a cell sets, as written: ``df["a"]``; none if it also defines `name` itself."""
    tree = parsed(source)
    if tree is None or any(_binds(node, name) for node in ast.walk(tree)):
        return set()
    return {ast.unparse(node) for node in ast.walk(tree) if _sets_part(node, name)}


def _binds(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.AugAssign):
        return _base(node.target) == name
    if isinstance(node, ast.Attribute | ast.Subscript):
        return isinstance(node.ctx, ast.Del) and _base(node) == name
    return isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Load)


def _sets_part(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store) and _base(node) == name


def _parts_taken(statement: ast.stmt, name: str) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Load) and _base(node) == name:
            yield ast.unparse(node)


def _base(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
