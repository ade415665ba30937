"""Rules about the evaluation: inputs that are prepared otherwise, constraints that were not computed yet."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from nbops.debugging.preflight.found import Found
from nbops.debugging.reading.counting import names_in, over
from nbops.debugging.reading.facts import Reading, few
from nbops.debugging.reading.kinds import kind
from nbops.debugging.reading.noting import noted, patch, readings
from nbops.debugging.reading.scopes import LOOPS, Scope
from nbops.debugging.source import name_of

_PREPARES = re.compile(r"normali[sz]e|standardi[sz]e|preprocess|rescale|fit_transform", re.I)
_NUMBERS = re.compile(r"(^|_)(mean|std|mu|sigma|means|stds|avg|min|max)(_|\d|$)", re.I)
_APART = 0.75  # deviations between two means
_TIMES = 2.0  # between two deviations
_STALE = 0.92  # of the true norm
_SMALL = 40_000  # values of a weight whose norm is computed


# ---- preparation -----------------------------------------------------------------------------------------------------


def _prepares(scope: Scope, node: ast.AST) -> bool:
    """Return whether an expression scales: minus a mean, divided by a deviation or by 255, or a function so named."""
    for part in ast.walk(node):
        if isinstance(part, ast.Call) and _PREPARES.search(name_of(part.func)):
            return True
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Div | ast.Sub):
            right = part.right
            is_pixel = isinstance(right, ast.Constant) and right.value in (255, 255.0, 127.5, 16, 16.0)
            if is_pixel or any(_NUMBERS.search(n.rpartition(".")[2]) for n in names_in(scope, right)):
                return True
    return False


@readings.register("evaluated-unprepared")
def evaluated_unprepared(reading: Reading) -> Iterator[Found]:
    """Find evaluations whose inputs are not prepared as those of the training are.

    What it measures
        Which tensors the training is given and which the evaluation, in the calling code: one is standardised or scaled
        there and the other is not, and their means or deviations lie far apart. Inside the loops: whether the model is
        called with prepared inputs in the training and with bare ones in the evaluation.
    Why it matters
        The model is judged on inputs that it never saw: the figure is far too low.
    When it is wrong
        Test data that were prepared elsewhere and are of another kind.
    Fix
        The same preparation, with the training set's numbers, for both.
    References
        The chapter on common pitfalls of scikit-learn's user guide.
    """
    for scope in reading.scopes:
        if scope.variables:
            yield from _unlike(reading, scope)
    yield from _bare(reading)


def _unlike(reading: Reading, scope: Scope) -> Iterator[Found]:
    trained = {n for one in reading.rounds if one.scope is scope for n in _fed(scope, one.loops)}
    prepared = {
        n: last for n in trained
        if isinstance(scope.variables.get(n), Tensor) and (last := _preparation(scope, n)) is not None
    }  # fmt: skip
    for call in scope.calls() if prepared else ():
        if not _is_given_the_model(reading, scope, call):
            continue
        for given in [a.id for a in call.args if isinstance(a, ast.Name)]:
            other = scope.variables.get(given)
            if not isinstance(other, Tensor) or given in trained or _preparation(scope, given) is not None:
                continue
            for name, statement in prepared.items():
                mine = scope.variables[name]
                if mine.shape[1:] != other.shape[1:] or not other.is_floating_point() or not _are_apart(mine, other):
                    continue
                yield noted(
                    scope, call, "eval-preprocessing-differs", layer="metric", confidence=0.96,
                    patch=_prepared_alike(scope, statement, name, given),
                    what=f"'{name}' is prepared in line {scope.place(statement).line}, and '{given}' is not",
                    why=f"The model learns from {_spread(mine)} and is judged on {_spread(other)}.",
                    expected=_spread(mine), got=_spread(other),
                )  # fmt: skip
                return


def _prepared_alike(scope: Scope, statement: ast.stmt, name: str, other: str) -> str:
    """Return the patch that prepares another tensor by the same line."""
    is_plain = isinstance(statement, ast.Assign) and scope.expression(statement.targets[0]) == name
    if not is_plain or not isinstance(statement, ast.Assign) or statement.lineno != statement.end_lineno:
        return ""
    value = re.sub(rf"\b{re.escape(name)}\b(?!\.(mean|std|min|max|amin|amax)\b)", other, scope.text(statement.value))
    return patch(scope, before=[(statement, f"{other} = {value}")])


def _fed(scope: Scope, loops: list[ast.For | ast.AsyncFor | ast.While]) -> set[str]:
    """Return the names that a training loop runs over or picks rows from."""
    found = {n for loop in loops if isinstance(loop, ast.For | ast.AsyncFor) for n in names_in(scope, over(loop.iter))}
    for loop in loops[:1]:
        for call in scope.calls():
            if scope.inside(call, loop) and kind(scope, call) == "output":
                found |= {n for a in call.args for n in names_in(scope, a)}
    return found


def _preparation(scope: Scope, name: str) -> ast.stmt | None:
    """Return the statement that prepares what a name holds, if one does."""
    for binding in reversed(scope.bindings.get(name, [])):
        if binding.how in ("assign", "part") and _prepares(scope, binding.value):
            return binding.statement
    return None


def _is_given_the_model(reading: Reading, scope: Scope, call: ast.Call) -> bool:
    """Return whether a call outside of the rounds of training is one of the model, or is given it."""
    if reading.model is None or any(one.scope is scope and scope.inside(call, one.block) for one in reading.rounds):
        return False
    return any(scope.value(a) is reading.model for a in [call.func, *call.args])


def _are_apart(mine: Tensor, other: Tensor) -> bool:
    a, b = few(mine).float(), few(other).float()
    if min(len(a), len(b)) < 32:
        return False
    wide, narrow = max(float(a.std()), float(b.std())), min(float(a.std()), float(b.std()))
    return abs(float(a.mean() - b.mean())) > _APART * wide or wide > _TIMES * max(narrow, 1e-12)


def _spread(values: Tensor) -> str:
    some = few(values).float()
    return f"a mean of {float(some.mean()):.2g} and a deviation of {float(some.std()):.2g}"


def _bare(reading: Reading) -> Iterator[Found]:
    """Find a model that is called with prepared inputs in the training loop, and with bare ones in the evaluation."""
    trained = [(one.scope, c) for one in reading.rounds for c in one.scope.calls()
               if one.scope.inside(c, one.block) and c.args and kind(one.scope, c) == "output"]  # fmt: skip
    prepared = [(s, c) for s, c in trained if _input_of(s, c) is not None and _is_prepared(s, c)]
    if not prepared or len(prepared) < len(trained):
        return
    scope, first = prepared[0]
    for where in reading.scopes:
        for call in where.calls():
            if any(call is c for _, c in trained) or not call.args or kind(where, call) != "output":
                continue
            loops = where.loops(call)
            if not loops or reading.is_training_loop(where, loops[0]) or where.value(call.func) is not reading.model:
                continue
            if _is_prepared(where, call) or _comes_prepared(where, call) or not _is_bare_item(where, call):
                continue
            given = scope.text(first.args[0])
            yield noted(
                where, call, "eval-preprocessing-differs", layer="metric", confidence=0.85, status="warning",
                what=f"the model is trained on {given[:60]}, and evaluated on {where.text(call.args[0])[:60]}",
                why="Inputs are prepared in the training loop only.", expected=given[:80],
                got=where.text(call.args[0])[:80],
            )  # fmt: skip
            return


def _input_of(scope: Scope, call: ast.Call) -> str | None:
    names = names_in(scope, call.args[0])
    return next((n for n in sorted(names) for b in scope.bindings.get(n, []) if b.how == "item"), None)


def _is_prepared(scope: Scope, call: ast.Call) -> bool:
    """Return whether the input of a call is prepared there, or in a statement of the same loop."""
    if _prepares(scope, call.args[0]):
        return True
    loop = next((n for n in scope.around(call) if isinstance(n, LOOPS)), None)
    bindings = [b for n in names_in(scope, call.args[0]) for b in scope.bindings.get(n, []) if b.how == "assign"]
    above = [b for b in bindings if b.statement.lineno < call.lineno]
    return loop is not None and any(scope.inside(b.statement, loop) and _prepares(scope, b.value) for b in above)


def _comes_prepared(scope: Scope, call: ast.Call) -> bool:
    """Return whether what the evaluation runs over was prepared before its loop."""
    loop = scope.loops(call)[0]
    names = names_in(scope, loop.iter) if isinstance(loop, ast.For | ast.AsyncFor) else set()
    return any(_preparation(scope, n) is not None for n in names)


def _is_bare_item(scope: Scope, call: ast.Call) -> bool:
    node = call.args[0]
    while (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("to", "cuda", "float")
    ):
        node = node.func.value
    return isinstance(node, ast.Name) and all(b.how == "item" for b in scope.bindings.get(node.id, [])[-1:])


# ---- constraints -----------------------------------------------------------------------------------------------------


@readings.register("norm-not-computed-yet")
def norm_not_computed_yet(reading: Reading) -> Iterator[Found]:
    """Find spectrally normalised layers that are used in evaluation mode before their norm is known.

    What it measures
        The estimate of the largest singular value of a small weight against the true one, where the code calls the
        model after ``eval()`` and before any training.
    Why it matters
        The power iteration runs in training mode only: until then the layer is not bounded as it is said to be.
    When it is wrong
        Not known.
    Fix
        Some forward passes in training mode first.
    References
        Miyato et al. 2018; torch's ``spectral_norm`` runs its iteration in training mode.
    """
    model = reading.model
    stale = [(n, m) for n, m in model.named_modules() if _is_stale(m)] if model is not None else []
    for scope in reading.scopes if stale else ():
        evals = [c for c in scope.calls("eval") if scope.value(getattr(c.func, "value", None)) is model]
        used = [c for c in scope.calls() if scope.value(c.func) is model]
        first = min((a.node.lineno for one in reading.rounds for a in one.acts), default=1 << 30)
        wrong = [c for c in used if any(e.lineno < c.lineno for e in evals) and c.lineno < first]
        warmed = [c for c in used if wrong and c.lineno < min(e.lineno for e in evals)]
        if not wrong or warmed:
            continue
        name = stale[0][0]
        owner = name.partition(".parametrizations")[0]
        text = scope.text(evals[0].func.value)  # type: ignore[attr-defined]
        yield noted(
            scope, wrong[0], "parametrization-stale", layer=owner or type(model).__name__, confidence=0.96,
            what=f"'{owner}' is used in evaluation mode before its norm was computed",
            why="The power iteration runs in training mode only; its estimate is far below the true norm.",
            fix=f"Call {text} some times in training mode first.", expected=f"{text}.train(), some forward passes",
            got=scope.text(evals[0]),
        )  # fmt: skip
        return


def _is_stale(module: nn.Module) -> bool:
    """Return whether a spectral normalisation's estimate is below the true norm of its weight."""
    norms = [m for m in module.children() if type(m).__name__ == "_SpectralNorm"]
    if type(module).__name__ != "ParametrizationList" or not norms:
        return False
    weight, norm = getattr(module, "original", None), norms[0]
    u, v = getattr(norm, "_u", None), getattr(norm, "_v", None)
    if not (isinstance(weight, Tensor) and isinstance(u, Tensor) and isinstance(v, Tensor)):
        return False
    if weight.numel() > _SMALL or weight.device.type != "cpu" or getattr(norm, "dim", 0) != 0:
        return False
    with torch.no_grad():
        matrix = weight.detach().float().flatten(1)
        estimate, true = float(u @ matrix @ v), float(torch.linalg.matrix_norm(matrix, 2))
    return estimate < _STALE * true
