"""Which names of the notebook a cell reads and which it writes, found in its source; nothing is executed.

What a cell does through ``exec``, ``globals()`` or a method call (``rows.append(1)`` reads `rows`) is not seen as a
write. A function's body runs later: the names that it takes from the notebook count as read where it is first used in
its cell, else by the cell that defines it. Verdicts that follow from these names are in `reproducibility`.
"""

from __future__ import annotations

import ast
import builtins
import functools
import re
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from nbops.tracking.code.scopes import Function, bound_by, evaluated_first, function_scope, scope_of, without

ANY = "*"  # among the written names: the cell defines names that its source does not tell (import *, %run)
_GIVEN = frozenset(dir(builtins)) | {"display", "get_ipython", "exit", "quit", "__name__", "__file__", "__builtins__"}
_FIRST_LINE = re.compile(r"\s*%%(?P<name>\w+)(?P<rest>[^\n]*)(\n|$)")
_PYTHON_CELLS = frozenset({"time", "timeit", "capture", "prun", "mlops"})  # their cells run in the notebook itself
_PYTHON_LINES = frozenset({"time", "prun"})
_OPTIONS = re.compile(r"^(-\w+(\s+\d+)?\s+)+")
_DEFINING_LINES = frozenset({"run", "pylab", "load", "store"})
_TAKING_VERBS = frozenset(
    {"check", "snapshot", "watch", "register", "profile", "overview", "dive", "drift"}
)  # %mlops verbs that take a variable
_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_INSERTED = re.compile(r"(?<!\{)\{([^{}]+)\}(?!\})|\$([^\W\d]\w*)")
_TOO_MUCH = (SyntaxError, ValueError, RecursionError, MemoryError)  # what parsing odd source can raise


@dataclass(frozen=True)
class Names:
    """What one cell does to the names of the notebook.

    Attributes
    ----------
    reads : tuple of str
        Read before the cell itself writes them, in order of first use.
    writes : tuple of str
        Assigned, imported, defined, changed or deleted; `ANY` if there may be others.
    late : dict
        Function or class that the cell defines and does not use -> what its body takes when it is used.
    imports : frozenset of str
        Written names that are imported: importing them twice changes nothing.
    """

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    late: dict[str, tuple[str, ...]] = field(default_factory=dict)
    imports: frozenset[str] = frozenset()


def reads_writes(source: str) -> tuple[list[str], list[str]]:
    """Return the names that a cell takes from other cells, and those that it defines, changes or deletes.

    Parameters
    ----------
    source : str
        The cell as the user wrote it, magics and all.

    Returns
    -------
    reads : list of str
        Names read before the cell itself writes them, in order of first use; without Python's own.
    writes : list of str
        Names assigned, imported, defined, changed by ``x.a = 1`` and ``x[0] = 1``, or deleted;
        ``"*"`` if there may be others. Source that is no Python gives two empty lists.
    """
    found = names_of(source)
    late = [name for taken in found.late.values() for name in taken if name not in found.writes]
    return list(dict.fromkeys([*found.reads, *late])), list(found.writes)


@functools.lru_cache(maxsize=512)  # a cell is looked at after it ran, and again for each verdict
def names_of(source: str) -> Names:
    """Return what a cell reads and writes, and what its functions take later; see `reads_writes`."""
    try:
        flow = _followed(_body(source))
    except _TOO_MUCH:
        return Names()
    first = _FIRST_LINE.match(source)
    if first is not None and first["name"] == "timeit":
        return Names(tuple(flow.reads))
    for name in _captured(first["rest"]) if first is not None and first["name"] == "capture" else ():
        flow.write(name)
    return Names(tuple(flow.reads), tuple(flow.writes), flow.unused(), frozenset(flow.imports - flow.assigned))


@dataclass(frozen=True)
class Step:
    """One statement of a cell: names that it takes, names that it makes anew, and names that it may change."""

    takes: tuple[str, ...]
    makes: tuple[str, ...]
    changes: tuple[str, ...]


@functools.lru_cache(maxsize=512)
def steps_of(source: str) -> tuple[Step, ...]:
    """Return the statements of a cell in order; a compound one counts as one, and imports make nothing.

    A method that is called for its own sake (``ax.plot(sales)``) may change what it is called on.
    """
    tree = parsed(source)
    return tuple(_step(node) for node in tree.body) if tree is not None else ()


def _step(node: ast.stmt) -> Step:
    flow = _Flow()
    try:
        flow.visit(node)
    except _TOO_MUCH:
        return Step((), (), ())
    taken = dict.fromkeys([*flow.reads, *(name for names in flow.unused().values() for name in names)])
    made = [name for name in flow.writes if name != ANY and name not in flow.imports - flow.assigned]
    changed = [name for name in made if name in taken]
    match node:
        case ast.Expr(value=ast.Call(func=ast.Attribute() as method)) if name := _base(method):
            changed.append(name)
        case ast.Assign(targets=targets) if any(not isinstance(one, ast.Name | ast.Tuple) for one in targets):
            changed += made
        case ast.If() | ast.For() | ast.While() | ast.Try() | ast.With():
            changed += made
    return Step(tuple(taken), tuple(name for name in made if name not in changed), tuple(dict.fromkeys(changed)))


def parsed(source: str) -> ast.Module | None:
    """Return the tree of a cell, its magics translated or left out; None if it is no Python."""
    try:
        return _parse(_body(source))
    except _TOO_MUCH:
        return None


def _followed(source: str) -> _Flow:
    flow = _Flow()
    flow.statements(_parse(source).body)
    return flow


def _parse(source: str) -> ast.Module:
    with warnings.catch_warnings():  # what is odd in a cell was said when it ran
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source)
        except SyntaxError:
            return ast.parse(_as_python(source))


def _as_python(source: str) -> str:
    """Return IPython's own translation where IPython is loaded, else the source with its magics blanked."""
    transformer = sys.modules.get("IPython.core.inputtransformer2")
    if transformer is not None:
        return str(transformer.TransformerManager().transform_cell(source))
    return re.sub(r"(?m)^(\s*)(?:[%!?].*|.*\?\s*)$", r"\1pass", source)


def _body(source: str) -> str:
    """Return the Python of a cell that begins with a cell magic; nothing for another language."""
    match = _FIRST_LINE.match(source)
    if match is None:
        return source
    rest = source[match.end() :]
    if match["name"] == "mlops":
        return f"%mlops{match['rest']}\n{rest}"
    return rest if match["name"] in _PYTHON_CELLS else ""


def _captured(line: str) -> list[str]:
    """Return the name that ``%%capture NAME`` defines."""
    return [word for word in line.split() if _IDENTIFIER.fullmatch(word)][:1]


class _Flow(ast.NodeVisitor):
    """Follows the statements of a cell in the order in which they run; a branch does not see its alternative."""

    def __init__(self) -> None:
        self.reads: dict[str, None] = {}
        self.writes: dict[str, None] = {}
        self._known: set[str] = set()  # written by the statements before this one
        self.imports: set[str] = set()
        self.assigned: set[str] = set()  # otherwise than by an import
        self._late: dict[str, list[str]] = {}  # function or class -> what its body takes when it is used

    def statements(self, nodes: Iterable[ast.AST]) -> None:
        """Follow some statements."""
        for node in nodes:
            self.visit(node)

    def unused(self) -> dict[str, tuple[str, ...]]:
        """Return what the functions take that the cell defines and does not use."""
        return {name: tuple(n for n in taken if n not in _GIVEN) for name, taken in self._late.items() if taken}

    def read(self, name: str) -> None:
        """Note that `name` is used here."""
        for taken in self._late.pop(name, ()):
            self.read(taken)
        if name not in self._known and name not in _GIVEN:
            self.reads.setdefault(name)

    def write(self, name: str, *, is_import: bool = False) -> None:
        """Note that `name` is defined or changed here."""
        self.writes.setdefault(name)
        self._known.add(name)
        (self.imports if is_import else self.assigned).add(name)

    def _branches(self, *branches: Sequence[ast.AST]) -> None:
        before, after = set(self._known), set(self._known)
        for branch in branches:
            self._known = set(before)
            self.statements(branch)
            after |= self._known
        self._known = after

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Store):
            self.read(node.id)
        if not isinstance(node.ctx, ast.Load):
            self.write(node.id)

    def visit_Attribute(self, node: ast.Attribute | ast.Subscript) -> None:
        self.generic_visit(node)
        if not isinstance(node.ctx, ast.Load) and (base := _base(node)):
            self.write(base)

    visit_Subscript = visit_Attribute

    def visit_Assign(self, node: ast.Assign) -> None:
        target = node.targets[0]
        if isinstance(node.value, ast.Lambda) and len(node.targets) == 1 and isinstance(target, ast.Name):
            self._define(target.id, node.value)
            return
        self.visit(node.value)
        self.statements(node.targets)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.annotation)
        if node.value is not None:
            self.visit(node.value)
            self.visit(node.target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.read(node.target.id)
        self.visit(node.value)
        self.visit(node.target)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self.visit(node.target)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.statements([node.iter, node.target, *node.body, *node.orelse])

    visit_AsyncFor = visit_For

    def visit_If(self, node: ast.If | ast.IfExp) -> None:
        self.visit(node.test)
        branches = [part if isinstance(part, list) else [part] for part in (node.body, node.orelse)]
        self._branches(*branches)

    visit_IfExp = visit_If

    def visit_Match(self, node: ast.Match) -> None:
        self.visit(node.subject)
        guarded = [[case.pattern, *([case.guard] if case.guard else []), *case.body] for case in node.cases]
        self._branches(*guarded)

    def visit_Call(self, node: ast.Call) -> None:
        name, line = _magic(node)
        if not name:
            self.generic_visit(node)
            return
        if name in _PYTHON_LINES:
            self.statements(_parse(_OPTIONS.sub("", line)).body)
        elif name == "timeit":  # what it assigns is its own
            for taken in _followed(_OPTIONS.sub("", line)).reads:
                self.read(taken)
        elif name in _DEFINING_LINES:
            self.write(ANY)
        words = line.split()
        if name == "mlops" and words[:1] and words[0] in _TAKING_VERBS:
            for word in words[1:2]:
                self.read(word) if _IDENTIFIER.fullmatch(word) else None
        for inserted in _INSERTED.finditer(line):
            self.statements(_expression(inserted[1] or inserted[2]))

    def _define(self, name: str, node: Function) -> None:
        self.statements(evaluated_first(node))
        scope = function_scope(node)
        for shared in sorted(scope.global_writes):
            if shared in scope.loads:
                self.read(shared)
            self.write(shared)
        self.write(name)
        self._late[name] = list(scope.free())

    def generic_visit(self, node: ast.AST) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._define(node.name, node)
                return
            case ast.ClassDef():
                self.statements(evaluated_first(node))
                scope = scope_of(node.body)
                for name in without(scope.loads, scope.stores):
                    self.read(name)
                self.write(node.name)
                self._late[node.name] = list(scope.nested)
                return
            case ast.Lambda() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                inner = scope_of([node])
                for name in {**inner.loads, **inner.nested}:
                    self.read(name)
                for name in sorted(inner.stores):
                    self.write(name)
                return
        for name in bound_by(node):
            self.write(name, is_import=isinstance(node, ast.Import | ast.ImportFrom))
        super().generic_visit(node)


def _base(node: ast.expr) -> str:
    """Return `x` of ``x.a[0].b``, or nothing where a call stands between."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _magic(node: ast.Call) -> tuple[str, str]:
    """Return name and line of a magic or a shell command as IPython translates it, else two empty texts."""
    match node:
        case ast.Call(
            func=ast.Attribute(value=ast.Call(func=ast.Name(id="get_ipython")), attr="run_line_magic"),
            args=[ast.Constant(value=str(name)), ast.Constant(value=str(line)), *_],
        ):
            return name, line
        case ast.Call(
            func=ast.Attribute(value=ast.Call(func=ast.Name(id="get_ipython")), attr="system" | "getoutput"),
            args=[ast.Constant(value=str(line)), *_],
        ):
            return "!", line
    return "", ""


def _expression(source: str) -> list[ast.stmt]:
    try:
        return _parse(source.partition(":")[0]).body
    except _TOO_MUCH:
        return []
