"""Patches of what makes NaN and infinity: the operation on the line that was named."""

from __future__ import annotations

import ast

from nbops.debugging.remedies.facts import Facts, Maker
from nbops.debugging.remedies.looking import batch_names, innermost_loop, nodes_on, with_call
from nbops.debugging.source import Code, name_of

_EPS = "1e-6"


def _operand(call: ast.Call) -> ast.expr | None:
    """Return what a function or a method of a tensor works on: ``x`` of ``torch.log(x)`` and of ``x.log()``."""
    if isinstance(call.func, ast.Attribute) and name_of(call.func.value) not in ("torch", "F", "math", "np", "numpy"):
        return call.func.value
    return call.args[0] if call.args else None


def _calls_on(code: Code, facts: Facts, *names: str) -> list[ast.Call]:
    calls = (n for n in nodes_on(code, facts.line) if isinstance(n, ast.Call))
    return [c for c in calls if name_of(c.func).rstrip("_") in names]


def _log(code: Code, facts: Facts) -> None:
    for call in _calls_on(code, facts, "log", "log2", "log10"):
        inner = _operand(call)
        if inner is not None:
            with_call(code, inner, f".clamp(min={_EPS})")


def _domain(code: Code, facts: Facts) -> None:
    low = {"sqrt": _EPS, "log": _EPS, "log2": _EPS, "log10": _EPS, "log1p": "0.0"}
    for call in _calls_on(code, facts, *low, "acos", "asin", "atanh"):
        inner, name = _operand(call), name_of(call.func)
        bounds = f"min={low[name]}" if name in low else "-1 + 1e-6, 1 - 1e-6"
        if inner is not None:
            with_call(code, inner, f".clamp({bounds})")
        return


def _root(code: Code, facts: Facts) -> None:
    for call in _calls_on(code, facts, "sqrt"):
        inner = _operand(call)
        is_method = isinstance(call.func, ast.Attribute) and inner is call.func.value
        if inner is not None:
            code.wrap(inner, "(" if is_method else "", f" + {_EPS})" if is_method else f" + {_EPS}")
        return
    for call in _calls_on(code, facts, "norm", "cdist"):
        code.wrap(call, "", f".clamp(min={_EPS})")  # a clamped value has a gradient of zero
        return


def _divide(code: Code, facts: Facts) -> None:
    divisions = [n for n in nodes_on(code, facts.line) if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Div)]
    divisions = [n for n in divisions if not isinstance(n.right, ast.Constant)]
    for node in divisions:
        if "1e-" not in code.text(node.right) and "clamp" not in code.text(node.right):
            code.wrap(node.right, "(", f" + {_EPS})")
            return
    for call in _spreads(code) if not divisions else ():
        code.wrap(call, "", ".clamp(min=1e-3)")  # a column without a spread becomes zero, and stays small in new data


def _spreads(code: Code) -> list[ast.Call]:
    """Return standard deviations that something is divided by without a small number beside: a column may have none."""
    named: dict[str, ast.Call] = {}
    for statement in code.statements():
        for target in statement.targets if isinstance(statement, ast.Assign) else ():
            value = statement.value if isinstance(statement, ast.Assign) else None
            is_row = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
            pairs = zip(target.elts, value.elts, strict=False) if is_row else [(target, value)]  # type: ignore[attr-defined, union-attr]
            named |= {name_of(t): v for t, v in pairs if isinstance(v, ast.Call) and name_of(v.func) == "std"}
    divisors = [n.right for n in ast.walk(code.tree) if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Div)]
    direct = [d for d in divisors if isinstance(d, ast.Call) and name_of(d.func) == "std"]
    used = [named[name] for name in dict.fromkeys(map(name_of, divisors)) if name in named]
    return [*direct, *used]


def _exp(code: Code, facts: Facts) -> None:
    for call in _calls_on(code, facts, "exp"):
        inner = _operand(call)
        if inner is None:
            return
        text = code.text(inner)
        if _is_normalised(code, call):
            code.wrap(inner, "", f" - {_bracketed(inner, text)}.amax(dim=-1, keepdim=True)")
        else:
            with_call(code, inner, ".clamp(-10, 10)")
        return


def _bracketed(node: ast.expr, text: str) -> str:
    return text if isinstance(node, ast.Name | ast.Attribute | ast.Call | ast.Subscript) else f"({text})"


def _is_normalised(code: Code, call: ast.Call) -> bool:
    """Return whether what an exponential gives is divided by its own sum: a softmax written by hand."""
    for statement in code.statements():
        if isinstance(statement, ast.Assign) and statement.value is call and isinstance(statement.targets[0], ast.Name):
            name = statement.targets[0].id
            return any(
                isinstance(n, ast.BinOp) and isinstance(n.op, ast.Div) and name_of(n.left) == name
                and code.text(n.right).lstrip("(").startswith((f"{name}.sum(", f"torch.sum({name}"))
                for n in ast.walk(code.tree)
            )  # fmt: skip
    return False


def _where(code: Code, facts: Facts) -> None:
    for outer in _calls_on(code, facts, "where"):
        for call in [n for n in ast.walk(outer) if isinstance(n, ast.Call) and n is not outer]:
            inner, name = _operand(call), name_of(call.func)
            if name in ("sqrt", "log", "rsqrt", "log2", "log10", "pow", "reciprocal") and inner is not None:
                with_call(code, inner, f".clamp(min={_EPS})")
                return
        for node in ast.walk(outer):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Name):
                condition = code.text(outer.args[0]) if outer.args else ""
                code.replace(node.right, f"torch.where({condition}, {node.right.id}, torch.ones_like({node.right.id}))")
                return


def _mask(code: Code, facts: Facts) -> None:
    for _, call in [*code.calls("masked_fill"), *code.calls("masked_fill_")]:
        if len(call.args) == 2 and "inf" in code.text(call.args[1]):
            code.replace(call.args[1], "-1e4")


def _wider(code: Code, facts: Facts) -> None:
    for node in nodes_on(code, facts.line):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Pow):
            for side in (node.left, node.right) if isinstance(node.op, ast.Mult) else (node.left,):
                if not isinstance(side, ast.Constant):
                    with_call(code, side, ".float()")
            return
        if isinstance(node, ast.Call) and name_of(node.func) in ("exp", "square", "pow", "sum", "norm"):
            inner = _operand(node)
            if inner is not None:
                with_call(code, inner, ".float()")
                return


def _drop_rows(code: Code, facts: Facts) -> None:
    """Leave out the samples of a batch that hold NaN or infinity; where a spread of zero made them, mend that."""
    batch = facts.view.batch
    seen = batch.inputs if batch is not None else None
    is_every = seen is None or seen.nan_count >= seen.sizes[0] > 0
    if _spreads(code) and (is_every or facts.rule == "non-finite-batch"):
        _divide(code, Facts(line=""))
    names = batch_names(innermost_loop(code))
    loop = innermost_loop(code)
    if code.is_changed or names is None or loop is None:
        return
    x, y = names
    if any(isinstance(n, ast.Name) and n.id == "is_finite" for n in ast.walk(code.tree)):
        return
    finite = f"torch.isfinite({x}).flatten(1).all(1) & torch.isfinite({y}).reshape(len({y}), -1).all(1)"
    code.befores.append((loop.body[0], f"is_finite = {finite}\n{x}, {y} = {x}[is_finite], {y}[is_finite]"))


def _half_or_scaled(code: Code, facts: Facts) -> None:
    """Scale the loss before the backward pass, and the learning rate down as much."""
    for statement, call in code.calls("backward"):
        inner = call.func.value if isinstance(call.func, ast.Attribute) else None
        owners = [o for o in code.optimizers() if name_of(o[2].func) == "SGD"]
        if inner is None or code.calls("scale") or len(owners) != 1 or not isinstance(statement, ast.Expr):
            return
        rate = next((k.value for k in owners[0][2].keywords if k.arg == "lr"), None)
        if rate is not None:
            code.wrap(inner, "(", " * 1024)")
            code.wrap(rate, "", " / 1024")
        return


MAKERS: dict[str, Maker] = {
    "log-of-zero": _log, "domain-error": _domain, "sqrt-at-zero": _root, "division-by-zero": _divide,
    "exp-overflow": _exp, "where-gradient": _where, "mask-all-inf": _mask, "half-overflow": _wider,
    "nan-in-data": _drop_rows, "gradients-underflow": _half_or_scaled,
}  # fmt: skip
