"""Patches of what the model is fed: scale of the inputs, loaders, data sets, samplers."""

from __future__ import annotations

import ast
import math

from nbops.debugging.remedies.facts import Facts, Maker
from nbops.debugging.remedies.looking import add_keyword, argument, innermost_loop, model_name, parents, with_call
from nbops.debugging.source import Code, name_of


def _normalise_inputs(code: Code, facts: Facts) -> None:
    model, optimizers = model_name(code, facts.model), code.optimizers()
    batch = facts.view.batch
    seen = batch.inputs if batch is not None else None
    sizes = seen.sizes if seen is not None and not seen.is_integer else ()
    if not model or not optimizers or len(sizes) not in (2, 4):
        return
    layer = f"nn.BatchNorm{1 if len(sizes) == 2 else 2}d({sizes[1]})"
    code.befores.append((optimizers[0][0], f"{model} = nn.Sequential({layer}, {model})"))


def _loader(code: Code) -> ast.Call | None:
    """Return the call that makes the loader that is trained with: that of the loop, else the first one."""
    made = code.calls("DataLoader")
    loop = innermost_loop(code)
    named = {n.id for n in ast.walk(loop.iter) if isinstance(n, ast.Name)} if isinstance(loop, ast.For) else set()
    for statement, call in made:
        if isinstance(statement, ast.Assign) and named & {name_of(t) for t in statement.targets}:
            return call
    return made[0][1] if len(made) == 1 else None


def _shuffle(code: Code, facts: Facts) -> None:
    call = _loader(code)
    if call is None or any(k.arg in ("sampler", "batch_sampler") for k in call.keywords):
        return
    known = next((k for k in call.keywords if k.arg == "shuffle"), None)
    if known is not None:
        code.replace(known.value, "True")
    else:
        add_keyword(code, call, "shuffle=True")


def _drop_last(code: Code, facts: Facts) -> None:
    call = _loader(code)
    if call is not None and not any(k.arg in ("drop_last", "batch_sampler") for k in call.keywords):
        add_keyword(code, call, "drop_last=True")


def _not_empty(code: Code, facts: Facts) -> None:
    """Make batches of an eighth of the rows, where their number is known; else keep the last, small one."""
    rows = facts.view.empty_loader
    for _, call in code.calls("DataLoader"):
        size = argument(call, "batch_size", 1)
        given = size.value if isinstance(size, ast.Constant) else None
        if size is not None and rows is not None and isinstance(given, int) and given > rows >= 8:
            code.replace(size, str(2 ** int(math.log2(rows / 8))))
            return
    for _, call in code.calls("DataLoader"):
        for keyword in call.keywords:
            if keyword.arg == "drop_last" and code.text(keyword.value) == "True":
                code.replace(keyword.value, "False")
                return


def _together(code: Code, facts: Facts) -> None:
    """Leave labels in the order of their inputs: no shuffle of them alone, one loader for both."""
    alone = [s for s in code.statements() if isinstance(s, ast.Assign) and isinstance(s.value, ast.Subscript)
             and isinstance(s.value.slice, ast.Call) and name_of(s.value.slice.func) in ("randperm", "permutation")
             and name_of(s.value.value) == name_of(s.targets[0]) != ""]  # fmt: skip
    if len(alone) == 1:
        code.drops.append(alone[0])
        return
    for _, call in code.calls("zip"):
        loaders = [a for a in call.args if isinstance(a, ast.Call) and name_of(a.func) == "DataLoader" and a.args]
        shuffled = [a for a in loaders if any(k.arg == "shuffle" and code.text(k.value) == "True" for k in a.keywords)]
        if len(shuffled) == len(loaders) == len(call.args) == 2:
            rest = [code.text(part) for part in [*loaders[0].args[1:], *loaders[0].keywords]]
            both = ", ".join(code.text(a.args[0]) for a in loaders)
            head = f"{code.text(loaders[0].func)}(torch.utils.data.TensorDataset({both})"
            code.replace(call, ", ".join([head, *rest]) + ")")
            return


def _next_batch(code: Code, facts: Facts) -> None:
    """Take another batch at each step: no seed, no fresh iterator, no ``break`` inside the loop."""
    for loop in code.loops():
        for statement, _ in [*code.calls("manual_seed"), *code.calls("seed")]:
            if isinstance(statement, ast.Expr) and loop.lineno < statement.lineno <= (loop.end_lineno or 0):
                code.drops.append(statement)
                return
        for statement, call in code.calls("next"):
            inner = call.args[0] if len(call.args) == 1 else None
            is_fresh = isinstance(inner, ast.Call) and name_of(inner.func) == "iter" and len(inner.args) == 1
            if is_fresh and isinstance(inner, ast.Call) and loop.lineno < statement.lineno <= (loop.end_lineno or 0):
                endless = f"stream = (batch for _ in iter(int, 1) for batch in {code.text(inner.args[0])})"
                code.befores.append((loop, endless))
                code.replace(inner, "stream")
                return
    _no_break(code, facts)


def _no_break(code: Code, facts: Facts) -> None:
    """Take an unconditional ``break`` away that ends the loop over the data after its first batch."""
    loop = innermost_loop(code)
    last = loop.body[-1] if loop is not None else None
    if isinstance(last, ast.Break) and loop is not None and len(loop.body) > 1:
        code.drops.append(last)


def _by_index(code: Code, facts: Facts) -> None:
    """Let ``__getitem__`` use its index where it takes a constant one."""
    for node in ast.walk(code.tree):
        if isinstance(node, ast.FunctionDef) and node.name == "__getitem__" and len(node.args.args) == 2:
            index = node.args.args[1].arg
            subscripts = [n for n in ast.walk(node) if isinstance(n, ast.Subscript)]
            fixed = [n for n in subscripts if isinstance(n.slice, ast.Constant) and isinstance(n.slice.value, int)
                     and isinstance(n.value, ast.Attribute)]  # fmt: skip
            if len(fixed) == 1:
                code.replace(fixed[0].slice, index)
                return


def _whole_range(code: Code, facts: Facts) -> None:
    for _, call in code.calls("WeightedRandomSampler"):
        weights = argument(call, "weights", 0)
        labels = _labels_of_sampler(code, call)
        if isinstance(weights, ast.Name) and labels:
            code.replace(weights, f"{weights.id}[{labels}]")
            return


def _labels_of_sampler(code: Code, call: ast.Call) -> str:
    """Return ``y`` of ``WeightedRandomSampler(weights, len(y))``."""
    count = argument(call, "num_samples", 1)
    if isinstance(count, ast.Call) and name_of(count.func) == "len" and isinstance(count.args[0], ast.Name):
        return count.args[0].id
    return ""


def _part_of_stream(code: Code, facts: Facts) -> None:
    """Let each worker read its own part of a stream, or draw its own random numbers."""
    around = parents(code)
    for node in ast.walk(code.tree):
        if not (isinstance(node, ast.For) and isinstance(node.iter, ast.Call) and name_of(node.iter.func) == "range"):
            continue
        owner = around.get(node)
        if isinstance(owner, ast.FunctionDef) and owner.name == "__iter__" and len(node.iter.args) == 1:
            count = code.text(node.iter.args[0])
            code.befores.append((node, "info = torch.utils.data.get_worker_info()"))
            split = f"range(info.id if info else 0, {count}, info.num_workers if info else 1)"
            code.replace(node.iter, split)
            return
    for statement in code.statements():  # one generator that each worker copies
        value = statement.value if isinstance(statement, ast.Assign) else None
        if isinstance(value, ast.Call) and name_of(value.func) == "default_rng" and isinstance(statement, ast.Assign):
            target = statement.targets[0]
            uses = [n for n in ast.walk(code.tree) if isinstance(n, ast.Attribute) and n.attr == "standard_normal"
                    and code.text(n.value) == code.text(target)]  # fmt: skip
            calls = [n for n in ast.walk(code.tree) if isinstance(n, ast.Call) and n.func in uses]
            if len(calls) == 1 and len(calls[0].args) == 1:
                code.replace(calls[0], f"torch.randn({code.text(calls[0].args[0])}).numpy()")
                return


def _divided(code: Code, facts: Facts) -> None:
    """Divide whole numbers with / rather than //, and scale but once; else normalise what the model is given."""
    found = [n for n in ast.walk(code.tree) if isinstance(n, ast.BinOp) and isinstance(n.op, ast.FloorDiv)
             and isinstance(n.right, ast.Constant) and n.right.value in (255, 256)]  # fmt: skip
    for node in found:
        code.replace(node, f"{code.text(node.left)} / {code.text(node.right)}")
    if not found:
        _normalise_inputs(code, facts)


def _cast(code: Code, facts: Facts) -> None:
    """Convert data of another type where they are made of NumPy or Python values."""
    cast = facts.example.partition("=")[2].strip().removeprefix("x")
    have = facts.got.partition(" ")[0]
    if not cast.startswith(".") or not have:
        return
    for statement in code.statements():
        for target in statement.targets if isinstance(statement, ast.Assign) else ():
            value = statement.value if isinstance(statement, ast.Assign) else None
            pairs = zip(target.elts, value.elts, strict=False) if (
                isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)) else [(target, value)]  # fmt: skip
            for name, made in pairs:
                dtype = str(getattr(facts.values.get(name_of(name)), "dtype", "")).removeprefix("torch.")
                is_new = isinstance(made, ast.Call) and name_of(made.func) in ("from_numpy", "tensor", "as_tensor")
                if is_new and dtype == have and isinstance(made, ast.Call):
                    with_call(code, made, cast)


MAKERS: dict[str, Maker] = {
    "inputs-not-scaled": _normalise_inputs, "inputs-collapsed": _divided, "data-not-shuffled": _shuffle,
    "last-batch-too-small": _drop_last, "loader-empty": _not_empty, "same-batch-always": _next_batch,
    "loop-cut-short": _no_break, "dataset-ignores-index": _by_index, "sampler-wrong": _whole_range,
    "workers-repeat": _part_of_stream, "labels-not-of-inputs": _together, "dtype-mismatch": _cast,
}  # fmt: skip
