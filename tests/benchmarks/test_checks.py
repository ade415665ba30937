"""Rules, quarantine and learning on a million rows, beside the same questions by hand and, if it is there, pandera."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import nbops as nb
from nbops.data import expect
from nbops.data.checking import chosen_checks
from nbops.store.workspace import init

GROUP = "Data checks"
ROWS = 1_000_000


@pytest.fixture(autouse=True)
def _workspace(tmp_path: Path) -> Iterator[None]:
    ws = init(tmp_path)
    yield
    ws.close()


def seconds(call: Callable[[], object], *, times: int = 5) -> float:
    """Return the median time of a call, after one to warm up."""
    took = []
    for _ in range(times + 1):
        begin = time.perf_counter()
        call()
        took.append(time.perf_counter() - begin)
    return statistics.median(took[1:])


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    """80 columns: a key, 59 floats, 9 whole numbers, 3 times, 6 categories, 2 booleans."""
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {"id": np.arange(ROWS)}
    columns |= {f"f{i}": rng.normal(size=ROWS) for i in range(59)}
    columns |= {f"i{i}": rng.integers(0, 1000, ROWS) for i in range(9)}
    start = np.datetime64("2023-01-01T00:00:00", "us")
    columns |= {f"d{i}": start + rng.integers(0, 30_000_000_000_000, ROWS) for i in range(3)}
    columns |= {f"t{i}": rng.choice(["CH", "AT", "DE", "FR"], ROWS) for i in range(6)}
    columns |= {f"b{i}": rng.random(ROWS) < 0.5 for i in range(2)}
    return pl.DataFrame(columns)


def rules(table: pl.DataFrame) -> list[expect.Rule]:
    """226 rules: every column is present; ranges, lists, times, finite numbers, a key in order, types."""
    found: list[expect.Rule] = [expect.NotMissing(name) for name in table.columns]
    found += [expect.InRange(name, low=-10, high=2_000_000) for name in table.columns if name[:1] in "fi"]
    found += [expect.Finite(f"f{i}") for i in range(59)]
    found += [expect.OneOf(f"t{i}", values=["CH", "AT", "DE", "FR"]) for i in range(6)]
    found += [expect.NotInFuture(f"d{i}") for i in range(3)]
    found += [expect.Unique("id"), expect.Increasing("id")]
    found += [expect.HasType(f"i{i}", type="int") for i in range(226 - len(found))]
    return found


def by_hand(table: pl.DataFrame) -> dict[str, Any]:
    """Return the same answers from one polars query, without verdicts, messages or a record."""
    asked = [pl.col(name).null_count().alias(f"{name} missing") for name in table.columns]
    for name in table.columns:
        if name[:1] in "fi":
            asked.append((~pl.col(name).is_between(-10, 2_000_000)).sum().alias(f"{name} outside"))
    asked += [pl.col(f"f{i}").is_infinite().sum().alias(f"f{i} infinite") for i in range(59)]
    asked += [(~pl.col(f"t{i}").is_in(["CH", "AT", "DE", "FR"])).sum().alias(f"t{i} other") for i in range(6)]
    asked += [pl.col(f"d{i}").max().alias(f"d{i} last") for i in range(3)]
    asked += [pl.col("id").n_unique().alias("id distinct"), pl.col("id").is_sorted().alias("id sorted")]
    return table.select(asked).row(0, named=True)


def test_226_rules(table: pl.DataFrame, bench: Any) -> None:
    suite = nb.Suite(*rules(table))
    assert len(suite) == 226
    assert nb.check(table, suite=suite).status == "pass"
    peers = {"polars by hand, counts only": seconds(lambda: by_hand(table))}
    try:
        import pandera.polars as pa
    except ImportError:
        pass
    else:
        schema = pa.DataFrameSchema({
            name: pa.Column(checks=[pa.Check.in_range(-10, 2_000_000)] if name[:1] in "fi" else [], nullable=False)
            for name in table.columns
        })  # fmt: skip
        peers["pandera, missing and ranges only"] = seconds(lambda: schema.validate(table, lazy=True))
    ours = seconds(lambda: nb.check(table, suite=suite))
    bench.row(GROUP, "226 rules, 1 M × 80, with the report recorded", ours=ours, unit="s", peers=peers, goal="≤ 0.8 s")


def test_quarantine(table: pl.DataFrame, bench: Any) -> None:
    suite = [expect.InRange(f"f{i}", low=-4, high=4) for i in range(20)]
    wanted = pl.any_horizontal([~pl.col(f"f{i}").is_between(-4, 4) for i in range(20)])

    def hand() -> tuple[pl.DataFrame, pl.DataFrame]:
        return table.filter(~wanted), table.filter(wanted)

    def ours() -> tuple[pl.DataFrame, pl.DataFrame]:
        parts = nb.quarantine(table, suite=suite)
        return parts.passed, parts.failed

    assert [part.height for part in ours()] == [part.height for part in hand()]
    peers = {"polars by hand": seconds(hand, times=3)}
    bench.row(GROUP, "quarantine, 20 rules, 1 M × 80", ours=seconds(ours, times=3), unit="s", peers=peers)


def test_learning(table: pl.DataFrame, bench: Any) -> None:
    part = table[:100_000].select([f"f{i}" for i in range(10)] + ["id", "i0", "d0", "t0", "t1", "b0"])
    assert nb.check(part, suite=nb.learn(part)).status == "pass"
    took = seconds(lambda: nb.learn(part), times=3)
    bench.row(GROUP, "learn rules with 400 trials each, 100 k × 16", ours=took, unit="s", peers={})


def test_all_checks(table: pl.DataFrame, bench: Any) -> None:
    part = table[:100_000].select([f"f{i}" for i in range(10)] + ["id", "i0", "d0", "t0", "t1", "b0"])
    count = len(chosen_checks(None))
    assert len({found.check for found in nb.check(part, label="t0").results}) == count
    took = seconds(lambda: nb.check(part, label="t0"), times=3)
    bench.row(GROUP, f"all {count} checks, 100 k × 16", ours=took, unit="s", peers={})
