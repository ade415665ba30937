"""`nb.profile`: one form for any frame, merged, kept and loaded; how columns go together and what stands out."""

from __future__ import annotations

import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

import nbops as nb
from nbops.core.codec import encode
from nbops.core.errors import InvalidInput, MissingDependency, NotFound
from nbops.data.frames import read
from nbops.data.profiles import association, making
from nbops.data.profiles.association import associations, pairs
from nbops.data.profiles.profile import Profile
from nbops.data.profiling import profile_frame

if TYPE_CHECKING:
    from nbops.store.workspace import Workspace


def mixed_table(rows: int = 5000) -> pa.Table:
    rng = np.random.default_rng(7)
    gaps = rng.random(rows) < 0.1
    columns: dict[str, Any] = {
        "price": pa.array(rng.lognormal(3, 1, rows), mask=gaps),
        "small": pa.array(rng.normal(size=rows).astype(np.float32)),
        "count": pa.array(rng.integers(0, 90, rows), mask=gaps),
        "wide": pa.array(rng.integers(-(2**62), 2**62, rows)),
        "city": pa.array(rng.choice(["Bonn", "Køln", "Łódź", ""], rows)).cast(pa.string()),
        "note": pa.array([f"note {i} {'x' * (i % 9)}" for i in rng.integers(0, 3000, rows)], mask=gaps),
        "flag": pa.array(rng.random(rows) < 0.3, mask=gaps),
        "day": pa.array((rng.integers(15000, 20000, rows)).astype("datetime64[D]")),
        "at": pa.array((rng.integers(1.6e15, 1.7e15, rows)).astype("datetime64[us]"), mask=gaps),
    }
    return pa.table(columns)


def test_the_profile_is_the_same_bytes_from_any_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = mixed_table()
    monkeypatch.setattr(making, "_PIECE_ROWS", 700)
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=1100)
    polars = pl.from_arrow(table)
    assert isinstance(polars, pl.DataFrame)
    forms = {
        "arrow": table, "polars": polars, "lazy": polars.lazy(), "duckdb": duckdb.from_arrow(table),
        "pandas": table.to_pandas(types_mapper=pd.ArrowDtype), "parquet": tmp_path / "t.parquet",
        "chunks": pa.concat_tables([table.slice(0, 1234), table.slice(1234)]),
    }  # fmt: skip
    written = {name: encode(nb.profile(form, label="flag", name="t").to_dict()) for name, form in forms.items()}
    assert {name for name, data in written.items() if data != written["arrow"]} == set()
    numbers = {name: table[name].to_numpy() for name in ("small", "wide")}
    arrays = nb.profile(numbers).columns
    assert encode(dict(arrays)) == encode({name: nb.profile(table).columns[name] for name in numbers})


def test_the_profile_is_the_same_bytes_from_pandas_own_types() -> None:
    """Where no whole number is missing: pandas makes those columns floats."""
    table = mixed_table(500).drop_columns(["count", "flag"])
    assert encode(nb.profile(table.to_pandas()).to_dict()) == encode(nb.profile(table).to_dict())


def test_the_figures_of_a_snapshot_and_of_a_profile_are_the_same(workspace: Workspace) -> None:
    table = mixed_table(300)
    kept = nb.snapshot(table, "sales")
    made = nb.profile(table)
    assert kept.profile["columns"] == made.to_dict()["columns"]
    for ref in ("sales", "sales/1", kept):
        stored = nb.profile(ref)
        assert (stored.name, stored.columns["city"]) == ("sales/1", made.columns["city"])
    assert (stored.duplicate_rows, dict(stored.associations)) == (None, {})
    assert nb.check(table, baseline=made, suite=["outside-baseline"]).passed
    with pytest.raises(NotFound, match="no dataset 'sale'"):
        nb.profile("sale")


def test_a_label_is_named_and_an_unknown_one_refused(tmp_path: Path) -> None:
    assert nb.profile({"a": [1, 2], "t": [0, 1]}, label="t").label == "t"
    assert nb.profile(np.zeros((3, 2)), label=[0, 1, 1]).label == "y"
    pl.DataFrame({"a": [1], "target": [1]}).write_parquet(tmp_path / "a.parquet")
    assert nb.profile(tmp_path / "a.parquet", label="target").label == "target"
    with pytest.raises(NotFound, match="no column 'targt'\nDid you mean 'target'"):
        nb.profile(tmp_path / "a.parquet", label="targt")


@pytest.mark.parametrize(
    "data",
    [{}, pd.DataFrame(), pd.DataFrame({"a": []}), {"a": [1.5]}, {"a": ["x"]}, {"a": [None, None]}, pl.DataFrame()],
    ids=str,
)
def test_little_data_is_profiled(data: Any, tmp_path: Path) -> None:
    made = nb.profile(data)
    assert made.rows == read(data).rows
    assert str(made)
    assert made.report(tmp_path / "a.html").stat().st_size > 1000
    assert made.duplicate_rows == max(0, made.rows - 1)


def test_an_empty_parquet_file_is_profiled(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([], pa.float64()), "t": pa.array([], pa.string())}), tmp_path / "a.parquet")
    made = nb.profile(tmp_path / "a.parquet")
    assert (made.rows, list(made.columns), made.alerts[0].text) == (0, ["a", "t"], "the table has no rows")


def test_ten_thousand_columns_and_nested_ones_are_profiled() -> None:
    wide = pl.DataFrame({f"c{i}": [i, i + 1, None] for i in range(10_000)})
    made = nb.profile(wide)
    assert len(made.columns) == 10_000
    assert len(made.associations["pearson"]["columns"]) == association.MAX_COLUMNS
    assert len(made.associations["left_out"]) == 10_000 - association.MAX_COLUMNS
    nested = pa.table({"l": [[1, 2], [1, 2], None], "s": [{"a": 1}, {"a": 2}, {"a": 1}]})
    columns = nb.profile(nested).columns
    assert [(columns[n]["missing"], columns[n]["distinct"], columns[n]["meaning"]["type"]) for n in ("l", "s")] == [
        (1, 1, "constant"), (0, 2, "nested"),
    ]  # fmt: skip


def test_nested_and_decimal_columns_of_a_file_are_as_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from decimal import Decimal

    monkeypatch.setattr(making, "_PIECE_ROWS", 2)
    table = pa.table({
        "d": pa.array([None, None, Decimal("1.50"), Decimal("2.25"), Decimal("1.5")], pa.decimal128(9, 2)),
        "l": pa.array([None, None, [1], [1, 2], [1]], pa.list_(pa.int64())),
        "z": pa.array([0, 10**15, None, 5, 7], pa.timestamp("ns", "Europe/Berlin")),
        "c": pa.array(["a", "b", None, "a", "a"]).dictionary_encode(),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet")
    assert nb.profile(tmp_path / "a.parquet").to_dict()["columns"] == nb.profile(table).to_dict()["columns"]


# ---- how columns go together -----------------------------------------------------------------------------------------


def test_correlations_agree_with_scipy() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    table = {
        "x": x,
        "y": 0.5 * x + rng.normal(size=400),
        "z": np.exp(x),
        "k": np.ones(400),
        "i": rng.integers(0, 5, 400),
    }
    found = nb.profile(table).associations
    assert (found["rows"], found["is_sampled"]) == (400, False)
    for method, oracle in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        for left, right, value in pairs(found, method):
            assert value == pytest.approx(oracle(table[left], table[right]).statistic, abs=1e-6)
        assert ("x", "z") in {pair[:2] for pair in pairs(found, method)}
        assert not [pair for pair in pairs(found, method) if "k" in pair[:2]]
    assert pairs(found, "spearman")[0] == ("x", "z", 1.0)


def test_correlations_with_gaps_are_over_the_rows_that_both_have() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(300, 4)) @ rng.normal(size=(4, 4)) + 1e6, columns=list("abcd"))
    frame = frame.mask(rng.random(frame.shape) < 0.2)
    real = frame.corr()
    told = pairs(nb.profile(frame).associations, "pearson")
    assert len(told) == 6
    for left, right, value in told:
        assert value == pytest.approx(real.loc[left, right], abs=1e-5)


def test_cramers_v_of_same_independent_and_planted_columns() -> None:
    rng = np.random.default_rng(0)
    a = rng.choice(list("pqrs"), 4000)
    noise = rng.random(4000) < 0.5
    table = {"a": a, "same": np.char.add(a, "!"), "half": np.where(noise, rng.choice(list("pqrs"), 4000), a),
             "free": rng.choice(list("uvw"), 4000)}  # fmt: skip
    told = {pair[:2]: pair[2] for pair in pairs(nb.profile(table).associations, "cramers_v")}
    assert told["a", "same"] == 1.0
    assert told["a", "half"] == pytest.approx(0.5, abs=0.04)
    assert told["a", "free"] < 0.04
    counts = pd.crosstab(table["a"], table["half"])
    assert told["a", "half"] == pytest.approx(stats.contingency.association(counts, correction=False), abs=0.01)


def test_many_rows_are_sampled_and_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.arange(30_000.0)
    made = nb.profile({"x": x, "y": -x})
    assert (made.associations["rows"], made.associations["is_sampled"]) == (association.SAMPLE_ROWS, True)
    assert pairs(made.associations, "pearson") == [("x", "y", -1.0)]
    assert "correlations from 20,000 rows" in str(made)


def test_nothing_to_associate_gives_nothing() -> None:
    assert associations({}, rows=0) == {"rows": 0, "is_sampled": False, "left_out": []}
    assert "pearson" not in nb.profile({"a": [1, 2], "b": ["x", "y"]}).associations
    assert pairs(nb.profile({"a": [1, 2, None], "b": [1, None, 2]}).associations, "pearson") == []


# ---- what stands out -------------------------------------------------------------------------------------------------


def sick(kind: str) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    gone = pd.Series(x).mask(rng.random(400) < 0.7)
    return {
        "empty": {"a": [None] * 400}, "constant": {"a": np.ones(400)}, "mixed-types": {"a": [1, "x"] * 200},
        "infinite": {"a": np.where(np.arange(400) == 7, np.inf, x)}, "mostly-missing": {"a": gone},
        "duplicate-rows": {"a": np.tile(x[:200], 2)}, "stored-as-text": {"a": x.astype(str)},
        "correlated": {"a": x, "b": 3 * x}, "dominant-value": {"a": np.where(np.arange(400) < 390, 0.0, x)},
        "missing": {"a": pd.Series(x).mask(rng.random(400) < 0.2)},
        "high-cardinality": {"a": [f"w{i}x" for i in range(1500)] + ["w0x"] * 300},
        "skewed": {"a": np.exp(4 * x)},
    }[kind]  # fmt: skip


KINDS = ("empty", "constant", "mixed-types", "infinite", "mostly-missing", "duplicate-rows", "stored-as-text",
         "correlated", "dominant-value", "missing", "high-cardinality", "skewed")  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_out_is_told(kind: str) -> None:
    found = {alert.kind: alert for alert in nb.profile(sick(kind)).alerts}
    assert kind in found
    assert found[kind].text
    assert found[kind].column == ("" if kind == "duplicate-rows" else "a")


def test_nothing_stands_out_in_healthy_data() -> None:
    rng = np.random.default_rng(1)
    healthy = {
        "n": rng.normal(size=500),
        "c": rng.choice(["a", "b", "c"], 500),
        "i": np.arange(500),
        "b": rng.random(500) < 0.4,
    }
    assert nb.profile(healthy).alerts == []


# ---- merging, keeping ------------------------------------------------------------------------------------------------


def test_merged_partitions_have_the_figures_of_the_whole() -> None:
    table = mixed_table(4000)
    cuts = [0, 700, 701, 2500, 4000]
    parts = [nb.profile(table.slice(a, b - a)) for a, b in pairwise(cuts)]
    both, whole = Profile.merge(*parts), nb.profile(table)
    assert both.rows == whole.rows
    for name, real in whole.columns.items():
        made = both.columns[name]
        for key in ("dtype", "missing", "min", "max", "zeros", "negative", "infinite", "min_length", "max_length"):
            assert made.get(key) == real.get(key), (name, key)
        for key in ("mean", "std", "skew", "kurtosis", "mean_length"):
            expected = None if real.get(key) is None else pytest.approx(real[key], rel=1e-9, abs=1e-9)
            assert made.get(key) == expected, (name, key)
        if "edges" in real:
            assert sum(made["counts"]) == sum(real["counts"])
            assert (made["edges"][0], made["edges"][-1]) == (real["edges"][0], real["edges"][-1])
            assert len(made["edges"]) <= 65
            assert "edges" in made["approximate"]
    assert both.columns["city"]["values"] == whole.columns["city"]["values"]
    assert "approximate" not in both.columns["flag"]
    assert both.columns["price"]["quantiles"]["0.5"] == pytest.approx(
        whole.columns["price"]["quantiles"]["0.5"], rel=0.05
    )
    assert (both.duplicate_rows, dict(both.associations)) == (None, {})


def test_what_can_be_merged_exactly_is() -> None:
    first, second = nb.profile({"a": [1, 2, 2]}), nb.profile({"a": [2, 1, 1]})
    made = Profile.merge(first, second).columns["a"]
    assert (made["edges"], made["counts"]) == ([1, 2], [3, 3])
    assert "edges" not in made["approximate"]
    apart = Profile.merge(nb.profile({"a": [1, 2]}), nb.profile({"a": [3, 4]})).columns["a"]
    assert (apart["distinct"], apart["distinct_exact"]) == (4, True)
    gone = Profile.merge(nb.profile({"a": [None, None]}), first).columns["a"]
    assert (gone["dtype"], gone["missing"], gone["edges"]) == ("int64", 2, [1, 2])
    nothing = Profile.merge(nb.profile({"a": np.array([np.nan])}), nb.profile({"a": [1.5]})).columns["a"]
    assert (nothing["missing"], nothing["mean"], nothing["edges"]) == (1, 1.5, [1.5])
    constant = Profile.merge(nb.profile({"a": [2.0, 2.0]}), nb.profile({"a": [2.0]})).columns["a"]
    assert (constant["mean"], constant["std"], constant["skew"]) == (2.0, 0.0, None)
    waits = [nb.profile({"a": np.array([n], "timedelta64[us]")}) for n in (9, 10)]
    assert Profile.merge(*waits).columns["a"]["min"] == "9 microseconds"


def test_texts_of_many_values_are_merged_by_their_commonest() -> None:
    parts = [nb.profile({"a": [f"{i}" for i in range(k, k + 300)] + ["often"] * 50}) for k in (0, 1000)]
    made = Profile.merge(*parts).columns["a"]
    assert next(iter(made["top"].items())) == ("often", 100)
    assert "distinct" in made["approximate"]
    assert not made["distinct_exact"]


def test_profiles_of_other_tables_are_not_merged() -> None:
    with pytest.raises(InvalidInput, match="column 'b'\nMerge partitions"):
        Profile.merge(nb.profile({"a": [1]}), nb.profile({"a": [1], "b": [1]}))
    with pytest.raises(InvalidInput, match="'a' is int64 in one profile and text in the other"):
        Profile.merge(nb.profile({"a": [1]}), nb.profile({"a": ["x"]}))


def test_a_profile_is_kept_and_loaded(tmp_path: Path) -> None:
    made = nb.profile(mixed_table(200), name="sales")
    path = made.save(tmp_path / "a.json")
    again = Profile.load(path)
    assert again == made
    assert again.name == "sales"
    assert Profile.from_dict(made.to_dict()) == made
    assert made != nb.profile({"a": [1]})
    assert made != "sales"
    assert repr(again) == "Profile('sales', 200 × 9)"
    assert again.save(tmp_path / "b.json").read_bytes() == path.read_bytes()
    (tmp_path / "c.json").write_text("[1, 2")
    with pytest.raises(InvalidInput, match="c.json' holds no profile"):
        Profile.load(tmp_path / "c.json")
    (tmp_path / "d.json").write_text('{"rows": 3}')
    with pytest.raises(InvalidInput, match="no rows and columns"):
        Profile.load(tmp_path / "d.json")
    with pytest.raises(InvalidInput, match="this is no profile"):
        Profile.from_dict([1])  # type: ignore[arg-type]


def test_a_profile_as_a_data_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    made = nb.profile({"n": [1.0, 2.0, None], "t": ["x", "x", "y"]})
    frame = made.to_pandas()
    assert list(frame.index) == ["n", "t"]
    assert (frame.loc["n", "q0.5"], frame.loc["t", "commonest"]) == (1.5, "x")
    assert frame.loc["n", "missing_share"] == pytest.approx(1 / 3)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependency, match="pandas is not installed"):
        made.to_pandas()


def test_profiling_leaves_the_data_as_it_is() -> None:
    values = np.array([3.0, 1.0, 2.0, -0.0])
    codes = pd.Series(["b", "a", "b", "c"])
    before = profile_frame(read({"v": values, "c": codes}))
    nb.profile({"v": values, "c": codes})
    assert values.tolist() == [3.0, 1.0, 2.0, 0.0]
    assert codes.tolist() == ["b", "a", "b", "c"]
    assert profile_frame(read({"v": values, "c": codes})) == before


def test_the_report_is_one_page_without_scripts(tmp_path: Path) -> None:
    made = nb.profile(mixed_table(2000), name="<sales>")
    page = made.report(tmp_path / "a.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "<script" not in page
    assert "<sales>" not in page
    assert not re.search(r"""(src|href)=["']?http""", page)
    assert all(f">{name}</span>" in page for name in made.columns)
