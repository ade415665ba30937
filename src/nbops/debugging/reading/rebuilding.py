"""Rules about what is built inside a loop and is to be built once before it, and the other way round."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from torch import nn

from nbops.debugging.preflight.found import Found
from nbops.debugging.reading.counting import over
from nbops.debugging.reading.facts import Reading, Round
from nbops.debugging.reading.kinds import kind, of_value
from nbops.debugging.reading.noting import noted, patch, readings
from nbops.debugging.reading.scopes import Scope
from nbops.debugging.source import name_of

_EPOCHS = ("epoch", "ep", "epochs", "e")
_PASSES_ON = ("deepcopy", "compile", "DataParallel", "DistributedDataParallel", "prepare", "to", "cuda", "load", "wrap",
              "swap", "prune", "quantize")  # fmt: skip
_FOLDS = re.compile(r"Fold|ShuffleSplit|(^|_)k?folds?(_|$)|^(skf|kf|gkf|cv)\d*$")
_RESETS = re.compile(r"load_state_dict|reset|deepcopy|clone|init|^apply$|^load(_|$)|restore|rebuild")


@readings.register("model-built-in-loop")
def model_built_in_loop(reading: Reading) -> Iterator[Found]:
    """Find models that are built anew inside the loop that trains them.

    What it measures
        Whether the loop over epochs or batches, in which the backward pass stands, binds the model's name to a new
        model; a loop over folds, seeds or settings, each of which trains a model from the start, is none.
    Why it matters
        Each epoch begins from random weights: only the last one counts.
    When it is wrong
        A loop whose variable is called epoch and that runs whole trainings.
    Fix
        Build model and optimizer once, before the loop.
    References
        TrainCheck, relation EventContain.
    """
    for one in reading.rounds:
        scope = one.scope
        for loop in one.loops:
            built = [(s, call) for s, call in _built(scope, loop) if _is_used(one, s, call)]
            if not built or not _is_of_one_training(reading, one, loop):
                continue
            statement, call = built[0]
            name = scope.expression(statement.targets[0])
            known = any(b.statement.lineno < loop.lineno for b in scope.bindings.get(name, []))
            makers = _optimizers(scope, loop, name)
            gone = [statement, *makers]
            whole = [] if known else [(loop, "\n".join(scope.text(s) for s in gone))]
            yield noted(
                scope, statement, "model-rebuilt-in-loop", layer="model",
                patch=patch(scope, drop=gone, before=whole) if _are_plain(gone) else "",
                what=f"'{name}' is built anew in each round of the loop in line {scope.place(loop).line}",
                why="Each round begins from random weights, and what was learned before is lost.",
                expected="the model built before the loop", got=scope.text(call).split("\n")[0],
            )  # fmt: skip
            break


def _built(scope: Scope, loop: ast.AST) -> Iterator[tuple[ast.Assign, ast.Call]]:
    for statement in scope.statements():
        if not (isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call)):
            continue
        if not scope.inside(statement, loop) or len(statement.targets) != 1:
            continue
        call = statement.value
        while isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Call):  # Net().to(device)
            call = call.func.value
        name = scope.expression(statement.targets[0])
        is_made = kind(scope, call) == "model" or isinstance(scope.value(statement.targets[0]), nn.Module)
        reads = any(scope.expression(n) == name for n in ast.walk(statement.value) if isinstance(n, ast.expr))
        if name and is_made and not reads and name_of(call.func) not in _PASSES_ON:
            guards = [n for n in scope.around(statement) if isinstance(n, ast.If) and scope.inside(n, loop)]
            if not guards and of_value(scope.value(statement.targets[0])) in ("", "model"):
                yield statement, call


def _is_used(one: Round, statement: ast.Assign, call: ast.Call) -> bool:
    """Return whether the round calls what is built, and its building is no forward pass itself."""
    name = one.scope.expression(statement.targets[0])
    is_called = any(one.scope.expression(c.func) == name for c in one.scope.calls() if one.scope.inside(c, one.block))
    return is_called and kind(one.scope, call.func) != "model"


def _is_of_one_training(reading: Reading, one: Round, loop: ast.AST) -> bool:
    """Return whether a loop runs epochs or batches of one training, and not one training each time."""
    looks = list(one.scope.calls("watch", "preflight"))
    if any(one.scope.inside(call, loop) for call in looks):
        return False  # who looks does so in each round of it
    if loop is one.loops[0]:
        return len(one.loops) > 1 or any(call.lineno < loop.lineno for call in looks)
    inner = one.loops[one.loops.index(loop) - 1]  # type: ignore[arg-type]
    named = name_of(loop.target).lower().strip("_") if isinstance(loop, ast.For) else ""
    is_over_steps = isinstance(inner, ast.For) and name_of(inner.target).lower() in (*_EPOCHS, "step", "i", "it", "_")
    return named in _EPOCHS and not is_over_steps


def _optimizers(scope: Scope, loop: ast.AST, name: str) -> list[ast.stmt]:
    return [
        s for s in scope.statements()
        if isinstance(s, ast.Assign) and scope.inside(s, loop) and kind(scope, s.value) == "optimizer"
        and any(scope.expression(n) == name for n in ast.walk(s.value) if isinstance(n, ast.expr))
    ]  # fmt: skip


def _are_plain(statements: list[ast.stmt]) -> bool:
    return all(s.lineno == s.end_lineno for s in statements)


@readings.register("model-kept-over-folds")
def model_kept_over_folds(reading: Reading) -> Iterator[Found]:
    """Find models that go on learning from one fold of a cross-validation to the next.

    What it measures
        A loop over the ``split()`` of a k-fold or shuffled splitter in which a model is trained that is made before
        the loop, and that nothing in the loop makes, copies, loads or resets.
    Why it matters
        From the second fold on the model was trained on what it is validated with: the scores are too good.
    When it is wrong
        A model that is reset by code that cannot be seen. Splits in the order of time are left out.
    Fix
        Make the model, and its optimizer, at the beginning of each fold.
    References
        Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, section 7.10.2.
    """
    for scope in reading.scopes:
        for loop in (node for node in scope.nodes if isinstance(node, ast.For)):
            if not _is_over_folds(scope, loop) or not reading.is_training_loop(scope, loop):
                continue
            inside = [call for call in scope.calls() if scope.inside(call, loop)]
            if any(_RESETS.search(name_of(call.func)) for call in inside):
                continue
            name = next((n for call in inside for n in _trained_by(reading, scope, call)
                         if _is_from_outside(scope, loop, n)), "")  # fmt: skip
            if not name:
                continue
            yield noted(
                scope, loop, "model-kept-over-folds", layer="model",
                what=f"'{name}' is made before the loop over the folds, and goes on learning in each of them",
                why="From the second fold on it was trained on what it is validated with.",
                expected="a new model in each fold", got=f"'{name}' of before the loop",
            )  # fmt: skip
            return


def _is_over_folds(scope: Scope, loop: ast.For) -> bool:
    """Return whether a loop runs over the splits of a splitter that takes each sample for validation once."""
    splits: ast.AST = over(loop.iter)
    if isinstance(splits, ast.Name) and (bound := scope.bound(splits.id, before=loop)) is not None:
        splits = over(bound.value)
    if not (isinstance(splits, ast.Call) and isinstance(splits.func, ast.Attribute) and splits.func.attr == "split"):
        return False
    owner = splits.func.value
    value = type(scope.value(owner)).__name__
    names = [name_of(owner.func) if isinstance(owner, ast.Call) else scope.expression(owner).rpartition(".")[2], value]
    return any(_FOLDS.search(one) for one in names) and "TimeSeries" not in "".join(names)


def _trained_by(reading: Reading, scope: Scope, call: ast.Call) -> Iterator[str]:
    """Iterate over the names of models that a call hands to an optimizer, or to a function that trains."""
    if name_of(call.func) == "parameters" and isinstance(call.func, ast.Attribute):
        if isinstance(scope.above.get(call), ast.Call) and kind(scope, scope.above[call]) == "optimizer":
            yield scope.expression(call.func.value)
    elif reading.trains(scope, call):
        for argument in call.args:
            if isinstance(argument, ast.Name) and kind(scope, argument) == "model":
                yield argument.id


def _is_from_outside(scope: Scope, loop: ast.For, name: str) -> bool:
    """Return whether a name is bound before a loop, perhaps in an earlier cell, and nowhere in it."""
    known = scope.bindings.get(name, []) if name else []
    is_known = bool(known) or (bool(name) and isinstance(scope.world.get(name), nn.Module))
    return is_known and not any(scope.inside(one.statement, loop) for one in known)
