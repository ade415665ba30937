"""What comes of trying remedies: one trial for each, and the advice that follows from them."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from nbops.core.display import Shown
from nbops.core.records import Diagnosis

HELPS, WORSE, SAME, FAILED = "helps", "worse", "no difference", "failed"
LEAST_STEPS = 4
_NOTICED = 0.05  # of the first loss
_SCALE = 0.2  # of the first loss: beyond it the patch changes what the loss means


@dataclass(frozen=True)
class Course:
    """How a cell ran: the loss at each step, the error that it ended with, the rules that found something again."""

    losses: tuple[float, ...] = ()
    error: str = ""
    found: tuple[str, ...] = ()

    @property
    def first(self) -> float:
        """Median loss of the first tenth of the steps, five at least."""
        return statistics.median(self.losses[: self._part]) if self.losses else math.nan

    @property
    def last(self) -> float:
        """Median loss of the last tenth of the steps, five at least; NaN if one of them is not finite."""
        tail = self.losses[-self._part :]
        return statistics.median(tail) if tail and all(map(math.isfinite, tail)) else math.nan

    @property
    def fall(self) -> float:
        """Share of the first loss by which it has fallen; negative where it rose."""
        return (self.first - self.last) / max(abs(self.first), 1e-12)

    @property
    def is_whole(self) -> bool:
        """Whether it took steps and ended with a finite loss."""
        return len(self.losses) >= LEAST_STEPS and math.isfinite(self.last) and not self.error

    @property
    def _part(self) -> int:
        return max(1, min(max(5, len(self.losses) // 10), len(self.losses) // 2))


@dataclass(frozen=True)
class Trial:
    """One remedy, tried.

    Attributes
    ----------
    rule, cause : str
        Of the finding, and of what the patch is for.
    fix, patch : str
        In words, and as lines of a diff.
    course : Course
        How the cell ran with the patch.
    verdict : str
        ``helps``, ``worse``, ``no difference`` or ``failed``.
    why : str
        What that rests on, in one sentence.
    """

    rule: str
    cause: str
    fix: str
    patch: str
    course: Course
    verdict: str
    why: str


@dataclass(frozen=True)
class Advice(Shown):
    """What `nb.diagnose` returns: findings, likeliest first, and what their remedies did when they were tried.

    Attributes
    ----------
    name : str
        Of the watch.
    findings : tuple of Diagnosis
        Errors first, then warnings.
    before : Course or None
        How the cell runs as it is; None where nothing was tried.
    trials : tuple of Trial
        Those that help first.
    steps : int
        How many steps each was given.
    notes : tuple of str
        What could not be tried, and why.
    """

    name: str
    findings: tuple[Diagnosis, ...] = ()
    before: Course | None = None
    trials: tuple[Trial, ...] = ()
    steps: int = 0
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Trial | None:
        """The remedy that helped most, None if none did."""
        return next((one for one in self.trials if one.verdict == HELPS), None)

    def __repr__(self) -> str:
        lines = [f"Advice for {self.name}: {len(self.findings)} findings, {len(self.trials)} remedies tried"]
        lines += [f"  {one.cause} ({one.rule}): {one.verdict}: {one.why}" for one in self.trials]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def judged(before: Course, after: Course) -> tuple[str, str]:
    """Return the verdict on a remedy, and what it rests on."""
    if after.error:
        return FAILED, f"with the patch the cell ends with {after.error}"
    if not after.is_whole:
        return FAILED, "with the patch the loss is not finite" if after.losses else "with the patch no step was taken"
    course = f"{after.first:.4g} → {after.last:.4g}"
    if not before.is_whole:
        was = f"ends with {before.error}" if before.error else "has a loss that is not finite"
        return HELPS, f"the loss goes {course}; as it is, the cell {was}"
    both = f"the loss goes {course} with the patch, and {before.first:.4g} → {before.last:.4g} without"
    size = max(abs(before.first), 1e-12)
    if abs(after.first - before.first) > _SCALE * size:  # another loss: only the courses can be compared
        gain = after.fall - before.fall
    else:
        gain = (before.last - after.last) / size
    return (HELPS if gain > _NOTICED else WORSE if gain < -_NOTICED else SAME), both
