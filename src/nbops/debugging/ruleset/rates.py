"""Rules about the optimizer's settings and what becomes of them: rates, schedules, clipping, decay, precision."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from itertools import pairwise

from nbops.debugging.causes import likely
from nbops.debugging.rules import rules
from nbops.debugging.ruleset.trends import is_learning, is_supervised, trend, warming_up
from nbops.debugging.views import Finding, History, StepView

VANISHED_RATE = 1e-3  # of the highest rate so far
TINY_RATIO = 5e-5
CLIPPED = 0.02
SHRUNK = 0.3
SWALLOWED, SWALLOWED_LEARNING = 0.5, 0.1
_ADAPTIVE = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta")


@rules.register("odd-settings")
def odd_settings(view: StepView, history: History) -> Iterator[Finding]:
    """Find settings of an optimizer that hardly ever make sense.

    What it measures
        The first group: a momentum (or first beta) of 0.99 or more, eps of exactly 0 or of 0.5 and more under Adam, a
        rate of 0.3 or more under Adam, a decay of 0.3 or more under SGD or Adam, maximize.
    Why it matters
        The step is another one than meant: it swings, divides by zero, does nothing, or pulls every weight to zero.
    When it is wrong
        Recipes that set one of these on purpose (eps of 1 in old Inception recipes).
    Fix
        The defaults: momentum 0.9, betas (0.9, 0.999), eps 1e-8, weight decay 0 to 1e-2.
    References
        Requirement A25, illegal hyper-parameters; TheDeepChecker.
    """
    if view.stepper is None or view.moment != "step":
        return
    s, kind = view.stepper.settings, view.stepper.kind
    betas, rate = s.get("betas"), max(view.lr, default=0.0)
    given = s.get("momentum", 0.0)
    momentum = float(betas[0]) if isinstance(betas, tuple) else 0.0 if isinstance(given, tuple) else float(given)
    eps, decay = s.get("eps"), s.get("weight_decay", 0.0)
    odd: list[tuple[str, str, float, str]] = []
    if momentum >= 0.99:
        odd.append(("momentum-too-high", f"momentum {momentum:g}", momentum, "warning"))
    if kind in _ADAPTIVE and isinstance(eps, float | int) and not isinstance(eps, bool) and (eps == 0 or eps >= 0.5):
        odd.append(("eps-wrong", f"eps {eps:g}", float(eps), "warning"))
    if kind in ("Adam", "AdamW", "NAdam", "RAdam") and rate >= 0.3:
        odd.append(("lr-too-high", f"a learning rate of {rate:g}", rate, "warning"))
    if isinstance(decay, float | int) and (decay >= 0.3 if kind != "AdamW" else decay * rate >= 0.1):
        odd.append(("weight-decay-too-high", f"a weight decay of {decay:g}", float(decay), "warning"))
    if s.get("maximize") is True and is_supervised(view):
        odd.append(("loss-sign", "maximize=True", 1.0, "error"))
    for cause, what, value, status in odd:
        causes = likely(cause, first=0.85)
        yield Finding(
            layer="optimizer", status=status, measured=value, limit=None, confidence=0.8, causes=causes,
            what=f"{kind} has {what}", why=f"{causes[0].text[0].upper()}{causes[0].text[1:]}.", fix=causes[0].fix,
        )  # fmt: skip
        return


@rules.register("rate-vanished")
def rate_vanished(view: StepView, history: History) -> Iterator[Finding]:
    """Find schedules that take the learning rate away before anything is learned.

    What it measures
        The highest rate beside the highest one so far: below a thousandth of it within the first 400 steps, while the
        loss has not fallen by four fifths; a drop that the last tenth of a one-cycle schedule makes comes later.
    Why it matters
        Nothing moves any more, and the loss looks as if it had converged.
    When it is wrong
        Very short trainings that anneal to zero.
    Fix
        Call ``scheduler.step()`` once per epoch if it was made for epochs; make it longer.
    References
        TrainCheck; torch's warning about the order of ``step`` calls.
    """
    top = max((max(v.lr, default=0.0) for v in history), default=0.0)
    rate = max(view.lr, default=0.0)
    if view.moment != "step" or not view.is_sampled:
        return
    if top <= 0 or rate >= VANISHED_RATE * top or view.step > 400 or is_learning(history, by=0.8):
        return
    causes = likely("scheduler-decays-too-fast", "scheduler-misread", first=0.85)
    yield Finding(
        layer="optimizer", status="warning", measured=rate, limit=VANISHED_RATE * top, confidence=0.85, causes=causes,
        what=f"the learning rate is {rate:.2g} at step {view.step}, and was {top:.2g}", fix=causes[0].fix,
        why="The schedule decays far too fast: it may be stepped at every batch.",
    )  # fmt: skip


@rules.register("rate-grows")
def rate_grows(view: StepView, history: History) -> Iterator[Finding]:
    """Find schedules that multiply the learning rate by more than one, again and again.

    What it measures
        The different rates of the measured steps: five or more that grow by one and the same factor, to 1.5 times the
        first. Warm-ups grow by equal amounts, or along a cosine.
    Why it matters
        The rate grows without bound, and the training diverges late, for no reason that one sees.
    When it is wrong
        A learning-rate range test.
    Fix
        A factor below 1.
    References
        torch's documentation of ExponentialLR.
    """
    rates: list[float] = []
    for one in [*history, view]:
        rate = max(one.lr, default=0.0)
        if rate > 0 and (not rates or rate != rates[-1]):
            rates.append(rate)
    if len(rates) < 5 or rates[-1] < 1.5 * rates[0]:
        return
    logs = [math.log(b / a) for a, b in pairwise(rates)]
    unit = min(logs)
    if unit <= 1e-6 or any(abs(one / unit - round(one / unit)) > 0.02 for one in logs):
        return
    causes = likely("scheduler-misread", "lr-too-high", first=0.85)
    yield Finding(
        layer="optimizer", status="warning", measured=rates[-1], limit=rates[0], confidence=0.85, causes=causes,
        what=f"the learning rate has grown from {rates[0]:.3g} to {rates[-1]:.3g}, by one factor each time",
        why="The factor of the schedule is above 1.", fix="Set the factor (gamma) below 1.",
    )  # fmt: skip


@rules.register("rate-too-low")
def rate_too_low(view: StepView, history: History) -> Iterator[Finding]:
    """Find trainings that move so little that nothing can be learned.

    What it measures
        The largest update of all layers over their weights: below 5e-5 on every measured step, after 80 steps, and a
        loss that has fallen by less than a tenth.
    Why it matters
        At this pace the training takes ten times as long as it should, or never gets there.
    When it is wrong
        Fine-tuning whose loss begins low.
    Fix
        A rate ten times higher; look at eps, at clipping, and at the factor of the schedule.
    References
        TheDeepChecker, "low learning rate" (updates outside 1e-4 to 0.1 of the weights); SageMaker, WeightUpdateRatio.
    """
    course = trend(history)
    if course is None or course.steps < 80 or course.fall > 0.1 or course.last < 0.02 or warming_up(history):
        return
    ratios = [v.update_ratio for v in history.recent(20) if v.update_ratio is not None]
    if len(ratios) < 5 or max(ratios) > TINY_RATIO or max(ratios) == 0.0 or view.optimizers > 1:
        return
    s = view.stepper.settings if view.stepper is not None else {}
    eps = s.get("eps")
    names = ["lr-too-low"]
    if isinstance(eps, float) and eps > 1e-3:
        names.insert(0, "eps-wrong")
    if _clipped_to(history) is not None:
        names.insert(0, "scaler-misused" if view.stepper and view.stepper.scale else "clip-too-small")
    if max((max(v.lr, default=0.0) for v in history), default=0.0) > 100 * max(view.lr, default=0.0):
        names.insert(0, "scheduler-decays-too-fast")
    causes = likely(*names, "scheduler-misread", "vanishing-gradient")
    yield Finding(
        layer="optimizer", status="warning", measured=max(ratios), limit=TINY_RATIO, confidence=0.8, causes=causes,
        what=f"no layer changes by more than {max(ratios):.1e} of its weights in a step, and after {course.steps} "
        f"steps the loss has fallen by {max(0.0, course.fall):.1%}", why=f"Most likely {causes[0].text}.",
        fix=causes[0].fix,
    )  # fmt: skip


@rules.register("clipped-to-nothing")
def clipped_to_nothing(view: StepView, history: History) -> Iterator[Finding]:
    """Find gradients that are clipped to a norm so small that the steps do nothing.

    What it measures
        The norm of all gradients just before the step: one and the same value below 0.02 on ten measured steps, under
        an optimizer that does not rescale gradients itself.
    Why it matters
        Every step has the length of the clip times the rate, whatever the gradient was.
    When it is wrong
        Recipes of normalised gradient descent with a rate to match.
    Fix
        Clip at 1 or so; with a gradient scaler, call ``scaler.unscale_(optimizer)`` first.
    References
        torch's recipe for gradient clipping under AMP.
    """
    norm = _clipped_to(history)
    kind = view.stepper.kind if view.stepper is not None else ""
    scaled = view.stepper is not None and view.stepper.scale is not None
    if norm is None or (kind in _ADAPTIVE and not scaled) or is_learning(history):
        return
    causes = likely("scaler-misused", "clip-too-small") if scaled else likely("clip-too-small", "lr-too-low")
    yield Finding(
        layer="optimizer", status="warning", measured=norm, limit=CLIPPED, confidence=0.85, causes=causes,
        what=f"gradients are clipped to a norm of {norm:.1e} at every step", why=f"Most likely {causes[0].text}.",
        fix=causes[0].fix,
    )  # fmt: skip


def _clipped_to(history: History) -> float | None:
    """Return the norm that the gradients of ten steps share, if it is small."""
    norms = [norm for _, _, norm in list(history.curve)[-10:]]
    if len(norms) < 10 or not all(math.isfinite(norm) and norm > 0 for norm in norms):
        return None
    middle = statistics.median(norms)
    is_one = max(norms) - min(norms) < 0.02 * middle
    return middle if is_one and middle < CLIPPED else None


@rules.register("weights-decay")
def weights_decay(view: StepView, history: History) -> Iterator[Finding]:
    """Find weights that shrink towards zero while nothing is learned.

    What it measures
        The norm of all weights beside that of the first measured step: below 30 % of it, with a weight decay above 0
        and a loss that has not fallen by a third.
    Why it matters
        The decay is stronger than the loss: the model forgets faster than it learns.
    When it is wrong
        Models that begin with weights that are far too large.
    Fix
        ``weight_decay`` of 1e-2 or less; leave biases and normalisations out.
    References
        TheDeepChecker.
    """
    decay = view.stepper.settings.get("weight_decay", 0.0) if view.stepper is not None else 0.0
    if (
        history.first is None
        or not isinstance(decay, float | int)
        or decay <= 0
        or is_learning(history)
        or view.step < 20
    ):
        return
    before = math.hypot(*(one.weight_norm or 0.0 for one in history.first.layers.values()))
    now = math.hypot(*(one.weight_norm or 0.0 for one in view.layers.values()))
    if not before or now > SHRUNK * before or len(view.layers) < len(history.first.layers):
        return
    causes = likely("weight-decay-too-high", "lr-too-high", first=0.85)
    yield Finding(
        layer="optimizer", status="warning", measured=now / before, limit=SHRUNK, confidence=0.85, causes=causes,
        what=f"the weights have shrunk to {now / before:.0%} of their first norm (weight decay {decay:g})",
        why="Weight decay pulls them to zero faster than the loss moves them.", fix=causes[0].fix,
    )  # fmt: skip


@rules.register("updates-swallowed")
def updates_swallowed(view: StepView, history: History) -> Iterator[Finding]:
    """Find weights of low precision that swallow most of their updates.

    What it measures
        In layers of 16-bit weights, the share of values with a gradient that a step changes: below a half (a tenth if
        the loss has fallen by a third), on five measured steps in a row, under Adam, where each value should move.
    Why it matters
        bfloat16 keeps eight bits: an update below a 256th of a weight is lost in rounding.
    When it is wrong
        Layers of huge weights with tiny updates at the end of a schedule.
    Fix
        Keep the weights in float32 and compute under ``torch.autocast``.
    References
        torch's documentation of automatic mixed precision.
    """
    recent = [*history.recent(TIMES), view][-TIMES - 1 : -1]
    low = {one.name for one in view.layers.values() if one.is_low_precision}
    if len(recent) < TIMES or not any(view.lr) or view.step < 8 or not low:
        return
    shares = [
        [one.moved_share for one in v.layers.values() if one.name in low and one.moved_share is not None]
        for v in recent
    ]
    lows, limit = [min(one, default=1.0) for one in shares], SWALLOWED_LEARNING if is_learning(history) else SWALLOWED
    if max(lows) > limit or not any(one.moved for v in recent for one in v.layers.values()):
        return  # where nothing moves at all, no-update says so
    ratio = max((v.update_ratio or 0.0 for v in recent), default=0.0)
    if ratio < 1e-7 or not all(_is_adaptive(v) for v in recent):
        return
    name = min((one for one in recent[-1].layers.values() if one.name in low and one.moved_share is not None),
               key=lambda one: one.moved_share or 0.0).name  # fmt: skip
    causes = likely("updates-below-precision", "lr-too-low", first=0.85)
    yield Finding(
        layer=name, status="warning", measured=lows[-1], limit=limit, confidence=0.85, causes=causes,
        what=f"only {lows[-1]:.0%} of the weights of '{name}' change in a step", fix=causes[0].fix,
        why="Updates are smaller than the precision of the weights.",
    )  # fmt: skip


TIMES = 5


def _is_adaptive(view: StepView) -> bool:
    return view.stepper is not None and view.stepper.kind in _ADAPTIVE
