"""What a check of preflight says, the registry of checks, and the stages that they belong to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nbops.core.ids import new_id
from nbops.core.records import Cause, Diagnosis
from nbops.core.registry import Registry
from nbops.debugging.places import Place
from nbops.store.context import current_cell_id

if TYPE_CHECKING:
    from nbops.debugging.preflight.subject import Subject

# in the order in which they run
STAGES = (
    "structure", "settings", "batch", "forward", "dependencies", "loss", "backward", "last batch", "evaluation",
    "overfit",
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """What one check found.

    Attributes
    ----------
    layer : str
        Path of the module, or what else it is about: ``batch``, ``target``, ``loss``, ``optimizer``.
    status : str
        ``error``: training will fail, or cannot learn. ``warning``: most likely wrong. ``hint``: worth a look.
    place : Place or None
        The line to change.
    blocks : bool
        Whether the stages behind cannot say anything while this is so.
    """

    layer: str
    status: str
    what: str
    why: str = ""
    fix: str = ""
    confidence: float = 0.9
    measured: float | None = None
    limit: float | None = None
    expected: str = ""
    got: str = ""
    place: Place | None = None
    causes: tuple[Cause, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)
    blocks: bool = False


Check = Callable[["Subject"], Iterable[Found]]
stage_of: dict[str, str] = {}

checks: Registry[Check] = Registry(
    "preflight check",
    group="nbops.preflight",
    modules=tuple(
        f"nbops.debugging.preflight.{name}"
        for name in (
            "structure", "initial", "parameters", "settings", "batches", "crashing", "dependencies", "mixing", "losses",
            "heads", "gradients", "derivatives", "switching", "overfitting",
        )
    ),
)  # fmt: skip


def check(name: str, *, stage: str) -> Callable[[Check], Check]:
    """Return a decorator that registers a check under `name`, to run in `stage`."""

    def declare(function: Check) -> Check:
        stage_of[name] = stage
        return checks.add(name, function)

    return declare


def diagnosis_of(name: str, found: Found, *, run_id: str | None) -> Diagnosis:
    """Return the record of a finding, with the cell and line it stands at."""
    place = found.place
    evidence = dict(found.evidence)
    if place is not None and place.number is not None:
        evidence["execution_count"] = place.number
    elif place is not None and not place.is_cell:
        evidence.setdefault("file", place.source)
    return Diagnosis(
        id=new_id(Diagnosis.prefix), created_at=time.time(), name=name, status=found.status, step=-1, layer=found.layer,
        measured=found.measured, limit=found.limit, what=found.what, why=found.why, fix=found.fix,
        confidence=found.confidence, phase="preflight", expected=found.expected, got=found.got,
        line=place.line if place else None, code=place.code if place else "", causes=list(found.causes),
        evidence=evidence, cell_id=place.cell_id if place else current_cell_id(), parent=run_id,
    )  # fmt: skip


def because(
    text: str, fix: str, example: str = "", *, name: str, test: str = "", confidence: float = 0.9, patch: str = ""
) -> Cause:
    """Return one cause; a shorter way to write it in a check."""
    return Cause(text=text, fix=fix, example=example, patch=patch, test=test, confidence=confidence, name=name)
