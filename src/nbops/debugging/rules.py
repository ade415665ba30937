"""The registry of rules. A rule is a plain function of a step and of the steps before it.

The rules themselves live in `nbops.debugging.ruleset`, one file per family.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nbops.core.registry import Registry
from nbops.debugging.views import Finding, History, StepView

Rule = Callable[[StepView, History], Iterable[Finding]]

rules: Registry[Rule] = Registry(
    "rule",
    group="nbops.rules",
    modules=(
        "nbops.debugging.ruleset.finite",
        "nbops.debugging.ruleset.updates",
        "nbops.debugging.ruleset.activity",
        "nbops.debugging.ruleset.loops",
        "nbops.debugging.ruleset.crashes",
        "nbops.debugging.ruleset.modes",
        "nbops.debugging.ruleset.metrics",
        "nbops.debugging.ruleset.outputs",
        "nbops.debugging.ruleset.inputs",
        "nbops.debugging.ruleset.adversaries",
        "nbops.debugging.ruleset.targets",
        "nbops.debugging.ruleset.flow",
        "nbops.debugging.ruleset.rates",
        "nbops.debugging.ruleset.trends",
        "nbops.debugging.ruleset.speed",
    ),
)
