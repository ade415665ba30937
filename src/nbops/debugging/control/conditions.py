"""Conditions of breakpoints: small Python expressions over the numbers of a step, parsed with `ast`, never evaluated.

``grad_norm > 1e3``, ``loss > 2 * 1.5 and step >= 100``, ``layers["conv1"].zero_share > 0.9``.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from nbops.core.errors import QuerySyntaxError, did_you_mean
from nbops.debugging.views import LayerView

CHEAP = ("step", "loss", "grad_norm", "lr")  # known at every step
NAMES = (*CHEAP, "update_ratio", "scale")
FIELDS = tuple(f.name for f in fields(LayerView) if f.name not in ("name", "kind", "sizes", "tied_with"))
Numbers = Mapping[str, Any]  # names to numbers or None, "layers" to views by name
Test = Callable[[Numbers], Any]

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}  # fmt: skip
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}  # fmt: skip


@dataclass(frozen=True)
class Condition:
    """A parsed condition.

    text : as written
    is_cheap : whether it asks only for what is known at every step; else each step is measured in full
    layers : names of the layers it asks for
    """

    text: str
    test: Test
    is_cheap: bool
    layers: tuple[str, ...]

    def holds(self, numbers: Numbers) -> bool:
        """Return whether it is true; False where a number that it needs is not known."""
        try:
            return bool(self.test(numbers))
        except (_Unknown, ZeroDivisionError):
            return False


class _Unknown(Exception):
    """A number of the condition is not known at this step."""


def parse_condition(text: str, *, layers: Iterable[str]) -> Condition:
    """Return the condition that `text` means.

    Raises
    ------
    QuerySyntaxError
        It cannot be parsed, or names what is not known, or a layer that the model does not have.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise _wrong(f"cannot parse the condition {text.strip()!r}") from error
    reader = _Reader(text.strip(), tuple(layers))
    test = reader.node(tree)
    return Condition(text.strip(), test, reader.is_cheap, tuple(reader.asked))


def _wrong(what: str, hint: str = "") -> QuerySyntaxError:
    return QuerySyntaxError(what, hint=hint or 'Write e.g. grad_norm > 1e3 or layers["conv1"].zero_share > 0.9')


class _Reader:
    def __init__(self, text: str, layers: tuple[str, ...]) -> None:
        self.text = text
        self.is_cheap = True
        self.asked: list[str] = []
        self._layers = layers

    def node(self, tree: ast.expr) -> Test:
        match tree:
            case ast.BoolOp(op=op, values=values):
                parts = [self.node(value) for value in values]
                combine = all if isinstance(op, ast.And) else any
                return lambda numbers: combine(part(numbers) for part in parts)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self.node(operand)
                return lambda numbers: not inner(numbers)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                inner = self.node(operand)
                return lambda numbers: -inner(numbers)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                one, other, apply = self.node(left), self.node(right), _BINARY[type(op)]
                return lambda numbers: apply(one(numbers), other(numbers))
            case ast.Compare(left=left, ops=ops, comparators=rights) if all(type(op) in _COMPARE for op in ops):
                sides = [self.node(side) for side in (left, *rights)]
                tests = [_COMPARE[type(op)] for op in ops]
                return lambda numbers: all(
                    test(sides[i](numbers), sides[i + 1](numbers)) for i, test in enumerate(tests)
                )
            case ast.Constant(value=bool() | int() | float() as value):
                return lambda numbers: value
            case ast.Name(id=name):
                return self._name(name)
            case ast.Attribute(value=ast.Subscript(value=ast.Name(id="layers"), slice=ast.Constant(value=str(layer))),
                               attr=field):  # fmt: skip
                return self._layer(layer, field)
            case _:
                raise _wrong(f"'{ast.unparse(tree)}' cannot be used in the condition {self.text!r}")

    def _name(self, name: str) -> Test:
        if name not in NAMES:
            raise _wrong(f"no number '{name}' in the condition {self.text!r}", did_you_mean(name, (*NAMES, "layers")))
        self.is_cheap = self.is_cheap and name in CHEAP
        return lambda numbers: _known(numbers.get(name))

    def _layer(self, layer: str, field: str) -> Test:
        if layer not in self._layers:
            raise _wrong(f"no layer '{layer}' in the model", did_you_mean(layer, self._layers))
        if field not in FIELDS:
            raise _wrong(f"a layer has no number '{field}'", did_you_mean(field, FIELDS))
        self.is_cheap = False
        self.asked.append(layer)

        def value(numbers: Numbers) -> Any:
            view = numbers["layers"].get(layer)
            return _known(None if view is None else getattr(view, field))

        return value


def _known(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise _Unknown
    return value
