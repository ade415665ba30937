"""What was found: one diagnosis per rule and layer, told once, counted, and stored with the open run."""

from __future__ import annotations

import os
import sys
import time
import warnings
from pathlib import Path

from nbops.core.errors import TrainingStopped
from nbops.core.ids import new_id
from nbops.core.records import Diagnosis
from nbops.debugging.views import Finding
from nbops.store.context import current_cell


class DebuggerWarning(UserWarning):
    """A finding of the debugger, told under ``on_error="warn"``, or something that it cannot watch."""


class Findings:
    """The diagnoses of one watch; `counts` says how often each was found, by the diagnosis's id."""

    def __init__(self) -> None:
        self.diagnoses: list[Diagnosis] = []
        self.counts: dict[str, int] = {}
        self._told: dict[tuple[str, str], Diagnosis] = {}

    def note(self, rule: str, finding: Finding, *, step: int, run_id: str | None) -> tuple[Diagnosis, bool]:
        """Return the diagnosis of `rule` at the finding's layer, and whether it is new; store a new one."""
        key = (rule, finding.layer)
        known = self._told.get(key)
        if known is not None:
            self.counts[known.id] += 1
            return known, False
        cell = current_cell()
        diagnosis = Diagnosis(
            id=new_id(Diagnosis.prefix), created_at=time.time(), name=rule, status=finding.status, step=step,
            layer=finding.layer, measured=finding.measured, limit=finding.limit, what=finding.what, why=finding.why,
            fix=finding.fix, confidence=finding.confidence, cell_id=cell.cell_id if cell else None, parent=run_id,
        )  # fmt: skip
        self._told[key] = diagnosis
        self.diagnoses.append(diagnosis)
        self.counts[diagnosis.id] = 1
        if run_id is not None:
            _store(diagnosis, run_id)
        return diagnosis, True

    def begin_run(self) -> None:
        """Let each finding be told again; earlier diagnoses stay in the list."""
        self._told.clear()


def _store(diagnosis: Diagnosis, run_id: str) -> None:
    from nbops.store.workspace import workspace

    store = workspace().store
    with store.transaction():
        store.put(diagnosis)
        store.link(run_id, "found", diagnosis.id)


def sentence(diagnosis: Diagnosis) -> str:
    """Return one line: rule, step, layer and what was seen."""
    return f"{diagnosis.name} at step {diagnosis.step} in layer '{diagnosis.layer}': {diagnosis.what}"


def stopped(diagnosis: Diagnosis) -> TrainingStopped:
    """Return the error that ends the training loop before the step is taken."""
    return TrainingStopped(f"{sentence(diagnosis)}. The step was not taken.", hint=diagnosis.fix)


def warn(message: str) -> None:
    """Warn from the user's line: the nearest frame outside torch, nbops and the standard library's contexts."""
    level, frame = 1, sys._getframe(0)
    ours = (str(Path(__file__).parent), f"{os.sep}torch{os.sep}")
    while frame is not None and any(part in frame.f_code.co_filename for part in ours):
        if frame.f_back is None:
            break
        frame, level = frame.f_back, level + 1
    warnings.warn(message, DebuggerWarning, stacklevel=level)
