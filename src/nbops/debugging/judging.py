"""Runs the rules over a step, keeps and tells what they find, and stops the loop where that was asked for."""

from __future__ import annotations

from collections.abc import Iterator

from nbops.core.records import Diagnosis
from nbops.debugging.findings import Findings, sentence, stopped, warn
from nbops.debugging.rules import rules
from nbops.debugging.views import Finding, History, StepView
from nbops.store.context import current_run


class Judge:
    """The rules of one watch.

    Parameters
    ----------
    on_error : str
        ``"warn"`` or ``"stop"``.
    errors : list of str
        Where a rule that raises is noted; it is off from then on.
    """

    def __init__(self, *, on_error: str, errors: list[str]) -> None:
        self.on_error = on_error
        self.findings = Findings()
        self._errors = errors
        self._muted: set[str] = set()

    def judge(self, view: StepView, history: History) -> list[Diagnosis]:
        """Return what the rules find; store and tell what is new.

        Raises
        ------
        TrainingStopped
            Under "stop", for the first finding of status error.
        """
        found: list[Diagnosis] = []
        run_id = current_run()
        for name, finding in self._run(view, history):
            diagnosis, is_new = self.findings.note(name, finding, step=view.step, run_id=run_id)
            found.append(diagnosis)
            if is_new and not self._stops(diagnosis):
                warn(f"{sentence(diagnosis)}. {diagnosis.fix}")
        for diagnosis in found:
            if self._stops(diagnosis):
                raise stopped(diagnosis)
        return found

    def _stops(self, diagnosis: Diagnosis) -> bool:
        return self.on_error == "stop" and diagnosis.status == "error"

    def _run(self, view: StepView, history: History) -> Iterator[tuple[str, Finding]]:
        for name in rules:
            if name in self._muted:
                continue
            try:
                found = list(rules[name](view, history))
            except Exception as error:  # one broken rule of a user must not end the watch
                self._muted.add(name)
                self._errors.append(f"rule {name}: {type(error).__name__}: {error}")
                warn(f"rule '{name}' raised {type(error).__name__}: {error}; it is off for this watch")
                continue
            yield from ((name, finding) for finding in found)
