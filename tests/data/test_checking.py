"""`nb.check` runs a suite, keeps every result, survives a crashing check, and stops where it should."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import nbops as nb
from nbops.core.errors import CheckFailed, InvalidInput, NotFound
from nbops.core.records import CheckReport, CheckResult, Link, Verdict
from nbops.data.leaf import IMAGES, LEAKS, SERIES, Sample, judged, percent, result
from nbops.store.context import inside_run
from nbops.store.workspace import Workspace

SHIPPED = [
    "broken-text", "conflicting-labels", "constant-column", "cut-text", "date-in-the-future", "date-order",
    "duplicate-rows", "feature-feature-correlation", "feature-label-correlation", "identifier-in-features",
    "label-imbalance", "missing-values", "mixed-nulls", "mixed-types", "near-duplicate-texts", "outlier-rows",
    "outside-baseline", "personal-data", "row-count-change", "special-characters", "string-length-out-of-bounds",
    "string-mismatch", "text-shift", "unit-change",
]  # fmt: skip
ALL = sorted([*SHIPPED, *LEAKS, *SERIES, *IMAGES])
GOOD = pd.DataFrame({"a": range(10), "b": list("abcdefghij")})
BAD = GOOD.assign(a=[None] * 9 + [1.0], b=["x"] * 10)


@pytest.fixture
def own_check() -> Iterator[None]:
    """Forget the checks that a test registers."""
    before = set(nb.checks)
    yield
    for name in set(nb.checks) - before:
        nb.checks.remove(name)


def test_the_shipped_checks_are_registered() -> None:
    assert list(nb.checks) == ALL


def test_the_real_digits_give_a_quiet_report(workspace: Workspace, digits: tuple[np.ndarray, np.ndarray]) -> None:
    report = nb.check(digits)
    assert (report.status, report.passed) == (Verdict.PASS, True)
    assert (report.rows, report.columns) == (1797, 65)
    assert len(report.results) == len(SHIPPED)
    (constant,) = report.of("constant-column")
    assert constant.message == "3 of 64 positions of the array are constant (4.69 %)"
    assert report.of("missing-values")[0].message == "65 of 65 columns pass"
    assert report.of("label-imbalance")[0].value == pytest.approx(174 / 183)
    assert report.of("outside-baseline")[0].verdict == Verdict.SKIPPED


def test_findings_stand_alone_and_passing_columns_are_counted(workspace: Workspace) -> None:
    report = nb.check(GOOD.assign(c=1, d=2))
    assert [(r.verdict, r.column) for r in report.of("constant-column")] == [
        ("warn", "c"), ("warn", "d"), ("pass", ""),
    ]  # fmt: skip
    assert report.of("constant-column")[-1].evidence == {"passed": 2, "columns": 4}
    assert (report.status, report.passed) == (Verdict.WARN, True)


def test_the_report_is_recorded_with_its_event_and_links(workspace: Workspace) -> None:
    dataset = nb.snapshot(GOOD, "good")
    with inside_run("run_1"):
        report = nb.check(pl.from_pandas(GOOD))
    assert workspace.store.get(CheckReport, report.id) == report
    assert (report.dataset, report.parent, report.name) == (dataset.id, "run_1", "good/1")
    assert [(e.kind, e.payload["status"]) for e in workspace.store.events(subject=report.id)] == [
        ("check.created", "pass")
    ]
    assert set(workspace.store.links(report.id)) == {
        Link(source=dataset.id, relation="checked_by", target=report.id),
        Link(source="run_1", relation="produced", target=report.id),
    }


def test_data_that_is_no_snapshot_is_not_linked(workspace: Workspace) -> None:
    nb.snapshot(GOOD, "good")
    report = nb.check(GOOD.assign(a=range(1, 11)))
    assert (report.dataset, report.name) == (None, "data")
    assert nb.check(GOOD, name="before training").name == "before training"


def test_labels_given_apart_find_the_snapshot_of_the_features(workspace: Workspace) -> None:
    x, y = np.arange(20.0).reshape(10, 2), np.arange(10) % 2
    features = nb.snapshot(x, "features")
    assert nb.check(x, label=y).dataset == features.id
    pair = nb.snapshot((x, y), "pair")
    assert nb.check(x, label=y).dataset == pair.id


def test_a_stored_dataset_can_be_checked_by_name(workspace: Workspace) -> None:
    dataset = nb.snapshot(GOOD, "good")
    assert nb.check("good").dataset == nb.check(dataset).dataset == dataset.id
    with pytest.raises(NotFound, match="no dataset 'god'\nDid you mean 'good'"):
        nb.check("god")


def test_a_suite_chooses_checks_and_thresholds(workspace: Workspace) -> None:
    report = nb.check(BAD, suite=["missing-values", nb.checks["constant-column"]])
    assert {r.check for r in report.results} == {"missing-values", "constant-column"}
    assert report.status == Verdict.FAIL
    lenient = nb.check(BAD, suite={"missing-values": {"max_share": 0.9, "fail_share": 0.95}})
    assert lenient.status == Verdict.PASS
    assert nb.check(BAD, suite="missing-values").status == Verdict.FAIL  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("suite", "error", "says"),
    [
        (["missing-value"], NotFound, "no check 'missing-value'\nDid you mean 'missing-values'"),
        ({"missing-values": {"max_shar": 1}}, InvalidInput, "no threshold 'max_shar'\nDid you mean 'max_share'"),
        ([], InvalidInput, "the suite is empty\nName some of: broken-text"),
    ],
)
def test_a_wrong_suite_is_refused_before_anything_runs(
    workspace: Workspace, suite: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        nb.check(GOOD, suite=suite)
    assert workspace.store.count(CheckReport) == 0


def test_a_gate_stops_on_the_worst_finding_after_recording_it(workspace: Workspace) -> None:
    with pytest.raises(CheckFailed) as caught:
        nb.check(BAD, on_fail="raise")
    says = "check 'missing-values' failed on column 'a': 9 of 10 cells missing (90 %) (and 1 more)"
    assert caught.value.message == says
    assert caught.value.hint == "Impute or drop, or raise max_share."
    assert workspace.store.find(CheckReport)[0].status == Verdict.FAIL


def test_a_gate_lets_warnings_pass(workspace: Workspace) -> None:
    assert nb.check(GOOD.assign(c=1), on_fail="raise").status == Verdict.WARN
    with pytest.raises(InvalidInput, match="on_fail is 'stop'"):
        nb.check(GOOD, on_fail="stop")  # type: ignore[arg-type]


def test_a_crashing_check_is_a_result_beside_the_others(workspace: Workspace, own_check: None) -> None:
    @nb.checks.register("crashes")
    def crashes(sample: Sample) -> Iterator[CheckResult]:
        yield result("warn", column="a", message="found before the crash")
        raise ZeroDivisionError("no luck")

    report = nb.check(GOOD)
    assert [(r.verdict, r.message) for r in report.of("crashes")] == [
        ("error", "ZeroDivisionError: no luck"),
        ("warn", "found before the crash"),
    ]
    assert {r.check for r in report.results} == {*SHIPPED, "crashes"}
    assert (report.status, report.passed) == (Verdict.ERROR, False)
    with pytest.raises(CheckFailed, match="check 'crashes' crashed: ZeroDivisionError: no luck\nMend the check"):
        nb.check(GOOD, on_fail="raise")


def test_a_custom_check_is_one_decorated_function(workspace: Workspace, own_check: None) -> None:
    @nb.checks.register("few-negatives")
    def few_negatives(sample: Sample, *, max_share: float = 0.0) -> CheckResult:
        """Share of negative numbers in column a."""
        share = float((sample.native["a"] < 0).mean())
        return judged(share, fail=max_share, column="a", unit="share", message=percent(share), fix="Drop the rows.")

    assert nb.check(GOOD).of("few-negatives")[0].verdict == Verdict.PASS
    (found,) = nb.check(GOOD.assign(a=range(-1, 9))).of("few-negatives")
    assert (found.verdict, found.value, found.limit, found.message) == ("fail", 0.1, 0.0, "10 %")
    lenient = {"few-negatives": {"max_share": 0.5}}
    assert nb.check(GOOD.assign(a=range(-1, 9)), suite=lenient).passed


@pytest.mark.parametrize(
    ("gives", "verdict", "message"),
    [
        (True, "pass", "Ten rows."),
        (False, "fail", "Ten rows."),
        (np.bool_(False), "fail", "Ten rows."),
        ([], "pass", "nothing found"),
        (None, "error", "TypeError: the check returned a NoneType, not True, False or results"),
        ("no", "error", "TypeError: the check returned a str, not True, False or results"),
        ([1], "error", "TypeError: the check gave a int, not a result"),
    ],
)
def test_a_check_may_answer_yes_or_no(workspace: Workspace, gives: Any, verdict: str, message: str) -> None:
    def ten_rows(sample: Sample) -> Any:
        """Ten rows."""
        return gives

    (found,) = nb.check(GOOD, suite=[ten_rows]).results
    assert (found.check, found.verdict, found.message) == ("ten-rows", verdict, message)


def test_checks_that_do_not_apply_do_not_colour_the_report(workspace: Workspace) -> None:
    assert nb.check(GOOD).status == Verdict.PASS
    assert nb.check(GOOD, suite=["label-imbalance"]).status == Verdict.SKIPPED


def test_an_empty_table_does_not_pass_a_gate(workspace: Workspace) -> None:
    with pytest.raises(CheckFailed, match="the table has no rows"):
        nb.check(GOOD[:0], on_fail="raise")


@pytest.mark.parametrize("data", [{"a": [1]}, {"a": [None, None]}, {"a": [[1], [2, 3]]}, {"a": [1, "x"]}], ids=str)
def test_odd_tables_give_an_answer_without_a_crash(workspace: Workspace, data: Any) -> None:
    report = nb.check(data, baseline=data)
    assert Verdict.ERROR not in {r.verdict for r in report.results}


def test_many_columns_give_one_line_a_check(workspace: Workspace) -> None:
    frame = pl.DataFrame({f"c{i}": [i, i + 1] for i in range(2000)})
    report = nb.check(frame, baseline=frame)
    assert len(report.results) == len(SHIPPED)
    assert report.status == Verdict.PASS
