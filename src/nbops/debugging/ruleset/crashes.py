"""Rules that explain errors of torch in the words of the loop."""

from __future__ import annotations

from collections.abc import Iterator

from nbops.debugging.causes import likely
from nbops.debugging.rules import rules
from nbops.debugging.views import Finding, History, StepView

# part of torch's message -> causes, likeliest first, and the place
_KNOWN: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("does not require grad", ("nothing-requires-grad", "graph-cut"), "loss"),
    ("second time", ("graph-kept",), "loss"),
    ("modified by an inplace operation", ("graph-kept", "inplace-breaks-backward"), "model"),
)


@rules.register("backward-fails")
def backward_fails(view: StepView, history: History) -> Iterator[Finding]:
    """Find backward passes that raise, and explain the error in the words of the loop.

    What it measures
        The message of the error: nothing requires a gradient; a graph is gone through a second time; a value that it
        needs was changed.
    Why it matters
        The message names autograd's insides, not the line of the loop that is wrong.
    When it is wrong
        Never about the fact.
    Fix
        By case: no ``no_grad`` around the training pass; detach what goes on to the next step; no change in place.
    References
        torch's notes on autograd mechanics.
    """
    for part, names, place in _KNOWN:
        if part not in view.failure:
            continue
        if place == "model" and view.step == 0:
            names = tuple(reversed(names))
        causes = likely(*names, first=0.8)
        yield Finding(
            layer=place, status="error", measured=None, limit=None, confidence=0.9, causes=causes, fix=causes[0].fix,
            what=f"the backward pass failed: {view.failure.splitlines()[0][:200]}",
            why=f"Most likely {causes[0].text}.",
        )  # fmt: skip
        return
