"""Each shipped check on a sick and on a healthy table, and on what it does not apply to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nbops as nb
from nbops.core.records import CheckResult
from nbops.data.checks.mixed_types import reads_as_number
from nbops.data.frames import read
from nbops.data.leaf import Sample, percent
from nbops.data.profiling import profile_frame


def run(check: str, data: Any, *, label: Any = None, baseline: Any = None, **thresholds: Any) -> list[CheckResult]:
    """Return the results of one check, as the check gave them."""
    known = None if baseline is None else profile_frame(read(baseline))
    outcome = nb.checks[check](Sample(read(data, label=label), known), **thresholds)
    assert outcome is not None
    return [outcome] if isinstance(outcome, CheckResult) else list(outcome)  # type: ignore[arg-type]


def verdicts(*args: Any, **options: Any) -> dict[str, str]:
    return {found.column: found.verdict.value for found in run(*args, **options)}


# ---- missing-values


def test_missing_values_red() -> None:
    gaps = {"few": [None] + [1.0] * 49, "most": [None] * 49 + [1.0], "text": ["a"] * 49 + [None], "full": range(50)}
    found = {r.column: r for r in run("missing-values", pd.DataFrame(gaps))}
    assert {name: r.verdict for name, r in found.items()} == {
        "few": "warn", "most": "fail", "text": "warn", "full": "pass",
    }  # fmt: skip
    assert (found["few"].value, found["few"].limit, found["most"].limit) == (0.02, 0.01, 0.5)
    assert found["most"].message == "49 of 50 cells missing (98 %)"
    assert found["most"].fix
    assert verdicts("missing-values", gaps | {"full": [1] * 50}, max_share=0.02)["few"] == "pass"


def test_missing_values_green() -> None:
    assert verdicts("missing-values", {"a": [1.0, 2.0], "b": ["", "x"]}) == {"a": "pass", "b": "pass"}


def test_missing_labels_and_missing_rows_fail() -> None:
    table = {"a": [1.0] * 200, "y": [None, *([0] * 199)]}
    assert verdicts("missing-values", table, label="y", max_share=1.0) == {"a": "pass", "y": "fail"}
    (empty,) = run("missing-values", {"a": []})
    assert (empty.verdict, empty.message) == ("fail", "the table has no rows")


def test_missing_cells_of_images_are_counted() -> None:
    images = np.ones((10, 4, 4))
    images[0, 0, 0] = math.nan
    (found,) = run("missing-values", images, max_share=0.001)
    assert (found.verdict, found.value) == ("warn", 1 / 160)


# ---- constant-column


def test_constant_column_red() -> None:
    table = {"n": [1.5] * 3, "t": ["x"] * 3, "f": [True] * 3, "inf": [math.inf] * 3, "ok": [1, 2, 1]}
    found = {r.column: r for r in run("constant-column", table)}
    assert {name: r.verdict for name, r in found.items()} == dict.fromkeys(["n", "t", "f", "inf"], "warn") | {
        "ok": "pass"
    }
    assert found["t"].message == "all 3 rows hold the same value: x"
    blank = np.zeros((5, 8, 8), np.uint8)
    blank[:, 0, :4] = np.arange(5)[:, None]
    (found_array,) = run("constant-column", blank)
    assert (found_array.verdict, found_array.value) == ("warn", 60 / 64)


def test_constant_column_green() -> None:
    table = {
        "n": [1.5, 1.5, 1.6],
        "gap": [1.0, None, 1.0],
        "none": [None] * 3,
        "t": ["x", "x", "y"],
        "i": [math.inf, 0, 0],
    }
    assert set(verdicts("constant-column", table).values()) == {"pass"}
    rim = np.random.default_rng(0).normal(size=(20, 8))
    rim[:, 0] = 0
    (found,) = run("constant-column", rim)
    assert (found.verdict, found.evidence["names"]) == ("pass", ["0"])


def test_constant_column_does_not_judge_the_label_or_one_row() -> None:
    assert verdicts("constant-column", {"a": [1, 2], "y": [0, 0]}, label="y") == {"a": "pass"}
    assert verdicts("constant-column", {"a": [1]}) == {"": "skipped"}


def test_constant_column_of_large_tables_is_exact() -> None:
    almost = np.zeros(300_000)
    almost[-1] = 1e-300
    text = np.array(["x"] * 300_000, dtype=object)
    text[-1] = "y"
    table = {"a": almost, "b": np.zeros(300_000), "c": text, "d": ["z"] * 300_000}
    assert verdicts("constant-column", table) == {"a": "pass", "b": "warn", "c": "pass", "d": "warn"}


# ---- duplicate-rows


def test_duplicate_rows_red() -> None:
    table = pd.DataFrame({"a": [1, 2, 1, 1], "b": ["x", "y", "x", "x"], "c": [None, 0.0, None, None]})
    (found,) = run("duplicate-rows", table)
    assert (found.verdict, found.value) == ("warn", 0.5)
    assert found.evidence == {"repeated": 2, "rows": 4, "examples": [[0, 2, 3]]}
    (worse,) = run("duplicate-rows", pl.DataFrame({"a": [1] * 10}))
    assert worse.verdict == "fail"


def test_duplicate_rows_green() -> None:
    table = pd.DataFrame({"a": [1, 2, 1], "b": ["x", "x", "y"], "c": [None, None, None]})
    (found,) = run("duplicate-rows", table)
    assert (found.verdict, found.value, found.fix) == ("pass", 0.0, "")
    assert verdicts("duplicate-rows", {"a": [1]}) == {"": "skipped"}


def test_duplicate_rows_of_images() -> None:
    images = np.random.default_rng(0).integers(0, 255, (20, 3, 3), np.uint8)
    assert verdicts("duplicate-rows", images) == {"": "pass"}
    images[19] = images[0]
    assert run("duplicate-rows", images)[0].evidence["examples"] == [[0, 19]]


@given(
    st.lists(st.tuples(st.sampled_from([0, 1, None]), st.sampled_from(["", "a", "b", None])), min_size=2, max_size=40)
)
def test_duplicates_are_those_that_python_counts(rows: list[tuple[Any, Any]]) -> None:
    table = pl.DataFrame(rows, schema={"a": pl.Int64, "b": pl.String}, orient="row")
    (found,) = run("duplicate-rows", table)
    assert found.evidence["repeated"] == len(rows) - len(set(rows))


# ---- mixed-types


def test_mixed_types_red() -> None:
    objects = {"o": pd.Series([1, "x", 2.5, None], dtype=object)}
    (found,) = run("mixed-types", pd.DataFrame(objects))
    assert (found.verdict, found.evidence) == ("fail", {"kinds": {"number": 2, "text": 1}})
    assert found.message == "values are number (2), text (1)"
    texts = {"n": ["12", "1.5", "-3", "1e5"] * 5 + ["n/a"], "t": ["a", "b", "c", "d"] * 5 + ["12"]}
    n, t = run("mixed-types", pl.DataFrame(texts))
    assert (n.verdict, n.evidence["values"]) == ("warn", ["n/a"])
    assert n.message == "1 of 21 texts do not read as numbers (4.76 %): 'n/a'"
    assert (t.verdict, t.evidence["values"]) == ("warn", ["12"])
    assert verdicts("mixed-types", pl.DataFrame(texts), max_rare_share=0.04) == {"n": "pass", "t": "pass"}


def test_mixed_types_green() -> None:
    table = {
        "numbers": pd.Series([1, 2.5, None], dtype=object),
        "codes": ["A1", "12", "13"],
        "dates": ["2024-01-01", "2024-01-02", None],
        "phones": ["555-1234", "555-2345", "555-3456"],
        "real": [0.5, 1.5, None],
    }
    assert set(verdicts("mixed-types", pd.DataFrame(table)).values()) == {"pass"}


@given(st.lists(st.from_regex(r"[-+0-9.eE a]{0,8}", fullmatch=True), min_size=1, max_size=20))
def test_a_text_reads_as_a_number_when_a_decimal_does(texts: list[str]) -> None:
    def is_number(text: str) -> bool:
        try:
            return math.isfinite(float(text)) and text == text.strip()
        except (ValueError, OverflowError):
            return False

    column = read({"t": texts}).columns[0]
    assert column.offsets is not None
    told = reads_as_number(column.values, column.offsets).tolist()
    finite = [abs(float(t)) < 1e300 if is_number(t) else True for t in texts]
    assert [a for a, ok in zip(told, finite, strict=True) if ok] == [
        is_number(t) for t, ok in zip(texts, finite, strict=True) if ok
    ]


# ---- outside-baseline

BASE = pd.DataFrame({"age": [20, 30, 40, 60], "city": ["Bern", "Graz", "Bern", None], "score": [-1.0, 0.0, 1.0, None]})


def test_outside_baseline_red() -> None:
    new = pd.DataFrame({"age": [20, 300, -1, 64], "city": ["Bern", "Rom", "Graz", "Graz"], "extra": [1, 2, 3, 4]})
    found = {r.column: r for r in run("outside-baseline", new, baseline=BASE)}
    assert {name: r.verdict for name, r in found.items()} == {
        "age": "fail", "city": "fail", "extra": "warn", "score": "fail",
    }  # fmt: skip
    assert (found["age"].value, found["age"].evidence) == (
        0.5,
        {"outside": 2, "low": 16.0, "high": 64.0, "rows": [1, 2]},
    )
    assert found["city"].evidence == {"unseen": {"Rom": 1}}
    assert found["score"].message == "the column is missing"
    assert found["extra"].message == "the baseline has no such column (int64)"
    rare = pd.DataFrame({"x": np.arange(1000.0)})
    assert verdicts("outside-baseline", rare.replace(0.0, 1e6), baseline=rare) == {"x": "warn"}
    assert verdicts("outside-baseline", {"x": [math.inf, 1.0]}, baseline=rare) == {"x": "fail"}


def test_outside_baseline_green() -> None:
    assert set(verdicts("outside-baseline", BASE, baseline=BASE).values()) == {"pass"}
    near = pd.DataFrame({"age": [64, 16], "city": ["Bern", None], "score": [1.2, -1.2]})
    assert set(verdicts("outside-baseline", near, baseline=BASE).values()) == {"pass"}
    free = pd.DataFrame({"t": [f"text {i}" for i in range(500)]})
    assert verdicts("outside-baseline", {"t": ["never seen"]}, baseline=free) == {"t": "pass"}


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ([1, 2], [1.5, 2.0], "fail"),
        ([1, 2], ["1", "2"], "fail"),
        ([1, 2], np.array([1, 2], np.int32), "warn"),
        ([1.0, 2.0], np.array([1, 2], np.float32), "warn"),
        ([1, 2], [1.0, math.nan], "pass"),  # as pandas does to whole numbers with gaps
        ([1, 2], [1.5, math.nan], "fail"),
        ([1, 2], [None, None], "pass"),
        ([3, 3], [3, 3], "pass"),
        ([-10, -10], [-11, -9], "pass"),
        ([-10, -10], [-12, -10], "fail"),
        ([0.0, 10.0], [-0.5, 5.0], "fail"),  # nothing in the baseline was negative
        ([0, 0], [1, 0], "fail"),
        (np.array([100, 200], np.float16), np.array([6e4, 150], np.float16), "fail"),
    ],
)
def test_outside_baseline_types_and_ranges(old: Any, new: Any, verdict: str) -> None:
    assert verdicts("outside-baseline", {"a": new}, baseline={"a": old}) == {"a": verdict}


def test_outside_baseline_of_images() -> None:
    old = np.random.default_rng(0).integers(0, 17, (50, 8, 8)).astype(np.float32)
    new = old[:10] * 1.0
    assert verdicts("outside-baseline", new, baseline=old) == {"X": "pass"}
    new[3] *= 255 / 16
    (found,) = run("outside-baseline", new, baseline=old)
    assert (found.verdict, found.evidence["rows"]) == ("fail", [3])


def test_outside_baseline_too_many_new_texts() -> None:
    (found,) = run("outside-baseline", {"t": [str(i) for i in range(3000)]}, baseline={"t": ["a", "b"]})
    assert (found.verdict, found.message) == ("fail", "more than 2,000 different texts, the baseline had 2 categories")


def test_outside_baseline_without_the_label_as_when_serving() -> None:
    x, y = np.arange(20.0).reshape(10, 2), np.arange(10)
    assert verdicts("outside-baseline", x, baseline=(x, y)) == {"y": "skipped", "0": "pass", "1": "pass"}
    assert verdicts("outside-baseline", (x, y), baseline=x) == {"0": "pass", "1": "pass"}
    assert verdicts("outside-baseline", x) == {"": "skipped"}


def test_a_baseline_is_a_snapshot_its_name_or_data(workspace: Any) -> None:
    dataset = nb.snapshot(BASE, "people")
    nb.snapshot(BASE.assign(age=BASE["age"] + 1000), "people")
    for baseline in (dataset, "people/1", BASE, pl.from_pandas(BASE)):
        assert nb.check(BASE, baseline=baseline, suite=["outside-baseline"]).status == "pass"
    assert nb.check(BASE, baseline="people", suite=["outside-baseline"]).status == "fail"


# ---- label-imbalance


@pytest.mark.parametrize(
    ("counts", "verdict"), [((95, 5), "warn"), ((995, 5), "fail"), ((100, 0), "fail"), ((91, 9), "warn")]
)
def test_label_imbalance_red(counts: tuple[int, int], verdict: str) -> None:
    labels = np.repeat(["cat", "dog"], counts)
    (found,) = run("label-imbalance", np.zeros((len(labels), 2)), label=labels)
    assert (found.verdict, found.column) == (verdict, "y")
    assert found.fix


def test_label_imbalance_green() -> None:
    (found,) = run("label-imbalance", {"a": range(30), "y": [0, 1, 1] * 10}, label="y")
    assert (found.verdict, found.value) == ("pass", 0.5)
    assert found.message == "2 classes, from 10 rows (0) to 20 (1)"
    assert verdicts("label-imbalance", {"y": [True, False, None]}, label="y") == {"y": "pass"}
    rare = {"y": [0] * 95 + [1] * 5}
    assert verdicts("label-imbalance", rare, label="y", min_ratio=0.05) == {"y": "pass"}


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (np.linspace(0, 1, 50), "a regression target"),
        (np.arange(500), "more than 200 values"),
        (np.zeros((50, 2, 2)), "no classes"),
        (np.full(50, math.nan), "all labels are missing"),
        (np.arange(50).astype("datetime64[D]"), "labels of type date are no classes"),
    ],
    ids=["fractions", "many", "tensor", "missing", "dates"],
)
def test_label_imbalance_does_not_apply(labels: Any, why: str) -> None:
    (found,) = run("label-imbalance", (np.zeros(len(labels)), labels))
    assert found.verdict == "skipped"
    assert why in found.message


def test_label_imbalance_without_a_label() -> None:
    (found,) = run("label-imbalance", {"a": [1, 2]})
    assert (found.verdict, found.message) == ("skipped", "no label was given")


def test_percent_never_rounds_a_finding_away() -> None:
    assert [percent(s) for s in (0, 1e-9, 0.0417, 1 - 1e-9, 1)] == ["0 %", "< 0.01 %", "4.17 %", "> 99.99 %", "100 %"]
