"""The card of a labelling widget and of a label set, and what the widget in the browser is told."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from nbops.core.display import Bundle
from nbops.core.errors import InvalidInput, NbopsError
from nbops.core.ids import new_id
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Chip, Code, Facts, Grid, Key, Note, Part
from nbops.view.desk import MIME, offer
from nbops.view.format import cut, duration, number, plural, quantity, text, when

if TYPE_CHECKING:
    from nbops.data.labels.labelset import Labels
    from nbops.data.labels.session import LiveLabelling

_SHOWN, _WIDTH = 12, 40


def show_labelling(value: LiveLabelling) -> Bundle:
    """Draw a `LiveLabelling`: how far it is, and in a kernel the widget itself.

    Raises
    ------
    InvalidInput
        The item that is next cannot be shown.
    """
    from nbops.view.items import show_item  # NumPy and the data: not for a list of verbs

    with value.lock:
        if value.item_id is not None:
            show_item(value.item, value.manner.show)  # here the error has a cell that it can be mended in
        made = bundle(_card(value))
        key = offer(value, state_of)
    return made if key is None else {MIME: {"session": key, "shown": new_id("shown")}, **made}


def _card(value: LiveLabelling) -> Card:
    progress = value.progress
    parts: list[Part] = []
    counts = [(label, count) for label, count in progress.counts.items() if count][:_SHOWN]
    if counts:
        parts.append(Facts("answers", tuple((_name(label), f"{count:,}") for label, count in counts)))
    if value.trouble:
        parts.append(Note(value.trouble, "bad"))
    keys = (Key(f"{progress.done:,} of {progress.total:,}", "labelled"),
            Key(quantity(progress.done / progress.total if progress.total else 1.0, "share"), "done"),
            Key(f"{progress.skipped:,}", "skipped, to come back"))  # fmt: skip
    if progress.left:
        parts.append(Note("Run the cell again in JupyterLab or Notebook 7 to go on.", "dim"))
    facts = (plural(len(value.choices), "class"), f"by {cut(text(value.annotator), 24)}")
    done = Chip("✓", "all labelled", "ok")
    chip = Chip("●", f"{progress.left:,} to label", "live") if progress.left else done
    return Card(f"labels {cut(text(value.name), _WIDTH)}", chip, "", facts, keys[: 2 + bool(progress.skipped)],
                tuple(parts), (f'nb.labels("{cut(text(value.name), _WIDTH)}")',))  # fmt: skip


def state_of(value: LiveLabelling) -> dict[str, Any]:
    """Return what the widget shows now: the item, the classes with their counts, how far it is, and the static card."""
    from nbops.view.items import show_item

    progress, made = value.progress, bundle(_card(value))
    told: dict[str, Any] = {
        "name": text(value.name), "question": text(value.record.question), "annotator": text(value.annotator),
        "multi": value.is_multi, "notes": value.manner.has_notes, "done": progress.done, "total": progress.total,
        "skipped": progress.skipped, "elsewhere": progress.elsewhere, "canUndo": value.last is not None,
        "classes": [{"label": _name(choice.label), "key": choice.key, "count": progress.counts[choice.label]}
                    for choice in value.choices],
        "item": None, "suggestion": None, "trouble": text(value.trouble),
        "card": {"text/html": made["text/html"], "text/plain": made["text/plain"]},
    }  # fmt: skip
    if value.item_id is None:
        return told
    try:
        told["item"] = {"id": value.item_id, "mime": show_item(value.item, value.manner.show)}
    except InvalidInput as error:
        told["item"] = {"id": value.item_id, "mime": None}
        told["trouble"] = f"{text(error.message)}. {text(error.hint)}"
    suggestion = value.suggestion
    if suggestion is not None and not value.manner.hides_suggestions:
        told["suggestion"] = {
            "classes": [value.classes.index(label) for label in suggestion.value],
            "confidence": quantity(suggestion.confidence, "share") if suggestion.confidence is not None else "",
            "given": "" if suggestion.given is None else _name(suggestion.given),
        }
    return told


def _name(label: Any) -> str:
    return cut(text(label), _WIDTH)


def show_labels(value: Labels) -> Bundle:
    """Draw `Labels`: how many answers, of whom, on which classes, and how far annotators agree."""
    record, name = value.record, cut(text(value.name), _WIDTH)
    if not len(value):
        note = Note("Nothing is labelled yet. Open the widget:", "dim")
        line = Code(f'nb.label(items, classes={list(record.classes)[:6]!r}, name="{name}")')
        return bundle(Card(f"labels {name}", Chip("–", "empty", "dim"), "", (), (), (note, line)))
    counts = Counter(label for given in value.given for label in given.value)
    shares = tuple((_name(label), f"{counts[label]:,}", quantity(counts[label] / len(value), "share"))
                   for label in record.classes[:_SHOWN])  # fmt: skip
    more = len(record.classes) - len(shares)
    parts: list[Part] = [Grid(("class", "answers", "of all"), shares, frozenset({1, 2}), -1,
                              f"… and {plural(more, 'more class')}" if more > 0 else "")]  # fmt: skip
    by = Counter(label.annotator for label in value.given)
    took = {who: [label.duration_s for label in value.given if label.annotator == who and label.duration_s is not None]
            for who in by}  # fmt: skip
    rows = tuple((text(who), f"{count:,}", duration(sorted(took[who])[len(took[who]) // 2]) if took[who] else "—")
                 for who, count in by.most_common(_SHOWN))  # fmt: skip
    parts.append(Grid(("annotator", "answers", "median time"), rows, frozenset({1, 2})))
    keys = [Key(f"{len(value.items):,}", f"of {record.items:,} items" if record.items else "items"),
            Key(f"{len(value):,}", "answers"), *_agreed(value)]  # fmt: skip
    facts = (plural(len(record.classes), "class"), f"last {when(value.given[-1].at)}")
    actions = (".frame()", ".consensus()", ".snapshot()", ".save('labels.csv')")
    return bundle(Card(f"labels {name}", Chip("✓", plural(len(by), "annotator"), "ok"), "", facts, tuple(keys),
                       tuple(parts), actions))  # fmt: skip


def _agreed(value: Labels) -> list[Key]:
    """Return how far annotators agree, where two have labelled the same items."""
    if len(value.annotators) > 1:
        try:
            found = value.agreement()
        except NbopsError:  # nothing in common yet: there is nothing to say
            return []
        return [Key("—" if found.alpha != found.alpha else number(round(found.alpha, 3)), "Krippendorff's alpha")]
    return []
