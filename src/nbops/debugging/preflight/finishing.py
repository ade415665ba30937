"""The last step of a preflight: each cause of a finding gets its patch of the user's source, where one can be made."""

from __future__ import annotations

import ast
import linecache
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec
import torch
from torch import Tensor

from nbops.core.records import Cause
from nbops.debugging.aspects import BatchView, TensorStats
from nbops.debugging.diffs import fits
from nbops.debugging.patching import patch_of
from nbops.debugging.places import Place
from nbops.debugging.preflight.found import Found
from nbops.debugging.preflight.mending import changed_loss, is_reshaped
from nbops.debugging.preflight.subject import Subject
from nbops.debugging.remedies.facts import Facts
from nbops.debugging.remedies.looking import trained_loss
from nbops.debugging.source import Code
from nbops.debugging.specs import dtype_name, shape_of
from nbops.debugging.views import StepView

_ON_PURPOSE = ("odd-optimizer-parameters",)  # what they find may be meant, and is no reason to change a line
_COMPARING = ("target-mismatch", "broadcast-loss")


def finished_findings(
    subject: Subject, found: list[tuple[str, Found]], call: Place | None
) -> Iterator[tuple[str, Found]]:
    """Yield findings with their patches; what the source does already is a hint.

    Parameters
    ----------
    found : list of (str, Found)
        The names of checks, and what they found.
    call : Place or None
        The line that called preflight.
    """
    values = dict(subject.definitions.values())
    for name, one in found:
        sources = list(dict.fromkeys(text for text in map(_text, (one.place, call)) if text))
        is_open = subject.arrange is None and name in _COMPARING  # else it was compared as the code does it
        if is_open and any(_reshapes(_around(place)) for place in (call, one.place)):
            why = "Your code gives them another shape before the loss compares them."
            yield name, replace(one, status="hint", why=why, blocks=False)
            continue
        facts = _facts(subject, name, one, values)
        causes = tuple(_patched(cause, sources, facts) for cause in one.causes)
        yield name, replace(one, causes=causes)


def _text(place: Place | None) -> str:
    return "".join(linecache.getlines(place.file)).rstrip("\n") if place is not None else ""


def _around(call: Place | None) -> str:
    """Return the text of the function that a line stands in; of the whole cell or file where there is none."""
    source = _text(call)
    code = Code.of(source)
    if call is None or code is None:
        return source
    around = [
        n for n in ast.walk(code.tree)
        if isinstance(n, ast.FunctionDef) and n.lineno <= call.line <= (n.end_lineno or n.lineno)
    ]  # fmt: skip
    return (
        textwrap.dedent("\n".join(source.split("\n")[around[0].lineno - 1 : around[0].end_lineno]))
        if around
        else source
    )


def _reshapes(source: str) -> bool:
    """Return whether the only loss that a source trains with is given other shapes than output and target have."""
    code = Code.of(source)
    found = trained_loss(code) if code is not None else None
    return code is not None and found is not None and is_reshaped(code, found[1])


def _facts(subject: Subject, name: str, one: Found, values: Mapping[str, Any]) -> Facts:
    inputs = next((_stats(t) for _, t in subject.inputs), None)
    targets = next((_stats(t) for _, t in subject.targets), None)
    batch = BatchView(inputs=inputs, targets=targets)
    return Facts(
        StepView(step=-1, batch=batch), name, one.place.code if one.place is not None else "", one.layer,
        values=values, model=subject.definitions.name_of(subject.model), got=one.got,
    )  # fmt: skip


def _stats(tensor: Tensor) -> TensorStats:
    known = tensor.detach().double() if tensor.dtype is not torch.bool and not tensor.is_complex() else None
    if known is None or not known.numel() or tensor.device.type == "meta":
        return TensorStats(shape_of(tensor), dtype_name(tensor.dtype))
    finite = known[torch.isfinite(known)]
    return TensorStats(
        shape_of(tensor), dtype_name(tensor.dtype), mean=float(finite.mean()) if finite.numel() else None,
        std=float(finite.std()) if finite.numel() > 1 else None, nan_count=int(known.isnan().sum()),
        inf_count=int(known.isinf().sum()),
    )  # fmt: skip


def _patched(cause: Cause, sources: list[str], facts: Facts) -> Cause:
    if cause.patch and any(fits(source, cause.patch) for source in sources):
        return cause
    example, patch = cause.example, ""
    if facts.rule not in _ON_PURPOSE:
        if example.startswith("loss("):
            patch = changed_loss(iter(sources), example.replace("…", "..."))
        for source in sources if not patch else ():
            rows = [row.strip() for row in source.split("\n")]
            test = cause.test.strip()
            line = test if test and test in rows else facts.line
            patch = patch_of(cause.name, source, replace(facts, line=line, example=example))
            if patch:
                break
    return msgspec.structs.replace(cause, patch=patch, example="" if patch else example)
