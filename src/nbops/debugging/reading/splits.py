"""Rules about data before the loop: splits that are made again, rows on both sides, numbers of the test set."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import torch
from torch import Tensor

from nbops.debugging.preflight.found import Found
from nbops.debugging.reading.counting import names_in
from nbops.debugging.reading.facts import Reading
from nbops.debugging.reading.kinds import kind
from nbops.debugging.reading.noting import noted, patch, readings
from nbops.debugging.reading.scopes import LOOPS, Scope
from nbops.debugging.source import name_of

_TEST = re.compile(r"(^|_)(x|y)?(test|val|valid|validation|dev|holdout|eval|te|va)(_|\d|$)|^(xt|xv|tx|vx)$", re.I)
_TRAIN = re.compile(r"(^|_)(x|y)?(train|training|tr)(_|\d|$)", re.I)
_SPLITS = ("random_split", "train_test_split")
_LEARNS = re.compile(r"(Scaler|Imputer|PCA|SVD|SelectKBest|SelectPercentile|SelectFromModel|RFE|QuantileTransformer"
                     r"|PowerTransformer|Normalizer)$")  # fmt: skip
_MULTIPLIES = re.compile(r"^(fit_resample|repeat_interleave|resample)$")
_LEAST_ROWS, _MOST_VALUES = 20, 4_000_000
_SHARE = 0.05  # of the test rows
_COLUMNS = 4


@readings.register("split-made-anew")
def split_made_anew(reading: Reading) -> Iterator[Found]:
    """Find splits into training and test data that are made again at each epoch.

    What it measures
        A ``random_split``, a ``train_test_split`` or the two ends of a random order, inside the loop over epochs of one
        training, without a fixed seed.
    Why it matters
        After some epochs every sample has been trained on, and the test figure says nothing.
    When it is wrong
        Loops over folds or repetitions, each of which builds its own model: those are left alone.
    Fix
        Split once, before the loop.
    References
        GRIST and the studies of leakage in notebooks call it overlap leakage.
    """
    for one in reading.rounds:
        scope = one.scope
        for loop in one.loops[1:]:
            if _builds_a_model(scope, loop):
                break
            split = next(iter(_splits(scope, loop)), None)
            if split is None or next(iter(scope.loops(split[0][0]))) is not loop:
                continue
            whole, is_named = split
            plain = all(s.lineno == s.end_lineno for s in whole)
            yield noted(
                scope, whole[0], "train-test-leak", layer="batch", confidence=0.95 if is_named else 0.4,
                status="error" if is_named else "hint",
                patch=patch(scope, drop=whole, before=[(loop,
                "\n".join(scope.text(s) for s in whole))]) if plain else "",
                what="training and test data are split anew in each round of the loop",
                why="In the end every sample has been trained on, so the test figure is that of known samples.",
                fix="Split once, before the loop.", expected="a split before the loop", got=scope.text(whole[0]),
            )  # fmt: skip
            break


def _builds_a_model(scope: Scope, loop: ast.AST) -> bool:
    return any(
        isinstance(s, ast.Assign) and isinstance(s.value, ast.Call) and scope.inside(s, loop)
        and kind(scope, s.value) in ("model", "optimizer")
        for s in scope.statements()
    )  # fmt: skip


def _splits(scope: Scope, loop: ast.AST) -> Iterator[tuple[list[ast.stmt], bool]]:
    inside = [s for s in scope.statements() if isinstance(s, ast.Assign) and scope.inside(s, loop)]
    for statement in inside:
        value = statement.value
        if isinstance(value, ast.Call) and name_of(value.func) in _SPLITS:
            fixed = {k.arg for k in value.keywords} & {"random_state", "generator"}
            if not fixed:
                yield [statement], _names_a_test(scope, statement)
        order = scope.expression(statement.targets[0])
        if order and isinstance(value, ast.Call) and name_of(value.func) in ("randperm", "permutation"):
            ends = [s for s in inside if s is not statement and _takes_both_ends(scope, s, order)]
            heads = [s for s in inside if s is not statement and _ends(scope, s.value, order)]
            if ends:
                yield [statement, ends[0]], _names_a_test(scope, ends[0])
            elif {e for s in heads for e in _ends(scope, s.value, order)} >= {"head", "tail"}:
                yield [statement, *heads], any(_names_a_test(scope, s) for s in heads)


def _names_a_test(scope: Scope, statement: ast.Assign) -> bool:
    return any(
        _TEST.search(scope.expression(n)) for t in statement.targets for n in ast.walk(t) if isinstance(n, ast.Name)
    )


def _ends(scope: Scope, value: ast.AST, name: str) -> set[str]:
    """Return which ends of a sequence an expression takes: ``order[:200]`` its head, ``order[200:]`` its tail."""
    found = set()
    for node in ast.walk(value):
        if (
            isinstance(node, ast.Subscript)
            and isinstance(node.slice, ast.Slice)
            and scope.expression(node.value) == name
        ):
            if node.slice.lower is None and node.slice.upper is not None:
                found.add("head")
            elif node.slice.upper is None and node.slice.lower is not None:
                found.add("tail")
    return found


def _takes_both_ends(scope: Scope, statement: ast.Assign, name: str) -> bool:
    return _ends(scope, statement.value, name) >= {"head", "tail"}


@readings.register("rows-on-both-sides")
def rows_on_both_sides(reading: Reading) -> Iterator[Found]:
    """Find rows that are in the training data and in the test data.

    What it measures
        Tensors and arrays of the calling code whose names say training and test, and whose rows have the same width:
        the share of test rows that are a training row too, from 5 %; and two ``Subset`` of one data set with indices in
        common.
    Why it matters
        The test figure is that of rows that were learned by heart.
    When it is wrong
        Rows of few or whole numbers may be equal by chance; they are not looked at.
    Fix
        Split before anything is multiplied.
    References
        Kapoor and Narayanan 2023, on leakage.
    """
    for scope in reading.scopes:
        if not scope.variables:
            continue
        sides = _sides(scope)
        for test_name, test in sides["test"]:
            for train_name, train in sides["train"]:
                if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype or train is test:
                    continue
                share = _shared(train, test)
                if share < _SHARE:
                    continue
                bound = scope.bound(test_name)
                node = bound.statement if bound is not None else scope.node
                yield noted(
                    scope, node, "train-test-leak", layer="batch", confidence=0.96,
                    what=f"{share:.0%} of the rows of '{test_name}' are rows of '{train_name}' too",
                    why="Rows were multiplied or drawn before the split, so the test figure is that of known rows.",
                    fix="Split first; multiply or balance the training rows only.", expected="no row on both sides",
                    got=f"{share:.0%}",
                )  # fmt: skip
                return


def _sides(scope: Scope) -> dict[str, list[tuple[str, Tensor]]]:
    found: dict[str, list[tuple[str, Tensor]]] = {"train": [], "test": []}
    for name in scope.bindings:
        side = "test" if _TEST.search(name) else "train" if _TRAIN.search(name) else ""
        value = scope.variables.get(name) if side else None
        if type(value).__module__ == "numpy" and getattr(value, "dtype", None) is not None:
            value = _as_tensor(value)
        if isinstance(value, Tensor) and value.ndim > 1 and len(value) >= _LEAST_ROWS and _is_telling(value):
            found[side].append((name, value))
    return found


def _as_tensor(value: object) -> Tensor | None:
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError):  # strings and objects
        return None


def _is_telling(value: Tensor) -> bool:
    """Return whether rows are long and various enough that two equal ones are no chance."""
    width = value[0].numel()
    if not value.is_floating_point() or width < _COLUMNS or value.numel() > _MOST_VALUES or value.device.type != "cpu":
        return False
    few = value[:64].detach().flatten()
    return bool((few != few.round()).float().mean() > 0.2) and len(set(few.tolist())) > 16


def _shared(train: Tensor, test: Tensor) -> float:
    known = {row.tobytes() for row in train.detach().flatten(1).numpy()}
    rows = test.detach().flatten(1)[:500].numpy()
    return sum(row.tobytes() in known for row in rows) / len(rows)


@readings.register("subsets-overlap")
def subsets_overlap(reading: Reading) -> Iterator[Found]:
    """Find two subsets of one data set that hold the same indices, one of them named as a test set.

    What it measures
        The indices of ``Subset`` objects, also those inside of loaders, of the calling code.
    Why it matters
        The test figure is that of samples that were trained on.
    When it is wrong
        Subsets for plots, with names of a test set.
    Fix
        Take the indices of both from one random order.
    References
        torch's ``random_split`` gives subsets without common indices.
    """
    for scope in reading.scopes:
        held = {n: _subset(v) for n, v in scope.variables.items() if _TEST.search(n) or _TRAIN.search(n)}
        tests = [(n, s) for n, s in held.items() if s is not None and _TEST.search(n)]
        trains = [(n, s) for n, s in held.items() if s is not None and not _TEST.search(n)]
        for test_name, test in tests:
            for train_name, train in trains:
                common = (
                    set(map(int, test.indices)) & set(map(int, train.indices))
                    if test.dataset is train.dataset
                    else set()
                )
                if len(common) <= _SHARE * len(test.indices):
                    continue
                bound = scope.bound(test_name)
                yield noted(
                    scope, bound.statement if bound is not None else scope.node, "train-test-leak", layer="batch",
                    what=f"{len(common)} of the {len(test.indices)} samples of '{test_name}' are in '{train_name}' too",
                    why="Both are subsets of one data set with indices in common.", confidence=0.96,
                    fix="Take the indices of both from one random order.", expected="no common index",
                    got=f"{len(common)} common indices",
                )  # fmt: skip
                return


def _subset(value: object) -> torch.utils.data.Subset[object] | None:
    inner = value.dataset if isinstance(value, torch.utils.data.DataLoader) else value
    return inner if isinstance(inner, torch.utils.data.Subset) and len(inner.indices) < 1_000_000 else None


@readings.register("fitted-before-the-split")
def fitted_before_the_split(reading: Reading) -> Iterator[Found]:
    """Find scalers, imputers and selections of columns that are fitted to all rows before the split.

    What it measures
        A ``fit_transform`` or ``fit_resample`` whose result is split by ``train_test_split`` or ``random_split``
        further down in the same code.
    Why it matters
        Numbers of the test rows reach the training: with a selection of columns or with copied rows, the test figure is
        far too good.
    When it is wrong
        A plain scaling of many rows, which changes little.
    Fix
        Split first, ``fit_transform`` the training rows, ``transform`` the others.
    References
        The chapter on common pitfalls of scikit-learn's user guide.
    """
    for scope in reading.scopes:
        for call in scope.calls("fit_transform", "fit_resample"):
            statement = scope.statement(call)
            if not isinstance(statement, ast.Assign) or any(isinstance(n, LOOPS) for n in scope.around(statement)):
                continue
            is_copying = name_of(call.func) == "fit_resample"
            owner = call.func.value if isinstance(call.func, ast.Attribute) else call.func
            if not is_copying and not _LEARNS.search(_class_of(scope, owner)):
                continue
            names = {scope.expression(n) for t in statement.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
            later = [c for c in scope.calls(*_SPLITS) if c.lineno > call.lineno and _flows(scope, names, statement, c)]
            if not later:
                continue
            yield noted(
                scope, statement, "train-test-leak", layer="batch", confidence=0.9 if is_copying else 0.8,
                status="error" if is_copying else "warning",
                what=f"{scope.text(call.func)} sees all rows, and the split comes after it, in line "
                f"{scope.place(later[0]).line}",
                why="Copies of test rows are trained on." if is_copying else "Numbers of test rows are in the inputs.",
                fix="Split first; fit to the training rows only.", expected="split, then fit", got="fit, then split",
            )  # fmt: skip


def _class_of(scope: Scope, node: ast.expr) -> str:
    value = scope.value(node)
    if type(value).__module__.partition(".")[0] in ("sklearn", "imblearn"):
        return type(value).__name__
    if isinstance(node, ast.Call):
        return name_of(node.func)
    bound = scope.bound(scope.expression(node), before=node)
    return name_of(bound.value.func) if bound is not None and isinstance(bound.value, ast.Call) else ""


def _flows(scope: Scope, names: set[str], made: ast.stmt, call: ast.Call) -> bool:
    """Return whether what a statement bound reaches a later call, through the statements between."""
    reached = set(names)
    for statement in scope.statements():
        if not isinstance(statement, ast.Assign) or not made.lineno < statement.lineno < call.lineno:
            continue
        if reached & names_in(scope, statement.value):
            reached |= {scope.expression(n) for t in statement.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    return bool(reached & names_in(scope, call))
