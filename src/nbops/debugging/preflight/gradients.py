"""Checks of the way back: whether the loss has a gradient, which layers get none, and whether it is finite."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from nbops.core.records import Cause
from nbops.debugging.places import Place
from nbops.debugging.preflight.found import Found, because, check
from nbops.debugging.preflight.observing import Event
from nbops.debugging.preflight.passes import Pass
from nbops.debugging.preflight.subject import Subject
from nbops.debugging.specs import spec, tensors_in

_WORDS = {
    "detach": "detach() cuts the graph", "data": ".data cuts the graph", "item": ".item() makes a plain number",
    "numpy": ".numpy() leaves torch", "tolist": ".tolist() leaves torch", "argmax": "argmax has no gradient",
    "tensor": "torch.tensor(…) makes a new leaf", "round": "rounding has a gradient of 0",
    "sign": "sign has a gradient of 0",
}  # fmt: skip


def _cuts(done: Pass) -> list[Event]:
    return [e for e in done.observer.events if e.kind in ("cut", "no-grad") and e.place is not None]


def _cut_causes(events: list[Event]) -> Iterator[Cause]:
    for event in events[:4]:
        text = (
            "the code runs under no_grad()"
            if event.kind == "no-grad"
            else _WORDS.get(event.name, f"{event.name} has no gradient")
        )
        code = event.place.code if event.place else ""
        yield Cause(text=f"{text} ({event.place})", fix="Take it out of the way from the weights to the loss.",
                    test=code, confidence=0.7, 
                    name="graph-cut" if event.kind == "cut" else "nothing-requires-grad")  # fmt: skip


@check("loss-without-gradient", stage="backward")
def loss_without_gradient(subject: Subject) -> Iterator[Found]:
    """Find losses that no weight has a part in.

    What it measures
        Whether the loss requires a gradient; which operations on the way cut the graph, and on which lines: ``detach``,
        ``.data``, ``.item()``, ``.numpy()``, ``argmax``, ``torch.tensor(…)``, code under ``no_grad()``.
    Why it matters
        ``backward()`` raises.
    When it is wrong
        A model that is only to be evaluated.
    Fix
        Take the operation that is named out of the way.
    References
        torch's notes on autograd mechanics.
    """
    done = subject.training
    if (
        not done.is_complete
        or not done.has_loss
        or done.loss is None
        or done.loss.requires_grad
        or not subject.trainable
    ):
        return
    events = _cuts(done)
    first = events[0] if events else None
    layer = subject.called(first.layer) if first is not None else "loss"
    yield Found(
        layer, "error", "the loss does not depend on any weight: it has no gradient",
        "backward() raises: element 0 of tensors does not require grad.", "Take the cut out of the way to the loss.",
        0.97,
        place=first.place if first is not None else subject.definitions.of_variable(subject.loss),
        expected="a loss that requires a gradient", got=spec(done.loss),
        causes=(*_cut_causes(events), because("the loss is computed from something else than the output",
                                              "Look at what is passed to it.", confidence=0.3, name="graph-cut")),
    )  # fmt: skip


@check("no-gradient", stage="backward")
def no_gradient(subject: Subject) -> Iterator[Found]:
    """Find trainable layers that are used and get no gradient.

    What it measures
        The gradient of every trainable parameter after one backward pass; layers that ran and got none, and what cut
        the graph behind them.
    Why it matters
        They are never trained, although they look as if they were.
    When it is wrong
        A part that is cut off on purpose, as a target network; freeze it, or leave it out of the optimizer. Without an
        optimizer to look at it is a hint.
    Fix
        Take the operation that is named out of the way, or freeze the layer.
    References
        TheDeepChecker (TOSEM 2022); torch.Tensor.detach.
    """
    done = subject.training
    if (
        not done.is_complete
        or not done.gradients
        or not done.has_loss
        or all(g is None for g in done.gradients.values())
    ):
        return
    visited = done.visited()
    held = {id(p) for p in subject.optimized}
    groups: dict[str, list[str]] = {}
    for name, gradient in done.gradients.items():
        path = name.rpartition(".")[0]
        is_cut = gradient is None and path in visited and name in subject.trainable
        if is_cut and (not held or id(subject.trainable[name]) in held):
            groups.setdefault(path, []).append(name)
    if not groups:
        return
    events = _cuts(done)
    first = next(iter(groups))
    count = sum(map(len, groups.values()))
    behind = [e for e in events if e.kind == "no-grad" or e.name != "argmax"] or events
    place: Place | None = behind[0].place if behind else subject.place_of(first)
    yield Found(
        first or subject.name, "warning" if held and not _may_be_a_part(done) else "hint",
        f"{count} parameters that were used get no gradient, '{groups[first][0]}' first",
        "They are never trained.", "Take the cut out of the way, or freeze them with requires_grad_(False).", 0.8,
        measured=float(count), limit=0.0, place=place, expected="a gradient in every trainable parameter",
        got=f"none in {', '.join(list(groups)[:5])}",
        causes=(*_cut_causes(behind),
                because("its output is not used in the loss", "Look at what forward() does with it.",
                                              confidence=0.3, name="module-unused")),
        evidence={"layers": list(groups)[:20]},
    )  # fmt: skip


def _may_be_a_part(done: Pass) -> bool:
    """Return whether the loss is a number in a tuple that the model returned: a term beside one that the loop adds."""
    return done.is_own_loss and isinstance(done.output, list | tuple) and len(done.output) > 1


@check("unused-layer", stage="backward")
def unused_layer(subject: Subject) -> Iterator[Found]:
    """Find layers that the forward pass never calls.

    What it measures
        Modules with trainable parameters that did not run in one training pass and got no gradient; models whose
        control flow depends on values are left out.
    Why it matters
        A layer that was forgotten in ``forward()`` is never trained; distributed training even waits for it.
    When it is wrong
        Layers that some batches only use: early exits, a part for another task.
    Fix
        Call it in ``forward()``, or remove it.
    References
        torch.nn.parallel.DistributedDataParallel, find_unused_parameters.
    """
    done = subject.training
    if not done.is_complete or not done.is_fake or not done.visits:
        return  # where control flow depends on values, other samples take other ways
    visited = done.visited()
    got = {name for name, gradient in (done.gradients or {}).items() if gradient is not None}
    unused = []
    for path, module in subject.model.named_modules():
        own = [f"{path}.{n}" if path else n for n, p in module._parameters.items() if p is not None and p.requires_grad]
        if not own or path in visited or any(name in got for name in own) or done.gradients is None:
            continue
        if not any(path.startswith(f"{parent}.") for parent in visited if parent and _is_fused(subject, parent)):
            unused.append(path)
    if unused and len(unused) < len(subject.trainable):
        yield Found(
            unused[0] or subject.name, "hint", f"{len(unused)} layers are never called: {', '.join(unused[:4])}",
            "They get no gradient and are never trained.", "Call them in forward(), or remove them.", 0.7,
            measured=float(len(unused)), limit=0.0, place=subject.place_of(unused[0]), expected="a call of each layer",
            got="no call",
            causes=(because("forward() forgets the layer", "Call it.", f"x = self.{unused[0]}(x)", confidence=0.5,
                name="module-unused"),
                                   because("it is for other batches or another task", "Leave it.", confidence=0.4,
                                       name="module-unused")),
            evidence={"layers": unused[:20]},
        )  # fmt: skip


def _is_fused(subject: Subject, path: str) -> bool:
    """Return whether a module of torch reads its children's weights without calling them."""
    module = dict(subject.model.named_modules()).get(path)
    return module is not None and type(module).__module__.startswith("torch.")


@check("non-finite-start", stage="backward")
def non_finite_start(subject: Subject) -> Iterator[Found]:
    """Find models whose first loss or first gradients are not finite.

    What it measures
        One training pass with values over some samples: the first layer whose output holds NaN or infinity although its
        input does not, the loss, and the gradients.
    Why it matters
        The first step destroys all weights.
    When it is wrong
        A gradient scaler skips such steps until its scale fits; without one this is final.
    Fix
        A logarithm or a root of 0, a division by 0, a mask that hides everything: add a small number there.
    References
        SageMaker Debugger, rule ExplodingTensor; TheDeepChecker (hand-written softmax).
    """
    done = subject.values
    if done is None or not done.is_complete:
        return
    if _ends_finite(done):
        return  # what was infinite between, as a mask, did no harm
    visit = next((v for v in done.visits if v.is_leaf and not v.is_output_finite and v.is_input_finite), None)
    if visit is not None and not visit.path.startswith("loss"):
        yield _non_finite(
            subject, visit.path, f"the output of '{visit.path}' ({visit.kind}) is not finite, its input is", done
        )
        return
    between = next((v for v in done.visits if not v.is_input_finite), None)
    if between is not None and not between.path.startswith("loss"):
        yield _non_finite(subject, between.path, f"NaN or infinity is made in forward() before '{between.path}'", done)
    elif done.has_loss and done.loss is not None and not math.isfinite(float(done.loss.detach().float().sum())):
        yield _non_finite(subject, "loss", "the loss is not finite, and the output of the model is", done)
    elif done.gradients:
        bad = [n for n, g in done.gradients.items() if g is not None and not _is_finite(_dense(g))]
        if bad:
            yield _non_finite(subject, bad[-1].rpartition(".")[0], f"the gradient of '{bad[-1]}' is not finite", done)


def _ends_finite(done: Pass) -> bool:
    """Return whether loss and gradients are finite; the output, where there is no loss."""
    if not done.has_loss or done.loss is None:
        return all(_is_finite(t) for _, t in tensors_in(done.output) if t.is_floating_point())
    found = [done.loss.detach(), *(_dense(g) for g in (done.gradients or {}).values() if g is not None)]
    return all(map(_is_finite, found))


def _is_finite(gradient: torch.Tensor) -> bool:
    return bool(torch.isfinite(gradient.sum())) or bool(torch.isfinite(gradient).all())


def _dense(gradient: torch.Tensor) -> torch.Tensor:
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def _non_finite(subject: Subject, layer: str, what: str, done: Pass) -> Found:
    place = subject.definitions.of_variable(subject.loss) if layer == "loss" else subject.place_of(layer)
    return Found(
        subject.called(layer), "error", what, "One step later every weight is NaN.",
        "Look for a logarithm, a root or a division that meets 0.", 0.95, place=place, expected="finite values",
        got="NaN or infinity", causes=(
            because("a logarithm or a root of 0", "Add a small number.", "torch.log(x + 1e-8)", confidence=0.5,
                name="log-of-zero"),
            because("a softmax or exp of large values written by hand",
                    "Use torch.softmax, or subtract the maximum first.",
                    "x = torch.softmax(x, dim=-1)", confidence=0.4, name="exp-overflow"),
            because("a mask that hides every position", "Leave at least one position.", confidence=0.3,
                name="mask-all-inf"),
        ),
    )  # fmt: skip


def _two_at_zero(subject: Subject) -> list[Cause]:
    """Return the cause, where two trained matrices hold only zeros."""
    known = [(name, p) for name, p in subject.trainable.items() if p.ndim > 1 and p.device.type != "meta"]
    zeros = [name for name, p in known if p.numel() and subject.norm(name) == 0.0]
    if len(zeros) < 2:
        return []
    what = f"'{zeros[0]}' and '{zeros[1]}' both start at 0, so the gradient of each is 0"
    example = f"nn.init.kaiming_uniform_(model.{zeros[0]}, a=5 ** 0.5)"
    return [because(what, "Draw one of them at random.", example, confidence=0.8, name="constant-init")]


@check("zero-gradient", stage="backward")
def zero_gradient(subject: Subject) -> Iterator[Found]:
    """Find models in which every gradient is 0 from the start.

    What it measures
        The gradients of one training pass with values over some samples.
    Why it matters
        Nothing is learned, and no later step changes that.
    When it is wrong
        A loss that is exactly 0 on these samples.
    Fix
        See what the output is: a softmax over one value, units that are off, a constant loss.
    References
        AUTOTRAINER (ICSE 2021), dying ReLU.
    """
    done = subject.values
    if done is None or not done.is_complete or not done.gradients or not done.has_loss:
        return
    known = [_dense(g) for g in done.gradients.values() if g is not None]
    if not known or any(bool(g.any()) for g in known):
        return
    value = float(done.loss.detach().float().mean()) if done.loss is not None else 0.0
    axis = next((e for e in done.observer.events if e.kind == "softmax" and e.details["size"] == 1), None)
    causes = []
    if axis is not None:
        causes.append(
            because(
                f"{axis.name} runs over an axis of size 1",
                "Write dim=-1.",
                "softmax(x, dim=-1)",
                name="softmax-over-wrong-axis",
            )
        )
    causes += _two_at_zero(subject)
    causes.append(
        because(
            "the last activation is off for every sample",
            "Leave it out.",
            "return self.head(x)",
            confidence=0.5,
            name="output-range",
        )
    )
    causes.append(
        because(
            "the loss is at its bound: clamped, or 0 for this batch",
            "Look at the loss.",
            confidence=0.4,
            name="wrong-loss-for-task",
        )
    )
    yield Found(
        "(all)", "error" if abs(value) > 1e-7 else "warning", "every gradient is exactly 0",
        f"The loss is {value:.4g}, and no weight can change it.", "Follow the causes from the top.", 0.9, measured=0.0,
        place=axis.place if axis is not None else subject.place_of(""), expected="gradients other than 0",
        got="0 everywhere",
        causes=tuple(causes),
    )  # fmt: skip
