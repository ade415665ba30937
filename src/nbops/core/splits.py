"""Splits of data as they are recorded, and each look at a sealed test set."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from nbops.core.records import Record

OPEN, SEALED = "open", "sealed"


def base_name(name: str) -> str:
    """Return the name of what was split, without the version of the dataset."""
    return name.rpartition("/")[0] if name.rpartition("/")[2].isdecimal() and "/" in name else name


class SplitRecord(Record, frozen=True, kw_only=True):
    """How data was split: enough to make the same split again, and to tell which one a run used."""

    kind: ClassVar[str] = "split"
    prefix: ClassVar[str] = "spl"

    name: str
    status: str = OPEN  # sealed: each look at the test rows is counted
    method: str  # in words: "hash of id"
    fingerprint: str  # sha256 over settings and parts: the same split of the same rows has the same
    rows: int
    sizes: dict[str, int] = msgspec.field(default_factory=dict)  # rows of train, val, test and left out
    digests: dict[str, str] = msgspec.field(default_factory=dict)  # of the rows of each part, whatever their order
    settings: dict[str, Any] = msgspec.field(default_factory=dict)  # what nb.split was asked for
    proof: dict[str, Any] = msgspec.field(default_factory=dict)  # what was measured afterwards
    sample: dict[str, str] = msgspec.field(
        default_factory=dict
    )  # of each side up to 256 hashed rows, hex, to see later whether rows moved
    dataset: str | None = None  # id of the dataset, if the data is a snapshot
    parent: str | None = None  # run
    cell_id: str | None = None  # the cell that made it


class Look(Record, frozen=True, kw_only=True):
    """One look at the rows of a sealed test set."""

    kind: ClassVar[str] = "look"
    prefix: ClassVar[str] = "look"

    name: str  # why
    split: str  # id of the `SplitRecord`
    split_name: str
    digest: str  # of the test rows: looks are counted per this
    number: int  # 1 for the first look at these rows
    rows: int  # in the test set
    execution: str = ""  # of the cell: the same for all looks of one execution
    parent: str | None = None  # run
    cell_id: str | None = None
