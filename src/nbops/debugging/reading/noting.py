"""The registry of rules that read, and how one of them says what it found."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from nbops.core.records import Cause
from nbops.core.registry import Registry
from nbops.debugging.causes import CAUSES
from nbops.debugging.preflight.found import Found
from nbops.debugging.reading.facts import Reading
from nbops.debugging.reading.scopes import Scope

ReadingRule = Callable[[Reading], Iterable[Found]]

readings: Registry[ReadingRule] = Registry(
    "reading rule",
    modules=tuple(
        f"nbops.debugging.reading.{name}"
        for name in (
            "order", "rebuilding", "schedules", "checkpoints", "graphs", "splits", "metrics", "figures", "layers",
            "freezing", "objectives", "targets", "divergence", "adversaries", "forwards", "arrays", "evaluation",
        )
    ),
)  # fmt: skip


def noted(
    scope: Scope, node: ast.AST, *names: str, layer: str, what: str, why: str = "", fix: str = "", status: str =
    "error", confidence: float = 0.95, patch: str = "", expected: str = "", got: str = "", **evidence: Any,
) -> Found:  # fmt: skip
    """Return a finding at the line of `node`, with causes by name, likeliest first; `patch` is the first one's."""
    causes: list[Cause] = []
    for i, name in enumerate(names):
        known = CAUSES[name]
        causes.append(Cause(
            text=known.text, test=known.test, fix=(fix if not i and fix else known.fix), patch=patch if not i else "",
            confidence=round(confidence / 2**i, 2), name=name,
        ))  # fmt: skip
    return Found(
        layer, status, what, why=why, fix=fix or causes[0].fix, confidence=confidence, expected=expected, got=got,
        place=scope.place(node), causes=tuple(causes), evidence=dict(evidence),
    )  # fmt: skip


def patch(
    scope: Scope, *, swap: Sequence[tuple[ast.AST, str]] = (), before: Sequence[tuple[ast.stmt, str]] = (),
    after: Sequence[tuple[ast.stmt, str]] = (), drop: Sequence[ast.stmt] = (),
) -> str:  # fmt: skip
    """Return a patch of a scope's source: expressions that change, lines that come, statements that go."""
    sheet = scope.edits()
    sheet.swaps, sheet.befores, sheet.afters, sheet.drops = list(swap), list(before), list(after), list(drop)
    return sheet.diff()


def replaced(scope: Scope, statement: ast.stmt, lines: str) -> str:
    """Return a patch that puts other lines in the place of a statement."""
    rows = scope.source.split("\n")[statement.lineno - 1 : statement.end_lineno]
    indent = " " * statement.col_offset
    return "\n".join([*(f"-{row}" for row in rows), *(f"+{indent}{one}" for one in lines.split("\n"))])
