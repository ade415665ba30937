"""Typed parameters of a notebook: read from the cell tagged ``parameters``, checked before anything starts.

The cell is parsed, never executed. What fits a type is in `parameter_types`.
"""

from __future__ import annotations

import ast
import io
import json
import operator
import tokenize
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbops.core.errors import InvalidInput, NotFound, ParameterError, did_you_mean
from nbops.pipelines.parameter_types import (
    ANY,
    Misfit,
    ParameterType,
    fit,
    literal_of,
    type_of_annotation,
    type_of_default,
)

TAG, INJECTED_TAG = "parameters", "injected-parameters"


@dataclass(frozen=True)
class Parameter:
    """One settable name: its type, its default (None where `required`), the comment beside it."""

    name: str
    type: ParameterType
    default: Any = None
    help: str = ""
    required: bool = False
    line: int = 0


@dataclass(frozen=True)
class ParameterSpec:
    """All that a parameters cell tells.

    `computed` holds the names that the cell computes and that cannot be set, each with its source;
    `reason` says why nothing could be read (no such cell, another language), or is empty.
    """

    notebook: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    computed: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""

    @property
    def defaults(self) -> dict[str, Any]:
        """Default of each parameter that has one."""
        return {p.name: p.default for p in self.parameters.values() if not p.required}

    def rows(self) -> list[dict[str, str]]:
        """Return name, type, default and help of each parameter as text, for a table."""
        return [
            {"name": p.name, "type": str(p.type), "default": "" if p.required else repr(p.default), "help": p.help}
            for p in self.parameters.values()
        ]

    def notes(self, given: Mapping[str, Any]) -> list[str]:
        """Return what the user should know: names computed from a given parameter keep the default's value."""
        told = []
        for name, source in self.computed.items():
            used = sorted(_names_in(source) & set(given))
            if used:
                told.append(
                    f"'{name} = {source}' stands in the parameters cell of {self.notebook}, so it uses the default of "
                    f"'{used[0]}' and not {given[used[0]]!r}; move it to a later cell"
                )
        return told


def read_parameters(notebook: str | Path | Mapping[str, Any], *, name: str = "the notebook") -> ParameterSpec:
    """Return the typed parameters of a notebook (a path, or its parsed JSON, which messages call `name`).

    Raises
    ------
    NotFound
        There is no such file.
    InvalidInput
        The file is not a notebook.
    ParameterError
        The parameters cell is not valid Python.
    """
    if not isinstance(notebook, Mapping):
        path = Path(notebook)
        name, notebook = path.name, load_json(path)
    language = _language(notebook)
    if language not in ("", "python"):
        return ParameterSpec(name, reason=f"{name} is written in {language}, whose parameters cannot be read")
    for cell in notebook.get("cells", []):
        if cell.get("cell_type") == "code" and TAG in cell.get("metadata", {}).get("tags", []):
            source = cell.get("source", "")
            return parse_parameters(source if isinstance(source, str) else "".join(source), notebook=name)
    return ParameterSpec(name, reason=f"{name} has no code cell tagged '{TAG}'")


def load_json(path: Path) -> dict[str, Any]:
    """Return the JSON of a notebook file, or raise `NotFound` or `InvalidInput`."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        near = did_you_mean(path.name, [other.name for other in path.parent.glob("*.ipynb")])
        raise NotFound(f"no notebook '{path}'", hint=near or "Check the path.") from None
    except (ValueError, IsADirectoryError) as error:
        raise InvalidInput(f"'{path}' is not a notebook: {error}", hint="Give the path of an .ipynb file.") from None
    if not isinstance(found, dict) or "nbformat" not in found:
        raise InvalidInput(f"'{path}' is not a notebook: it has no 'nbformat'", hint="Give the path of an .ipynb file.")
    return found


def _language(notebook: Mapping[str, Any]) -> str:
    metadata = notebook.get("metadata", {})
    named = metadata.get("kernelspec", {}).get("language") or metadata.get("language_info", {}).get("name") or ""
    return str(named).lower()


def parse_parameters(source: str, *, notebook: str = "the notebook") -> ParameterSpec:
    """Return the parameters that the source of a parameters cell defines."""
    code = _without_magics(source)
    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        raise ParameterError(
            f"the parameters cell of {notebook} is not valid Python: {error.msg} (line {error.lineno})",
            hint="Keep only plain assignments in that cell.",
        ) from None
    comments = _comments(code)
    found: dict[str, Parameter] = {}
    computed: dict[str, str] = {}
    for statement in tree.body:
        for name, annotation, value in _bindings(statement):
            found.pop(name, None)
            computed.pop(name, None)
            help, hinted = _help(statement, comments)
            try:
                found[name] = _parameter(name, annotation or hinted, value, help, statement.lineno)
            except _Computed:
                computed[name] = ast.unparse(value) if value is not None else ast.unparse(statement)
    return ParameterSpec(notebook, found, computed)


def _parameter(
    name: str, annotation: ast.expr | None, value: ast.expr | None, help: str, line: int
) -> Parameter:  # fmt: skip
    if value is None:
        if annotation is None:
            raise _Computed
        return Parameter(name, type_of_annotation(annotation), None, help, True, line)
    default = _constant(value)
    kind = type_of_default(default) if annotation is None else type_of_annotation(annotation)
    if default is None and kind.name not in ("any", "none", "union"):  # x: int = None means an optional int
        kind = ParameterType("union", (kind, ParameterType("none")))
    return Parameter(name, kind, default, help, False, line)


def _without_magics(source: str) -> str:
    """Blank IPython's lines (%, !, ?) so that the rest parses and keeps its line numbers."""
    return "\n".join("" if line[:1] in ("%", "!", "?") else line for line in source.split("\n"))


Binding = tuple[str, ast.expr | None, ast.expr | None]


def _bindings(statement: ast.stmt) -> Iterator[Binding]:
    """Yield (name, annotation, value) for each name that a statement binds; no value means computed or required."""
    if isinstance(statement, ast.AnnAssign):
        if isinstance(statement.target, ast.Name):
            yield statement.target.id, statement.annotation, statement.value
    elif isinstance(statement, ast.Assign):
        for target in statement.targets:
            yield from _targets(target, statement.value)
    elif not isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id, None, None


def _targets(target: ast.expr, value: ast.expr) -> Iterator[Binding]:
    if isinstance(target, ast.Name):
        yield target.id, None, value
    elif isinstance(target, ast.Tuple | ast.List):
        values = value.elts if isinstance(value, ast.Tuple | ast.List) else []
        if len(values) == len(target.elts) and not any(isinstance(e, ast.Starred) for e in [*target.elts, *values]):
            for each, its_value in zip(target.elts, values, strict=True):
                yield from _targets(each, its_value)
        else:
            for node in ast.walk(target):
                if isinstance(node, ast.Name):
                    yield node.id, None, None


def _comments(code: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    return {token.start[0]: token.string.lstrip("# ").strip() for token in tokens if token.type == tokenize.COMMENT}


def _help(statement: ast.stmt, comments: dict[int, str]) -> tuple[str, ast.expr | None]:
    """Return the trailing comment, and the annotation of a ``# type: …`` comment."""
    text = comments.get(statement.end_lineno or 0) or comments.get(statement.lineno, "")
    if not text.startswith("type:"):
        return text, None
    kind, _, help = text.removeprefix("type:").partition("#")
    try:
        return help.strip(), ast.parse(kind.strip(), mode="eval").body
    except SyntaxError:
        return text, None


class _Computed(Exception):
    """An expression that is more than a constant."""


_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


def _constant(node: ast.expr) -> Any:
    """Return the value of an expression made of constants only, or raise `_Computed`."""
    if isinstance(node, ast.Constant) and (node.value is None or type(node.value) in (bool, int, float, str)):
        return node.value
    if isinstance(node, ast.List):
        return [_constant(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_constant(item) for item in node.elts)
    if isinstance(node, ast.Dict) and None not in node.keys:
        keys = [key for key in node.keys if key is not None]
        return {_constant(key): _constant(value) for key, value in zip(keys, node.values, strict=True)}
    if isinstance(node, ast.UnaryOp | ast.BinOp):
        return _arithmetic(node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float":
        args = [_constant(arg) for arg in node.args]
        if len(args) == 1 and args[0] in ("nan", "inf", "-inf"):  # how nan is written in Python
            return float(args[0])
    raise _Computed


def _arithmetic(node: ast.UnaryOp | ast.BinOp) -> Any:
    """Fold ``60 * 60``, ``-1``, ``1 / 3``: numbers only, and nothing that could grow without bound."""
    if isinstance(node, ast.UnaryOp):
        value = _number(node.operand)
        if isinstance(node.op, ast.USub | ast.UAdd):
            return -value if isinstance(node.op, ast.USub) else +value
        raise _Computed
    left, right = _number(node.left), _number(node.right)
    apply = _ARITHMETIC.get(type(node.op))
    if apply is None or (apply is operator.pow and (abs(left) > 1e6 or abs(right) > 64)):
        raise _Computed
    try:
        result = apply(left, right)
    except (ArithmeticError, ValueError):
        raise _Computed from None
    if isinstance(result, complex):
        raise _Computed
    return result


def _number(node: ast.expr) -> int | float:
    value = _constant(node)
    if isinstance(value, int | float):
        return value
    raise _Computed


def _names_in(source: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}


def check_parameters(spec: ParameterSpec, given: Mapping[str, Any], *, text: bool = False) -> dict[str, Any]:
    """Return the given values as their parameters' types ask for.

    Parameters
    ----------
    spec : ParameterSpec
        From `read_parameters`.
    given : mapping
        Values by name. Text is parsed for every parameter that is not text itself.
    text : bool
        The values come from a command line: text is also parsed where the type leaves a choice.

    Raises
    ------
    ParameterError
        A name that cannot be set, a value of the wrong type, or a required parameter without value.
    """
    checked = {name: _checked(spec, name, value, text=text) for name, value in given.items()}
    for parameter in spec.parameters.values():
        if parameter.required and parameter.name not in checked:
            raise ParameterError(
                f"parameter '{parameter.name}' of {spec.notebook} needs a value of type {parameter.type}",
                hint=f"Give it, as in: -p {parameter.name} VALUE",
            )
    return checked


def _checked(spec: ParameterSpec, name: str, value: Any, *, text: bool) -> Any:
    if name in spec.computed:
        raise ParameterError(
            f"'{name}' of {spec.notebook} is computed there ({name} = {spec.computed[name]}) and cannot be set",
            hint="Set what it is computed from, or give it a constant in the parameters cell.",
        )
    if name not in spec.parameters:
        raise _unknown(spec, name)
    parameter = spec.parameters[name]
    try:
        fitted = fit(value, parameter.type, text=text)
        literal_of(fitted)
    except Misfit:
        default = "" if parameter.required else f" (default {parameter.default!r})"
        kind = str(parameter.type) if parameter.type != ANY else "a plain value"
        shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
        raise ParameterError(
            f"parameter '{name}' of {spec.notebook} takes {kind}{default}, got {shown} ({type(value).__name__})",
            hint=_hint(parameter, value),
        ) from None
    return fitted


def _hint(parameter: Parameter, value: Any) -> str:
    if parameter.type.name == "int" and isinstance(value, float):
        return f"Annotate it in the parameters cell if fractions are meant: {parameter.name}: float = …"
    if parameter.type.name == "str":
        return f"Give it as text, {str(value)!r}; through papermill with -r instead of -p."
    return f"Give {parameter.type}, or change the annotation in the parameters cell."


def _unknown(spec: ParameterSpec, name: str) -> ParameterError:
    if spec.reason:
        return ParameterError(
            f"cannot set '{name}': {spec.reason}", hint=f"Tag a code cell '{TAG}' and assign it there."
        )
    known = ", ".join(spec.parameters)
    hint = did_you_mean(name, spec.parameters) or (f"Use one of: {known}" if known else "Assign it in that cell first.")
    return ParameterError(f"{spec.notebook} has no parameter '{name}'", hint=hint)


def injected_source(values: Mapping[str, Any]) -> str:
    """Return the source of the cell that sets `values`, exact for every type that a parameter can have."""
    return "\n".join(["# Parameters", *(f"{name} = {literal_of(value)}" for name, value in values.items())])
