"""Checks of the weights as they are before the first step: not finite, all alike, far too large."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from nbops.core.records import Cause
from nbops.debugging.preflight.found import Found, check
from nbops.debugging.preflight.subject import Subject, is_constant

GAIN = 6.0  # rms of a weight times the root of its fan-in; torch's own start lies between 0.5 and 1.5


def _owned(subject: Subject, name: str) -> tuple[str, str]:
    path, _, parameter = name.rpartition(".")
    return path, parameter


@check("non-finite-parameter", stage="structure")
def non_finite_parameter(subject: Subject) -> Iterator[Found]:
    """Find weights that hold NaN or infinity before training.

    What it measures
        Whether the norm of each parameter is finite; where it is not, each value.
    Why it matters
        One such value spreads to every output in the first step.
    When it is wrong
        Masks that hold minus infinity are buffers; those are left out.
    Fix
        Initialise the weights (``torch.empty`` holds whatever was in memory), or load another checkpoint.
    References
        SageMaker Debugger, rule ExplodingTensor.
    """
    for name, p in subject.parameters.items():
        if not p.is_floating_point() or p.device.type == "meta" or not p.numel():
            continue
        if math.isfinite(subject.norm(name)) or bool(torch.isfinite(p).all()):
            continue
        with torch.no_grad():
            count = int((~torch.isfinite(p)).sum())
        path, _ = _owned(subject, name)
        yield Found(
            subject.called(path), "error", f"{count} of {p.numel()} values of '{name}' are not finite",
            "Every output becomes NaN in the first step.", "Initialise it, or load another checkpoint.", 0.98,
            measured=float(count), limit=0.0, place=subject.place_of(path), expected="finite values",
            got=f"{count} that are not",
            causes=(
                Cause(text="the tensor was made with torch.empty and never filled", fix="Fill it with nn.init.",
                      example=f"nn.init.xavier_uniform_(model.{name})", confidence=0.5, name="nan-in-data"),
                Cause(text="the checkpoint was saved after training had diverged", fix="Load an earlier one.",
                      confidence=0.4, name="nan-in-data"),
            ),
        )  # fmt: skip


@check("symmetric-weights", stage="structure")
def symmetric_weights(subject: Subject) -> Iterator[Found]:
    """Find layers whose units all start alike.

    What it measures
        Whether all values of a trained weight matrix are equal and not zero; or zero in a layer that is neither the
        last one nor followed by a sum.
    Why it matters
        Units that start alike get the same gradient for ever: the layer is as good as one unit.
    When it is wrong
        A gate or a filter that begins with a constant and whose inputs differ.
    Fix
        Leave torch's own initialisation, or draw the values at random.
    References
        Goodfellow et al., Deep Learning, section 8.4; DeepCrime, operator "change weights initialisation".
    """
    for name, p in subject.trainable.items():
        if p.ndim < 2 or p.device.type == "meta" or min(p.shape[0], p[0].numel()) < 2:
            continue
        with torch.no_grad():
            first = float(p.detach().flatten()[0])
            if first == 0 or not is_constant(p):
                continue
        path, _ = _owned(subject, name)
        kind = type(subject.module(path))
        if not issubclass(kind, nn.Linear | _ConvNd):
            continue
        yield Found(
            path or subject.name, "warning", f"all {p.numel()} values of '{name}' are {first:g}",
            "Its units get the same gradient and stay alike, so the layer is as good as a single unit.",
            "Draw the values at random: leave torch's own start.", 0.9, measured=0.0, place=subject.place_of(path),
            expected="different values", got=f"{first:g} everywhere",
            causes=(Cause(text="the weights were filled with a constant", test=f"model.{name}.std()",
                          fix="Draw them at random.", example=f"nn.init.kaiming_uniform_(model.{name}, a=5 ** 0.5)",
                          confidence=0.9, name="constant-init"),),
        )  # fmt: skip


@check("oversized-weights", stage="structure")
def oversized_weights(subject: Subject) -> Iterator[Found]:
    """Find layers whose first weights are far too large.

    What it measures
        The rms of a weight matrix times the root of its fan-in: what it does to an input of variance 1. It fires
        above 6; torch's own start lies near 0.6, common schemes up to 1.5.
    Why it matters
        Activations grow from layer to layer; the first losses are huge, sigmoids saturate.
    When it is wrong
        A layer whose inputs are as much too small.
    Fix
        ``nn.init.kaiming_normal_`` or ``xavier_uniform_`` in place of ``normal_`` with a deviation of 1.
    References
        He et al., Delving deep into rectifiers (2015), equation 10.
    """
    for name, p in subject.trainable.items():
        if p.ndim < 2 or p.device.type == "meta" or not p.numel():
            continue
        path, parameter = _owned(subject, name)
        kind = type(subject.module(path))
        if parameter != "weight" or not issubclass(kind, nn.Linear | _ConvNd):
            continue
        fan_in = p[0].numel()
        gain = subject.norm(name) / math.sqrt(p.numel()) * math.sqrt(fan_in)
        if math.isfinite(gain) and gain > GAIN:
            yield Found(
                path or subject.name, "warning",
                f"the weights of '{path}' start {gain:.0f} times as large as they should",
                "Activations and the first loss become huge, and saturating units get no gradient.",
                "Scale them by the root of the fan-in: nn.init.kaiming_normal_.", 0.75, measured=gain, limit=GAIN,
                place=subject.place_of(path), expected=f"a deviation of about {1 / math.sqrt(fan_in):.3g}",
                got=f"a deviation of {gain / math.sqrt(fan_in):.3g}",
                causes=(Cause(text="normal_() with a deviation of 1", test=f"model.{name}.std()",
                              fix="Use kaiming_normal_.",
                              example=f"nn.init.kaiming_normal_(model.{name})", confidence=0.8,
                                  name="init-too-large"),),
            )  # fmt: skip
