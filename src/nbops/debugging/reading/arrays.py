"""Rules about the data as they lie in the calling code: whole numbers, bytes, weights of classes, kinds of targets."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from nbops.debugging.preflight.found import Found
from nbops.debugging.reading.facts import Reading, few
from nbops.debugging.reading.kinds import kind
from nbops.debugging.reading.noting import noted, patch, readings
from nbops.debugging.reading.scopes import Scope
from nbops.debugging.source import name_of

_MARKS = (-9999.0, -999.0, -99.0, 9999.0, 99999.0, -99999.0, 999.0)
_SQUARED = ("mse_loss", "MSELoss", "l1_loss", "L1Loss", "smooth_l1_loss", "SmoothL1Loss", "huber_loss", "HuberLoss")
_CLASSES = (3, 1000)
_EVEN = 0.05  # between the weights of classes


@readings.register("divided-without-a-rest")
def divided_without_a_rest(reading: Reading) -> Iterator[Found]:
    """Find whole numbers of an input that are divided by ``//`` where a scaling is meant.

    What it measures
        ``x // 255`` (128, 127, 100, 256) that is turned into floating numbers.
    Why it matters
        Nearly everything becomes 0: the images are black.
    When it is wrong
        A coarsening in steps that is meant.
    Fix
        ``x / 255``.
    References
        ``//`` rounds down, in Python as in torch.
    """
    for scope in reading.scopes:
        for node in scope.nodes:
            if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv)):
                continue
            by = scope.value(node.right)
            if by not in (255, 256, 127, 128, 255.0) or not _is_turned_to_floats(scope, node):
                continue
            if not isinstance(scope.value(node.left), Tensor) and type(scope.value(node.left)).__module__ != "numpy":
                continue
            yield noted(
                scope, node, "inputs-collapsed", layer="batch", confidence=0.96,
                patch=patch(scope, swap=[(node, f"{scope.text(node.left)} / {scope.text(node.right)}")]),
                what=f"{scope.text(node)} rounds down, so nearly every value becomes 0",
                why="What is left holds only the largest values.", fix="Divide with /.",
                expected=f"{scope.text(node.left)} / {scope.text(node.right)}", got=scope.text(node),
            )  # fmt: skip


def _is_turned_to_floats(scope: Scope, node: ast.AST) -> bool:
    floats = ("float", "to", "astype", "float32", "tensor", "as_tensor", "FloatTensor", "from_numpy")
    around = [n for n in scope.around(node) if not isinstance(n, ast.stmt)]
    return any(isinstance(n, ast.Call) and name_of(n.func) in floats for n in around) and not any(
        isinstance(n, ast.Subscript) for n in around)  # fmt: skip


@readings.register("bytes-that-wrap")
def bytes_that_wrap(reading: Reading) -> Iterator[Found]:
    """Find arithmetic of bytes that goes below 0 or above 255.

    What it measures
        A difference from, a sum with or a product of a uint8 tensor with a number, before it is converted, that leaves
        the range for values which the tensor holds.
    Why it matters
        Bytes wrap: black becomes white, without a word.
    When it is wrong
        Arithmetic modulo 256 that is meant.
    Fix
        ``x.float() - 60``.
    References
        torch's notes on type promotion: a tensor and a number keep the tensor's type.
    """
    for scope in reading.scopes:
        for node in scope.nodes:
            if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub | ast.Add | ast.Mult)):
                continue
            array, by = scope.value(node.left), scope.value(node.right)
            if isinstance(node.left, ast.Call | ast.Subscript):
                continue
            by = scope.number(node.right) if not isinstance(by, int | float) else by
            if (
                not isinstance(array, Tensor)
                or array.dtype != torch.uint8
                or not isinstance(by, int)
                or not array.numel()
            ):
                continue
            low, high = int(few(array).min()), int(few(array).max())
            ends = {ast.Sub: (low - by, high - by), ast.Add: (low + by, high + by), ast.Mult: (low * by, high * by)}
            least, most = ends[type(node.op)]
            if least >= 0 and most <= 255:
                continue
            name, rest = scope.text(node.left), scope.text(node)[len(scope.text(node.left)) :]
            yield noted(
                scope, node, "inputs-corrupted", layer="batch", confidence=0.96,
                patch=patch(scope, swap=[(node, f"{name}.float(){rest}")]),
                what=f"{scope.text(node)} wraps: '{name}' is bytes, from {low} to {high}",
                why=f"Bytes cannot hold {least} to {most}: they begin again at the other end.",
                fix="Convert first: x.float().", expected=f"{name}.float(){rest}", got=scope.text(node),
            )  # fmt: skip


@readings.register("mark-for-missing-values")
def mark_for_missing_values(reading: Reading) -> Iterator[Found]:
    """Find inputs with a number that marks missing values, such as -9999.

    What it measures
        The tensors of the calling code that the model's inputs are taken from, and the batch: a share of 0.01 to 50 %
        of values that equal one of the usual marks, while the others are at least 20 times smaller.
    Why it matters
        One such value outweighs all others of its row.
    When it is wrong
        Data in which -9999 is a measurement.
    Fix
        Replace them by the column's mean, and add a column that says so.
    References
        The table of sentinels in the documentation of pandas.read_csv.
    """
    for scope in reading.scopes:
        for name, value in scope.variables.items():
            if (
                not isinstance(value, Tensor)
                or not value.is_floating_point()
                or value.ndim < 2
                or name not in scope.bindings
            ):
                continue
            found = _marked(value)
            if found is None:
                continue
            mark, share = found
            bound = scope.bound(name)
            node = bound.statement if bound is not None else scope.node
            written = next((n for n in ast.walk(node) if isinstance(n, ast.UnaryOp | ast.Constant)
                            and scope.number(n) == mark), None)  # fmt: skip
            yield noted(
                scope, node, "inputs-not-scaled", "inputs-corrupted", layer="batch", confidence=0.96,
                patch=patch(scope, swap=[(written, "0.0")]) if written is not None else "",
                what=f"{share:.1%} of '{name}' is {mark:g}, which marks missing values",
                why="One such value outweighs all others of its row.",
                fix="Replace it by the column's mean, or 0 after standardising.", expected="no marks", got=f"{mark:g}",
            )  # fmt: skip
            return


def _marked(value: Tensor) -> tuple[float, float] | None:
    flat = value.detach().flatten()
    if flat.numel() > 2_000_000 or flat.device.type != "cpu" or not flat.numel():
        return None
    least, most = float(flat.min()), float(flat.max())
    for mark in (least, most):
        if mark in _MARKS:
            others = flat[flat != mark]
            share = 1 - len(others) / len(flat)
            if 1e-4 < share < 0.5 and float(others.abs().max()) < abs(mark) / 20:
                return mark, share
    return None


@readings.register("class-weights-upside-down")
def class_weights_upside_down(reading: Reading) -> Iterator[Found]:
    """Find weights of classes that are the larger, the more frequent the class is.

    What it measures
        The weights of a cross-entropy, written as counts of the labels divided by their sum (and nowhere inverted), or
        held by a loss of the calling code whose weights rise with the counts of the labels there.
    Why it matters
        The rare class becomes rarer still.
    When it is wrong
        Costs of errors that are known, and go with the counts by chance: weights of whole numbers are left alone.
    Fix
        ``weight = counts.sum() / (len(counts) * counts)``.
    References
        ``compute_class_weight("balanced")`` of scikit-learn.
    """
    for scope in reading.scopes:
        for keyword in [k for c in scope.calls() for k in c.keywords if k.arg in ("weight", "pos_weight")]:
            made = _written(scope, keyword.value)
            if made is None or not isinstance(made.op, ast.Div) or not _is_counts(scope, made.left):
                continue
            value = scope.value(keyword.value)
            is_even = isinstance(value, Tensor) and value.numel() > 1 and float(value.max() - value.min()) < _EVEN
            if is_even or _is_counts(scope, made.right):
                continue
            text = scope.text(made.left)
            yield noted(
                scope, scope.statement(made), "class-weights-wrong", layer="loss", confidence=0.96,
                patch=patch(scope, swap=[(made, f"{text}.sum() / ({text} * len({text}))")]),
                what="the weights of the classes rise with their counts", why="The rare class counts less still.",
                fix="Weigh each class by the inverse of its count.",
                expected=f"{text}.sum() / (len({text}) * {text})", got=scope.text(made),
            )  # fmt: skip


def _written(scope: Scope, node: ast.expr) -> ast.BinOp | None:
    """Return the division that weights are written as, there or where their name is bound."""
    bound = scope.bound(node.id, before=node) if isinstance(node, ast.Name) else None
    value = bound.value if bound is not None and bound.how == "assign" else node
    return value if isinstance(value, ast.BinOp) else None


def _is_counts(scope: Scope, node: ast.expr, depth: int = 4) -> bool:
    """Return whether an expression is the counts of labels, and not one number made of them (their sum)."""
    if isinstance(node, ast.Name) and depth:
        bound = scope.bound(node.id, before=node)
        return bound is not None and bound.how == "assign" and _is_counts(scope, bound.value, depth - 1)
    if isinstance(node, ast.Call):
        called = name_of(node.func)
        if called in ("bincount", "value_counts"):
            return True
        if called in ("float", "double", "to", "tensor", "as_tensor", "FloatTensor", "sqrt", "clamp", "type"):
            owner = node.func.value if isinstance(node.func, ast.Attribute) else None
            is_method = owner is not None and scope.expression(owner) not in ("torch", "np")
            inner = owner if is_method else next(iter(node.args), None)
            return inner is not None and _is_counts(scope, inner, depth - 1)
    return False


# ---- kinds of targets ------------------------------------------------------------------------------------------------


@readings.register("classes-as-amounts")
def classes_as_amounts(reading: Reading) -> Iterator[Found]:
    """Find numbers of classes that are learned as amounts, by a squared error.

    What it measures
        A squared or absolute error between one number per sample and labels that are converted to floating numbers
        there, where the labels are whole numbers from 0 to 2 or more in the batch or in the calling code, each of them
        occurring.
    Why it matters
        Class 3 lies no nearer to class 4 than to class 9, but the loss says so.
    When it is wrong
        Counts, ages, ratings: labels of which zeros and low numbers are the commonest, or which are ordered; names that
        say so are left alone.
    Fix
        One output per class, and ``nn.CrossEntropyLoss``.
    References
        The documentation of CrossEntropyLoss.
    """
    for one in reading.rounds:
        scope = one.scope
        for call in [c for c in scope.calls() if scope.inside(c, one.block) and len(c.args) > 1]:
            module = scope.value(call.func)
            if name_of(call.func) not in _SQUARED and type(module).__name__ not in _SQUARED:
                continue
            target = _converted(call.args[1])
            labels = _labels(reading, scope, target) if target is not None else None
            if target is None or labels is None or not _are_classes(labels) or _is_an_amount(scope, target):
                continue
            if kind(scope, call.args[0]) not in ("output", "") or not _gives_one(reading):
                continue
            classes = int(labels.max()) + 1
            yield noted(
                scope, call, "wrong-loss-for-task", layer="loss", confidence=0.88, status="warning",
                what=f"labels of {classes} classes are learned as amounts by {name_of(call.func)}",
                why="The loss takes class 3 for nearer to class 4 than to class 9.",
                fix=f"Give the model {classes} outputs, and use nn.CrossEntropyLoss.",
                expected="cross-entropy over classes", got=scope.text(call)[:80],
            )  # fmt: skip
            return


def _converted(node: ast.expr) -> ast.expr | None:
    """Return what ``.float()`` is called on."""
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in ("float", "double") or (node.func.attr in ("to", "type") and "float" in ast.unparse(node)):
            return node.func.value
        node = node.func.value
    return None


def _labels(reading: Reading, scope: Scope, target: ast.expr) -> Tensor | None:
    """Return the labels of the batch, or those that the code takes rows of: ``y`` of ``y[rows].float()``."""
    batch = reading.batch
    last = batch[-1] if isinstance(batch, list | tuple) and len(batch) > 1 else None
    if batch is None and isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
        known = scope.variables.get(target.value.id)
        last = known if isinstance(known, Tensor) and known.ndim == 1 else None
    is_whole = isinstance(last, Tensor) and last.dtype in (torch.int64, torch.int32, torch.uint8)
    return last.detach().flatten().cpu() if is_whole and isinstance(last, Tensor) and last.numel() >= 16 else None


def _are_classes(labels: Tensor) -> bool:
    """Return whether whole numbers look like classes: from 0, each occurs, and none of the ends is rare."""
    least, most = int(labels.min()), int(labels.max())
    if least != 0 or not _CLASSES[0] <= most + 1 <= min(_CLASSES[1], len(labels) // 2):
        return False
    counts = torch.bincount(labels.long()).float()
    mean = float(counts.mean())
    return bool((counts > 0).float().mean() > 0.9) and float(counts.max()) < 2.5 * mean < 10 * float(counts[-1])


def _is_an_amount(scope: Scope, target: ast.expr) -> bool:
    text = scope.text(target).lower()
    return any(word in text for word in ("age", "count", "rating", "star", "price", "score", "num", "amount", "year"))


def _gives_one(reading: Reading) -> bool:
    layers = [m for m in reading.model.modules() if isinstance(m, nn.Linear)] if reading.model is not None else []
    return bool(layers) and layers[-1].out_features == 1


@readings.register("softmax-over-independent-labels")
def softmax_over_independent_labels(reading: Reading) -> Iterator[Found]:
    """Find labels that may be true together, learned as if exactly one were.

    What it measures
        A cross-entropy whose targets, in the batch, are rows of zeros and ones that do not sum to one.
    Why it matters
        The softmax lets the labels of a sample compete, although all may hold.
    When it is wrong
        Not known; rows of probabilities sum to one.
    Fix
        ``nn.BCEWithLogitsLoss``.
    References
        The documentation of BCEWithLogitsLoss on tasks with several labels.
    """
    batch = reading.batch
    target = batch[-1] if isinstance(batch, list | tuple) and len(batch) > 1 else None
    if not isinstance(target, Tensor) or target.ndim != 2 or target.shape[1] < 2 or not len(target):
        return
    values = target.detach().float().cpu()
    sums = values.sum(1)
    if not bool(((values == 0) | (values == 1)).all()) or float((sums != 1).float().mean()) < 0.1:
        return
    for one in reading.rounds:
        scope = one.scope
        for call in [c for c in scope.calls() if scope.inside(c, one.block) and len(c.args) > 1]:
            module = scope.value(call.func)
            is_function = name_of(call.func) == "cross_entropy"
            if not is_function and not isinstance(module, nn.CrossEntropyLoss):
                continue
            text = scope.text(call.func)
            swap = (
                [(call.func, text.replace("cross_entropy", "binary_cross_entropy_with_logits"))] if is_function else []
            )
            made = None if is_function else scope.bound(scope.expression(call.func))
            if made is not None and isinstance(made.value, ast.Call):
                swap = [(made.value.func, scope.text(made.value.func).replace("CrossEntropyLoss", "BCEWithLogitsLoss"))]
            yield noted(
                scope, call, "wrong-loss-for-task", layer="loss", confidence=0.95, patch=patch(scope, swap=swap),
                what=f"the targets are rows with {float(sums.mean()):.1f} ones each, under a cross-entropy",
                why="A softmax lets labels compete that may all hold.", fix="Use nn.BCEWithLogitsLoss.",
                expected="nn.BCEWithLogitsLoss", got=text,
            )  # fmt: skip
            return
