"""Patches of the loss and the output: activations, shapes and types, the scale of targets, weights, signs."""

from __future__ import annotations

import ast

from nbops.debugging.aspects import TensorStats
from nbops.debugging.remedies.facts import Facts, Maker
from nbops.debugging.remedies.looking import (
    SQUARED,
    add_keyword,
    argument,
    loss_calls,
    model_name,
    nodes_on,
    parents,
    trained_loss,
    with_call,
)
from nbops.debugging.source import Code, name_of

_ACTIVATIONS = ("Softmax", "Sigmoid", "ReLU", "Tanh", "LogSoftmax")
_FUNCTIONAL = ("F", "torch", "functional")


# ---- the last activation ---------------------------------------------------------------------------------------------


def _raw_scores(code: Code, facts: Facts) -> None:
    """Take a softmax or sigmoid away from the output; where the loss of two classes has it inside, change the loss."""
    kinds = [kind for _, _, kind in loss_calls(code)]
    if "BCEWithLogitsLoss" in kinds and _ends_with(code, "Sigmoid", "sigmoid"):
        for _, call in code.calls("BCEWithLogitsLoss"):
            if not call.args and not call.keywords:
                code.replace(call, code.text(call.func).replace("BCEWithLogitsLoss", "BCELoss") + "()")
                return
    _no_activation(code, ("Softmax", "Sigmoid"), ("softmax", "sigmoid"))


def _no_last_activation(code: Code, facts: Facts) -> None:
    """Take the last activation away; targets far from unit scale are reached by a scale and a shift of the output."""
    scale = _scale_of(facts.seen_targets)
    if scale is not None:
        for name in ("sigmoid", "tanh", "relu", "softmax"):
            for statement, call in _returned(code, name):
                inner = code.text(_inside(code, call))
                code.replace(statement.value or call, f"{inner} * {scale[1]} + {scale[0]}")
                return
    _no_activation(code, _ACTIVATIONS, ("softmax", "sigmoid", "relu", "tanh"))


def _no_activation(code: Code, modules: tuple[str, ...], functions: tuple[str, ...]) -> None:
    for _, call in code.calls("Sequential"):
        last = call.args[-1] if call.args else None
        if isinstance(last, ast.Call) and name_of(last.func) in modules and not _is_inner(code, call):
            head = code.text(last.func).rpartition(".")[0]
            code.replace(last, f"{head}.Identity()" if head else "nn.Identity()")
            return
    for name in functions:
        for _, call in _returned(code, name):
            code.replace(call, code.text(_inside(code, call)))
            return
    for statement in code.statements():  # self.softmax = nn.Softmax(dim=1)
        value = statement.value if isinstance(statement, ast.Assign) else None
        if isinstance(value, ast.Call) and name_of(value.func) in modules and isinstance(statement, ast.Assign):
            target = statement.targets[0]
            is_last = any(name_of(c.func) == name_of(target) for _, c in _calls_returned(code))
            if isinstance(target, ast.Attribute) and is_last:
                head = code.text(value.func).rpartition(".")[0]
                code.replace(value, f"{head}.Identity()" if head else "nn.Identity()")
                return


def _is_inner(code: Code, call: ast.Call) -> bool:
    """Return whether a Sequential is a part of another one, or of a list: then its last layer is not the last."""
    around = parents(code).get(call)
    return isinstance(around, ast.Call | ast.List | ast.Tuple | ast.Starred)


def _ends_with(code: Code, module: str, function: str) -> bool:
    ends = [c.args[-1] for _, c in code.calls("Sequential") if c.args]
    return any(isinstance(e, ast.Call) and name_of(e.func) == module for e in ends) or bool(_returned(code, function))


def _calls_returned(code: Code) -> list[tuple[ast.Return, ast.Call]]:
    found = []
    for statement in code.statements():
        if isinstance(statement, ast.Return):
            value = statement.value
            while isinstance(value, ast.Subscript):
                value = value.value
            if isinstance(value, ast.Call):
                found.append((statement, value))
    return found


def _returned(code: Code, name: str) -> list[tuple[ast.Return, ast.Call]]:
    """Return the ``return`` statements of a ``forward`` that give an activation's result."""
    found = [(s, c) for s, c in _calls_returned(code) if name_of(c.func) == name and isinstance(c.func, ast.Attribute)]
    around = parents(code)
    return [(s, c) for s, c in found if isinstance(around.get(s), ast.FunctionDef)
            and getattr(around.get(s), "name", "") == "forward" and s.value is c]  # fmt: skip


def _inside(code: Code, call: ast.Call) -> ast.expr:
    owner = call.func.value if isinstance(call.func, ast.Attribute) else call.func
    return call.args[0] if name_of(owner) in _FUNCTIONAL and call.args else owner


def _right_axis(code: Code, facts: Facts) -> None:
    for node in nodes_on(code, facts.line):
        if isinstance(node, ast.Call) and name_of(node.func).lower() in ("softmax", "log_softmax", "logsoftmax"):
            given = argument(node, "dim", 0 if name_of(node.func)[0].isupper() else 1)
            if given is not None:
                code.replace(given, "-1")
                return


def _cross_entropy(code: Code, facts: Facts) -> None:
    for old, new in (("NLLLoss", "CrossEntropyLoss"), ("nll_loss", "cross_entropy")):
        for _, call in code.calls(old):
            code.replace(call.func, code.text(call.func).replace(old, new))
            return
    for _, call, kind in loss_calls(code):
        if kind in ("kl_div", "KLDivLoss") and "log_softmax" not in code.source:
            code.replace(call.args[0], f"torch.log_softmax({code.text(call.args[0])}, dim=-1)")
            return
    for old, new in (("BCELoss", "BCEWithLogitsLoss"), ("binary_cross_entropy", "binary_cross_entropy_with_logits")):
        for _, call in code.calls(old):
            code.replace(call.func, code.text(call.func).replace(old, new))
            return


# ---- output against target -------------------------------------------------------------------------------------------


def _same_shape(code: Code, facts: Facts) -> None:
    """Take the last axis of one away from the longer one of output and target."""
    found = trained_loss(code)
    batch = facts.view.batch
    if found is None or batch is None or batch.predictions is None or batch.targets is None:
        return
    has, wants = batch.predictions.sizes, batch.targets.sizes
    if has[-1:] == (1,) and len(has) == len(wants) + 1:
        with_call(code, found[1].args[0], ".squeeze(-1)")
    elif wants[-1:] == (1,) and len(wants) == len(has) + 1:
        with_call(code, found[1].args[1], ".squeeze(-1)")


def _positive(code: Code, facts: Facts) -> None:
    losses = [s for s in code.statements() if isinstance(s, ast.Assign) and "loss" in name_of(s.targets[0])]
    for statement in losses:
        for node in ast.walk(statement):
            is_minus = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
            if is_minus and isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant):
                code.replace(node, code.text(node.operand))
                return
    for _, call in code.calls("backward"):
        inner = call.func.value if isinstance(call.func, ast.Attribute) else None
        if isinstance(inner, ast.UnaryOp) and isinstance(inner.op, ast.USub):
            code.replace(inner, code.text(inner.operand))
            return


def _no_ignore(code: Code, facts: Facts) -> None:
    for node in ast.walk(code.tree):
        for keyword in node.keywords if isinstance(node, ast.Call) else ():
            if keyword.arg == "ignore_index":
                code.replace(keyword.value, "-100")
                return


def _mean(code: Code, facts: Facts) -> None:
    for node in ast.walk(code.tree):
        if isinstance(node, ast.keyword) and node.arg == "reduction" and code.text(node.value).strip("\"'") == "sum":
            code.replace(node.value, '"mean"')
            return
    for statement in code.statements():
        value = statement.value if isinstance(statement, ast.Assign) else None
        if not isinstance(value, ast.Call) or not isinstance(value.func, ast.Attribute) or value.args:
            continue
        is_loss = isinstance(statement, ast.Assign) and "loss" in name_of(statement.targets[0])
        if is_loss and value.func.attr == "sum" and isinstance(value.func.value, ast.Call):
            code.replace(value, f"{code.text(value.func.value)}.mean()")
            return


# ---- the scale of targets --------------------------------------------------------------------------------------------


def _scale_of(targets: TensorStats | None) -> tuple[str, str] | None:
    """Return mean and spread of targets that are far from unit scale, to three digits; None where they are not."""
    if targets is None or targets.mean is None or targets.std is None or targets.is_integer:
        return None
    if not targets.std > 0 or (abs(targets.mean) < 10 and 0.05 < targets.std < 10):
        return None
    return f"{targets.mean:.3g}", f"{targets.std:.3g}"


def _targets_in_units(code: Code, facts: Facts) -> None:
    """Let the model's output be in the targets' units, and the loss in units of their spread.

    That is what standardised targets and predictions that undo it come to, in two lines: the model learns numbers of
    unit scale, and whoever calls it gets predictions as before.
    """
    scale, found, model = _scale_of(facts.seen_targets), trained_loss(code), model_name(code, facts.model)
    optimizers = code.optimizers()
    if scale is None or found is None or len(optimizers) != 1 or not model or found[2] not in SQUARED:
        return
    mean, spread = scale
    hook = f"{model}.register_forward_hook(lambda module, inputs, output: output * {spread} + {mean})"
    code.befores.append((optimizers[0][0], hook))
    if name_of(optimizers[0][2].func) == "SGD":
        code.wrap(found[1], "", f" / {spread}**2")


# ---- classes ---------------------------------------------------------------------------------------------------------


def _weigh_classes(code: Code, facts: Facts) -> None:
    """Weigh each class by how rare it is among the labels that the loader, or the variables, hold."""
    labels = _labels(code)
    made = [(s, c) for s, c in code.calls("CrossEntropyLoss") if isinstance(s, ast.Assign)]
    if not labels or len(made) != 1:
        return
    weight = f"len({labels}) / ({labels}.unique().numel() * torch.bincount({labels}))"
    call = made[0][1]
    given = argument(call, "weight", 0)
    if given is not None:
        code.replace(given, weight)
    elif call.keywords:
        add_keyword(code, call, f"weight={weight}")
    else:
        code.replace(call, f"{code.text(call.func)}(weight={weight})")


def _labels(code: Code) -> str:
    """Return the variable of all labels: the second of a TensorDataset, or what ``y[rows]`` is taken of."""
    for _, call in code.calls("TensorDataset"):
        if len(call.args) == 2 and isinstance(call.args[1], ast.Name):
            return call.args[1].id
    found = trained_loss(code)
    target = found[1].args[1] if found is not None else None
    if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
        return target.value.id
    for node in ast.walk(code.tree):  # for xb, yb in batches(x, y)
        if isinstance(node, ast.For) and isinstance(node.target, ast.Tuple) and isinstance(node.iter, ast.Call):
            names = [a.id for a in node.iter.args if isinstance(a, ast.Name)]
            is_pair = len(names) >= 2 and len(node.target.elts) == 2 and isinstance(target, ast.Name)
            if is_pair and name_of(node.target.elts[1]) == target.id:  # type: ignore[union-attr]
                return names[1]
    return ""


def _one_output_each(code: Code, facts: Facts) -> None:
    """Not a dropout on the output: take it away."""
    for _, call in code.calls("Sequential"):
        last = call.args[-1] if call.args else None
        if isinstance(last, ast.Call) and name_of(last.func).startswith(("Dropout", "BatchNorm")):
            head = code.text(last.func).rpartition(".")[0]
            code.replace(last, f"{head}.Identity()" if head else "nn.Identity()")
            return


MAKERS: dict[str, Maker] = {
    "double-softmax": _raw_scores, "logits-to-nll": _cross_entropy, "loss-broadcast": _same_shape,
    "output-range": _no_last_activation, "loss-sign": _positive, "real-class-ignored": _no_ignore,
    "loss-reduction-sum": _mean, "softmax-over-wrong-axis": _right_axis, "targets-not-scaled": _targets_in_units,
    "classes-imbalanced": _weigh_classes, "class-weights-wrong": _weigh_classes,
    "activation-on-output": _one_output_each,
}  # fmt: skip
