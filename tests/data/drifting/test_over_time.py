"""Chunks of rows and of time: the shift is in the chunk where it happened, stable chunks stay quiet."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import nbops as nb
from nbops.core.errors import InvalidInput, NotFound
from nbops.core.records import Verdict
from nbops.data.drifting.chunks import chunks
from nbops.data.frames import read
from nbops.store.workspace import Workspace

NAMES = np.array(["a", "b", "c"])


def stream(seed: int, rows: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "x": random.normal(size=rows),
        "count": random.poisson(2, rows),
        "kind": NAMES[random.choice(3, rows, p=[0.6, 0.3, 0.1])],
        "text": np.char.add("word", random.integers(0, 3000, rows).astype(str)),
        "mixed": pd.Series([1, "x"] * (rows // 2), dtype=object),
    }


REFERENCE = stream(0, 5000)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_fifty_stable_chunks_raise_one_false_alarm_at_most(seed: int, workspace: Workspace) -> None:
    report = nb.drift(REFERENCE, stream(seed, 25_000), by=500)
    assert len(report.chunks) == 50
    assert sum(chunk.is_drifted for chunk in report.chunks) <= 1


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("case", ["mean", "class share"])
def test_a_shift_at_row_5000_is_found_in_its_chunk_or_the_next(case: str, seed: int, workspace: Workspace) -> None:
    table = stream(seed, 10_000)
    if case == "mean":
        table["x"][5000:] += 0.5
    else:
        table["kind"][5000:] = NAMES[np.random.default_rng(seed).choice(3, 5000, p=[0.4, 0.4, 0.2])]
    report = nb.drift(REFERENCE, table, by=500)
    first = next(place for place, chunk in enumerate(report.chunks) if chunk.is_drifted)
    assert first in (10, 11)
    assert all(chunk.is_drifted for chunk in report.chunks[11:])
    assert report.chunks[first].drifted == (("x",) if case == "mean" else ("kind",))
    assert report.chunks[10].label == "rows 5,000 to 5,499"
    told = [result for result in report.report.results if result.check == "drift-over-time"]
    assert [result.evidence["start"] for result in told] == [c.start for c in report.chunks if c.is_drifted]


def test_a_change_that_passes_fails_the_report_though_the_whole_is_stable(workspace: Workspace) -> None:
    table = stream(4, 25_000)
    table["x"][1000:1500] += 2.0
    report = nb.drift(REFERENCE, table, by=500, limits={"distribution": 0.05})
    assert (report.drifted, report.status) == ([], Verdict.FAIL)
    assert [place for place, chunk in enumerate(report.chunks) if chunk.is_drifted] == [2]
    with pytest.raises(nb.NbopsError, match="the data drifted: rows 1,000 to 1,499: x"):
        nb.drift(REFERENCE, table, by=500, limits={"distribution": 0.05}, on_drift="raise")


def test_chunks_of_time_follow_the_dates_not_the_rows(workspace: Workspace) -> None:
    table = stream(5, 6000)
    days = np.datetime64("2024-03-01") + np.arange(6000) // 300
    table["x"][days >= np.datetime64("2024-03-11")] += 1.0
    order = np.random.default_rng(0).permutation(6000)
    shuffled = {name: np.asarray(values)[order] for name, values in table.items()}
    when = days[order]
    when[:7] = np.datetime64("NaT")
    reference = {**REFERENCE, "when": np.datetime64("2024-01-01") + np.arange(5000) % 60}
    report = nb.drift(reference, {**shuffled, "when": when}, by="when:D")
    assert [chunk.label for chunk in report.chunks][:2] == ["2024-03-01", "2024-03-02"]
    assert next(chunk.label for chunk in report.chunks if chunk.is_drifted) == "2024-03-11"
    assert "7 rows have no date and are in no chunk" in report.notes
    assert "when" not in report.chunks[0].effects


def test_columns_that_say_where_a_row_stands_are_left_out(workspace: Workspace) -> None:
    def table(seed: int) -> dict[str, Any]:
        rows = np.arange(5000)
        return {**stream(seed, 5000), "row": rows, "time": np.datetime64("2024-01-01T00:00") + rows}

    report = nb.drift(table(1), table(2), by=500)
    assert not any(chunk.is_drifted for chunk in report.chunks)
    assert not {"row", "time"} & set(report.chunks[0].effects)
    assert "x" in report.chunks[0].effects
    with pytest.raises(InvalidInput, match="no column is left to compare over time"):
        nb.drift({"row": np.arange(10)}, {"row": np.arange(10)}, by=5)


@pytest.mark.parametrize(
    ("frequency", "labels"),
    [
        ("h", ["2024-02-28T23:00", "2024-02-29T00:00", "2024-03-04T10:00"]),
        ("15min", ["2024-02-28T23:45", "2024-02-29T00:00", "2024-03-04T10:30"]),
        ("10s", ["2024-02-28T23:59:50", "2024-02-29T00:00:00", "2024-03-04T10:30:00"]),
        ("D", ["2024-02-28", "2024-02-29", "2024-03-04"]),
        ("W", ["2024-02-26", "2024-03-04"]),
        ("M", ["2024-02", "2024-03"]),
        ("Q", ["2024-01"]),
        ("Y", ["2024-01"]),
    ],
)
def test_periods(frequency: str, labels: list[str]) -> None:
    times = np.array(["2024-03-04T10:30", "2024-02-28T23:59:59", "2024-02-29T00:00"], "datetime64[us]")
    found, left_out = chunks(read({"t": times}), f"t:{frequency}")
    assert ([part.label for part in found], left_out) == (labels, 0)
    assert sorted(np.concatenate([part.rows for part in found]).tolist()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("by", "error", "says"),
    [
        (0, InvalidInput, "by is 0\nUse rows per chunk"),
        (True, InvalidInput, "by is True"),
        ("when", InvalidInput, "by is 'when'"),
        ("whem:D", NotFound, "no column 'whem'\nDid you mean 'when'"),
        ("x:D", InvalidInput, "column 'x' is of type float64, not of dates"),
        ("when:fortnight", InvalidInput, "'fortnight' is no frequency"),
        ("when:0D", InvalidInput, "'0D' is no frequency"),
        ("never:D", InvalidInput, "column 'never' has no dates, all cells are missing"),
        (1, InvalidInput, "2,000 chunks are more than 1,000\nTake longer chunks"),
        ("when:s", InvalidInput, "2,000 chunks are more"),
    ],
)
def test_wrong_chunks_are_refused(by: Any, error: type[Exception], says: str, workspace: Workspace) -> None:
    when = np.datetime64("2024-01-01T00:00:00") + np.arange(2000)
    table = {"x": np.zeros(2000), "when": when, "never": np.full(2000, np.datetime64("NaT"), "datetime64[D]")}
    with pytest.raises(error, match=says):
        nb.drift({"x": np.zeros(2000)}, table, by=by)
