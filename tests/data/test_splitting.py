"""`nb.split` keeps every row on its side, keeps the shares, cuts no group, respects time, and proves it."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nbops as nb
from nbops.core.errors import InvalidInput, NotFound
from nbops.core.records import Link
from nbops.core.splits import SplitRecord
from nbops.data.columns import Column
from nbops.data.frames import read
from nbops.data.splits.identity import found_in, from_hex, identities, to_hex
from nbops.data.splits.proving import moved, spread_of, summarised
from nbops.data.splits.sides import TEST, TRAIN, VAL, Strata, by_hash, by_rank, folds_by_rank
from nbops.store.context import inside_run
from nbops.store.workspace import Workspace

Digits = tuple[np.ndarray, np.ndarray]
RNG = np.random.default_rng(7)
VISITS = pd.DataFrame(
    {
        "patient": RNG.integers(0, 300, 3000),
        "day": pd.Timestamp("2026-01-01") + pd.to_timedelta(RNG.integers(0, 200, 3000), unit="D"),
        "age": RNG.integers(20, 90, 3000),
        "score": RNG.normal(size=3000),
    }
)
VISITS["sick"] = np.where(VISITS.patient % 4 == 0, "yes", "no")


def ids(frame: Any, positions: Any) -> set[int]:
    return set(np.asarray(frame["id"])[positions].tolist())


# ---- a row keeps its side


def test_rows_keep_their_side_when_rows_are_added_and_shuffled(workspace: Workspace) -> None:
    first = pd.DataFrame({"id": range(5000), "x": RNG.normal(size=5000)})
    grown = pd.concat([first, pd.DataFrame({"id": range(5000, 9000), "x": 0.0})]).sample(frac=1, random_state=1)
    before, after = (nb.split(frame, key="id", val=0.1, name="n") for frame in (first, grown))
    for side in ("train", "val", "test"):
        assert ids(first, getattr(before, side)) == ids(grown, getattr(after, side)) & set(range(5000))
    assert after.proof["since"]["moved"] == 0
    assert after.proof["since"]["known"] > 500
    assert sum(before.sizes.values()) == 5000


def test_without_a_key_equal_rows_stay_together(workspace: Workspace) -> None:
    frame = pd.DataFrame({"a": np.arange(400) % 100, "b": ["x"] * 400})
    split = nb.split(frame, test=0.3)
    assert split.proof["duplicates_across"] == 0
    assert set(frame["a"].iloc[split.train]) & set(frame["a"].iloc[split.test]) == set()
    assert len(split.test) > 0


@given(rows=st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=60, unique=True), test=st.floats(0.01, 0.9))
@settings(max_examples=60)
def test_a_row_alone_decides_its_side_and_larger_tests_contain_smaller_ones(rows: list[int], test: float) -> None:
    codes = identities([Column("id", "int64", np.array(rows))], len(rows))
    whole = by_hash(codes, salt="s", test=test, val=0.05)
    for position, row in enumerate(rows):
        alone = by_hash(identities([Column("id", "int64", np.array([row]))], 1), salt="s", test=test, val=0.05)
        assert alone[0] == whole[position]
    smaller = by_hash(codes, salt="s", test=test / 2, val=0.05)
    assert not ((smaller == TEST) & (whole != TEST)).any()
    assert ((smaller == VAL) == (whole == VAL)).all()


def test_ratios_nest_in_every_kind_of_split(workspace: Workspace) -> None:
    for options in (
        {},
        {"stratify": "sick"},
        {"group": "patient"},
        {"group": "patient", "stratify": "sick"},
        {"time": "day"},
    ):
        small = nb.split(VISITS, test=0.1, **options)
        large = nb.split(VISITS, test=0.3, **options)
        assert set(small.test) <= set(large.test), options
        assert len(small.test) < len(large.test)


def test_the_side_does_not_depend_on_the_library_or_on_a_gap_elsewhere(workspace: Workspace) -> None:
    table = {"id": [1, 2, 3, 4, 5, 6, 7, 8], "when": [dt.datetime(2026, 1, d) for d in range(1, 9)]}
    forms = [pd.DataFrame(table), pl.DataFrame(table), pa.table(table), table]
    for options in ({"key": "id"}, {"key": ["id", "when"]}, {}):
        assert len({tuple(nb.split(form, test=0.5, **options).side) for form in forms}) == 1
    whole = read({"id": np.array([1, 2, 3])})
    floats = read(pd.DataFrame({"id": [1.0, 2.0, 3.0, None]}))
    assert (identities(list(whole.columns), 3) == identities(list(floats.columns), 4)[:3]).all()
    micros = np.array(["2026-01-01T00:00:00.000001", "1969-12-31T23:59:59.999999"], "M8[us]")
    nanos = [Column("t", "datetime", micros.astype(f"M8[{unit}]")) for unit in ("us", "ns")]
    assert (identities([nanos[0]], 2) == identities([nanos[1]], 2)).all()
    day = Column("t", "date", np.array(["2026-01-01"], "M8[D]"))
    assert identities([day], 1) == identities([Column("t", "datetime", day.values.astype("M8[s]"))], 1)


def test_another_process_splits_alike(workspace: Workspace) -> None:
    code = "import numpy as np, nbops as nb; print(nb.split({'id': np.arange(50)}, key='id').test.tolist())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(nb.split({"id": np.arange(50)}, key="id").test.tolist())


def test_known_sides_stay_known() -> None:
    """Written down once: a change of the arithmetic would move everybody's rows."""
    codes = by_hash(identities([Column("id", "int64", np.arange(40))], 40), salt="", test=0.2, val=0.1)
    assert "".join("-vt"[code] for code in codes) == KNOWN


KNOWN = "t--------tt---------v-t-v---v---vttv---t"


def test_salts_give_unrelated_splits(workspace: Workspace) -> None:
    frame = {"id": np.arange(20_000)}
    one, other = nb.split(frame, key="id"), nb.split(frame, key="id", salt="b")
    both = len(set(one.test) & set(other.test)) / 20_000
    assert both == pytest.approx(0.04, abs=0.006)


def test_shares_come_out(workspace: Workspace) -> None:
    split = nb.split({"id": np.arange(100_000)}, key="id", test=0.2, val=0.1)
    assert len(split.test) == pytest.approx(20_000, abs=500)
    assert len(split.val) == pytest.approx(10_000, abs=400)
    assert nb.split({"id": np.arange(100)}, key="id", test=0, val=0.5).sizes["test"] == 0


# ---- strata and groups


def test_strata_of_two_hundred_rows_are_within_half_a_point(workspace: Workspace) -> None:
    sizes = [200, 201, 333, 1000, 5000]
    label = np.repeat(np.arange(5), sizes)
    split = nb.split({"id": np.arange(len(label)), "label": label}, key="id", stratify="label", test=0.17, val=0.11)
    for value, size in enumerate(sizes):
        own = label == value
        assert abs(np.mean(split.masks["test"][own]) - 0.17) <= 0.005, size
        assert abs(np.mean(split.masks["val"][own]) - 0.11) <= 0.005, size
    assert split.proof["strata"]["large_deviation"] <= 0.005
    assert split.proof["strata"]["large_strata"] == 5


def test_strata_do_not_depend_on_the_order_of_the_rows(workspace: Workspace) -> None:
    frame = pd.DataFrame({"id": range(2000), "y": np.arange(2000) % 3})
    other = frame.sample(frac=1, random_state=3)
    assert ids(frame, nb.split(frame, key="id", stratify="y").test) == ids(
        other, nb.split(other, key="id", stratify="y").test
    )


def test_rare_strata_get_their_share_together(workspace: Workspace) -> None:
    names = [f"c{i // 2}" for i in range(400)]  # 200 strata of two rows: a fifth of them has a test row or more
    split = nb.split({"id": np.arange(400), "c": names}, key="id", stratify="c", test=0.2)
    assert 50 <= len(split.test) <= 110
    assert split.proof["strata"]["without_test"] > 0


def test_numbers_are_stratified_by_their_deciles(workspace: Workspace) -> None:
    y = RNG.lognormal(size=4000)
    split = nb.split({"id": np.arange(4000), "y": y}, key="id", stratify="y")
    assert split.proof["strata"]["strata"] == 10
    assert np.quantile(y[split.test], 0.9) == pytest.approx(np.quantile(y[split.train], 0.9), rel=0.1)


def test_several_columns_and_missing_cells_are_strata(workspace: Workspace) -> None:
    frame = pd.DataFrame({"a": [None, "x", "y"] * 400, "b": [True, False] * 600, "id": range(1200)})
    proof = nb.split(frame, key="id", stratify=["a", "b"]).proof["strata"]
    assert proof["strata"] == 6
    assert "missing, True" in " ".join(proof["worst"]) or proof["strata"] == 6
    floats = pd.DataFrame({"y": np.where(np.arange(1200) % 3 == 0, np.nan, np.arange(1200.0)), "id": range(1200)})
    assert nb.split(floats, key="id", stratify="y").proof["strata"]["strata"] == 11


def test_no_group_is_cut(workspace: Workspace) -> None:
    split = nb.split(VISITS, group="patient", val=0.2)
    sides = VISITS.assign(side=split.side).groupby("patient").side.nunique()
    assert sides.max() == 1
    assert split.proof["groups_cut"] == 0
    assert split.record.method == "group: patient"


def test_groups_are_whole_and_strata_close(workspace: Workspace) -> None:
    split = nb.split(VISITS, group="patient", stratify="sick", test=0.2)
    assert VISITS.assign(side=split.side).groupby("patient").side.nunique().max() == 1
    for value in ("yes", "no"):
        own = (VISITS.sick == value).to_numpy()
        largest = VISITS[own].groupby("patient").size().max() / own.sum()
        assert abs(split.masks["test"][own].mean() - 0.2) <= largest


def test_groups_and_strata_may_be_given_as_arrays(workspace: Workspace) -> None:
    x = RNG.normal(size=(400, 3))
    split = nb.split(x, group=np.arange(400) // 4, stratify=np.arange(400) // 4 % 2)
    assert split.proof["groups_cut"] == 0
    assert split.record.settings["group"] == ["array: group"]
    names = [f"g{i // 4}" for i in range(400)]
    assert nb.split(x, group=names).proof["groups_cut"] == 0


def test_units_of_mixed_strata_count_for_the_commonest() -> None:
    spread = np.array([5, 5, 5, 9, 9, 7], np.uint64)
    strata = Strata(np.array([0, 1, 1, 0, 0, 0]), ["a", "b"], np.array([0.5, 0.5]))
    codes = by_rank(spread, strata, test=0.5, val=0.0)
    assert codes[0] == codes[1] == codes[2]
    assert codes[3] == codes[4]
    assert folds_by_rank(spread, strata, 3)[0] == folds_by_rank(spread, strata, 3)[1]


# ---- time


def test_test_is_later_than_val_and_val_than_train(workspace: Workspace) -> None:
    split = nb.split(VISITS, time="day", val=0.1)
    day = VISITS.day.to_numpy()
    assert day[split.train].max() < day[split.val].min()
    assert day[split.val].max() < day[split.test].min()
    assert split.proof["time"]["overlap"] == 0
    assert len(split.test) == pytest.approx(600, abs=30)


def test_a_gap_leaves_rows_out(workspace: Workspace) -> None:
    day = VISITS.day.to_numpy()
    for gap in ("7d", dt.timedelta(days=7), np.timedelta64(7, "D"), "168h", "1w"):
        split = nb.split(VISITS, time="day", gap=gap)
        assert day[split.test].min() - day[split.train].max() > np.timedelta64(7, "D")
        assert split.sizes["left out"] > 0
        assert sum(split.sizes.values()) == 3000
    assert (split.side == "left out").sum() == split.sizes["left out"]


def test_rows_whose_label_is_known_too_late_are_left_out(workspace: Workspace) -> None:
    frame = VISITS.assign(known=VISITS.day + pd.Timedelta(days=5))
    split = nb.split(frame, time=("day", "known"), test="2026-05-01", val=0.1)
    assert frame.known.iloc[split.train].max() < frame.day.iloc[split.val].min()
    assert frame.known.iloc[split.val].max() < pd.Timestamp("2026-05-01")
    assert frame.day.iloc[split.test].min() == pd.Timestamp("2026-05-01")
    assert split.proof["time"]["overlap"] == 0


def test_a_moment_is_a_cut_that_new_rows_do_not_move(workspace: Workspace) -> None:
    later = pd.concat([VISITS, VISITS.assign(day=VISITS.day + pd.Timedelta(days=200))])
    assert set(nb.split(VISITS, time="day", test="2026-06-01").train) == set(
        nb.split(later, time="day", test="2026-06-01").train
    )
    numbers = {"t": np.arange(100.0), "x": np.arange(100)}
    assert nb.split(numbers, time="t", test=80, val=70, gap=2).sizes == {
        "train": 68,
        "val": 8,
        "test": 20,
        "left out": 4,
    }
    assert len(nb.split(numbers, time="t", test=0.25).test) == 25


def test_folds_go_forward_in_time(workspace: Workspace) -> None:
    split = nb.split(VISITS, time="day", folds=4, gap="3d")
    day = VISITS.day.to_numpy()
    assert len(split.folds) == 4
    for learn, judge in split.folds:
        assert day[judge].min() - day[learn].max() > np.timedelta64(3, "D")
        assert set(learn) | set(judge) <= set(split.train)


# ---- folds


@pytest.mark.parametrize(
    "options", [{}, {"key": "id"}, {"stratify": "y"}, {"group": "g"}, {"group": "g", "stratify": "y"}], ids=str
)
def test_folds_part_train_and_nothing_else(workspace: Workspace, options: dict[str, Any]) -> None:
    frame = {"id": np.arange(1000), "y": np.arange(1000) // 5 % 3, "g": np.arange(1000) // 5}
    split = nb.split(frame, folds=5, **options)
    judged = [judge for _, judge in split.folds]
    assert sorted(np.concatenate(judged)) == split.train.tolist()
    assert all(not set(learn) & set(judge) for learn, judge in split.folds)
    assert all(len(judge) > 80 for judge in judged)
    if "group" in options:
        assert all(not set(frame["g"][learn]) & set(frame["g"][judge]) for learn, judge in split.folds)
    assert repr(split.folds) == "<5 folds>"
    assert len(split.folds[1:3]) == 2


def test_a_row_keeps_its_fold_whatever_the_size_of_test(workspace: Workspace) -> None:
    frame = {"id": np.arange(500)}
    small, large = (nb.split(frame, key="id", test=size, folds=3) for size in (0.1, 0.5))
    for (_, a), (_, b) in zip(small.folds, large.folds, strict=True):
        assert set(b) <= set(a)


def test_folds_serve_scikit_learn(workspace: Workspace, digits: Digits) -> None:
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import cross_val_score

    split = nb.split(digits, stratify="y", folds=3, test=0)
    assert len(cross_val_score(RidgeClassifier(), *digits, cv=split.folds)) == 3


# ---- parts


def test_parts_have_the_type_of_the_data(workspace: Workspace) -> None:
    import torch

    table = {"id": list(range(100)), "t": [str(i) for i in range(100)]}
    split = nb.split(table, key="id", test=0.3)
    wanted = [table["id"][i] for i in split.test]
    for data in (pd.DataFrame(table), pl.DataFrame(table), pa.table(table), pl.DataFrame(table).lazy()):
        parts = split.take(data)
        kind = pl.DataFrame if isinstance(data, pl.LazyFrame) else type(data)
        assert type(parts.test) is kind
        assert list(np.asarray(parts.test["id"])) == wanted
    assert split.take(table).test["id"] == wanted
    assert split.take(np.arange(100)).test.tolist() == wanted
    assert split.take(torch.arange(100)).test.tolist() == wanted
    assert list(split.take(pd.Series(range(100))).test) == wanted
    x_part, y_part = split.take((np.arange(100), list(range(100)))).test
    assert x_part.tolist() == y_part == wanted
    train, test = split.take(np.arange(100))
    assert len(train) + len(test) == 100
    assert len(split.take(np.arange(100))) == 2


def test_parts_of_val_and_of_no_test(workspace: Workspace) -> None:
    train, val, test = nb.split(np.arange(200), val=0.2).take(np.arange(200))
    assert sorted([*train, *val, *test]) == list(range(200))
    assert nb.split(np.arange(200), test=0, val=0.3).take(np.arange(200)).test is None


def test_data_of_another_length_or_sort_is_refused(workspace: Workspace) -> None:
    split = nb.split(np.arange(10), name="ten")
    with pytest.raises(InvalidInput, match="split 'ten' is of 10 rows, the data has 11\nSplit this data"):
        split.take(np.arange(11))
    with pytest.raises(InvalidInput, match="cannot take rows out of object"):
        split.take(object())
    with pytest.raises(InvalidInput, match="split 'ten' has no folds\nMake them with"):
        _ = split.folds


# ---- the record


def test_the_split_is_recorded_once_and_linked(workspace: Workspace) -> None:
    dataset = nb.snapshot(VISITS, "visits")
    split = nb.split(VISITS, group="patient", salt="a")
    assert split.name == "visits/1"
    assert nb.split(pl.from_pandas(VISITS), group="patient", salt="a").id == split.id
    assert nb.split(VISITS.sample(frac=1, random_state=2), group="patient", salt="a", name="visits/1").id == split.id
    assert nb.split(VISITS, group="patient").id != split.id
    stored = workspace.store.get(SplitRecord, split.id)
    assert stored == split.record
    assert stored.settings == {"group": ["patient"], "test": 0.2, "salt": "a", "folds": 0}
    assert set(stored.digests) == {"train", "test"}
    with inside_run("run_1"):
        split.take(VISITS)
    with nb.run("fit", data=split) as run, nb.run("other", data=[dataset, split]) as other:
        pass
    links = set(workspace.store.links(split.id))
    for used_by in (run.id, other.id):
        assert Link(source=split.id, relation="used_by", target=used_by) in links
    assert Link(source=dataset.id, relation="split_into", target=split.id) in links
    assert Link(source=split.id, relation="used_by", target="run_1") in links
    assert [record.id for record in nb.find("splits", 'name == "visits/1"')][-1] == split.id


def test_a_stored_dataset_can_be_split_by_name(workspace: Workspace, digits: Digits) -> None:
    dataset = nb.snapshot(digits, "digits")
    split = nb.split("digits", stratify="y")
    assert (split.record.dataset, split.name) == (dataset.id, "digits/1")
    assert nb.split(dataset, stratify="y").id == split.id == nb.split(digits, stratify="y").id
    assert len(split.take("digits/1").test["y"]) == len(split.test)
    with pytest.raises(NotFound, match="no dataset 'digit'"):
        nb.split("digit")


def test_equal_rows_on_two_sides_are_counted(workspace: Workspace) -> None:
    frame = pd.DataFrame({"id": range(1000), "x": np.arange(1000) % 250})
    assert nb.split(frame, key="id").proof["duplicates_across"] == 0  # the id is part of the row
    twice = pd.DataFrame({"x": np.arange(1000) % 250, "day": 1})
    found = nb.split(twice, key=np.arange(1000)).proof["duplicates_across"]  # type: ignore[call-overload]
    split = nb.split(twice, key=np.arange(1000))
    shared = set(twice.x.iloc[split.train]) & set(twice.x.iloc[split.test])
    assert found == twice.x.iloc[split.test].isin(shared).sum() > 0


def test_rows_that_moved_since_the_last_split_are_told(workspace: Workspace) -> None:
    frame = {"id": np.arange(4000), "y": np.arange(4000) % 2}
    nb.split(frame, key="id", stratify="y", name="n")
    grown = {"id": np.arange(4400), "y": np.append(frame["y"], np.zeros(400, int))}
    since = nb.split(grown, key="id", stratify="y", name="n").proof["since"]
    assert since["known"] > 400
    assert since["moved"] <= 0.02 * since["known"]
    other = nb.split(grown, key="id", name="n", salt="other").proof["since"]
    assert other["moved"] > 0.2 * other["known"]


def test_versions_of_one_dataset_are_compared_and_unnamed_data_is_not(workspace: Workspace) -> None:
    frame = pd.DataFrame({"id": range(2000), "x": 1})
    nb.snapshot(frame, "people")
    nb.split(frame, key="id")
    corrected = frame.assign(x=2)
    nb.snapshot(corrected, "people")
    since = nb.split(corrected, key="id", test=0.3).proof["since"]
    assert since["known"] == 512
    assert 0 < since["moved"] < 256
    nb.split({"id": range(2000)}, key="id")
    assert "since" not in nb.split({"id": range(2000)}, key="id", test=0.3).proof


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"test": 1.5}, "test is 1.5\nPass a share of the rows from 0 to below 1."),
        ({"val": True}, "val is True"),
        ({"val": "2026-01-01"}, "val is '2026-01-01'"),
        ({"test": 0.6, "val": 0.4}, "test and val take 1 of the rows\nLeave a share for train"),
        ({"test": 0}, "test, val and folds are all zero"),
        ({"folds": 1}, "folds is 1\nPass a whole number from 2"),
        ({"folds": 2.5}, "folds is 2.5"),
        ({"test": 0, "folds": 3, "seal": True}, "there is no test set to seal"),
        ({"salt": 3}, "salt is 3\nPass text"),
        ({"gap": "7d"}, "gap needs time"),
        ({"time": "day", "stratify": "sick"}, "time and stratify cannot both decide"),
        ({"time": "day", "salt": "x"}, "time and salt cannot both decide"),
        ({"time": "day", "test": 0, "val": 0.1}, "a split in time needs a test set"),
        ({"time": "day", "test": None}, "test is None\nPass a share of the rows from 0 to below 1 or a moment."),
        ({"key": "age", "group": "patient"}, "key and group cannot both decide\nPass only group"),
        ({"stratify": []}, "stratify names no column"),
        ({"group": np.arange(5)}, "group has 5 rows, the data 3,000"),
        ({"stratify": "day_text"}, "cannot stratify by 'day_text': it has 3,000 values"),
        ({"group": "gaps"}, "group column 'gaps' has 1,500 missing cells"),
        ({"time": "gaps"}, "time column 'gaps' has 1,500 missing cells"),
        ({"time": "sick"}, "time column 'sick' is text"),
        ({"time": ["day", "age"]}, "time columns 'day' and 'age' are of different sorts"),
        ({"time": ["day", "day", "day"]}, "time names 3 columns\nName one column, or begin and end"),
        ({"time": ["later", "day"]}, "rows end before they begin"),
        ({"time": "day", "gap": "soon"}, "gap is 'soon'\nPass a duration"),
        ({"time": "day", "gap": -1}, "gap is -1"),
        ({"time": "age", "gap": "7d"}, "Pass a number, as the times are"),
        ({"time": "day", "gap": "300d"}, "no row is left for train: the times go from 2026-01-01"),
        ({"time": "day", "test": "someday"}, "'someday' is no moment\nPass text such as"),
        ({"time": "day", "test": 3}, "3 is no moment"),
        ({"time": "age", "test": "2026-01-01"}, "'2026-01-01' is no moment: the times are numbers"),
        ({"time": "age", "folds": 90}, "the times do not divide into 90 folds"),
        ({"time": "day", "folds": 50, "gap": "20d"}, "fold 0 has nothing to learn from before its gap"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(workspace: Workspace, options: dict[str, Any], says: str) -> None:
    frame = VISITS.assign(
        day_text=[f"d{i}" for i in range(3000)], gaps=[None, 1.0] * 1500, later=VISITS.day + pd.Timedelta(days=1)
    )
    with pytest.raises(InvalidInput) as caught:
        nb.split(frame, **options)
    assert says in str(caught.value)
    assert workspace.store.count(SplitRecord) == 0


def test_unknown_columns_empty_data_and_images_are_refused(workspace: Workspace) -> None:
    with pytest.raises(NotFound, match="no column 'patent'\nDid you mean 'patient'"):
        nb.split(VISITS, group="patent")
    with pytest.raises(InvalidInput, match="the data has no rows"):
        nb.split({"a": []})
    with pytest.raises(InvalidInput, match="cannot stratify by 'image': it is tensor"):
        nb.split({"image": np.zeros((5, 2, 2)), "y": np.arange(5)}, stratify="image")


def test_images_and_pairs_can_be_split(workspace: Workspace, digits: Digits) -> None:
    images = digits[0].reshape(-1, 8, 8)
    split = nb.split((images, digits[1]), stratify="y")
    train, test = split.take((images, digits[1]))
    assert train[0].shape[1:] == (8, 8)
    assert split.proof["strata"]["deviation"] < 0.005
    assert split.proof["duplicates_across"] == 0
    assert len(test[1]) == len(split.test)


# ---- the arithmetic beneath


@given(a=st.lists(st.integers(0, 50), max_size=60), b=st.lists(st.integers(0, 50), max_size=60))
def test_found_in_agrees_with_sets(a: list[int], b: list[int]) -> None:
    one, other = (spread_of(np.array(side, np.uint64)) for side in (a, b))
    assert found_in(one, other).tolist() == [value in set(b) for value in a]


def test_samples_are_the_smallest_and_survive_as_text() -> None:
    identity = np.arange(600_000, dtype=np.uint64)
    spread, codes = spread_of(identity), np.where(identity % 3 == 0, TEST, TRAIN).astype(np.uint8)
    brief = summarised(identity, identity, codes)
    assert (from_hex(brief.sample["test"]) == np.sort(spread[codes == TEST])[:256]).all()
    assert to_hex(from_hex(brief.sample["train"])) == brief.sample["train"]
    assert brief.sizes == {"train": 400_000, "val": 0, "test": 200_000, "left out": 0}
    assert len(from_hex(summarised(identity[:10], identity[:10], codes[:10]).sample["test"])) == 4
    assert moved(brief.sample, identity, codes) == (512, 0)
    assert moved(brief.sample, identity, np.full_like(codes, TRAIN)) == (512, 256)


def test_digests_of_sides_do_not_know_order_and_know_repeats() -> None:
    rows, codes = np.array([5, 6, 7, 7], np.uint64), np.zeros(4, np.uint8)
    digest = summarised(rows, rows, codes).digests["train"]
    assert summarised(rows[::-1], rows[::-1], codes).digests["train"] == digest
    assert summarised(rows[:3], rows[:3], codes[:3]).digests["train"] != digest
    other = np.array([5, 6, 8, 8], np.uint64)
    assert summarised(other, other, codes).digests["train"] != digest
