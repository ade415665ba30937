"""Whatever is passed as data is read, or refused with a line that says what to do."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from nbops.core.errors import InvalidInput, NotFound
from nbops.data.frames import WIDEST_TABLE, read


def test_label_is_found_by_name_and_in_pairs() -> None:
    frame = pd.DataFrame({"a": [1, 2], "target": [0, 1]})
    assert read(frame, label="target").label == "target"
    assert read(frame).label == ""
    pair = read((frame[["a"]], frame["target"]))
    assert (pair.label, pair.names, pair.is_array) == ("y", ["a", "y"], False)
    assert read((np.zeros((2, 2)), [0, 1])).is_array


def test_entries_of_a_dict_keep_or_prefix_their_names() -> None:
    x = np.zeros((2, 2))
    frame = read({"X": x, "extra": x, "age": [1, 2], "image": np.zeros((2, 3, 3)), 5: ["a", "b"]})
    assert frame.names == ["0", "1", "extra.0", "extra.1", "age", "image", "5"]
    assert frame.column("image").dtype == "tensor<float64>[3,3]"


def test_series_relations_and_structured_arrays_are_read() -> None:
    assert read(pl.Series("q", [1, 2])).names == ["q"]
    assert read(pd.Series([1, 2])).names == ["X"]
    relation = duckdb.sql("select 1 as a, 'x' as b")
    assert [c.dtype for c in read(relation).columns] == ["int32", "text"]
    records = np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])
    assert [(c.name, c.dtype) for c in read(records).columns] == [("a", "int32"), ("b", "float64")]


def test_very_wide_arrays_are_one_tensor() -> None:
    assert len(read(np.zeros((2, WIDEST_TABLE), np.int8)).columns) == WIDEST_TABLE
    assert read(np.zeros((2, WIDEST_TABLE + 1), np.int8)).columns[0].dtype == f"tensor<int8>[{WIDEST_TABLE + 1}]"


def test_lists_of_numbers_become_one_type_and_other_lists_keep_theirs() -> None:
    frame = read({"a": [1, 2.5, None], "b": [2**70, 1, None], "c": [1, "x", None]})
    assert [c.dtype for c in frame.columns] == ["float64", "object", "object"]
    assert frame.column("c").kinds == {"number": 1, "text": 1}
    assert [c.missing_count for c in frame.columns] == [1, 1, 1]


@pytest.mark.parametrize(
    "data",
    [{}, pd.DataFrame(), pl.DataFrame(), np.zeros((0, 3)), pd.DataFrame({"a": []}), {"X": np.zeros((0, 4, 4))}],
    ids=str,
)
def test_empty_data_is_read(data: Any) -> None:
    assert read(data).rows == 0


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("sales", "cannot read a str as data"),
        (7, "cannot read a int as data"),
        (object(), "cannot read a object as data"),
        (np.float64(3.0), "rank 0"),
        ({"a": [1, 2], "b": [1]}, "'a' has 2 rows, 'b' 1"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "used twice.*'a'"),
        (pd.DataFrame([[1, 2]], columns=[0, "0"]), "used twice: '0'"),
        (np.zeros(2, np.complex128), "type complex128"),
        (np.zeros((2, 2, 2), object), "array of rank 3"),
        ({"a": [object()]}, "'a' holds a object"),
    ],
    ids=["name", "number", "object", "rank 0", "lengths", "twice", "twice as text", "complex", "objects", "opaque"],
)
def test_what_cannot_be_read_is_refused(data: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        read(data)
    assert caught.value.hint.endswith(".")


def test_an_unknown_label_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(NotFound, match="no column 'targt'\nDid you mean 'target'"):
        read(pa.table({"a": [1], "target": [0]}), label="targt")


def test_reading_shares_the_memory_of_numbers() -> None:
    array = np.arange(1000.0)
    assert np.shares_memory(read({"a": array}).columns[0].values, array)
    assert np.shares_memory(read(pd.DataFrame({"a": array}, copy=False)).columns[0].values, array)
    assert np.shares_memory(read(pl.DataFrame({"a": array})).columns[0].values, array)
