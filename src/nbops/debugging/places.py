"""Where the user's source says something: the line of a frame, of a class, of a method, of an attribute.

Notebook cells count as sources: IPython keeps their text under the file name that their code carries. What the syntax
of those lines means is read here; nothing is executed, and torch is not imported.
"""

from __future__ import annotations

import ast
import linecache
import os
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any

from nbops.store.context import current_cell, executed_cells

_OURS = str(Path(__file__).resolve().parents[1])


@dataclass(frozen=True, slots=True)
class Place:
    """One line of the user's source.

    Attributes
    ----------
    file : str
        The file name that the code carries; IPython's own for a cell.
    line : int
        Counted from 1; within the cell as it was typed, for a cell.
    code : str
        The text of the line, without the blanks around it.
    cell_id : str or None
        The cell, where it is one that nbops saw being executed.
    number : int or None
        The cell's execution count, where it is a cell of IPython.
    """

    file: str
    line: int
    code: str = ""
    cell_id: str | None = None
    number: int | None = None

    @property
    def is_cell(self) -> bool:
        """Whether the line stands in a notebook cell."""
        return self.cell_id is not None or self.number is not None

    @property
    def source(self) -> str:
        """``cell [3]``, ``cell 1a2b3c4d`` or the name of the file."""
        if self.number is not None:
            return f"cell [{self.number}]"
        return f"cell {self.cell_id[:8]}" if self.cell_id else os.path.basename(self.file)

    def __str__(self) -> str:
        return f"{self.source}, line {self.line}"


# ---- whose code it is ------------------------------------------------------------------------------------------------


@cache
def _library_folders() -> tuple[str, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    found = {sysconfig.get_paths().get(name, "") for name in names}
    return tuple(os.path.realpath(folder) + os.sep for folder in found if folder)


@cache
def is_user_code(file: str) -> bool:
    """Return whether code of this file name was written by the user: no library, not ours, and not generated."""
    if is_cell_name(file):
        return True
    if file.startswith("<") or f"{os.sep}site-packages{os.sep}" in file or f"{os.sep}dist-packages{os.sep}" in file:
        return False
    real = os.path.realpath(file)
    return not real.startswith((_OURS + os.sep, *_library_folders()))


def is_cell_name(file: str) -> bool:
    """Return whether code of this file name came from a notebook cell."""
    return file.startswith("<ipython-input") or f"{os.sep}ipykernel_" in file


# ---- frames ----------------------------------------------------------------------------------------------------------


def place_of_line(file: str, line: int) -> Place:
    """Return the place of one line as code carries it: file name and line number."""
    text = linecache.getline(file, line).strip()
    cell_id, number, offset = _cell_of(file)
    return Place(file, line + offset, text, cell_id, number)


def place_of_error(trace: TracebackType | None) -> Place | None:
    """Return the innermost line of the user in a traceback; None if there is none."""
    found = None
    while trace is not None:
        if is_user_code(trace.tb_frame.f_code.co_filename):
            found = trace.tb_frame.f_code.co_filename, trace.tb_lineno
        trace = trace.tb_next
    return place_of_line(*found) if found else None


def caller_frames(frame: FrameType | None = None) -> Iterator[FrameType]:
    """Iterate over the user's frames from the innermost outwards, beginning at `frame` or here."""
    frame = frame or sys._getframe(1)
    while frame is not None:
        if is_user_code(frame.f_code.co_filename):
            yield frame
        frame = frame.f_back


def place_of_call(*, within: str = "") -> Place | None:
    """Return the line of the user that is being executed now; None if no frame is the user's.

    Parameters
    ----------
    within : str
        A file of ours: frames that called it do not count.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename != within:
        if is_user_code(frame.f_code.co_filename):
            return place_of_line(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return None


# ---- cells -----------------------------------------------------------------------------------------------------------


def _cell_of(file: str) -> tuple[str | None, int | None, int]:
    """Return a cell's id and execution count, and how many lines IPython cut off above its code."""
    if not is_cell_name(file):
        return None, None, 0
    number, raw = _history_of(file)
    text = "".join(linecache.getlines(file))
    current = current_cell()
    known = [*executed_cells(), *([current] if current else [])]
    for cell in reversed(known):
        if (raw and cell.source == raw) or (not raw and _is_same(cell.source, text)):
            return cell.cell_id, number, _leading_blank(cell.source)
    return None, number, _leading_blank(raw)


def _history_of(file: str) -> tuple[int | None, str]:
    """Return a cell's execution count and text as it was typed, as far as IPython knows them."""
    ipython = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython is not None else None
    number = getattr(getattr(shell, "compile", None), "_filename_map", {}).get(file)
    if number is None:
        return None, ""
    typed: list[str] = getattr(getattr(shell, "history_manager", None), "input_hist_raw", [])
    return number, typed[number] if 0 <= number < len(typed) else ""


def _leading_blank(source: str) -> int:
    lines = source.splitlines()
    return next((i for i, line in enumerate(lines) if line.strip()), 0)


def _is_same(source: str, text: str) -> bool:
    """Return whether `text` is what IPython made of a cell: equal but for magics and the blank lines above."""
    typed, made = source.strip("\n").splitlines(), text.strip("\n").splitlines()
    same = sum(a.rstrip() == b.rstrip() for a, b in zip(typed, made, strict=False))
    return len(typed) == len(made) and same >= max(1, len(made) - sum("get_ipython()" in line for line in made))


# ---- syntax ----------------------------------------------------------------------------------------------------------

_trees: dict[str, tuple[int, ast.Module | None]] = {}


def tree_of(file: str) -> ast.Module | None:
    """Return the syntax tree of a file or a cell; None if its text is not known or is no Python."""
    text = "".join(linecache.getlines(file))
    known = _trees.get(file)
    if known is None or known[0] != hash(text):
        try:
            tree = ast.parse(text) if text else None
        except SyntaxError:  # a template, or another language under a Python name
            tree = None
        known = _trees[file] = hash(text), tree
    return known[1]


def node_of(code: CodeType) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """Return the definition of a function, by its code."""
    tree = tree_of(code.co_filename)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == code.co_name:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if first == code.co_firstlineno:
                return node
    return None


def methods_of(kind: type) -> Iterator[tuple[str, CodeType]]:
    """Iterate over the functions that a class itself defines in the user's source."""
    for name, value in vars(kind).items():
        inner = getattr(value, "__func__", getattr(value, "fget", value))
        code = getattr(getattr(inner, "__wrapped__", inner), "__code__", None)
        if isinstance(code, CodeType) and is_user_code(code.co_filename):
            yield name, code


def user_classes(kind: type) -> list[type]:
    """Return those classes of a method resolution order whose source is the user's, nearest first."""
    return [one for one in kind.__mro__ if next(methods_of(one), None) is not None]


def place_of_method(kind: type, name: str) -> Place | None:
    """Return where a class, or the nearest of its bases, defines a method: the line of ``def``."""
    for one in user_classes(kind):
        for found, code in methods_of(one):
            if found == name:
                node = node_of(code)
                return place_of_line(code.co_filename, node.lineno if node else code.co_firstlineno)
    return None


def place_of_class(kind: type) -> Place | None:
    """Return the line of the user's ``class`` statement; None for a class of a library."""
    for one in user_classes(kind):
        code = next(methods_of(one))[1]
        found = _class_around(code, one.__name__)
        if found is not None:
            return place_of_line(code.co_filename, found.lineno)
    return None


def _class_around(code: CodeType, name: str) -> ast.ClassDef | None:
    tree, method = tree_of(code.co_filename), node_of(code)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.ClassDef) and node.name == name and (method is None or method in node.body):
            return node
    return None


def assignments(body: ast.AST, name: str, *, of_self: bool) -> Iterator[tuple[ast.stmt, ast.expr | None]]:
    """Iterate over the statements that bind ``self.name`` (or the variable `name`), with the value that they give.

    Functions and classes inside `body` have names of their own and are left out.
    """
    for node in own_nodes(body):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr):
            targets = [node.target]
        for target, value in _pairs(targets, getattr(node, "value", None)):
            if isinstance(target, ast.Attribute) if of_self else isinstance(target, ast.Name):
                found = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
                if found == name and isinstance(node, ast.stmt):
                    yield node, value


def own_nodes(body: ast.AST) -> Iterator[ast.AST]:
    """Iterate over the nodes of a module or a function, without those of definitions inside."""
    for child in ast.iter_child_nodes(body):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield from own_nodes(child)


def _pairs(targets: list[ast.expr], value: ast.expr | None) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    for target in targets:
        if not isinstance(target, ast.Tuple | ast.List):
            yield target, value
            continue
        is_row = isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts)
        values = value.elts if is_row and isinstance(value, ast.Tuple | ast.List) else [None] * len(target.elts)
        yield from zip(target.elts, values, strict=True)


def place_of_attribute(kind: type, name: str) -> Place | None:
    """Return where the methods of a class bind ``self.name``; the last such line, for that one counts."""
    found = definition_of_attribute(kind, name)
    return found.place if found else None


def definition_of_attribute(kind: type, name: str, *, made: str = "", method: str = "__init__") -> Definition | None:
    """Return where a class binds ``self.name``: the last such statement, or the last whose value calls `made`.

    The method `method` is looked at first, then the others.
    """
    for one in user_classes(kind):
        for _, code in sorted(methods_of(one), key=lambda item: item[0] != method):
            node = node_of(code)
            hits = list(assignments(node, name, of_self=True)) if node else []
            if hits:
                fitting = [hit for hit in hits if isinstance(hit[1], ast.Call) and called_name(hit[1]) == made]
                return Definition(code.co_filename, *(fitting or hits)[-1], within=node)
            for call in ast.walk(node) if node else ():
                if isinstance(call, ast.Call) and _adds(call, name):
                    return Definition(code.co_filename, call, call.args[-1], within=node)
    return None


@dataclass(frozen=True, slots=True)
class Definition:
    """A statement that binds a name, the value that it gives (None if that cannot be told), and the function around."""

    file: str
    statement: ast.AST
    value: ast.expr | None
    within: ast.AST | None = None

    @property
    def place(self) -> Place:
        """The statement's first line."""
        return place_of_line(self.file, getattr(self.statement, "lineno", 1))


def called_name(call: ast.Call) -> str:
    """Return the last word of what is called: ``Linear`` of ``nn.Linear(…)``."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _adds(call: ast.Call, name: str) -> bool:
    """Return whether a call adds a module, a parameter or an attribute under `name`: ``self.add_module("fc", …)``."""
    if called_name(call) not in ("add_module", "register_module", "register_parameter", "register_buffer", "setattr"):
        return False
    named = call.args[-2:-1]
    return bool(named) and _text_matches(named[0], name)


def _text_matches(node: ast.expr, name: str) -> bool:
    if isinstance(node, ast.Constant):
        return bool(node.value == name)
    if isinstance(node, ast.JoinedStr):  # f"layer{i}": what is fixed in it must fit
        fixed = [part.value for part in node.values if isinstance(part, ast.Constant)]
        return bool(fixed) and name.startswith(str(fixed[0]))
    return False
