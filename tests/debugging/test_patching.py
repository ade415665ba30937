"""Makers of patches over every program of the zoo: what they make applies, is Python, and touches what it says."""

from __future__ import annotations

import ast
from collections import Counter

import pytest
from zoo.program import load

from nbops.debugging.aspects import BatchView, TensorStats
from nbops.debugging.causes import CAUSES, STRUCTURAL
from nbops.debugging.diffs import apply_patch
from nbops.debugging.patching import MAKERS, patch_of
from nbops.debugging.remedies.facts import Facts
from nbops.debugging.views import StepView

PROGRAMS = load()
_BATCH = BatchView(
    inputs=TensorStats((32, 8), "float32", mean=0.0, std=1.0),
    targets=TensorStats((32,), "float32", mean=150.0, std=80.0),
    predictions=TensorStats((32, 1), "float32"),
)
VIEW = StepView(step=10, batch=_BATCH)


def lines_of(source: str) -> list[str]:
    return [line.strip() for line in source.split("\n") if line.strip()]


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_patches_of_a_program_apply_and_touch_only_what_they_say(name: str) -> None:
    source = PROGRAMS[name].cell.source
    for cause in MAKERS:
        words = _WORDS.get(cause, ())
        for line in ["", *{row for row in source.split("\n") if any(word in row for word in words)}]:
            patch = patch_of(cause, source, Facts(VIEW, line=line.strip(), layer="0", model="net"))
            if not patch:
                continue
            done = apply_patch(source, patch)
            ast.parse(done)
            before, after = Counter(lines_of(source)), Counter(lines_of(done))
            said = [(one[0], one[1:].strip()) for one in patch.split("\n")]
            assert not before - after - Counter(text for sign, text in said if sign == "-"), (cause, patch)
            assert not after - before - Counter(text for sign, text in said if sign == "+"), (cause, patch)
            assert done != source


# makers that look at the line of the finding, and what such a line may hold
_WORDS = {
    "log-of-zero": ("log",), "domain-error": ("log", "sqrt", "acos"), "sqrt-at-zero": ("sqrt", "norm", "cdist"),
    "division-by-zero": ("/",), "exp-overflow": ("exp(",), "where-gradient": ("where",), "half-overflow": (" * ", "**"),
    "graph-cut": ("detach", "numpy", "data"), "inplace-breaks-backward": ("+=", "inplace"),
    "modules-not-registered": ("self.",), "parameter-not-registered": ("self.",), "constructor-not-run": ("init",),
    "train-method-overridden": ("def ",), "softmax-over-wrong-axis": ("oftmax",),
    "optimizer-of-other-parameters": ("optim.",),
}  # fmt: skip


def test_makers_are_of_known_causes() -> None:
    assert not set(MAKERS) - set(CAUSES) - STRUCTURAL - {"class-weights-wrong", "loop-cut-short", "threshold-on-logits"}


def test_a_source_that_is_no_python_has_no_patch() -> None:
    assert patch_of("grads-not-cleared", "%time loss.backward()", Facts()) == ""
    assert patch_of("unheard-of", "a = 1", Facts()) == ""
