"""A suite is data: written to YAML and to Python it comes back the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import nbops as nb
from nbops.core.errors import InvalidInput, NotFound
from nbops.data import expect
from nbops.data.suite import Dropped

SUITE = nb.Suite(
    expect.HasColumns(["id", "age"], is_exact=True),
    expect.Unique("id"),
    expect.InRange("age", low=0, high=120.5, max_share=0.01, severity="warn", when="land == 'CH'", by="land"),
    expect.InRange("day", low="2024-01-31"),
    expect.OneOf("code", values=["a", 1, 2.5, True], environments=("training",)),
    expect.Matches("mail", pattern=r"[\w.]+@\w+\.\w+", false_alarms=0.0025),
    expect.FoundIn("land", other="countries/1", other_column="code"),
    expect.Key(["a", "b"]),
    expect.RowCount(low=10),
    name="people",
    checks={"duplicate-rows": {"max_share": 0.1}},
)


def test_yaml_comes_back_the_same(tmp_path: Path) -> None:
    again = nb.Suite.from_yaml(SUITE.to_yaml(tmp_path / "suite.yaml"))
    assert again == SUITE
    assert nb.Suite.from_yaml(tmp_path / "suite.yaml") == SUITE
    assert nb.Suite.from_yaml(str(tmp_path / "suite.yaml")) == SUITE


def test_code_comes_back_the_same(tmp_path: Path) -> None:
    code = SUITE.to_code(tmp_path / "suite.py")
    assert (
        "expect.InRange('age', low=0, high=120.5, max_share=0.01, severity='warn', when=\"land == 'CH'\", by='land'),"
        in code
    )
    assert "# false alarms ≤ 0.25 %" in code
    space: dict[str, Any] = {}
    exec((tmp_path / "suite.py").read_text("utf-8"), space)  # noqa: S102
    again = space["suite"]
    without = [r for r in SUITE.rules if r.false_alarms is None]
    assert [r for r in again.rules if r.code != "matches"] == without
    assert (again.name, again.checks) == (SUITE.name, SUITE.checks)


def test_yaml_is_written_by_hand_too() -> None:
    text = """
    rules:
      - {rule: in-range, column: day, low: 2024-01-31}
      - rule: not-missing
        column: age
        max_share: 0.05
        environments: [training]
    """
    suite = nb.Suite.from_yaml(text)
    assert suite.rules == (
        expect.InRange("day", low="2024-01-31"), expect.NotMissing("age", max_share=0.05, environments=("training",)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rules: [{rule: in-rang, column: a}]", "rule 1: no rule 'in-rang'\nDid you mean 'in-range'?"),
        ("rules: [unique]", "rule 1: no rule 'unique'"),
        ("rules: [{rule: in-range, column: a, lo: 1}]", "rule 1 (in-range): Object contains unknown field `lo`"),
        ("rules: [{rule: in-range, column: a}]", "rule 1 (in-range): in-range has neither low nor high"),
        ("rules: [{rule: unique}]", "rule 1 (unique): Object missing required field `column`"),
        ("rules: [{rule: unique, column: a, severity: bad}]", "Invalid enum value 'bad'"),
        ("just text", "the YAML holds no suite"),
        ("rules: {a: 1}", "the YAML holds no suite"),
        ("a: [", "the suite cannot be read"),
        ("rules: []", "the suite is empty"),
        ("nowhere.yaml", "the suite cannot be read"),
    ],
)
def test_a_wrong_suite_names_the_rule_and_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        nb.Suite.from_yaml(text)
    assert says in str(caught.value)
    assert caught.value.hint


def test_functions_and_tables_are_code_only() -> None:
    def positive(frame: Any) -> Any:
        return frame["a"] > 0

    suite = nb.Suite(expect.Holds(function=positive))
    assert "expect.Holds(function=positive)," in suite.to_code()
    with pytest.raises(InvalidInput, match="rule holds holds what YAML cannot: a function"):
        suite.to_yaml()
    with pytest.raises(InvalidInput, match="a table for 'land'\nUse to_code"):
        nb.Suite(expect.FoundIn("land", other={"land": ["CH"]})).to_yaml()


def test_a_suite_of_nothing_or_of_something_else_is_refused() -> None:
    with pytest.raises(InvalidInput, match="the suite is empty"):
        nb.Suite()
    with pytest.raises(InvalidInput, match="a list is no rule\nWrite a star before it"):
        nb.Suite([expect.Unique("a")])  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="a StructMeta is no suite"):
        nb.check({"a": [1]}, suite=expect.Unique)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="Unique in the suite is no check and no rule"):
        nb.check({"a": [1]}, suite=[expect.Unique])
    with pytest.raises(InvalidInput, match="int in the suite is no check and no rule"):
        nb.check({"a": [1]}, suite=[3])  # type: ignore[list-item]
    with pytest.raises(InvalidInput, match="a str is no rule"):
        nb.Suite("unique")  # type: ignore[arg-type]


def test_a_suite_runs_its_checks_and_rules(workspace: Any) -> None:
    suite = nb.Suite(expect.Unique("a"), expect.Unique("b"), checks=["missing-values"])
    report = nb.check({"a": [1, 1], "b": [1, None]}, suite=suite)
    assert [(r.check, r.column, r.verdict.value) for r in report.results] == [
        ("missing-values", "b", "warn"), ("missing-values", "a", "pass"), ("unique", "a", "fail"),
        ("unique", "b", "pass"),
    ]  # fmt: skip
    assert report.of("unique")[0].evidence == {"bad": 1, "of": 2, "bad_rows": 1, "rows": [1]}
    only = nb.check({"a": [1, 2]}, suite=nb.Suite(checks={"duplicate-rows": {}}))
    assert {r.check for r in only.results} == {"duplicate-rows"}
    listed = nb.check({"a": [1, 1]}, suite=["constant-column", expect.Unique("a")])
    assert {r.check for r in listed.results} == {"constant-column", "unique"}
    with pytest.raises(NotFound, match="no check 'x'"):
        nb.check({"a": [1]}, suite=nb.Suite(expect.Unique("a"), checks=["x"]))


def test_a_suite_tells_what_changed_since_another() -> None:
    before = nb.Suite(expect.Unique("a", false_alarms=0.1), expect.InRange("b", low=0, high=9))
    now = nb.Suite(expect.Unique("a", false_alarms=0.2), expect.InRange("b", low=0, high=12))
    assert now.diff(before).splitlines()[2:] == [
        "-expect.InRange('b', low=0, high=9)", "+expect.InRange('b', low=0, high=12)",
    ]  # fmt: skip
    assert before.diff(before) == ""


def test_a_kind_of_rule_must_say_how_it_looks() -> None:
    from nbops.data.frames import read
    from nbops.data.rules.base import Rule
    from nbops.data.rules.facts import Facts

    with pytest.raises(NotImplementedError, match="Rule is a kind of rule without a method look"):
        Rule().look(Facts(read({"a": [1]})))


def test_the_verb_takes_a_suite_from_a_file_or_a_variable(shell: Any, tmp_path: Path) -> None:
    suite = nb.Suite(expect.InRange("n", high=2, environments=("training",)), expect.NotMissing("n"))
    suite.to_yaml(tmp_path / "rules.yaml")
    shell.user_ns |= {"df": {"n": [1, 2, 3]}, "suite": suite}
    for name in ("suite", "rules.yaml"):
        shell.run_cell(f"r = get_ipython().run_line_magic('mlops', 'check df --suite {name}')").raise_error()
        assert shell.user_ns["r"].status == "fail"
    shell.run_cell(
        "r = get_ipython().run_line_magic('mlops', 'check df --suite suite --environment serving')"
    ).raise_error()
    assert shell.user_ns["r"].status == "pass"


def test_a_stored_dataset_is_the_other_table(workspace: Any) -> None:
    nb.snapshot({"code": ["CH", "AT"], "name": ["a", "b"]}, "countries")
    rule = expect.FoundIn("land", other="countries", other_column="code")
    report = nb.check({"land": ["CH", "XX"]}, suite=rule)
    assert report.of("found-in")[0].message == "1 of 2 values are not in 'countries' (50 %), such as 'XX'"


def test_the_card_of_a_suite_lists_its_rules() -> None:
    text = str(SUITE)
    assert "people" in text
    assert "in-range" in text
    assert "low 0, high 120.5" in text
    assert repr(SUITE) == "Suite('people', 9 rules)"
    assert (len(SUITE), list(SUITE)) == (9, list(SUITE.rules))
    learned = nb.Suite(
        expect.Unique("a", false_alarms=0.0025), false_alarms=0.01, dropped=[Dropped(expect.InRange("x", low=0), 0.2)]
    )
    shown = str(learned)
    assert "together ≤ 1 % false alarms" in shown
    assert "in-range of x (20 %)" in shown
