"""Checks of what an output depends on, for rows of tokens: the future, the order, the target itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from nbops.core.records import Cause
from nbops.debugging.calling import own_loss
from nbops.debugging.places import Place
from nbops.debugging.preflight.found import Found, check
from nbops.debugging.preflight.mending import masked_call, with_positions
from nbops.debugging.preflight.probing import Call, Prober, differs, prober_of
from nbops.debugging.preflight.subject import Subject
from nbops.debugging.specs import listed, shape_of

SHIFTED = 0.95  # of the targets that are the next token
SAME = 0.99  # of the targets that are the token itself
BLIND = 1e-5  # of the largest value; an output that changes by less does not see the order
_LEAST_LENGTH = 4
_CLASSIFYING = ("cross_entropy", "nll_loss")
_TRANSFORMERS = (
    nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer, nn.TransformerEncoder,
    nn.TransformerDecoder, nn.Transformer,
)  # fmt: skip


def is_tokens(tensor: Tensor) -> bool:
    """Return whether a tensor is rows of whole numbers, as the words of sentences."""
    is_whole = not tensor.is_floating_point() and not tensor.is_complex() and tensor.dtype is not torch.bool
    return is_whole and tensor.ndim == 2 and tensor.shape[1] >= _LEAST_LENGTH


def _pairs(subject: Subject) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Iterate over the tokens that the target has the shape of, with their number among the inputs, and the target."""
    target = next((t for _, t in subject.targets), None)
    if target is None or not is_tokens(target):
        return
    for i, (_, tokens) in enumerate(subject.inputs):
        if is_tokens(tokens) and tokens.shape == target.shape and (tokens is not target or len(subject.inputs) == 1):
            yield i, tokens, target


def _share(one: Tensor, other: Tensor) -> float:
    return float((one == other.to(one.device)).float().mean())


def next_token_axis(tokens: Tensor, target: Tensor) -> int | None:
    """Return the axis along which the target is the next token: 1, or 0 where time comes first; None if it is not."""
    if _share(tokens, target) >= 0.9:
        return None
    if _share(target[:, :-1], tokens[:, 1:]) > SHIFTED:
        return 1
    return 0 if len(tokens) > 1 and _share(target[:-1], tokens[1:]) > SHIFTED else None


def _with_another_end(tokens: Tensor) -> Tensor:
    """Return rows whose second half comes from another row, backwards."""
    start, changed = tokens.shape[1] // 2, tokens.clone()
    changed[:, start:] = tokens.roll(1, 0)[:, start:].flip(1)
    return changed


def _scores(samples: int, length: int, classes: int) -> Callable[[Tensor], Tensor | None]:
    """Return what cuts the scores of the first half of the positions out of an output; None of another output."""

    def cut(output: Tensor) -> Tensor | None:
        shape = shape_of(output)
        if shape[0] == samples * length and output.ndim == 2 and shape[1] >= classes:
            return output.reshape(samples, length, -1)[:, : length // 2]
        if output.ndim != 3 or shape[0] != samples or shape[1] == shape[2]:
            return None
        if shape[1] == length and shape[2] >= classes:
            return output[:, : length // 2]
        return output[:, :, : length // 2] if shape[2] == length and shape[1] >= classes else None

    return cut


def _sees_the_future(prober: Prober, at: int, classes: int) -> bool | None:
    """Return whether scores of the first positions change with the last tokens; None where that cannot be told."""
    tokens = prober.inputs[at]
    changed = _with_another_end(tokens)
    if bool((changed == tokens).all()):
        return None
    outputs = prober.outputs({at: changed})
    if outputs is None or prober.base is None:
        return None
    cut = _scores(prober.samples, tokens.shape[1], classes)
    parts = [(a, b) for a, b in zip(map(cut, prober.base), map(cut, outputs), strict=True)
             if a is not None and b is not None]  # fmt: skip
    return any(differs(a, b) for a, b in parts) if parts else None


@check("future-seen", stage="dependencies")
def future_seen(subject: Subject) -> Iterator[Found]:
    """Find models that are to predict the next token and can see it.

    What it measures
        Where more than 95 % of the targets are the next token of the input: whether the scores of the first half of
        the positions change when the second half of the tokens does, in evaluation mode.
    Why it matters
        The loss falls fast and the model is useless: when it writes, the next token is not there to be copied.
    When it is wrong
        Not known: a target that the model is given is nothing to predict.
    Fix
        A causal mask in the attention; one direction in a recurrent layer; padding on the left only in a convolution.
    References
        Vaswani et al., Attention is all you need (2017), section 3.2.3.
    """
    pair = next((pair for pair in _pairs(subject) if next_token_axis(*pair[1:]) == 1), None)
    if pair is None:
        return
    at, tokens, target = pair
    prober = prober_of(subject)
    if prober is None or not _sees_the_future(prober, at, int(target.max()) + 1):
        return
    length = int(tokens.shape[1])

    def early(output: Tensor) -> Tensor | None:
        shape = shape_of(output)
        if output.ndim != 3 or shape[0] != prober.samples or shape[1] == shape[2]:
            return None
        if shape[1] == length:
            return output[:, : length // 2]
        return output[:, :, : length // 2] if shape[2] == length else None

    path, calls = prober.first_changed({at: _with_another_end(prober.inputs[at])}, early)
    path = _outermost_of_torch(subject, path)
    place = _called_at(calls, path) or subject.place_of(path)
    yield Found(
        subject.called(path), "error", f"'{subject.called(path)}' lets each position see the tokens behind it",
        "The target is the next token, so the model copies it and learns nothing that it can use.",
        "Hide the later positions: pass a causal mask.", 0.9, place=place,
        expected="scores that depend on earlier tokens only",
        got=f"the first {length // 2} positions change with the last {length - length // 2} tokens",
        causes=(_future_cause(subject.module(path), length, path, place),),
    )  # fmt: skip


def _future_cause(module: nn.Module, length: int, path: str, place: Place | None) -> Cause:
    test = "change the last token: no earlier score may change"
    if isinstance(module, nn.RNNBase):
        return Cause(name="causal-mask-missing", text="the recurrent layer reads the row in both directions", test=test,
                     fix="Leave bidirectional out.", example="bidirectional=False", confidence=0.9)  # fmt: skip
    if isinstance(module, nn.Conv1d):
        return Cause(name="causal-mask-missing", text="the convolution is padded on both sides", test=test,
                     fix="Pad on the left only.", example="x = nn.functional.pad(x, (kernel_size - 1, 0))",
                     confidence=0.9)  # fmt: skip
    mask = f"nn.Transformer.generate_square_subsequent_mask({length})"
    name = "attn_mask" if isinstance(module, nn.MultiheadAttention) else "mask"
    name = "src_mask" if isinstance(module, nn.TransformerEncoderLayer) else name
    name = (
        "tgt_mask" if isinstance(module, nn.TransformerDecoderLayer | nn.TransformerDecoder | nn.Transformer) else name
    )
    axis = 1 if getattr(getattr(module, "self_attn", module), "batch_first", False) else 0
    return Cause(name="causal-mask-missing", text="the attention has no causal mask", test=test,
                 fix=f"Pass {name}={mask}.", example=f"{name}={mask}", confidence=0.9,
                 patch=masked_call(place, path, name, axis))  # fmt: skip


def _outermost_of_torch(subject: Subject, path: str) -> str:
    """Return the outermost attention or transformer of torch around a module: what the user calls."""
    parts = path.split(".")
    above = (".".join(parts[: i + 1]) for i in range(len(parts)))
    return next((one for one in above if one and isinstance(subject.module(one), _TRANSFORMERS)), path)


def _called_at(calls: list[Call], path: str) -> Place | None:
    return next((call.place for call in calls if call.path == path and path), None)


@check("target-is-input", stage="dependencies")
def target_is_input(subject: Subject) -> Iterator[Found]:
    """Find models of tokens whose target is the input itself.

    What it measures
        Whether at least 99 % of the targets of a classification loss equal the token at the same position, for a model
        whose scores depend on earlier tokens only, as that of one which predicts the next token.
    Why it matters
        It learns to copy, with a loss near 0.
    When it is wrong
        A loop that shifts scores and targets itself; a model that computes its own loss is left out. A model that sees
        the whole row may be an autoencoder: then it is a hint.
    Fix
        ``inputs, targets = tokens[:, :-1], tokens[:, 1:]``.
    References
        Radford et al., Improving language understanding by generative pre-training (2018), equation 1.
    """
    pair = next((pair for pair in _pairs(subject) if _share(*pair[1:]) >= SAME), None)
    if pair is None or not _classifies_all(subject, pair[2]):
        return
    at, tokens, target = pair
    prober = prober_of(subject)
    sees = None if prober is None else _sees_the_future(prober, at, int(target.max()) + 1)
    if sees is None:
        return
    share = _share(tokens, target)
    yield Found(
        "target", "hint" if sees else "warning", f"{share:.0%} of the targets are the token at the same position",
        "The model sees what it is to say, so it learns to copy.", "Shift the target by one position.", 0.75,
        measured=share, limit=SAME, expected="the next token", got=f"the same token, {listed(shape_of(target))}",
        causes=(Cause(
            name="targets-not-shifted", text="the target is the input and not the tokens behind it",
            test="compare target[:, :-1] with inputs[:, 1:]", fix="Take the target one position later.",
            example="inputs, targets = tokens[:, :-1], tokens[:, 1:]", confidence=0.85,
        ),),
    )  # fmt: skip


def _classifies_all(subject: Subject, target: Tensor) -> bool:
    """Return whether a loss compares the scores with this target whole; a pair without a loss counts as well."""
    done = subject.training
    if done.is_own_loss or own_loss(done.output) is not None:
        return False
    if subject.loss is None:
        return isinstance(subject.batch, list | tuple)
    if isinstance(subject.loss, nn.CrossEntropyLoss | nn.NLLLoss):
        return True
    calls = [call for call in done.observer.losses if call.name in _CLASSIFYING and call.target is not None]
    return any(call.target is not None and call.target.numel() == target.numel() for call in calls)


@check("order-unseen", stage="dependencies")
def order_unseen(subject: Subject) -> Iterator[Found]:
    """Find attention over tokens that does not know their order.

    What it measures
        Whether the output stays the same, to 1e-5 of its size, when the inner tokens of each row change places, and
        changes when they become others; for models with self-attention, in a copy where no weight is constant.
    Why it matters
        "dog bites man" and "man bites dog" are one to it.
    When it is wrong
        Tokens that are a set, as what somebody has bought.
    Fix
        Add an embedding of the positions to that of the tokens.
    References
        Vaswani et al., Attention is all you need (2017), section 3.5.
    """
    at = next((i for i, (_, t) in enumerate(subject.inputs) if is_tokens(t) and len(t) == subject.batch_size), None)
    if at is None or not _may_attend(subject):
        return
    shape = subject.inputs[at][1].shape
    if any(t.shape[:2] == shape and not _is_mask(t) for i, (_, t) in enumerate(subject.inputs) if i != at):
        return  # positions, times or kinds that are given
    prober = prober_of(subject)
    if prober is None or prober.base is None or not _is_blind(prober, at):
        return
    _, calls = prober.first_changed({at: prober.inputs[at]}, lambda _: None)
    length = int(shape[1])
    if not any(_attends_to_itself(call, length) for call in calls):
        return
    first = next((call for call in calls if isinstance(call.module, nn.Embedding) and call.given is not None
                  and call.given.shape[:1] == prober.inputs[at].shape[:1]), None)  # fmt: skip
    path = first.path if first is not None else ""
    place = first.place if first is not None and first.place is not None else subject.place_of(path)
    yield Found(
        subject.called(path), "warning", "the output is the same for the tokens of a row in another order",
        "Attention does not know where a token stands unless it is told.",
        "Add an embedding of the positions to the tokens.", 0.75, measured=0.0, limit=BLIND, place=place,
        expected="an output that depends on the order", got="the same output",
        causes=(Cause(
            name="positions-missing", text="nothing tells the attention where a token stands",
            test="exchange two tokens of a row: the output must change", fix="Add an embedding of the positions.",
            example=f"h = self.embed(tokens) + self.positions(torch.arange({length}, device=tokens.device))",
            patch=with_positions(place, subject.place_of(path), path, subject.module(path), length),
            confidence=0.85,
        ),),
    )  # fmt: skip


def _may_attend(subject: Subject) -> bool:
    if any(isinstance(m, nn.MultiheadAttention) for m in subject.model.modules()):
        return True
    return any(e.kind == "softmax" for e in subject.training.observer.events) or any(
        "attention" in type(m).__name__.lower() for m in subject.model.modules()
    )


def _is_mask(tensor: Tensor) -> bool:
    return tensor.dtype is torch.bool or bool(((tensor == 0) | (tensor == 1)).all())


def _attends_to_itself(call: Call, length: int) -> bool:
    """Return whether a call attends from all positions: not from one learned query, which makes a weighted mean."""
    name = type(call.module).__name__.lower()
    if call.given is None or not ("attention" in name or "attn" in name or isinstance(call.module, _TRANSFORMERS)):
        return False
    return length in shape_of(call.given)[:-1]


def _is_blind(prober: Prober, at: int) -> bool:
    """Return whether outputs follow other tokens, but no other order of the inner tokens."""
    tokens = prober.inputs[at].clone()
    length = tokens.shape[1]
    order = torch.arange(length)
    order[1:-1] = order[1:-1].flip(0).roll(1)
    moved, others = tokens[:, order], tokens.clone()
    others[:, 1:-1] = tokens.roll(1, 0)[:, 1:-1]
    if len(tokens) < 2 or bool((moved == tokens).all(1).any()) or bool((others == tokens).all()):
        return False
    masks = {i: t.clone()[:, order] for i, t in enumerate(prober.inputs) if i != at and t.shape[:2] == tokens.shape}
    plain, turned, other = prober.base, prober.outputs({at: moved, **masks}), prober.outputs({at: others})
    if plain is None or turned is None or other is None or not any(map(differs, plain, other)):
        return False
    return all(_same(a, b, order) for a, b in zip(plain, turned, strict=True))


def _same(plain: Tensor, turned: Tensor, order: Tensor) -> bool:
    """Return whether two outputs are one, or one that goes with the tokens."""
    limit = BLIND * float(plain.abs().max())
    follows = plain.ndim > 1 and plain.shape[1] == len(order)
    ways = [plain, plain[:, order]] if follows else [plain]
    return any(float((way - turned).abs().max()) <= limit for way in ways)
