"""Labels that people give, as they are recorded: what is labelled with what, and each answer."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from nbops.core.records import Record

GIVEN, SKIPPED, UNDONE, SHOWN = "given", "skipped", "undone", "shown"


class LabelSet(Record, frozen=True, kw_only=True):
    """What is labelled: the classes, and how many items there are. Its answers are `Label` records."""

    kind: ClassVar[str] = "labelset"
    prefix: ClassVar[str] = "lset"

    name: str
    status: str = "open"
    classes: list[Any] = msgspec.field(default_factory=list)  # text, numbers or booleans
    is_multi: bool = False  # whether an item may have several classes, or none
    question: str = ""
    items: int = 0  # different ones, when it was last opened
    dataset: str | None = None  # id of the dataset that the items are rows of
    parent: str | None = None  # run
    cell_id: str | None = None  # the cell that opened it first


class Label(Record, frozen=True, kw_only=True):
    """What one annotator last said of one item; what was said before is in the events of this record."""

    kind: ClassVar[str] = "label"
    prefix: ClassVar[str] = "lbl"

    name: str  # of the item: a digest of its content
    status: str  # given, skipped, undone, or shown: on the screen of somebody who has not answered yet
    parent: str  # label set
    annotator: str
    value: list[Any] = msgspec.field(default_factory=list)  # the chosen classes, in their order; one unless `is_multi`
    at: float = 0.0  # of the answer; seconds since the epoch
    duration_s: float | None = None  # from when the item was shown; None where nobody saw it
    note: str = ""
    suggested: list[Any] = msgspec.field(default_factory=list)
    confidence: float | None = None  # of the suggestion
    was_hidden: bool = False  # the suggestion, so that it could not sway the answer
    is_sample: bool = False  # the item came by chance, whatever a model thinks of it
