"""Checks of other circumstances: a smaller last batch, a second step, evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from nbops.debugging.preflight.crashing import explain
from nbops.debugging.preflight.explaining import found_of
from nbops.debugging.preflight.found import Found, because, check
from nbops.debugging.preflight.passes import Pass
from nbops.debugging.preflight.subject import Subject
from nbops.debugging.specs import shape_of, spec, tensors_in


def _smaller(subject: Subject) -> tuple[Any, int, bool] | None:
    """Return a smaller batch, its size, and whether it is known that such a batch comes."""
    last = subject.last_batch
    if last is not None and not isinstance(last, int):
        sizes = [int(t.shape[0]) for _, t in tensors_in(last) if t.ndim]
        return last, (sizes[0] if sizes else 0), True
    if not subject.is_sliceable:
        return None
    if isinstance(last, int):
        return (subject.sliced(last), last, True) if 0 < last < subject.batch_size else None
    if subject.is_last_known:
        return None
    size = _less(subject.batch_size)
    return subject.sliced(size), size, False


def _less(size: int) -> int:
    """Return a smaller size; an even one of an even one, for batches of pairs."""
    return size - 2 if size > 4 and size % 2 == 0 else max(1, size - 1)


@check("last-batch", stage="last batch")
def last_batch(subject: Subject) -> Iterator[Found]:
    """Find models that fail on a batch of another size.

    What it measures
        A pass over the last batch of an epoch, whose size a DataLoader tells, else over one or two samples less than
        the batch; and over a single sample, where the last one may be that small.
    Why it matters
        An epoch fails at its end: a batch size that is written into ``view``,
        a state that was made for the first batch,
        batch normalisation over a single sample.
    When it is wrong
        The loader drops the last batch: pass the loader itself, then it is known. Where it is not, this is a warning.
    Fix
        Take the size from the tensor: ``x.view(x.size(0), -1)``; ``drop_last=True``.
    References
        torch.utils.data.DataLoader.
    """
    smaller = _smaller(subject)
    if smaller is not None:
        batch, size, is_known = smaller
        done = _pass(subject, batch)
        if done is not None and done.crash is not None:
            yield _of_crash(
                subject, done, "error" if is_known else "warning", f"with a batch of {size} samples: ", size
            )
            return
    if subject.is_sliceable and not subject.is_last_known and subject.batch_size > 2 and _normalises(subject):
        done = _pass(subject, subject.sliced(1))
        if done is not None and done.crash is not None:
            yield _of_crash(subject, done, "hint", "with a last batch of one sample: ", 1)


def _normalises(subject: Subject) -> bool:
    return any(isinstance(m, _NormBase) for m in subject.model.modules())


def _pass(subject: Subject, batch: Any) -> Pass | None:
    if subject.training.is_fake:
        done = subject.fake_pass(batch, backward=False)
        return None if done.needs_values else done
    return subject.real_pass(batch, backward=False)


def _of_crash(subject: Subject, done: Pass, status: str, before: str, size: int) -> Found:
    crash = done.crash
    if crash is None:
        raise ValueError("the pass did not fail")
    found = found_of(explain(subject, crash, done))
    hard = (subject.batch_size, size)
    place = crash.place if crash.place is not None and str(subject.batch_size) in crash.place.code else found.place
    fix = found.fix
    if place is crash.place and place is not None:
        fix = "Take the size from the tensor: x.size(0)."
    return replace(
        found, status=status, what=before + found.what, why=f"The batch before had {hard[0]} samples. {found.why}",
        fix=fix,
        confidence=0.9 if status == "error" else 0.7, blocks=False, place=place,
        measured=float(size), limit=float(subject.batch_size),
    )  # fmt: skip


@check("second-step", stage="last batch")
def second_step(subject: Subject) -> Iterator[Found]:
    """Find models that cannot take a second step.

    What it measures
        A second training pass over the same batch, with the same copy and no gradient cleared.
    Why it matters
        A state that is kept between calls holds the graph of the step before, which is gone: backward fails.
    When it is wrong
        The loop resets the state by itself before each batch.
    Fix
        ``self.state = state.detach()``.
    References
        torch's notes on backward: "Trying to backward through the graph a second time".
    """
    if not subject.training.is_complete or not subject.training.is_fake or subject.training.observer.macs > 5e9:
        return
    done = subject.fake_pass()
    if done.crash is None:
        return
    crash = done.crash
    is_graph = "second time" in str(crash.error)
    state = [n for n, v in vars(subject.fake_model).items() if isinstance(v, torch.Tensor) and v.grad_fn is not None]
    found = found_of(explain(subject, crash, done))
    yield replace(
        found, status="error", blocks=False,
        what=f"the second step fails: {'the graph of the first is used again' if is_graph else found.what}",
        why="A state is kept between calls with the graph that it was computed by." if is_graph else found.why,
        fix="Cut it: self.state = state.detach()." if is_graph else found.fix, layer=state[0] if state else found.layer,
        causes=(because(f"'{state[0] if state else 'a state'}' is kept with its graph", "Detach it where it is kept.",
                        f"self.{state[0] if state else 'state'} = state.detach()",
                            name="graph-kept"),) if is_graph else found.causes,
        place=subject.definitions.of_attribute(state[0]) if state else found.place,
        expected="a state without a graph" if is_graph else found.expected,
    )  # fmt: skip


@check("evaluation", stage="evaluation")
def evaluation(subject: Subject) -> Iterator[Found]:
    """Find models that fail in evaluation mode, or give something of another shape there.

    What it measures
        A pass in evaluation mode without gradients; what it returns against what training mode returns.
    Why it matters
        The error comes after the first epoch, when the first hour of training is over.
    When it is wrong
        Models that return more while they train, as those with auxiliary heads: that is a hint.
    Fix
        The change that is shown.
    References
        TheDeepChecker (TOSEM 2022), mode-switch test.
    """
    done = subject.evaluation
    if done is None:
        return
    if done.crash is not None and subject.forward is not None and done.crash.module is None:
        return  # a step of training is not written for evaluation
    if done.crash is not None and done.crash.phase == "forward":
        found = found_of(explain(subject, done.crash, done))
        yield replace(found, what=f"in evaluation mode: {found.what}", blocks=False)
        return
    if not done.is_complete or subject.training.is_fake != done.is_fake or subject.training.is_own_loss:
        return
    was, now = ([shape_of(t) for _, t in tensors_in(p.output)] for p in (subject.training, done))
    if was != now or spec(subject.training.output, depth=0) != spec(done.output, depth=0):
        yield Found(
            subject.name, "hint", f"training gives {spec(subject.training.output)}, evaluation {spec(done.output)}",
            "Code that uses the output must know in which mode it came.", "Handle both, or return the same.", 0.6,
            expected=spec(subject.training.output), got=spec(done.output), place=subject.place_of(""),
            causes=(because("forward() asks self.training", "Look there.", "if self.training:", confidence=0.7,
                name="wrong-call"),),
        )  # fmt: skip


@check("dropout-in-evaluation", stage="evaluation")
def dropout_in_evaluation(subject: Subject) -> Iterator[Found]:
    """Find dropout that stays on in evaluation mode.

    What it measures
        Calls of functional dropout, and of attention with dropout, with ``training=True`` in modules that are in
        evaluation mode, and their lines.
    Why it matters
        Predictions are random and worse than they could be; two evaluations differ.
    When it is wrong
        Monte-Carlo dropout, where that is meant.
    Fix
        ``F.dropout(x, p, training=self.training)``, or ``nn.Dropout`` as a layer.
    References
        TrainCheck (OSDI 2025), transformers issue 33844.
    """
    done = subject.evaluation
    if done is None or not done.is_complete:
        return
    told = set()
    for event in done.observer.events:
        if event.kind != "dropout" or (event.layer, event.place) in told:
            continue
        told.add((event.layer, event.place))
        fused = event.name.startswith("scaled_dot")
        code = event.place.code if event.place else ""
        patch = "dropout_p=self.p if self.training else 0.0" if fused else "F.dropout(x, p, training=self.training)"
        yield Found(
            subject.called(event.layer), "error", f"{event.name} is on in evaluation mode (p={event.details['p']:g})",
            "Functional dropout does not know the mode of the module.",
            "Pass training=self.training." if not fused else "Pass dropout_p=0.0 when not training.", 0.9,
            place=event.place,
            measured=event.details["p"], limit=0.0, expected="no dropout in evaluation", got=code or event.name,
            causes=(because("the call does not say training=self.training", "Say it.", patch, test=code,
                name="dropout-always-on"),),
        )  # fmt: skip


@check("random-evaluation", stage="evaluation")
def random_evaluation(subject: Subject) -> Iterator[Found]:
    """Find models whose predictions are random.

    What it measures
        Whether an evaluation draws random numbers, and two of the same samples with other numbers differ.
    Why it matters
        Metrics move by themselves, and the same input gives another answer in production.
    When it is wrong
        Models that sample on purpose: a hint.
    Fix
        Make what is random depend on ``self.training``.
    References
        TrainCheck (OSDI 2025), invariant "evaluation is deterministic".
    """
    done = subject.evaluation
    if done is None or not done.is_complete or any(e.kind == "dropout" for e in done.observer.events):
        return
    drawn = next((e for e in done.observer.events if e.kind == "random"), None)
    if drawn is None or not _differs(subject):
        return
    yield Found(
        subject.called(drawn.layer), "hint", f"two evaluations of the same samples differ: {drawn.name} is random",
        "Metrics move by themselves.", "Make it depend on self.training.", 0.7, place=drawn.place,
        expected="equal outputs", got="different outputs",
        causes=(because("random numbers are drawn in evaluation mode too", "Ask self.training first.",
                        "if self.training:", confidence=0.7, name="dropout-always-on"),),
    )  # fmt: skip


def _differs(subject: Subject) -> bool:
    outputs = []
    for seed in (1, 2):
        done = subject.probe(seed)
        if done is None:
            return False
        outputs.append([t for _, t in tensors_in(done.output) if t.is_floating_point()])
    pairs = list(zip(*outputs, strict=False))
    return any(a.shape != b.shape or not torch.equal(a, b) for a, b in pairs if not bool(a.isnan().any()))


@check("resting-mode", stage="evaluation")
def resting_mode(subject: Subject) -> Iterator[Found]:
    """Find models that are in evaluation mode before training, with normalisation that has seen nothing.

    What it measures
        Whether the model is in evaluation mode as a whole, and its batch normalisations hold their first statistics.
    Why it matters
        Without ``model.train()`` dropout is off, and normalisation subtracts 0 and divides by 1.
    When it is wrong
        The loop calls ``model.train()`` itself: a hint.
    Fix
        ``model.train()`` before the loop; train before evaluating.
    References
        torch.nn.BatchNorm2d.
    """
    norms = [(n, m) for n, m in subject.model.named_modules() if isinstance(m, _NormBase) and m.track_running_stats]
    fresh = [n for n, m in norms if m.num_batches_tracked is not None and not int(m.num_batches_tracked)]
    has_mode = any(isinstance(m, nn.modules.dropout._DropoutNd | _NormBase) for m in subject.model.modules())
    if subject.model.training or not has_mode or any(m.training for m in subject.model.modules()):
        return
    yield Found(
        fresh[0] if fresh else subject.name, "hint",
        "the model is in evaluation mode" + (f", and '{fresh[0]}' has seen no batch yet" if fresh else ""),
        "If the loop does not call model.train(), dropout stays off and normalisation learns nothing.",
        "Call model.train() before the loop.", 0.5, place=subject.place_of(fresh[0]) if fresh else None,
        expected="model.training is True", got="False",
        causes=(because("model.eval() was called before", "Call model.train().", "model.train()", confidence=0.7,
            name="train-in-eval-mode"),),
    )  # fmt: skip
