"""Patches of the user's source for causes by name: the themes together, and the proof that what they make applies."""

from __future__ import annotations

import ast
from collections.abc import Sequence

import msgspec

from nbops.core.records import Cause
from nbops.debugging.causes import likely
from nbops.debugging.diffs import apply_patch, fits
from nbops.debugging.remedies import data, graphs, loop, losses, metrics, modules, numerics, settings
from nbops.debugging.remedies.facts import Facts, Maker
from nbops.debugging.source import Code, model_of, name_of

MAKERS: dict[str, Maker] = {
    **loop.MAKERS, **graphs.MAKERS, **settings.MAKERS, **losses.MAKERS, **data.MAKERS, **modules.MAKERS,
    **metrics.MAKERS, **numerics.MAKERS, "dead-relu": settings.MAKERS["lr-too-high"],
}  # fmt: skip


# Causes that leave a trace in the source that hardly anything else leaves; `Facts` are not needed to see it.
_TRACED = (
    "scaler-misused", "clip-at-wrong-place", "train-in-eval-mode", "scheduler-misread", "loss-reduction-sum",
    "eps-wrong", "momentum-too-high", "labels-not-of-inputs", "init-too-large", "constant-init",
)  # fmt: skip
# findings that may follow from any of these, whatever causes they name; the others are only put in order
_OPEN = (
    "exploding-update-ratio", "non-finite-loss", "non-finite-gradient", "loss-diverging", "loss-not-falling",
    "no-better-than-guessing",
)  # fmt: skip
_NEVER_ADDED = ("init-too-large", "constant-init")
LEAST = 0.2  # confidence of a cause that gets a patch


def patch_of(cause: str, source: str, facts: Facts) -> str:
    """Return a patch of the source for a cause, "" where none can be made with confidence.

    What is returned applies to the source, and leaves Python.
    """
    make, code = MAKERS.get(cause), Code.of(source)
    if make is None or code is None:
        return ""
    try:
        make(code, facts)
        patch = code.diff()
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError):
        return ""  # code of a form that the maker does not know must not cost the finding
    return patch if patch and fits(source, patch) and apply_patch(source, patch) != source else ""


def traced(causes: Sequence[Cause], source: str, *, rule: str) -> tuple[Cause, ...]:
    """Return the causes of a finding with those first that the source itself shows: a loss summed, a momentum near 1.

    To findings of steps that are too long a cause is added that they may follow from.
    """
    code = Code.of(source)
    if code is None:
        return tuple(causes)
    given = {one.name: one for one in causes}
    may_add = rule in _OPEN
    seen = [name for name in _TRACED if (name in given or (may_add and name not in _NEVER_ADDED))
            and _is_seen(name, code)]  # fmt: skip
    if not seen or not causes or not any(one.name in MAKERS for one in causes):
        return tuple(causes)
    order = [given.get(name) or likely(name)[0] for name in seen] + [one for one in causes if one.name not in seen]
    levels = sorted((one.confidence for one in order), reverse=True)
    return tuple(msgspec.structs.replace(one, confidence=level) for one, level in zip(order, levels, strict=True))


def _is_seen(name: str, code: Code) -> bool:
    if name == "momentum-too-high":
        return any(isinstance(value, float) and value > 0.98 for value in code.settings("momentum"))
    if name in ("init-too-large", "constant-init"):
        return settings.is_filled_oddly(code)
    if name == "train-in-eval-mode":
        return not code.calls("train") and _is_left_in_evaluation(code)
    if name == "eps-wrong":
        return any(isinstance(value, int | float) and (value == 0 or value > 1e-2) for value in code.settings("eps"))
    trial = Code(code.source, code.tree)
    MAKERS[name](trial, Facts())
    return trial.is_changed


def _is_left_in_evaluation(code: Code) -> bool:
    """Return whether the model that is trained is set to evaluation before or inside its loop, also by a function."""
    model, loops = model_of(code), code.loops()
    switches = {"eval"} if model else set()
    for node in ast.walk(code.tree):
        if isinstance(node, ast.FunctionDef):
            given = {one.arg for one in node.args.args}
            calls = [n.func for n in ast.walk(node) if isinstance(n, ast.Call) and name_of(n.func) == "eval"]
            if any(isinstance(func, ast.Attribute) and name_of(func.value) in given for func in calls):
                switches.add(node.name)
    for _, call in [pair for name in switches for pair in code.calls(name)]:
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        is_own = name_of(owner) == model if owner is not None else model in map(name_of, call.args)
        if is_own and loops and call.lineno <= (loops[0].end_lineno or 0):
            return True
    return False
