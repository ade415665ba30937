"""Who looks at a program: nobody, `nb.watch`, `nb.preflight`, or both. Each writes the line that a user would write."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

from zoo.program import WatchCall

FAILED = "(doctor failed)"


@dataclass
class Found:
    """One finding in plain values; `causes` are the texts of the possible causes, most likely first."""

    name: str
    status: str
    step: int = -1
    layer: str = ""
    what: str = ""
    confidence: float = 0.0
    phase: str = "training"
    expected: str = ""
    got: str = ""
    line: int | None = None
    code: str = ""
    causes: list[str] = field(default_factory=list)
    patches: list[str] = field(default_factory=list)


class Doctor:
    """Looks at nothing."""

    name = "none"

    def line(self, call: WatchCall) -> str:
        """Return the line that replaces ``lab.watch(...)``; empty: it stays."""
        return ""

    def enter(self, source: str) -> None:
        """Tell that the cell begins."""

    def crashed(self, error: Exception) -> None:
        """Tell that the cell ended with an error."""

    def leave(self, kept: list[Any]) -> tuple[list[Found], list[str]]:
        """Return the findings, and notes on what went wrong with the doctor itself; let go of everything."""
        return [], []


class _Nbops(Doctor):
    """Stands in a cell that nbops knows of, and reads the diagnoses of what the lines returned."""

    def __init__(self) -> None:
        self._refusals: list[Found] = []

    def enter(self, source: str) -> None:
        from nbops.store import context

        self._refusals = []
        context.set_cell(context.CellRef("cell-1", source))

    def crashed(self, error: Exception) -> None:
        from nbops.core.errors import NbopsError

        if isinstance(error, NbopsError):  # the doctor would not look at it, and said why
            self._refusals.append(Found("refused", "error", what=str(error), phase="preflight", confidence=1.0))

    def leave(self, kept: list[Any]) -> tuple[list[Found], list[str]]:
        from nbops.store import context

        found, notes = list(self._refusals), []
        for handle in kept:
            found += [_plain(one) for one in _diagnoses(handle)]
            # a watch tells its own errors as texts; the errors of a preflight report are findings
            notes += [one for one in getattr(handle, "errors", ()) if isinstance(one, str)]
            close = getattr(handle, "close", None)
            if callable(close):
                close()
        context.set_cell(None)
        stepping: Any = sys.modules.get("nbops.debugging.stepping")
        if stepping is not None:
            stepping.prune()
        return found, notes


class WatchDoctor(_Nbops):
    """`nb.watch` as the how-to shows it: the model, and the loss if it is a module."""

    name = "watch"

    def line(self, call: WatchCall) -> str:
        loss = f", loss={call.loss}" if call.has_loss_module else ""
        return f"import nbops as nb; lab.clock(); lab.keep(nb.watch({call.model}{loss}))"


class PreflightDoctor(_Nbops):
    """`nb.preflight` with all that it takes, and then the program runs alone."""

    name = "preflight"

    def line(self, call: WatchCall) -> str:
        given = f", loss={call.loss}" if call.loss else ""
        given += f", optimizer={call.optimizer}" if call.optimizer else ""
        if not call.batch:
            return "pass"
        batch = f"lab.aside(lambda: {call.batch})"
        return f"import nbops as nb; lab.clock(); lab.keep(nb.preflight({call.model}, {batch}{given}))"


class BothDoctor(_Nbops):
    """`nb.preflight` where this version of nbops has it, then `nb.watch`."""

    name = "both"

    def line(self, call: WatchCall) -> str:
        import nbops

        first = PreflightDoctor().line(call) + "; " if hasattr(nbops, "preflight") else ""
        return first + WatchDoctor().line(call)


DOCTORS: dict[str, type[Doctor]] = {d.name: d for d in (Doctor, WatchDoctor, PreflightDoctor, BothDoctor)}


def _diagnoses(handle: Any) -> list[Any]:
    for name in ("diagnoses", "findings"):
        found = getattr(handle, name, None)
        if found is not None:
            return list(found)
    return []


def _plain(diagnosis: Any) -> Found:
    causes = list(diagnosis.causes)
    return Found(
        name=diagnosis.name, status=diagnosis.status, step=diagnosis.step, layer=diagnosis.layer, what=diagnosis.what,
        confidence=diagnosis.confidence, phase=diagnosis.phase, expected=diagnosis.expected, got=diagnosis.got,
        line=diagnosis.line, code=diagnosis.code,
        causes=[c.name or c.text for c in causes], patches=[c.patch for c in causes],
    )  # fmt: skip
