"""The digest is equal for equal content from any frame, and changes with any cell."""

from __future__ import annotations

import datetime as dt
import json
import math
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nbops.data.frames import read
from nbops.data.hashed import Hashed

TABLE: dict[str, list[Any]] = {
    "whole": [1, -2, 3],
    "gaps": [1, None, 2**53 + 1],
    "real": [1.5, None, -0.0],
    "text": ["a", None, "né"],
    "flag": [True, None, False],
    "time": [dt.datetime(2024, 1, 1, 3), None, dt.datetime(1960, 1, 1, 0, 0, 0, 7)],
    "day": [dt.date(2024, 1, 1), None, dt.date(1960, 1, 1)],
    "span": [dt.timedelta(1), None, dt.timedelta(seconds=3)],
    "clock": [dt.time(1, 2, 3), None, dt.time(5)],
    "price": [Decimal("1.50"), None, Decimal("200")],
    "pair": [[1, 2], None, []],
    "raw": [b"x", None, b""],
    "none": [None, None, None],
}

FORMS: dict[str, Callable[[dict[str, list[Any]]], Any]] = {
    "dict of lists": dict,
    "pandas objects": lambda t: pd.DataFrame({k: pd.Series(v, dtype=object) for k, v in t.items()}),
    "pandas on Arrow": lambda t: pa.table(t).to_pandas(types_mapper=pd.ArrowDtype),
    "polars": lambda t: pl.DataFrame(t, strict=False),
    "polars lazy": lambda t: pl.DataFrame(t, strict=False).lazy(),
    "Arrow": pa.table,
    "Arrow in chunks": lambda t: pa.concat_tables([pa.table(t).slice(0, 1), pa.table(t).slice(1)]),
}


def digest(data: Any, **options: Any) -> str:
    return Hashed(read(data, **options)).digest


@pytest.mark.parametrize("form", FORMS)
def test_digest_is_equal_from_every_form(form: str) -> None:
    assert digest(FORMS[form](TABLE)) == digest(TABLE)
    assert [column.dtype for column in read(FORMS[form](TABLE)).columns] == [
        "int64", "int64", "float64", "text", "bool", "datetime", "date", "duration", "time", "decimal", "object",
        "bytes", "null",
    ]  # fmt: skip


def test_digest_is_equal_from_arrays_tensors_and_frames() -> None:
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    names = ["0", "1", "2"]
    forms = [
        pd.DataFrame(x), pl.DataFrame(x, schema=names), pa.table(list(x.T), names=names), torch.tensor(x),
        np.asfortranarray(x), x.astype(">f4"), dict(zip(names, x.T, strict=True)), np.repeat(x, 2, axis=0)[::2],
    ]  # fmt: skip
    assert {digest(form) for form in forms} == {digest(x)}


def test_digest_of_features_and_labels_is_equal_however_they_come() -> None:
    x, y = np.arange(12.0).reshape(4, 3), np.arange(4)
    forms = [{"X": x, "y": y}, (pd.DataFrame(x), pd.Series(y, name="target")), (torch.tensor(x), y.tolist())]
    assert {digest(form) for form in forms} == {digest((x, y))} == {digest(x, label=y)}
    assert digest((x, y)) == digest((x, pd.DataFrame({"target": y})))


def test_digest_without_pyarrow_is_the_same() -> None:
    """pyarrow is optional: the same frames, read in a process that cannot import it."""
    script = """
import json, sys
sys.modules["pyarrow"] = None
import pandas as pd, polars as pl
from nbops.data.hashed import Hashed
from nbops.data.frames import read
table = {"i": [1, 2, None], "t": ["a", None, "né"], "f": [0.5, None, 1.0], "b": [True, False, None]}
objects = pd.DataFrame({k: pd.Series(v, dtype=object) for k, v in table.items()})
frames = [table, objects, pl.DataFrame(table), objects.convert_dtypes(), pd.DataFrame({"t": table["t"]})]
print(json.dumps([Hashed(read(frame)).digest for frame in frames]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    table = {"i": [1, 2, None], "t": ["a", None, "né"], "f": [0.5, None, 1.0], "b": [True, False, None]}
    *whole, text = json.loads(done.stdout)
    assert set(whole) == {digest(pa.table(table))}
    assert text == digest(pa.table({"t": table["t"]}))


def test_index_chunks_and_coding_do_not_count() -> None:
    frame = pd.DataFrame({"a": ["x", "y", "x"], "b": [1, 2, 3]})
    same = [
        frame.set_index(pd.Index([7, 8, 9])),
        frame.astype({"a": "category"}),
        frame.astype({"a": object}),
        pl.from_pandas(frame).with_columns(pl.col("a").cast(pl.Categorical)),
        pa.table({"a": pa.array(["x", "y", "x"]).dictionary_encode(), "b": [1, 2, 3]}),
        pa.concat_tables([pa.table({"a": ["x"], "b": [1]}), pa.table({"a": ["y", "x"], "b": [2, 3]})]),
    ]
    assert {digest(form) for form in same} == {digest(frame)}


def test_categories_with_missing_cells_are_decoded() -> None:
    text = pd.DataFrame({"a": ["x", None, "y"], "n": pd.array([3, None, 4], "Int64")})
    coded = text.astype({"a": "category", "n": "category"})
    assert digest(coded) == digest(text)
    assert digest(pa.Table.from_pandas(coded)) == digest(text)


def test_names_order_and_types_count() -> None:
    table = {"a": [1, 2], "b": [3, 4]}
    others = [
        {"b": [3, 4], "a": [1, 2]},
        {"a": [3, 4], "b": [1, 2]},
        {"a": [1, 2], "c": [3, 4]},
        {"a": [1, 2]},
        {"a": [1.0, 2.0], "b": [3, 4]},
        {"a": np.array([1, 2], np.int32), "b": [3, 4]},
        {"a": ["1", "2"], "b": [3, 4]},
        {"a": [True, False], "b": [3, 4]},
        {"a": [2, 1], "b": [4, 3]},
    ]
    assert len({digest(other) for other in [table, *others]}) == len(others) + 1


def test_text_cannot_flow_from_one_cell_into_the_next() -> None:
    cells = [["ab", "c"], ["a", "bc"], ["abc", ""], ["abc", None], ["", "abc"]]
    assert len({digest({"t": pair}) for pair in cells}) == len(cells)


def test_missing_is_one_value_and_minus_zero_is_another() -> None:
    quiet = np.array([0x7FF8000000000000, 0x7FF8000000000123, 0xFFF8000000000001], np.uint64).view(np.float64)
    assert digest({"a": quiet}) == digest({"a": [math.nan] * 3}) == digest(pa.table({"a": pa.nulls(3, pa.float64())}))
    assert digest({"a": [0.0]}) != digest({"a": [-0.0]})
    assert digest({"a": pa.array([None, 1]).to_numpy(zero_copy_only=False)}) != digest({"a": [0.0, 1.0]})
    masked = pa.array([9, 1], mask=np.array([True, False]))  # a value lies under the null
    assert digest(pa.table({"a": masked})) == digest(pa.table({"a": [None, 1]}))


def test_times_are_equal_in_any_unit_and_keep_their_nanoseconds() -> None:
    stamps = np.array(["2024-01-01T00:00:01", "1969-12-31T23:59:59"], "datetime64[s]")
    forms = [stamps, stamps.astype("datetime64[ms]"), stamps.astype("datetime64[ns]"), pd.Series(stamps)]
    assert len({digest({"t": form}) for form in forms}) == 1
    one = np.array([1], "datetime64[ns]")
    assert len({digest({"t": one}), digest({"t": one.copy()}), digest({"t": one + 1})}) == 2
    assert digest(pl.DataFrame({"t": pl.Series(one)})) == digest({"t": one})
    far = np.array([10**13], "datetime64[s]")  # beyond what microseconds hold
    assert digest({"t": far}) != digest({"t": far + 1})
    assert digest(pl.DataFrame({"t": pl.Series([1]).cast(pl.Time)})) != digest({"t": [dt.time(0)]})


def test_time_zones_are_part_of_the_type() -> None:
    naive = pd.DataFrame({"t": pd.to_datetime(["2024-07-01 12:00", None])})
    paris = naive.assign(t=naive["t"].dt.tz_localize("Europe/Paris"))
    assert digest(paris) == digest(pl.from_pandas(paris)) == digest(pa.Table.from_pandas(paris))
    assert len({digest(naive), digest(paris), digest(paris.assign(t=paris["t"].dt.tz_convert("UTC")))}) == 3


def test_images_are_digested_over_all_bytes() -> None:
    images = np.random.default_rng(0).integers(0, 255, (10, 4, 4), np.uint8)
    changed = images.copy()
    changed[9, 3, 3] ^= 1
    assert digest(images) == digest(torch.tensor(images)) == digest(np.asfortranarray(images))
    assert len({digest(images), digest(changed), digest(images.reshape(10, 2, 8)), digest(images.reshape(10, 16))}) == 4
    assert read(images).columns[0].dtype == "tensor<uint8>[4,4]"


def test_bfloat16_tensors_that_need_a_gradient_can_be_read() -> None:
    tensor = torch.arange(6, dtype=torch.bfloat16).reshape(3, 2).requires_grad_()
    assert digest(tensor) == digest(np.arange(6, dtype=np.float32).reshape(3, 2))


CELLS = {
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float64": st.floats(allow_nan=False),
    "text": st.text(st.characters(codec="utf-8"), max_size=12),
    "bool": st.booleans(),
    "datetime": st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)).map(lambda t: t.replace(fold=0)),
}
ARROW = {"int64": pa.int64(), "float64": pa.float64(), "text": pa.string(), "bool": pa.bool_(),
         "datetime": pa.timestamp("us")}  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(1, 12))
    columns = {}
    for index, dtype in enumerate(draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=1, max_size=4))):
        cells = draw(st.lists(st.none() | CELLS[dtype], min_size=rows, max_size=rows))
        columns[f"c{index}"] = pa.array(cells, ARROW[dtype])
    return pa.table(columns)


@given(tables(), st.integers(0, 12))
def test_any_table_has_one_digest_in_all_frames_and_chunks(table: pa.Table, cut: int) -> None:
    forms = [
        pl.from_arrow(table),
        table.to_pandas(types_mapper=pd.ArrowDtype),
        pa.concat_tables([table.slice(0, cut), table.slice(cut)]),
        {name: pl.from_arrow(table)[name] for name in table.column_names},
    ]
    assert {digest(form) for form in forms} == {digest(table)}


@given(tables(), st.data())
def test_any_single_cell_change_changes_the_digest(table: pa.Table, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(table.column_names))
    row = data.draw(st.integers(0, table.num_rows - 1))
    cells = table[name].to_pylist()
    dtype = next(key for key, kind in ARROW.items() if kind == table[name].type)
    value = data.draw((st.none() | CELLS[dtype]).filter(lambda v: repr(v) != repr(cells[row])))
    changed = table.set_column(
        table.column_names.index(name), name, pa.array([*cells[:row], value, *cells[row + 1 :]], ARROW[dtype])
    )
    old, new = Hashed(read(table)), Hashed(read(changed))
    assert new.digest != old.digest
    moved = [n for n, a, b in zip(old.frame.names, old.columns, new.columns, strict=True) if a != b]
    assert moved == [name]
