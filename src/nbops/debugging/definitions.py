"""Where a part of a model was written down: the line that makes the module at a path, or that binds a variable.

A path is followed from the root through the classes' constructors; inside ``nn.Sequential(…)`` and lists it is followed
element by element, as far as the source says which is which.
"""

from __future__ import annotations

import ast
import linecache
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from nbops.debugging.places import (
    Definition,
    Place,
    assignments,
    called_name,
    caller_frames,
    definition_of_attribute,
    is_cell_name,
    is_user_code,
    node_of,
    own_nodes,
    place_of_class,
    tree_of,
)

_MANY = 100  # modules of the user that are read in search of a definition
_INDEX = re.compile(r"\[([^\]]+)\]")


@dataclass(frozen=True, slots=True)
class Scope:
    """A piece of source in which variables were bound, and their present values."""

    file: str
    body: ast.AST
    variables: Mapping[str, Any]


def scopes_of_caller() -> list[Scope]:
    """Return the scopes of the user's frames, innermost first; in a notebook also those of the cells before."""
    found: list[Scope] = []
    for frame in caller_frames(sys._getframe(1)):
        code = frame.f_code
        body: ast.AST | None = node_of(code) if code.co_name != "<module>" else None
        body = body or tree_of(code.co_filename)
        if body is not None:
            found.append(Scope(code.co_filename, body, frame.f_locals))
        whole = tree_of(code.co_filename)
        if whole is not None and whole is not body:
            found.append(Scope(code.co_filename, whole, frame.f_globals))
        if is_cell_name(code.co_filename):
            found += _scopes_of_cells(frame.f_globals)
    return list({(one.file, id(one.body)): one for one in found}.values())


def _scopes_of_cells(variables: Mapping[str, Any]) -> Iterator[Scope]:
    for file in reversed([name for name in linecache.cache if is_cell_name(name)]):
        tree = tree_of(file)
        if tree is not None:
            yield Scope(file, tree, variables)


class Definitions:
    """The lines that made the parts of one model.

    Parameters
    ----------
    root : nn.Module
        The model.
    scopes : sequence of Scope
        Where to look for what no class of the user's defines.
    """

    def __init__(self, root: nn.Module, scopes: Sequence[Scope]) -> None:
        self._root = root
        self._scopes = scopes

    def of_module(self, path: str) -> Place | None:
        """Return the line that makes the module at `path` (``blocks.0.conv``, ``layers[2]``); the root's for ``""``."""
        found = self._of_root()
        owner: Any = self._root
        place = found.place if found else place_of_class(type(self._root))
        for name in _INDEX.sub(r".\1", path).split(".") if path else ():
            child = _child(owner, name)
            made = type(child).__name__
            defined = definition_of_attribute(type(owner), name, made=made)
            if defined is None and found is not None:
                defined = _element(found, name, made)
            found = defined
            place = found.place if found is not None else place
            owner = child
        return place

    def of_attribute(self, path: str) -> Place | None:
        """Return the line that binds a plain attribute (``encoder.state``) of the model or of a module in it."""
        owner, _, name = path.rpartition(".")
        holder: Any = self._root
        for part in owner.split(".") if owner else ():
            holder = _child(holder, part)
        defined = definition_of_attribute(type(holder), name, method="forward")
        return defined.place if defined is not None else None

    def of_variable(self, value: Any) -> Place | None:
        """Return the last line that binds `value` to a variable of the caller, else the only one that can have made it.

        That is a call of its class whose constants are the settings of `value`.
        """
        found = self._variable(value)
        if found is None and type(value).__module__ not in ("builtins", "torch"):  # a tuple may come from anywhere
            made = [d for d in self._calls(type(value).__name__) if _settings_fit(d.value, value)]
            found = made[0] if len(made) == 1 else None
        return found.place if found else None

    def values(self) -> Iterator[tuple[str, Any]]:
        """Iterate over the caller's variables with their values, those of the innermost scope last."""
        for scope in reversed(self._scopes):
            yield from ((name, value) for name, value in scope.variables.items() if not name.startswith("_"))

    def name_of(self, value: Any) -> str:
        """Return the caller's name of `value`, or an empty string."""
        return next(
            (n for s in self._scopes for n, v in s.variables.items() if v is value and not n.startswith("_")), ""
        )

    def variables(self) -> dict[str, Any]:
        """Return the caller's variables by name, of the innermost scope where there are several of a name."""
        found: dict[str, Any] = {}
        for scope in self._scopes:
            found = {**{n: v for n, v in scope.variables.items() if not n.startswith("_")}, **found}
        return found

    def _variable(self, value: Any) -> Definition | None:
        for scope in self._scopes:
            for name in [n for n, v in scope.variables.items() if v is value and not n.startswith("_")]:
                hits = list(assignments(scope.body, name, of_self=False))
                if hits:
                    return Definition(scope.file, *hits[-1], within=scope.body)
        return None

    def _of_root(self) -> Definition | None:
        """Return what made the root itself; only of use where the root's class is a library's."""
        if place_of_class(type(self._root)) is not None:
            return None
        found = self._variable(self._root)
        if found is not None and isinstance(found.value, ast.Call) and _fits(found.value, self._root):
            return found
        hits = [d for d in self._calls(type(self._root).__name__) if _fits(d.value, self._root)]
        return hits[0] if len(hits) == 1 else found

    def _calls(self, name: str) -> Iterator[Definition]:
        """Iterate over all calls of `name` in the caller's files; if there is none, in the user's other modules."""
        near = {scope.file: None for scope in self._scopes}
        found = list(_calls_in(near, name))
        yield from found or _calls_in({file: None for file in _user_files() if file not in near}, name)


def _calls_in(files: Iterable[str], name: str) -> Iterator[Definition]:
    for file in files:
        for node in ast.walk(tree_of(file) or ast.Module([], [])):
            if isinstance(node, ast.Call) and called_name(node) == name:
                yield Definition(file, node, node)


def _user_files() -> list[str]:
    """Return the files of the user's modules, as far as there are few enough to read them."""
    files = [str(getattr(module, "__file__", None) or "") for module in list(sys.modules.values())]
    found = [file for file in dict.fromkeys(files) if file.endswith(".py") and is_user_code(file)]
    return found if len(found) <= _MANY else []


def _child(owner: Any, name: str) -> Any:
    if isinstance(owner, list | tuple | Mapping):
        items = owner if isinstance(owner, Mapping) else dict(enumerate(owner))
        return items.get(name, items.get(int(name) if name.isdigit() else name))
    return getattr(owner, name, None)


def _settings_fit(call: ast.expr | None, made: Any) -> bool:
    """Return whether the constants among a call's keywords are what `made` holds under those names."""
    settings = getattr(made, "defaults", None) or vars(made)
    keywords = call.keywords if isinstance(call, ast.Call) else []
    given = {k.arg: k.value.value for k in keywords if k.arg and isinstance(k.value, ast.Constant)}
    return all(settings.get(name, value) == value for name, value in given.items())


def _fits(call: ast.expr | None, module: nn.Module) -> bool:
    """Return whether a call reads as if it had made `module`: its class, its children's classes, their numbers."""
    if not isinstance(call, ast.Call) or called_name(call) != type(module).__name__:
        return False
    if not isinstance(module, nn.Sequential):
        return _numbers_fit(call, module)
    children = list(module)
    if len(call.args) != len(children) or any(isinstance(a, ast.Starred) for a in call.args):
        return False
    return all(
        not isinstance(arg, ast.Call) or (called_name(arg) == type(child).__name__ and _fits(arg, child))
        or not _is_class(called_name(arg))
        for arg, child in zip(call.args, children, strict=True)
    )  # fmt: skip


def _is_class(name: str) -> bool:
    return name[:1].isupper()


def _numbers_fit(call: ast.Call, module: nn.Module) -> bool:
    """Return whether every whole number among a call's arguments is one of the module's own settings."""
    known = {v for v in vars(module).values() if isinstance(v, int) and not isinstance(v, bool)}
    known |= {n for v in vars(module).values() if isinstance(v, tuple) for n in v if isinstance(n, int)}
    given = [a.value for a in call.args if isinstance(a, ast.Constant) and type(a.value) is int]
    return not known or all(number in known for number in given)


def _element(holder: Definition, name: str, made: str) -> Definition | None:
    """Return the expression inside a definition that made its element `name`."""
    node = _pick(holder.value, name, made, holder.within)
    if node is None:
        return None
    return Definition(holder.file, node, node, within=holder.within)


def _pick(value: ast.AST | None, name: str, made: str, within: ast.AST | None) -> ast.expr | None:
    if isinstance(value, ast.Call):
        whole = value.args[0] if len(value.args) == 1 else None
        if isinstance(whole, ast.Starred):
            return _pick(whole.value, name, made, within)
        if isinstance(whole, ast.List | ast.Tuple | ast.ListComp | ast.GeneratorExp | ast.Dict | ast.Name):
            return _pick(whole, name, made, within)
        if isinstance(whole, ast.Call) and called_name(whole) == "OrderedDict":
            return _pick(whole, name, made, within)
        named = next((k.value for k in value.keywords if k.arg == name), None)
        return named or _nth(value.args, name, made)
    if isinstance(value, ast.List | ast.Tuple):
        return _keyed(value.elts, name) or _nth(value.elts, name, made)
    if isinstance(value, ast.ListComp | ast.GeneratorExp):
        return value.elt
    if isinstance(value, ast.Dict):
        keys = zip(value.keys, value.values, strict=True)
        return next((v for k, v in keys if isinstance(k, ast.Constant) and k.value == name), None)
    if isinstance(value, ast.Name) and within is not None:
        return _nth(list(_appended(within, value.id)), name, made)
    return None


def _keyed(pairs: Sequence[ast.expr], name: str) -> ast.expr | None:
    """Return the second of the pair ``("name", value)``."""
    for pair in pairs:
        if isinstance(pair, ast.Tuple) and len(pair.elts) == 2:
            key = pair.elts[0]
            if isinstance(key, ast.Constant) and key.value == name:
                return pair.elts[1]
    return None


def _nth(elements: Sequence[ast.expr], name: str, made: str) -> ast.expr | None:
    """Return the element of that index; where a star or a loop hides the order, the only one of the class `made`."""
    index = int(name) if name.isdigit() else -1
    fixed = 0 <= index < len(elements) and not any(isinstance(e, ast.Starred) for e in elements[: index + 1])
    if fixed and (not isinstance(elements[index], ast.Call) or _may_make(elements[index], made)):
        return elements[index]
    same = [e for e in elements if isinstance(e, ast.Call) and called_name(e) == made]
    return same[0] if len({e.lineno for e in same}) == 1 else None


def _may_make(node: ast.expr, made: str) -> bool:
    return isinstance(node, ast.Call) and (called_name(node) == made or not _is_class(called_name(node)))


def _appended(body: ast.AST, name: str) -> Iterator[ast.expr]:
    """Iterate over the elements that a list variable is given, in the order of the lines."""
    found: list[ast.expr] = []
    for _, value in assignments(body, name, of_self=False):
        if isinstance(value, ast.List | ast.Tuple):
            found += value.elts
    for node in own_nodes(body):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        if isinstance(node.func.value, ast.Name) and node.func.value.id == name:
            only = node.args[-1]
            if node.func.attr in ("append", "insert"):
                found.append(only)
            elif node.func.attr == "extend" and isinstance(only, ast.List | ast.Tuple):
                found += only.elts
    yield from sorted(found, key=lambda e: (e.lineno, e.col_offset))


def line_of(place: Place | None) -> str:
    """Return ``cell [3], line 5: self.fc = …``, or an empty string."""
    return f"{place}: {place.code}" if place else ""
