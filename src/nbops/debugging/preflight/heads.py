"""Checks of what the model gives: softmax over the wrong axis, the same answer for every sample."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from nbops.core.records import Cause
from nbops.debugging.causes import CAUSES
from nbops.debugging.preflight.crashing import explanations
from nbops.debugging.preflight.dependencies import is_tokens
from nbops.debugging.preflight.found import Found, because, check
from nbops.debugging.preflight.observing import Event, tag_of
from nbops.debugging.preflight.passes import Pass
from nbops.debugging.preflight.subject import Subject
from nbops.debugging.specs import listed, shape_of, spec, tensors_in


@check("softmax-axis", stage="loss")
def softmax_axis(subject: Subject) -> Iterator[Found]:
    """Find softmax over an axis of one value, over the samples, or over an axis that nobody named.

    What it measures
        Each softmax and log-softmax of the pass: its axis, that axis's size, whether the axis was given.
    Why it matters
        Over one value it gives 1 whatever the weights, and no gradient. Over the samples, one sample's answer depends
        on the others. Without ``dim`` torch chooses by the number of axes.
    When it is wrong
        Attention over a single position, and clustering losses that normalise over the samples: these are told as
        hints where they are not the model's output.
    Fix
        ``dim=-1``.
    References
        Shah et al. (2024), question 60: a loss of exactly ln 3 for ever.
    """
    if explanations(subject) or not subject.training.is_complete:
        return
    told: set[tuple[str, int]] = set()
    for event in subject.training.observer.events:
        if event.kind != "softmax" or event.details["dim"] is None:
            continue
        key = (event.layer, event.place.line if event.place else 0)
        problem = _axis_problem(subject, event)
        if problem is None or key in told:
            continue
        told.add(key)
        status, what, why = problem
        shape, dim = event.details["shape"], event.details["dim"]
        module = dict(subject.model.named_modules()).get(event.layer)
        is_layer = module is not None and type(module).__module__.startswith("torch.")
        yield Found(
            subject.called(event.layer), status, f"{event.name} {what}", why, "Write dim=-1.",
            0.95 if status == "error" else 0.75, measured=float(event.details["size"]), expected="dim=-1",
            got=f"dim={dim} of {listed(shape)}" + (", chosen by torch" if event.details["implicit"] else ""),
            place=subject.place_of(event.layer) if is_layer else event.place,
            causes=(because("the axis was not named, or counted from the wrong side", "Write dim=-1.",
                            f"{event.name}(x, dim=-1)", name="softmax-over-wrong-axis"),),
        )  # fmt: skip


def _axis_problem(subject: Subject, event: Event) -> tuple[str, str, str] | None:
    shape, dim, size = event.details["shape"], event.details["dim"], event.details["size"]
    is_output = any(shape_of(t) == shape and tag_of(t).op == event.name for _, t in tensors_in(subject.training.output))
    is_head = is_output or len(shape) <= 2 or event.details["implicit"]
    if size == 1:
        why = "The softmax of one value is 1 whatever the weights, so no gradient passes."
        return ("error" if is_head else "hint"), f"runs over an axis of size 1 ({listed(shape)}, dim={dim})", why
    if dim == 0 and len(shape) > 1 and size == subject.batch_size and subject.is_sliceable:
        why = "The values of one sample depend on the other samples of the batch."
        status = "error" if is_output else "warning" if is_head else "hint"
        return status, f"runs over the {size} samples of the batch (dim=0 of {listed(shape)})", why
    if event.details["implicit"]:
        return (
            "warning",
            f"was given no dim, and torch chose {dim} of {listed(shape)}",
            "Another number of axes changes it.",
        )
    return None


@check("constant-output", stage="loss")
def constant_output(subject: Subject) -> Iterator[Found]:
    """Find models that give every sample the same answer.

    What it measures
        The output of a copy in evaluation mode, with a little noise on weights that are constant, over samples that
        differ: whether all rows are equal.
    Why it matters
        The output does not depend on the input: only the mean can be learned.
    When it is wrong
        Samples that differ only in what is masked.
    Fix
        See the causes: a softmax over one value, units that are off for every sample, an input that is not used.
    References
        TheDeepChecker (TOSEM 2022), data-dependency test.
    """
    done = _probe(subject)
    if done is None or subject.forward is not None or any(f.status == "error" for f in softmax_axis(subject)):
        return
    outputs = [(path, t) for path, t in tensors_in(done.output) if t.is_floating_point() and t.ndim]
    rows = [(path, t.reshape(len(t), -1)) for path, t in outputs if len(t) == subject.samples and t.numel()]
    if not rows or len(rows) != len(outputs):
        return
    spread = max(float((t - t[:1]).detach().abs().max()) for _, t in rows)
    size = max(float(t.detach().abs().max()) for _, t in rows)
    if spread > 1e-6 * size + 1e-30:
        return
    output = rows[0][1].detach()
    last = [v for v in done.visits if v.is_leaf and not v.path.startswith("loss")]
    layer = last[-1].path if last else ""
    yield Found(
        subject.called(layer), "error" if spread == 0 else "warning",
        f"all {len(output)} samples get the same output ({float(output[0, 0]):.4g}), although they differ",
        "The output does not depend on the input, so only the mean can be learned.",
        "Follow the causes from the top.", 0.9 if spread == 0 else 0.85, measured=spread, limit=1e-6 * size,
        place=subject.place_of(layer), expected="outputs that differ", got=spec(outputs[0][1]),
        causes=tuple(_constant_causes(subject, done, output)),
    )  # fmt: skip


def _constant_causes(subject: Subject, done: Pass, output: Tensor) -> Iterator[Cause]:
    axis = next((e for e in done.observer.events if e.kind == "softmax" and e.details["size"] == 1), None)
    if axis is not None:
        yield because(f"{axis.name} in '{subject.called(axis.layer)}' runs over an axis of size 1", "Write dim=-1.",
                      "softmax(x, dim=-1)", confidence=0.9, name="softmax-over-wrong-axis")  # fmt: skip
    if bool((output == 0).all()):
        yield because("the last activation is off for every sample", "Leave a ReLU behind the last layer out.",
                      "return self.head(x)", confidence=0.7, name="output-range")  # fmt: skip
    elif (dead := silent_layer(subject)) is not None:
        yield because(f"a layer behind '{dead}' is off for every sample", f"Look at weights and bias of '{dead}'.",
                      f"nn.init.zeros_(model.{dead}.bias)", confidence=0.8, name="dead-relu")  # fmt: skip
    if any(is_padded(t) for _, t in subject.inputs):
        kinds = {type(subject.module(v.path)) for v in done.visits if v.path}
        for name, of in (("padding-read", nn.RNNBase), ("mask-inverted", nn.MultiheadAttention)):
            if any(issubclass(kind, of) for kind in kinds):
                known = CAUSES[name]
                yield Cause(name=name, text=known.text, test=known.test, fix=known.fix, confidence=0.8)
    flow = next((v for v in done.visits if v.is_leaf and v.has_parameters and not v.path.startswith("loss")), None)
    if flow is None or flow.given.partition(" ")[2] not in {spec(t).partition(" ")[2] for _, t in done.plan.tensors()}:
        yield because(
            "the first layer is not given the batch",
            "Look at what forward() passes on.",
            confidence=0.5,
            name="module-unused",
        )
    yield because("a tensor that does not depend on the input takes its place in forward()",
                  "Follow the input through forward().", confidence=0.3, name="module-unused")  # fmt: skip


def silent_layer(subject: Subject) -> str | None:
    """Return the layer whose trained biases hold all of its units off, whatever it is given in reason; None if none."""
    for name, bias in subject.trainable.items():
        path, _, parameter = name.rpartition(".")
        weight = subject.parameters.get(f"{path}.weight")
        if parameter != "bias" or weight is None or bias.ndim != 1 or weight.ndim < 2 or bias.device.type == "meta":
            continue
        spread = weight.detach().reshape(len(weight), -1).norm(dim=1) if len(weight) == len(bias) else None
        if spread is not None and len(bias) > 1 and bool((bias.detach() < -4 * spread).all()):
            return path
    return None


def is_padded(tensor: Tensor) -> bool:
    """Return whether a tensor holds tokens of which several rows end in the same one, more than once."""
    if not is_tokens(tensor) or tensor.ndim != 2 or tensor.shape[1] < 2:
        return False
    last, before = tensor[:, -1], tensor[:, -2]
    value = last.mode().values
    return int(((last == value) & (before == value)).sum()) >= 2


def _probe(subject: Subject) -> Pass | None:
    """Return a pass in evaluation mode over samples that differ; None if there is none."""
    if explanations(subject) or subject.values is None or not subject.is_sliceable or subject.samples < 2:
        return None
    rows = [t[: subject.samples].reshape(subject.samples, -1) for _, t in subject.inputs if t.numel()]
    if not rows or all(bool((r == r[:1]).all()) for r in rows):
        return None
    return subject.probe(0)
