"""Runs the rules over a step, keeps and tells what they find, and stops the loop where that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec

from nbops.core.records import Diagnosis
from nbops.debugging.findings import Findings, sentence, stopped, warn
from nbops.debugging.muting import MUTED
from nbops.debugging.patching import LEAST, patch_of, traced
from nbops.debugging.preflight.found import Found
from nbops.debugging.remedies.facts import Facts
from nbops.debugging.rules import rules
from nbops.debugging.views import Finding, History, StepView
from nbops.store.context import current_run

# What is wrong first, and what it leads to: dead units after steps that are too long are no second fault.
_ROOTS = {"exploding-update-ratio", "gradients-not-cleared", "non-finite-loss", "non-finite-gradient", "loss-sign",
          "probabilities-for-scores", "scores-for-log-probabilities", "symmetric-units", "output-range",
          "gradients-thrown-away", "optimizer-made-anew", "loss-broadcasts", "same-batch-always"}  # fmt: skip
_CONSEQUENCES = {"never-on", "constant-output", "layer-without-gradient", "dead-units", "loss-not-falling",
                 "one-class-only", "saturated-units", "loss-diverging", "exploding-gradient",
                 "no-better-than-guessing", "rate-too-low", "vanishing-gradient", "weights-decay"}  # fmt: skip


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
        self.source: Callable[[], str] = str  # text of the cell or file that holds the loop
        self._errors = errors
        self._off: set[str] = set()

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
            if name in _CONSEQUENCES:
                finding = self._as_consequence(finding)
            if finding.causes and not self.findings.is_known(name, finding.layer):
                last = history.recent(1)
                seen = replace(view, layers=last[0].layers) if last else view
                finding = self._with_patches(finding, Facts(seen, name, finding.code, finding.layer))
            diagnosis, is_new = self.findings.note(name, finding, step=view.step, run_id=run_id)
            found.append(diagnosis)
            if is_new and diagnosis.status not in ("hint", MUTED) and not self._stops(diagnosis):
                warn(f"{sentence(diagnosis)}. {diagnosis.fix}")
        for diagnosis in found:
            if self._stops(diagnosis):
                raise stopped(diagnosis)
        return found

    def tell(self, found: list[tuple[str, Found]]) -> None:
        """Store and tell what was read in the code before the first step; it never stops anything."""
        run_id = current_run()
        for name, one in found:
            diagnosis, is_new = self.findings.note_read(name, one, run_id=run_id)
            if is_new and diagnosis.status not in ("hint", MUTED):
                warn(f"{sentence(diagnosis)}. {diagnosis.fix}")

    def _as_consequence(self, finding: Finding) -> Finding:
        """Return the finding as a hint, if what it may follow from was told before."""
        root = next((d for d in self.findings.diagnoses if d.name in _ROOTS and d.status == "error"), None)
        if root is None:
            return finding
        return replace(finding, status="hint", why=f"It may follow from {root.name}, found at step {root.step}.")

    def _with_patches(self, finding: Finding, facts: Facts) -> Finding:
        """Return the finding with patches of the user's own source, and the line that the first one changes."""
        source = self.source()
        causes = finding.causes
        if source:
            causes = tuple(
                one
                if one.patch or one.confidence < LEAST
                else msgspec.structs.replace(one, patch=patch_of(one.name, source, facts))
                for one in traced(causes, source, rule=facts.rule)
            )
        changed = next((line[1:] for line in causes[0].patch.split("\n") if line.startswith("-")), "")
        code = finding.code or changed.strip()
        line = next((i for i, one in enumerate(source.split("\n"), 1) if code and one.strip() == code), None)
        return replace(finding, causes=causes, code=code if line else finding.code, line=line)

    def _stops(self, diagnosis: Diagnosis) -> bool:
        return self.on_error == "stop" and diagnosis.status == "error"

    def _run(self, view: StepView, history: History) -> Iterator[tuple[str, Finding]]:
        for name in rules:
            if name in self._off:
                continue
            try:
                found = list(rules[name](view, history))
            except Exception as error:  # one broken rule of a user must not end the watch
                self._off.add(name)
                self._errors.append(f"rule {name}: {type(error).__name__}: {error}")
                warn(f"rule '{name}' raised {type(error).__name__}: {error}; it is off for this watch")
                continue
            yield from ((name, finding) for finding in found)
