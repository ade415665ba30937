"""What one annotator has said so far, in memory: read once and kept up to date.

So the next item costs as much at the end of a long label set as at its beginning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from nbops.core.labelling import GIVEN, SHOWN, SKIPPED, UNDONE, Label


class Said:
    """The newest word on each item, in the order of time.

    Attributes
    ----------
    done : int
        How many items have an answer.
    counts : Counter
        Answers by class.
    skipped : dict
        Items that were put off, the longest ago first.
    open : dict
        Items that were taken back, or are on the screen: the newest last.
    """

    def __init__(self, labels: Iterable[Label]) -> None:
        self.done = 0
        self.counts: Counter[Any] = Counter()
        self.skipped: dict[str, None] = {}
        self.open: dict[str, None] = {}
        self._labels: dict[str, Label] = {}
        for label in labels:
            self.note(label)

    def __contains__(self, item: str) -> bool:
        return item in self._labels

    def note(self, label: Label) -> None:
        """Let `label` be the newest word on its item, and the last of all."""
        old = self._labels.pop(label.name, None)
        if old is not None and old.status == GIVEN:
            self.done -= 1
            self.counts.subtract(old.value)
        self.skipped.pop(label.name, None)
        self.open.pop(label.name, None)
        self._labels[label.name] = label
        if label.status == GIVEN:
            self.done += 1
            self.counts.update(label.value)
        elif label.status == SKIPPED:
            self.skipped[label.name] = None
        elif label.status in (UNDONE, SHOWN):
            self.open[label.name] = None

    def newest(self) -> Iterator[Label]:
        """Yield the words, the last one first."""
        return reversed(self._labels.values())

    def answers(self) -> list[tuple[str, list[Any]]]:
        """Return items and classes in the order in which they were given."""
        return [(item, label.value) for item, label in self._labels.items() if label.status == GIVEN]
