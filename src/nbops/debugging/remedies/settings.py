"""Patches of settings: learning rate, other hyper-parameters, clipping, schedules, initialisation."""

from __future__ import annotations

import ast
import math

from nbops.debugging.remedies.facts import Facts, Maker
from nbops.debugging.remedies.looking import argument, innermost_loop, model_name
from nbops.debugging.source import Code, calls_in, name_of

_ADAPTIVE = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop")
_USUAL = 1e-3  # learning rate of Adam and its kin
_GOOD_UPDATE = 2e-3  # of the weights, per step
_MOST_UPDATE = 1e-2
_FILLS = ("fill_", "zero_", "normal_", "uniform_", "constant_", "zeros_", "ones_", "xavier_uniform_", "xavier_normal_",
          "kaiming_uniform_", "kaiming_normal_", "trunc_normal_", "eye_", "orthogonal_")  # fmt: skip


# ---- the optimizer ---------------------------------------------------------------------------------------------------


def _ratio(facts: Facts) -> float:
    return max((one.update_ratio or 0.0 for one in facts.view.layers.values()), default=0.0)


def _lower_rate(code: Code, facts: Facts) -> None:
    """Bring the updates to a hundredth of the weights at most; under Adam, a rate far above the usual one to that."""
    if _eps_of_zero(code):
        _setting("eps", "1e-8")(code, facts)
        return
    rate, value, kind = _rate(code)
    if rate is None:
        return
    if kind in _ADAPTIVE and value > 10 * _USUAL:
        code.replace(rate, f"{_USUAL:g}")
        return
    ratio = _ratio(facts)
    factor = 0.1
    while ratio and ratio * factor > 10 * _MOST_UPDATE and factor > 1e-3:
        factor /= 10
    code.replace(rate, f"{value * factor:g}")


def _raise_rate(code: Code, facts: Facts) -> None:
    rate, value, kind = _rate(code)
    if rate is None:
        return
    if kind in _ADAPTIVE and value < _USUAL / 10:
        code.replace(rate, f"{_USUAL:g}")
        return
    ratio = _ratio(facts)
    times = 10.0 ** max(1, min(5, round(math.log10(_GOOD_UPDATE / ratio)))) if ratio else 10.0
    code.replace(rate, f"{value * times:g}")


def _rate(code: Code) -> tuple[ast.Constant | None, float, str]:
    """Return where the last optimizer's learning rate is written, the rate, and the optimizer's class."""
    for _, _, call in code.optimizers()[-1:]:
        given = argument(call, "lr", 1)
        if isinstance(given, ast.Constant) and isinstance(given.value, int | float):
            return given, float(given.value), name_of(call.func)
    return None, 0.0, ""


def _eps_of_zero(code: Code) -> bool:
    return any(k.arg == "eps" and isinstance(k.value, ast.Constant) and k.value.value == 0
               for _, _, call in code.optimizers()[-1:] for k in call.keywords)  # fmt: skip


def _setting(name: str, value: str) -> Maker:
    def make(code: Code, facts: Facts) -> None:
        for _, _, call in code.optimizers()[-1:]:
            for keyword in call.keywords:
                if keyword.arg == name and code.text(keyword.value) != value:
                    code.replace(keyword.value, value)
                elif keyword.arg == "betas" and name == "momentum":
                    code.replace(keyword.value, "(0.9, 0.999)")

    return make


def _dense_gradients(code: Code, facts: Facts) -> None:
    """Let an embedding have dense gradients, which every optimizer takes."""
    for _, call in code.calls("Embedding"):
        for keyword in call.keywords:
            if keyword.arg == "sparse" and code.text(keyword.value) == "True":
                code.replace(keyword.value, "False")


# ---- clipping --------------------------------------------------------------------------------------------------------


def _clip_at_one(code: Code, facts: Facts) -> None:
    for _, call in code.calls("clip_grad_norm_"):
        given = argument(call, "max_norm", 1)
        if isinstance(given, ast.Constant) and isinstance(given.value, int | float) and given.value < 0.5:
            code.replace(given, "1.0")


def _clip(code: Code, facts: Facts) -> None:
    if _clip_later(code):
        return
    backward, model = code.calls("backward"), model_name(code, facts.model)
    if backward and model and not code.calls("clip_grad_norm_") and not code.calls("scale"):
        code.afters.append((backward[-1][0], f"torch.nn.utils.clip_grad_norm_({model}.parameters(), 1.0)"))


def _clip_where_it_counts(code: Code, facts: Facts) -> None:
    _clip_later(code)


def _clip_later(code: Code) -> bool:
    """Move a clipping that stands before the backward pass, or behind the step, to between them."""
    backward, loop = code.calls("backward"), innermost_loop(code)
    inside = {id(n) for n in ast.walk(loop)} if loop is not None else set()
    steps = [s for s, _ in code.calls("step") if id(s) in inside]
    for statement, _ in [*code.calls("clip_grad_norm_"), *code.calls("clip_grad_value_")]:
        if len(backward) != 1 or id(statement) not in inside or not isinstance(statement, ast.Expr):
            continue
        late = bool(steps) and statement.lineno > steps[0].lineno
        if statement.lineno < backward[0][0].lineno or late:
            code.drops.append(statement)
            code.afters.append((backward[0][0], code.text(statement)))
            return True
    return False


# ---- schedules -------------------------------------------------------------------------------------------------------


def _schedulers(code: Code) -> list[tuple[str, ast.Call]]:
    """Return the learning rate schedules: the variable and the call that makes it."""
    found = []
    for one in code.statements():
        if isinstance(one, ast.Assign) and isinstance(one.value, ast.Call) and isinstance(one.targets[0], ast.Name):
            text = code.text(one.value.func)
            if "lr_scheduler" in text or name_of(one.value.func).endswith(("LR", "OnPlateau", "WarmRestarts")):
                found.append((one.targets[0].id, one.value))
    return found


def _schedule_per_epoch(code: Code, facts: Facts) -> None:
    loops, names = code.loops(), {name for name, _ in _schedulers(code)}
    for statement, call in code.calls("step"):
        owner = code.text(call.func.value) if isinstance(call.func, ast.Attribute) else ""
        is_inner = bool(loops) and statement.col_offset > loops[0].col_offset + 4
        if owner in names and isinstance(statement, ast.Expr) and is_inner:
            code.drops.append(statement)
            code.afters.append((loops[0].body[-1], code.text(statement)))
            return
    _right_mode(code)


def _right_mode(code: Code) -> bool:
    """Turn the mode of a plateau that is given a loss to ``min``."""
    for name, call in _schedulers(code):
        mode = argument(call, "mode", 1)
        if name_of(call.func) == "ReduceLROnPlateau" and isinstance(mode, ast.Constant) and mode.value == "max":
            given = [c.args[0] for _, c in code.calls("step")
                     if c.args and isinstance(c.func, ast.Attribute) and code.text(c.func.value) == name]  # fmt: skip
            if given and _is_of_loss(code, given[0]):
                code.replace(mode, '"min"')
                return True
    return False


def _is_of_loss(code: Code, node: ast.expr) -> bool:
    """Return whether an expression is called after a loss, or is a sum of losses."""
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    sums = [n.value for n in ast.walk(code.tree) if isinstance(n, ast.AugAssign) and name_of(n.target) in names]
    words = ("loss", "error", "mse", "nll")
    return any(word in code.text(part).lower() for part in [node, *sums] for word in words)


def _schedule_as_meant(code: Code, facts: Facts) -> None:
    if _right_mode(code):
        return
    rate, value, _ = _rate(code)
    for _, call in _schedulers(code):
        given = argument(call, "lr_lambda", 1)
        if name_of(call.func) != "LambdaLR" or not isinstance(given, ast.Lambda):
            continue
        for node in ast.walk(given.body):
            first = node.left if isinstance(node, ast.BinOp) and isinstance(node.left, ast.Constant) else None
            if not isinstance(node, ast.BinOp) or first is None:
                continue
            if isinstance(node.op, ast.Mult) and rate is not None and first.value == value:
                code.replace(node, code.text(node.right))  # the rate is not a part of its factor
                return
            if isinstance(node.op, ast.Pow):
                base = first.value
                if isinstance(base, float) and 1 < base < 2:
                    code.replace(first, f"{2 - base:.6g}")
                    return
    for _, call in _schedulers(code):
        gamma = argument(call, "gamma", {"ExponentialLR": 1, "StepLR": 2}.get(name_of(call.func), 9))
        if isinstance(gamma, ast.Constant) and isinstance(gamma.value, float) and 1 < gamma.value < 2:
            code.replace(gamma, f"{2 - gamma.value:.6g}")
            return


def _step_schedule(code: Code, facts: Facts) -> None:
    names = [name for name, _ in _schedulers(code)]
    stepped = {code.text(c.func.value) for _, c in code.calls("step") if isinstance(c.func, ast.Attribute)}
    steps = [s for s, c in code.calls("step") if isinstance(s, ast.Expr)
             and code.text(c).split(".step")[0] in {o[1] for o in code.optimizers()}]  # fmt: skip
    for name in names:
        if name not in stepped and steps:
            code.afters.append((steps[-1], f"{name}.step()"))
            return


# ---- initialisation --------------------------------------------------------------------------------------------------


def _default_init(code: Code, facts: Facts) -> None:
    """Take away a loop or a call that fills weights outside of a class; inside one, change what it fills them with."""
    for statement in code.tree.body:
        has_init = any(_is_init(code, call) for call in calls_in(statement))
        is_model = isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.Assign)
        is_loop = any(name_of(c.func) in ("backward", "step") for c in calls_in(statement))
        if has_init and not is_model and not is_loop:
            if not _milder(code, statement):
                code.drops.append(statement)
            return
    inside = [s.value for s in code.statements() if isinstance(s, ast.Expr) and isinstance(s.value, ast.Call)
              and _is_init(code, s.value)]  # fmt: skip
    for call in inside if len(inside) == 1 else [one for one in inside if _is_odd(code, one)]:
        _refill(code, call)


def is_filled_oddly(code: Code) -> bool:
    """Return whether a source fills weights with zeros, or anything with a constant that is neither 0 nor 1."""
    return any(isinstance(node, ast.Call) and _is_odd(code, node) for node in ast.walk(code.tree))


def _is_odd(code: Code, call: ast.Call) -> bool:
    if not _is_init(code, call):
        return False
    what, name = code.text(call.args[0]) if call.args else code.text(call.func), name_of(call.func)
    if name in ("zeros_", "zero_"):
        return "bias" not in what and "grad" not in what
    value = call.args[-1] if call.args else None
    if isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.USub):
        value = value.operand
    return name in ("constant_", "fill_") and isinstance(value, ast.Constant) and value.value not in (0, 1)


def _milder(code: Code, statement: ast.stmt) -> bool:
    """Set a gain of an initialisation that is kept to 1."""
    for call in calls_in(statement):
        for keyword in call.keywords:
            if keyword.arg == "gain" and isinstance(keyword.value, ast.Constant):
                code.replace(keyword.value, "1.0")
                return True
    return False


def _refill(code: Code, call: ast.Call) -> None:
    """Fill a bias with zeros, an embedding with small numbers, and a weight as torch would."""
    if not call.args or not isinstance(call.func, ast.Attribute):
        return
    target = code.text(call.args[0])
    owner = code.text(call.func.value)
    if not owner.endswith("init"):
        return
    if target.endswith("bias"):
        code.replace(call, f"{owner}.zeros_({target})")
    elif "embed" in target.lower():
        code.replace(call, f"{owner}.normal_({target}, std=0.05)")
    elif target.endswith("weight"):
        code.replace(call, f"{owner}.kaiming_uniform_({target}, a=5**0.5)")


def _is_init(code: Code, call: ast.Call) -> bool:
    return "init." in code.text(call.func) or name_of(call.func) in _FILLS


# ---- regularisation and size -----------------------------------------------------------------------------------------


def _less_dropout(code: Code, facts: Facts) -> None:
    for node in ast.walk(code.tree):
        if isinstance(node, ast.Call) and name_of(node.func) in ("Dropout", "Dropout1d", "Dropout2d", "dropout"):
            given = argument(node, "p", 1 if name_of(node.func) == "dropout" else 0)
            if isinstance(given, ast.Constant) and isinstance(given.value, float) and given.value > 0.8:
                code.replace(given, "0.2")


def _more_for_statistics(code: Code, facts: Facts) -> None:
    """Give a normalisation torch's momentum, which is one minus that of other libraries."""
    for node in ast.walk(code.tree):
        if isinstance(node, ast.Call) and name_of(node.func).startswith("BatchNorm"):
            for keyword in node.keywords:
                given = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                if keyword.arg == "momentum" and isinstance(given, float) and (given < 0.02 or given > 0.8):
                    code.replace(keyword.value, "0.1")


def _activations_that_pass(code: Code, facts: Facts) -> None:
    """Put normalisation and a ReLU in the place of the sigmoids between linear layers, where one line makes them."""
    hits = [n for n in ast.walk(code.tree) if isinstance(n, ast.Call) and name_of(n.func) in ("Sigmoid", "Tanh")]
    if len(hits) == 1 and not any(name_of(n.func) in ("LSTM", "GRU") for n in calls_in(code.tree)):
        around = [n for n in ast.walk(code.tree) if isinstance(n, ast.List | ast.Tuple) and hits[0] in n.elts]
        sizes = [e for n in around for e in n.elts if isinstance(e, ast.Call) and name_of(e.func) == "Linear"]
        if len(sizes) == 1 and len(sizes[0].args) >= 2:
            head = code.text(hits[0].func).rpartition(".")[0]
            dot = f"{head}." if head else ""
            code.replace(hits[0], f"{dot}BatchNorm1d({code.text(sizes[0].args[1])}), {dot}ReLU()")


MAKERS: dict[str, Maker] = {
    "lr-too-high": _lower_rate, "lr-too-low": _raise_rate, "momentum-too-high": _setting("momentum", "0.9"),
    "eps-wrong": _setting("eps", "1e-8"), "weight-decay-too-high": _setting("weight_decay", "1e-4"),
    "clip-too-small": _clip_at_one, "clip-at-wrong-place": _clip_where_it_counts, "exploding-gradient": _clip,
    "scheduler-decays-too-fast": _schedule_per_epoch, "scheduler-misread": _schedule_as_meant,
    "scheduler-not-stepped": _step_schedule, "init-too-large": _default_init, "constant-init": _default_init,
    "init-too-small": _default_init, "saturated-activation": _default_init,
    "sparse-gradient-unsupported": _dense_gradients, "too-much-regularisation": _less_dropout,
    "running-stats-wrong": _more_for_statistics, "vanishing-gradient": _activations_that_pass,
}  # fmt: skip
