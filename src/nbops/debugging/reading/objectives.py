"""Rules about what is minimised: policy gradients, returns, bootstrapped targets, teachers, terms of a sum."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from torch.optim import Optimizer

from nbops.debugging.preflight.found import Found
from nbops.debugging.reading.counting import names_in
from nbops.debugging.reading.facts import Act, Reading, Round
from nbops.debugging.reading.noting import noted, patch, readings
from nbops.debugging.reading.scopes import Scope
from nbops.debugging.source import name_of

_LOG_PROB = re.compile(r"(^|_)(log_?probs?|log_?pi|logp|log_pa|logps?|nlogp)(_|\d|$)", re.I)
_GAIN = re.compile(
    r"(^|_)(returns?|rets?|adv|advs|advantages?|rewards?|deltas?|gains?|rtg|r2g|Gt?|R|td_errors?)(_|\d|$)"
)
REWARD = re.compile(r"(^|_)(rewards?|rew|rews|r|rs)(_|\d|$)", re.I)


# ---- signs -----------------------------------------------------------------------------------------------------------


@readings.register("policy-gradient-upside-down")
def policy_gradient_upside_down(reading: Reading) -> Iterator[Found]:
    """Find policy gradients that make good actions rarer.

    What it measures
        What the backward pass begins at: a product of log-probabilities and returns (or rewards, advantages) that is
        added with a plus sign, under an optimizer that minimises.
    Why it matters
        The optimizer lowers it: what pays is done less often.
    When it is wrong
        Returns that are costs, under the name of a return.
    Fix
        ``loss = -(log_probs * returns).sum()``.
    References
        Williams 1992, REINFORCE.
    """
    for one in reading.rounds:
        scope = one.scope
        if _maximises(scope, one):
            continue
        for act in one.of("backward"):
            start = differentiated(act)
            for sign, term in terms(scope, start, 1, act.node):
                product = _policy_product(scope, term)
                if sign < 0 or product is None:
                    continue
                line = scope.statement(term)
                yield noted(
                    scope, line, "loss-sign", layer="loss", confidence=0.96,
                    patch=patch(scope, swap=[(term, f"-({scope.text(term)})" if isinstance(term, ast.BinOp) else
                                              f"-{scope.text(term)}")]),
                    what=f"{scope.text(term)[:80]} is minimised, a product of log-probabilities and returns",
                    why="Minimising it makes what pays rarer.", fix="Put a minus before it.",
                    expected="-(log_probs * returns).sum()", got=scope.text(term)[:80],
                )  # fmt: skip
                return


def _maximises(scope: Scope, one: Round) -> bool:
    known = [scope.value(ast.parse(a.on, mode="eval").body) for a in one.of("step") if a.on]
    given = [k for c in scope.calls() for k in c.keywords if k.arg == "maximize"]
    return bool(given) or any(isinstance(o, Optimizer) and o.defaults.get("maximize") for o in known)


def differentiated(act: Act) -> ast.expr | None:
    owner = act.node.func.value if isinstance(act.node.func, ast.Attribute) else None
    if isinstance(owner, ast.Call) and name_of(owner.func) == "scale" and owner.args:
        return owner.args[0]
    return owner if owner is not None and name_of(owner) not in ("accelerator", "fabric", "autograd", "self") else (
        act.node.args[0] if act.node.args else None)  # fmt: skip


def terms(
    scope: Scope, node: ast.expr | None, sign: int, at: ast.AST, depth: int = 6
) -> Iterator[tuple[int, ast.expr]]:  # fmt: skip
    """Iterate over the terms of a sum with their signs, through the names that stand for them."""
    if node is None or depth <= 0:
        return
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield from terms(scope, node.operand, -sign, at, depth - 1)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        yield from terms(scope, node.left, sign, at, depth - 1)
        yield from terms(scope, node.right, sign if isinstance(node.op, ast.Add) else -sign, at, depth - 1)
    elif isinstance(node, ast.Name) and len(bound := _bound_once(scope, node.id, at)) == 1:
        yield from terms(scope, bound[0].value, sign, bound[0].statement, depth - 1)
    elif (kept := _appended(scope, node, at)) is not None:
        yield from terms(scope, kept, sign, at, depth - 1)
    elif _is_sum(node):
        inner = node.args[0] if node.args else node.func.value  # type: ignore[attr-defined]
        found = list(terms(scope, inner, sign, at, depth - 1))
        is_whole = _appended(scope, inner, at) is None and all(s == sign for s, _ in found)
        yield from [(sign, node)] if is_whole else found
    else:
        yield sign, node


def _bound_once(scope: Scope, name: str, at: ast.AST) -> list:  # type: ignore[type-arg]
    known = [b for b in scope.bindings.get(name, []) if b.how == "assign" and not isinstance(b.value, ast.Constant)]
    above = [b for b in known if b.statement.lineno <= getattr(at, "lineno", 0)]
    return above[-1:] if len(scope.bindings.get(name, [])) == len(known) else []


def _appended(scope: Scope, node: ast.expr, at: ast.AST) -> ast.expr | None:
    """Return what a loop appends to the list that an expression joins (``torch.cat(losses)``), if that is one thing."""
    inner = (
        node.args[0] if isinstance(node, ast.Call) and name_of(node.func) in ("cat", "stack") and node.args else node
    )
    name = scope.expression(inner)
    if not name or not any(isinstance(b.value, ast.List) for b in scope.bindings.get(name, [])):
        return None
    added = [c.args[0] for c in scope.calls("append") if c.args and c.lineno <= getattr(at, "lineno", 0)
             and isinstance(c.func, ast.Attribute) and scope.expression(c.func.value) == name]  # fmt: skip
    return added[0] if len(added) == 1 else None


def _is_sum(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Call) and name_of(node.func) in ("sum", "mean")):
        return False
    is_function = isinstance(node.func, ast.Name) or name_of(getattr(node.func, "value", node)) in ("torch", "np")
    return bool(node.args) if is_function else isinstance(node.func, ast.Attribute) and not node.args


def _policy_product(scope: Scope, term: ast.expr) -> ast.BinOp | None:
    """Return the product of log-probabilities and gains in a term; None if there is none, or a minus in it."""
    if any(isinstance(n, ast.USub) for n in ast.walk(term)):
        return None
    aliases = dict(_zipped(scope, term))
    for node in ast.walk(term):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            sides = [aliases.get(scope.expression(side), side) for side in (node.left, node.right)]
            for mine, other in (sides, sides[::-1]):
                if _is_log_prob(scope, mine) and _is_gain(scope, other):
                    return node
    return None


def _zipped(scope: Scope, term: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """Iterate over the names of lists that are gone through together, each with its list."""
    loops: list[ast.For | ast.comprehension] = [n for n in ast.walk(term) if isinstance(n, ast.comprehension)]
    loops += [n for n in scope.loops(term) if isinstance(n, ast.For)] if term in scope.above else []
    for loop in loops:
        is_zip = (
            isinstance(loop.iter, ast.Call) and name_of(loop.iter.func) == "zip" and isinstance(loop.target, ast.Tuple)
        )
        if is_zip and isinstance(loop.iter, ast.Call) and isinstance(loop.target, ast.Tuple):
            for one, values in zip(loop.target.elts, loop.iter.args, strict=False):
                yield scope.expression(one), values


def _is_log_prob(scope: Scope, node: ast.AST, depth: int = 4) -> bool:
    """Return whether an expression is log-probabilities with their own sign."""
    if depth <= 0 or any(isinstance(n, ast.USub) for n in ast.walk(node)):
        return False
    if any(isinstance(n, ast.Call) and name_of(n.func) == "log_prob" for n in ast.walk(node)):
        return True
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and _LOG_PROB.search(n.id)}
    for name in names:
        values = [b.value for b in scope.bindings.get(name, []) if not isinstance(b.value, ast.List | ast.Constant)]
        added = [c.args[0] for c in scope.calls("append") if c.args and isinstance(c.func, ast.Attribute)
                 and scope.expression(c.func.value) == name]  # fmt: skip
        if any(isinstance(n, ast.USub) for v in [*values, *added] for n in ast.walk(v)):
            return False
        if any("nll" in scope.text(v) or "cross_entropy" in scope.text(v).lower() for v in [*values, *added]):
            return False
    return bool(names)


def _is_gain(scope: Scope, node: ast.AST) -> bool:
    if any(isinstance(n, ast.USub) for n in ast.walk(node)) or any(
        "cost" in n or "loss" in n for n in names_in(scope, node)
    ):
        return False
    return any(_GAIN.search(n.rpartition(".")[2]) for n in names_in(scope, node))


# ---- returns and actions ---------------------------------------------------------------------------------------------


@readings.register("returns-of-the-past")
def returns_of_the_past(reading: Reading) -> Iterator[Found]:
    """Find returns that are summed over the rewards before a step, and not over those after it.

    What it measures
        ``sum(rewards[: t + 1])`` in a list over t, and discounted sums ``R = r + gamma * R`` that run forward through
        the rewards.
    Why it matters
        An action is paid for what came before it, which it cannot have caused.
    When it is wrong
        Curves of what was earned so far, under the name of a return.
    Fix
        ``sum(rewards[t:])``, or run backward: ``for r in reversed(rewards)``.
    References
        Sutton and Barto, section 3.3.
    """
    for scope in reading.scopes:
        for node in scope.nodes:
            wrong = _past(scope, node)
            if wrong is None or not reading.rounds:
                continue
            swap: list[tuple[ast.AST, str]] = []
            if isinstance(wrong, ast.Subscript) and isinstance(wrong.slice, ast.Slice):
                index = next((n for n in ast.walk(wrong.slice) if isinstance(n, ast.Name)), None)
                swap = [(wrong, f"{scope.text(wrong.value)}[{scope.text(index)}:]")] if index is not None else []
            elif isinstance(wrong, ast.For) and any(
                scope.inside(c, wrong) for c in scope.calls("insert", "appendleft")
            ):
                swap = [(wrong.iter, f"reversed({scope.text(wrong.iter)})")]
            yield noted(
                scope, wrong, "returns-wrong", layer="loss", confidence=0.9, patch=patch(scope, swap=swap),
                what="returns are summed over the rewards up to a step, not from it on",
                why="An action is paid for what came before it.", expected="sum(rewards[t:])",
                got=scope.text(wrong).split("\n")[0][:80],
            )  # fmt: skip
            return


def _past(scope: Scope, node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.Call) and name_of(node.func) == "sum" and node.args:
        inner = node.args[0]
        is_head = isinstance(inner, ast.Subscript) and isinstance(inner.slice, ast.Slice) and inner.slice.lower is None
        if is_head and isinstance(inner, ast.Subscript) and REWARD.search(scope.expression(inner.value)):
            upper = inner.slice.upper if isinstance(inner.slice, ast.Slice) else None
            loops = [n for n in scope.around(node) if isinstance(n, ast.ListComp | ast.GeneratorExp)]
            targets = {scope.expression(g.target) for c in loops for g in c.generators}
            into = scope.statement(node)
            named = [scope.expression(t) for t in getattr(into, "targets", [])]
            is_return = any(_GAIN.search(n.rpartition(".")[2]) for n in named)
            return inner if upper is not None and targets & names_in(scope, upper) and is_return else None
    if isinstance(node, ast.For) and isinstance(node.iter, ast.Name) and REWARD.search(node.iter.id):
        return node if _runs_forward(scope, node) else None
    return None


def _runs_forward(scope: Scope, loop: ast.For) -> bool:
    """Return whether a loop over rewards computes ``R = r + gamma * R`` in the order of time, and keeps each R."""
    reward = scope.expression(loop.target)
    for statement in loop.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.BinOp):
            total = scope.expression(statement.targets[0])
            names = names_in(scope, statement.value)
            has_factor = any(isinstance(n, ast.BinOp) and isinstance(n.op, ast.Mult) and total in names_in(scope, n)
                             for n in ast.walk(statement.value))  # fmt: skip
            kept = [c for c in scope.calls("append", "insert") if scope.inside(c, loop) and total in names_in(scope, c)]
            bound = scope.bound(scope.expression(loop.iter), before=loop)
            is_turned = bound is not None and (
                "reversed" in scope.text(bound.value) or "::-1" in scope.text(bound.value)
            )
            turns = any("::-1" in scope.text(c) for c in scope.calls()) or any(
                True for _ in scope.calls("reverse", "flip", "reversed"))  # fmt: skip
            if {total, reward} <= names and has_factor and kept and not is_turned and not turns:
                return True
    return False


@readings.register("actions-never-tried")
def actions_never_tried(reading: Reading) -> Iterator[Found]:
    """Find policy gradients whose actions are the likeliest ones, and never drawn.

    What it measures
        An action that is an argmax of what the policy gives, whose log-probability is then trained on, with no other
        way to choose it.
    Why it matters
        What was never tried is never learned: the policy becomes surer of what it did first.
    When it is wrong
        Imitation of given actions.
    Fix
        ``action = distribution.sample()``.
    References
        Williams 1992, REINFORCE.
    """
    for scope in reading.scopes:
        for call in scope.calls("log_prob"):
            name = scope.expression(call.args[0]) if call.args else ""
            bindings = scope.bindings.get(name, []) if name else []
            if len(bindings) != 1 or bindings[0].how != "assign" or not reading.rounds:
                continue
            value = bindings[0].value
            chosen = next((n for n in ast.walk(value) if isinstance(n, ast.Call) and name_of(n.func) == "argmax"), None)
            others = {name_of(n.func) for n in ast.walk(value) if isinstance(n, ast.Call)}
            if chosen is None or others & {"sample", "rsample", "multinomial", "where", "randint", "rand"}:
                continue
            owner = call.func.value if isinstance(call.func, ast.Attribute) else call
            yield noted(
                scope, bindings[0].statement, "exploration-missing", layer="model", confidence=0.96,
                patch=patch(scope, swap=[(value, f"{scope.text(owner)}.sample()")]),
                what=f"'{name}' is always the likeliest action, and is trained on",
                why="Actions that were never tried are never learned.", expected=f"{scope.text(owner)}.sample()",
                got=scope.text(value),
            )  # fmt: skip
            return
