"""Two tables: rows by key, by position and by content; single cells; any frame; against a plain loop as the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given

import nbops as nb
from nbops.core.display import mimebundle
from nbops.core.errors import InvalidInput, NotFound
from nbops.data.differing import DataDifference, diff_data
from nbops.store.workspace import Workspace

BEFORE = pd.DataFrame({"id": range(8), "price": np.arange(8) * 1.5, "city": list("abcdefgh")})
AFTER = BEFORE.iloc[::-1].reset_index(drop=True)
AFTER = AFTER[AFTER.id != 3].reset_index(drop=True)
AFTER.loc[AFTER.id == 5, "price"] = 99.0
AFTER.loc[AFTER.id == 6, "city"] = None
AFTER = pd.concat([AFTER, pd.DataFrame({"id": [100], "price": [1.0], "city": ["z"]})], ignore_index=True)


def told(found: DataDifference) -> dict[str, tuple[str, int | None]]:
    return {c.name: (c.change, c.cells) for c in found.columns}


def test_rows_are_followed_by_their_key_and_cells_have_both_values() -> None:
    found = nb.diff(BEFORE, AFTER, key="id")
    assert (found.by, found.added.tolist(), found.removed.tolist()) == ("key", [7], [3])
    assert told(found) == {"id": ("same", 0), "price": ("changed", 1), "city": ("changed", 1)}
    assert [(c.column, c.key, c.before, c.after) for c in found.cells] == [
        ("price", (5,), 7.5, 99.0), ("city", (6,), "g", None),
    ]  # fmt: skip
    assert {tuple(pair) for pair in found.changed.tolist()} == {(5, 2), (6, 1)}
    assert not found.is_same
    assert list(found.to_pandas()["key"]) == [5, 6]


def test_equal_tables_are_the_same_whatever_holds_them() -> None:
    others = [BEFORE.copy(), pl.from_pandas(BEFORE), pa.Table.from_pandas(BEFORE), BEFORE.to_dict(orient="list")]
    for other in others:
        assert nb.diff(BEFORE, other).is_same
        assert nb.diff(other, BEFORE, key="id").is_same


def test_without_a_key_position_is_taken_and_another_order_is_seen() -> None:
    edited = BEFORE.copy()
    edited.loc[2, "price"] = -1.0
    found = nb.diff(BEFORE, edited)
    assert (found.by, found.changed_cells) == ("position", 1)
    turned = edited.iloc[::-1].reset_index(drop=True)
    found = nb.diff(BEFORE, turned)
    assert (found.by, len(found.added), len(found.removed)) == ("content", 1, 1)


def test_copies_of_rows_are_counted() -> None:
    found = nb.diff(pd.DataFrame({"x": [1, 1, 1, 2]}), pd.DataFrame({"x": [1, 2, 2]}))
    assert (found.by, found.removed.tolist(), found.added.tolist()) == ("content", [1, 2], [2])


def test_columns_that_came_went_and_changed_their_type() -> None:
    after = BEFORE.rename(columns={"city": "town"}).astype({"id": "float64"})
    after.loc[0, "id"] = np.nan
    found = nb.diff(BEFORE, after)
    assert told(found) == {"id": ("retyped", 1), "price": ("same", 0), "town": ("added", 0), "city": ("removed", 0)}
    assert told(nb.diff(BEFORE, BEFORE.astype({"price": str})))["price"] == ("retyped", 8)


def test_missing_is_like_missing_and_zeros_have_no_sign() -> None:
    one = pd.DataFrame({"x": [0.0, np.nan, 1.0]})
    assert nb.diff(one, pd.DataFrame({"x": [-0.0, np.nan, 1.0]})).is_same
    assert nb.diff(one, pd.DataFrame({"x": [0.0, 2.0, 1.0]})).changed_cells == 1


def test_snapshots_are_compared_by_the_key_that_they_were_given(workspace: Workspace) -> None:
    nb.snapshot(BEFORE, "sales", key="id")
    nb.snapshot(AFTER, "sales", key="id")
    found = nb.diff("sales/1", "sales/2")
    assert (found.a, found.b, found.by, found.changed_cells) == ("sales/1", "sales/2", "key", 2)
    found = nb.diff("sales/1", AFTER, key="id")
    assert (found.a, found.b, found.changed_cells) == ("sales/1", "data", 2)


def test_data_that_was_not_stored_is_compared_by_digests(tmp_path: Path) -> None:
    (tmp_path / ".nbops").mkdir()
    (tmp_path / ".nbops" / "config.toml").write_text("dataset_max_bytes = 10\n")
    one = nb.snapshot(BEFORE, "sales")
    two = nb.snapshot(BEFORE.assign(price=1.0), "sales")
    assert "more than dataset_max_bytes" in two.tags["stored"]
    found = nb.diff(one, two)
    assert (found.by, told(found)) == ("digest", {"id": ("same", 0), "price": ("changed", None), "city": ("same", 0)})


@pytest.mark.parametrize(
    ("a", "b", "key", "error", "words"),
    [
        (BEFORE, AFTER.assign(city="a"), "city", InvalidInput, "the key .city. repeats in 'b': 'a' stands in 8 rows"),
        (BEFORE, AFTER, "idd", NotFound, "no column 'idd'"),
        (BEFORE, 3, None, NotFound, "DataFrame and int are neither"),
        ("nothing", BEFORE, None, NotFound, "'nothing' and DataFrame are neither"),
        ("no", "never", None, NotFound, "no run 'no'"),
    ],
)
def test_bad_input_is_named(workspace: Workspace, a: Any, b: Any, key: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        nb.diff(a, b, key=key)


@given(
    before=st.dictionaries(st.integers(0, 9), st.tuples(st.integers(0, 2), st.sampled_from(["", "a", None]))),
    after=st.dictionaries(st.integers(0, 9), st.tuples(st.integers(0, 2), st.sampled_from(["", "a", None]))),
)
def test_every_difference_is_found_and_no_other(before: dict[int, Any], after: dict[int, Any]) -> None:
    def frame(rows: dict[int, Any]) -> dict[str, np.ndarray]:
        return {
            "id": np.array(list(rows), np.int64), "n": np.array([r[0] for r in rows.values()], np.int64),
            "t": np.array([r[1] for r in rows.values()] + [None], object)[:-1],
        }  # fmt: skip

    found = diff_data(frame(before), frame(after), key="id")
    assert found is not None
    ids = list(after)
    assert {ids[row] for row in found.added} == set(after) - set(before)
    assert {list(before)[row] for row in found.removed} == set(before) - set(after)
    truth = {(k, c) for k in set(before) & set(after) for c in (0, 1) if before[k][c] != after[k][c]}
    assert {(c.key[0], "nt".index(c.column)) for c in found.cells} == truth


def test_the_card_shows_what_changed(shell: Any) -> None:
    shown = mimebundle(nb.diff(BEFORE, AFTER, key="id"))
    for words in ("price", "7.5", "99", "missing", "rows added"):
        assert words in shown["text/plain"], words
        assert words in shown["text/html"], words
    assert "the same" in mimebundle(nb.diff(BEFORE, BEFORE))["text/plain"]
    shell.user_ns.update(before=BEFORE, after=AFTER)
    found = shell.run_line_magic("mlops", "diff before after --key id")
    assert found.changed_cells == 2
