"""Each verb of data on each odd input: an answer that can be shown, or an error that says what to do."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import nbops as nb
from nbops.core.errors import NbopsError
from nbops.data import expect
from nbops.store.workspace import Workspace

N = 60
RNG = np.random.default_rng(0)
PLAIN = pd.DataFrame({"id": range(N), "x": RNG.normal(size=N), "c": ["a", "b", "c"] * (N // 3), "y": [0, 1] * (N // 2)})
ZONES = ["Europe/Berlin", "America/New_York"]


def with_column(name: str, values: Any) -> pd.DataFrame:
    return PLAIN.assign(**{name: values})


def named_twice() -> pd.DataFrame:
    return pd.concat([PLAIN, PLAIN[["x"]]], axis=1)


def cut_file(folder: Path) -> Path:
    path = folder / "cut.parquet"
    PLAIN.to_parquet(path)
    path.write_bytes(path.read_bytes()[:-200])
    return path


def file(name: str, content: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_text(content)
        return folder / name

    return write


def parquet(table: pa.Table) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        pq.write_table(table, folder / "t.parquet")
        return folder / "t.parquet"

    return write


INPUTS: dict[str, Callable[[Path], Any]] = {
    "plain": lambda _: PLAIN,
    "no rows": lambda _: PLAIN[:0],
    "no columns": lambda _: PLAIN[[]],
    "nothing": lambda _: pd.DataFrame(),
    "one row": lambda _: PLAIN[:1],
    "two rows": lambda _: PLAIN[:2],
    "all missing": lambda _: pd.DataFrame({name: [None] * N for name in PLAIN}),
    "a missing column": lambda _: with_column("x", np.nan),
    "mixed types": lambda _: with_column("m", [1, "a", 2.5, None, True, b"x"] * (N // 6)),
    "many columns": lambda _: pd.DataFrame(RNG.normal(size=(4, 600)), columns=[f"f{i}" for i in range(600)]),
    "lists": lambda _: with_column("l", [[1, 2], [], None] * (N // 3)),
    "structs": lambda _: pa.table({"s": [{"a": 1, "b": [{"c": "x"}]}, None] * 10, "y": [0, 1] * 10}),
    "named twice": lambda _: named_twice(),
    "numbers for names": lambda _: PLAIN.rename(columns={"x": 0, "c": 1.5}),
    "two levels of names": lambda _: pd.concat({"a": PLAIN[["x", "y"]], "b": PLAIN[["x"]]}, axis=1),
    "two levels of rows": lambda _: PLAIN.set_index(["c", "id"]),
    "zone": lambda _: with_column("t", pd.date_range("2024-10-26", periods=N, freq="h", tz=ZONES[0])),
    "mixed zones": lambda _: with_column("t", [pd.Timestamp("2024-01-01", tz=ZONES[n % 2]) for n in range(N)]),
    "far dates": lambda _: with_column("t", [dt.date(1, 1, 1), dt.date(9999, 12, 31)] * (N // 2)),
    "decimals": lambda _: with_column("d", [Decimal("1.10"), Decimal("1E+30"), None] * (N // 3)),
    "infinite": lambda _: with_column("x", [np.inf, -np.inf, np.nan, 1.0] * (N // 4)),
    "huge numbers": lambda _: with_column("h", [2**64 + 1, -(2**70), 1] * (N // 3)),
    "unsigned": lambda _: with_column("u", np.array([2**64 - 1, 0] * (N // 2), np.uint64)),
    "bytes": lambda _: with_column("b", [b"\xff\x00", b""] * (N // 2)),
    "durations": lambda _: with_column("t", pd.to_timedelta(range(N), unit="h")),
    "categories": lambda _: PLAIN.astype({"c": pd.CategoricalDtype(["a", "b", "c", "never"])}),
    "odd texts": lambda _: with_column("s", ["\x00", "?\u202e", "😀" * 50] * (N // 3)),
    "one value": lambda _: PLAIN.assign(x=1.0, c="a", y=0),
    "polars": lambda _: pl.DataFrame({"x": [1.0, None, 3.0], "c": ["a", None, "b"], "l": [[1], [], None]}),
    "lazy polars": lambda _: pl.LazyFrame({"x": [1.0, 2.0, 3.0], "y": [0, 1, 0]}),
    "arrow dictionaries": lambda _: pa.table({"c": pa.array(["a", "b", None] * 9).dictionary_encode()}),
    "arrow in pieces": lambda _: pa.concat_tables([pa.table({"x": [1, 2]}), pa.table({"x": pa.array([], pa.int64())})]),
    "a vector": lambda _: np.arange(5.0),
    "an array of texts": lambda _: np.array([["a", "b"], ["c", "d"]]),
    "pictures": lambda _: np.zeros((6, 2, 2), np.uint8),
    "a scalar": lambda _: np.float64(3.0),
    "a dict of unequal columns": lambda _: {"a": [1, 2, 3], "b": [1]},
    "a text": lambda _: "no-such-dataset",
    "none": lambda _: None,
    "a Parquet file": parquet(pa.table({"x": [1.0, 2.0, 3.0], "c": ["a", "b", "c"]})),
    "a Parquet file of nested columns": parquet(pa.table({"s": [{"a": [1]}, None, {"a": None}]})),
    "a Parquet file cut in the middle": cut_file,
    "an empty CSV file": file("empty.csv", ""),
    "a CSV file of names only": file("names.csv", "a,b\n"),
    "a CSV file with ragged rows": file("ragged.csv", "a,b\n1,2\n3\n4,5,6\n"),
    "a file that is not there": lambda folder: folder / "no.parquet",
}  # fmt: skip

SUITE = nb.Suite(expect.Unique("id"), expect.InRange("x", low=-9, high=9), expect.NotMissing("c"))
VERBS: dict[str, Callable[[Any], Any]] = {
    "profile": nb.profile,
    "check": nb.check,
    "check against a baseline": lambda data: nb.check(data, baseline=PLAIN, label="y"),
    "check in time": lambda data: nb.check(data, time="t"),
    "rules": lambda data: nb.check(data, suite=SUITE),
    "learn": nb.learn,
    "quarantine": lambda data: nb.quarantine(data, suite=SUITE),
    "drift": lambda data: nb.drift(data, PLAIN),
    "drift of itself": lambda data: nb.drift(data, data),
    "diff": lambda data: nb.diff(data, PLAIN),
    "diff by key": lambda data: nb.diff(PLAIN, data, key="id"),
    "snapshot": lambda data: nb.snapshot(data, "edge", store=True),
    "split": nb.split,
    "split in strata": lambda data: nb.split(data, stratify="y", key="id"),
    "leaks": lambda data: nb.leaks(data, PLAIN),
    "leaks of itself": lambda data: nb.leaks(data, data, label="y"),
    "overview": nb.overview,
    "dive": nb.dive,
}


def shown(answer: Any) -> str:
    """Return an answer as a notebook and a terminal show it."""
    bundle = answer._repr_mimebundle_() if hasattr(answer, "_repr_mimebundle_") else {}
    bundle = bundle[0] if isinstance(bundle, tuple) else bundle
    return f"{answer!r}{bundle.get('text/html', '')}{bundle.get('text/plain', '')}"


@pytest.mark.leaks("Arrow's reader of CSV files keeps a pipe for signals")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", INPUTS)
def test_each_verb_answers(what: str, workspace: Workspace, tmp_path: Path) -> None:
    failed = []
    for verb, call in VERBS.items():
        data = INPUTS[what](tmp_path)
        try:
            answer = call(data)
            assert shown(answer)
            crashed = [r.message for r in getattr(answer, "results", []) if str(getattr(r, "verdict", "")) == "error"]
            failed += [f"{verb}: a check crashed: {message}" for message in crashed]
        except NbopsError as error:
            if not error.message or not error.hint:
                failed.append(f"{verb}: no remedy: {error}")
        except Exception as error:  # whatever another library raises is what this test looks for
            failed.append(f"{verb}: {type(error).__name__}: {str(error)[:200]}")
    assert failed == []


def test_what_was_never_seen_is_told(workspace: Workspace) -> None:
    new = PLAIN.assign(c=["a", "b", "new"] * (N // 3))
    (found,) = [r for r in nb.check(new, baseline=PLAIN).of("outside-baseline") if r.verdict != "pass"]
    assert (found.column, found.verdict) == ("c", "fail")
    assert "new" in found.message
    assert nb.drift(new, PLAIN).columns["c"] is not None


def test_a_thousand_columns_and_more_keep_their_names(workspace: Workspace) -> None:
    wide = pd.DataFrame(np.zeros((2, 10_000), np.int8), columns=[f"f{i}" for i in range(10_000)])
    assert nb.check(wide).columns == 10_000
    assert nb.split(wide).record.rows == 2
    assert nb.diff(wide, wide).columns is not None
    kept = nb.snapshot(wide, "wide", store=True)
    from nbops.data.datasets import read_data

    assert read_data(kept).column_names[-1] == "f9999"
