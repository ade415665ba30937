"""Rules about what a figure is computed on: the last batch alone, the loader that trains, all epochs so far."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

from nbops.debugging.preflight.found import Found
from nbops.debugging.reading.counting import names_in, over, times
from nbops.debugging.reading.facts import Reading
from nbops.debugging.reading.kinds import kind
from nbops.debugging.reading.noting import noted, patch, readings
from nbops.debugging.reading.scopes import Scope
from nbops.debugging.source import name_of

_HELD_OUT = re.compile(r"(^|[_\W])(test|val|valid|validation|dev|holdout)([_\W]|$)", re.I)


@readings.register("figure-of-last-batch")
def figure_of_last_batch(reading: Reading) -> Iterator[Found]:
    """Find figures of an evaluation that are those of its last batch.

    What it measures
        A loop without a backward pass that binds a figure (a share of right answers, a loss) to a name, does nothing
        with it inside the loop, and is followed by a use of that name.
    Why it matters
        Each batch overwrites the figure of the one before: what is shown is that of the last, often a small one.
    When it is wrong
        Loops that run once.
    Fix
        Add up right answers and samples inside the loop, and divide after it.
    References
        torch's tutorials sum over the batches of the test loader.
    """
    for scope in reading.scopes:
        for loop in [n for n in scope.nodes if isinstance(n, ast.For)]:
            if reading.is_training_loop(scope, loop) or times(scope, loop) == 1 or not _evaluates(scope, loop):
                continue
            for statement in [s for s in scope.statements() if isinstance(s, ast.Assign) and scope.inside(s, loop)]:
                name = scope.expression(statement.targets[0])
                if (
                    not name
                    or next(iter(scope.loops(statement)), None) is not loop
                    or not _is_figure(scope, statement.value)
                ):
                    continue
                uses = [n.lineno for n in scope.nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)
                        and n.id == name]  # fmt: skip
                end = loop.end_lineno or 0
                if any(loop.lineno <= at <= end for at in uses) or not any(at > end for at in uses):
                    continue
                if any(isinstance(n, ast.If | ast.Break) for n in [*scope.around(statement), *loop.body]):
                    continue
                yield noted(
                    scope, statement, "metric-on-wrong-data", "metric-not-reset", layer="metric", confidence=0.96,
                    patch=_summed(scope, loop, statement, name),
                    what=f"'{name}' is bound anew for each batch, and read after the loop",
                    why="What is shown is the figure of the last batch, not of the whole evaluation.",
                    fix="Collect the batches' figures in the loop, and average them after it.",
                    expected="a sum over the batches", got=scope.text(statement),
                )  # fmt: skip


def _evaluates(scope: Scope, loop: ast.For) -> bool:
    return any(kind(scope, c) in ("output", "loss") for c in scope.calls() if scope.inside(c, loop))


def _is_figure(scope: Scope, value: ast.expr) -> bool:
    if kind(scope, value) == "loss":
        return True
    has_equal = any(isinstance(n, ast.Compare) and isinstance(n.ops[0], ast.Eq) for n in ast.walk(value))
    called = {name_of(n.func) for n in ast.walk(value) if isinstance(n, ast.Call)}
    if has_equal and called & {"mean", "sum", "item"}:
        return True
    if kind(scope, value) == "number":
        return any(kind(scope, n) == "loss" for n in ast.walk(value) if isinstance(n, ast.expr))
    return any(re.search(r"^(accuracy|f1|precision|recall|roc_auc)\w*score$|^accuracy$", one) for one in called)


def _summed(scope: Scope, loop: ast.For, statement: ast.Assign, name: str) -> str:
    if statement.lineno != statement.end_lineno:
        return ""
    return patch(
        scope, before=[(loop, f"{name}s = []")], swap=[(statement, f"{name}s.append({scope.text(statement.value)})")],
        after=[(loop, f"{name} = sum({name}s) / len({name}s)")],
    )  # fmt: skip


@readings.register("validated-on-training-data")
def validated_on_training_data(reading: Reading) -> Iterator[Found]:
    """Find figures that are named after the validation, and computed on the loader that trains.

    What it measures
        Calls with, and loops over, the loader of the training loop, whose result is bound to a name of a validation or
        a test, or logged under one, while there is another loader; and loaders named so that give the samples of the
        same data set as the one that trains, neither with a sampler of its own.
    Why it matters
        The model is judged by what it has learned by heart, and overfitting is not seen.
    When it is wrong
        Names that say something else here.
    Fix
        Use the validation loader.
    References
        Studies of leakage call it evaluation on training data.
    """
    for scope in reading.scopes:
        trained = {name for s in reading.scopes for name in _trained_on(reading, s)}
        loaders = {n for n, v in scope.variables.items() if isinstance(v, DataLoader)}
        spare = loaders - trained
        yield from _same_set(scope, trained & loaders, spare)
        if not trained or not spare:
            continue
        right = next((n for n in sorted(spare) if _HELD_OUT.search(n)), sorted(spare)[0])
        for loop, source, name in _loops_over(reading, scope, trained):
            yield _on_training_data(scope, loop, source, name, right)
        for statement in [s for s in scope.statements() if isinstance(s, ast.Assign) and isinstance(s.value, ast.Call)]:
            given = {scope.expression(a) for a in [*statement.value.args, *(k.value for k in statement.value.keywords)]}  # type: ignore[attr-defined]
            used, name = given & trained, scope.expression(statement.targets[0])
            labels = [name, *_labels(scope, name)] if used and name else []
            if not any(_HELD_OUT.search(one) for one in labels) or kind(scope, statement.value) == "loader":
                continue
            if not any(isinstance(a, ast.Name) and a.id in used for a in statement.value.args):  # type: ignore[attr-defined]
                continue
            wrong = next(a for a in statement.value.args if isinstance(a, ast.Name) and a.id in used)  # type: ignore[attr-defined]
            yield _on_training_data(scope, statement, wrong, name, right)


def _same_set(scope: Scope, trained: set[str], spare: set[str]) -> Iterator[Found]:
    """Find loaders that are called validation loaders, and give what the training is given."""
    for name in sorted(one for one in spare if _HELD_OUT.search(one)):
        same = [one for one in sorted(trained) if _gives_same(scope.variables[name], scope.variables[one])]
        bound = scope.bound(name)
        used = [n for n in scope.nodes if isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Load)]
        if same and bound is not None and used:
            yield noted(
                scope, bound.statement, "metric-on-wrong-data", layer="metric", confidence=0.96,
                what=f"'{name}' and '{same[0]}' give the samples of the same data set",
                why="The model is judged by what it has learned by heart.", fix="Give it the validation set.",
                expected="a data set of other samples", got=scope.text(bound.value).split("\n")[0],
            )  # fmt: skip


def _gives_same(one: Any, other: Any) -> bool:
    """Return whether two loaders give all samples of one data set: no sampler chooses among them."""
    kinds = (SequentialSampler, RandomSampler)
    return one.dataset is other.dataset and all(type(each.sampler) in kinds for each in (one, other))


def _on_training_data(scope: Scope, node: ast.stmt, wrong: ast.expr, name: str, right: str) -> Found:
    return noted(
        scope, node, "metric-on-wrong-data", layer="metric", confidence=0.96, patch=patch(scope, swap=[(wrong, right)]),
        what=f"'{name}' is called a validation figure, and is computed on '{scope.text(wrong)}', which trains",
        why="The model is judged by what it has learned by heart.", fix=f"Compute it on '{right}'.", expected=right,
        got=scope.text(wrong),
    )  # fmt: skip


def _loops_over(reading: Reading, scope: Scope, trained: set[str]) -> Iterator[tuple[ast.For, ast.expr, str]]:
    """Iterate over the loops that evaluate on a loader of the training, with the held-out figure that they add to."""
    for loop in [n for n in scope.nodes if isinstance(n, ast.For)]:
        source = over(loop.iter)
        if scope.expression(source) not in trained or reading.is_training_loop(scope, loop):
            continue
        for name, bindings in scope.bindings.items():
            adds = any(b.how == "add" and scope.inside(b.statement, loop) for b in bindings)
            if adds and _HELD_OUT.search(name):
                yield loop, source, name
                break


def _trained_on(reading: Reading, scope: Scope) -> Iterator[str]:
    """Iterate over the names, in the outermost body, of the loaders that training loops run over."""
    for one in reading.rounds:
        if one.scope is not scope:
            continue
        for loop in one.loops:
            node: Any = over(loop.iter) if isinstance(loop, ast.For | ast.AsyncFor) else None
            where = scope
            while isinstance(node, ast.Name) and node.id in where.given:
                where, node = where.given[node.id]
            if isinstance(node, ast.Name) and isinstance(where.value(node), DataLoader):
                yield node.id


def _labels(scope: Scope, name: str) -> Iterator[str]:
    """Iterate over the keywords and keys under which the value of a name is given on."""
    for node in scope.nodes:
        if isinstance(node, ast.keyword) and node.arg and names_in(scope, node.value) == {name}:
            yield node.arg
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str) and names_in(scope, value) == {name}:
                    yield key.value


# ---- sums that run on ------------------------------------------------------------------------------------------------


@readings.register("sum-never-reset")
def sum_never_reset(reading: Reading) -> Iterator[Found]:
    """Find sums of losses that are divided by the batches of one epoch, and never set to zero again.

    What it measures
        A name that each batch adds a number to (``running_loss += loss.item()``), that is divided by ``len(…)`` or by a
        constant once an epoch or every so many batches, and that nothing binds anew inside the loop over epochs.
    Why it matters
        The second epoch shows the sum of two: the figure rises while the model learns.
    When it is wrong
        Totals that are meant, and only scaled for the eye.
    Fix
        Set it to zero where the epoch begins, or after it was shown.
    References
        B09 of the collection of bugs that this project re-creates; torch's tutorial sets ``running_loss`` to zero.
    """
    for scope in reading.scopes:
        for added in [n for n in scope.nodes if isinstance(n, ast.AugAssign) and isinstance(n.op, ast.Add)]:
            name, loops = scope.expression(added.target), scope.loops(added)
            if not name or not loops or not _is_number(scope, added.value):
                continue
            if not reading.is_training_loop(scope, loops[0]):
                continue
            shown = next((n for n in scope.nodes if isinstance(n, ast.BinOp) and _is_mean(scope, n, name)), None)
            around = _repeating(scope, shown, added) if shown is not None else None
            if shown is None or around is None or _is_bound_in(scope, name, around):
                continue
            first = next((b for b in scope.bindings.get(name, []) if b.how == "assign" and isinstance(
                b.value, ast.Constant)), None)  # fmt: skip
            line = f"{name} = 0.0"
            epochs = isinstance(around, ast.For | ast.While)
            yield noted(
                scope, shown, "metric-not-reset", layer="metric",
                patch=patch(scope, before=[(around.body[0], line)], drop=[first.statement] if first else []) if epochs
                else patch(scope, after=[(around.body[-1], line)]),
                what=f"'{name}' adds up, is divided by {scope.text(shown.right)}, and is never set to zero again",
                why="The second value that it shows is the sum of two.", expected=line, got="a sum that runs on",
            )  # fmt: skip
            break


def _is_number(scope: Scope, value: ast.expr) -> bool:
    """Return whether a value is the number of a loss, alone or times the rows of the batch."""
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Mult):
        return any(kind(scope, side) in ("number", "loss") for side in (value.left, value.right))
    return kind(scope, value) in ("number", "loss")


def _is_mean(scope: Scope, node: ast.BinOp, name: str) -> bool:
    if not isinstance(node.op, ast.Div) or scope.expression(node.left) != name:
        return False
    is_length = isinstance(node.right, ast.Call) and name_of(node.right.func) == "len"
    return is_length or (isinstance(node.right, ast.Constant) and isinstance(node.right.value, int))


def _repeating(scope: Scope, shown: ast.BinOp, added: ast.AugAssign) -> ast.For | ast.While | ast.If | None:
    """Return what is gone through again and again between two values: an ``if`` of every so many, or the epochs."""
    if isinstance(shown.right, ast.Constant):
        every = [n for n in scope.around(shown) if isinstance(n, ast.If)]
        is_counted = [n for n in every if any(isinstance(m, ast.Mod) for m in ast.walk(n.test))]
        return is_counted[0] if is_counted and scope.loops(shown)[:1] == scope.loops(added)[:1] else None
    outer = [loop for loop in scope.loops(added)[1:] if isinstance(loop, ast.For | ast.While)]
    is_outside = bool(outer) and outer[0] in scope.loops(shown) and scope.loops(added)[0] not in scope.loops(shown)
    return outer[0] if is_outside else None


def _is_bound_in(scope: Scope, name: str, block: ast.AST) -> bool:
    return any(b.how != "add" and scope.inside(b.statement, block) for b in scope.bindings.get(name, []))
