"""Patches of what autograd sees: cut graphs, kept graphs, in-place changes, operations without a gradient."""

from __future__ import annotations

import ast

from nbops.debugging.remedies.facts import Facts, Maker
from nbops.debugging.remedies.looking import innermost_loop, model_name, nodes_on, sets_of, trained_loss, with_call
from nbops.debugging.source import Code, model_of, name_of


def _let_go(code: Code, facts: Facts) -> None:
    if _backward_of_a_sum(code) or _detach_state(code):
        return
    for _, call in code.calls("backward"):
        kept = [k for k in call.keywords if k.arg == "create_graph"]
        if kept and len(call.keywords) == 1 and not call.args:
            code.replace(call, f"{code.text(call.func)}()")
            return
    for statement in code.statements():
        if isinstance(statement, ast.AugAssign) and _is_loss(statement.value):
            with_call(code, statement.value, ".item()")
            return
    for _, call in code.calls("append"):
        if call.args and _is_loss(call.args[0]):
            with_call(code, call.args[0], ".item()")
            return
    for statement, call in code.calls("append"):
        inner = call.args[0] if call.args else None
        is_output = isinstance(inner, ast.Call) and name_of(inner.func) == model_of(code) != ""
        if is_output and isinstance(statement, ast.Expr) and inner is not None:
            with_call(code, inner, ".detach()")
            return


def _is_loss(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and "loss" in node.id


def _backward_of_a_sum(code: Code) -> bool:
    """Send back the loss of the step, not the sum of all losses so far."""
    loop = innermost_loop(code)
    for _, call in code.calls("backward"):
        total = call.func.value if isinstance(call.func, ast.Attribute) else None
        if not isinstance(total, ast.Name) or loop is None:
            continue
        for one in ast.walk(loop):
            term = _added_to(one, total.id)
            if term is None or any(name_of(t) == total.id for s in loop.body if isinstance(s, ast.Assign)
                                   and s is not one for t in s.targets):  # fmt: skip
                continue
            code.replace(call, f"{term}.backward()")
            if isinstance(one, ast.AugAssign):
                code.replace(one.value, f"{term}.item()")
            elif isinstance(one, ast.Assign):
                code.replace(one.value, f"{total.id} + {term}.item()")
            return True
    return False


def _added_to(node: ast.AST, total: str) -> str | None:
    """Return the variable that a statement adds to `total`."""
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add) and name_of(node.target) == total:
        return node.value.id if isinstance(node.value, ast.Name) else None
    if isinstance(node, ast.Assign) and name_of(node.targets[0]) == total and isinstance(node.value, ast.BinOp):
        sides = [s.id for s in (node.value.left, node.value.right) if isinstance(s, ast.Name)]
        if isinstance(node.value.op, ast.Add) and len(sides) == 2 and total in sides:
            return sides[1] if sides[0] == total else sides[0]
    return None


def _detach_state(code: Code) -> bool:
    """Cut the graph of a state that is given to the model, and comes back from it, at each step."""
    loop = innermost_loop(code)
    for node in ast.walk(loop) if loop is not None else ():
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)):
            continue
        given = {a.id for a in node.value.args if isinstance(a, ast.Name)}
        target = node.targets[0]
        names = [n.id for n in ast.walk(target) if isinstance(n, ast.Name)]
        kept = [n for n in names if n in given]
        if isinstance(target, ast.Tuple) and len(kept) == 1 and f"{kept[0]}.detach" not in code.source:
            cut = f"{kept[0]}.detach()" if "LSTM" not in code.source else f"tuple(part.detach() for part in {kept[0]})"
            code.afters.append((node, f"{kept[0]} = {cut}"))
            return True
    return False


def _with_gradients(code: Code, facts: Facts) -> None:
    """Let the forward pass of the training loop have gradients."""
    loop, model = innermost_loop(code), model_name(code, facts.model)
    last = max((s.lineno for s, _ in code.calls("backward")), default=0)
    for node in ast.walk(loop) if loop is not None else ():
        if isinstance(node, ast.With) and len(node.items) == 1 and node.lineno <= last:
            context = node.items[0].context_expr
            is_off = isinstance(context, ast.Call) and name_of(context.func) in ("no_grad", "inference_mode")
            calls = [c for c in ast.walk(node) if isinstance(c, ast.Call)]
            if is_off and any(name_of(c.func) in (model, "backward") for c in calls):
                code.replace(context, "torch.enable_grad()")
                return
    for statement, call in code.calls("set_grad_enabled"):
        if isinstance(statement, ast.Expr) and call.args and code.text(call.args[0]) == "False":
            code.replace(call.args[0], "True")
            return


def _uncut(code: Code, facts: Facts) -> None:
    """Take away what cuts the graph: a loss made of its own number, of classes, or a cut on the line that was named."""
    if _scores_for_classes(code):
        return
    for statement in code.statements():
        value = statement.value if isinstance(statement, ast.Assign) else None
        if isinstance(value, ast.Call) and name_of(value.func) in ("tensor", "Tensor", "as_tensor") and value.args:
            inner = value.args[0]
            has_grad = any(k.arg == "requires_grad" for k in value.keywords)
            if isinstance(inner, ast.Call) and name_of(inner.func) == "item" and has_grad:
                code.replace(value, code.text(inner.func.value))  # type: ignore[attr-defined]
                return
    for node in nodes_on(code, facts.line):
        if isinstance(node, ast.Call) and name_of(node.func) in ("from_numpy", "tensor", "as_tensor") and node.args:
            inside = _as_torch(code, node.args[0])
            if inside:
                code.replace(node, inside)
                return
    cuts = [n for n in nodes_on(code, facts.line) if isinstance(n, ast.Call) and name_of(n.func) == "detach"]
    if len(cuts) == 1 and isinstance(cuts[0].func, ast.Attribute) and ".numpy()" not in facts.line:
        code.replace(cuts[0], code.text(cuts[0].func.value))
    data = [n for n in nodes_on(code, facts.line) if isinstance(n, ast.Attribute) and n.attr == "data"]
    if len(data) == 1 and not cuts and isinstance(data[0].ctx, ast.Load):
        code.replace(data[0], code.text(data[0].value))


def _scores_for_classes(code: Code) -> bool:
    """Let a loss compare scores, by cross-entropy, where it compares the numbers of classes that argmax gave."""
    found = trained_loss(code)
    output = found[1].args[0] if found is not None else None
    if found is None or not isinstance(output, ast.Name) or found[2] not in ("mse_loss", "l1_loss"):
        return False
    made = [s for s in sets_of(code, output.id) if ".argmax(" in code.text(s.value)]
    if len(made) != 1:
        return False
    scores = code.text(made[0].value).partition(".argmax(")[0]
    target = code.text(found[1].args[1]).removesuffix(".float()")
    code.replace(made[0].value, scores)
    head = code.text(found[1].func).rpartition(".")[0]
    code.replace(found[1], f"{head}.cross_entropy({output.id}, {target})")
    return True


_NUMPY = {"tanh": "tanh", "exp": "exp", "log": "log", "sqrt": "sqrt", "abs": "abs", "sin": "sin", "cos": "cos",
          "square": "square", "log1p": "log1p"}  # fmt: skip


def _as_torch(code: Code, node: ast.expr) -> str:
    """Return a NumPy call on a detached tensor as one of torch on the tensor itself; "" if there is no such one."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
        return ""
    owner, name = name_of(node.func.value), node.func.attr
    if owner not in ("np", "numpy"):
        return _tensor_of(code, node)
    tensor = _tensor_of(code, node.args[0])
    rest = [code.text(a) for a in node.args[1:]]
    if not tensor:
        return ""
    if name in ("maximum", "minimum") and len(rest) == 1:
        return f"{tensor}.clamp({'min' if name == 'maximum' else 'max'}={rest[0]})"
    if name == "clip" and len(rest) == 2:
        return f"{tensor}.clamp({rest[0]}, {rest[1]})"
    return f"torch.{_NUMPY[name]}({tensor})" if name in _NUMPY and not rest else ""


def _tensor_of(code: Code, node: ast.expr) -> str:
    """Return ``h`` of ``h.detach().cpu().numpy()``."""
    is_cut = False
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.args:
        if node.func.attr not in ("detach", "cpu", "numpy"):
            break
        is_cut, node = True, node.func.value
    return code.text(node) if is_cut else ""


def _straight_through(code: Code, facts: Facts) -> None:
    """Let the gradient pass a rounding as if it were not there."""
    found = [(s, c) for name in ("round", "sign", "floor", "ceil") for s, c in code.calls(name)]
    found = [(s, c) for s, c in found if isinstance(s, ast.Assign) and s.value is c]
    if len(found) != 1:
        return
    call = found[0][1]
    inner = call.args[0] if call.args else getattr(call.func, "value", None)
    if isinstance(inner, ast.Name):
        code.replace(call, f"{inner.id} + ({code.text(call)} - {inner.id}).detach()")


def _not_in_place(code: Code, facts: Facts) -> None:
    if not facts.line:
        return
    rows = [s for s in code.statements() if isinstance(s, ast.AugAssign) and code.text(s) == facts.line.strip()]
    signs = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
    if len(rows) == 1 and type(rows[0].op) in signs and isinstance(rows[0].target, ast.Name):
        target, value = code.text(rows[0].target), rows[0].value
        right = code.text(value) if not isinstance(value, ast.BinOp) else f"({code.text(value)})"
        code.replace(rows[0], f"{target} = {target} {signs[type(rows[0].op)]} {right}")
        return
    for node in nodes_on(code, facts.line):
        for keyword in node.keywords if isinstance(node, ast.Call) else ():
            if keyword.arg == "inplace":
                code.replace(keyword.value, "False")
                return


MAKERS: dict[str, Maker] = {
    "graph-kept": _let_go, "nothing-requires-grad": _with_gradients, "graph-cut": _uncut,
    "nondifferentiable-op": _straight_through, "inplace-breaks-backward": _not_in_place,
}  # fmt: skip
