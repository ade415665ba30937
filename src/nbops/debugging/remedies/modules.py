"""Patches of the model's class and of its precision: registration, names, dropout, tuples, types."""

from __future__ import annotations

import ast
import re

from nbops.debugging.remedies.facts import Facts, Maker
from nbops.debugging.remedies.looking import rows_of
from nbops.debugging.source import Code, name_of


def _full_precision(code: Code, facts: Facts) -> None:
    for name in ("bfloat16", "half"):
        for statement, call in code.calls(name):
            if isinstance(call.func, ast.Attribute) and not call.args and isinstance(statement, ast.Assign | ast.Expr):
                code.replace(call, code.text(call.func.value))
    for _, call in code.calls("to"):
        if call.args and code.text(call.args[0]) in ("torch.bfloat16", "torch.float16", "torch.half"):
            code.replace(call.args[0], "torch.float32")


def _dropout_by_mode(code: Code, facts: Facts) -> None:
    for _, call in code.calls("dropout"):
        if not any(k.arg == "training" for k in call.keywords) and len(call.args) < 3:
            last = [*call.args, *(k.value for k in call.keywords)][-1]
            code.wrap(last, "", ", training=self.training")
    for node in ast.walk(code.tree):  # nn.Dropout(0.5)(x)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Call) and name_of(node.func.func) == "Dropout":
            given = [code.text(a) for a in node.args]
            rate = [code.text(a) for a in [*node.func.args, *(k.value for k in node.func.keywords)]]
            if len(given) == 1 and len(rate) <= 1:
                share = rate[0] if rate else "0.5"
                code.replace(node, f"torch.nn.functional.dropout({given[0]}, {share}, training=self.training)")


def _registered(code: Code, facts: Facts) -> None:
    """Put a list or dict of layers that an attribute holds into a ModuleList or a ModuleDict."""
    for statement in _assigned(code, facts):
        value = statement.value
        kind = {ast.List: "ModuleList", ast.ListComp: "ModuleList", ast.Dict: "ModuleDict", ast.Tuple: "ModuleList",
                ast.DictComp: "ModuleDict"}.get(type(value))  # fmt: skip
        if kind is not None:
            is_bare = isinstance(value, ast.Tuple) and not code.text(value).startswith("(")
            code.wrap(value, f"nn.{kind}(" + ("[" if is_bare else ""), "])" if is_bare else ")")


def _parameter(code: Code, facts: Facts) -> None:
    for statement in _assigned(code, facts):
        value = statement.value
        if not isinstance(value, ast.Call):
            continue
        grads = [k for k in value.keywords if k.arg == "requires_grad"]
        text = code.text(value)
        if grads:
            text = re.sub(r",?\s*requires_grad\s*=\s*True", "", text)
        code.replace(value, f"nn.Parameter({text})")


def _assigned(code: Code, facts: Facts) -> list[ast.Assign]:
    """Return the assignments to an attribute on the line that was named."""
    rows = rows_of(code, facts.line)
    return [s for s in code.statements() if isinstance(s, ast.Assign) and len(rows) == 1 and s.lineno == rows[0]
            and isinstance(s.targets[0], ast.Attribute)]  # fmt: skip


def _constructor(code: Code, facts: Facts) -> None:
    """Call the constructor of nn.Module first, or give a misspelt one its name."""
    for node in ast.walk(code.tree):
        if not isinstance(node, ast.FunctionDef) or rows_of(code, facts.line) != [node.lineno]:
            continue
        if node.name != "__init__" and "init" in node.name:
            row = code.source.split("\n")[node.lineno - 1]
            _row(code, node, row.strip().replace(node.name, "__init__", 1))
        elif node.name == "__init__" and "super()" not in "".join(map(code.text, node.body)):
            code.befores.append((node.body[0], "super().__init__()"))


def _row(code: Code, node: ast.stmt, text: str) -> None:
    """Replace the first row of a definition."""
    rows = code.source.split("\n")
    old = rows[node.lineno - 1]
    start = len(old.encode()) - len(old.lstrip().encode())
    span = ast.Pass(lineno=node.lineno, col_offset=start, end_lineno=node.lineno, end_col_offset=len(old.encode()))
    code.replace(span, text)


def _renamed(code: Code, facts: Facts) -> None:
    """Give a method of the model that hides one of nn.Module another name, where it is made and where it is called."""
    for node in ast.walk(code.tree):
        if not isinstance(node, ast.FunctionDef) or rows_of(code, facts.line) != [node.lineno]:
            continue
        others = {"train": "fit", "eval": "evaluate"}
        new = others.get(node.name)
        taken = any(isinstance(n, ast.FunctionDef) and n.name == new for n in ast.walk(code.tree))
        parameters = [*node.args.args, *node.args.kwonlyargs]
        if new is None or taken or len(parameters) < 2:
            return
        row = code.source.split("\n")[node.lineno - 1].strip()
        _row(code, node, row.replace(f"def {node.name}(", f"def {new}(", 1))
        for _, call in code.calls(node.name):
            is_own = isinstance(call.func, ast.Attribute) and (call.args or call.keywords)
            is_mode = len(call.args) == 1 and isinstance(call.args[0], ast.Constant)
            if is_own and not is_mode and isinstance(call.func, ast.Attribute):
                code.replace(call.func, f"{code.text(call.func.value)}.{new}")
        _switched(code, node)


def _switched(code: Code, method: ast.FunctionDef) -> None:
    """Let the class of a method switch the whole model, where it sets ``self.training`` by hand."""
    for owner in [c for c in ast.walk(code.tree) if isinstance(c, ast.ClassDef) and method in c.body]:
        for node in ast.walk(owner):
            if isinstance(node, ast.Assign) and code.text(node.targets[0]) == "self.training":
                value = code.text(node.value)
                if value in ("True", "False"):
                    code.replace(node, "self.train()" if value == "True" else "self.eval()")


def _unfrozen(code: Code, facts: Facts) -> None:
    for _, call in code.calls("from_pretrained"):
        if not any(k.arg == "freeze" for k in call.keywords) and len(call.args) == 1 and "Embedding" in code.text(call):
            code.wrap(call.args[0], "", ", freeze=False")
            return
    found = [(s, c) for s, c in code.calls("requires_grad_") if isinstance(s, ast.Expr) and c.args
             and code.text(c.args[0]) == "False"]  # fmt: skip
    if len(found) == 1:
        code.drops.append(found[0][0])


MAKERS: dict[str, Maker] = {
    "updates-below-precision": _full_precision, "dropout-always-on": _dropout_by_mode,
    "modules-not-registered": _registered, "parameter-not-registered": _parameter,
    "constructor-not-run": _constructor, "train-method-overridden": _renamed, "frozen-by-accident": _unfrozen,
}  # fmt: skip
