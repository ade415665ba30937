"""One annotator at one label set: which item is next, what was said of it, and taking that back.

Every answer is in the workspace before the next item is chosen. What is remembered here is only read from there, so
that another kernel, or the same one after a kill, goes on at the same item.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nbops.core.display import Shown
from nbops.core.errors import Conflict, InvalidInput
from nbops.core.labelling import GIVEN, SKIPPED, Label, LabelSet
from nbops.data.labels import keeping
from nbops.data.labels.choices import Choice
from nbops.data.labels.items import Items
from nbops.data.labels.labelset import Labels
from nbops.data.labels.queue import Queue, share_of
from nbops.data.labels.said import Said
from nbops.data.labels.suggesting import Suggestion
from nbops.store.workspace import Workspace

Show = Callable[[Any], Any] | str | None
_ALL = 1.0


@dataclass(frozen=True)
class Progress:
    """How far one annotator is: items that are done, skipped (they come back) and in all, and answers by class."""

    done: int
    skipped: int
    total: int
    counts: dict[Any, int]
    elsewhere: int = 0  # on the screens of others now

    @property
    def left(self) -> int:
        """How many have no answer yet."""
        return self.total - self.done


@dataclass(frozen=True)
class Manner:
    """How items are put before the annotator.

    Attributes
    ----------
    show : callable, str or None
        What makes an item visible; a text is a template over the columns of a row.
    has_notes : bool
        Whether a remark can be written beside each answer.
    hides_suggestions : bool
        Whether suggestions are kept from the annotator; they are stored beside the answers all the same.
    overlap : float
        Share of the items that everybody labels; each of the rest is labelled once.
    """

    show: Show = None
    has_notes: bool = False
    hides_suggestions: bool = False
    overlap: float = _ALL


class LiveLabelling(Shown):
    """What `nb.label` returns: the widget, and the same by function calls.

    Attributes
    ----------
    record : LabelSet
        What is labelled with what.
    annotator : str
    choices : tuple of Choice
        The classes, and the key of each.
    is_multi : bool
        Whether an item may have several classes, or none.
    trouble : str
        Why a model could not be asked anew; the order before it stays. Empty if nothing is wrong.
    """

    def __init__(
        self, ws: Workspace, record: LabelSet, *, annotator: str, items: Items, queue: Queue,
        choices: tuple[Choice, ...], suggestions: Mapping[str, Suggestion], manner: Manner,
    ) -> None:  # fmt: skip
        self.record, self.annotator, self.choices, self.manner = record, annotator, choices, manner
        self.is_multi = record.is_multi
        self.trouble = ""
        self.lock = threading.RLock()
        self._ws, self._items, self._queue = ws, items, queue
        self._suggestions = suggestions
        self._inside = set(queue.ids)
        self._sample = set(queue.sample)
        everyones = manner.overlap >= _ALL
        self._shared = self._inside if everyones else share_of(queue.ids, manner.overlap, f"{record.name} overlap")
        self._taken: set[str] = set()  # answered by somebody else, and not mine to do
        self._elsewhere: set[str] = set()
        self._said = self._read()
        self._block = 0  # of answers, after which the order was made
        self._order = queue.order(self._said.answers())
        self._place = 0  # in the order: before it all are answered
        self._id: str | None = None
        self._since = time.monotonic()
        self._rank()
        self._advance()

    def __repr__(self) -> str:
        progress = self.progress
        return f"LiveLabelling({self.name!r}, {progress.done:,} of {progress.total:,} by {self.annotator!r})"

    @property
    def name(self) -> str:
        """Of the label set."""
        return self.record.name

    @property
    def classes(self) -> tuple[Any, ...]:
        """What there is to choose from."""
        return tuple(choice.label for choice in self.choices)

    @property
    def item_id(self) -> str | None:
        """The digest of the item that is to be labelled now; None when all are done."""
        return self._id

    @property
    def item(self) -> Any:
        """The item that is to be labelled now; None when all are done."""
        return None if self._id is None else self._items.values[self._id]

    @property
    def suggestion(self) -> Suggestion | None:
        """What is suggested for the item, hidden or not; None if nothing is."""
        return self._suggestions.get(self._id or "")

    @property
    def last(self) -> Label | None:
        """What `undo` would take back: the last answer or skip of an item that is among these."""
        return next((label for label in self._said.newest() if keeping.is_done(label)), None)

    @property
    def progress(self) -> Progress:
        """How far this annotator is."""
        said = self._said
        counts = {label: said.counts[label] for label in self.classes}
        total = len(self._inside) - len(self._taken)
        return Progress(said.done, len(said.skipped), total, counts, len(self._elsewhere))

    @property
    def labels(self) -> Labels:
        """All answers to this label set so far, of everybody."""
        return Labels.of(self._ws, keeping.find_set(self._ws, self.name), ids=list(self._items.values))

    # ---- what the annotator does ----

    def answer(self, *classes: Any, note: str = "", duration_s: float | None = None, item: str | None = None) -> Label:
        """Label the item; when this returns, the answer is stored and the next item is there.

        Parameters
        ----------
        *classes
            One; with ``multi=True`` any number, also none.
        note : str
            A remark that is kept with the answer.
        duration_s : float, seconds
            How long it took; since the item came if None.
        item : str, optional
            The digest of the item that is meant, to be safe against answers that come late.

        Raises
        ------
        InvalidInput
            Not one class, or one that there is not.
        Conflict
            Another item is there now, or none.
        StoreError
            It could not be stored; the item stays.
        """
        with self.lock:
            id = self._expect(item)
            chosen = [label for label in self.classes if label in classes]
            unknown = next((label for label in classes if label not in self.classes), None)
            if unknown is not None:
                raise InvalidInput(f"{unknown!r} is none of the classes", hint=f"They are {list(self.classes)[:10]}.")
            if not self.is_multi and len(chosen) != 1:
                raise InvalidInput(f"the answer is {len(chosen)} classes", hint="Give one, or label with multi=True.")
            return self._write(id, GIVEN, value=chosen, note=note.strip(), duration_s=self._took(duration_s))

    def skip(self, *, duration_s: float | None = None, item: str | None = None) -> Label:
        """Put the item off: it comes back after all others.

        Raises
        ------
        Conflict
            Another item is there now, or none.
        """
        with self.lock:
            return self._write(self._expect(item), SKIPPED, duration_s=self._took(duration_s))

    def undo(self) -> Label | None:
        """Take back the last answer or skip, also one from before a restart; its item is there again.

        Returns
        -------
        Label or None
            What was taken back; None if there was nothing.
        """
        with self.lock:
            last = self.last
            if last is None:
                return None
            self._said.note(keeping.undo(self._ws, last))
            self._rank()
            self._advance()
            return last

    # ---- the order ----

    def _expect(self, item: str | None) -> str:
        if self._id is None or item not in (None, self._id):
            raise Conflict(f"the item {item or 'to answer'} is not there any more: it was answered, or all are",
                           hint="Look at .item, or take the answer back with .undo().")  # fmt: skip
        return self._id

    def _took(self, duration_s: float | None) -> float:
        return round(time.monotonic() - self._since if duration_s is None else max(0.0, float(duration_s)), 3)

    def _write(self, id: str, status: str, **fields: Any) -> Label:
        suggestion = self._suggestions.get(id)
        if suggestion is not None:
            fields |= {"suggested": list(suggestion.value), "confidence": suggestion.confidence,
                       "was_hidden": self.manner.hides_suggestions}  # fmt: skip
        label = keeping.new_label(
            self.record, id, self.annotator, status=status, is_sample=id in self._sample, **fields
        )
        keeping.keep(self._ws, label)
        self._said.note(label)
        self._rank()
        self._advance()
        return label

    def _read(self) -> Said:
        found = keeping.read_labels(self._ws, self.record)
        said = Said(label for label in found if label.annotator == self.annotator and label.name in self._inside)
        mine = {item for item, _ in said.answers()}
        others = {label.name for label in found if label.annotator != self.annotator and label.status == GIVEN}
        self._taken = (others & self._inside) - self._shared - mine
        return said

    def _rank(self) -> None:
        """Ask a model anew when it is time; one that fails keeps the order before."""
        block = self._said.done // self._queue.taste.every if self._queue.scorer is not None else 0
        if block == self._block:
            return
        self._block = block
        try:
            self._order, self._place, self.trouble = self._queue.order(self._said.answers()), 0, ""
        except Exception as error:  # somebody's function: the answer is stored, and work goes on
            self.trouble = f"The order could not be brought up to date: {type(error).__name__}: {error}"

    def _candidates(self) -> Iterator[str]:
        """Yield what could be next: what was taken back or on the screen, the order, then what was put off."""
        yield from list(reversed(self._said.open))
        order, said, taken = self._order, self._said, self._taken
        while self._place < len(order) and (order[self._place] in said or order[self._place] in taken):
            self._place += 1
        yield from (order[at] for at in range(self._place, len(order)) if order[at] not in said)
        yield from list(self._said.skipped)

    def _advance(self) -> None:
        self._id, self._since = None, time.monotonic()
        self._elsewhere.clear()
        for id in self._candidates():
            if id in self._taken or self._is_done_elsewhere(id):
                continue
            fate = "" if id in self._shared else keeping.claim(self._ws, self.record, id, self.annotator)
            if not fate:
                self._id = id
                return
            (self._taken if fate == "taken" else self._elsewhere).add(id)

    def _is_done_elsewhere(self, id: str) -> bool:
        """Return whether the same annotator has answered in another kernel meanwhile."""
        label = keeping.own_label(self._ws, self.record, id, self.annotator)
        if label is None or label.status != GIVEN:
            return False
        self._said.note(label)
        return True
