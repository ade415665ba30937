"""What a crashed loss means: the output against the target."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from nbops.debugging.preflight.explaining import Explanation
from nbops.debugging.preflight.mending import flat_per_sample, resized_call
from nbops.debugging.preflight.mistakes import explain_no_output
from nbops.debugging.preflight.observing import LossCall
from nbops.debugging.preflight.operations import explain_operation
from nbops.debugging.preflight.passes import Crash, Pass
from nbops.debugging.preflight.repairs import Repair, resized
from nbops.debugging.preflight.speaking import first_line, made
from nbops.debugging.preflight.subject import Subject
from nbops.debugging.specs import dtype_name, listed, shape_of, spec

_CLASSES = ("cross_entropy", "nll_loss")


def explain_loss(subject: Subject, crash: Crash, done: Pass) -> Explanation:
    """Return what an error in the loss means."""
    if done.output is None:
        return explain_no_output(subject, crash, "")
    call = done.observer.losses[-1] if done.observer.losses else None
    if call is None or call.target is None:
        return explain_operation(subject, crash) or _plain(subject, crash, done)
    explain = _classes if call.name in _CLASSES else _values
    found = explain(subject, crash, done, call)
    return found or _plain(subject, crash, done)


def _plain(subject: Subject, crash: Crash, done: Pass) -> Explanation:
    return made(
        subject,
        crash,
        "target-mismatch",
        f"the loss raised {type(crash.error).__name__}: {first_line(crash.error)}",
        expected="an output and a target that fit",
        got=f"{spec(done.output)} and {spec(done.plan.target)}",
    )


def _at_target(crash: Crash, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a rewrite that changes the target of the failed call."""
    name = crash.call.name if crash.call is not None else ""

    def rewrite(called: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if called != name or len(args) < 2:
            return None
        function = getattr(torch.nn.functional, name, None)
        return (function, (args[0], change(args[1]), *args[2:]), kwargs) if function is not None else None

    return rewrite


def _fix(
    crash: Crash, text: str, code: str, change: Callable[[Tensor], Tensor], confidence: float, *, name: str
) -> Repair:
    return Repair(
        text, f"Pass {code} as the target.", f"loss(output, {code})", confidence, rewrite=_at_target(crash, change),
        name=name,
    )  # fmt: skip


def _said(
    subject: Subject, crash: Crash, call: LossCall, check: str, what: str, *repairs: Repair, expected: str
) -> Explanation:
    found = made(
        subject,
        crash,
        check,
        what,
        *sorted(repairs, key=lambda r: -r.confidence),
        expected=expected,
        got=f"output {spec(call.input)}, target {spec(call.target)}",
        why=f"{call.name} compares output {spec(call.input)} with target {spec(call.target)}.",
    )
    place = call.place or subject.definitions.of_variable(subject.loss)
    return Explanation(
        **{**{n: getattr(found, n) for n in found.__dataclass_fields__}, "place": place, "layer": "loss"}
    )


def _classes(subject: Subject, crash: Crash, done: Pass, call: LossCall) -> Explanation | None:
    out, target = call.input, call.target
    if target is None or out.ndim == 0:
        return None
    shape, wanted = shape_of(out), (out.shape[0], *out.shape[2:])
    weight, count = call.settings.get("weight"), shape[1 if out.ndim > 1 else 0]
    if isinstance(weight, Tensor) and weight.numel() != count:
        return _weights(subject, crash, call, int(weight.numel()), count)
    if target.requires_grad or (call.target_has_grad and not call.input_has_grad):
        return _swapped(subject, crash, call)
    if shape_of(target) == shape and (call.name == "nll_loss" or not target.is_floating_point()):
        fix = _fix(
            crash, "the labels are one-hot", "target.argmax(1)", lambda t: t.argmax(1), 0.95, name="wrong-loss-for-task"
        )
        return _said(
            subject,
            crash,
            call,
            "target-mismatch",
            "the target is one-hot, where class indices are expected",
            fix,
            expected=f"int64 {listed(wanted)}",
        )
    if _is_only_type(out, target):
        fix = _fix(
            crash,
            f"class indices are whole numbers, and these are {dtype_name(target.dtype)}",
            "target.long()",
            lambda t: t.long(),
            0.95,
            name="dtype-mismatch",
        )
        return _said(
            subject,
            crash,
            call,
            "dtype-mismatch",
            f"the target is {dtype_name(target.dtype)}, where class indices are expected",
            fix,
            expected=f"int64 {listed(wanted)}",
        )
    if shape_of(target) == wanted or out.ndim == 1:
        return explain_classes(subject, crash, done, call)
    return _class_shapes(subject, crash, done, call, wanted)


def _weights(subject: Subject, crash: Crash, call: LossCall, has: int, classes: int) -> Explanation:
    fix = Repair(
        "a class was added or left out", f"Pass {classes} weights, one for each class.",
        f"weight=torch.ones({classes})", 0.95, name="class-weights-wrong",
    )  # fmt: skip
    what = f"there are {has} class weights and {classes} classes"
    found = _said(subject, crash, call, "class-weights", what, fix, expected=f"{classes} weights")
    return replace(found, got=f"{has}", place=subject.definitions.of_variable(subject.loss) or found.place)


def _is_only_type(out: Tensor, target: Tensor) -> bool:
    wanted = (out.shape[0], *out.shape[2:])
    return shape_of(target) == wanted and target.dtype not in (torch.int64, torch.uint8)


def _class_shapes(
    subject: Subject, crash: Crash, done: Pass, call: LossCall, wanted: tuple[int, ...]
) -> Explanation | None:
    out, target = call.input, call.target
    if target is None:
        return None
    shape, have = shape_of(out), shape_of(target)
    repairs: list[Repair] = []
    if target.ndim == out.ndim and have[1] == 1 and (have[0], *have[2:]) == wanted:
        repairs.append(
            _fix(
                crash,
                "the target has an axis of one",
                "target.squeeze(1)",
                lambda t: t.squeeze(1),
                0.95,
                name="shape-mismatch",
            )
        )
    if out.ndim > 2 and have == shape[:-1]:
        repairs.append(_last_classes(crash))
    if out.ndim > 2 and have[0] == shape[0] * shape[1] == out[..., 0].numel():
        repairs.append(
            Repair(
                "the output still has the axis of the sequence",
                "Flatten it as well: output.flatten(0, 1).",
                "loss(output.flatten(0, 1), target)",
                0.9,
                name="shape-mismatch",
            )
        )
    if have[:1] != shape[:1] and not repairs:
        return _other_batch(subject, crash, done, call, wanted)
    if not target.is_floating_point() and target.dtype != torch.int64:
        repairs.append(
            _fix(crash, "class indices are int64", "target.long()", lambda t: t.long(), 0.4, name="dtype-mismatch")
        )
    return _said(
        subject,
        crash,
        call,
        "target-mismatch",
        f"the target is {listed(have)}, and this output needs {listed(wanted)}",
        *repairs,
        expected=f"int64 {listed(wanted)}",
    )


def _last_classes(crash: Crash) -> Repair:
    def rewrite(called: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if crash.call is None or called != crash.call.name:
            return None
        return torch.nn.functional.cross_entropy, (args[0].flatten(0, -2), args[1].flatten(), *args[2:]), kwargs

    return Repair(
        "the classes are the last axis of the output, and cross_entropy takes them as the second",
        "Flatten both: loss(output.flatten(0, -2), target.flatten()).",
        "loss(output.flatten(0, -2), target.flatten())",
        0.95,
        rewrite=rewrite,
        name="axes-swapped",
    )


def _other_batch(subject: Subject, crash: Crash, done: Pass, call: LossCall, wanted: tuple[int, ...]) -> Explanation:
    """Explain an output with another number of rows than the batch has samples."""
    size, rows = subject.batch_size, int(call.input.shape[0])
    change = next((e for e in done.observer.events if e.kind == "batch-change"), None)
    if change is None or change.place is None:
        fix = Repair(
            "an axis was taken for the batch, or output and target come from different batches",
            "Look at which axis holds the samples; nn.LSTM and nn.Transformer take it second by default.",
            "batch_first=True", 0.6, name="axes-swapped",
        )  # fmt: skip
        return _said(
            subject,
            crash,
            call,
            "target-mismatch",
            f"the output has {rows} rows and the batch {size} samples",
            fix,
            expected=f"{size} rows",
        )
    before, after = change.details["before"], change.details["after"]
    fix = Repair(
        f"{change.name}() turned {listed(before)} into {listed(after)}: it mixes samples and features",
        "Keep the axis of the samples: x.flatten(1), and give the layer behind it as many features.",
        "x = x.flatten(1)",
        0.9,
        patch=flat_per_sample(change.place, int(after[-1]), math.prod(before[1:])),
        name="batch-axis-mixed",
    )
    found = _said(
        subject,
        crash,
        call,
        "shape-mismatch",
        f"the output has {rows} rows for {size} samples, because {change.name}() changed the batch axis",
        fix,
        expected=f"{size} rows: {listed((size, *before[1:]))} flattened",
    )
    return replace(found, place=change.place, layer=subject.called(change.layer))


def explain_classes(subject: Subject, crash: Crash, done: Pass, call: LossCall) -> Explanation | None:
    """Return the explanation of labels that name no class."""
    target = call.target
    values = target if not done.is_fake else call.target_tag.real
    if values is None or not isinstance(target, Tensor) or target.is_floating_point():
        return None
    count = int(call.input.shape[1 if call.input.ndim > 1 else 0])
    kept = values[values != call.settings.get("ignore_index", -100)]
    if not kept.numel() or (int(kept.min()) >= 0 and int(kept.max()) < count):
        return None
    low, high = int(kept.min()), int(kept.max())
    repairs: list[Repair] = []
    if high >= count:
        head = _head(done, count)
        from_one = low >= 1 and high == count
        repairs.append(
            Repair(
                f"the model has {count} classes, and label {high} occurs",
                f"Give the last layer {high + 1} outputs.",
                f"nn.Linear(…, {high + 1})",
                0.6 if from_one else 0.85,
                patch=_more_classes(subject, head, count, high + 1),
                apply=resized(head, out_features=high + 1) if head else None,
                name="label-out-of-range",
            )
        )
        if low >= 1:
            repairs.append(
                Repair(
                    "the labels count from 1",
                    "Pass target - 1.",
                    "loss(output, target - 1)",
                    0.9 if from_one else 0.3,
                    name="label-out-of-range",
                )
            )
    else:
        repairs.append(
            Repair(
                "negative labels stand for what is to be ignored",
                f"Pass ignore_index={low} to the loss.",
                f"nn.CrossEntropyLoss(ignore_index={low})",
                0.85,
                name="label-out-of-range",
            )
        )
    found = _said(
        subject,
        crash,
        call,
        "index-out-of-range",
        f"label {high if high >= count else low} occurs, and the output has {count} classes",
        *repairs,
        expected=f"labels from 0 to {count - 1}",
    )
    found.evidence.update(lowest=low, highest=high, classes=count)
    return found


def _more_classes(subject: Subject, head: str, old: int, new: int) -> str:
    place = subject.place_of(head) if head else None
    return resized_call(place, "Linear", {"out_features": old}, {"out_features": new})


def _head(done: Pass, features: int) -> str:
    """Return the path of the last linear layer, if it gives the output."""
    linear = [v for v in done.visits if v.kind == "Linear" and v.output is not None and v.output[-1] == features]
    return linear[-1].path if linear else ""


def _values(subject: Subject, crash: Crash, done: Pass, call: LossCall) -> Explanation | None:
    """Explain losses that compare values: binary cross-entropy, squared errors and their kin."""
    out, target = call.input, call.target
    if target is None:
        return None
    if call.target_has_grad and not call.input_has_grad:
        return _swapped(subject, crash, call)
    shape, have = shape_of(out), shape_of(target)
    if shape != have:
        return _said(
            subject, crash, call, "target-mismatch", f"the output is {listed(shape)} and the target {listed(have)}",
            *_shaped(crash, out, target), expected=f"a target {listed(shape)}",
        )  # fmt: skip
    if out.dtype != target.dtype:
        want, given = dtype_name(out.dtype), dtype_name(target.dtype)
        cast = ".float()" if want == "float32" else f".to(torch.{want})"
        fix = _fix(
            crash, f"the target is {given}", f"target{cast}", lambda t: t.to(out.dtype), 0.95, name="dtype-mismatch"
        )
        what = f"the output is {want} and the target {given}"
        return _said(subject, crash, call, "dtype-mismatch", what, fix, expected=f"a {want} target")
    if call.name == "binary_cross_entropy" and "between 0 and 1" in str(crash.error):
        what = "BCELoss takes probabilities, and the output lies outside of 0 to 1"
        return _said(
            subject, crash, call, "missing-activation", what, no_sigmoid(), expected="values from 0 to 1"
        )  # fmt: skip
    return None


def _shaped(crash: Crash, out: Tensor, target: Tensor) -> Iterator[Repair]:
    """Yield what would make the target as the output is."""
    shape, have = shape_of(out), shape_of(target)
    if shape == (*have, 1):
        text = "the output has an axis of one more"
        yield _fix(crash, text, "target.unsqueeze(-1)", lambda t: t.unsqueeze(-1), 0.95, name="shape-mismatch")
    elif have == (*shape, 1):
        text = "the target has an axis of one more"
        yield _fix(crash, text, "target.squeeze(-1)", lambda t: t.squeeze(-1), 0.95, name="shape-mismatch")
    elif have == shape[:1] and target.is_floating_point():
        yield Repair(
            f"the output has {shape[1]} values for each sample, and the target one",
            "Give the last layer one output and pass output.squeeze(1); for classes use nn.CrossEntropyLoss.",
            "nn.Linear(…, 1)", 0.8, name="shape-mismatch",
        )  # fmt: skip
    elif len(have) < len(shape) and not target.is_floating_point() and have == shape[: len(have)]:

        def one_hot(t: Tensor) -> Tensor:
            return torch.zeros(*t.shape, shape[-1], dtype=out.dtype, device=out.device)  # of that shape and type

        code = f"F.one_hot(target, {shape[-1]}).float()"
        yield _fix(crash, "the target holds class indices", code, one_hot, 0.7, name="wrong-loss-for-task")


def no_sigmoid() -> Repair:
    """Return the repair of a binary cross-entropy on logits."""
    return Repair(
        "the output are logits: there is no sigmoid before the loss",
        "Use nn.BCEWithLogitsLoss(), which is also more exact.", "criterion = nn.BCEWithLogitsLoss()", 0.9,
        name="logits-to-nll",
    )  # fmt: skip


def _swapped(subject: Subject, crash: Crash, call: LossCall) -> Explanation:
    fix = Repair(
        "output and target are swapped", "Call loss(output, target).", "loss(output, target)", 0.95, name="wrong-call"
    )
    return _said(
        subject,
        crash,
        call,
        "target-mismatch",
        "the loss was called with the target first and the output second",
        fix,
        expected="loss(output, target)",
    )
