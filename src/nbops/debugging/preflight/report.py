"""What `nb.preflight` returns: the findings, the stages with their time, and a verdict."""

from __future__ import annotations

from dataclasses import dataclass

from nbops.core.display import Shown
from nbops.core.errors import CheckFailed
from nbops.core.records import Diagnosis

_ORDER = ("error", "warning", "hint")


@dataclass(frozen=True)
class Stage:
    """One stage of a preflight.

    Attributes
    ----------
    name : str
        ``structure``, ``settings``, ``batch``, ``forward``, ``loss``, ``backward`` …
    verdict : str
        ``pass``, ``warn``, ``fail``, ``error`` (a check of ours raised) or ``skipped``.
    duration_s : float, seconds
    note : str
        Why it was skipped, or what it could not look at.
    """

    name: str
    verdict: str
    duration_s: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class PreflightReport(Shown):
    """What was found before the first training step; made by `preflight`.

    Attributes
    ----------
    model_name : str
        The model's class.
    findings : tuple of Diagnosis
        Errors first, then warnings, then hints; each with its place, what was expected, and ranked causes.
    stages : tuple of Stage
        In the order in which they ran.
    duration_s : float, seconds
    parameters : int
        How many values the model has.
    batch : str
        The batch in short.
    """

    model_name: str
    findings: tuple[Diagnosis, ...] = ()
    stages: tuple[Stage, ...] = ()
    duration_s: float = 0.0
    parameters: int = 0
    batch: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether nothing of status error was found."""
        return not self.errors

    @property
    def errors(self) -> tuple[Diagnosis, ...]:
        """The findings of status error."""
        return tuple(d for d in self.findings if d.status == "error")

    def raise_if_bad(self) -> PreflightReport:
        """Return the report itself if it is ok.

        Raises
        ------
        CheckFailed
            Something of status error was found; the message names the first, the hint is its fix.
        """
        if self.is_ok:
            return self
        first, *rest = self.errors
        place = f", line {first.line}" if first.line is not None else ""
        more = f" (and {len(rest)} more)" if rest else ""
        raise CheckFailed(f"preflight of {self.model_name}: {first.name} at '{first.layer}'{place}: {first.what}{more}",
                          hint=first.fix or "Look at the report's findings.")  # fmt: skip

    def __repr__(self) -> str:
        lines = [f"PreflightReport({self.model_name}): {'ok' if self.is_ok else 'not ok'}"]
        for d in self.findings:
            place = f" (line {d.line})" if d.line is not None else ""
            lines.append(f"  {d.status}: {d.name} at '{d.layer}'{place}: {d.what}. {d.fix}")
        return "\n".join(lines)


def in_order(findings: list[Diagnosis]) -> tuple[Diagnosis, ...]:
    """Return findings with the worst first; those of one status stay in the order of the checks."""
    return tuple(sorted(findings, key=lambda d: _ORDER.index(d.status) if d.status in _ORDER else len(_ORDER)))
