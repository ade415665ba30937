"""`nb.quarantine` against plain loops, over 10,000 frames: no row lost, no bad one passed, no good one held back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from random import Random
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import nbops as nb
from nbops.data import expect

FRAMES, PARTS = 10_000, 10
START, END = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 12, 31, tzinfo=UTC)
ZONE = timezone(timedelta(hours=5, minutes=30))
CELLS: dict[str, list[Any]] = {
    "real": [None, float("nan"), -1.5, 0.0, 2.5, 5.0, 7.0, float("inf"), float("-inf")],
    "whole": [None, -3, 0, 1, 5, 6, 2**40],
    "text": [None, "", "x", "y", "Y", "xy ", "é", "zebra"],
    "group": [None, "x", "y", "new"],
    "money": [None, Decimal("-0.01"), Decimal("0.00"), Decimal("4.99"), Decimal("5.01")],
    "time": [None, *(START + timedelta(seconds=at) for at in (-1, 0, 1)), END, END + timedelta(seconds=1)],
    "flag": [None, True, False],
}
ARROW = {
    "real": pa.float64(), "whole": pa.int64(), "text": pa.string(), "group": pa.dictionary(pa.int32(), pa.string()),
    "money": pa.decimal128(9, 2), "time": pa.timestamp("us", "Asia/Kolkata"), "flag": pa.bool_(), "row": pa.int64(),
}  # fmt: skip
Test = Callable[[Any], bool]
TESTS: list[tuple[Any, str, Test]] = [
    (expect.InRange("real", low=0, high=5), "real", lambda cell: 0 <= cell <= 5),
    (expect.Finite("real"), "real", lambda cell: abs(cell) != float("inf")),
    (expect.InRange("whole", low=0, high=5), "whole", lambda cell: 0 <= cell <= 5),
    (expect.OneOf("whole", values=[0, 1, 5]), "whole", lambda cell: cell in (0, 1, 5)),
    (expect.OneOf("text", values=["x", "y", ""]), "text", lambda cell: cell in ("x", "y", "")),
    (expect.Matches("text", pattern="[a-z]*"), "text", lambda cell: all("a" <= sign <= "z" for sign in cell)),
    (expect.LengthInRange("text", low=1, high=3), "text", lambda cell: 1 <= len(cell) <= 3),
    (expect.OneOf("group", values=["x", "y"]), "group", lambda cell: cell in ("x", "y")),
    (expect.InRange("money", low=0, high=5), "money", lambda cell: 0 <= cell <= 5),
    (expect.InRange("time", low="2024-01-01", high="2024-12-31"), "time", lambda cell: START <= cell <= END),
    (expect.OneOf("flag", values=[True]), "flag", lambda cell: cell is True),
]


def is_missing(cell: Any) -> bool:
    return cell is None or cell != cell


def wrong_rows(table: dict[str, list[Any]], tests: list[tuple[Any, str, Test]], filled: str, unique: str) -> set[int]:
    """Return what is wrong by going through every cell, one after the other."""
    bad = set()
    for _, name, keeps in tests:
        for row, cell in enumerate(table[name]):
            if not is_missing(cell) and not keeps(cell):
                bad.add(row)
    for row, cell in enumerate(table.get(filled, [])):
        if is_missing(cell):
            bad.add(row)
    seen: list[Any] = []
    for row, cell in enumerate(table.get(unique, [])):
        if not is_missing(cell) and cell in seen:
            bad.add(row)
        seen.append(cell)
    return bad


def as_kind(kind: str, table: dict[str, list[Any]], dice: Random) -> Any:
    arrow = pa.table({name: pa.array(cells, ARROW[name]) for name, cells in table.items()})
    if kind == "arrow":
        return arrow
    if kind == "polars":
        return pl.from_arrow(arrow)
    if kind == "pandas of arrow":
        return arrow.to_pandas(types_mapper=pd.ArrowDtype)
    frame = arrow.to_pandas(integer_object_nulls=False)
    if "whole" in frame and dice.random() < 0.5:
        frame["whole"] = pd.array(table["whole"], dtype="Int64")
    frame.index = [dice.choice([3, 3, 1, 0]) for _ in range(len(frame))]
    return frame


def rows_in(part: Any) -> list[int]:
    column = part["row"]
    return list(column.to_pylist() if hasattr(column, "to_pylist") else column)


@pytest.mark.parametrize("part", range(PARTS))
def test_quarantine_agrees_with_plain_loops(part: int) -> None:
    for seed in range(part, FRAMES, PARTS):
        dice = Random(seed)
        rows = dice.choice([0, 1, 2, 3, 5, 8, 13])
        tests = dice.sample(TESTS, dice.choice([1, 1, 2, 4]))
        filled, unique = dice.choice([*CELLS, ""]), dice.choice(["whole", "text", "group", "", "", ""])
        names = {name for _, name, _ in tests} | {name for name in (filled, unique) if name}
        lost = dice.random() < 0.1
        table = {
            name: [None if lost else dice.choice(CELLS[name]) for _ in range(rows)]
            for name in CELLS
            if name in names
        }  # fmt: skip
        data = as_kind(dice.choice(["pandas", "pandas of arrow", "polars", "arrow"]),
                       table | {"row": list(range(rows))}, dice)  # fmt: skip
        suite = [rule for rule, _, _ in tests]
        suite += [expect.NotMissing(filled)] if filled else []
        suite += [expect.Unique(unique)] if unique else []
        bad = wrong_rows(table, tests, filled, unique)
        parts = nb.quarantine(data, suite=suite)
        said = (seed, type(data), suite, table)
        assert rows_in(parts.failed) == sorted(bad), said
        assert rows_in(parts.passed) == [row for row in range(rows) if row not in bad], said
        if isinstance(data, pd.DataFrame):
            assert [*parts.failed.index] == [data.index[row] for row in sorted(bad)], said
