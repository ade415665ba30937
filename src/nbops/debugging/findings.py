"""What was found: one diagnosis per rule and layer, told once, counted, and stored with the open run."""

from __future__ import annotations

import os
import sys
import time
import warnings
from pathlib import Path

from nbops.core.errors import TrainingStopped
from nbops.core.ids import new_id
from nbops.core.records import Diagnosis, Link, replace
from nbops.debugging.muting import MUTED, is_muted
from nbops.debugging.preflight.found import Found, diagnosis_of
from nbops.debugging.views import Finding
from nbops.store.context import current_cell_id


class DebuggerWarning(UserWarning):
    """A finding of the debugger, told under ``on_error="warn"``, or something that it cannot watch."""


class Findings:
    """The diagnoses of one watch; `counts` says how often each was found, by the diagnosis's id."""

    def __init__(self) -> None:
        self.diagnoses: list[Diagnosis] = []
        self.counts: dict[str, int] = {}
        self._told: dict[tuple[str, str], Diagnosis] = {}

    def note(self, rule: str, finding: Finding, *, step: int, run_id: str | None) -> tuple[Diagnosis, bool]:
        """Return the diagnosis of `rule` at the finding's layer, and whether it is new; store a new one.

        What is muted here has that status, whatever the rule says; once it is not any more, it is new again.
        """
        key = (rule, finding.layer)
        known = self._told.get(key)
        status = MUTED if is_muted(rule, finding.layer) else finding.status
        if known is not None and (status == MUTED or known.status != MUTED):
            self.counts[known.id] += 1
            return as_heard(known), False
        diagnosis = Diagnosis(
            id=new_id(Diagnosis.prefix), created_at=time.time(), name=rule, status=status, step=step,
            layer=finding.layer, measured=finding.measured, limit=finding.limit, what=finding.what, why=finding.why,
            fix=finding.fix, confidence=finding.confidence, expected=finding.expected, got=finding.got,
            line=finding.line, code=finding.code, causes=list(finding.causes), evidence=finding.evidence,
            cell_id=current_cell_id(), parent=run_id,
        )  # fmt: skip
        return self._add(key, diagnosis, run_id), True

    def note_read(self, rule: str, found: Found, *, run_id: str | None) -> tuple[Diagnosis, bool]:
        """Return the diagnosis of what was read in the code, and whether it is new; store a new one."""
        place = found.place
        key = (rule, f"{place.file}:{place.line}" if place is not None else found.layer)
        known = self._told.get(key)
        status = MUTED if is_muted(rule, found.layer) else found.status
        if known is not None and (status == MUTED or known.status != MUTED):
            self.counts[known.id] += 1
            return as_heard(known), False
        made = diagnosis_of(rule, found, run_id=run_id)
        return self._add(key, replace(made, status=status, phase="training"), run_id), True

    def _add(self, key: tuple[str, str], diagnosis: Diagnosis, run_id: str | None) -> Diagnosis:
        self._told[key] = diagnosis
        self.diagnoses.append(diagnosis)
        self.counts[diagnosis.id] = 1
        if run_id is not None:
            store(diagnosis, run_id)
        return diagnosis

    def is_known(self, rule: str, layer: str) -> bool:
        """Return whether that was found before."""
        return (rule, layer) in self._told

    def begin_run(self) -> None:
        """Let each finding be told again; earlier diagnoses stay in the list."""
        self._told.clear()


def as_heard(diagnosis: Diagnosis) -> Diagnosis:
    """Return a diagnosis with the status that it has now: what was muted meanwhile is."""
    if diagnosis.status == MUTED or not is_muted(diagnosis.name, diagnosis.layer):
        return diagnosis
    return replace(diagnosis, status=MUTED)


def store(diagnosis: Diagnosis, run_id: str) -> None:
    """Store a diagnosis and link it to the run in which it was found."""
    from nbops.store.workspace import workspace

    found = Link(source=run_id, relation="found", target=diagnosis.id)
    workspace().outbox.put(diagnosis, links=[found])


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
