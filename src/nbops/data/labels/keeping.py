"""Label sets and answers in the workspace: each answer is one record of one annotator, and each change an event."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from nbops.core.errors import Conflict, InvalidInput, not_found
from nbops.core.ids import new_id, stable_id
from nbops.core.labelling import GIVEN, SHOWN, SKIPPED, UNDONE, Label, LabelSet
from nbops.core.query import Both, Compare, Field
from nbops.core.records import Dataset, replace
from nbops.store.context import current_cell_id, current_run
from nbops.store.workspace import Workspace

CLAIM_S = 900.0  # as long an item on somebody's screen is left alone by others


def find_set(ws: Workspace, name: str) -> LabelSet:
    """Return the label set of that name.

    Raises
    ------
    NotFound
        There is none.
    """
    found = ws.store.find(LabelSet, Compare(Field("name"), "==", name), limit=1)
    if not found:
        known = [one.name for one in ws.store.find(LabelSet, limit=1000)]
        raise not_found("label set", name, known, hint="Make one with nb.label.")
    return found[0]


def open_set(ws: Workspace, name: str, *, classes: Sequence[Any], is_multi: bool, question: str, items: int,
             dataset: Dataset | None) -> LabelSet:  # fmt: skip
    """Return the label set of that name, made or brought up to date: it may get further classes.

    Raises
    ------
    Conflict
        Answers are there that the new classes do not allow.
    """
    if not isinstance(name, str) or not name.strip() or "/" in name or "@" in name:
        raise InvalidInput(f"a label set cannot be named {name!r}", hint="Use text without '/' and '@'.")
    with ws.store.transaction():
        ws.store.next_number(f"labelset/{name}")  # others who open it now wait
        found = ws.store.find(LabelSet, Compare(Field("name"), "==", name), limit=1)
        old = found[0] if found else None
        if old is not None:
            _check_change(ws, old, classes, is_multi=is_multi)
        wanted = LabelSet(
            id=old.id if old else new_id(LabelSet.prefix), created_at=old.created_at if old else time.time(), name=name,
            classes=list(classes), is_multi=is_multi, question=question, items=items,
            dataset=dataset.id if dataset else old.dataset if old else None,
            parent=old.parent if old else current_run(), cell_id=old.cell_id if old else current_cell_id(),
        )  # fmt: skip
        if wanted != old:
            ws.store.put(wanted)
        if dataset is not None:
            ws.store.link(dataset.id, "labelled_in", wanted.id)
        if run := current_run():
            ws.store.link(wanted.id, "used_by", run)
    return wanted


def _check_change(ws: Workspace, old: LabelSet, classes: Sequence[Any], *, is_multi: bool) -> None:
    if old.is_multi is is_multi and all(label in classes for label in old.classes):
        return
    given = [label for label in read_labels(ws, old) if label.status == GIVEN]
    if given and old.is_multi is not is_multi:
        raise Conflict(f"the label set '{old.name}' has {len(given):,} answers with multi={old.is_multi}",
                       hint=f"Choose another name=, or pass multi={old.is_multi}.")  # fmt: skip
    gone = [value for label in given for value in label.value if value not in classes]
    if gone:
        raise Conflict(f"the label set '{old.name}' has answers {gone[0]!r}, which is none of the classes now",
                       hint="Keep the class, or choose another name= for new ones.")  # fmt: skip


def read_labels(ws: Workspace, of: LabelSet, *, annotator: str | None = None, item: str | None = None) -> list[Label]:
    """Return the newest word of each annotator on each item, oldest first."""
    tests = [Compare(Field("parent"), "==", of.id)]
    if annotator is not None:
        tests.append(Compare(Field("annotator"), "==", annotator))
    if item is not None:
        tests.append(Compare(Field("name"), "==", item))
    found = ws.store.find(Label, Both("and", tuple(tests)))
    return sorted(found, key=lambda label: (label.at, label.id))


def new_label(of: LabelSet, item: str, annotator: str, *, status: str, **fields: Any) -> Label:
    """Return the record of what one annotator says of one item: always under the same id."""
    now, id = time.time(), _label_id(of, item, annotator)
    return Label(id=id, created_at=now, name=item, status=status, parent=of.id, annotator=annotator, at=now, **fields)


def _label_id(of: LabelSet, item: str, annotator: str) -> str:
    return stable_id(Label.prefix, at=of.created_at, of=f"{of.id}\0{item}\0{annotator}")


def keep(ws: Workspace, label: Label) -> None:
    """Write an answer, and an event that says what it was; it is in the database when this returns."""
    payload: dict[str, Any] = {"item": label.name, "annotator": label.annotator}
    if label.status in (GIVEN, UNDONE):
        payload |= {"value": label.value, "duration_s": label.duration_s}
    ws.store.put(label, event=f"label.{label.status}", payload=payload)


def undo(ws: Workspace, label: Label) -> Label:
    """Take back an answer or a skip; the event says what it was."""
    undone: Label = replace(label, status=UNDONE, at=time.time())
    keep(ws, undone)
    return undone


def claim(ws: Workspace, of: LabelSet, item: str, annotator: str) -> str:
    """Take an item that one annotator is to label: "" if it is mine now, else ``taken`` or ``shown``, to another."""
    with ws.store.transaction():
        ws.store.next_number(f"labelset/{of.name}")  # one at a time, also where hosts share the database
        mine = None
        for label in read_labels(ws, of, item=item):
            if label.annotator == annotator:
                mine = label
            elif label.status == GIVEN:
                return "taken"
            elif label.status in (SHOWN, UNDONE) and time.time() - label.at < CLAIM_S:
                return "shown"
        if mine is None or mine.status in (SHOWN, SKIPPED):
            keep(ws, new_label(of, item, annotator, status=SHOWN))
    return ""


def own_label(ws: Workspace, of: LabelSet, item: str, annotator: str) -> Label | None:
    """Return what one annotator last said of one item; None if nothing yet."""
    id = _label_id(of, item, annotator)
    found = ws.store.find(Label, Compare(Field("id"), "==", id), limit=1)
    return found[0] if found else None


def is_done(label: Label) -> bool:
    """Return whether a word on an item can be undone: it was given or skipped."""
    return label.status in (GIVEN, SKIPPED)
