"""`nb.split`: train, val and test so that a row keeps its side, with a proof and a record of it.

The arithmetic is in `sides`, `moments` and `identity`; what a split can do in hand, in `parts`.
"""

from __future__ import annotations

import time as clock
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbops.core.codec import digest_of
from nbops.core.errors import InvalidInput
from nbops.core.ids import new_id
from nbops.core.query import Compare, Field
from nbops.core.records import Dataset, replace
from nbops.core.splits import OPEN, SEALED, SplitRecord, base_name
from nbops.data.columns import Column, Frame, Hashes
from nbops.data.datasets import known_dataset, read_data
from nbops.data.frames import read
from nbops.data.hashed import Hashed
from nbops.data.leakage.code import learned_before_split
from nbops.data.splits.identity import identities, salted
from nbops.data.splits.moments import TimeFolds, Times, by_time, folds_by_time, read_times, ticks_of
from nbops.data.splits.parts import Split
from nbops.data.splits.proving import (
    duplicates_across,
    groups_cut,
    moved,
    strata_proof,
    summarised,
    time_proof,
)  # fmt: skip
from nbops.data.splits.sides import TRAIN, Codes, Folds, Strata, by_hash, by_rank, folds_by_hash, folds_by_rank
from nbops.data.splits.strata import read_strata
from nbops.store.context import current_cell_id, current_run
from nbops.store.workspace import Workspace, workspace

Columns = str | Sequence[str] | Any
_UNNAMED = "data"
_RECENT = 200  # splits that are looked through for an earlier one of the same data
_METHOD = "nbops-split/1"  # part of every fingerprint: another way of splitting is another split


def split(
    data: Any, *, test: Any = 0.2, val: Any = 0.0, key: Columns = None, stratify: Columns = None,
    group: Columns = None, time: Columns = None, gap: Any = None, folds: int | None = None, salt: str = "",
    seal: bool = False, name: str = "",
) -> Split:  # fmt: skip
    """Split data into train, val and test, record how, and return the split.

    A row's side follows from a hash of its key, so it keeps it when rows are added, shuffled or split on another
    machine, and a larger test set contains the smaller one. Without a key the whole row is hashed: equal rows stay
    together.

    Parameters
    ----------
    data
        What `nb.snapshot` takes; or a dataset (``"digits"``, ``"digits/2"``) whose data is stored.
    test, val : float
        Shares of the rows, 0 to 1. With `time` also the moment at which the side begins (``"2026-01-31"``).
    key : str or list of str, optional
        Columns that tell rows apart; rows of one key stay together.
    stratify : str or list of str, optional
        Keep the shares within each value of these columns; numbers with many values are cut at their deciles. A row
        near a cut may change its side when rows are added.
    group : str or list of str, optional
        Columns of what must not be cut: patient, customer.
    time : str or (str, str), optional
        Begin, or begin and end: the newest rows are the test set.
    gap : duration, text or number, optional
        With `time`: rows that end less than this before the next side are left out. ``"7d"``, ``timedelta(days=7)``.
    folds : int, optional
        Also divide train into so many folds.
    salt : str, optional
        Another salt is another split.
    seal : bool
        Hand out the test rows only by ``split.open_test(why)``, and count it. A split stays sealed, by any name.
    name : str, optional
        ``dataset/version`` if the data was snapshotted, else ``data``.

    Columns may also be given as an array: [rows]. The proof also notes cells before that learned from all rows.

    Returns
    -------
    Split

    Raises
    ------
    InvalidInput
        Shares, columns or a gap that cannot be used, options that exclude each other, a side without a row.
    NotFound
        No such column.
    """
    asked = _Asked(test, val, folds, salt, bool(seal), name)
    asked.check(has_time=time is not None, others={"key": key, "stratify": stratify, "group": group}, gap=gap)
    frame = read(read_data(data) if isinstance(data, str | Dataset) else data)
    given = {what: columns_of(frame, columns, what) for what, columns in
             {"key": key, "stratify": stratify, "group": group, "time": time}.items()}  # fmt: skip
    if not frame.rows:
        raise InvalidInput("the data has no rows", hint="Look at the query or file that should have given rows.")
    made = _made(frame, asked, given, gap)
    made.proof.update(_learned())
    return _recorded(workspace(), made, asked)


@dataclass(frozen=True)
class _Asked:
    test: Any
    val: Any
    folds: int | None
    salt: str
    seal: bool
    name: str

    def check(self, *, has_time: bool, others: dict[str, Any], gap: Any) -> None:
        """Refuse what cannot be meant before the data is read."""
        for side, size in (("test", self.test), ("val", self.val)):
            is_share = isinstance(size, int | float) and not isinstance(size, bool) and 0 <= size < 1
            if not is_share and not (has_time and not isinstance(size, bool) and size is not None):
                also = " or a moment" if has_time else ""
                raise InvalidInput(f"{side} is {size!r}", hint=f"Pass a share of the rows from 0 to below 1{also}.")
        shares = [size for size in (self.test, self.val) if isinstance(size, int | float) and size < 1]
        if sum(shares) >= 1:
            raise InvalidInput(f"test and val take {sum(shares):g} of the rows", hint="Leave a share for train.")
        if not any(map(bool, (self.test, self.val, self.folds))):
            raise InvalidInput("test, val and folds are all zero", hint="Ask for one of them.")
        if self.folds is not None and (isinstance(self.folds, bool) or not isinstance(self.folds, int)
                                       or not 2 <= self.folds <= 1000):  # fmt: skip
            raise InvalidInput(f"folds is {self.folds!r}", hint="Pass a whole number from 2 to 1,000.")
        if self.seal and not self.test:
            raise InvalidInput("there is no test set to seal", hint="Pass test=0.2.")
        if not isinstance(self.salt, str):
            raise InvalidInput(f"salt is {self.salt!r}", hint="Pass text.")
        if gap is not None and not has_time:
            raise InvalidInput("gap needs time", hint="Name the column of time: time=.")
        if has_time:
            for what, columns in {**others, "salt": self.salt or None}.items():
                if columns is not None:
                    raise InvalidInput(f"time and {what} cannot both decide", hint=f"Leave out one of time and {what}.")
            if not self.test:
                raise InvalidInput("a split in time needs a test set", hint="Pass a share or the moment it begins at.")
        if others["key"] is not None and others["group"] is not None:
            raise InvalidInput("key and group cannot both decide",
                               hint="Pass only group: its rows go to one side, whatever their key.")  # fmt: skip


def columns_of(frame: Frame, given: Any, what: str) -> list[Column]:
    """Return the columns that `given` names, or holds as arrays of the frame's length.

    Raises
    ------
    NotFound
        No such column.
    InvalidInput
        Arrays of another length, an empty list.
    """
    if given is None:
        return []
    names = [given] if isinstance(given, str) else given
    if isinstance(names, list | tuple) and all(isinstance(item, str) for item in names):
        if not names:
            raise InvalidInput(f"{what} names no column", hint=f"Name a column, or leave {what} out.")
        if isinstance(given, str) or len(names) != frame.rows or set(names) <= set(frame.names):
            return [frame.column(name) for name in names]
    found = read({what: given})
    if found.rows != frame.rows:
        raise InvalidInput(f"{what} has {found.rows:,} rows, the data {frame.rows:,}",
                           hint=f"Give {what} one value a row, or name a column.")  # fmt: skip
    return list(found.columns)


@dataclass(frozen=True, eq=False)
class _Made:
    """A split before it is recorded."""

    frame: Frame
    codes: Codes
    folds: Folds | TimeFolds | None
    method: str
    settings: dict[str, Any]
    proof: dict[str, Any]
    identity: Hashes  # what tells rows apart
    content: Hashes  # of whole rows


def _made(frame: Frame, asked: _Asked, given: dict[str, list[Column]], gap: Any) -> _Made:
    own = sorted(frame.columns, key=lambda column: column.name)
    whole = identities(own, frame.rows)
    deciding = given["group"] or given["key"]
    for what in ("group", "key"):
        for column in given[what]:
            if column.missing_count:
                raise InvalidInput(f"{what} column '{column.name}' has {column.missing_count:,} missing cells",
                                   hint=f"Choose a {what} that every row has, or fill them in.")  # fmt: skip
    is_whole = not deciding or deciding == own
    identity = whole if is_whole else identities(deciding, frame.rows)
    proof: dict[str, Any] = {}
    if given["time"]:
        times = read_times(given["time"])
        codes, folds = _in_time(times, asked, gap)
        proof["time"] = time_proof(times, codes)
    else:
        strata = read_strata(given["stratify"], salt=asked.salt)
        codes, folds = _by_identity(identity, strata, asked)
        if strata is not None:
            proof["strata"] = strata_proof(strata, codes, test=asked.test, val=asked.val)
    if given["group"]:
        proof["groups_cut"] = groups_cut(identity, codes)
    # equal rows have equal hashes: where these decide alone, none can be on another side
    proof["duplicates_across"] = 0 if is_whole and not given["time"] else duplicates_across(whole, codes)
    return _Made(
        frame, codes, folds, _method(given, asked), _settings(frame, asked, given, gap), proof, identity, whole
    )


def _in_time(times: Times, asked: _Asked, gap: Any) -> tuple[Codes, Folds | TimeFolds | None]:
    ticks = ticks_of(gap, times)
    codes = by_time(times, test=asked.test, val=asked.val, gap=ticks)
    folds = folds_by_time(times, np.flatnonzero(codes == TRAIN), asked.folds, gap=ticks) if asked.folds else None
    return codes, folds


def _by_identity(identity: Hashes, strata: Strata | None, asked: _Asked) -> tuple[Codes, Folds | TimeFolds | None]:
    if strata is None:
        codes = by_hash(identity, salt=asked.salt, test=asked.test, val=asked.val)
    else:
        codes = by_rank(salted(identity, asked.salt), strata, test=asked.test, val=asked.val)
    if not asked.folds:
        return codes, None
    rows = np.flatnonzero(codes == TRAIN)
    again = salted(identity[rows], f"{asked.salt}/folds")  # else the size of test would say which folds are full
    folds = np.full(len(codes), -1, np.int16)
    if strata is None:
        folds[rows] = folds_by_hash(again, asked.folds)
    else:
        folds[rows] = folds_by_rank(again, Strata(strata.codes[rows], strata.names, strata.draws), asked.folds)
    return codes, folds


def _learned() -> dict[str, Any]:
    """Return what the cells before learned from the rows that are split now."""
    learned = learned_before_split(is_now=True)
    return {"learned_before": [f"{one.where}: {one.what}" for one in learned]} if learned else {}


def _names(columns: list[Column]) -> str:
    return ", ".join(column.name for column in columns)


def _method(given: dict[str, list[Column]], asked: _Asked) -> str:
    """Return how the sides were decided, in words."""
    if given["time"]:
        return f"time: {_names(given['time'])}"
    what = _names(given["group"]) or _names(given["key"]) or "the whole row"
    said = f"group: {what}" if given["group"] else f"hash of {what}"
    return f"{said}, within {_names(given['stratify'])}" if given["stratify"] else said


def _settings(frame: Frame, asked: _Asked, given: dict[str, list[Column]], gap: Any) -> dict[str, Any]:
    own = set(frame.columns)
    columns = {what: [c.name if c in own else f"array: {c.name}" for c in cs] for what, cs in given.items() if cs}
    plain = {"test": asked.test, "val": asked.val, "gap": gap}
    sizes = {name: size if isinstance(size, int | float | str) else str(size) for name, size in plain.items() if size}
    return {**columns, **sizes, "folds": asked.folds or 0, "salt": asked.salt}


def _recorded(ws: Workspace, made: _Made, asked: _Asked) -> Split:
    """Return the split with its record: that of the same split of the same rows, if there is one."""
    brief = summarised(made.identity, made.content, made.codes)
    dataset = _dataset(ws, made.frame)
    name = asked.name or (f"{dataset.name}/{dataset.version}" if dataset else _UNNAMED)
    fingerprint = digest_of([_METHOD, made.settings, brief.digests])
    record = SplitRecord(
        id=new_id(SplitRecord.prefix), created_at=clock.time(), name=name, status=SEALED if asked.seal else OPEN,
        method=made.method, fingerprint=fingerprint, rows=made.frame.rows, sizes=brief.sizes,
        digests=brief.digests,
        settings=made.settings, proof=made.proof, sample=brief.sample,
        dataset=dataset.id if dataset else None, parent=current_run(), cell_id=current_cell_id(),
    )  # fmt: skip
    with ws.store.transaction():
        record = _kept(ws, record, made)
        if record.dataset:
            ws.store.link(record.dataset, "split_into", record.id)
        if run := current_run():
            ws.store.link(record.id, "used_by", run)
    return Split(record, made.codes, made.folds)


def _kept(ws: Workspace, record: SplitRecord, made: _Made) -> SplitRecord:
    """Write the record, unless this split is known by this name; sealed once, it stays sealed by any name."""
    same = ws.store.find(SplitRecord, Compare(Field("fingerprint"), "==", record.fingerprint))
    status = SEALED if any(known.status == SEALED for known in same) else record.status
    known = next((known for known in same if known.name == record.name), None)
    if known is not None and known.status == status:
        return known
    if known is None:
        record = replace(record, proof={**record.proof, **_since(ws, record, made)})
    record = replace(known or record, status=status)
    ws.store.put(record)
    return record


def _since(ws: Workspace, record: SplitRecord, made: _Made) -> dict[str, Any]:
    """Return whether rows changed their side since the last split of this data that told rows apart in the same way."""
    if record.name == _UNNAMED:  # any data may be called so
        return {}
    for earlier in ws.store.find(SplitRecord, limit=_RECENT):
        is_alike = all(earlier.settings.get(what) == record.settings.get(what) for what in ("key", "group"))
        if is_alike and base_name(earlier.name) == base_name(record.name):
            known, elsewhere = moved(earlier.sample, made.identity, made.codes)
            if known:
                return {"since": {"split": earlier.id, "known": known, "moved": elsewhere}}
    return {}


def _dataset(ws: Workspace, frame: Frame) -> Dataset | None:
    """Return the dataset that the data is a version of; it is only digested if one has its size."""
    if not ws.store.count(Dataset, Compare(Field("rows"), "==", frame.rows)):
        return None
    return known_dataset(ws, Hashed(frame))
