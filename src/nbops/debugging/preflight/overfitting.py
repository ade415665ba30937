"""The last check: can the model learn one batch by heart? Real steps on a copy, within a bound of time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from itertools import pairwise

import torch

from nbops.core.records import Cause
from nbops.debugging.preflight.found import Found, because, check
from nbops.debugging.preflight.passes import find_loss
from nbops.debugging.preflight.subject import Subject
from nbops.debugging.preflight.twins import quiet_modes
from nbops.debugging.randomness import untouched_randomness

LIMIT_S = 10.0
STEPS = 300
SAMPLES = 16
ENOUGH = 0.5  # the loss must fall below this share of its start


@check("overfit-one-batch", stage="overfit")
def overfit_one_batch(subject: Subject) -> Iterator[Found]:
    """Find models that cannot learn a single batch by heart.

    What it measures
        Up to 300 steps of a copy of model and optimizer (Adam with 1e-3 if none is given) on at most 16 samples of the
        batch, for at most ten seconds: the loss must fall below half of its start.
    Why it matters
        A model that cannot repeat 16 samples will not learn from a million: the learning rate, the loss, the data or
        the way of the gradient is wrong.
    When it is wrong
        Losses with a high floor (contrastive losses over few samples), very strong regularisation.
    Fix
        See the causes; they are in the order of what the numbers say.
    References
        TheDeepChecker (TOSEM 2022); Karpathy, A recipe for training neural networks (2019).
    """
    if not subject.training.is_complete or not subject.training.has_loss:
        return
    few = subject.sliced(min(subject.batch_size, SAMPLES)) if subject.is_sliceable else subject.batch
    losses = _train(subject, few)
    if len(losses) < 10:
        subject.notes.append(f"only {len(losses)} steps fitted into {LIMIT_S:g} s, too few to say anything")
        return
    start, end = losses[0], sum(losses[-5:]) / 5
    if not math.isfinite(end):
        at = next(i for i, value in enumerate(losses) if not math.isfinite(value))
        yield _found(
            subject, losses, f"the loss became {losses[at]} at step {at} of training on one batch", _diverged(losses)
        )
        return
    enough = start * ENOUGH if start > 0 else start - 0.5 * abs(start)
    if end <= enough or end < 1e-3:
        return
    what = f"the loss on one batch went from {start:.4g} to {end:.4g} in {len(losses)} steps"
    yield _found(subject, losses, what, _stuck(losses) if end < 2 * abs(start) + 1 else _diverged(losses))


def _found(subject: Subject, losses: list[float], what: str, causes: tuple[Cause, ...]) -> Found:
    return Found(
        "(all)", "warning", what, "A model that cannot learn one batch by heart cannot learn the data.", causes[0].fix,
        0.7,
        measured=losses[-1] / losses[0] if losses[0] else None, limit=ENOUGH,
        expected=f"below {ENOUGH:.0%} of its start",
        got=f"{losses[-1]:.4g}", causes=causes, place=subject.place_of(""),
        evidence={"losses": [round(v, 6) for v in losses[:: max(1, len(losses) // 40)]], "steps": len(losses)},
    )  # fmt: skip


def _diverged(losses: list[float]) -> tuple[Cause, ...]:
    return (
        because(
            "the learning rate is too large",
            "Divide it by 10.",
            "lr=lr / 10",
            test="repeat with a tenth of it",
            confidence=0.7,
            name="lr-too-high",
        ),
        because(
            "inputs or targets are not scaled",
            "Standardise them.",
            "x = (x - x.mean(0)) / x.std(0)",
            confidence=0.3,
            name="inputs-not-scaled",
        ),
    )


def _stuck(losses: list[float]) -> tuple[Cause, ...]:
    span, start = max(losses) - min(losses), abs(losses[0]) or 1.0
    flat = because("gradients do not reach the weights, or units are saturated or off", "Look at the other findings.",
                   test="nb.watch shows each layer's gradient",
                   confidence=0.6 if span < 1e-3 * start else 0.3, name="vanishing-gradient")  # fmt: skip
    small = because("the learning rate is too small", "Multiply it by 10.", "lr=lr * 10",
                    test="repeat with ten times as much",
                    confidence=0.6 if losses[-1] < losses[0] else 0.3, name="lr-too-low")  # fmt: skip
    large = because("the learning rate is too large: the loss swings", "Divide it by 10.", "lr=lr / 10",
                    confidence=0.55 if _swings(losses) else 0.15, name="lr-too-high")  # fmt: skip
    data = because("labels that do not belong to the samples, or an output that cannot reach them",
                   "Look at some pairs by eye.",
                   confidence=0.25, name="labels-not-of-inputs")  # fmt: skip
    return tuple(sorted((flat, small, large, data), key=lambda cause: -cause.confidence))


def _swings(losses: list[float]) -> bool:
    tail = losses[len(losses) // 2 :]
    ups = sum(b > a for a, b in pairwise(tail))
    return ups > 0.4 * len(tail) and max(tail) - min(tail) > 0.1 * abs(losses[0])


def _train(subject: Subject, batch: object) -> list[float]:
    twin, job = subject.real_job(batch)
    job.model.train()
    optimizers = [twin.copy(o) for o in subject.optimizers]
    if not optimizers:
        optimizers = [torch.optim.Adam([p for p in job.model.parameters() if p.requires_grad], 1e-3)]
    losses: list[float] = []
    began = time.perf_counter()
    with untouched_randomness(), quiet_modes():
        while len(losses) < STEPS and time.perf_counter() - began < LIMIT_S:
            loss = find_loss(job)
            if loss is None or not loss.requires_grad:
                break
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                break
            _step(optimizers, loss)
    return losses


def _step(optimizers: list[torch.optim.Optimizer], loss: torch.Tensor) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad()
    torch.autograd.backward(loss)
    for optimizer in optimizers:
        step = type(optimizer).step
        plain = getattr(step, "__wrapped__", step)  # without the process's hooks: no watch is to see this
        if isinstance(optimizer, torch.optim.LBFGS):
            plain(optimizer, lambda: float(loss))
        else:
            plain(optimizer)
