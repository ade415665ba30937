"""Checks that report what would crash: in the forward pass, the loss and the backward pass, each at its line."""

from __future__ import annotations

from collections.abc import Iterator

from nbops.debugging.calling import forward_takes
from nbops.debugging.preflight.comparing import explain_loss
from nbops.debugging.preflight.explaining import MOST, Explanation, found_of, tried
from nbops.debugging.preflight.found import Found, because, check
from nbops.debugging.preflight.layers import explain_layer
from nbops.debugging.preflight.mistakes import explain_mistake
from nbops.debugging.preflight.operations import explain_operation
from nbops.debugging.preflight.passes import Crash, Pass
from nbops.debugging.preflight.repairs import Undo
from nbops.debugging.preflight.returning import explain_backward
from nbops.debugging.preflight.sites import Site
from nbops.debugging.preflight.subject import Subject
from nbops.debugging.specs import spec

_UNSURE = ("error-in-forward", "error-in-backward")


def explanations(subject: Subject) -> list[Explanation]:
    """Return what crashes, first things first; computed once."""
    if subject.explanations is None:
        subject.explanations = _explained(subject)
    return subject.explanations


def explain(subject: Subject, crash: Crash, done: Pass) -> Explanation:
    """Return what one crash means."""
    if crash.phase == "backward":
        return explain_backward(subject, crash, done)
    if crash.phase == "loss" or crash.path.startswith("loss"):
        return explain_loss(subject, crash, done)
    if crash.module is not None and type(crash.module).__module__.startswith("torch."):
        found = explain_layer(Site(subject, crash, done))
        if found is not None:
            return found
    return explain_operation(subject, crash) or explain_mistake(subject, crash, done)


def _explained(subject: Subject) -> list[Explanation]:
    done: Pass | None = subject.training
    found: list[Explanation] = []
    undo: list[Undo] = []
    try:
        while done is not None and done.crash is not None and len(found) < MOST:
            one = explain(subject, done.crash, done)
            if one.check in _UNSURE and done.is_fake:
                confirmed = _confirmed(subject)
                if confirmed is None:
                    return found
                one = explain(subject, confirmed.crash, confirmed) if confirmed.crash is not None else one
            if not done.is_fake:
                return [*found, one]
            one, more, following = tried(subject, one, done.crash)
            found.append(one)
            undo += more
            done = following
    finally:
        for take_back in reversed(undo):
            take_back()
    return found or _with_values(subject)


def _confirmed(subject: Subject) -> Pass | None:
    """Run a pass with values where a fake one failed in an unknown way; None if that pass runs, which then counts."""
    few = subject.sliced(min(subject.batch_size, 4)) if subject.is_sliceable else subject.batch
    real = subject.real_pass(few)
    if real.crash is None and not real.timed_out:
        subject.training = real
        return None
    return real


def _with_values(subject: Subject) -> list[Explanation]:
    """Return what crashes only where values are known: an index out of range, a mask without a true value."""
    done = subject.values
    if done is None or done.crash is None or done is subject.training:
        return []
    if subject.is_sliceable and subject.samples < subject.batch_size and subject.training.is_fake:
        whole = subject.real_pass(subject.batch)
        if whole.crash is None:  # it was cut in a way that this model does not take
            subject.values = None if whole.timed_out else whole
            return []
        done = whole
    if done.crash is None:
        return []
    one = explain(subject, done.crash, done)
    return [] if one.check in _UNSURE and _is_elsewhere(subject) else [one]


def _is_elsewhere(subject: Subject) -> bool:
    """Return whether the model lives on another device, so that what fails on the CPU may run there."""
    return any(p.device.type != "cpu" for p in subject.parameters.values())


def reported(subject: Subject, name: str) -> Iterator[Found]:
    """Yield what a check says about the crashes that are its own."""
    if subject.plan.doubt and name != "wrong-call":
        return  # how the model is called was a guess, and it failed
    yield from (found_of(one) for one in explanations(subject) if one.check == name)


@check("shape-mismatch", stage="forward")
def shape_mismatch(subject: Subject) -> Iterator[Found]:
    """Find layers and operations whose sizes do not fit what they are given.

    What it measures
        One pass of the whole batch with tensors that have shapes, types and devices but no values. At the first error:
        the module that was running, the line of ``forward()``, what that module takes and what it was given, and the
        output of the layer before. Repairs (another size, a flattened input, another order of the axes, a pool that
        leaves what the next layer takes) are tried on the copy; those with which the pass runs come first. Behind a
        repaired error the pass goes on, so that up to three errors are told at once.
    Why it matters
        Training stops at its first step, after the data were loaded and the model was built.
    When it is wrong
        Control flow that depends on values is followed for the first samples only.
    Fix
        The change that is shown; it names the number to write.
    References
        Refty (ICSE 2022) and Pythia (ECOOP 2020) find these statically; here the real operations are the model.
    """
    yield from reported(subject, "shape-mismatch")


@check("dtype-mismatch", stage="forward")
def dtype_mismatch(subject: Subject) -> Iterator[Found]:
    """Find tensors of different types in one operation.

    What it measures
        The types of inputs and weights in layers and matrix products, of indices, and of targets.
    Why it matters
        torch does not convert float64 data of NumPy, bytes of images or whole numbers by itself: the step fails.
    When it is wrong
        Under an autocast context that is only entered in the training loop: use ``forward=`` and enter it there.
    Fix
        Convert where the data set makes its tensors.
    References
        torch.Tensor.to; torch.autocast.
    """
    yield from reported(subject, "dtype-mismatch")


@check("device-mismatch", stage="forward")
def device_mismatch(subject: Subject) -> Iterator[Found]:
    """Find tensors on different devices in one operation.

    What it measures
        The devices of the weights, the batch and the tensors that ``forward()`` makes.
    Why it matters
        The step fails. A tensor that is a plain attribute stays behind when the model is moved.
    When it is wrong
        The loop moves the batch: pass the batch as the loop gives it to the model.
    Fix
        Move the batch; make tensors with ``device=x.device``; keep them with ``register_buffer``.
    References
        torch.nn.Module.register_buffer.
    """
    yield from reported(subject, "device-mismatch")


@check("index-out-of-range", stage="forward")
def index_out_of_range(subject: Subject) -> Iterator[Found]:
    """Find indices beyond an embedding, and labels that name no class.

    What it measures
        The smallest and largest index of this batch against the rows of the table, and labels against the classes of
        the output, without those that ``ignore_index`` takes out.
    Why it matters
        On the CPU the step fails; on a GPU the process is lost, far from the line.
    When it is wrong
        It looks at one batch: indices of others may lie elsewhere.
    Fix
        A table with one row more than the largest index; labels from 0.
    References
        torch.nn.Embedding; torch.nn.CrossEntropyLoss.
    """
    yield from reported(subject, "index-out-of-range")


@check("wrong-call", stage="forward")
def wrong_call(subject: Subject) -> Iterator[Found]:
    """Find modules that are called with what they do not take, or that return nothing.

    What it measures
        The arguments of each call, tuples where a tensor is needed, a missing ``forward``, ``return`` or attribute.
    Why it matters
        Training stops at its first step.
    When it is wrong
        The batch reaches the model in another way in your loop: say it with ``forward=``.
    Fix
        The change that is shown.
    References
        torch.nn.Module.
    """
    plan, crashes = subject.plan, explanations(subject)
    problem = plan.problem or (plan.doubt if crashes else "")
    if problem and subject.forward is None and not any(e.check == "wrong-call" for e in crashes):
        fix = "Pass forward=lambda model, batch: … as your loop calls the model."
        yield Found(
            subject.name, "error", problem, "The model cannot be called with this batch.", fix, 0.7, blocks=True,
            place=subject.place_of(""), expected=forward_takes(subject.model), got=spec(subject.batch),
            causes=(
                because("an argument is missing in the batch", "Give it to the model.", confidence=0.5,
                    name="wrong-call"),
                because("the loop calls the model in another way", fix, "forward=lambda model, batch: model(batch[0])",
                        confidence=0.45, name="wrong-call"),
            ),
        )  # fmt: skip
    yield from reported(subject, "wrong-call")


@check("error-in-forward", stage="forward")
def error_in_forward(subject: Subject) -> Iterator[Found]:
    """Find any other error of the forward pass.

    What it measures
        Whether the forward pass raises; the error is confirmed by a pass with values over a few samples.
    Why it matters
        Training stops at its first step.
    When it is wrong
        The pass needs what only the training loop prepares: use ``forward=``.
    Fix
        See the error.
    References
        None.
    """
    yield from reported(subject, "error-in-forward")


@check("target-mismatch", stage="loss")
def target_mismatch(subject: Subject) -> Iterator[Found]:
    """Find outputs and targets that the loss cannot compare.

    What it measures
        The shapes of what the loss was called with.
    Why it matters
        The step fails.
    When it is wrong
        The loop changes the target first: pass the batch as the loss gets it, or a function as ``loss``.
    Fix
        The change of the target or of the output that is shown.
    References
        The shape sections of torch's losses.
    """
    yield from reported(subject, "target-mismatch")


@check("in-place-change", stage="backward")
def in_place_change(subject: Subject) -> Iterator[Found]:
    """Find operations that overwrite what the backward pass needs.

    What it measures
        Whether backward fails because a tensor was changed; the lines that change tensors in place, by the operation
        that had made the tensor.
    Why it matters
        The step fails in ``backward()``, far from the line that is wrong.
    When it is wrong
        Several in-place operations of the same kind: the first is named.
    Fix
        ``x = x + y`` in place of ``x += y``; ``inplace=False``.
    References
        torch's notes on in-place correctness checks.
    """
    yield from reported(subject, "in-place-change")


@check("loss-not-scalar", stage="backward")
def loss_not_scalar(subject: Subject) -> Iterator[Found]:
    """Find losses of more than one number.

    What it measures
        The shape of the loss.
    Why it matters
        ``backward()`` fails.
    When it is wrong
        The loop takes the mean itself: give it as ``loss=lambda output, target: criterion(output, target).mean()``.
    Fix
        ``loss.mean().backward()``.
    References
        torch.Tensor.backward.
    """
    yield from reported(subject, "loss-not-scalar")


@check("error-in-backward", stage="backward")
def error_in_backward(subject: Subject) -> Iterator[Found]:
    """Find any other error of the backward pass.

    What it measures
        Whether the backward pass raises.
    Why it matters
        Training stops at its first step.
    When it is wrong
        The loop works with gradients in a way of its own.
    Fix
        See the error.
    References
        None.
    """
    yield from reported(subject, "error-in-backward")
