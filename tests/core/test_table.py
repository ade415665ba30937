"""Tables of records: a sequence, and a data frame whose columns hold each value at its own row."""

from __future__ import annotations

import math

from nbops.core.records import Summary
from nbops.core.table import Table
from nbops.testing import a_run


def summary(last: float) -> Summary:
    return Summary(last=last, min=last, max=last, first=last, last_step=0, count=1, nan_count=0)


def test_a_data_frame_has_each_value_at_its_row_and_groups_its_columns() -> None:
    runs = [
        a_run(name="a", params={"lr": 0.1}, summary={"loss": summary(1.0)}),
        a_run(name="b"),
        a_run(name="c", tags={"team": "x"}, params={"opt": "sgd", "lr": 0.3}, summary={"acc": summary(math.inf)}),
        a_run(name="d", params={"opt": "adam"}),
    ]
    table = Table("run", runs)
    frame = table.to_pandas()
    assert frame["name"].tolist() == ["a", "b", "c", "d"]
    assert frame["params.lr"].fillna(-1).tolist() == [0.1, -1, 0.3, -1]
    assert frame["params.opt"].fillna("").tolist() == ["", "", "sgd", "adam"]
    assert frame["metrics.loss"].isna().tolist() == [False, True, True, True]
    assert frame["metrics.acc"].tolist()[2] == math.inf
    dotted = [name for name in frame.columns if "." in name]
    assert dotted == ["params.lr", "params.opt", "tags.team", "metrics.acc", "metrics.loss"]
    assert list(frame.columns)[: -len(dotted)][:2] == ["id", "created_at"]
    assert table.rows()[2]["params.opt"] == "sgd"
    assert Table("run", []).to_pandas().empty


def test_a_slice_is_a_table_that_knows_how_many_there_are() -> None:
    table = Table("run", [a_run(name=name) for name in "abc"], total=9)
    assert (len(table[1:]), table[1:].total, table[0].name) == (2, 9, "a")
    assert repr(table[:1]) == "Table(run, 1 of 9)"
