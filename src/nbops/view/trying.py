"""The card of `nb.diagnose`: what each remedy did to the loss, beside the cell as it is, then what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbops.core.display import Bundle
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Chip, Code, Key, Note, Part, Section, chip
from nbops.view.debugging import findings
from nbops.view.figures import Figure, Line
from nbops.view.format import number, plural, text

if TYPE_CHECKING:
    from nbops.debugging.trying.records import Advice, Course, Trial

_CHIPS = {
    "helps": Chip("✓", "helps", "ok"), "no difference": Chip("–", "no difference", "dim"),
    "worse": Chip("✕", "worse", "bad"), "failed": Chip("✕", "failed", "bad"),
}  # fmt: skip


def show_advice(value: Advice) -> Bundle:
    """Draw an `Advice`: the curves with each patch and without, the patch that helps in full, and the findings."""
    best = value.best
    parts: list[Part] = []
    lines = [_line("as it is", value.before)] if value.before is not None else []
    lines += [_line(one.cause, one.course) for one in value.trials]
    if any(line.steps for line in lines):
        parts.append(Figure("loss", tuple(line for line in lines if line.steps)))
    for one in value.trials:
        parts += _told(one)
    parts += [Note(note, "dim") for note in value.notes]
    if not value.trials:
        parts += findings(list(value.findings))
    state = Chip("✓", "a remedy helps", "ok") if best else _found(value)
    facts = [plural(len(value.findings), "finding")]
    if value.trials:
        facts.append(f"{plural(len(value.trials), 'remedy')} tried over {plural(value.steps, 'step')}")
    return bundle(Card(text(value.name), state, "", tuple(facts), _keys(value), tuple(parts)))


def _found(value: Advice) -> Chip:
    return chip(value.findings[0].status) if value.findings else Chip("✓", "nothing found", "ok")


def _line(name: str, course: Course) -> Line:
    return Line(name, list(range(len(course.losses))), list(course.losses))


def _keys(value: Advice) -> tuple[Key, ...]:
    if value.before is None or not value.before.losses:
        return ()
    keys = [Key(number(value.before.last), "loss as it is", f"at first {number(value.before.first)}")]
    if value.best is not None:
        course = value.best.course
        keys.append(Key(number(course.last), f"fix of {value.best.cause}", f"at first {number(course.first)}"))
    return tuple(keys)


def _told(one: Trial) -> list[Part]:
    parts: list[Part] = [Section(one.cause, _CHIPS[one.verdict], (f"for {one.rule}",)), Note(_sentence(one.why))]
    if one.verdict == "worse":
        parts.append(
            Note("A few steps cannot acquit: gradients that add up, for one, often fall faster at first.", "dim")
        )
    if one.fix:
        parts.append(Note(f"Fix: {one.fix}"))
    parts.append(Code(one.patch))
    return parts


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."
