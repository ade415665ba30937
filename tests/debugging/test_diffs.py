"""Patches applied to sources: the whole of them, or nothing."""

from __future__ import annotations

import pytest

from nbops.core.errors import InvalidInput
from nbops.debugging.diffs import apply_patch, fits, is_patch

SOURCE = "a = 1\nfor x in rows:\n    f(x)\n    g(x)\nf(x)\n"


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ("-a = 1\n+a = 2", "a = 2\nfor x in rows:\n    f(x)\n    g(x)\nf(x)\n"),
        (" a = 1\n+b = 2", "a = 1\nb = 2\nfor x in rows:\n    f(x)\n    g(x)\nf(x)\n"),
        ("-g(x)\n+h(x)\n+k(x)", "a = 1\nfor x in rows:\n    f(x)\n    h(x)\n    k(x)\nf(x)\n"),  # as far in as the line
        (
            "-        g(x)\n+        if x:\n+            h(x)",
            "a = 1\nfor x in rows:\n    f(x)\n    if x:\n        h(x)\nf(x)\n",
        ),
        ("@@ -5 @@\n-f(x)\n+h(x)", "a = 1\nfor x in rows:\n    f(x)\n    g(x)\nh(x)\n"),
        (" for x in rows:\n-    f(x)", "a = 1\nfor x in rows:\n    g(x)\nf(x)\n"),  # the one behind the line before
        ("-a = 1\n+f(x)\n+a = 1\n-    g(x)", "f(x)\na = 1\nfor x in rows:\n    f(x)\nf(x)\n"),
        ("+import os", "import os\na = 1\nfor x in rows:\n    f(x)\n    g(x)\nf(x)\n"),
    ],
)  # fmt: skip
def test_a_patch_is_applied(patch: str, expected: str) -> None:
    assert apply_patch(SOURCE, patch) == expected


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ("a = 2", "this is no patch"),
        ("", "this is no patch"),
        ("-b = 1\n+b = 2", "has not the line 'b = 1'"),
        ("-f(x)\n+h(x)", "more than once the line 'f\\(x\\)'"),
        ("-a = 1\n+a = 2\n-b = 1\n+b = 2", "has not the line 'b = 1'"),
        ("-    f(x)\n-    g(x)", "more than once"),
        ("-a = 1\n+a = (", "no Python"),
        (" for x in rows:\n-    f(x)\n-    g(x)", "no Python"),
    ],
)
def test_a_patch_that_does_not_fit_is_refused_whole(patch: str, message: str) -> None:
    assert not fits(SOURCE, patch)
    with pytest.raises(InvalidInput, match=message) as caught:
        apply_patch(SOURCE, patch)
    assert caught.value.hint


def test_a_cell_with_magics_may_be_patched_too() -> None:
    assert apply_patch("%matplotlib inline\na = 1", "-a = 1\n+a = 2") == "%matplotlib inline\na = 2"


@pytest.mark.parametrize(("text", "expected"), [("-a\n+b", True), (" a\n+b", True), ("a = 1", False), (" a", False)])
def test_patches_are_told_from_examples(text: str, expected: bool) -> None:
    assert is_patch(text) is expected
