"""Sealed test sets: every look is counted, for all who work in the workspace, before the rows are handed out.

A seal is a counter, not a lock: whoever holds the data can find the rows. It is there to know how far a score can be
believed that was the best of many.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from nbops.core.display import Shown
from nbops.core.errors import InvalidInput
from nbops.core.ids import new_id
from nbops.core.query import Compare, Field
from nbops.core.splits import Look, SplitRecord
from nbops.store.context import current_cell, current_run
from nbops.store.workspace import Workspace, workspace


def count_look(ws: Workspace, record: SplitRecord, why: str) -> Look:
    """Record one look at the test rows of a split, in one transaction with its number, and return it.

    The count is kept for the rows, not for the name of a split or the process: renaming starts nothing anew.

    Raises
    ------
    InvalidInput
        No reason is given.
    StoreError
        The look cannot be recorded: then there is none.
    """
    if not isinstance(why, str) or not why.strip():
        raise InvalidInput(f"why is {why!r}", hint='Say what the look is for: "final score of the forest".')
    cell, run = current_cell(), current_run()
    digest = record.digests["test"]
    with ws.store.transaction():
        look = Look(
            id=new_id(Look.prefix), created_at=time.time(), name=why.strip(), split=record.id,
            split_name=record.name, digest=digest, number=ws.store.next_number(f"look/{digest}"),
            rows=record.sizes["test"], execution=cell.execution if cell else "", parent=run,
            cell_id=cell.cell_id if cell else None,
        )  # fmt: skip
        ws.store.put(look, payload={"split": record.id, "number": look.number, "run": run or ""})
        if run:
            ws.store.link(record.id, "looked_at_by", run)
    return look


def looks_at(ws: Workspace, digest: str) -> int:
    """Return how often test rows with this digest were looked at."""
    return ws.store.count(Look, Compare(Field("digest"), "==", digest))


def looks_of(ws: Workspace, run: str) -> list[Look]:
    """Return the looks of a run, newest first."""
    return ws.store.find(Look, Compare(Field("parent"), "==", run))


def look_tags(ws: Workspace, run: str) -> dict[str, str]:
    """Return tags for what came of a run: how often the sealed test set that it looked at last was looked at in all."""
    looks = looks_of(ws, run)
    if not looks:
        return {}
    return {"test_split": looks[0].split_name, "test_looks": str(looks_at(ws, looks[0].digest))}


def optimism(looks: int) -> float:
    """Return how much too good the best of so many scores is expected to be, in standard errors of one score.

    At most sqrt(2 ln K) for K equally good variants: the expected maximum of K normal numbers is not above it
    (Boucheron, Lugosi and Massart, Concentration Inequalities, 2013, theorem 2.5).
    """
    return math.sqrt(2 * math.log(looks)) if looks > 1 else 0.0


def share_error(rows: int) -> float:
    """Return the largest standard error of a share, such as accuracy, over so many rows: 0.5 / sqrt(rows)."""
    return 0.5 / math.sqrt(rows) if rows else 0.0


def say_optimism(looks: int, rows: int) -> str:
    """Return a sentence on what so many looks at so many test rows are expected to do to the best score."""
    if looks < 2:
        return "A first look costs nothing: the score is as good as it reads."
    factor = optimism(looks)
    points = 100 * factor * share_error(rows)
    return (
        f"The best of {looks:,} scores is expected to read too well by up to {factor:.2f} standard errors "
        f"(√(2 ln {looks})); for a share such as accuracy over {rows:,} rows that is at most {points:.2g} points."
    )


class SealedTest(Shown):
    """Test rows that are handed out when they are asked for, and the asking is counted.

    Parameters
    ----------
    record : SplitRecord
    content : callable
        Returns what is handed out: positions, or the rows of data.
    """

    def __init__(self, record: SplitRecord, content: Callable[[], Any]) -> None:
        self.record = record
        self._content = content

    def look(self, why: str) -> Any:
        """Count a look and return what is sealed."""
        count_look(workspace(), self.record, why)
        return self._content()

    @contextmanager
    def open(self, why: str) -> Iterator[Any]:
        """Count a look and give what is sealed: ``with split.test.open("final score") as test:``."""
        yield self.look(why)

    @property
    def looks(self) -> int:
        """How often these rows were looked at, by anybody in this workspace."""
        return looks_at(workspace(), self.record.digests["test"])

    def __len__(self) -> int:
        return self.record.sizes["test"]

    def __repr__(self) -> str:
        return f"<sealed test set of split '{self.record.name}': {len(self):,} rows>"

    def refuse(self, *_: Any, **__: Any) -> NoReturn:
        """Say how the rows can be had."""
        raise InvalidInput(f"the test set of split '{self.record.name}' is sealed",
                           hint='Open it with: with split.open_test("why") as test. Each look is counted.')  # fmt: skip

    __getitem__ = __iter__ = __array__ = __index__ = refuse
