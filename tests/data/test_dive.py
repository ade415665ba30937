"""Diving into rows: exact counts by any columns, a fair sample of points, and the rows of a cell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import nbops as nb
from nbops.core.errors import InvalidInput, NotFound
from nbops.data.columns import Column
from nbops.data.diving.axes import MISSING, OTHER, axis_of
from nbops.data.diving.dive import MOST_POINTS, ROLES
from nbops.data.frames import read
from nbops.store.workspace import Workspace

ROWS = 5_000


def table(rows: int = ROWS) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({
        "price": rng.lognormal(3, 1, rows), "items": rng.poisson(2, rows),
        "city": rng.choice(["Bonn", "Rome", "Oslo"], rows, p=[0.6, 0.39, 0.01]),
        "weight": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows)),
        "day": np.datetime64("2026-01-01") + rng.integers(0, 90, rows).astype("timedelta64[D]"),
        "id": [f"id-{i}" for i in range(rows)],
    })  # fmt: skip


def column(name: str) -> Column:
    return read(table()).column(name)


def test_counts_are_those_of_a_pivot_table() -> None:
    data = table()
    found = nb.dive(data, x="items", color="city", facet="city")
    assert found.counts.sum() == ROWS
    items, city = found.axis("x"), found.axis("color")
    for i, label in enumerate(items.labels):
        for j, name in enumerate(city.labels):
            wanted = int(((data["items"].astype(str) == label) & (data.city == name)).sum())
            assert found.counts[j, 0, i, j] == wanted
    assert found.counts.shape == (3, 1, len(items.labels), 3)


@pytest.mark.parametrize("most", [2, 5, 12])
@pytest.mark.parametrize("name", ["price", "items", "city", "weight", "day", "id"])
def test_every_row_is_in_one_bin_and_bins_are_few(name: str, most: int) -> None:
    axis = axis_of(column(name), most=most)
    assert axis.codes.min() >= 0
    assert axis.codes.max() < len(axis.labels) <= most + (name == "weight")
    assert len(set(axis.labels)) == len(axis.labels)


def test_bins_hold_what_their_labels_say() -> None:
    data = table()
    axis = axis_of(column("price"), most=12)
    for code, label in enumerate(axis.labels):
        inside = data.price[axis.codes == code]
        low, _, high = label.partition(" to ")
        if high and len(inside):
            assert float(low) <= inside.min()
            assert inside.max() < float(high)
    weight = axis_of(column("weight"), most=12)
    assert weight.labels[-1] == MISSING
    assert (weight.codes == len(weight.labels) - 1).sum() == data.weight.isna().sum()
    days = axis_of(column("day"), most=12)
    assert data.day[days.codes == 1].min() >= pd.Timestamp(days.labels[1].partition(" to ")[0])
    ids = axis_of(column("id"), most=5)
    assert ids.labels[-1] == OTHER
    assert (ids.codes == 4).sum() == ROWS - 4


@pytest.mark.parametrize(
    "values", [[None, None], [1.0, 1.0], [float("nan"), float("inf")], [5], [True, False, None], ["", "a", None],
               [-1e300, 1e300], [0.1, 0.1000001]],
)  # fmt: skip
def test_odd_columns_have_bins_too(values: list[Any]) -> None:
    axis = axis_of(read({"a": values}).columns[0], most=4)
    assert len(axis.codes) == len(values)
    assert 0 <= axis.codes.min() <= axis.codes.max() < len(axis.labels) <= 5
    assert len(nb.dive({"a": values}).rows(x=0)) >= 0


def test_the_sample_is_fair_small_and_the_same_each_time() -> None:
    data = table(100_000)
    found = nb.dive(data, x="price", y="weight", color="city")
    assert found.is_scatter
    rows = found.points()
    assert list(rows) == list(nb.dive(data, x="price", y="weight", color="city").points())
    assert MOST_POINTS * 0.9 <= len(rows) <= MOST_POINTS + 50
    assert not data.weight.iloc[rows].isna().any()
    shares = data.city.iloc[rows].value_counts(normalize=True)
    assert shares["Bonn"] == pytest.approx(0.6, abs=0.01)
    assert (data.city.iloc[rows] == "Oslo").sum() >= 5  # a rare group is seen
    few = nb.dive(table(100), x="price", y="items")
    assert len(few.points()) == 100


def test_rows_of_a_cell_are_listed_with_their_positions() -> None:
    data = table()
    found = nb.dive(data, x="price", facet="city")
    label = found.axis("x").labels[1]
    low, _, high = label.partition(" to ")
    rows = found.rows(x=label, facet="Rome", limit=7)
    wanted = np.flatnonzero((data.price >= float(low)) & (data.price < float(high)) & (data.city == "Rome"))
    assert list(rows.positions) == list(wanted[:7])
    assert (len(rows), rows.total) == (7, len(wanted))
    assert rows.values("id") == list(data.id.iloc[wanted[:7]])
    assert rows.title == f"price {label} · city Rome"
    assert len(found.rows()) == 200
    assert found.rows(x=0).total == found.counts[:, :, 0].sum()


def test_other_columns_can_be_chosen_without_reading_again() -> None:
    found = nb.dive(table(), x="price")
    other = found.by(x="day", color="city")
    assert other.frame is found.frame
    assert (found.chosen["x"], other.chosen["x"], other.chosen["color"]) == ("price", "day", "city")
    assert not found.by(y="city").is_scatter
    assert repr(other) == "Dive('data', 5,000 rows, x='day', color='city')"


def test_without_columns_the_first_number_goes_across_and_the_label_colours() -> None:
    assert nb.dive(table(), label="city").chosen == {"x": "price", "y": None, "color": "city", "facet": None}
    assert nb.dive({"a": ["p", "q"]}).chosen["x"] == "a"
    images = nb.dive((np.zeros((6, 4, 4), np.uint8), np.arange(6) % 2))
    assert images.columns == ["y"]


def test_a_dataset_is_read_from_the_workspace(workspace: Workspace) -> None:
    nb.snapshot(table(), "sales")
    found = nb.dive("sales", x="items")
    assert (found.name, found.dataset, found.counts.sum()) == ("sales/1", ("sales", 1), ROWS)
    again = table()
    nb.snapshot(again, "sales")
    assert nb.dive(again).name == "sales/1"  # the object is known


def test_what_cannot_be_chosen_is_refused() -> None:
    found = nb.dive(table(), x="price")
    with pytest.raises(NotFound, match="no column 'prise'"):
        found.by(x="prise")
    with pytest.raises(InvalidInput, match="there is no role 'colour'") as refused:
        found.by(colour="city")
    assert "color" in (refused.value.hint or "")
    with pytest.raises(InvalidInput, match="no column is chosen for 'facet'"):
        found.rows(facet="Bonn")
    with pytest.raises(NotFound, match="no bin 'much'"):
        found.rows(x="much")
    with pytest.raises(NotFound, match="no bin '99'"):
        found.rows(x=99)
    with pytest.raises(InvalidInput, match="there are no rows"):
        nb.dive({"a": np.zeros(0)})
    with pytest.raises(InvalidInput, match="which has no bins"):
        nb.dive((np.zeros((6, 4, 4), np.uint8), np.arange(6)), x="X")
    assert set(found.chosen) == set(ROLES)


def test_a_few_whole_numbers_are_kept_apart_also_as_floats() -> None:
    frame = read(pd.DataFrame({"sex": [1.0, 2.0, np.nan] * 10, "dose": [0.5, 1.5, 2.0] * 10}))
    assert axis_of(frame.column("sex"), most=5).labels == ["1", "2", "(missing)"]
    assert axis_of(frame.column("dose"), most=5).labels != ["0.5", "1.5", "2"]  # ranges
