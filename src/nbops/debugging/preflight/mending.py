"""Patches of the lines that a check names: a setting of a layer's call, what a layer is given, the arguments of a loss.

What is not to be computed for sure gives "", and the check keeps its example.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import re
from collections.abc import Iterator
from typing import Any

from torch import nn

from nbops.debugging.diffs import fits
from nbops.debugging.places import Place
from nbops.debugging.remedies.looking import argument, is_simple, nodes_on, parents, trained_loss, with_call
from nbops.debugging.source import Code, name_of

_RESHAPING = re.compile(
    r"\.(flatten|view|reshape|transpose|permute|squeeze_?|unsqueeze_?)\(|rearrange\(|\.m?T\b|\[(:|\.\.\.), (0|None)\]"
)


def code_of(place: Place | None) -> Code | None:
    """Return the source that holds a place; None if it is not known."""
    text = "".join(linecache.getlines(place.file)) if place is not None else ""
    return Code.of(text.rstrip("\n")) if text.strip() else None


def finished(code: Code) -> str:
    """Return the collected edits as a patch that applies; "" if they do not."""
    patch = code.diff()
    return patch if patch and fits(code.source, patch) else ""


def line_patch(place: Place | None, new: str) -> str:
    """Return the patch that writes `new` in the place of a whole line."""
    code = code_of(place)
    if code is None or place is None or not new or new == place.code:
        return ""
    patch = f"-{place.code}\n+{new}"
    return patch if fits(code.source, patch) else ""


# ---- settings of a layer ---------------------------------------------------------------------------------------------


def resized_call(place: Place | None, made: str, old: dict[str, Any], new: dict[str, Any]) -> str:
    """Return the patch that gives the call of a class other settings.

    Parameters
    ----------
    place : Place or None
        The line that makes the layer.
    made : str
        The class: ``Linear``.
    old, new : dict
        Its settings as they are and as they should be, by the names of its constructor.
    """
    code = code_of(place)
    call = _call_of(code, place, made, old) if code is not None and place is not None else None
    if code is None or call is None:
        return ""
    for name, value in new.items():
        given = _given(call, made, name)
        if given is None:
            return ""
        if code.text(given) == str(value):
            continue
        if _names_of(given) & _parameters_around(code, call):
            if name != "num_embeddings":  # the same line makes other layers too
                return ""
            value = _more(code, given, value - old[name])
        code.replace(given, str(value))
    return finished(code)


def _more(code: Code, given: ast.expr, count: int) -> str:
    """Return an expression that gives `count` more: ``n`` of ``n - 1``."""
    if isinstance(given, ast.BinOp) and isinstance(given.op, ast.Sub) and _value(given.right) == count:
        return code.text(given.left)
    return f"{code.text(given)} + {count}"


def _call_of(code: Code, place: Place, made: str, old: dict[str, Any]) -> ast.Call | None:
    """Return the call of a class on a line: the one with these settings, where there are several."""
    found = [n for n in nodes_on(code, place.code) if isinstance(n, ast.Call) and name_of(n.func) == made]
    if len(found) > 1:
        found = [n for n in found if all(_value(_given(n, made, name)) in (None, value) for name, value in old.items())]
    return found[0] if len(found) == 1 else None


def _given(call: ast.Call, made: str, name: str) -> ast.expr | None:
    kind = getattr(nn, made, None)
    if kind is None or any(isinstance(a, ast.Starred) for a in call.args):
        return None
    names = list(inspect.signature(kind.__init__).parameters)[1:]
    return argument(call, name, names.index(name) if name in names else 99)


def _value(node: ast.expr | None) -> Any:
    """Return the number that an expression of constants comes to; None for any other."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left), _value(node.right)
        if isinstance(left, int) and isinstance(right, int):
            if isinstance(node.op, ast.Mult):
                return left * right
            if isinstance(node.op, ast.Add | ast.Sub):
                return left + right if isinstance(node.op, ast.Add) else left - right
    return None


def _names_of(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _parameters_around(code: Code, node: ast.AST) -> set[str]:
    """Return the names that stand for another value each time a line runs: parameters, and the variables of loops."""
    found: set[str] = set()
    around = parents(code)
    above = around.get(node)
    while above is not None:
        if isinstance(above, ast.FunctionDef | ast.Lambda):
            found |= {a.arg for a in [*above.args.args, *above.args.kwonlyargs]}
            found |= {n.id for n in ast.walk(above) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        elif isinstance(above, ast.For | ast.comprehension):
            found |= _names_of(above.target)
        elif isinstance(above, ast.ListComp | ast.GeneratorExp):
            found |= {name for part in above.generators for name in _names_of(part.target)}
        above = around.get(above)
    return found


def resized_and_flat(called: Place | None, place: Place | None, path: str, old: int, new: int) -> str:
    """Return the patch that flattens what a linear layer is given and gives it as many features, in one file."""
    code = code_of(place)
    if code is None or place is None or called is None or called.file != place.file:
        return ""
    call, name = _call_of(code, place, "Linear", {"in_features": old}), path.rpartition(".")[2]
    uses = [n for n in nodes_on(code, called.code) if isinstance(n, ast.Call) and code.text(n.func) == f"self.{name}"]
    given = _given(call, "Linear", "in_features") if call is not None else None
    if given is None or len(uses) != 1 or not uses[0].args or _names_of(given) & _parameters_around(code, given):
        return ""
    code.replace(given, str(new))
    with_call(code, uses[0].args[0], ".flatten(1)")
    return finished(code)


# ---- what a layer is given -------------------------------------------------------------------------------------------


def changed_input(called: Place | None, place: Place | None, path: str, change: str) -> str:
    """Return the patch that changes what the layer at `path` is given: at its call, else inside a Sequential.

    Parameters
    ----------
    called, place : Place or None
        The line that calls it, and the one that makes it.
    change : str
        ``x = x.flatten(1)``, with ``x`` for what it is given.
    """
    method = change.partition("=")[2].strip()
    if not method.startswith("x"):
        return ""
    found = _at_call(called, path.rpartition(".")[2], method[1:])
    if found or method != "x.flatten(1)":
        return found
    code = code_of(place)
    calls = [n for n in nodes_on(code, place.code) if isinstance(n, ast.Call)] if code and place else []
    around = parents(code) if code is not None else {}
    inside = [n for n in calls if isinstance(around.get(n), ast.Call) and name_of(around[n].func) == "Sequential"]  # type: ignore[attr-defined]
    if code is None or len(inside) != 1:
        return ""
    head = code.text(inside[0].func).rpartition(".")[0]
    code.wrap(inside[0], f"{head}.Flatten(), " if head else "nn.Flatten(), ", "")
    return finished(code)


def _at_call(called: Place | None, name: str, method: str) -> str:
    code = code_of(called)
    if code is None or called is None or name.isdigit():
        return ""
    calls = [n for n in nodes_on(code, called.code) if isinstance(n, ast.Call) and code.text(n.func) == f"self.{name}"]
    if len(calls) != 1 or not calls[0].args:
        return ""
    given = calls[0].args[0]
    if method.startswith("."):
        with_call(code, given, method)
    else:
        code.wrap(given, "" if is_simple(given) else "(", ("" if is_simple(given) else ")") + method)
    return finished(code)


def unpacked(called: Place | None, path: str, *, is_last_step: bool) -> str:
    """Return the patch that takes the output out of the tuple that a recurrent layer gives; its last step if wanted."""
    code = code_of(called)
    if code is None:
        return ""
    name = path.rpartition(".")[2]
    calls = [n for n in ast.walk(code.tree) if isinstance(n, ast.Call) and code.text(n.func) == f"self.{name}"]
    around = parents(code)
    if len(calls) != 1 or isinstance(around.get(calls[0]), ast.Subscript):
        return ""
    code.wrap(calls[0], "", "[0][:, -1]" if is_last_step else "[0]")
    return finished(code)


def projected(called: Place | None, owner: nn.Module, skip: tuple[int, ...], main: tuple[int, ...]) -> str:
    """Return the patch that makes a shortcut of nn.Identity a convolution that gives what the other path gives.

    Parameters
    ----------
    skip, main : tuple of int, [N, channels, height, width]
        What both paths gave.
    """
    code = code_of(called)
    if code is None or called is None or len(skip) != 4 or len(main) != 4 or skip[2] % main[2] or skip[3] % main[3]:
        return ""
    used = [n.func.attr for n in nodes_on(code, called.code) if isinstance(n, ast.Call)
            and isinstance(n.func, ast.Attribute) and code.text(n.func.value) == "self"]  # fmt: skip
    bare = [name for name in used if isinstance(getattr(owner, name, None), nn.Identity)]
    made = [s for s in code.statements() if isinstance(s, ast.Assign) and isinstance(s.value, ast.Call) and bare
            and code.text(s.targets[0]) == f"self.{bare[0]}" and name_of(s.value.func) == "Identity"]  # fmt: skip
    if len(bare) != 1 or len(made) != 1 or skip[2] // main[2] != skip[3] // main[3]:
        return ""
    stride = f", stride={skip[2] // main[2]}" if skip[2] != main[2] else ""
    code.replace(made[0].value, f"nn.Conv2d({skip[1]}, {main[1]}, 1{stride})")
    return finished(code)


def flat_per_sample(called: Place | None, old: int, new: int) -> str:
    """Return the patch of a view that mixed samples: one row each, and as many features in the layer behind it."""
    code = code_of(called)
    if code is None or called is None:
        return ""
    views = [
        n for n in nodes_on(code, called.code) if isinstance(n, ast.Call) and name_of(n.func) in ("view", "reshape")
    ]
    if len(views) != 1 or not isinstance(views[0].func, ast.Attribute):
        return ""
    code.replace(views[0], f"{code.text(views[0].func.value)}.flatten(1)")
    layers = [n for n in ast.walk(code.tree) if isinstance(n, ast.Call) and name_of(n.func) == "Linear"]
    given = [_given(n, "Linear", "in_features") for n in layers]
    fitting = [g for g in given if g is not None and _value(g) == old]
    if old != new and len(fitting) == 1:
        code.replace(fitting[0], str(new))
    return finished(code) if old == new or len(fitting) == 1 else ""


def _called_as(code: Code, place: Place, path: str) -> ast.Call | None:
    """Return the only call of ``self.name`` on a line, for the last name of a path."""
    name = path.rpartition(".")[2]
    calls = [n for n in nodes_on(code, place.code) if isinstance(n, ast.Call) and code.text(n.func) == f"self.{name}"]
    return calls[0] if len(calls) == 1 and calls[0].args else None


def masked_call(called: Place | None, path: str, keyword: str, axis: int) -> str:
    """Return the patch that gives an attention its causal mask, as long as what it is given along `axis`."""
    code = code_of(called)
    call = _called_as(code, called, path) if code is not None and called is not None else None
    if code is None or call is None or not isinstance(call.args[0], ast.Name):
        return ""
    name = call.args[0].id
    mask = f"nn.Transformer.generate_square_subsequent_mask({name}.shape[{axis}], device={name}.device)"
    code.wrap(([*call.args, *(k.value for k in call.keywords)])[-1], "", f", {keyword}={mask}")
    return finished(code)


def with_positions(called: Place | None, place: Place | None, path: str, module: nn.Module, length: int) -> str:
    """Return the patch that adds an embedding of positions: where the tokens' own is made, and where it is called."""
    code = code_of(called)
    call = _called_as(code, called, path) if code is not None and called is not None else None
    if code is None or call is None or place is None or called is None or place.file != called.file:
        return ""
    made = [s for s in code.statements() if isinstance(s, ast.Assign) and code.text(s) == place.code]
    if len(made) != 1 or not isinstance(module, nn.Embedding) or "positions" in code.source:
        return ""
    tokens = call.args[0]
    if not isinstance(tokens, ast.Name):
        return ""
    code.afters.append((made[0], f"self.positions = nn.Embedding({length}, {module.embedding_dim})"))
    count = f"torch.arange({tokens.id}.shape[1], device={tokens.id}.device)"
    code.wrap(call, "", f" + self.positions({count})")
    return finished(code)


# ---- the arguments of a loss -----------------------------------------------------------------------------------------


class _Filled(ast.NodeTransformer):
    """Puts the user's own expressions in the place of ``output`` and ``target``."""

    def __init__(self, own: dict[str, ast.expr]) -> None:
        self._own = own

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._own.get(node.id, node)


def changed_loss(sources: Iterator[str], example: str) -> str:
    """Return the patch of the only call of the loss that is trained with: ``loss(output, target.long())`` says how.

    Nothing is changed where the call gives its arguments another shape already.
    """
    try:
        wanted = ast.parse(example, mode="eval").body
    except SyntaxError:
        return ""
    if not isinstance(wanted, ast.Call):
        return ""
    for source in sources:
        code = Code.of(source)
        found = trained_loss(code) if code is not None else None
        if code is None or found is None or is_reshaped(code, found[1]):
            continue
        own = dict(zip(("output", "target"), found[1].args, strict=False))
        for old, new in zip(found[1].args, wanted.args, strict=False):
            if isinstance(new, ast.Constant) and new.value is Ellipsis:
                continue
            text = ast.unparse(_Filled(own).visit(ast.parse(ast.unparse(new), mode="eval").body))
            if text != ast.unparse(old):
                code.replace(old, text)
        patch = finished(code)
        if patch:
            return patch
    return ""


def is_reshaped(code: Code, call: ast.Call) -> bool:
    """Return whether a call of a loss gives its arguments another shape on the way, there or in what they hold."""
    return any(_reshapes(code, a) for a in call.args)


def _reshapes(code: Code, node: ast.expr, depth: int = 3) -> bool:
    if _RESHAPING.search(code.text(node)):
        return True
    if not depth:
        return False
    if isinstance(node, ast.Name):
        given = [n.value for n in ast.walk(code.tree) if isinstance(n, ast.Assign) and _binds(n, node.id)]
        return any(_reshapes(code, value, depth - 1) for value in given)
    if isinstance(node, ast.Call):
        name = name_of(node.func)  # of a function beside the model: what `forward` reshapes was seen already
        own = [n for n in ast.walk(code.tree) if isinstance(n, ast.FunctionDef) and n.name == name != "forward"]
        returned = [r.value for f in own for r in ast.walk(f) if isinstance(r, ast.Return) and r.value is not None]
        return any(_reshapes(code, value, depth - 1) for value in returned)
    return False


def _binds(statement: ast.Assign, name: str) -> bool:
    return any(isinstance(target, ast.Name) and target.id == name for target in statement.targets)
