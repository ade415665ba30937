"""Patches of what is logged: axes, shapes, denominators, sums that are not reset."""

from __future__ import annotations

import ast

from nbops.debugging.remedies.facts import Facts, Maker
from nbops.debugging.remedies.looking import innermost_loop, with_call
from nbops.debugging.source import Code, name_of


def _class_axis(code: Code, facts: Facts) -> None:
    for _, call in code.calls("argmax"):
        is_method = isinstance(call.func, ast.Attribute) and name_of(call.func.value) != "torch"
        given = call.args[0 if is_method else 1] if len(call.args) > (0 if is_method else 1) else None
        given = given or next((k.value for k in call.keywords if k.arg == "dim"), None)
        if given is not None and code.text(given) == "0":
            code.replace(given, "1")
            return


def _comparisons(code: Code) -> list[ast.Compare]:
    return [n for n in ast.walk(code.tree) if isinstance(n, ast.Compare) and len(n.ops) == 1
            and isinstance(n.ops[0], ast.Eq) and isinstance(n.comparators[0], ast.Name | ast.Subscript)
            and not isinstance(n.left, ast.Constant)]  # fmt: skip


def _one_shape(code: Code, facts: Facts) -> None:
    """Compare with labels of the predictions' shape, where both have names."""
    if _by_batches(code):
        return  # the other cause is written there
    found = [n for n in _comparisons(code) if isinstance(n.left, ast.Name) and "view" not in code.text(n)]
    if len(found) == 1:
        right = found[0].comparators[0]
        with_call(code, right, f".view_as({code.text(found[0].left)})")


def _by_batches(code: Code) -> list[ast.BinOp]:
    """Return divisions of a sum over samples by the number of batches."""
    summed = {name_of(n.target) for n in ast.walk(code.tree) if isinstance(n, ast.AugAssign)
              and isinstance(n.op, ast.Add) and ".sum()" in code.text(n.value)}  # fmt: skip
    summed |= {name_of(t) for s in code.statements() if isinstance(s, ast.Assign) and isinstance(s.value, ast.Call)
               and name_of(s.value.func) == "sum" and ".sum()" in code.text(s.value) for t in s.targets}  # fmt: skip
    loaders = {name_of(t) for s, _ in code.calls("DataLoader") if isinstance(s, ast.Assign) for t in s.targets}
    return [
        n for n in ast.walk(code.tree)
        if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Div) and name_of(n.left) in summed - {""}
        and isinstance(n.right, ast.Call) and name_of(n.right.func) == "len" and name_of(n.right.args[0]) in loaders
    ]  # fmt: skip


def _by_samples(code: Code, facts: Facts) -> None:
    for node in _by_batches(code):
        if isinstance(node.right, ast.Call):
            with_inner = node.right.args[0]
            code.wrap(with_inner, "", ".dataset")


def _reset(code: Code, facts: Facts) -> None:
    """Set a sum to zero at the beginning of each epoch: its line goes into the loop over epochs."""
    loops, inner = code.loops(), innermost_loop(code)
    if not loops or inner is None or inner is loops[0]:
        return
    for node in ast.walk(loops[0]):
        if not (isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add) and isinstance(node.target, ast.Name)):
            continue
        name = node.target.id
        starts = [s for s in code.statements() if isinstance(s, ast.Assign) and name in {name_of(t) for t in s.targets}
                  and isinstance(s.value, ast.Constant)]  # fmt: skip
        is_of_loss = "loss" in name or "correct" in name or "total" in name
        is_outside = len(starts) == 1 and starts[0].lineno < loops[0].lineno and len(starts[0].targets) == 1
        if is_outside and is_of_loss and "step" not in name:
            code.drops.append(starts[0])
            code.befores.append((loops[0].body[0], code.text(starts[0])))
            return


def _at_zero(code: Code, facts: Facts) -> None:
    """Compare raw scores with 0, which is the probability 0.5."""
    found = [n for n in ast.walk(code.tree) if isinstance(n, ast.Compare) and len(n.ops) == 1
             and isinstance(n.ops[0], ast.Gt | ast.GtE) and isinstance(n.comparators[0], ast.Constant)
             and n.comparators[0].value == 0.5 and "sigmoid" not in code.text(n.left)]  # fmt: skip
    for node in found:
        code.replace(node.comparators[0], "0")


MAKERS: dict[str, Maker] = {
    "metric-wrong-axis": _class_axis, "metric-broadcast": _one_shape, "metric-wrong-denominator": _by_samples,
    "metric-not-reset": _reset, "threshold-on-logits": _at_zero,
}  # fmt: skip
