"""`nb.drift` finds what changed in each sort of column, says it in words, and records it."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nbops as nb
from nbops.core.codec import decode, encode
from nbops.core.errors import CheckFailed, InvalidInput, NotFound
from nbops.core.records import CheckReport, Dataset, Link, Verdict, replace
from nbops.data.drifting.comparing import compare
from nbops.data.drifting.counting import Tally, tally, tally_profile
from nbops.data.drifting.judging import ALPHA, LIMITS, judge
from nbops.data.frames import read
from nbops.data.profiling import profile_frame
from nbops.store.context import inside_run
from nbops.store.workspace import Workspace

RANDOM = np.random.default_rng(11)
N = 4000
COLOURS = np.array(["red", "green", "blue"])
WORDS = np.array([f"word {i} of a text" for i in range(3000)])


def made(seed: int, rows: int = N) -> dict[str, Any]:
    """Return a table with a column of each sort."""
    random = np.random.default_rng(seed)
    price = random.lognormal(3, 1, rows)
    return {
        "price": price,
        "age": random.integers(18, 90, rows),
        "rooms": random.integers(1, 6, rows),
        "colour": COLOURS[random.choice(3, rows, p=[0.5, 0.3, 0.2])].tolist(),
        "note": WORDS[random.integers(0, 3000, rows)].tolist(),
        "is_new": random.random(rows) < 0.3,
        "born": np.datetime64("1950-01-01") + random.integers(0, 20_000, rows).astype("timedelta64[D]"),
        "cost": [Decimal(int(cents)) / 100 for cents in random.lognormal(6, 1, rows)],
        "took": (random.exponential(60, rows) * 1e6).astype("timedelta64[us]"),
        "weight": np.where(random.random(rows) < 0.05, np.nan, price * 2),
    }


REFERENCE = made(1)


def changed(**columns: Any) -> dict[str, Any]:
    return {**made(2), **columns}


def test_another_sample_of_the_same_data_has_not_drifted(workspace: Workspace) -> None:
    report = nb.drift(REFERENCE, made(2))
    assert (report.drifted, report.status, report.passed) == ([], Verdict.PASS, True)
    assert list(report.columns) == list(REFERENCE)
    assert {column.verdict for column in report.columns.values()} == {"stable"}


OTHER = made(2)
CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "numbers move": ({"price": OTHER["price"] * 1.25}, "values are higher: "),
    "numbers sink": ({"price": OTHER["price"] * 0.75}, "values are lower: "),
    "numbers spread": ({"price": np.exp((np.log(OTHER["price"]) - 3) * 1.3 + 3)}, "further apart"),
    "whole numbers move": ({"age": OTHER["age"] + 4}, "values are higher"),
    "one of few values": ({"rooms": np.where(OTHER["rooms"] == 5, 2, OTHER["rooms"])}, "before"),
    "categories": ({"colour": COLOURS[RANDOM.choice(3, N, p=[0.4, 0.3, 0.3])].tolist()}, "'red' is 4"),
    "a new category": ({"colour": ["pink"] * 40 + OTHER["colour"][40:]}, "'pink' is new: 1 % of the values"),
    "longer texts": ({"note": [text + " again" for text in OTHER["note"]]}, "texts are longer"),
    "one text again and again": ({"note": ["n/a"] * 200 + OTHER["note"][200:]}, "'n/a' is 5 % of the texts"),
    "one long text": ({"note": ["long " * 200] * 200 + OTHER["note"][200:]}, "texts are longer"),
    "flags": ({"is_new": ~OTHER["is_new"]}, "before"),
    "decimals": ({"cost": [cost * 2 for cost in OTHER["cost"]]}, "values are higher"),
    "dates": ({"born": OTHER["born"] + np.timedelta64(1500, "D")}, "values are higher"),
    "durations": ({"took": OTHER["took"] * 2}, "values are higher"),
    "gaps": ({"price": np.where(RANDOM.random(N) < 0.02, np.nan, OTHER["price"])}, "are missing, 0 % before"),
    "filled gaps": ({"weight": np.nan_to_num(OTHER["weight"], nan=40.0)}, "0 % are missing, "),
    "infinite": ({"price": np.where(np.arange(N) < 40, np.inf, OTHER["price"])}, "1 % are infinite, 0 % before"),
    "another type": ({"age": [str(age) for age in OTHER["age"]]}, "was int64, is now text"),
    "all gone": ({"age": [None] * N}, "100 % are missing, 0 % before"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_each_change_is_found_in_its_column_alone_and_said(case: str, workspace: Workspace) -> None:
    columns, says = CHANGES[case]
    report = nb.drift(REFERENCE, changed(**columns))
    assert report.drifted == list(columns)
    column = report.columns[next(iter(columns))]
    assert says in column.why
    assert len(column.why) < 300
    assert (column.is_drifted, report.status) == (True, Verdict.FAIL)
    low, high = column.interval
    assert 0 <= low <= column.effect <= high <= 1


def test_columns_come_and_go(workspace: Workspace) -> None:
    current = made(2)
    current["colour2"] = current.pop("colour")
    report = nb.drift(REFERENCE, current)
    assert report.drifted == ["colour"]
    assert [report.columns[name].verdict for name in ("colour", "colour2")] == ["gone", "new"]
    added = nb.drift(REFERENCE, {**made(2), "more": np.arange(N)})
    assert (added.drifted, added.status, added.passed) == ([], Verdict.WARN, True)


@pytest.mark.parametrize("sort", ["days", "ids"])
def test_times_and_ids_that_go_on_are_not_judged(sort: str, workspace: Workspace) -> None:
    start = np.arange(N) if sort == "ids" else np.datetime64("2024-01-01") + np.arange(N) % 90
    later = start + (N if sort == "ids" else 90)
    report = nb.drift({"t": start, "x": RANDOM.normal(size=N)}, {"t": later, "x": RANDOM.normal(size=N)})
    assert (report.columns["t"].verdict, report.drifted) == ("later", [])
    assert "goes on where the reference ended" in report.columns["t"].why
    gaps = np.where(np.arange(N) < 400, np.datetime64("NaT"), later) if sort == "days" else later
    again = nb.drift({"t": start}, {"t": gaps})
    assert again.drifted == (["t"] if sort == "days" else [])


def test_a_large_shift_of_whole_numbers_that_happen_to_be_unique_is_drift(workspace: Workspace) -> None:
    salary = RANDOM.permutation(5_000_000)[:200]
    assert nb.drift({"salary": salary}, {"salary": salary + 6_000_000}).drifted == ["salary"]


@pytest.mark.parametrize("shape", [(8, 8), (300, 300)])
def test_cells_of_tensors_are_compared_but_rows_are_what_counts(shape: tuple[int, ...], workspace: Workspace) -> None:
    rows = 60
    light = RANDOM.normal(size=(2 * rows, 1, 1))  # each image has a brightness of its own: cells are not independent
    images = light + 0.1 * RANDOM.normal(size=(2 * rows, *shape))
    before, now = {"image": images[:rows]}, images[rows:]
    assert nb.drift(before, {"image": now}).drifted == []
    report = nb.drift(before, {"image": now + 2.0})
    assert report.drifted == ["image"]
    assert nb.drift(before, {"image": now[:, :4]}).columns["image"].verdict == "retyped"


def test_positions_of_an_array_are_columns(workspace: Workspace, digits: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = digits
    order = np.random.default_rng(0).permutation(len(images))
    a, b = order[:900], order[900:]
    report = nb.drift((images[a], labels[a]), (images[b], labels[b]))
    assert (report.drifted, len(report.columns), report.label) == ([], 65, "y")
    flipped = nb.drift((images[a], labels[a]), (images[b][:, ::-1], labels[b]))
    assert len(flipped.drifted) > 30
    assert "y" not in flipped.drifted


def test_the_share_of_classes_is_compared(workspace: Workspace) -> None:
    labels = RANDOM.integers(0, 10, 3000)
    x = RANDOM.normal(size=(3000, 3))
    report = nb.drift((x, labels), (x, np.where(labels == 7, 1, labels)))
    assert report.drifted == ["y"]
    assert report.columns["y"].effect == pytest.approx(0.1, abs=0.02)


# ---- what is compared ------------------------------------------------------------------------------------------------


def test_a_reference_is_a_name_a_version_a_dataset_or_a_profile(workspace: Workspace) -> None:
    dataset = nb.snapshot(REFERENCE, "homes")
    now = changed(price=OTHER["price"] * 1.2)
    found = [nb.drift(which, now).columns for which in ("homes", "homes/1", dataset, REFERENCE)]
    stored = decode(encode(profile_frame(read(REFERENCE))), dict)
    found.append(nb.drift(stored, now).columns)
    assert all(columns == found[0] for columns in found)


def test_the_report_is_the_same_from_every_frame(workspace: Workspace) -> None:
    table = pa.table({name: pa.array(values) for name, values in OTHER.items()})
    found = [nb.drift(REFERENCE, frame).columns for frame in (table, pl.from_arrow(table), table.slice(0, 1000))]
    assert found[0] == found[1] != found[2]
    shuffled = table.take(np.random.default_rng(3).permutation(N))
    assert nb.drift(REFERENCE, shuffled).columns == found[0]


def test_threads_do_not_change_the_answer(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbops.data.drifting import running

    alone = nb.drift(REFERENCE, OTHER).columns
    monkeypatch.setattr(running, "_THREADED_CELLS", 0)
    assert nb.drift(REFERENCE, OTHER).columns == alone


def test_numbers_of_another_width_are_the_same_numbers(workspace: Workspace) -> None:
    tenths = RANDOM.integers(0, 9, N) / 10
    assert nb.drift({"x": tenths}, {"x": tenths.astype(np.float32)}).columns["x"].effect == 0.0
    assert nb.drift({"x": tenths.astype(np.float32)}, {"x": tenths}).columns["x"].effect == 0.0
    whole = RANDOM.integers(0, 100, N)
    assert nb.drift({"x": whole}, {"x": whole.astype(np.float64)}).columns["x"].effect == 0.0


def test_two_profiles_are_compared_as_far_as_they_tell(workspace: Workspace) -> None:
    def profile(table: Any) -> dict[str, Any]:
        return profile_frame(read(table))

    same = nb.drift(profile(REFERENCE), profile(made(2)))
    assert same.drifted == []
    assert "approximate" in same.notes[0]
    moved = changed(price=OTHER["price"] * 1.5, colour=["pink"] * 200 + OTHER["colour"][200:], note=["n/a"] * N)
    assert sorted(nb.drift(profile(REFERENCE), profile(moved)).drifted) == ["colour", "note", "price"]
    for seed in range(3, 8):
        assert nb.drift(profile(REFERENCE), profile(made(seed))).drifted == []
    cubes = {"x": RANDOM.normal(size=(50, 4, 5000))}
    assert nb.drift(profile(cubes), profile(cubes)).columns["x"].effect == 0.0
    assert nb.drift(profile({"x": [1, 2]}), profile({"x": ["a", "b"]})).columns["x"].verdict == "retyped"


def test_a_dataset_too_large_to_keep_is_compared_by_its_profile(workspace: Workspace) -> None:
    dataset = nb.snapshot(made(2), "now")
    profile = profile_frame(read(made(2)))
    slim = replace(dataset, tags={"stored": "too large"}, profile=profile)
    workspace.store.put(slim)
    assert "approximate" in nb.drift(REFERENCE, "now").notes[0]
    for by, says in ((500, "by"), (None, "multivariate=True")):
        with pytest.raises((InvalidInput, NotFound), match=r"is not stored|needs the rows"):
            nb.drift(REFERENCE, "now", by=by, multivariate=by is None)
        with pytest.raises(InvalidInput, match=f"{says} needs the rows of the current data, not only its profile"):
            nb.drift(REFERENCE, profile, by=by, multivariate=by is None)
    with pytest.raises(InvalidInput, match="needs the rows of the reference"):
        nb.drift(profile, OTHER, multivariate=True)


@pytest.mark.parametrize("column", ["price", "note"])
def test_a_profile_without_bins_is_no_reference(column: str, workspace: Workspace) -> None:
    old = profile_frame(read({column: REFERENCE[column]}))
    for key in ("edges", "counts", "lengths", "top"):
        old["columns"][column].pop(key, None)
    with pytest.raises(InvalidInput, match="the reference profile has no bins.*\nMake it again"):
        nb.drift(old, OTHER)
    with pytest.raises(InvalidInput, match="the current profile has no bins"):
        nb.drift(REFERENCE, old)
    dataset = nb.snapshot({column: REFERENCE[column]}, "old")
    workspace.store.put(replace(dataset, profile=old))
    assert nb.drift("old", {column: OTHER[column]}).drifted == []  # its data is there
    workspace.store.put(replace(dataset, profile=old, tags={"stored": "too large"}))
    with pytest.raises(InvalidInput, match="dataset 'old/1' cannot be a reference: its profile has no bins"):
        nb.drift("old", OTHER)


def test_columns_and_label_choose(workspace: Workspace) -> None:
    now = changed(price=OTHER["price"] * 2, age=OTHER["age"] + 30)
    assert nb.drift(REFERENCE, now, columns="age").drifted == ["age"]
    assert list(nb.drift(REFERENCE, now, columns=["price", "rooms"]).columns) == ["price", "rooms"]
    assert nb.drift(REFERENCE, now, label="rooms").label == "rooms"
    with pytest.raises(NotFound, match="no column 'pric'\nDid you mean 'price'"):
        nb.drift(REFERENCE, now, columns=["pric"])
    with pytest.raises(NotFound, match="no column 'room'"):
        nb.drift(REFERENCE, now, label="room")
    with pytest.raises(NotFound, match="no column 'prize'\nDid you mean 'price'"):
        nb.drift(REFERENCE, now).columns["prize"]
    with pytest.raises(InvalidInput, match="columns is empty"):
        nb.drift(REFERENCE, now, columns=[])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"on_drift": "stop"}, "on_drift is 'stop'\nUse \"report\""),
        ({"limits": {"distributon": 0.1}}, "no limit 'distributon'\nDid you mean 'distribution'"),
        ({"limits": {"missing": 5}}, "the limit 'missing' is 5\nUse a share"),
        ({"alpha": 5}, "alpha is 5\n"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], says: str, workspace: Workspace) -> None:
    with pytest.raises(InvalidInput, match=says):
        nb.drift(REFERENCE, OTHER, **arguments)
    assert workspace.store.count(CheckReport) == 0


@pytest.mark.parametrize("empty", [{"a": np.zeros(0)}, pd.DataFrame()], ids=["no rows", "no columns"])
def test_nothing_cannot_be_compared(empty: Any, workspace: Workspace) -> None:
    with pytest.raises(InvalidInput, match="the reference has no"):
        nb.drift(empty, {"a": [1.0]})
    with pytest.raises(InvalidInput, match="the current data has no"):
        nb.drift({"a": [1.0]}, empty)


@pytest.mark.parametrize(
    "values", [[1.0], [None, None], [math.nan], [math.inf, 1.0], ["a", 1, None], [b"x", b"y"], [[1], [2, 3]], [True]],
    ids=str,
)  # fmt: skip
def test_odd_columns_give_an_answer(values: list[Any], workspace: Workspace) -> None:
    frame = pd.DataFrame({"a": pd.Series(values, dtype=object)})
    assert nb.drift(frame, frame).drifted == []


_CELLS = st.one_of(
    st.lists(st.floats(width=64), min_size=1, max_size=90),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=90),
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=90),
    st.lists(st.text(max_size=100), min_size=1, max_size=250),
    st.lists(st.one_of(st.none(), st.booleans(), st.text(max_size=3)), min_size=1, max_size=50),
    st.lists(st.dates(), min_size=1, max_size=50),
)


@settings(max_examples=150)
@given(before=_CELLS, now=_CELLS)
def test_any_two_columns_can_be_compared_shown_and_stored(before: list[Any], now: list[Any]) -> None:
    told, frame = profile_frame(read({"a": before})), read({"a": now})
    column = told["columns"]["a"]
    for counted in (tally(frame.column("a"), column), _of_profile(now, column)):
        (found,) = judge([compare("a", column, len(before), counted, LIMITS)], alpha=ALPHA)
        assert all(0 <= share <= 1 for share in (found.p, found.q, found.effect, *found.interval))
        assert all(math.isfinite(value) for value in found.statistics.values())
        assert str(found)
        assert found.verdict != "gone"


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (np.linspace(-1.7, 1.7, 500) * 1e308, np.linspace(1.6, 1.7, 300) * 1e308),
        (np.linspace(1, 2, 500) * 1e-320, np.linspace(1, 2, 300) * 1e300),
        (np.linspace(1, 2, 500).astype(np.float16), np.linspace(1, 2, 300) * 1e300),
        (RANDOM.integers(2**63, 2**64 - 1, 500, dtype=np.uint64), RANDOM.integers(0, 2**62, 300)),
        (RANDOM.integers(0, 2**62, 500), RANDOM.integers(2**63, 2**64 - 1, 300, dtype=np.uint64)),
    ],
)
def test_numbers_at_the_ends_of_their_types_are_compared(before: Any, now: Any, workspace: Workspace) -> None:
    report = nb.drift({"a": before}, {"a": now})
    assert report.drifted == ["a"]
    assert str(report.columns["a"])
    assert nb.drift({"a": before}, {"a": before}).drifted == []


def _of_profile(cells: list[Any], column: Any) -> Tally:
    told = profile_frame(read({"a": cells}))
    return tally_profile(told["columns"]["a"], told["rows"], column)


def test_mixed_columns_are_compared_by_their_types(workspace: Workspace) -> None:
    before = pd.DataFrame({"a": pd.Series([1, "x"] * 300, dtype=object)})
    now = pd.DataFrame({"a": pd.Series([1, "x", "x"] * 200, dtype=object)})
    assert nb.drift(before, before).drifted == []
    assert nb.drift(before, now).drifted == ["a"]


# ---- limits, records, gates ------------------------------------------------------------------------------------------


def test_an_effect_below_the_limit_is_no_drift_however_sure(workspace: Workspace) -> None:
    now = changed(price=OTHER["price"] * 1.25)
    assert nb.drift(REFERENCE, now).drifted == ["price"]
    lenient = nb.drift(REFERENCE, now, limits={"distribution": 0.2})
    assert lenient.drifted == []
    assert lenient.columns["price"].why == "differs, but by less than matters"
    assert lenient.columns["price"].q < 1e-6


def test_a_large_effect_in_few_rows_is_no_drift(workspace: Workspace) -> None:
    report = nb.drift(REFERENCE, {name: values[:3] for name, values in OTHER.items()})
    assert report.drifted == []
    assert any(column.effect > 0.3 for column in report.columns.values())
    assert "no larger than chance" in {column.why for column in report.columns.values()}


def test_the_report_is_recorded_linked_and_found(workspace: Workspace) -> None:
    before, now = nb.snapshot(REFERENCE, "before"), nb.snapshot(OTHER, "now")
    with inside_run("run_1"):
        report = nb.drift("before/1", OTHER)
    stored = workspace.store.get(CheckReport, report.id)
    assert stored == report.report
    assert nb.find("checks")[0] == stored
    assert (stored.name, stored.dataset, stored.parent, stored.rows) == ("now/1 against before/1", now.id, "run_1", N)
    assert [(r.check, r.column) for r in stored.results] == [("drift", name) for name in REFERENCE]
    assert set(workspace.store.links(report.id)) == {
        Link(source=now.id, relation="checked_by", target=report.id),
        Link(source=before.id, relation="reference_of", target=report.id),
        Link(source="run_1", relation="produced", target=report.id),
    }
    result = stored.results[0]
    assert result.evidence["q"] == report.columns["price"].q
    assert {"ks", "psi", "jensen_shannon", "hellinger", "total_variation", "wasserstein_iqr"} <= set(result.evidence)


def test_data_that_is_no_snapshot_is_not_linked(workspace: Workspace) -> None:
    nb.snapshot(REFERENCE, "before")
    report = nb.drift(REFERENCE, made(2))
    assert report.report.dataset is None
    assert (report.reference, report.current) == ("before/1", "data")
    assert nb.drift(REFERENCE, made(2), name="nightly").report.name == "nightly"
    assert workspace.store.find(Dataset)[0].name == "before"


def test_a_gate_stops_after_recording(workspace: Workspace) -> None:
    now = changed(price=OTHER["price"] * 3, age=OTHER["age"] + 4)
    with pytest.raises(CheckFailed, match=r"column 'price' drifted: values are higher.* \(and 1 more\)\nLook at"):
        nb.drift(REFERENCE, now, on_drift="raise")
    assert nb.find("checks")[0].status == Verdict.FAIL
    assert nb.drift(REFERENCE, OTHER, on_drift="raise").passed


def test_a_report_is_a_table(workspace: Workspace) -> None:
    report = nb.drift(REFERENCE, changed(price=OTHER["price"] * 2))
    table = report.to_pandas()
    assert list(table.index) == list(REFERENCE)
    assert table.loc["price", "verdict"] == "drift"
    assert table.loc["price", "effect"] == report.columns["price"].effect
    assert {"q", "low", "high", "ks", "psi", "why"} <= set(table.columns)


def test_a_table_needs_pandas(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    report = nb.drift({"a": [1.0, 2.0]}, {"a": [1.0, 2.0]})
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(nb.NbopsError, match="pandas is not installed"):
        report.to_pandas()
