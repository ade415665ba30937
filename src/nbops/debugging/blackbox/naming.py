"""Name the operation that made a NaN at once, where computing the step again is cheap."""

from __future__ import annotations

from dataclasses import replace

from nbops.debugging.blackbox.replay import refined, replay
from nbops.debugging.views import StepView

LONGEST_MS = 2000.0  # a step that takes longer is computed again only when the user asks


def with_operation(view: StepView, *, step_ms: float, notes: list[str]) -> StepView:
    """Return the view of the last refused step with the operation, the line and the samples in its origin.

    Parameters
    ----------
    step_ms : float, milliseconds
        What a step takes.
    notes : list of str
        Where it is noted that the step could not be computed again.
    """
    origin = view.origin
    if origin is None or step_ms > LONGEST_MS:
        return view
    try:
        found = replay()
    except Exception as error:  # the guard's work goes on without it
        notes.append(f"the bad step could not be computed again: {type(error).__name__}: {error}")
        return view
    return replace(view, origin=refined(origin, found))
