"""Rules about ``forward`` as it is written: attention without a scale, masks the wrong way round, layers made there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from nbops.debugging.preflight.found import Found
from nbops.debugging.reading.facts import Reading
from nbops.debugging.reading.layers import tokens_of
from nbops.debugging.reading.noting import noted, patch, readings
from nbops.debugging.reading.scopes import Scope
from nbops.debugging.source import name_of

_QUERY = re.compile(r"(^|_)(q|query|queries|qs|qh)(_|\d|$)", re.I)
_KEY = re.compile(r"(^|_)(k|key|keys|ks|kh)(_|\d|$)", re.I)
_SCALES = re.compile(r"scale|sqrt|\*\*\s*-?\s*0?\.5|temper|d_k|head_dim|normalize|rsqrt|tau", re.I)
_TAKES_MASKS = re.compile(r"MultiheadAttention|Transformer")
_WITH_WEIGHTS = (
    nn.Linear, nn.Bilinear, _ConvNd, _BatchNorm, nn.Embedding, nn.EmbeddingBag, nn.RNNBase, nn.RNNCellBase,
    nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer, nn.Transformer,
)  # fmt: skip
_SMALL = 32  # width below which scores stay small anyhow


@readings.register("attention-not-scaled")
def attention_not_scaled(reading: Reading) -> Iterator[Found]:
    """Find attention whose scores go into a softmax without being divided.

    What it measures
        A product of queries and transposed keys in a ``forward`` that a softmax follows, with no division,
        multiplication or normalisation of the scores, the queries or the keys in that method, in a module whose linear
        layers are 32 numbers wide or more.
    Why it matters
        The spread of the scores grows with the root of the width: the softmax picks one place and has no gradient.
    When it is wrong
        Luong's dot attention over small states, and models with a scale inside of their weights.
    Fix
        ``scores / math.sqrt(q.size(-1))``, or ``F.scaled_dot_product_attention``.
    References
        Vaswani et al. 2017, section 3.2.1.
    """
    for scope in reading.methods:
        products = [n for n in scope.nodes if _is_score(scope, n)]
        has_softmax = any(True for _ in scope.calls("softmax", "Softmax")) or ".softmax" in scope.text(scope.node)
        if not products or not has_softmax or _SCALES.search(scope.text(scope.node)):
            continue
        node = products[0]
        if _is_scaled(scope, node) or _width(scope) < _SMALL:
            continue
        query = scope.text(node.left if isinstance(node, ast.BinOp) else node.args[0])  # type: ignore[attr-defined]
        yield noted(
            scope, node, "attention-not-scaled", layer=reading.path_of(scope.self_), status="warning", confidence=0.9,
            patch=patch(scope, swap=[(node, f"{scope.text(node)} / {query}.shape[-1] ** 0.5")]),
            what=f"the scores {scope.text(node)} go into a softmax undivided",
            why="Their spread grows with the width of the vectors: the softmax picks one place, and has no gradient.",
            expected=f"{scope.text(node)} / {query}.shape[-1] ** 0.5", got=scope.text(node),
        )  # fmt: skip
        return


def _is_score(scope: Scope, node: ast.AST) -> bool:
    """Return whether a node is a product of queries and keys."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        sides = [node.left, node.right]
    elif isinstance(node, ast.Call) and name_of(node.func) in ("matmul", "bmm", "einsum"):
        is_function = isinstance(node.func, ast.Attribute) and scope.expression(node.func.value) == "torch"
        sides = list(node.args[-2:]) if is_function else []
    else:
        return False
    names = [{n.id for n in ast.walk(side) if isinstance(n, ast.Name)} for side in sides]
    return len(names) == 2 and any(map(_QUERY.search, names[0])) and any(map(_KEY.search, names[1]))


def _is_scaled(scope: Scope, node: ast.AST) -> bool:
    """Return whether the scores, or what they are made of, are multiplied or divided anywhere in the method."""
    statement = scope.statement(node)
    names = {scope.expression(t) for t in getattr(statement, "targets", [])}
    names |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    for other in scope.nodes:
        if isinstance(other, ast.BinOp | ast.AugAssign) and isinstance(other.op, ast.Mult | ast.Div):
            inner = {n.id for n in ast.walk(other) if isinstance(n, ast.Name)}
            if inner & names or any(n is node for n in ast.walk(other)):
                return True
        if isinstance(other, ast.Call) and name_of(other.func) in (
            "mul",
            "div",
            "mul_",
            "div_",
            "normalize",
            "layer_norm",
        ):
            return True
    return False


def _width(scope: Scope) -> int:
    """Return the width of the linear layers of the module that attends; 0 if it has none."""
    module = scope.self_
    layers = [m for m in module.modules() if isinstance(m, nn.Linear)] if isinstance(module, nn.Module) else []
    return max((m.in_features for m in layers), default=0)


@readings.register("mask-the-wrong-way-round")
def mask_the_wrong_way_round(reading: Reading) -> Iterator[Found]:
    """Find padding masks of torch's attention layers that leave out the words and keep the padding.

    What it measures
        ``key_padding_mask`` and ``src_key_padding_mask`` written as ``tokens != pad``, where the number compared with
        is that which fills up the ends of the batch's rows, or is called padding.
    Why it matters
        In torch's layers True means to leave out: the model reads the padding, and nothing else.
    When it is wrong
        A number that is a word, and not the padding.
    Fix
        ``tokens == pad``.
    References
        The documentation of nn.MultiheadAttention.
    """
    for scope in [*reading.methods, *reading.scopes]:
        for call in scope.calls():
            for keyword in call.keywords:
                if keyword.arg not in ("key_padding_mask", "src_key_padding_mask", "tgt_key_padding_mask"):
                    continue
                mask = _written(scope, keyword.value)
                if (
                    mask is None
                    or not _TAKES_MASKS.match(type(scope.value(call.func)).__name__)
                    or not _is_of_padding(reading, scope, mask)
                ):
                    continue
                right = f"{scope.text(mask.left)} == {scope.text(mask.comparators[0])}"
                yield noted(
                    scope, mask, "mask-inverted", "padding-read", layer=_attending(reading, scope, call),
                    confidence=0.96,
                    patch=patch(scope, swap=[(mask, right)]),
                    what=f"{keyword.arg} is True for the words, {scope.text(mask)}",
                    why="True means to leave out: the layer reads the padding and nothing else.",
                    fix=f"Write {right}.", expected=right, got=scope.text(mask),
                )  # fmt: skip
                return


def _written(scope: Scope, node: ast.expr) -> ast.Compare | None:
    if (
        isinstance(node, ast.Name)
        and (bound := scope.bound(node.id, before=node)) is not None
        and bound.how == "assign"
    ):
        node = bound.value
    is_unequal = isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.NotEq)
    return node if is_unequal and isinstance(node, ast.Compare) else None


def _is_of_padding(reading: Reading, scope: Scope, mask: ast.Compare) -> bool:
    against = mask.comparators[0]
    if re.search(r"pad", scope.text(against), re.I):
        return True
    value, tokens = scope.value(against), tokens_of(reading.batch)
    if tokens is None:
        return value == 0 and not isinstance(value, Tensor)
    return bool((tokens[:, -1] == value).float().mean() > 0.3) if isinstance(value, int) else False


def _attending(reading: Reading, scope: Scope, call: ast.Call) -> str:
    module = scope.value(call.func)
    return reading.path_of(module) if isinstance(module, nn.Module) else "model"


@readings.register("layer-made-in-forward")
def layer_made_in_forward(reading: Reading) -> Iterator[Found]:
    """Find layers with weights that ``forward`` makes anew each time.

    What it measures
        A call in a ``forward`` of the model that makes a layer of torch's with weights of its own; not one that stands
        under an ``if``, as where a layer is made at the first call and kept, nor one under ``no_grad``.
    Why it matters
        Each pass draws new random weights, which no optimizer holds: the layer is noise and never learns.
    When it is wrong
        Random features that are meant to be other ones in each pass.
    Fix
        Make the layer in ``__init__``, and call it in ``forward``.
    References
        The documentation of nn.Module: submodules are assigned in __init__.
    """
    for scope in reading.methods:
        for call in scope.calls():
            made = scope.value(call.func)
            if not isinstance(made, type) or not issubclass(made, _WITH_WEIGHTS):
                continue
            is_guarded = any(isinstance(one, ast.If | ast.IfExp | ast.Try) for one in scope.around(call))
            if is_guarded or scope.is_without_gradients(call):
                continue
            text = scope.text(call).replace("\n", " ")
            yield noted(
                scope, call, "layer-made-in-forward", layer=reading.path_of(scope.self_),
                what=f"{made.__name__} is made anew in each forward pass",
                why="Its weights are drawn at random each time, and no optimizer holds them: it never learns.",
                expected=f"{text} in __init__, kept as an attribute", got=text,
            )  # fmt: skip
            return
