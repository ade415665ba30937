"""The user's source as a tree: where the loop, the optimizer and the losses stand, and edits of single lines."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

_OPTIMIZERS = re.compile(r"^(SGD|ASGD|Adam|AdamW|NAdam|RAdam|Adamax|RMSprop|Adagrad|Adadelta|LBFGS|Rprop|SparseAdam)$")


@dataclass
class Code:
    """The source that holds the loop; `edits` are collected by the makers of patches."""

    source: str
    tree: ast.Module
    swaps: list[tuple[ast.AST, str]] = field(default_factory=list)
    befores: list[tuple[ast.stmt, str]] = field(default_factory=list)
    afters: list[tuple[ast.stmt, str]] = field(default_factory=list)
    drops: list[ast.stmt] = field(default_factory=list)
    inserts: list[tuple[int, int, int, str]] = field(default_factory=list)  # row, column, order there, text

    @classmethod
    def of(cls, source: str) -> Code | None:
        """Parse a source; None if it is no Python (a cell with magics)."""
        try:
            return cls(source, ast.parse(source))
        except (SyntaxError, ValueError):
            return None

    def text(self, node: ast.AST) -> str:
        """Return the text of a node; "" where it has no place, and for a definition with its decorators left out."""
        first, start = getattr(node, "lineno", 0), getattr(node, "col_offset", 0)
        last, end = getattr(node, "end_lineno", None), getattr(node, "end_col_offset", None)
        if not first or last is None:
            return ""
        rows = self._encoded[first - 1 : last]
        rows = [*rows[:-1], rows[-1][:end]]
        return b"\n".join([rows[0][start:], *rows[1:]]).decode()

    @cached_property
    def _encoded(self) -> list[bytes]:
        return [row.encode() for row in self.source.split("\n")]

    def statements(self) -> Iterator[ast.stmt]:
        """Iterate over all statements, in the order of the lines."""
        found = [node for node in ast.walk(self.tree) if isinstance(node, ast.stmt)]
        yield from sorted(found, key=lambda node: (node.lineno, node.col_offset))

    def calls(self, name: str) -> list[tuple[ast.stmt, ast.Call]]:
        """Return the calls of a method or function of that name, each with the statement that it stands in."""
        found = []
        for statement in self.statements():
            for node in own(statement):
                if isinstance(node, ast.Call) and name_of(node.func) == name:
                    found.append((statement, node))
        return found

    def optimizers(self) -> list[tuple[ast.Assign, str, ast.Call]]:
        """Return the statements that build an optimizer: the statement, its variable, the call."""
        found = []
        for one in self.statements():
            if isinstance(one, ast.Assign) and isinstance(one.value, ast.Call) and isinstance(one.targets[0], ast.Name):
                is_known = _OPTIMIZERS.match(name_of(one.value.func))
                found += [(one, one.targets[0].id, one.value)] if is_known else []
        return found

    def settings(self, name: str) -> list[object]:
        """Return the constants that optimizers are given under a name."""
        return [k.value.value for _, _, call in self.optimizers() for k in call.keywords
                if k.arg == name and isinstance(k.value, ast.Constant)]  # fmt: skip

    def loops(self) -> list[ast.For | ast.While]:
        """Return the outermost loops in which a backward pass or a step stands, also inside functions and ``with``."""
        steps = {id(s) for name in ("backward", "step") for s, _ in self.calls(name)}
        found, todo = [], list(self.tree.body)
        while todo:
            one = todo.pop(0)
            if isinstance(one, ast.For | ast.While):
                found += [one] if any(id(inner) in steps for inner in ast.walk(one)) else []
            else:
                todo += [inner for inner in ast.iter_child_nodes(one) if isinstance(inner, ast.stmt)]
        return sorted(found, key=lambda loop: loop.lineno)

    def beside(self, statement: ast.stmt) -> list[ast.stmt]:
        """Return the statements of the block that a statement stands in, with itself."""
        for node in ast.walk(self.tree):
            for block in (getattr(node, "body", None), getattr(node, "orelse", None), getattr(node, "finalbody", None)):
                if isinstance(block, list) and statement in block:
                    return block
        return []

    def replace(self, node: ast.AST, new: str) -> None:
        """Write `new` in the place of an expression or a statement."""
        self.swaps.append((node, new))

    def wrap(self, node: ast.AST, head: str, tail: str) -> None:
        """Write something before and behind an expression, and leave it as it is, on however many lines it stands."""
        self.inserts.append((node.lineno, node.col_offset, 1, head))  # type: ignore[attr-defined]
        self.inserts.append((node.end_lineno, node.end_col_offset, 0, tail))  # type: ignore[attr-defined]

    @property
    def is_changed(self) -> bool:
        """Whether there is any edit yet."""
        return bool(self.swaps or self.inserts or self.befores or self.afters or self.drops)

    def diff(self) -> str:
        """Return the collected edits as lines of a diff; "" if there are none, or if two of them are of one place."""
        lines = self.source.split("\n")
        rows = self._rows(lines)
        if rows is None:
            return ""
        around: dict[int, tuple[list[str], list[str]]] = {}
        for where, side in ((self.befores, 0), (self.afters, 1)):
            for statement, new in where:
                row = (statement.end_lineno or statement.lineno) if side else _first_line(statement)
                added = [" " * statement.col_offset + one if one else one for one in new.split("\n")]
                around.setdefault(row, ([], []))[side].extend(added)
        found: list[str] = []
        last = 0
        for row in sorted({*rows, *around}):
            before, after = around.get(row, ([], []))
            old, new_rows = lines[row - 1], rows.get(row, [lines[row - 1]])
            if sum(line.strip() == old.strip() for line in lines) > 1 and row != last + 1:
                found.append(f"@@ -{row} @@")
            added = [*before, *new_rows, *after]
            is_kept = added[:1] == [old]
            found.append(f"{' ' if is_kept else '-'}{old}")
            found += [f"+{one}" for one in (added[1:] if is_kept else added)]
            last = row
        return "\n".join(found)

    def _rows(self, lines: list[str]) -> dict[int, list[str]] | None:
        """Return what swaps, inserts and drops make of the rows that they touch; None if two are of one place."""
        found: dict[int, list[str]] = {}
        for statement in self.drops:
            found |= {row: [] for row in range(_first_line(statement), (statement.end_lineno or statement.lineno) + 1)}
        spans = [(node.lineno, node.col_offset, node.end_lineno, node.end_col_offset, new) for node, new in self.swaps]  # type: ignore[attr-defined]
        spans += [
            (row, column, row, column, text) for row, column, _, text in sorted(self.inserts, key=lambda one: one[2])
        ]
        spans.sort(key=lambda one: (one[0], one[1]))
        if any(set(range(one[0], one[2] + 1)) & set(found) for one in spans):
            return None
        if any((a[2], a[3]) > (b[0], b[1]) for a, b in pairwise(spans)):
            return None
        for first, start, last, end, new in reversed(spans):
            head = "\n".join(found.get(first, [lines[first - 1]])).encode()[:start]
            tail_of = found.get(last, [lines[last - 1]]) if last == first else [lines[last - 1]]
            tail = "\n".join(tail_of).encode()[end:]
            if last != first and last in found:  # an edit further right on its last row
                return None
            found |= {row: [] for row in range(first + 1, last + 1)}
            found[first] = (head + new.encode() + tail).decode().split("\n")
        return found


def _first_line(statement: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(one.lineno for one in decorators)])


def model_of(code: Code) -> str:
    """Return the variable whose parameters the last optimizer was given."""
    for _, _, call in reversed(code.optimizers()):
        for node in ast.walk(call):
            if isinstance(node, ast.Call) and name_of(node.func) in ("parameters", "named_parameters"):
                owner = node.func.value if isinstance(node.func, ast.Attribute) else None
                while isinstance(owner, ast.Attribute | ast.Subscript):
                    owner = owner.value
                if isinstance(owner, ast.Name):
                    return owner.id
    return ""


def name_of(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def own(statement: ast.stmt) -> Iterator[ast.AST]:
    """Iterate over the expressions of a statement, without those of statements inside it."""
    todo: list[ast.AST] = [child for child in ast.iter_child_nodes(statement) if not isinstance(child, ast.stmt)]
    while todo:
        node = todo.pop(0)
        yield node
        todo += [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.stmt)]


def calls_in(statement: ast.AST) -> Iterator[ast.Call]:
    yield from (node for node in ast.walk(statement) if isinstance(node, ast.Call))
