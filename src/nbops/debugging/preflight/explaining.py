"""From a crash to a finding: where it is, what was expected, and which repairs are likely to be the right ones.

Repairs are tried on the fake twin and ordered by how far they bring the pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from nbops.debugging.places import Place
from nbops.debugging.preflight.found import Found
from nbops.debugging.preflight.passes import Crash, Pass
from nbops.debugging.preflight.repairs import Repair, Undo
from nbops.debugging.preflight.subject import LEAST_S, Subject

MOST = 3  # crashes that are reported at once, each with those before it repaired
_TRIALS = 40
_SEARCH = 6  # more repairs than this are sizes to search through
_RUNS = "with this change the whole pass runs"
_GOES_ON = "with this change the pass gets further"


@dataclass(frozen=True)
class Explanation:
    """What a crash means.

    Attributes
    ----------
    check : str
        The check that reports it: ``shape-mismatch``, ``dtype-mismatch`` …
    place, called : Place or None
        The line to change, and the one that was being executed.
    """

    check: str
    layer: str
    what: str
    why: str = ""
    expected: str = ""
    got: str = ""
    repairs: tuple[Repair, ...] = ()
    place: Place | None = None
    called: Place | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    confidence: float = 0.95


def found_of(explanation: Explanation) -> Found:
    """Return what a check says about an explained crash."""
    best = explanation.repairs[0] if explanation.repairs else None
    evidence = dict(explanation.evidence)
    if explanation.called is not None and explanation.called != explanation.place:
        evidence["called_at"] = f"{explanation.called}: {explanation.called.code}"
    return Found(
        layer=explanation.layer, status="error", what=explanation.what, why=explanation.why,
        fix=best.fix if best else "", confidence=explanation.confidence, expected=explanation.expected,
        got=explanation.got, place=explanation.place or explanation.called,
        causes=tuple(r.cause(confidence=r.confidence, test=r.test) for r in explanation.repairs[:4]),
        evidence=evidence, blocks=True,
    )  # fmt: skip


def tried(subject: Subject, explanation: Explanation, crash: Crash) -> tuple[Explanation, list[Undo], Pass | None]:
    """Try the repairs of an explanation on the fake twin.

    Returns
    -------
    Explanation
        The same with its repairs in the order of how far they bring the pass, and only those of them that bring it on.
    list of callable
        What takes the best repair away again; it is left in place.
    Pass or None
        How far the pass gets with the best repair.
    """
    scored: list[tuple[int, Repair, Pass | None]] = []
    is_search = len(explanation.repairs) > _SEARCH
    for repair in explanation.repairs[:_TRIALS]:
        if not repair.can_be_tried or subject.left_s <= LEAST_S:
            untried = replace(repair, patch="") if is_search else repair  # one of many sizes is a guess
            scored.append((1, untried, None))
            continue
        outcome = _try(subject, repair)
        scored.append((_score(subject, outcome, crash), repair, outcome))
        if scored[-1][0] == 3 and is_search:
            break  # of many sizes the first that runs is the one
    if is_search and any(score == 3 for score, _, _ in scored):
        scored = [row for row in scored if row[0] == 3 or row[2] is None]
    kept = sorted((row for row in scored if row[0] > 0), key=lambda row: (-row[0], -row[1].confidence))
    repairs = tuple(_judged(score, repair, rank) for rank, (score, repair, _) in enumerate(kept))
    helpless = tuple(replace(repair, patch="") for repair in explanation.repairs)  # tried, and of no use by themselves
    explanation = replace(explanation, repairs=repairs or helpless)
    if not kept or kept[0][0] < 2:
        return explanation, [], None
    return explanation, [_install(subject, kept[0][1])], kept[0][2]


def _install(subject: Subject, repair: Repair) -> Undo:
    """Leave a repair in place, and return what takes it away."""
    if repair.apply is not None:
        return repair.apply(subject.fake_model)
    if repair.rewrite is None:
        return lambda: None
    subject.rewrites.append(repair.rewrite)
    return subject.rewrites.clear


def _judged(score: int, repair: Repair, rank: int) -> Repair:
    confidence = repair.confidence
    if score == 3:
        confidence = max(confidence, 0.9 if rank == 0 else confidence)
    if score == 2:
        confidence = max(confidence, 0.7 if rank == 0 else confidence)
    return replace(repair, confidence=confidence, test={3: _RUNS, 2: _GOES_ON}.get(score, repair.test))


def _try(subject: Subject, repair: Repair) -> Pass | None:
    undo = None
    try:
        undo = repair.apply(subject.fake_model) if repair.apply is not None else None
        return subject.fake_pass(backward=False, also=repair.rewrite)
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError):  # it cannot be made like this
        return None
    finally:
        if undo is not None:
            undo()


def _score(subject: Subject, outcome: Pass | None, crash: Crash) -> int:
    """Return 3 if the pass runs, 2 if it gets further, 1 if that is not known, 0 if the repair does not help."""
    if outcome is None:
        return 0
    if outcome.is_complete:
        return 3 if _keeps_samples(subject, outcome) else 0
    if outcome.crash is None:
        return 1
    now = outcome.crash
    line, before = (c.place.line if c.place is not None else 0 for c in (now, crash))
    if now.message == crash.message or now.reached < crash.reached:
        return 0
    is_other_kind = "dtype" in now.message and "dtype" not in crash.message  # the shapes fit now
    return 2 if now.reached > crash.reached or line > before or is_other_kind else 0


def _keeps_samples(subject: Subject, outcome: Pass) -> bool:
    """Return whether the output still has one row for each sample, so that samples and features were not mixed."""
    shape = getattr(outcome.output, "shape", None)
    return shape is None or outcome.has_loss or not subject.is_sliceable or subject.batch_size in tuple(shape)[:2]
