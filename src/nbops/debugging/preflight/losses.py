"""Checks of what the loss is given: shapes that broadcast, probabilities for logits, targets out of reach."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nbops.debugging.preflight.crashing import explanations, reported
from nbops.debugging.preflight.found import Found, because, check
from nbops.debugging.preflight.observing import LossCall
from nbops.debugging.preflight.subject import Subject
from nbops.debugging.specs import listed, shape_of, spec

_COMPARES = frozenset({"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits",
                       "binary_cross_entropy", "soft_margin_loss", "poisson_nll_loss", "kl_div"})  # fmt: skip
_REGRESSES = frozenset({"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"})
# last operation -> what it can give at least and at most
_REACH: dict[str, tuple[float, float]] = {
    "sigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "tanh": (-1.0, 1.0), "relu": (0.0, float("inf")),
    "softplus": (0.0, float("inf")), "exp": (0.0, float("inf")), "square": (0.0, float("inf")),
    "abs": (0.0, float("inf")), "relu6": (0.0, 6.0), "hardsigmoid": (0.0, 1.0), "hardtanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0), "log_softmax": (-float("inf"), 0.0), "logsigmoid": (-float("inf"), 0.0),
    "normalize": (-1.0, 1.0), "cosine_similarity": (-1.0, 1.0),
}  # fmt: skip


def calls(subject: Subject) -> list[LossCall]:
    """Return the losses that were computed: with values where there are some."""
    if explanations(subject) or not subject.training.is_complete:
        return []
    done = subject.values if subject.values is not None and subject.values.is_complete else subject.training
    return done.observer.losses


@check("broadcast-loss", stage="loss")
def broadcast_loss(subject: Subject) -> Iterator[Found]:
    """Find outputs and targets that are blown up against each other.

    What it measures
        The shapes that losses compare, (N, 1) with (N,) say; and sums in your own code whose result is larger than both
        the prediction and the target.
    Why it matters
        Every prediction is compared with every target. The loss falls a little and the model learns the mean; torch
        only warns.
    When it is wrong
        Losses over all pairs, which compare predictions with each other.
    Fix
        ``output.squeeze(1)``, or ``target.unsqueeze(1)``.
    References
        Shah et al. (2024), question 66: an accuracy of 1.83.
    """
    for call in calls(subject):
        if call.target is None or call.name not in _COMPARES:
            continue
        out, target = shape_of(call.input), shape_of(call.target)
        if out == target or not call.target.numel():
            continue
        wide = shape_of(torch.empty(out, device="meta") + torch.empty(target, device="meta"))
        is_longer = len(out) > len(target)
        code = "output.squeeze(-1)" if is_longer else "target.squeeze(-1)"
        yield Found(
            "loss", "error", f"the loss compares {listed(out)} with {listed(target)}, which becomes {listed(wide)}",
            "Every output is compared with every target, so the model learns their mean.", f"Pass {code}.", 0.97,
            measured=float(torch.Size(wide).numel()),
            limit=float(max(torch.Size(out).numel(), torch.Size(target).numel())),
            expected=f"a target {listed(out)}", got=f"{spec(call.input)} and {spec(call.target)}",
            place=call.place or subject.definitions.of_variable(subject.loss),
            causes=(because("one of them has an axis of one more", f"Pass {code}.",
                            f"loss({code}, …)" if is_longer else f"loss(…, {code})", confidence=0.95,
                            name="loss-broadcast"),),
        )  # fmt: skip
    done = subject.training
    for event in done.observer.events:
        if event.kind == "broadcast":
            shapes = event.details["shapes"]
            yield Found(
                subject.called(event.layer) if event.layer else "loss", "error",
                f"'{event.name}' of {listed(shapes[0])} and the target {listed(shapes[1])} becomes "
                f"{listed(event.details['out'])}", "Every output is compared with every target.",
                "Bring both to one shape: output.squeeze(-1).", 0.85, place=event.place, expected="equal shapes",
                got=" and ".join(map(listed, shapes)),
                causes=(because("one of them has an axis of one more", "Squeeze it.", "output.squeeze(-1)",
                    name="loss-broadcast"),),
            )  # fmt: skip


@check("double-activation", stage="loss")
def double_activation(subject: Subject) -> Iterator[Found]:
    """Find activations before a loss that applies its own.

    What it measures
        The last operation that made what ``cross_entropy`` and ``binary_cross_entropy_with_logits`` are given: softmax,
        sigmoid, a ReLU or a tanh. Views, casts and dropout in between are looked through. In a loss that the user
        wrote, whether a softmax or log-softmax is given what a softmax gave.
    Why it matters
        These losses take logits and apply log-softmax or a sigmoid themselves. Twice applied, the gradients become
        small and the loss cannot go below a floor.
    When it is wrong
        A log-softmax before cross entropy changes nothing: it is a hint.
    Fix
        Leave the activation out of the model; apply it to predictions only.
    References
        torch.nn.CrossEntropyLoss; NeuraLint (TOSEM 2021), "redundant activation"; DeepCrime, operator ACH.
    """
    for call in calls(subject):
        op = call.input_tag.op
        wants = {"cross_entropy": "softmax", "binary_cross_entropy_with_logits": "sigmoid"}.get(call.name)
        if wants is None or op not in (
            "softmax",
            "log_softmax",
            "sigmoid",
            "relu",
            "tanh",
            "hardtanh",
            "relu6",
            "logsigmoid",
        ):
            continue
        if call.name == "cross_entropy" and op == "log_softmax":
            status, confidence = "hint", 0.9
        else:
            status, confidence = ("error", 0.95) if op in ("softmax", "sigmoid", "logsigmoid") else ("warning", 0.8)
        module = {"cross_entropy": "nn.CrossEntropyLoss", "binary_cross_entropy_with_logits": "nn.BCEWithLogitsLoss"}[
            call.name
        ]
        layer = call.input_tag.layer
        yield Found(
            subject.called(layer), status, f"{op} stands before {module}, which applies {wants} itself",
            "Twice applied it flattens the gradients, and the loss cannot come near 0." if status == "error" else
            "It changes nothing here, and costs a little." if status == "hint" else
            "It cuts off a part of the logits.",
            f"Leave {op} out of the model.", confidence, expected="logits", got=f"the output of {op}",
            place=subject.place_of(layer) if layer else call.place,
            causes=(because(f"the model ends with {op} as for plain probabilities",
                            f"Remove {op}; apply it to predictions only.",
                            "return x  # logits", confidence=0.95, name="double-softmax"),),
            evidence={"loss": call.name},
        )  # fmt: skip
    yield from _softmax_twice(subject)


def _softmax_twice(subject: Subject) -> Iterator[Found]:
    for event in subject.training.observer.events:
        if event.kind == "softmax" and event.details["before"] == "softmax":
            yield Found(
                subject.called(event.layer), "error", f"{event.name} is given what a softmax gave",
                "Twice applied it flattens the gradients, and the loss cannot come near 0.",
                "Leave softmax out of the model.", 0.9, expected="logits", got="the output of softmax",
                place=event.place,
                causes=(because("the model ends with softmax as for plain probabilities",
                                "Remove softmax from the model; apply it to predictions only.", "return x  # logits",
                                confidence=0.9, name="double-softmax"),),
            )  # fmt: skip
            return


@check("missing-activation", stage="loss")
def missing_activation(subject: Subject) -> Iterator[Found]:
    """Find losses on probabilities that are given something else.

    What it measures
        For ``nll_loss`` whether its input are logarithms of probabilities: none above 0, and their exponentials add up
        to 1. For ``kl_div`` the same without the sum. For ``binary_cross_entropy`` whether all values lie in 0 to 1,
        or,
        without values, whether a plain layer was the last operation.
    Why it matters
        The loss has no floor: it falls for ever while nothing is learned; or it raises.
    When it is wrong
        Log-probabilities that are clipped on purpose.
    Fix
        ``F.log_softmax(x, dim=1)`` before ``NLLLoss``, or ``CrossEntropyLoss`` in its place; ``BCEWithLogitsLoss``.
    References
        torch.nn.NLLLoss; torch.nn.BCELoss.
    """
    yield from reported(subject, "missing-activation")
    for call in calls(subject):
        x, op = call.input, call.input_tag.op
        has_values = subject.values is not None and subject.values.is_complete
        if call.name in ("nll_loss", "kl_div") and x.ndim > 0:
            problem = _log_problem(x, call.name) if has_values else _plain_problem(op, ("softmax", "sigmoid"))
            right = "F.log_softmax(x, dim=1)"
            name = "nn.NLLLoss" if call.name == "nll_loss" else "nn.KLDivLoss"
        elif call.name == "binary_cross_entropy":
            problem = "" if has_values else _plain_problem(op, ("softmax", "log_softmax", "tanh"))
            right, name = "torch.sigmoid(x)", "nn.BCELoss"
        else:
            continue
        if problem:
            status = "warning" if call.name == "kl_div" else "error"
            better = {"nn.NLLLoss": "nn.CrossEntropyLoss()", "nn.BCELoss": "nn.BCEWithLogitsLoss()"}.get(name, right)
            yield Found(
                subject.called(call.input_tag.layer), status, f"{name} is given {problem}",
                "The loss has no lower limit then, and does not measure what it should.",
                f"Use {better}, or write {right}.",
                0.93,
                expected="logarithms of probabilities" if call.name != "binary_cross_entropy" else "values from 0 to 1",
                got=problem, place=subject.place_of(call.input_tag.layer) if call.input_tag.layer else call.place,
                causes=(because(f"{right.partition('(')[0]} is missing", f"Use {better}.", f"criterion = {better}",
                    name="logits-to-nll"),),
            )  # fmt: skip


def _log_problem(x: Tensor, name: str) -> str:
    values = x.float()
    if bool((values > 1e-4).any()):
        return "values above 0" if bool((values < 0).any()) else "probabilities without their logarithm"
    sums = torch.logsumexp(values, dim=1 if x.ndim > 1 else 0)
    if name == "nll_loss" and bool((sums.abs() > 0.05).any()):
        return "values that are no logarithms of probabilities"
    return ""


def _plain_problem(op: str, wrong: tuple[str, ...]) -> str:
    if op in ("linear", "addmm", "matmul", "conv1d", "conv2d", "conv3d", "relu", *wrong):
        return f"the output of {op}"
    return ""


@check("one-unit-output", stage="loss")
def one_unit_output(subject: Subject) -> Iterator[Found]:
    """Find cross entropy over a single class.

    What it measures
        The number of classes that ``cross_entropy`` is given.
    Why it matters
        The softmax of one value is 1 whatever the weights: loss and gradient are 0 for ever.
    When it is wrong
        Never.
    Fix
        Two outputs; or ``BCEWithLogitsLoss`` with one.
    References
        torch.nn.CrossEntropyLoss.
    """
    for call in calls(subject):
        if call.name in ("cross_entropy", "nll_loss") and call.input.ndim > 1 and call.input.shape[1] == 1:
            head = call.input_tag.layer
            yield Found(
                subject.called(head), "error", "cross entropy is given a single class",
                "The softmax of one value is always 1, so loss and gradient are 0.",
                "Use nn.BCEWithLogitsLoss() with a float target, or give the model two outputs.", 0.98, measured=1.0,
                limit=2.0,
                place=subject.place_of(head) if head else call.place, expected="[N, 2] or more classes",
                got=spec(call.input),
                causes=(because("a yes-or-no problem with one output", "Use BCEWithLogitsLoss.",
                                "loss = nn.BCEWithLogitsLoss()(output.squeeze(1), target.float())", confidence=0.9,
                                    name="wrong-loss-for-task"),),
            )  # fmt: skip


@check("class-weights", stage="loss")
def class_weights(subject: Subject) -> Iterator[Found]:
    """Find class weights whose number is not that of the classes.

    What it measures
        The length of ``weight`` against the classes of the output.
    Why it matters
        The loss raises.
    When it is wrong
        Not known.
    Fix
        One weight for each class.
    References
        torch.nn.CrossEntropyLoss.
    """
    yield from reported(subject, "class-weights")


@check("unreachable-target", stage="loss")
def unreachable_target(subject: Subject) -> Iterator[Found]:
    """Find regression targets that the last activation cannot reach.

    What it measures
        The range of the last operation (sigmoid and softmax 0 to 1, tanh -1 to 1, ReLU and softplus from 0) against the
        targets of squared and absolute errors; and targets outside of 0 to 1 under binary cross-entropy.
    Why it matters
        The error of such targets cannot vanish: the output sticks to its bound, where the gradient is 0.
    When it is wrong
        A few outliers that are meant to be cut off: below 5 % of the targets it is a hint.
    Fix
        A linear output, or targets scaled into the range.
    References
        DeepDiagnosis (ICSE 2022), symptom "out of range"; Stack Overflow 48251943 and 48221692.
    """
    values = subject.values
    for call in calls(subject):
        target = (
            call.target if values is not None and values.is_complete else next((t for _, t in subject.targets), None)
        )
        if target is None or not target.numel() or target.device.type == "meta":
            continue
        if call.name in _REGRESSES and call.input_tag.op in _REACH:
            low, high = _REACH[call.input_tag.op]
            words = f"{call.input_tag.op} gives {low:g} to {high:g}"
        elif call.name.startswith("binary_cross_entropy"):
            low, high, words = 0.0, 1.0, "binary cross-entropy takes targets from 0 to 1"
        else:
            continue
        y = target.detach().float().cpu()
        margin = 0.02 * max(1e-6, float(y.max() - y.min()))
        outside = (y < low - margin) | (y > high + margin)
        share = float(outside.float().mean())
        if share == 0:
            continue
        layer = call.input_tag.layer
        is_labels = call.name.startswith("binary") and set(y.flatten().tolist()) <= {-1.0, 1.0}
        fix = "Map the labels to 0 and 1: (y + 1) / 2." if is_labels else (
            f"Leave {call.input_tag.op} out, or scale the targets into its range." if call.name in _REGRESSES
            else "Scale the targets into 0 to 1, or use another loss.")  # fmt: skip
        yield Found(
            subject.called(layer) if call.name in _REGRESSES else "target", "error" if share > 0.05 else "hint",
            f"{share:.0%} of the targets ({float(y.min()):.4g} to {float(y.max()):.4g}) cannot be reached: {words}",
            "The output sticks to its bound, where the gradient is 0.", fix, 0.9, measured=share, limit=0.0,
            place=(subject.place_of(layer) if layer and call.name in _REGRESSES else None) or call.place,
            expected=f"targets from {low:g} to {high:g}", got=f"{float(y.min()):.4g} to {float(y.max()):.4g}",
            causes=(
                because(f"the output layer ends with {call.input_tag.op or 'an activation'}", fix,
                        "return self.head(x)",
                        confidence=0.7, name="output-range"),
                because("the targets were not scaled", "Scale them as the loss expects.",
                        "y = (y - y.min()) / (y.max() - y.min())",
                        confidence=0.4, name="targets-not-scaled"),
            ),
        )  # fmt: skip


@check("swapped-loss-arguments", stage="loss")
def swapped_loss_arguments(subject: Subject) -> Iterator[Found]:
    """Find losses that are called with the target first.

    What it measures
        Which of the two arguments of a loss depends on the weights.
    Why it matters
        Losses such as cross entropy and divergences are not symmetric: another quantity is made small, or it raises.
    When it is wrong
        Two networks that are compared with each other, both with gradients, are left alone.
    Fix
        ``loss(output, target)``.
    References
        torch.nn.BCEWithLogitsLoss.
    """
    for call in calls(subject):
        symmetric = call.name in _REGRESSES
        if symmetric or call.target is None or not call.target_has_grad or call.input_has_grad:
            continue
        yield Found(
            "loss", "error", f"{call.name} is given the target first and the output second",
            "It is not symmetric, so another quantity is made small.", "Call loss(output, target).", 0.93,
            place=call.place or subject.definitions.of_variable(subject.loss), expected="loss(output, target)",
            got=f"{spec(call.input)} without a gradient first",
            causes=(because("the arguments are swapped", "Swap them.", "loss(output, target)", confidence=0.95,
                name="wrong-call"),),
        )  # fmt: skip
