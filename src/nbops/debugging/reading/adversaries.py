"""Rules about adversaries: what a critic's loss moves, and which labels the two losses take."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from torch import nn
from torch.optim import Optimizer

from nbops.debugging.preflight.found import Found
from nbops.debugging.reading.facts import Act, Reading
from nbops.debugging.reading.kinds import kind
from nbops.debugging.reading.noting import noted, patch, readings
from nbops.debugging.reading.objectives import differentiated, terms
from nbops.debugging.reading.scopes import Scope
from nbops.debugging.reading.targets import forwards
from nbops.debugging.source import name_of


@readings.register("critic-moves-the-generator")
def critic_moves_the_generator(reading: Reading) -> Iterator[Found]:
    """Find optimizers of one network that also step another one, through a loss that is not detached from it.

    What it measures
        Two optimizers of one round that hold common parameters, and whether the loss before the wider one's step
        reaches those parameters.
    Why it matters
        A generator that helps its critic is never fooled: each loss undoes the other.
    When it is wrong
        Two losses for one network under two optimizers on purpose.
    Fix
        ``critic(fake.detach())``, and each optimizer with the parameters of its own network.
    References
        torch's tutorial on DCGAN.
    """
    for one in reading.rounds:
        scope = one.scope
        held = {a.on: ids for a in one.of("step") if (ids := _held(scope, a))}
        for act in one.of("step"):
            before = [b for b in one.of("backward") if b.node.lineno <= act.node.lineno]
            mine = held.get(act.on, set())
            common = {p for name, ids in held.items() if name != act.on and ids != mine for p in ids & mine}
            if not common or not before or not common < mine:
                continue
            loss = differentiated(before[-1])
            for call, given in _reached(scope, loss) if loss is not None else ():
                model = scope.value(call.func)
                inner = given if given is not None else call
                if isinstance(model, nn.Module) and common & {id(p) for p in model.parameters()}:
                    yield noted(
                        scope, inner, "detach-missing", "parameter-twice-in-optimizer", layer="optimizer",
                        confidence=0.96,
                        patch=patch(scope, swap=[(inner, f"{scope.text(inner)}.detach()")]),
                        what=f"'{act.on}' also steps '{scope.expression(call.func)}', which another optimizer trains",
                        why="Its loss is not detached from that network, so each loss moves what belongs to the other.",
                        fix=f"Write {scope.text(inner)}.detach() in that loss.",
                        expected=f"{scope.text(inner)}.detach()",
                        got=scope.text(inner),
                    )  # fmt: skip
                    return


def _held(scope: Scope, act: Act) -> set[int]:
    optimizer = scope.value(ast.parse(act.on, mode="eval").body) if act.on else None
    return {id(p) for g in optimizer.param_groups for p in g["params"]} if isinstance(optimizer, Optimizer) else set()


def _reached(
    scope: Scope, node: ast.AST, given: ast.expr | None = None, depth: int = 8
) -> Iterator[tuple[ast.Call, ast.expr | None]]:  # fmt: skip
    """Iterate over the calls of models that a loss reaches with a graph, and the name through which it does."""
    if depth <= 0 or (isinstance(node, ast.Call) and name_of(node.func) in ("detach", "item")):
        return
    if isinstance(node, ast.Name):
        bound = scope.bound(node.id, before=node)
        if bound is not None and bound.how == "assign" and not scope.is_without_gradients(bound.statement):
            yield from _reached(scope, bound.value, node, depth - 1)
        return
    if isinstance(node, ast.Call) and kind(scope, node.func) == "model":
        yield node, given
    for child in ast.iter_child_nodes(node):
        yield from _reached(scope, child, given if isinstance(node, ast.Call | ast.Attribute) else None, depth)


@readings.register("adversary-with-wrong-label")
def adversary_with_wrong_label(reading: Reading) -> Iterator[Found]:
    """Find generators that minimise the very term of the critic's loss that they are to spoil.

    What it measures
        Two losses of one round with two optimizers: a term of what the critic says of the generator's samples that
        stands in both with the same sign and the same label.
    Why it matters
        The generator learns to be told apart.
    When it is wrong
        Not known.
    Fix
        The generator's loss takes the label of the real ones.
    References
        Goodfellow et al. 2014.
    """
    for one in reading.rounds:
        scope, passes = one.scope, one.of("backward")
        if len(passes) != 2 or len({a.on for a in one.of("step")}) < 2:
            continue
        sides = [list(_answers(scope, act)) for act in passes]
        theirs = [answer[0] for answer in sides[0]]
        for answer, term in sides[1]:
            if answer not in theirs or "(fake)" not in answer[1] or len(sides[0]) <= len(sides[1]):
                continue
            labels = [t.args[1] for _, t in sides[0] if isinstance(t, ast.Call) and len(t.args) > 1]
            mine = term.args[1] if isinstance(term, ast.Call) and len(term.args) > 1 else None
            other = next((n for n in labels if mine is not None and scope.text(n) != scope.text(mine)), None)
            yield noted(
                scope, term, "adversarial-labels-wrong", "loss-sign", layer="loss", confidence=0.96,
                patch=patch(scope, swap=[(mine, scope.text(other))]) if mine is not None and other is not None else "",
                what=f"both losses hold {scope.text(term)[:80]} with the same sign",
                why="The generator learns to be told apart from the real ones.",
                expected="the label of the real ones",
                got=scope.text(mine) if mine is not None else scope.text(term)[:40],
            )  # fmt: skip
            return


def _answers(scope: Scope, act: Act) -> Iterator[tuple[tuple[int, str], ast.expr]]:
    """Iterate over the terms of a loss about one network's answers to another's samples, with that made anonymous."""
    for sign, term in terms(scope, differentiated(act), 1, act.node):
        calls = [c for c in ast.walk(term) if isinstance(c, ast.Call) and kind(scope, c.func) == "model" and c.args]
        outer = calls[0] if calls else None
        if outer is None:
            continue
        whose = scope.expression(outer.func)
        makers = {scope.expression(c.func) for c in forwards(scope, outer.args[0])} - {whose}
        text, inner = scope.text(term), scope.text(outer)
        yield (sign, text.replace(inner, f"{whose}({'fake' if makers else 'real'})")), term
