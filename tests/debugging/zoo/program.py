"""How a program of the zoo is declared: a function whose body is the cell, and the truth about it.

The body runs as a cell of a notebook, at top level, not as a function. ``lab.watch(...)`` stands where a user would
attach the debugger; a doctor replaces that line by its own. ``# <- here`` marks the lines that a finding may name.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from zoo.causes import CAUSES

MARK = re.compile(r"\s*# <- here\b")
_ASIDE = re.compile(r"\s*# (<- here|noqa|fmt:).*$")  # what is written for us, not for the cell
KINDS = ("invariant", "statistic", "crash")

# What a program's score is, and whether more of it is better.
METRICS = {
    "accuracy": True,  # on held-out data
    "balanced accuracy": True,  # mean of the classes' recalls
    "r2": True,  # on held-out data
    "return": True,  # of a policy
    "share": True,  # of something that should be all, such as samples seen
    "loss": False,
    "error": False,  # distance between what the program says and what is true
    "graph nodes": False,  # of autograd, kept that should be free
    "megabytes": False,  # kept that should be free
    "seconds share": False,  # of the time, spent waiting
}


class BrokenDeclaration(ValueError):
    """A program's declaration contradicts itself or its source."""


@dataclass(frozen=True)
class Edit:
    """One textual change of a cell. `old` is a line or a part of one, and must occur exactly once."""

    kind: str  # swap, before, after, drop
    old: str
    new: str = ""

    def apply(self, source: str) -> str:
        """Return `source` with the change made; added lines are indented like the one they stand by."""
        if source.count(self.old) != 1:
            raise BrokenDeclaration(f"{self.old!r} occurs {source.count(self.old)} times")
        if self.kind == "swap":
            return source.replace(self.old, self.new)
        lines = source.split("\n")
        at = next(i for i, line in enumerate(lines) if self.old in line)
        indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
        added = [indent + line if line else line for line in self.new.split("\n")]
        keeps = {"before": [*added, lines[at]], "after": [lines[at], *added], "drop": []}[self.kind]
        return "\n".join([*lines[:at], *keeps, *lines[at + 1 :]])


def swap(old: str, new: str) -> Edit:
    """Replace a part of a line, or several lines."""
    return Edit("swap", old, new)


def before(line: str, new: str) -> Edit:
    """Add lines before the one that holds `line`."""
    return Edit("before", line, new)


def after(line: str, new: str) -> Edit:
    """Add lines after the one that holds `line`."""
    return Edit("after", line, new)


def drop(line: str) -> Edit:
    """Take the line away that holds `line`."""
    return Edit("drop", line)


@dataclass(frozen=True)
class Cell:
    """Source of a program as it is run, with the numbers (from 1) of its marked lines."""

    source: str
    marked: tuple[int, ...] = ()

    @property
    def digest(self) -> str:
        """Tells one version of a program from another."""
        return hashlib.sha256(self.source.encode()).hexdigest()[:12]

    def line(self, number: int) -> str:
        """Return one line, counted from 1, without its indentation."""
        lines = self.source.split("\n")
        return lines[number - 1].strip() if 0 < number <= len(lines) else ""


@dataclass(frozen=True)
class Program:
    """One program and the truth about it.

    kind : ``invariant`` (must never be), ``statistic`` (looks ill), ``crash`` (raises)
    by : step of the optimizer at which it must be detected at the latest; -1 before the first
    causes : ids of `zoo.causes.CAUSES` that are right
    places : names of modules (``*`` matches), or ``loss``, ``batch``, ``optimizer``, ``metric``, ``model`` …
    margin : by how much the twin's score is better than the sick one's, at least
    works : what the twin (or a healthy program) scores at least (at most, where less is better)
    raises : pattern of ``Type: message`` of the error that a crash ends with
    """

    name: str
    family: str
    metric: str
    works: float
    cell: Cell
    about: str = ""
    ref: str = ""
    kind: str = ""
    by: int = 500
    causes: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    margin: float = 0.0
    raises: str = ""
    fix: tuple[Edit, ...] = ()
    module: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def is_sick(self) -> bool:
        """False for healthy programs, which have no twin."""
        return bool(self.kind)

    @property
    def variants(self) -> tuple[str, ...]:
        """The versions of this program that can be run."""
        return ("sick", "twin") if self.is_sick else ("healthy",)

    @property
    def more_is_better(self) -> bool:
        """Direction of the score."""
        return METRICS[self.metric]

    def version(self, variant: str) -> Cell:
        """Return the cell of ``sick``, ``twin`` or ``healthy``."""
        if variant not in self.variants:
            raise BrokenDeclaration(f"{self.name} has no variant {variant!r}")
        return self.twin if variant == "twin" else self.cell

    def names(self) -> dict[str, Any]:
        """Return what the cell may use: what its file imports and defines, without the programs themselves."""
        ours = {"sick", "healthy", "swap", "before", "after", "drop", *(n.replace("-", "_") for n in PROGRAMS)}
        return {k: v for k, v in self.module.items() if not k.startswith("__") and k not in ours}

    @property
    def twin(self) -> Cell:
        """The fixed program: the same cell with the declared changes."""
        source = self.cell.source
        for edit in self.fix:
            try:
                source = edit.apply(source)
            except BrokenDeclaration as error:
                raise BrokenDeclaration(f"{self.name}: {error}") from error
        return Cell(source)


PROGRAMS: dict[str, Program] = {}


def sick(
    *, family: str, kind: str, cause: str | tuple[str, ...], place: str | tuple[str, ...], metric: str, works: float,
    fix: Iterable[Edit], margin: float = 0.0, by: int | None = None, ref: str = "", raises: str = "",
) -> Callable[[Callable[..., None]], Callable[..., None]]:  # fmt: skip
    """Declare a sick program: see `Program`. `by` is 20 for an invariant, -1 for a crash, else 500, if not given."""

    def declare(body: Callable[..., None]) -> Callable[..., None]:
        limit = {"invariant": 20, "crash": -1, "statistic": 500}[kind] if by is None else by
        causes = (cause,) if isinstance(cause, str) else cause
        unknown = [one for one in causes if one not in CAUSES]
        if unknown:
            raise BrokenDeclaration(f"{body.__name__}: no such cause: {', '.join(unknown)}")
        if kind == "crash" and not raises:
            raise BrokenDeclaration(f"{body.__name__}: what does it raise?")
        _register(
            body, family=family, kind=kind, causes=causes, places=(place,) if isinstance(place, str) else place,
            metric=metric, works=works, margin=margin, by=limit, ref=ref, raises=raises, fix=tuple(fix),
        )  # fmt: skip
        return body

    return declare


def healthy(*, family: str, metric: str, works: float) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declare a healthy program."""

    def declare(body: Callable[..., None]) -> Callable[..., None]:
        _register(body, family=family, metric=metric, works=works)
        return body

    return declare


def _register(body: Callable[..., None], **truth: Any) -> None:
    name = body.__name__.replace("_", "-")
    if name in PROGRAMS:
        raise BrokenDeclaration(f"two programs are called {name}")
    about = (inspect.getdoc(body) or "").split("\n")[0]
    PROGRAMS[name] = Program(name=name, cell=_cell_of(body), about=about, module=body.__globals__, **truth)


def _cell_of(body: Callable[..., None]) -> Cell:
    """Return the body of a function as a cell, without its docstring and marks."""
    text = textwrap.dedent(inspect.getsource(body))
    function = ast.parse(text).body[0]
    assert isinstance(function, ast.FunctionDef)
    first = function.body[0]
    is_documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    start = (first.end_lineno or 0) if is_documented else first.lineno - 1
    lines = textwrap.dedent("\n".join(text.split("\n")[start:])).strip("\n").split("\n")
    marked = tuple(i for i, line in enumerate(lines, 1) if MARK.search(line))
    return Cell("\n".join(_ASIDE.sub("", line) for line in lines), marked)


def load() -> dict[str, Program]:
    """Import every family, and return all programs by name."""
    for group in ("sick", "healthy"):
        package = importlib.import_module(f"zoo.{group}")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"zoo.{group}.{module.name}")
    return PROGRAMS


@dataclass(frozen=True)
class WatchCall:
    """The texts of ``lab.watch(model, optimizer, loss=…, batch=…)`` in a cell; empty where not given."""

    model: str
    optimizer: str
    loss: str
    batch: str

    @property
    def has_loss_module(self) -> bool:
        """Whether the loss is a module; by convention of the zoo the others are ``F.…``, ``torch.…`` or ``*_fn``."""
        return bool(self.loss) and not self.loss.startswith(("F.", "torch.")) and not self.loss.endswith("_fn")


def replace_watch(source: str, render: Callable[[WatchCall], str]) -> str:
    """Return a cell with each ``lab.watch(...)`` replaced by what `render` makes of it, on as many lines."""
    lines = source.split("\n")
    calls = [node for node in ast.walk(ast.parse(source)) if _is_watch(node)]
    for node in sorted(calls, key=lambda n: -n.lineno):
        call = node.value
        parts = dict(zip(("model", "optimizer"), map(ast.unparse, call.args), strict=False))
        parts |= {word.arg: ast.unparse(word.value) for word in call.keywords}
        names = {name: parts.get(name, "") for name in ("model", "optimizer", "loss", "batch")}
        indent = lines[node.lineno - 1][: node.col_offset]
        blank = [""] * (node.end_lineno - node.lineno)
        lines[node.lineno - 1 : node.end_lineno] = [indent + render(WatchCall(**names)), *blank]
    return "\n".join(lines)


def _is_watch(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)
        and node.value.func.attr == "watch"
        and isinstance(node.value.func.value, ast.Name)
        and node.value.func.value.id == "lab"
    )
