"""What one optimizer has done under one watch."""

from __future__ import annotations

from nbops.core.records import Diagnosis
from nbops.debugging.governor import Governor
from nbops.debugging.guard import Tripwire
from nbops.debugging.measuring import Around
from nbops.debugging.views import History, StepView


class Track:
    """Steps, history and sampling of one optimizer; `view` and `around` are set while a sampled step is taken."""

    def __init__(self, *, every: int | None) -> None:
        self.steps = 0
        self.history = History()
        self.governor = Governor(every=every)
        self.tripwire = Tripwire()
        self.tripped: list[Diagnosis] = []  # findings of a guard that keeps firing
        self.view: StepView | None = None
        self.around: Around | None = None
        self._cost_s = 0.0
        self._ended_at: float | None = None

    def began(self, at: float, *, spent_s: float) -> None:
        """Tell that a step's judging begins; `spent_s` went to hooks since the step before."""
        if self._ended_at is not None:
            self.governor.timed(max(0.0, at - self._ended_at - spent_s))
            self._ended_at = None

    def judged(self, duration_s: float) -> None:
        """Tell what it took to judge and measure before the step."""
        self._cost_s = duration_s

    def completed(self, view: StepView, duration_s: float) -> None:
        """Add a sampled step that was taken, and what it took to measure it afterwards."""
        self.history.append(view)
        self.governor.sampled(view.step, self._cost_s + duration_s)

    def ended(self, at: float) -> None:
        """Count a step."""
        self.steps += 1
        self._ended_at = at
