"""The code that trains as facts: which bodies belong to it, its rounds (backward pass and step), and their order."""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from inspect import CO_OPTIMIZED
from itertools import pairwise
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any

from torch import Tensor, nn

from nbops.debugging.places import is_user_code, tree_of, user_classes
from nbops.debugging.reading.kinds import kind
from nbops.debugging.reading.scopes import LOOPS, Scope, parameters
from nbops.debugging.reading.values import MISSING
from nbops.debugging.source import name_of
from nbops.debugging.tensors import unwrap

MOST_CHARS = 60_000  # of one file
_MOST_SCOPES = 24
_DEPTH = 3  # functions that call functions
_SAMPLES = 512
_MOST_FILES = 50
_OWN_REFERENCES = 3  # of the frame, of a variable and of an argument: nobody called locals()


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that a round does.

    kind : ``backward``, ``step``, ``zero``, ``clip``, ``scaled`` (a step by a scaler), ``unscale``, ``update``,
        ``schedule``
    on : what it is done to, as it is written: the optimizer, the scheduler, the scaler
    """

    kind: str
    node: ast.Call
    on: str = ""


@dataclass(frozen=True)
class Round:
    """The smallest loop or function that holds a backward pass and a step; its acts in the order of the lines."""

    scope: Scope
    block: ast.AST
    acts: tuple[Act, ...]

    def of(self, *kinds: str) -> list[Act]:
        """Return the acts of some kinds."""
        return [one for one in self.acts if one.kind in kinds]

    @property
    def loops(self) -> list[ast.For | ast.AsyncFor | ast.While]:
        """The loops around it within its body of code, innermost first, itself included if it is one."""
        own = [self.block] if isinstance(self.block, ast.For | ast.AsyncFor | ast.While) else []
        return [*own, *self.scope.loops(self.block)] if self.block in self.scope.above else own


@dataclass
class Reading:
    """All that a rule may look at.

    Attributes
    ----------
    scopes : list of Scope
        The bodies of the calling frames, innermost first, then of the user's functions that they call.
    model : nn.Module or None
        The model that is watched, or that preflight was given.
    loss : callable or None
        As it was given.
    optimizers : list
        As far as they are known.
    batch : object
        As preflight was given; None for a watch.
    """

    scopes: list[Scope]
    model: nn.Module | None = None
    loss: Any = None
    optimizers: Sequence[Any] = ()
    batch: Any = None
    cache: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def rounds(self) -> list[Round]:
        """The rounds of training."""
        return list({id(one.block): one for scope in self.scopes for one in _rounds(scope)}.values())

    @cached_property
    def methods(self) -> list[Scope]:
        """The methods that compute the model's output: ``forward`` of its classes, as far as the user wrote them."""
        found: dict[Any, Scope] = {}
        for module in self.model.modules() if self.model is not None else ():
            for one in user_classes(type(module))[:1]:
                code = getattr(vars(one).get("forward"), "__code__", None)
                if code is None or code in found or len(found) >= _MOST_SCOPES:
                    continue
                scope = scope_of_function(vars(one)["forward"], self_=module)
                if scope is not None:
                    found[code] = scope
        return list(found.values())

    @cached_property
    def constructors(self) -> list[Scope]:
        """The constructors of the model's classes, as far as the user wrote them."""
        kinds = dict.fromkeys(type(m) for m in self.model.modules()) if self.model is not None else {}
        made = [one for kind_of in kinds for one in user_classes(kind_of)[:1] if "__init__" in vars(one)]
        found = (scope_of_function(vars(one)["__init__"]) for one in dict.fromkeys(made))
        return [scope for scope in found if scope is not None][:_MOST_SCOPES]

    def forget(self) -> None:
        """Let go of what the names held, so that nothing is kept alive."""
        for scope in self.scopes:
            scope.forget()
        self.scopes.clear()

    def path_of(self, module: nn.Module) -> str:
        """Return the name of a module within the model; the model's class for the model itself."""
        model = self.model
        if model is None:
            return type(module).__name__
        return next((name for name, one in model.named_modules() if one is module), "") or type(model).__name__

    def is_training_loop(self, scope: Scope, loop: ast.AST) -> bool:
        """Return whether a loop holds a backward pass, here or in a function that it calls."""
        return any(self.trains(scope, call) for call in scope.calls() if scope.inside(call, loop))

    def trains(self, scope: Scope, call: ast.Call) -> bool:
        """Return whether a call is a backward pass, or of a function of the user's that holds one."""
        if name_of(call.func) in ("backward", "manual_backward"):
            return True
        return any(
            one.call is call and any(self.trains(one, inner) for inner in one.calls()) for one in self.scopes
        )  # fmt: skip


# ---- rounds ----------------------------------------------------------------------------------------------------------


def _rounds(scope: Scope) -> Iterator[Round]:
    acts = sorted(_acts(scope), key=lambda act: (act.node.lineno, act.node.col_offset))
    for backward in [one for one in acts if one.kind == "backward"]:
        blocks = [*(b for b in scope.around(backward.node) if isinstance(b, LOOPS)), scope.node]
        for block in blocks:
            inside = [one for one in acts if scope.inside(one.node, block)]
            if any(one.kind in ("step", "scaled") for one in inside):
                if not isinstance(block, ast.Module):
                    yield Round(scope, block, tuple(inside))
                break


def _acts(scope: Scope) -> Iterator[Act]:
    for call in scope.calls():
        name, owner = name_of(call.func), call.func.value if isinstance(call.func, ast.Attribute) else None
        on = scope.expression(owner) if owner is not None else ""
        if name in ("backward", "manual_backward"):
            yield Act("backward", call, on)
        elif name in ("clip_grad_norm_", "clip_grad_value_", "clip_grad_norm"):
            yield Act("clip", call, scope.text(call.args[0]) if call.args else "")
        elif owner is None:
            continue
        elif name == "zero_grad":
            yield Act("zero", call, on)
        elif name == "unscale_":
            yield Act("unscale", call, scope.expression(call.args[0]) if call.args else "")
        elif name == "update" and kind(scope, owner) == "scaler":
            yield Act("update", call, on)
        elif name == "step":
            what = {"optimizer": "step", "scheduler": "schedule", "scaler": "scaled"}.get(kind(scope, owner), "")
            if what:
                yield Act(what, call, scope.expression(call.args[0]) if what == "scaled" and call.args else on)


# ---- which bodies ----------------------------------------------------------------------------------------------------


def read(
    frames: Sequence[FrameType], *, model: nn.Module | None = None, loss: Any = None, optimizers: Sequence[Any] = (),
    batch: Any = None,
) -> Reading:  # fmt: skip
    """Return the reading of some frames of the user, innermost first, and of the functions that they call."""
    scopes: list[Scope] = []
    for frame in frames:
        scope = scope_of_frame(frame)
        if scope is not None:
            scopes.append(scope)
    for inner, outer in pairwise(scopes):
        inner.caller, inner.call = outer, _running_call(outer, getattr(inner.node, "name", ""))
    known = {id(one.node) for one in scopes}
    layer = list(scopes)
    for _ in range(_DEPTH):
        reached = [one for scope in layer for one in _called_by(scope, known)]
        layer = reached[: _MOST_SCOPES - len(scopes)]
        scopes += layer
    return Reading(scopes, unwrap(model) if model is not None else None, loss, optimizers, batch)


def _running_call(scope: Scope, name: str) -> ast.Call | None:
    """Return the call of a function in the line that a body is at."""
    calls = [c for c in scope.calls(name) if c.lineno <= scope.line <= (c.end_lineno or c.lineno)] if name else []
    return calls[0] if calls else None


def scope_of_frame(frame: FrameType) -> Scope | None:
    """Return the body that a frame executes; None if its source is not known, or is too long."""
    code = frame.f_code
    text = "".join(linecache.getlines(code.co_filename, frame.f_globals))
    if not text or len(text) > MOST_CHARS:
        return None
    tree = tree_of(code.co_filename)
    node: ast.AST | None = tree if code.co_name == "<module>" else _definition(code)
    if node is None:
        return None
    variables = frame.f_locals
    if code.co_flags & CO_OPTIMIZED and type(variables) is dict:
        known = dict(variables)
        if sys.getrefcount(variables) <= _OWN_REFERENCES:  # a snapshot that the frame alone would keep alive
            variables.clear()
        variables = known
    return Scope(code.co_filename, text, node, variables=variables, world=frame.f_globals, line=frame.f_lineno)


def scope_of_function(function: Any, *, self_: Any = MISSING) -> Scope | None:
    """Return the body of a function of the user; None for any other."""
    code = getattr(function, "__code__", None)
    if code is None or not is_user_code(code.co_filename):
        return None
    text = "".join(linecache.getlines(code.co_filename))
    node = _definition(code) if text and len(text) <= MOST_CHARS else None
    if node is None:
        return None
    closure = dict(zip(code.co_freevars, (_held(cell) for cell in function.__closure__ or ()), strict=False))
    world = {**getattr(function, "__globals__", {}), **closure} if closure else function.__globals__
    return Scope(code.co_filename, text, node, variables=None, world=world, self_=self_)


_indexes: dict[int, tuple[ast.Module, dict[tuple[str, int], ast.AST]]] = {}


def _definition(code: CodeType) -> ast.AST | None:
    """Return the definition of a function; each file is indexed once."""
    tree = tree_of(code.co_filename)
    if tree is None:
        return None
    known = _indexes.get(id(tree))
    if known is None or known[0] is not tree:
        if len(_indexes) > _MOST_FILES:
            _indexes.clear()
        known = _indexes[id(tree)] = tree, {
            (node.name, min([node.lineno, *(d.lineno for d in node.decorator_list)])): node
            for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }  # fmt: skip
    return known[1].get((code.co_name, code.co_firstlineno))


def _held(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is bound later
        return MISSING


def _called_by(scope: Scope, known: set[int]) -> Iterator[Scope]:
    local = {n.name: n for n in scope.nodes if isinstance(n, ast.FunctionDef)}
    for call in scope.calls():
        value = scope.value(call.func)
        if isinstance(value, MethodType) and isinstance(value.__func__, FunctionType):
            found = None if isinstance(value.__self__, nn.Module) and value.__name__ == "forward" else (
                scope_of_function(value.__func__, self_=value.__self__))  # fmt: skip
        elif isinstance(value, FunctionType):
            found = scope_of_function(value)
        elif not isinstance(value, nn.Module) and isinstance(vars(type(value)).get("__call__"), FunctionType):
            found = scope_of_function(type(value).__call__, self_=value)
        elif isinstance(call.func, ast.Name) and call.func.id in local:  # not defined yet
            node = local[call.func.id]
            found = Scope(scope.file, scope.source, node, variables=None, world=_world(scope))
        else:
            continue
        if found is None or id(found.node) in known:
            continue
        known.add(id(found.node))
        found.caller, found.call = scope, call
        found.given = dict(_given(scope, call, found))
        yield found


def _world(scope: Scope) -> Mapping[str, Any]:
    return {**scope.world, **scope.variables}


def _given(caller: Scope, call: ast.Call, callee: Scope) -> Iterator[tuple[str, tuple[Scope, ast.expr]]]:
    if not isinstance(callee.node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    names = parameters(callee.node)
    if callee.self_ is not MISSING and names:
        names = names[1:]
    for name, argument in zip(names, call.args, strict=False):
        if isinstance(argument, ast.Starred):
            break
        yield name, (caller, argument)
    for keyword in call.keywords:
        if keyword.arg:
            yield keyword.arg, (caller, keyword.value)
    spare = dict(zip(reversed(names), reversed(callee.node.args.defaults), strict=False))
    for name, default in spare.items():
        if all(name != k.arg for k in call.keywords) and name not in names[: len(call.args)]:
            yield name, (callee, default)


# ---- what is known of data -------------------------------------------------------------------------------------------


def tensor_of(scope: Scope, node: ast.AST | None) -> Tensor | None:
    """Return the tensor that an expression holds now, if it is one."""
    found = scope.value(node)
    return found if isinstance(found, Tensor) else None


def few(values: Tensor) -> Tensor:
    """Return some of the values of a tensor, evenly spaced, on the CPU."""
    flat = values.detach().flatten()
    step = max(1, flat.numel() // _SAMPLES)
    return flat[::step][:_SAMPLES].cpu()
