"""Patches of the training loop: clearing, backward pass, step, the optimizer's parameters, modes."""

from __future__ import annotations

import ast

from nbops.debugging.remedies.facts import Facts, Maker
from nbops.debugging.remedies.looking import innermost_loop, model_name, sets_of
from nbops.debugging.source import Code, model_of, name_of


def _clear(code: Code, facts: Facts) -> None:
    for node in ast.walk(code.tree):  # `net.zero_grad` without parentheses
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Attribute) and node.value.attr == "zero_grad":
            code.wrap(node, "", "()")
            return
    backward, optimizers = code.calls("backward"), code.optimizers()
    if backward and optimizers and code.calls("step") and not code.calls("zero_grad"):
        code.befores.append((backward[0][0], f"{optimizers[0][1]}.zero_grad()"))


def _clear_earlier(code: Code, facts: Facts) -> None:
    backward, clears = code.calls("backward"), code.calls("zero_grad")
    late = [s for s, _ in clears if backward and s.lineno > backward[0][0].lineno]
    if late and isinstance(late[0], ast.Expr):
        code.drops.append(late[0])
        code.befores.append((backward[0][0], code.text(late[0])))


def _step(code: Code, facts: Facts) -> None:
    backward, optimizers = code.calls("backward"), code.optimizers()
    if not backward or not optimizers:
        return
    name, last = optimizers[0][1], backward[-1][0]
    for statement, call in code.calls("step"):
        if isinstance(call.func, ast.Attribute) and code.text(call.func.value) == name:
            code.drops.append(statement)
    code.afters.append((last, f"{name}.step()"))


def _backward(code: Code, facts: Facts) -> None:
    optimizers, steps = code.optimizers(), code.calls("step")
    losses = [s for s in code.statements() if isinstance(s, ast.Assign) and isinstance(s.targets[0], ast.Name)
              and "loss" in s.targets[0].id]  # fmt: skip
    if optimizers and losses and steps and not code.calls("backward"):
        code.afters.append((losses[-1], f"{losses[-1].targets[0].id}.backward()"))  # type: ignore[attr-defined]


# ---- what the optimizer holds ----------------------------------------------------------------------------------------


def _build_again(code: Code, facts: Facts) -> None:
    """Give the optimizer the trained model; where it names it already, build it behind the model's last line."""
    found = _optimizer_meant(code, facts)
    if found is None or not found[2].args:
        return
    statement, _, call = found
    held = model_of(Code(code.source, ast.Module([statement], [])))
    if facts.model.isidentifier() and held and held != facts.model:
        code.replace(call.args[0], f"{facts.model}.parameters()")
    else:
        _build_later(code, statement, held)


def _optimizer_meant(code: Code, facts: Facts) -> tuple[ast.Assign, str, ast.Call] | None:
    """Return the statement that builds the optimizer of the finding: on its line, else the only one."""
    found = code.optimizers()
    meant = [one for one in found if code.text(one[0]).split("\n")[0].strip() == facts.line.strip()]
    return meant[0] if len(meant) == 1 else found[0] if len(found) == 1 else None


def _build_later(code: Code, statement: ast.Assign, model: str) -> None:
    """Move an optimizer behind the last statement of its block that sets the model or a part of it."""
    loops = code.loops()
    end = loops[0].lineno if loops else len(code.source)
    block = code.beside(statement)
    later = [s for s in block if statement.lineno < s.lineno < end and _sets(s, model)]
    if later:
        code.drops.append(statement)
        code.afters.append((later[-1], code.text(statement)))
    elif loops and loops[0] in block and any(_changes(s, model) for s in block if statement.lineno < s.lineno < end):
        code.befores.append((loops[0], code.text(statement)))


def _sets(statement: ast.stmt, name: str) -> bool:
    """Return whether a statement assigns a variable or an attribute of it, or loads it with new parameters."""
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    owners = []
    for target in targets:
        node: ast.expr = target
        while isinstance(node, ast.Attribute | ast.Subscript):
            node = node.value
        owners.append(name_of(node))
    return bool(name) and name in owners


def _changes(statement: ast.stmt, model: str) -> bool:
    """Return whether a statement gives a model to a function that may change it."""
    looks = ("watch", "preflight", "print", "len", "memory")
    calls = [n for n in ast.walk(statement) if isinstance(n, ast.Call) and name_of(n.func) not in looks]
    return any(isinstance(a, ast.Name) and a.id == model for call in calls for a in call.args)


def _all_parameters(code: Code, facts: Facts) -> None:
    found, model = _optimizer_meant(code, facts), model_name(code, facts.model)
    if found is None or not model or not found[2].args:
        return
    statement, _, call = found
    if code.text(call.args[0]) == f"{model}.parameters()":
        _build_later(code, statement, model)  # it held all of them, until the model was changed
    else:
        code.replace(call.args[0], f"{model}.parameters()")


def _each_once(code: Code, facts: Facts) -> None:
    optimizers, model = code.optimizers(), model_of(code)
    if len(optimizers) == 1 and model and optimizers[0][2].args:
        given = optimizers[0][2].args[0]
        parts = given.elts if isinstance(given, ast.List | ast.Tuple) else [given]
        owned = [code.text(p).lstrip("*") for p in parts]
        if f"{model}.parameters()" in owned and len(parts) > 1 and all(o.startswith(model) for o in owned):
            code.replace(given, f"{model}.parameters()")


def _tie(code: Code, facts: Facts) -> None:
    for node in ast.walk(code.tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and name_of(node.value.func) in (
            "Parameter", "clone", "detach", "deepcopy",
        ):  # fmt: skip
            inner = node.value.args[0] if node.value.args else getattr(node.value.func, "value", None)
            if code.text(node.targets[0]).endswith(".weight") and inner is not None and name_of(inner) == "weight":
                code.replace(node.value, code.text(inner))
                return


def _build_once(code: Code, facts: Facts) -> None:
    optimizers, loops = code.optimizers(), code.loops()
    inside = [one for one in optimizers if loops and loops[0].lineno < one[0].lineno <= (loops[0].end_lineno or 0)]
    if inside:
        code.drops.append(inside[0][0])
        if len(inside) == len(optimizers):
            code.befores.append((loops[0], code.text(inside[0][0])))


def _model_once(code: Code, facts: Facts) -> None:
    """Take away what builds the model and its optimizer anew inside the loop, where both are built before it too."""
    loops, model = code.loops(), model_name(code, facts.model)
    if not loops or not model:
        return
    inside = {id(n) for n in ast.walk(loops[0])}
    made = [s for s in sets_of(code, model) if isinstance(s.value, ast.Call)]
    again, first = [s for s in made if id(s) in inside], [s for s in made if id(s) not in inside]
    optimizers = [o for o in code.optimizers() if id(o[0]) in inside]
    outside = {o[1] for o in code.optimizers() if id(o[0]) not in inside}
    if len(again) == 1:
        code.drops += [again[0], *(o[0] for o in optimizers)]
        moved = [code.text(again[0])] if not first else []
        moved += [code.text(o[0]) for o in optimizers if o[1] not in outside]
        if moved:
            code.befores.append((loops[0], "\n".join(moved)))


# ---- modes, scalers, accumulation -----------------------------------------------------------------------------------


def _train_again(code: Code, facts: Facts) -> None:
    model, clears = model_name(code, facts.model), [*code.calls("zero_grad"), *code.calls("backward")]
    if model and clears:
        first = min((s for s, _ in clears), key=lambda s: s.lineno)
        loop = innermost_loop(code)
        code.befores.append((loop.body[0] if loop is not None else first, f"{model}.train()"))


def _evaluate(code: Code, facts: Facts) -> None:
    model = model_name(code, facts.model)
    for statement in code.statements():
        if isinstance(statement, ast.With) and "no_grad" in code.text(statement.items[0].context_expr) and model:
            code.befores.append((statement, f"{model}.eval()"))
            code.afters.append((statement, f"{model}.train()"))
            return


def _in_order(code: Code, facts: Facts) -> None:
    """Unscale before clipping, and let the scaler make the step and be brought up to date."""
    scalers = [code.text(c.func.value) for _, c in code.calls("scale") if isinstance(c.func, ast.Attribute)]
    optimizers = code.optimizers()
    if not scalers or len(optimizers) != 1:
        return
    scaler, optimizer = scalers[0], optimizers[0][1]
    clips = [*code.calls("clip_grad_norm_"), *code.calls("clip_grad_value_")]
    if clips and not code.calls("unscale_"):
        code.befores.append((clips[0][0], f"{scaler}.unscale_({optimizer})"))
    for statement, call in code.calls("step"):
        if code.text(call) == f"{optimizer}.step()":
            code.replace(call, f"{scaler}.step({optimizer})")
            if not code.calls("update"):
                code.afters.append((statement, f"{scaler}.update()"))


def _average(code: Code, facts: Facts) -> None:
    """Divide the loss by the number of batches whose gradients are summed, as the loop's ``% n`` tells it."""
    counts = [code.text(n.right) for n in ast.walk(code.tree) if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Mod)]
    backward = code.calls("backward")
    if len(counts) == 1 and len(backward) == 1 and isinstance(backward[0][1].func, ast.Attribute):
        loss = backward[0][1].func.value
        if isinstance(loss, ast.Name):
            code.replace(loss, f"({loss.id} / {counts[0]})")


MAKERS: dict[str, Maker] = {
    "grads-not-cleared": _clear, "grads-cleared-before-step": _clear_earlier, "step-missing": _step,
    "step-outside-loop": _step, "backward-missing": _backward, "optimizer-of-other-parameters": _build_again,
    "parameters-not-in-optimizer": _all_parameters, "parameter-twice-in-optimizer": _each_once, "tie-broken": _tie,
    "optimizer-rebuilt-in-loop": _build_once, "model-rebuilt-in-loop": _model_once, "train-in-eval-mode": _train_again,
    "eval-in-train-mode": _evaluate, "scaler-misused": _in_order, "accumulation-not-scaled": _average,
}  # fmt: skip
