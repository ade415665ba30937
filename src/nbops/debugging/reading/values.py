"""What an expression of the user's source holds now, as far as that can be told without running anything of theirs."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from torch import nn
from torch.utils.data import DataLoader

MISSING: Any = type("Missing", (), {"__repr__": lambda _: "missing"})()
_SUMS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv,
}  # fmt: skip


def attribute(owner: Any, name: str) -> Any:
    """Return what is stored under ``owner.name``; no property and no ``__getattr__`` of the user's is run."""
    if owner is MISSING:
        return MISSING
    if isinstance(owner, ModuleType):
        return vars(owner).get(name, MISSING)
    held = getattr(owner, "__dict__", {})
    if isinstance(owner, nn.Module):
        for table in ("_modules", "_parameters", "_buffers"):
            if name in held.get(table, {}):
                return held[table][name]
    if name in held:
        return held[name]
    if isinstance(owner, DataLoader) and name in ("dataset", "batch_size"):
        return getattr(owner, name)
    for kind in getattr(type(owner), "__mro__", ()):
        found = vars(kind).get(name, MISSING)
        if callable(found) and not isinstance(found, type):
            return getattr(owner, name, MISSING)  # a method
    return MISSING


def number(node: ast.AST | None, value: Callable[[ast.AST], Any]) -> float | None:
    """Return an expression of numbers, their sums and products, and lengths; None if it holds anything else."""
    if node is None:
        return None
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = number(node.operand, value)
        return None if inner is None else -inner
    if isinstance(node, ast.BinOp) and type(node.op) in _SUMS:
        left, right = number(node.left, value), number(node.right, value)
        if left is None or right is None:
            return None
        try:
            return float(_SUMS[type(node.op)](left, right))
        except ArithmeticError:
            return None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1:
        if node.func.id in ("int", "float", "round"):
            return number(node.args[0], value)
        if node.func.id == "len":
            return length(value(node.args[0]))
    found = value(node)
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def length(thing: Any) -> float | None:
    """Return how many items a loader, a tensor or a plain container has; None for anything else."""
    if thing is MISSING:
        return None
    is_plain = isinstance(thing, list | tuple | dict | range | str) or type(thing).__module__.partition(".")[0] in (
        "torch", "numpy", "pandas",
    )  # fmt: skip
    if not is_plain and not isinstance(thing, DataLoader):
        return None
    try:
        return float(len(thing))
    except (TypeError, NotImplementedError):  # a stream, or a tensor without axes
        return None


def item(owner: Any, key: Any) -> Any:
    """Return an item of a plain container or of a sequence of modules."""
    try:
        if isinstance(owner, list | tuple) and isinstance(key, int):
            return owner[key]
        if isinstance(owner, nn.Sequential | nn.ModuleList) and isinstance(key, int):
            return owner[key]
        if isinstance(owner, dict) and isinstance(key, str | int):
            return owner.get(key, MISSING)
        if isinstance(owner, nn.ModuleDict) and isinstance(key, str):
            return owner._modules.get(key, MISSING)
    except (IndexError, KeyError):
        return MISSING
    return MISSING


def looked_up(name: str, *tables: Mapping[str, Any]) -> Any:
    """Return the first value under `name`."""
    return next((table[name] for table in tables if name in table), MISSING)
