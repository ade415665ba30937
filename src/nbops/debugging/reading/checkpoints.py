"""Rules about kept weights: copies that are none, the wrong end of a comparison, keys that do not fit."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from nbops.debugging.preflight.found import Found
from nbops.debugging.reading.counting import tendency
from nbops.debugging.reading.facts import Reading
from nbops.debugging.reading.kinds import kind
from nbops.debugging.reading.noting import noted, patch, readings
from nbops.debugging.reading.scopes import Binding, Scope
from nbops.debugging.source import name_of

_KEEPING = ("state_dict", "save", "deepcopy", "save_pretrained", "save_checkpoint", "save_model")
_FEW = 0.5  # of the model's keys


@readings.register("best-state-not-copied")
def best_state_not_copied(reading: Reading) -> Iterator[Found]:
    """Find best weights that are kept without a copy, and train on.

    What it measures
        A ``model.state_dict()``, or the model itself, that is bound to a name inside the loop that trains, under an
        ``if``, and is loaded, saved or used after that loop.
    Why it matters
        ``state_dict()`` holds the weights themselves: what is loaded at the end is the last state, not the best.
    When it is wrong
        Not known.
    Fix
        ``copy.deepcopy(model.state_dict())``.
    References
        The note on "best_model_state = model.state_dict()" in torch's tutorial on saving models.
    """
    for scope in reading.scopes:
        for name, bindings in scope.bindings.items():
            for binding in bindings:
                is_chosen = any(isinstance(n, ast.If) for n in scope.around(binding.statement))
                kept = _kept(scope, name, binding) if is_chosen else None
                loop = _training_loop(reading, scope, binding.statement) if kept is not None else None
                is_inside = kept is not None and loop is None and _is_kept_by_helper(reading, scope, name)
                if kept is None or (not is_inside and (loop is None or not _is_used_after(scope, name, loop))):
                    continue
                text = scope.text(kept)
                copy = _copied(kept, text)
                is_model = not isinstance(kept, ast.Call | ast.DictComp)
                has_copy = not is_model or loop is None or "copy" in scope.world or "copy" in scope.variables
                head = [(loop, "import copy")] if loop is not None and not has_copy else []
                yield noted(
                    scope, binding.statement, "checkpoint-aliases-weights", layer="model",
                    patch=patch(scope, swap=[(kept, copy)], before=head),
                    what=f"'{name}' keeps {text} without a copy, and the training goes on",
                    why="It shares its memory with the weights: at the end it holds the last state, not the best.",
                    fix=f"Keep a copy: {copy}.", expected=copy, got=text,
                )  # fmt: skip
                break


def _kept(scope: Scope, name: str, binding: Binding) -> ast.expr | None:
    """Return the expression that names living weights: ``net.state_dict()``, also in a dict, or the model itself."""
    if binding.how != "assign":
        return None
    value = binding.value
    for one in value.values if isinstance(value, ast.Dict) else [_shallow(value)]:
        if _is_state(scope, one):
            return one
    if isinstance(value, ast.DictComp) and _is_shallow(scope, value):
        return value
    is_model = isinstance(value, ast.Name | ast.Attribute) and kind(scope, value) == "model"
    is_best = "best" in name.lower() and any(isinstance(n, ast.If) for n in scope.around(binding.statement))
    return value if is_model and is_best else None


def _copied(kept: ast.expr, text: str) -> str:
    """Return the code of a copy of what is kept."""
    if isinstance(kept, ast.Call):
        return f"{{key: value.clone() for key, value in {text}.items()}}"
    if isinstance(kept, ast.DictComp):
        each = ast.unparse(kept.value)
        return text.replace(f": {each} for ", f": {each}.clone() for ", 1)
    return f"copy.deepcopy({text})"


def _is_state(scope: Scope, node: ast.AST) -> bool:
    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "state_dict"
    return is_call and kind(scope, node.func.value) == "model"  # type: ignore[attr-defined]


def _is_shallow(scope: Scope, made: ast.DictComp) -> bool:
    """Return whether ``{k: v for k, v in net.state_dict().items()}`` keeps the tensors themselves."""
    source, target = made.generators[0].iter, made.generators[0].target
    if not (isinstance(source, ast.Call) and isinstance(source.func, ast.Attribute) and source.func.attr == "items"):
        return False
    owner, each = source.func.value, made.value
    while isinstance(each, ast.Call | ast.Attribute):  # v.detach(), v.data: views of the same memory
        if name_of(each.func if isinstance(each, ast.Call) else each) not in ("detach", "data"):
            return False
        each = each.func.value if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute) else each.value  # type: ignore[union-attr]
    names = {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
    return isinstance(each, ast.Name) and each.id in names and _is_state(scope, owner)


def _shallow(value: ast.expr) -> ast.expr:
    """Return what a shallow copy is made of: ``copy.copy(…)``, ``dict(…)``, ``….copy()``; else the value itself."""
    if isinstance(value, ast.Call) and name_of(value.func) in ("copy", "dict", "OrderedDict"):
        if len(value.args) == 1:
            return value.args[0]
        if not value.args and isinstance(value.func, ast.Attribute):
            return value.func.value
    return value


def _training_loop(reading: Reading, scope: Scope, statement: ast.stmt) -> ast.For | ast.AsyncFor | ast.While | None:
    """Return the outermost loop around a statement that trains."""
    training = [loop for loop in scope.loops(statement) if reading.is_training_loop(scope, loop)]
    return training[-1] if training else None


def _is_kept_by_helper(reading: Reading, scope: Scope, name: str) -> bool:
    """Return whether a method that the training loop calls keeps weights in its object, and they are loaded later."""
    caller, call, last = scope.caller, scope.call, name.rpartition(".")[2]
    if caller is None or call is None or not name.startswith("self."):
        return False
    if not any(reading.is_training_loop(caller, loop) for loop in caller.loops(call)):
        return False
    loaded = [a for one in reading.scopes for c in one.calls("load_state_dict") for a in c.args]
    return any(isinstance(a, ast.Attribute) and a.attr == last for a in loaded)


def _is_used_after(scope: Scope, name: str, loop: ast.AST) -> bool:
    end = getattr(loop, "end_lineno", 0)
    return any(
        isinstance(n, ast.Name | ast.Attribute) and isinstance(n.ctx, ast.Load) and n.lineno > end
        and scope.expression(n) == name
        for n in scope.nodes
    )  # fmt: skip


@readings.register("worst-model-kept")
def worst_model_kept(reading: Reading) -> Iterator[Found]:
    """Find loops that keep the model with the highest loss, or with the lowest accuracy.

    What it measures
        A comparison with the best value so far that leads to keeping the model: whether what is compared is to fall or
        to rise, by its name or by what computes it, against the sign of the comparison.
    Why it matters
        The model that is kept is the worst of all epochs.
    When it is wrong
        Values with names that say the opposite of what they are.
    Fix
        ``<`` for losses and errors, ``>`` for accuracies and scores.
    References
        torch's tutorial on transfer learning keeps the best accuracy.
    """
    for scope in reading.scopes:
        for node in [n for n in scope.nodes if isinstance(n, ast.If)]:
            test = _comparison(node.test)
            if test is None or not _keeps(scope, node):
                continue
            best = _new_best(scope, node, test)
            if best is None:
                continue
            value, record, is_greater = best
            towards = tendency(scope, value)
            if not towards or is_greater == (towards > 0):
                continue
            yield noted(
                scope, node.test, "best-model-by-wrong-mode", layer="metric", confidence=0.96,
                patch=_turned(scope, test, record, is_greater),
                what=f"the model is kept when '{scope.text(value)}' is " + ("higher" if is_greater else "lower"),
                why="It is to " + ("rise" if towards > 0 else "fall") + ", so the worst model is kept for the best.",
                fix="Compare with " + ("<" if is_greater else ">") + ", and begin with "
                + ('float("inf").' if is_greater else '-float("inf").'),
                expected="<" if is_greater else ">", got=">" if is_greater else "<",
            )  # fmt: skip


def _comparison(test: ast.expr) -> ast.Compare | None:
    for one in ast.walk(test):
        if (
            isinstance(one, ast.Compare)
            and len(one.ops) == 1
            and isinstance(one.ops[0], ast.Gt | ast.GtE | ast.Lt | ast.LtE)
        ):
            return one
    return None


def _keeps(scope: Scope, node: ast.If) -> bool:
    return any(
        isinstance(n, ast.Call) and name_of(n.func) in _KEEPING for statement in node.body for n in ast.walk(statement)
    )


def _new_best(scope: Scope, node: ast.If, test: ast.Compare) -> tuple[ast.expr, str, bool] | None:
    """Return the value that is compared, the name of the record that it replaces, and whether it must be higher."""
    sides = (test.left, test.comparators[0])
    is_greater = isinstance(test.ops[0], ast.Gt | ast.GtE)
    for value, record, higher in ((sides[0], sides[1], is_greater), (sides[1], sides[0], not is_greater)):
        name = scope.expression(record)
        for binding in scope.bindings.get(name, []) if name else ():
            is_here = any(one is node for one in scope.around(binding.statement))
            if is_here and scope.text(binding.value) == scope.text(value):
                return value, name, higher
    return None


def _turned(scope: Scope, test: ast.Compare, record: str, is_greater: bool) -> str:
    """Return the patch that turns a comparison and the value that the record begins with."""
    text, sides = scope.text(test), (scope.text(test.left), scope.text(test.comparators[0]))
    sign = next((s for s in (">=", "<=", ">", "<") if s in text[len(sides[0]) : len(text) - len(sides[1])]), "")
    first = scope.bindings[record][0]
    turned = sign.translate(str.maketrans("<>", "><"))
    if not sign or first.statement.lineno >= test.lineno or first.how != "assign":
        return ""
    start = 'float("inf")' if is_greater else '-float("inf")'
    return patch(scope, swap=[(test, f"{sides[0]} {turned} {sides[1]}"), (first.value, start)])


@readings.register("checkpoint-not-loaded")
def checkpoint_not_loaded(reading: Reading) -> Iterator[Found]:
    """Find checkpoints that are loaded with ``strict=False`` although hardly a key fits, and nobody looks.

    What it measures
        The keys of a loaded mapping against those of the model, where both can be seen: fewer than half of the model's
        are in it. Where the mapping cannot be seen, that the answer of ``load_state_dict`` is dropped is a hint.
    Why it matters
        Nothing was loaded, without a word: the model starts from random weights.
    When it is wrong
        A backbone that is a small part of the model, loaded on purpose.
    Fix
        Look at ``missing_keys`` and ``unexpected_keys``, and rename the keys: a prefix ``module.`` is the commonest.
    References
        nn.Module.load_state_dict returns both lists.
    """
    for scope in reading.scopes:
        for call in scope.calls("load_state_dict"):
            strict = next((k.value for k in call.keywords if k.arg == "strict"), None)
            is_loose = isinstance(strict, ast.Constant) and strict.value is False
            if not is_loose or not call.args or not isinstance(scope.above.get(call), ast.Expr):
                continue
            model = scope.value(call.func.value) if isinstance(call.func, ast.Attribute) else None
            state = _state(scope, call.args[0])
            if isinstance(state, Mapping) and isinstance(model, nn.Module):
                yield from _compared(reading, scope, call, model, state)
            else:
                yield noted(
                    scope, call, "checkpoint-not-loaded", layer="model", status="hint", confidence=0.4,
                    what="a checkpoint is loaded with strict=False, and nobody looks at what was missing",
                    why="Keys that do not fit are left out without a word.", fix="Print what load_state_dict returns.",
                )  # fmt: skip


def _state(scope: Scope, node: ast.expr) -> Any:
    """Return the mapping that is loaded, if a name holds it, or if it can be read from its file as weights only."""
    found = scope.value(node)
    if isinstance(found, Mapping):
        return found
    bound = scope.bound(node.id, before=node) if isinstance(node, ast.Name) else None
    loaded = bound.value if bound is not None else node
    if isinstance(loaded, ast.Call) and name_of(loaded.func) == "load" and loaded.args:
        return _from_file(scope.value(loaded.args[0]))
    return None


def _from_file(path: Any) -> Any:
    import os

    import torch

    if not isinstance(path, str | os.PathLike) or not os.path.isfile(path) or os.path.getsize(path) > 4 << 20:
        return None
    try:
        return torch.load(path, map_location="meta", weights_only=True)
    except Exception:  # another format: nothing is known of it
        return None


def _compared(
    reading: Reading, scope: Scope, call: ast.Call, model: nn.Module, state: Mapping[Any, Any]
) -> Iterator[Found]:  # fmt: skip
    wanted = set(model.state_dict())
    given = {key for key, value in state.items() if isinstance(value, Tensor)}
    fitting = wanted & given
    if not wanted or not given or len(fitting) >= _FEW * min(len(wanted), len(given)):
        return
    prefix = next((p for p in _prefixes(given) if {k.removeprefix(p) for k in given} & wanted), "")
    text = scope.text(call.args[0])
    renamed = f'{{key.removeprefix("{prefix}"): value for key, value in {text}.items()}}'
    yield noted(
        scope, call, "checkpoint-not-loaded", layer="model", confidence=0.97,
        patch=patch(scope, swap=[(call.args[0], renamed)]) if prefix else "",
        what=f"{len(fitting)} of the model's {len(wanted)} weights are in the checkpoint",
        why=f"Its keys are {_some(given)}, the model's {_some(wanted)}; strict=False leaves out what does not fit.",
        fix=f"Take the prefix '{prefix}' off the keys." if prefix else "Rename the keys until strict=True loads them.",
        expected=_some(wanted), got=_some(given),
    )  # fmt: skip


def _prefixes(keys: set[str]) -> list[str]:
    first = min(keys)
    heads = first.split(".")
    return [".".join(heads[:n]) + "." for n in range(1, len(heads))]


def _some(keys: set[str]) -> str:
    return ", ".join(sorted(keys)[:2])
