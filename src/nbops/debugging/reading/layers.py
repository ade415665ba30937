"""Rules about layers as they were built: with values that mean something else, frozen, or without a nonlinearity."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from nbops.debugging.preflight.found import Found
from nbops.debugging.preflight.structure import hidden_layers, told_of
from nbops.debugging.preflight.subject import unregistered_in
from nbops.debugging.reading.facts import Reading
from nbops.debugging.reading.kinds import kind
from nbops.debugging.reading.noting import noted, patch, readings
from nbops.debugging.reading.scopes import Scope
from nbops.debugging.reading.targets import forwards
from nbops.debugging.source import name_of

_LOW, _HIGH = 0.005, 0.9  # of a momentum of batch normalisation
_MOSTLY_GONE = 0.9
_LINEAR = (nn.Linear, nn.Identity, nn.Flatten, nn.Unflatten)
_SHAPES = ("view", "reshape", "flatten", "squeeze", "unsqueeze", "size", "float", "to", "contiguous", "len")
_MORE_THAN_CALLS = (ast.BinOp, ast.If, ast.IfExp, ast.For, ast.While, ast.Lambda, ast.Dict, ast.ListComp, ast.With)


def writings(reading: Reading) -> list[Scope]:
    """Return the bodies in which layers may be written: those that train, and constructors of the model's classes."""
    return [*reading.scopes, *reading.constructors]


def _line(reading: Reading, module: nn.Module, *keywords: str) -> tuple[Scope, ast.Call] | None:
    """Return the call that made a module, if only one can have: of its class, with one of the keywords."""
    name, found = type(module).__name__, []
    for scope in writings(reading):
        for call in scope.calls(name):
            if not keywords or any(k.arg in keywords for k in call.keywords) or call.args:
                found.append((scope, call))
    return found[0] if len(found) == 1 else None


def _anywhere(reading: Reading, module: nn.Module) -> tuple[Scope, ast.AST] | None:
    return _line(reading, module) or next(((s, s.node) for s in reading.scopes), None)


@readings.register("layers-not-registered")
def layers_not_registered(reading: Reading) -> Iterator[Found]:
    """Find layers that are kept where the module does not see them, where only a watch looks at the model.

    What it measures
        What the check `unregistered-module` of preflight does: modules with parameters in lists, tuples, sets, dicts or
        plain attributes that are in no ``modules()``. Not for a model that preflight looked at.
    Why it matters
        They are missing from ``parameters()``, ``state_dict()``, ``to(device)`` and ``train()``: they are never
        trained, moved or saved.
    When it is wrong
        A helper that is hidden on purpose, and not frozen.
    Fix
        ``nn.ModuleList`` for a list, ``nn.ModuleDict`` for a dict.
    References
        torch.nn.ModuleList.
    """
    model = reading.model
    if model is None or reading.batch is not None or model in told_of:
        return
    hidden = unregistered_in(model)
    held = {id(p) for one in reading.optimizers for group in one.param_groups for p in group["params"]}
    every = {**hidden, **dict(model.named_modules(remove_duplicate=False))}
    yield from hidden_layers(hidden, held, module=every.__getitem__, place_of=lambda path: None)


@readings.register("linear-layers-only")
def linear_layers_only(reading: Reading) -> Iterator[Found]:
    """Find networks whose layers are all linear.

    What it measures
        A model that calls two linear layers or more one after the other, and nothing else but what changes shapes:
        a ``Sequential`` of such, or a ``forward`` that holds such calls and no arithmetic.
    Why it matters
        A product of matrices is one matrix: the network can draw straight borders only.
    When it is wrong
        Studies of deep linear networks, and factorisations of one matrix with a narrow middle: those are left alone.
    Fix
        ``nn.ReLU()`` or ``nn.GELU()`` between the layers.
    References
        Saxe et al. 2014, on deep linear networks.
    """
    model = reading.model
    chain = _in_sequence(model) if isinstance(model, nn.Sequential) else _in_forward(reading)
    layers = [one for one in chain if isinstance(one, nn.Linear)]
    if model is None or len(layers) < 2:
        return
    ends = min(layers[0].in_features, layers[-1].out_features)
    if any(one.out_features < ends for one in layers[:-1]):
        return  # a factorisation, an autoencoder
    place = _line(reading, model) or next(((s, s.node) for s in reading.scopes), None)
    if place is None:
        return
    scope, node = place
    yield noted(
        scope, node, "missing-activation", layer="model", status="warning", confidence=0.9,
        patch=_with_activations(scope, node),
        what=f"the {len(layers)} layers of the model are all linear, with nothing between them",
        why="Their product is one matrix: the model is no more than a single linear layer.",
        expected="a nonlinearity between the layers", got=", ".join(type(m).__name__ for m in chain),
    )  # fmt: skip


def _in_sequence(model: nn.Module) -> list[nn.Module]:
    """Return the layers of a ``Sequential``, if they are linear or change shapes only; else nothing."""
    leaves = [m for m in model.modules() if not list(m.children())]
    return leaves if all(type(m) in _LINEAR for m in leaves) else []


def _in_forward(reading: Reading) -> list[nn.Module]:
    """Return the layers that the ``forward`` of the model calls, in order, if it does nothing else; else nothing."""
    scope = next((one for one in reading.methods if one.self_ is reading.model), None)
    if scope is None or any(isinstance(node, _MORE_THAN_CALLS) for node in scope.nodes):
        return []
    chain: list[nn.Module] = []
    for call in sorted(scope.calls(), key=lambda one: (one.end_lineno or 0, one.end_col_offset or 0)):
        module = scope.value(call.func)
        if isinstance(module, nn.Sequential) and (inner := _in_sequence(module)):
            chain += inner
        elif isinstance(module, nn.Module) and type(module) in _LINEAR:
            chain.append(module)
        elif isinstance(module, nn.Module) or name_of(call.func) not in _SHAPES:
            return []
    return chain


def _with_activations(scope: Scope, node: ast.AST) -> str:
    args = node.args if isinstance(node, ast.Call) else []
    inner = [a for a in args[:-1] if isinstance(a, ast.Call) and name_of(a.func) == "Linear"]
    return patch(scope, swap=[(a, f"{scope.text(a)}, nn.ReLU()") for a in inner])


@readings.register("dropout-on-the-output")
def dropout_on_the_output(reading: Reading) -> Iterator[Found]:
    """Find a dropout behind the last layer.

    What it measures
        A ``Sequential`` model, or its last part, whose last module is a dropout behind a linear layer.
    Why it matters
        A share of the predictions themselves is set to zero in training: a regression cannot learn, a classification
        learns to shout.
    When it is wrong
        Models that give features and no predictions.
    Fix
        Move it before the last layer.
    References
        Srivastava et al. 2014 put dropout on hidden units.
    """
    model = reading.model
    last = model
    while isinstance(last, nn.Sequential) and len(last):
        before = last[-2] if len(last) > 1 else None
        owner, last = last, last[-1]
        is_last = isinstance(last, nn.Dropout) and last.p > 0 and isinstance(before, nn.Linear | nn.LazyLinear)
        if is_last and isinstance(last, nn.Dropout) and _is_judged(reading):
            place = _line(reading, owner) or _anywhere(reading, owner)
            if place is None:
                return
            scope, node = place
            dropout = node.args[-1] if isinstance(node, ast.Call) and node.args else None
            yield noted(
                scope, node if dropout is None else dropout, "activation-on-output", "too-much-regularisation",
                layer=reading.path_of(last), confidence=0.96,
                patch=patch(scope, swap=[(dropout, "nn.Identity()")]) if dropout is not None else "",
                what=f"a dropout of {last.p:g} stands behind the last layer",
                why=f"In training {last.p:.0%} of the predictions themselves are set to zero.",
                fix="Move it before the last layer.", expected="the last linear layer as the output", got="Dropout",
            )  # fmt: skip
            return


def _is_judged(reading: Reading) -> bool:
    """Return whether a loss is given what the model itself gives: its output is a prediction."""
    for scope in reading.scopes:
        for call in scope.calls():
            is_loss = kind(scope, call) == "loss" and bool(call.args) and kind(scope, call.args[0]) == "output"
            if is_loss and any(scope.value(c.func) is reading.model for c in forwards(scope, call.args[0])):
                return True
    return False


@readings.register("dropout-of-nearly-all")
def dropout_of_nearly_all(reading: Reading) -> Iterator[Found]:
    """Find dropouts that leave less than a tenth of the signal.

    What it measures
        The share of each dropout layer: 0.9 and more.
    Why it matters
        In torch the share is that which is dropped; in older libraries it was that which is kept.
    When it is wrong
        Very wide layers with a share that was searched for.
    Fix
        ``1 - p``.
    References
        tf.nn.dropout of TensorFlow 1 took ``keep_prob``.
    """
    for module in reading.model.modules() if reading.model is not None else ():
        if isinstance(module, _DropoutNd) and _MOSTLY_GONE <= module.p < 1:
            place = _line(reading, module) or _anywhere(reading, module)
            if place is None:
                return
            scope, node = place
            share = next((n for n in ast.walk(node) if isinstance(n, ast.Constant) and n.value == module.p), None) if (
                isinstance(node, ast.Call)) else None  # fmt: skip
            yield noted(
                scope, node, "too-much-regularisation", layer=reading.path_of(module), status="warning", confidence=0.9,
                patch=patch(scope, swap=[(share, f"{1 - module.p:.3g}")]) if share is not None else "",
                what=f"a dropout of {module.p:g} leaves {1 - module.p:.0%} of the signal",
                why="The share is that which is dropped, not that which is kept.", fix=f"Set p to {1 - module.p:.3g}.",
                expected="a share below 0.9", got=f"p={module.p:g}",
            )  # fmt: skip
            return


@readings.register("norm-momentum-reversed")
def norm_momentum_reversed(reading: Reading) -> Iterator[Found]:
    """Find batch normalisations whose momentum is meant the other way round.

    What it measures
        The momentum of each layer: 0.9 to below 1, or below 0.005.
    Why it matters
        In torch it is the share of the new batch, in other libraries that of the old value. With 0.99 the statistics
        are those of the last batch; with 0.001 they are hardly those of the data when training ends.
    When it is wrong
        Trainings of many thousands of steps with a small momentum on purpose.
    Fix
        ``1 - momentum``; the default is 0.1.
    References
        The documentation of BatchNorm1d: momentum differs from that of optimizers.
    """
    for module in reading.model.modules() if reading.model is not None else ():
        if not isinstance(module, _BatchNorm) or module.momentum is None:
            continue
        is_high, is_low = _HIGH <= module.momentum < 1, 0 < module.momentum < _LOW
        written = _line(reading, module, "momentum") if is_high or is_low else None
        place = written or (_anywhere(reading, module) if is_high else None)
        if place is None:
            continue
        scope, node = place
        value = (
            next((k.value for k in node.keywords if k.arg == "momentum"), None) if isinstance(node, ast.Call) else None
        )
        yield noted(
            scope, node, "running-stats-wrong", layer=reading.path_of(module), status="warning", confidence=0.88,
            patch=patch(scope, swap=[(value,
            f"{1 - module.momentum:.2g}" if is_high else "0.1")]) if value is not None else "",
            what=f"a batch normalisation has a momentum of {module.momentum:g}",
            why="In torch that is the share of the new batch: "
            + ("the statistics are those of the last batch." if is_high else "the statistics hardly move."),
            expected="0.1", got=f"momentum={module.momentum:g}",
        )  # fmt: skip
        return


@readings.register("padding-that-is-a-word")
def padding_that_is_a_word(reading: Reading) -> Iterator[Found]:
    """Find a padding index that occurs where no padding can be.

    What it measures
        The first column of the batch's tokens, which the model embeds with a ``padding_idx``: a row that begins with
        padding and goes on with words, in batches where other rows end with another number that fills them up.
    Why it matters
        The vector of that word stays zero and never learns.
    When it is wrong
        Batches that are padded on the left: those are left alone.
    Fix
        Give the padding an index of its own.
    References
        The documentation of nn.Embedding: the vector at padding_idx gets no gradient.
    """
    tables = [m for m in reading.model.modules() if isinstance(m, nn.Embedding)] if reading.model is not None else []
    marked = [m for m in tables if m.padding_idx is not None]
    tokens = tokens_of(reading.batch)
    if len(tables) != 1 or not marked or tokens is None:
        return
    index = int(marked[0].padding_idx or 0)
    fill = int(tokens[:, -1].mode().values)
    ends = float((tokens[:, -1] == fill).float().mean())
    begins = float((tokens[:, 0] == index).float().mean())
    inside = (tokens == index) & (tokens.roll(-1, 1) != index)
    if fill == index or ends < 0.3 or not (0.02 < begins < 0.9) or float(inside[:, :-1].any(1).float().mean()) < 0.05:
        return
    place = _line(reading, marked[0], "padding_idx") or _anywhere(reading, marked[0])
    if place is None:
        return
    scope, node = place
    value = (
        next((k.value for k in node.keywords if k.arg == "padding_idx"), None) if isinstance(node, ast.Call) else None
    )
    yield noted(
        scope, node, "padding-idx-is-a-word", layer=reading.path_of(marked[0]), confidence=0.96,
        patch=patch(scope, swap=[(value, str(fill))]) if value is not None else "",
        what=f"padding_idx is {index}, and {begins:.0%} of the rows begin with that word; rows end with {fill}",
        why="The vector at padding_idx stays zero, so that word is never learned.", fix=f"Set padding_idx to {fill}.",
        expected=f"padding_idx={fill}", got=f"padding_idx={index}",
    )  # fmt: skip


def tokens_of(batch: object) -> Tensor | None:
    """Return the tokens of a batch: its first whole numbers of two axes, none of them below 0 as in a target."""
    rows = batch if isinstance(batch, list | tuple) else list(batch.values()) if isinstance(batch, dict) else [batch]
    for one in rows:
        if isinstance(one, list | tuple | dict) and (inner := tokens_of(one)) is not None:
            return inner
        if isinstance(one, Tensor) and one.ndim == 2 and one.dtype in (torch.int64, torch.int32):
            is_table = len(one) > 3 and one.shape[1] > 2 and int(one.min()) >= 0
            return one.detach().cpu() if is_table else None
    return None
