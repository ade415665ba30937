"""Types of notebook parameters: read from annotations and defaults, and values made to fit them.

No notebook is read here, and nothing is evaluated: annotations are taken from their syntax tree.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_NAMES = {
    "int": "int",
    "float": "float",
    "str": "str",
    "bool": "bool",
    "None": "none",
    "list": "list",
    "List": "list",
    "Sequence": "list",
    "dict": "dict",
    "Dict": "dict",
    "Mapping": "dict",
    "tuple": "tuple",
    "Tuple": "tuple",
}
_TRUE, _FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off"}


class Misfit(Exception):
    """A value that does not have the type; the caller says which parameter it was for."""


@dataclass(frozen=True)
class ParameterType:
    """One type: `name` is int, float, str, bool, none, list, dict, tuple, literal, union or any.

    `args` are the element types, the options of a literal (plain values), or the members of a union.
    """

    name: str
    args: tuple[Any, ...] = ()

    def __str__(self) -> str:
        if self.name == "union":
            return " | ".join(str(arg) for arg in self.args)
        if self.name == "literal":
            return f"Literal[{', '.join(repr(arg) for arg in self.args)}]"
        shown = {"none": "None", "any": "any value"}.get(self.name, self.name)
        inner = ", ".join("..." if arg is ... else str(arg) for arg in self.args)
        return f"{shown}[{inner}]" if inner else shown


ANY = ParameterType("any")


def type_of_default(value: Any) -> ParameterType:
    """Return the type that an unannotated parameter takes from its default; None allows any value."""
    if value is None:
        return ANY
    return ParameterType(_NAMES.get(type(value).__name__, "any"))


def type_of_annotation(node: ast.expr) -> ParameterType:
    """Return the type that an annotation names; what is not understood allows any value."""
    if isinstance(node, ast.Constant):
        if node.value is None:
            return ParameterType("none")
        return _of_text(node.value) if isinstance(node.value, str) else ANY
    if isinstance(node, ast.Name):
        return ParameterType(_NAMES.get(node.id, "any"))
    if isinstance(node, ast.Attribute):  # typing.List, t.Optional
        return ParameterType(_NAMES.get(node.attr, "any"))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _union([type_of_annotation(node.left), type_of_annotation(node.right)])
    if isinstance(node, ast.Subscript):
        return _of_subscript(node)
    return ANY


def _of_text(text: str) -> ParameterType:
    try:
        return type_of_annotation(ast.parse(text, mode="eval").body)
    except SyntaxError:
        return ANY


def _of_subscript(node: ast.Subscript) -> ParameterType:
    base = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
    items = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
    if base == "Literal":
        try:
            return ParameterType("literal", tuple(ast.literal_eval(item) for item in items))
        except ValueError:
            return ANY
    if base == "Optional":
        return _union([type_of_annotation(items[0]), ParameterType("none")])
    if base == "Union":
        return _union([type_of_annotation(item) for item in items])
    if base in ("Annotated", "Final"):
        return type_of_annotation(items[0])
    if base not in _NAMES:
        return ANY
    inner = tuple(... if _is_ellipsis(item) else type_of_annotation(item) for item in items)
    return ParameterType(_NAMES[base], inner)


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


def _union(members: list[ParameterType]) -> ParameterType:
    flat: list[ParameterType] = []
    for member in members:
        for each in member.args if member.name == "union" else (member,):
            if each.name == "any":
                return ANY
            if each not in flat:
                flat.append(each)
    return flat[0] if len(flat) == 1 else ParameterType("union", tuple(flat))


def fit(value: Any, kind: ParameterType, *, text: bool = False) -> Any:
    """Return `value` as the type asks for, or raise `Misfit`.

    Text is parsed where the type is not text: ``"3"`` for an int, JSON or a Python literal for a
    list. With `text` (a command line, where everything is text) it is also parsed where the type
    leaves a choice: ``"3"`` for any value, ``"none"`` for an optional one.
    """
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # NumPy and torch scalars
        value = value.item()
    if kind.name == "any":
        return _guess(value) if text and isinstance(value, str) else value
    if kind.name == "union":
        return _fit_union(value, kind, text=text)
    if kind.name == "literal":
        return _fit_literal(value, kind)
    return _FITTERS[kind.name](value, kind)


def _fit_union(value: Any, kind: ParameterType, *, text: bool) -> Any:
    members = list(kind.args)
    if isinstance(value, str) and not text:  # text that may stay text does
        members.sort(key=lambda member: member.name != "str")
    elif isinstance(value, str):
        members.sort(key=lambda member: (member.name == "str", member.name != "none"))
    else:  # a member of the very type first, so that 3 stays an int in float | int
        members.sort(key=lambda member: member.name != type(value).__name__)
    for member in members:
        try:
            return fit(value, member, text=text)
        except Misfit:
            continue
    raise Misfit


def _fit_literal(value: Any, kind: ParameterType) -> Any:
    for option in kind.args:
        if type(option) is type(value) and option == value:
            return option
    for option in kind.args:
        if isinstance(value, str) and str(option) == value:
            return option
    raise Misfit


def _fit_int(value: Any, kind: ParameterType) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        return int(_parsed(int, value))
    raise Misfit


def _fit_float(value: Any, kind: ParameterType) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        return float(_parsed(float, value))
    raise Misfit


def _parsed(make: Callable[[str], Any], text: str) -> Any:
    try:
        return make(text)
    except ValueError:
        raise Misfit from None


def _fit_str(value: Any, kind: ParameterType) -> str:
    if isinstance(value, str):
        return value
    raise Misfit


def _fit_bool(value: Any, kind: ParameterType) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _TRUE | _FALSE:
        return value.lower() in _TRUE
    raise Misfit


def _fit_none(value: Any, kind: ParameterType) -> None:
    if value is None or (isinstance(value, str) and value.lower() in ("none", "null")):
        return
    raise Misfit


def _fit_list(value: Any, kind: ParameterType) -> list[Any]:
    value = _structure(value)
    if not isinstance(value, list | tuple):
        raise Misfit
    return [fit(item, kind.args[0]) for item in value] if kind.args else list(value)


def _fit_tuple(value: Any, kind: ParameterType) -> tuple[Any, ...]:
    value = _structure(value)
    if not isinstance(value, list | tuple):
        raise Misfit
    if not kind.args:
        return tuple(value)
    if len(kind.args) == 2 and kind.args[1] is ...:
        return tuple(fit(item, kind.args[0]) for item in value)
    if len(kind.args) != len(value):
        raise Misfit
    return tuple(fit(item, arg) for item, arg in zip(value, kind.args, strict=True))


def _fit_dict(value: Any, kind: ParameterType) -> dict[Any, Any]:
    value = _structure(value)
    if not isinstance(value, dict):
        raise Misfit
    if len(kind.args) != 2:
        return dict(value)
    key_kind, item_kind = kind.args
    return {fit(key, key_kind): fit(item, item_kind) for key, item in value.items()}


def _structure(value: Any) -> Any:
    """Return what JSON or a Python literal in text stands for; other values as they are."""
    if not isinstance(value, str):
        return value
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(value)
        except (ValueError, SyntaxError):
            continue
    raise Misfit


def _guess(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text.lower() in ("none", "null"):
        return None
    try:
        return _structure(text)
    except Misfit:
        return text


_FITTERS: dict[str, Callable[[Any, ParameterType], Any]] = {
    "int": _fit_int,
    "float": _fit_float,
    "str": _fit_str,
    "bool": _fit_bool,
    "none": _fit_none,
    "list": _fit_list,
    "tuple": _fit_tuple,
    "dict": _fit_dict,
}


def literal_of(value: Any) -> str:
    """Return Python source that makes `value` again, exactly; `Misfit` for what has none.

    Unlike ``repr`` it holds for nan and infinity, and it never writes an object's address.
    """
    if value is None or type(value) in (bool, int, str):
        return repr(value)
    if type(value) is float:
        finite = value == value and value not in (float("inf"), float("-inf"))
        return repr(value) if finite else f'float("{value}")'
    if type(value) is list:
        return f"[{', '.join(literal_of(item) for item in value)}]"
    if type(value) is tuple:
        return f"({', '.join(literal_of(item) for item in value)}{',' if len(value) == 1 else ''})"
    if type(value) is dict:
        return f"{{{', '.join(f'{literal_of(key)}: {literal_of(item)}' for key, item in value.items())}}}"
    raise Misfit
