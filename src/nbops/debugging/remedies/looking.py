"""Finds in a source what makers of patches ask for: losses and their calls, the loop over batches, a named line."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from nbops.debugging.source import Code, model_of, name_of

# losses of torch.nn.functional; those of torch.nn are the names that end with Loss
FUNCTIONS = (
    "cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss", "l1_loss",
    "smooth_l1_loss", "huber_loss", "kl_div", "poisson_nll_loss",
)  # fmt: skip
SQUARED = ("mse_loss", "MSELoss")


def rows_of(code: Code, line: str) -> list[int]:
    """Return the numbers of the rows that read like `line`."""
    wanted = line.strip()
    return [i for i, row in enumerate(code.source.split("\n"), 1) if wanted and row.strip() == wanted]


def nodes_on(code: Code, line: str) -> Iterator[ast.expr]:
    """Iterate over the expressions that begin on the only row that reads like `line`, outer ones first."""
    rows = rows_of(code, line)
    if len(rows) == 1:
        found = [n for n in ast.walk(code.tree) if isinstance(n, ast.expr) and n.lineno == rows[0]]
        yield from sorted(found, key=lambda n: (n.col_offset, -(n.end_col_offset or 0)))


def parents(code: Code) -> dict[ast.AST, ast.AST]:
    """Return the node around each node."""
    return {child: node for node in ast.walk(code.tree) for child in ast.iter_child_nodes(node)}


def innermost_loop(code: Code) -> ast.For | ast.While | None:
    """Return the loop right around the first backward pass."""
    backward = [call for _, call in code.calls("backward")]
    around = parents(code)
    node: ast.AST | None = backward[0] if backward else None
    while node is not None and not isinstance(node, ast.For | ast.While):
        node = around.get(node)
    return node


def batch_names(loop: ast.For | ast.While | None) -> tuple[str, str] | None:
    """Return the two names of ``for x, y in loader``, also inside ``enumerate``."""
    if not isinstance(loop, ast.For):
        return None
    target: ast.expr = loop.target
    if isinstance(loop.iter, ast.Call) and name_of(loop.iter.func) == "enumerate" and isinstance(target, ast.Tuple):
        target = target.elts[-1]
    names = [n.id for n in target.elts if isinstance(n, ast.Name)] if isinstance(target, ast.Tuple) else []
    return (names[0], names[1]) if isinstance(target, ast.Tuple) and len(names) == len(target.elts) == 2 else None


def criteria(code: Code) -> dict[str, str]:
    """Return the variables that hold a loss of torch.nn, with its class."""
    found: dict[str, str] = {}
    for node in ast.walk(code.tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            kind = name_of(node.value.func)
            if kind.endswith("Loss") and kind != "Loss":
                found |= {name_of(target): kind for target in node.targets}
    return found


def loss_calls(code: Code) -> list[tuple[ast.stmt, ast.Call, str]]:
    """Return the calls of a loss with an output and a target: the statement, the call, the loss's name."""
    known = criteria(code)
    found = []
    for statement in code.statements():
        for node in _own_calls(statement):
            name = name_of(node.func)
            kind = name if name in FUNCTIONS else known.get(name, "")
            if isinstance(node.func, ast.Call) and name_of(node.func.func).endswith("Loss"):
                kind = name_of(node.func.func)  # nn.MSELoss()(output, target)
            if kind and len(node.args) >= 2:
                found.append((statement, node, kind))
    return found


def trained_loss(code: Code) -> tuple[ast.stmt, ast.Call, str] | None:
    """Return the only loss that is trained with: that of the loop around the backward pass."""
    calls = loss_calls(code)
    loop = innermost_loop(code)
    if loop is not None:
        inside = {id(node) for node in ast.walk(loop)}
        calls = [one for one in calls if id(one[0]) in inside] or calls
    return calls[0] if len(calls) == 1 else None


def _own_calls(statement: ast.stmt) -> Iterator[ast.Call]:
    todo: list[ast.AST] = [child for child in ast.iter_child_nodes(statement) if not isinstance(child, ast.stmt)]
    while todo:
        node = todo.pop(0)
        if isinstance(node, ast.Call):
            yield node
        todo += [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.stmt)]


def argument(call: ast.Call, name: str, position: int) -> ast.expr | None:
    """Return an argument by its name, else by its position."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    return call.args[position] if len(call.args) > position else None


def is_simple(node: ast.expr) -> bool:
    """Return whether a method may be called on an expression without parentheses around it."""
    return isinstance(node, ast.Name | ast.Attribute | ast.Call | ast.Subscript)


def with_call(code: Code, node: ast.expr, method: str) -> None:
    """Write a method's call behind an expression: ``.float()``."""
    if is_simple(node):
        code.wrap(node, "", method)
    else:
        code.wrap(node, "(", f"){method}")


def add_keyword(code: Code, call: ast.Call, text: str) -> None:
    """Write one more keyword into a call, behind its last argument."""
    last = max([*call.args, *(k.value for k in call.keywords)], key=lambda n: (n.lineno, n.col_offset), default=None)
    if last is not None:
        code.wrap(last, "", f", {text}")
    else:
        code.replace(call, f"{code.text(call.func)}({text})")


def model_name(code: Code, given: str) -> str:
    """Return the variable of the model: as the finding has it, else the one whose parameters the optimizer holds."""
    return given if given.isidentifier() else model_of(code)


def sets_of(code: Code, name: str) -> list[ast.Assign]:
    """Return the plain assignments to a variable."""
    return [s for s in code.statements() if isinstance(s, ast.Assign)
            and any(isinstance(t, ast.Name) and t.id == name for t in s.targets)]  # fmt: skip
