"""Rules about figures: thresholds, axes, shapes that broadcast, last batches, loaders that are taken for others."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nbops.debugging.preflight.found import Found
from nbops.debugging.reading.counting import names_in, over
from nbops.debugging.reading.facts import Reading
from nbops.debugging.reading.kinds import kind
from nbops.debugging.reading.noting import noted, patch, readings
from nbops.debugging.reading.scopes import Scope
from nbops.debugging.source import name_of

_HELD_OUT = re.compile(r"(^|[_\W])(test|val|valid|validation|dev|holdout)([_\W]|$)", re.I)
_FLAT = ("squeeze", "flatten", "ravel", "argmax")
_REDUCES = ("mean", "sum", "item", "mse_loss", "l1_loss")


# ---- thresholds ------------------------------------------------------------------------------------------------------


@readings.register("half-of-a-score")
def half_of_a_score(reading: Reading) -> Iterator[Found]:
    """Find raw scores that are compared with a half, or rounded, as if they were probabilities.

    What it measures
        Comparisons with 0.5, and roundings, of what the model gave, where the loss is one that takes raw scores and
        neither the model nor the code applies a sigmoid.
    Why it matters
        A score of 0.5 is a probability of 0.62: the accuracy that is shown is wrong, and predictions lean to one class.
    When it is wrong
        A threshold that was chosen for raw scores.
    Fix
        Compare with 0, or take ``torch.sigmoid`` first.
    References
        The documentation of BCEWithLogitsLoss.
    """
    if not _takes_scores(reading) or _squashes(reading):
        return
    for scope in reading.scopes:
        for node in scope.nodes:
            threshold = _threshold(scope, node)
            if threshold is None:
                continue
            compared, constant = threshold
            yield noted(
                scope, node, "threshold-on-logits", layer="metric", confidence=0.96,
                patch=patch(scope, swap=[(constant, "0")]) if isinstance(constant, ast.Constant) else
                patch(scope, swap=[(compared, f"torch.sigmoid({scope.text(compared)})")]),
                what=f"'{scope.text(compared)}' is raw scores, and is cut at a half",
                why="A half is the threshold of probabilities; that of raw scores is 0.",
                fix="Compare with 0, or take torch.sigmoid first.", expected="a threshold of 0",
                got=scope.text(node)[:80],
            )  # fmt: skip


def _threshold(scope: Scope, node: ast.AST) -> tuple[ast.expr, ast.expr | None] | None:
    """Return what is cut at a half, and the half."""
    if (
        isinstance(node, ast.Compare)
        and len(node.ops) == 1
        and isinstance(node.ops[0], ast.Gt | ast.GtE | ast.Lt | ast.LtE)
    ):
        for side, other in ((node.left, node.comparators[0]), (node.comparators[0], node.left)):
            if isinstance(other, ast.Constant) and other.value == 0.5 and _is_score(scope, side):
                return side, other
    if isinstance(node, ast.Call) and name_of(node.func) in ("gt", "ge", "lt", "le") and node.args:
        sides = [*([node.func.value] if isinstance(node.func, ast.Attribute) else []), *node.args]
        half = node.args[-1] if isinstance(node.args[-1], ast.Constant) and node.args[-1].value == 0.5 else None
        scores = next((s for s in sides if half is not None and _is_score(scope, s)), None)
        return (scores, half) if scores is not None else None
    if isinstance(node, ast.Call) and name_of(node.func) == "round":
        inner = node.args[0] if node.args else node.func.value if isinstance(node.func, ast.Attribute) else None
        if inner is not None and _is_score(scope, inner):
            return inner, None
    return None


def _is_score(scope: Scope, node: ast.expr, depth: int = 4) -> bool:
    """Return whether an expression is what the model gave, at most detached, moved and reshaped."""
    while isinstance(node, ast.Call | ast.Attribute):
        owner = node.func.value if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else None
        owner = node.value if isinstance(node, ast.Attribute) and node.attr == "data" else owner
        is_moved = isinstance(node, ast.Attribute) or name_of(node.func) in (
            "detach",
            "cpu",
            "numpy",
            "float",
            "squeeze",
        )
        if owner is None or not is_moved:
            break
        node = owner
    if kind(scope, node) == "output":
        return True
    bound = scope.bound(node.id, before=node) if isinstance(node, ast.Name) and depth else None
    is_made = bound is not None and bound.how == "assign" and isinstance(bound.value, ast.Call)
    return bound is not None and is_made and _is_score(scope, bound.value, depth - 1)


def _takes_scores(reading: Reading) -> bool:
    """Return whether the code that trains gives raw scores of the model to a binary loss that takes such."""
    for scope in reading.scopes:
        for call in scope.calls():
            called = scope.value(call.func)
            is_binary = (
                isinstance(called, nn.BCEWithLogitsLoss) or name_of(call.func) == "binary_cross_entropy_with_logits"
            )
            if is_binary and call.args and kind(scope, call.args[0]) == "output":
                return True
    return False


def _squashes(reading: Reading) -> bool:
    """Return whether the model itself ends in a sigmoid, or may."""
    model = reading.model
    if model is None:
        return True
    has_layer = any(isinstance(m, nn.Sigmoid | nn.Softmax) for m in model.modules())
    return has_layer or any("sigmoid" in s.text(s.node).lower() for s in reading.methods)


# ---- axes and shapes -------------------------------------------------------------------------------------------------


@readings.register("argmax-over-the-batch")
def argmax_over_the_batch(reading: Reading) -> Iterator[Found]:
    """Find an argmax over the first axis of what the model gave for a batch.

    What it measures
        ``argmax(0)``, ``argmax(dim=0)`` and ``torch.max(…, 0)`` of an output that is compared with labels, where the
        last layer gives one row of scores per sample.
    Why it matters
        It names the best sample of each class, not the best class of each sample.
    When it is wrong
        A model that is called with one sample without a batch axis.
    Fix
        ``argmax(1)`` or ``argmax(-1)``.
    References
        torch.argmax reduces the axis that is named.
    """
    if not _gives_rows(reading):
        return
    for scope in reading.scopes:
        for call in scope.calls("argmax", "max"):
            found = _axis_and_scores(scope, call)
            if found is None or not isinstance(found[0], ast.Constant) or found[0].value != 0:
                continue
            axis, scores = found
            picks = [n for n in ast.walk(scores) if isinstance(n, ast.Subscript) and kind(scope, n) == "output"]
            if kind(scope, scores) != "output" or picks:
                continue
            if not _is_compared(scope, call):
                continue
            yield noted(
                scope, call, "metric-wrong-axis", layer="metric", confidence=0.96,
                patch=patch(scope, swap=[(axis, "1")]),
                what=f"{scope.text(call)} runs over the samples of the batch, and is compared with labels",
                why="It names the best sample of each class, not the best class of each sample.",
                fix="Use argmax(1).", expected="argmax(1)", got=scope.text(call)[-20:],
            )  # fmt: skip


def _is_compared(scope: Scope, call: ast.Call) -> bool:
    """Return whether what a call gives is compared for equality, there or by the name that it is bound to."""
    equals = [n for n in scope.nodes if isinstance(n, ast.Compare) and isinstance(n.ops[0], ast.Eq)]
    statement = scope.statement(call)
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    names = {scope.expression(n) for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)} - {"_"}
    return any(scope.inside(call, n) or names & names_in(scope, n) for n in equals)


def _axis_and_scores(scope: Scope, call: ast.Call) -> tuple[ast.expr, ast.expr] | None:
    named = next((k.value for k in call.keywords if k.arg in ("dim", "axis")), None)
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    is_function = owner is not None and scope.expression(owner) in ("torch", "np", "numpy")
    scores = call.args[0] if is_function and call.args else owner
    rest = call.args[1:] if is_function else call.args
    axis = named or (rest[0] if rest else None)
    return (axis, scores) if axis is not None and scores is not None else None


def _gives_rows(reading: Reading) -> bool:
    last = _last_layer(reading.model)
    return isinstance(last, nn.Linear) and last.out_features > 1


def _last_layer(model: nn.Module | None) -> nn.Module | None:
    leaves = [m for m in model.modules() if not list(m.children())] if model is not None else []
    return leaves[-1] if leaves else None


@readings.register("metric-of-all-pairs")
def metric_of_all_pairs(reading: Reading) -> Iterator[Found]:
    """Find figures that compare a row of predictions with a column of targets, and so each with all.

    What it measures
        Differences and comparisons of a prediction without a last axis (after ``squeeze`` or ``argmax``) with targets
        of the shape (n, 1), or of a column of predictions (``argmax`` with ``keepdim``, ``topk(1)``) with flat targets,
        which are then averaged or counted; the targets' shape is that of the variable, or of the loader's data set.
    Why it matters
        Broadcasting makes n times n pairs: the figure is that of a shuffled answer, or above 1.
    When it is wrong
        Pairwise distances that are meant.
    Fix
        Give both the same shape.
    References
        torch's notes on broadcasting; MSELoss warns of it, plain arithmetic does not.
    """
    for scope in reading.scopes:
        for node in scope.nodes:
            sides = _compared(node)
            if sides is None or not _is_reduced(scope, node) or _is_trained_on(scope, node):
                continue
            for mine, other in (sides, sides[::-1]):
                shape = shape_of(reading, scope, other)
                is_column = shape is not None and len(shape) == 2 and shape[1] == 1
                if is_column and _is_flat_output(scope, mine):
                    flat, column, patched = mine, other, "squeeze(1)"
                elif shape is not None and len(shape) == 1 and _is_column_output(reading, scope, mine):
                    flat, column, patched = other, mine, "unsqueeze(1)"
                else:
                    continue
                yield noted(
                    scope, node, "metric-broadcast", layer="metric", confidence=0.96,
                    patch=patch(scope, swap=[(other, f"{scope.text(other)}.{patched}")]),
                    what=f"'{scope.text(flat)}' has one axis, and '{scope.text(column)}' is a column of two",
                    why="Each prediction is compared with each target, n times n pairs.",
                    fix="Give both the same shape.", expected="the same shapes", got="(n,) against (n, 1)",
                )  # fmt: skip
                break


def _compared(node: ast.AST) -> tuple[ast.expr, ast.expr] | None:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
        return node.left, node.right
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq):
        return node.left, node.comparators[0]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("eq", "sub"):
        sides = node.args if name_of(node.func.value) == "torch" else [node.func.value, *node.args]
        return (sides[0], sides[1]) if len(sides) > 1 else None
    return None


def _is_reduced(scope: Scope, node: ast.AST) -> bool:
    return any(
        isinstance(n, ast.Call) and name_of(n.func) in _REDUCES
        for n in scope.around(node)
        if not isinstance(n, ast.stmt)
    )


def _is_trained_on(scope: Scope, node: ast.AST) -> bool:
    statement = scope.statement(node)
    names = {scope.expression(t) for t in getattr(statement, "targets", [])}
    return any(
        isinstance(c.func, ast.Attribute) and scope.expression(c.func.value) in names for c in scope.calls("backward")
    )


def _is_flat_output(scope: Scope, node: ast.AST, depth: int = 4) -> bool:
    """Return whether an expression is a model's answers along one axis: squeezed, or the numbers of classes."""
    if depth <= 0:
        return False
    if isinstance(node, ast.Name) and (bound := scope.bound(node.id, before=node)) is not None:
        return bound.how == "assign" and _is_flat_output(scope, bound.value, depth - 1)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        inner = node.func.value
        if node.func.attr in ("detach", "cpu", "float", "long", "round", "numpy", "sigmoid"):
            return _is_flat_output(scope, inner, depth - 1)
        is_view = node.func.attr in ("view", "reshape") and len(node.args) == 1 and _is_minus_one(node.args[0])
        return (node.func.attr in _FLAT or is_view) and not _keeps_axis(node) and _gives_output(scope, inner)
    return False


def _keeps_axis(call: ast.Call) -> bool:
    return any(
        k.arg == "keepdim" and isinstance(k.value, ast.Constant) and k.value.value is True for k in call.keywords
    )


def _is_column_output(reading: Reading, scope: Scope, node: ast.expr) -> bool:
    """Return whether an expression is the numbers of the likeliest classes as a column of shape (n, 1)."""
    if isinstance(node, ast.Name):
        bound = scope.bound(node.id, before=node)
        if bound is None or bound.how not in ("assign", "part"):
            return False
        return _is_column_pick(reading, scope, bound.value) or (
            bound.how == "assign" and not isinstance(bound.value, ast.Name)
            and _is_column_output(reading, scope, bound.value))  # fmt: skip
    if isinstance(node, ast.Subscript) or (isinstance(node, ast.Attribute) and node.attr == "indices"):
        return _is_column_pick(reading, scope, node.value)
    return _is_column_pick(reading, scope, node) and isinstance(node, ast.Call) and name_of(node.func) == "argmax"


def _is_column_pick(reading: Reading, scope: Scope, node: ast.expr) -> bool:
    """Return whether a call picks one class per row and keeps the axis: ``topk(1)``, ``argmax(1, keepdim=True)``."""
    if (
        not isinstance(node, ast.Call)
        or name_of(node.func) not in ("argmax", "max", "topk")
        or not _gives_rows(reading)
    ):
        return False
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    is_function = owner is not None and scope.expression(owner) == "torch"
    scores, rest = (node.args[0], node.args[1:]) if is_function and node.args else (owner, node.args)
    if scores is None or kind(scope, scores) != "output":
        return False
    if name_of(node.func) == "topk":
        return bool(rest) and isinstance(rest[0], ast.Constant) and rest[0].value == 1
    return _keeps_axis(node)


def _is_minus_one(node: ast.expr) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant) and node.operand.value == 1


def _gives_output(scope: Scope, node: ast.expr) -> bool:
    inner = node.args[0] if isinstance(node, ast.Call) and name_of(node.func) == "sigmoid" and node.args else node
    return kind(scope, inner) == "output"


def shape_of(reading: Reading, scope: Scope, node: ast.expr) -> tuple[int, ...] | None:
    """Return the shape of a tensor that a name holds, or that a loader's data set gives it in a loop."""
    value = scope.value(node)
    name = scope.expression(node)
    bound = scope.bound(name, before=node) if name else None
    if bound is not None and bound.how == "item" and isinstance(bound.statement, ast.For):
        target, loader = bound.statement.target, scope.value(over(bound.statement.iter))
        names = [scope.expression(e) for e in target.elts] if isinstance(target, ast.Tuple) else []
        data = loader.dataset if isinstance(loader, DataLoader) else None
        if isinstance(data, TensorDataset) and name in names and len(names) == len(data.tensors):
            return tuple(data.tensors[names.index(name)].shape)
        batch = reading.batch
        is_like = isinstance(batch, list | tuple) and len(batch) == len(names) and isinstance(loader, DataLoader)
        one = batch[names.index(name)] if is_like and name in names else None
        return tuple(one.shape) if isinstance(one, Tensor) else None
    return tuple(value.shape) if isinstance(value, Tensor) else None
