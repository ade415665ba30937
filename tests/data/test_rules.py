"""Each kind of rule on a table that breaks it and on one that keeps it, and what all kinds share."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import nbops as nb
from nbops.core.errors import InvalidInput
from nbops.core.records import CheckResult
from nbops.data import expect
from nbops.data.frames import read
from nbops.data.leaf import Located
from nbops.data.rules.base import Rule, kebab
from nbops.data.rules.facts import Facts, among, hashes_of, text_lengths
from nbops.data.rules.judging import judge

DAYS = ["2024-01-01", "2024-01-02", "2024-01-04"]


def look(rule: Rule, data: Any, *, environment: str = "") -> CheckResult:
    (found,) = judge(rule, Facts(read(data)), environment=environment)
    return found


def bad_rows(rule: Rule, data: Any) -> list[int]:
    found = look(rule, data)
    return np.flatnonzero(found.mask()).tolist() if isinstance(found, Located) else []


def dates(*values: str | None) -> Any:
    return pl.Series("d", values).str.to_date()


def times(*values: str) -> Any:
    return pl.Series("d", values).str.to_datetime()


RED: list[tuple[Rule, Any, list[int]]] = [
    (expect.NotMissing("a"), {"a": [1.0, None, 3.0]}, [1]),
    (expect.NotMissing("X"), {"X": np.array([[[1.0]], [[np.nan]]])}, [1]),
    (expect.Finite("a"), {"a": [1.0, np.inf, -np.inf]}, [1, 2]),
    (expect.InRange("a", low=0, high=10), {"a": [0, 10, 11, -1]}, [2, 3]),
    (expect.InRange("a", low=0), {"a": [0.0, np.inf, -0.5, None]}, [1, 2]),
    (expect.InRange("a", high=2.5), {"a": np.array([1, 250], np.uint8)}, [1]),
    (expect.InRange("a", high=1), {"a": [Decimal("1.0"), Decimal("1.1"), None]}, [1]),
    (expect.InRange("d", low="2024-01-02", high="2024-01-03"), {"d": dates(*DAYS)}, [0, 2]),
    (expect.InRange("X", high=5), {"X": np.arange(12).reshape(3, 2, 2)}, [1, 2]),
    (expect.OneOf("t", values=["x", "y"]), {"t": ["x", "z", None, "Y"]}, [1, 3]),
    (expect.OneOf("a", values=[1, 2]), {"a": [1, 2, 3]}, [2]),
    (expect.OneOf("a", values=[1, 2.5]), {"a": [1.0, 2.0, 2.5]}, [1]),
    (expect.OneOf("b", values=[True]), {"b": [True, False]}, [1]),
    (expect.OneOf("d", values=["2024-01-01"]), {"d": dates(*DAYS)}, [1, 2]),
    (expect.OneOf("t", values=["x"], is_not=True), {"t": ["x", "z"]}, [0]),
    (expect.Matches("t", pattern=r"[A-Z]\d+"), {"t": ["A1", "A1 ", "b2", None, ""]}, [1, 2, 4]),
    (expect.Matches("t", pattern=r".*@.*", is_not=True), {"t": ["a@b", "x"]}, [0]),
    (expect.LengthInRange("t", low=2, high=3), {"t": ["äö", "a", "abcd", None]}, [1, 2]),
    (expect.NotInFuture("d", now="2024-01-02T12:00"), {"d": dates(*DAYS)}, [2]),
    (expect.Unique("a"), {"a": [1, 2, 1, None, None]}, [2]),
    (expect.Key(["a", "b"]), {"a": [1, 1, 1, 2], "b": ["x", "y", "x", None]}, [2, 3]),
    (expect.Increasing("a"), {"a": [1, 2, None, 2, 1]}, [4]),
    (expect.Increasing("a", is_strict=True), {"a": [1, 2, 2]}, [2]),
    (expect.Increasing("a", is_falling=True), {"a": [3, 2, 5]}, [2]),
    (expect.Increasing("d"), {"d": dates("2024-01-02", "2024-01-01")}, [1]),
    (expect.Ordered(["a", "b"]), {"a": [1, 5, None], "b": [1, 4, 0]}, [1]),
    (expect.Ordered(["s", "e"], is_strict=True), {"s": dates(*DAYS), "e": dates(DAYS[0], DAYS[2], DAYS[2])}, [0, 2]),
    (expect.SumsTo(["a", "b"], total="c"), {"a": [1, 2], "b": [1, 2], "c": [2.0, 4.1]}, [1]),
    (expect.SumsTo(["a", "b"], total=1, tolerance=0.01), {"a": [0.5, 0.7], "b": [0.505, 0.2]}, [1]),
    (expect.RatioInRange("a", to="b", low=1, high=2), {"a": [1, 6, 1], "b": [1, 2, 0]}, [1, 2]),
    (expect.FoundIn("t", other={"t": ["x", "y"]}), {"t": ["x", "q", None]}, [1]),
    (expect.FoundIn("t", other={"code": ["x"], "n": [1]}, other_column="code"), {"t": ["x", "n"]}, [1]),
    (expect.Determines("zip", other="town"), {"zip": [1, 1, 1, 2], "town": ["a", "b", "a", "c"]}, [1]),
    (expect.Holds(function=lambda frame: [True, False]), {"a": [1, 2]}, [1]),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "data", "rows"), RED, ids=lambda value: value.code if isinstance(value, Rule) else "")
def test_rules_find_the_rows_that_break_them(rule: Rule, data: Any, rows: list[int]) -> None:
    found = look(rule, data)
    assert found.verdict == "fail"
    assert found.fix
    assert bad_rows(rule, data) == rows
    assert found.evidence["bad"] == len(rows)


WHOLE: list[tuple[Rule, Any, str]] = [
    (expect.HasType("a", type="int"), {"a": [1.5]}, "is float64, not int"),
    (expect.HasType("a", type="text"), {"a": [1]}, "is int64, not text"),
    (expect.HasType("a", type="int32"), {"a": [1]}, "is int64, not int32"),
    (expect.DistinctInRange("a", low=3), {"a": [1, 1, 2, None]}, "2 different values, not at least 3"),
    (expect.RowCount(low=2, high=3), {"a": [1, 2, 3, 4]}, "4 rows, not 2 to 3"),
    (expect.HasColumns(["a", "b"]), {"a": [1]}, "the table lacks 'b'"),
    (expect.HasColumns(["a"], is_exact=True), {"a": [1], "c": [2]}, "the table has beside 'c'"),
    (expect.Fresh("d", max_age="1d", now="2024-01-06"), {"d": dates(*DAYS)}, "the newest is 2024-01-04, older than 1d"),
    (expect.Fresh("d", max_age="1d"), {"d": pl.Series([None], dtype=pl.Date)}, "has no date"),
    (expect.Holds(function=lambda frame: False, name="totals agree"), {"a": [1]}, "'totals agree' does not hold"),
    (expect.InRange("a", low=0), {"a": ["x"]}, "holds text, not numbers"),
    (expect.InRange("a", low="x"), {"a": [1]}, "holds int64, and 'x' is no number"),
    (expect.InRange("d", low="x"), {"d": dates(*DAYS)}, "holds dates, and 'x' is none"),
    (expect.Matches("a", pattern="x"), {"a": [1]}, "holds int64, not text"),
    (expect.LengthInRange("a", low=1), {"a": [1]}, "holds int64, not text"),
    (expect.OneOf("X", values=[1]), {"X": np.zeros((2, 2, 2))}, "holds arrays, which are no categories"),
    (expect.Increasing("X"), {"X": np.zeros((2, 2, 2))}, "holds arrays, which have no order"),
    (expect.SumsTo(["X"], total=1), {"X": np.zeros((2, 2, 2))}, "'X' holds arrays, not numbers"),
    (expect.NotInFuture("a"), {"a": [1]}, "holds int64, not dates"),
    (expect.Ordered(["a", "d"]), {"a": [1, 2, 3], "d": dates(*DAYS)}, "'a' and 'd' cannot be compared"),
    (expect.NotMissing("b"), {"a": [1]}, "the column is missing; rule not-missing needs it"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "data", "says"), WHOLE, ids=lambda value: value.code if isinstance(value, Rule) else ""
)
def test_rules_about_a_whole_column_or_table(rule: Rule, data: Any, says: str) -> None:
    found = look(rule, data)
    assert (found.verdict, found.message) == ("fail", says)
    assert not isinstance(found, Located)


GREEN: list[tuple[Rule, Any]] = [
    (expect.NotMissing("t"), {"t": ["", "x"]}),
    (expect.Finite("a"), {"a": [1e300, None, -5.0]}),
    (expect.Finite("a"), {"a": [1, 2]}),
    (expect.InRange("a", low=0, high=10), {"a": [0, 10, None]}),
    (expect.InRange("a", low=0, high=10), {"a": pd.Series([], dtype="float64")}),
    (expect.InRange("d", low="2024-01-01"), {"d": dates(*DAYS)}),
    (expect.InRange("d", high="2024-01-04T12:00"), {"d": times("2024-01-04T11:59")}),
    (expect.OneOf("t", values=["x", "y"]), {"t": ["x", "y", None]}),
    (expect.OneOf("a", values=[1, 300]), {"a": np.array([1], np.int8)}),
    (expect.Matches("t", pattern=r"\d+"), {"t": ["1", "22", None]}),
    (expect.Matches("t", pattern="x"), {"t": pl.Series([], dtype=pl.String)}),
    (expect.LengthInRange("t", low=1), {"t": ["a", None]}),
    (expect.HasType("a", type="int"), {"a": pd.Series([1.0, None])}),
    (expect.HasType("a", type="number"), {"a": [1.5]}),
    (expect.HasType("a", type="date"), {"a": [None, None]}),
    (expect.HasType("d", type="datetime"), {"d": times("2024-01-01T00:00")}),
    (expect.NotInFuture("d"), {"d": dates(*DAYS)}),
    (expect.NotInFuture("d"), {"d": [dt.datetime.now()]}),
    (expect.Unique("t"), {"t": ["a", "A", None, None]}),
    (expect.Key(["a", "b"]), {"a": [1, 1], "b": [1, 2]}),
    (expect.Increasing("a"), {"a": [1, None, 1, 3]}),
    (expect.Ordered(["a", "b", "c"]), {"a": [1], "b": [1], "c": [2]}),
    (expect.SumsTo(["a", "b"], total="c"), {"a": [1e9], "b": [1.0], "c": [1e9 + 1.0001]}),
    (expect.RatioInRange("a", to="b", high=2), {"a": [2, None], "b": [1, 0]}),
    (expect.FoundIn("t", other=["x", "y"]), {"t": ["y", None]}),
    (expect.Determines("zip", other="town"), {"zip": [1, 1, 2, None], "town": ["a", "a", "a", "b"]}),
    (expect.DistinctInRange("a", low=2, high=2), {"a": [1, 2, None]}),
    (expect.RowCount(high=3), {"a": [1]}),
    (expect.HasColumns(["a"]), {"a": [1], "b": [1]}),
    (expect.Fresh("d", max_age="2w", now="2024-01-06"), {"d": dates(*DAYS)}),
    (expect.Holds(function=lambda frame: True), {"a": [1]}),
    (expect.Holds(function=lambda frame: frame["a"] > 0), pd.DataFrame({"a": [1, 2]})),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "data"), GREEN, ids=lambda value: value.code if isinstance(value, Rule) else "")
def test_rules_are_quiet_where_they_are_kept(rule: Rule, data: Any) -> None:
    found = look(rule, data)
    assert (found.verdict, found.fix) == ("pass", "")


def test_every_kind_has_a_red_and_a_green_twin() -> None:
    red = {rule.code for rule, *_ in [*RED, *WHOLE]}
    green = {rule.code for rule, _ in GREEN}
    assert red == green == set(expect.KINDS)
    assert set(expect.KINDS) == {kebab(name) for name in expect.__all__}
    assert not set(expect.KINDS) & set(nb.checks)


def test_a_share_of_the_rows_may_break_a_rule() -> None:
    data = {"a": [1, 2, 3, 400]}
    assert look(expect.InRange("a", high=10, max_share=0.25), data).verdict == "pass"
    found = look(expect.InRange("a", high=10, max_share=0.2), data)
    assert (found.verdict, found.value, found.limit) == ("fail", 0.25, 0.2)
    assert found.message == "1 of 4 values are outside at most 10 (25 %), such as 400"


def test_severity_decides_the_verdict() -> None:
    data = {"a": [1, None]}
    assert look(expect.NotMissing("a", severity="warn"), data).verdict == "warn"
    told = look(expect.NotMissing("a", severity="info"), data)
    assert (told.verdict, told.evidence["severity"], told.evidence["bad"]) == ("pass", "info", 1)
    assert "1 of 2 cells are missing" in told.message


def test_a_broken_information_is_told_and_colours_nothing(workspace: Any) -> None:
    rules = [expect.NotMissing("a", severity="info"), expect.NotMissing("b"), expect.NotMissing("c")]
    report = nb.check({"a": [1, None], "b": [1, 2], "c": [1, 2]}, suite=rules)
    assert (report.status, [r.message for r in report.results]) == (
        "pass", ["1 of 2 cells are missing (50 %)", "2 of 3 columns pass"],
    )  # fmt: skip


def test_a_rule_may_look_only_at_some_rows() -> None:
    frame = pd.DataFrame({"land": ["CH", "AT", None, "CH"], "zip": [8000, 99, 5, 12], "id": [1, 1, 2, 1]})
    rule = expect.InRange("zip", low=1000, when="land == 'CH'")
    assert bad_rows(rule, frame) == [3]
    assert look(rule, frame).evidence["of"] == 2
    assert bad_rows(expect.Unique("id", when="land != 'AT'"), frame) == [3]
    assert bad_rows(expect.NotMissing("land", when="zip < 10"), frame) == [2]


def test_a_rule_may_judge_each_segment_by_itself() -> None:
    frame = pd.DataFrame({"land": ["CH"] * 10 + ["AT"] * 10, "x": [1.0] * 10 + [None] * 2 + [1.0] * 8})
    assert look(expect.NotMissing("x", max_share=0.1), frame).verdict == "pass"
    found = list(judge(expect.NotMissing("x", max_share=0.1, by="land"), Facts(read(frame))))
    assert [(one.verdict, one.message) for one in found] == [
        ("fail", "land = 'AT': 2 of 10 cells are missing (20 %)"), ("pass", "holds for 1 values of land"),
    ]  # fmt: skip
    assert np.flatnonzero(found[0].mask()).tolist() == [10, 11]  # type: ignore[attr-defined]
    told = list(judge(expect.NotMissing("x", by="land", severity="info"), Facts(read(frame))))
    assert [one.verdict for one in told] == ["pass", "pass"]
    assert told[0].message == "land = 'AT': 2 of 10 cells are missing (20 %)"
    gaps = pd.DataFrame({"land": [None, "CH"], "x": [None, 1.0]})
    assert "land = missing" in next(judge(expect.NotMissing("x", by="land"), Facts(read(gaps)))).message
    with pytest.raises(InvalidInput, match="by='x' has 1,500 values\nChoose a column with at most 1,000"):
        list(judge(expect.NotMissing("x", by="x"), Facts(read({"x": np.arange(1500)}))))


def test_a_rule_may_hold_in_one_environment_only(workspace: Any) -> None:
    suite = nb.Suite(expect.NotMissing("label", environments=["training"]), expect.NotMissing("x"))
    serving = {"x": [1.0, 2.0]}
    assert nb.check(serving, suite=suite, environment="serving").status == "pass"
    assert nb.check(serving, suite=suite, environment="training").status == "fail"
    assert nb.check(serving, suite=suite).status == "fail"
    (skipped,) = nb.check(serving, suite=suite, environment="serving").of("not-missing")[:1]
    assert "holds in training, not in serving" in skipped.message


@pytest.mark.parametrize(
    ("when", "rows"),
    [
        ("n > 1", [2]),
        ("n >= 1 and t == 'a'", [0]),
        ("not n", [1]),
        ("t in ['a', 'b']", [0, 2]),
        ("t not in ['a']", [1, 2, 3]),
        ("'A' in t", [0]),
        ("t < 'b'", [0]),
        ("d > '2024-01-01'", [1, 2]),
        ("d == '2024-01-02'", [1]),
        ("b == True", [0]),
        ("n == None or n == 1", [0, 1]),
        ("n != 1", [2, 3]),
        ("seen_at > '2024-01-02'", [2]),
    ],
)
def test_conditions_are_the_query_language_over_columns(when: str, rows: list[int]) -> None:
    from nbops.data.rules.conditions import rows_where

    frame = pl.DataFrame(
        {
            "n": [1, None, 3, 0], "t": ["a", None, "b", "c"], "b": [True, False, None, False],
            "d": [dt.date(2024, 1, 1), dt.date(2024, 1, 2), dt.date(2024, 1, 4), None],
            "seen_at": [dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 2), dt.datetime(2024, 1, 3), None],
        }
    )  # fmt: skip
    assert np.flatnonzero(rows_where(Facts(read(frame)), when)).tolist() == rows


@pytest.mark.parametrize("when", ["n > 'x'", "t > 3", "'x' in n", "X > 1", "d > 'soon'"])
def test_a_condition_that_cannot_be_compared_is_an_error(when: str) -> None:
    from nbops.data.rules.conditions import rows_where

    data = {"n": [1], "t": ["x"], "X": np.zeros((1, 2, 2)), "d": dates("2024-01-01")}
    with pytest.raises(InvalidInput, match="Compare it with values of its own type"):
        rows_where(Facts(read(data)), when)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: expect.Unique(""), "column is ''"),
        (lambda: expect.Unique("a", severity="fatal"), "severity is 'fatal'\nUse one of: info, warn, fail"),  # type: ignore[arg-type]
        (lambda: expect.Unique("a", max_share=1), "max_share is 1"),
        (lambda: expect.Unique("a", when="a ="), "when: cannot parse 'a ='"),
        (lambda: expect.Key(["a", "a"]), "columns are ['a', 'a']"),
        (lambda: expect.Ordered(["a"]), "Give 2 or more different column names"),
        (lambda: expect.InRange("a"), "in-range has neither low nor high"),
        (lambda: expect.InRange("a", low=2, high=1), "in-range: low 2 is above high 1\nSwap them"),
        (lambda: expect.InRange("a", low="x", high=1), "in-range: low 'x' and high 1 are of two types"),
        (lambda: expect.HasType("a", type="str"), "no type 'str'"),
        (lambda: expect.OneOf("a", values=[]), "values are []"),  # type: ignore[arg-type]
        (lambda: expect.Matches("a", pattern="("), "pattern '('"),
        (lambda: expect.NotInFuture("a", now="soon"), "'soon' is no date"),
        (lambda: expect.Fresh("a", max_age="1 month"), "'1 month' is no duration"),
    ],
)  # fmt: skip
def test_a_rule_that_makes_no_sense_is_refused_when_it_is_made(make: Any, says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        make()
    assert says in str(caught.value)


def test_a_function_that_answers_something_else_is_an_error(workspace: Any) -> None:
    (found,) = nb.check({"a": [1, 2]}, suite=expect.Holds(function=lambda frame: [1.0, 2.0], name="odd")).results
    assert (found.verdict, found.message) == (
        "error",
        "InvalidInput: 'odd' gave a list, not 2 of True or False\nReturn one boolean for each row, or one in all.",
    )


def test_lookups_by_hash_are_exact() -> None:
    column = read({"t": [f"v{i}" for i in range(20_000)]}).columns[0]
    codes = Facts(read({"t": [f"v{i}" for i in range(20_000)]})).hashes("t")
    for count in (1, 3, 500, 6000):  # few, some in one bucket, many
        known = hashes_of(column, [f"v{i}" for i in range(count)])
        assert among(codes, known).tolist() == [i < count for i in range(20_000)]
    assert not among(codes, hashes_of(column, [])).any()
    with pytest.raises(InvalidInput, match="column 'a' is no text"):
        text_lengths(read({"a": [1]}).columns[0])
