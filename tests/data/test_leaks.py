"""`nb.leaks` and its checks: each fires on its leak, none on a clean split, and real tables with planted leaks."""

from __future__ import annotations

from collections import Counter
from typing import Any

import leak_zoo
import numpy as np
import pandas as pd
import polars as pl
import pytest

import nbops as nb
from nbops.core.errors import CheckFailed, InvalidInput, NotFound
from nbops.core.records import CheckReport, CheckResult, Verdict
from nbops.data.frames import read
from nbops.data.leaf import LEAKS, Sample
from nbops.data.leakage.nearby import near_numbers
from nbops.data.leakage.power import power_of, read_sides
from nbops.store.workspace import Workspace

RNG = np.random.default_rng(11)
TRAIN = pd.DataFrame(RNG.normal(size=(600, 5)), columns=list("abcde")).assign(y=RNG.integers(0, 2, 600))
TEST = pd.DataFrame(RNG.normal(size=(200, 5)), columns=list("abcde")).assign(y=RNG.integers(0, 2, 200))
TEXTS = [f"the patient number {i} came on a rainy day and left" for i in range(800)]


def run(check: str, train: Any, test: Any, *, label: Any = "y", **options: Any) -> dict[str, CheckResult]:
    """Return the results of one check by column."""
    sample = Sample(read(test, label=label), reference=read(train, label=label))
    outcome: Any = nb.checks[check](sample, **options)
    return {found.column: found for found in ([outcome] if isinstance(outcome, CheckResult) else outcome)}


def verdict(check: str, train: Any, test: Any, *, column: str = "", **options: Any) -> str:
    return run(check, train, test, **options)[column].verdict.value


def alarms(report: CheckReport) -> set[str]:
    return {found.check for found in report.results if found.verdict.severity >= Verdict.WARN.severity}


# ---- rows on both sides


def test_duplicates_across_red() -> None:
    copied = pd.concat([TRAIN, TEST[:10].assign(y=0)])
    (found,) = run("duplicates-across", copied, TEST).values()
    assert (found.verdict, found.value, found.limit) == ("fail", 0.05, 0.01)
    assert found.message == "10 of 200 test rows are in train too (5 %)"
    assert found.evidence["rows"] == list(range(10))
    assert verdict("duplicates-across", pd.concat([TRAIN, TEST[:1]]), TEST) == "warn"
    assert verdict("duplicates-across", pl.from_pandas(copied), TEST, max_share=0.1, fail_share=0.1) == "pass"


def test_duplicates_across_green() -> None:
    assert verdict("duplicates-across", TRAIN, TEST) == "pass"
    assert verdict("duplicates-across", TRAIN.rename(columns=str.upper), TEST, label=None) == "skipped"
    assert verdict("duplicates-across", TRAIN, TEST[:0]) == "skipped"


def test_near_duplicates_across_red() -> None:
    near = TEST[:20].copy()
    near[list("abcde")] += RNG.uniform(-0.004, 0.004, (20, 5))
    (found,) = run("near-duplicates-across", pd.concat([TRAIN, near]), TEST).values()
    assert found.verdict == "fail"
    assert found.evidence["near"] >= 19
    other = [text.title() + "!" for text in TEXTS[:10]]
    texts = {"text": TEXTS[:500] + other, "y": [0] * 510}
    (found,) = run(
        "near-duplicates-across", texts, {"text": [t + "  " for t in TEXTS[:5]] + TEXTS[500:], "y": [0] * 305}
    ).values()
    assert (found.verdict, found.evidence["near"]) == ("warn", 5)


def test_near_duplicates_across_green() -> None:
    assert verdict("near-duplicates-across", TRAIN, TEST) == "pass"
    one = TEST[:1] + 0.001
    assert verdict("near-duplicates-across", pd.concat([TRAIN, one]), TEST) == "pass"  # one pair may be chance
    assert (
        verdict("near-duplicates-across", {"text": TEXTS[:500], "y": [0] * 500}, {"text": TEXTS[500:], "y": [0] * 300})
        == "pass"
    )
    assert (
        verdict("near-duplicates-across", pd.concat([TRAIN, TEST]), TEST) == "pass"
    )  # equal, not near: the other check
    coarse = pd.DataFrame({"a": RNG.integers(0, 5, 400) + 0.0, "b": RNG.integers(0, 5, 400) + 0.0, "y": 0})
    found = run("near-duplicates-across", coarse, coarse)[""]
    assert found.verdict == "skipped"
    assert "common by chance" in found.message
    assert verdict("near-duplicates-across", TRAIN[["a", "y"]], TEST[["a", "y"]]) == "skipped"
    assert verdict("near-duplicates-across", TRAIN, TEST[:0]) == "skipped"


def test_near_rows_agree_with_brute_force() -> None:
    a, b = RNG.normal(size=(300, 3)), RNG.normal(size=(300, 3))
    b[:150] = a[:150] + RNG.uniform(-0.012, 0.012, (150, 3))
    train, test = (read(pd.DataFrame(side, columns=list("xyz"))) for side in (a, b))
    near = near_numbers(train, test, list("xyz"), distance=0.01)
    assert near is not None
    low, high = np.quantile(a, (0.25, 0.75), axis=0)
    width = np.minimum(a.std(axis=0), (high - low) / 1.349)
    truth = (np.abs(b[:, None] - a[None]) / width <= 0.01).all(axis=2).any(axis=1)
    assert not (near.rows & ~truth).any()
    assert (near.rows & truth).sum() >= 0.95 * truth.sum() > 50


def test_label_conflicts_red() -> None:
    other = TEST[:8].assign(y=1 - TEST.y[:8])
    (found,) = run("label-conflicts", pd.concat([TRAIN, other]), TEST).values()
    assert (found.verdict, found.evidence["groups"], found.evidence["conflicts"]) == ("warn", 8, 16)
    assert verdict("label-conflicts", pd.concat([TRAIN, TEST.assign(y=1 - TEST.y)]), TEST) == "fail"


def test_label_conflicts_green() -> None:
    assert verdict("label-conflicts", pd.concat([TRAIN, TEST]), TEST) == "pass"
    assert nb.checks["label-conflicts"](Sample(read(TEST, label="y"))).verdict == "pass"  # type: ignore[union-attr]
    assert verdict("label-conflicts", TRAIN.drop(columns="y"), TEST, label=None) == "skipped"
    assert nb.checks["label-conflicts"](Sample(read({"y": [1]}, label="y"))).verdict == "skipped"  # type: ignore[union-attr]
    without = Sample(read(TEST, label="y"), reference=read(TRAIN.drop(columns="y")))
    assert nb.checks["label-conflicts"](without).verdict == "skipped"  # type: ignore[union-attr]


# ---- groups and times


def test_group_overlap_red() -> None:
    train, test = TRAIN.assign(who=np.arange(600) // 4), TEST.assign(who=149 + np.arange(200) // 4)
    found = run("group-overlap", train, test, group="who")["who"]
    assert (found.verdict, found.value) == ("fail", 0.02)
    assert found.message == "1 of 50 groups in test have rows in train (2 % of the test rows)"
    assert found.fix == 'Split with nb.split(data, group="who").'
    named = [frame.rename(columns={"who": "PatientId"}) for frame in (train, test)]
    assert verdict("group-overlap", *named, column="PatientId") == "warn"
    both = [frame.assign(site="x") for frame in (train, test)]
    assert verdict("group-overlap", *both, column="site, who", group=["site", "who"]) == "fail"


def test_group_overlap_green() -> None:
    train, test = TRAIN.assign(user=np.arange(600) // 4), TEST.assign(user=150 + np.arange(200) // 4)
    assert verdict("group-overlap", train, test, group="user", column="user") == "pass"
    assert verdict("group-overlap", train, test, column="user") == "pass"
    assert verdict("group-overlap", TRAIN, TEST) == "skipped"
    few = [frame.assign(shop=np.arange(len(frame)) % 3) for frame in (TRAIN, TEST)]  # three shops are no entities
    assert verdict("group-overlap", *few) == "skipped"
    categories = [frame.assign(category_id=np.arange(len(frame)) % 12) for frame in (TRAIN, TEST)]
    assert verdict("group-overlap", *categories) == "skipped"
    gaps = [frame.assign(user=[None] * len(frame)) for frame in (TRAIN, TEST)]
    assert verdict("group-overlap", *gaps, group="user", column="user") == "pass"


def _days(frame: pd.DataFrame, first: int) -> pd.DataFrame:
    return frame.assign(day=pd.Timestamp("2026-01-01") + pd.to_timedelta(first + np.arange(len(frame)), unit="D"))


def test_time_overlap_red() -> None:
    found = run("time-overlap", _days(TRAIN, 0), _days(TEST, 590), time="day")["day"]
    assert (found.verdict, found.value) == ("fail", 0.05)
    assert "10 of 200 test rows are not later than train (5 %), which ends at 2027-08-23" in found.message
    before = run("time-overlap", _days(TRAIN, 900), _days(TEST, 0), time="day")["day"]
    assert (before.verdict, before.message) == ("fail", "all of test lies before train")
    ends = [frame.assign(known=frame.day + pd.Timedelta(days=30)) for frame in (_days(TRAIN, 0), _days(TEST, 610))]
    assert verdict("time-overlap", *ends, time=["day", "known"], column="day") == "fail"
    assert verdict("time-overlap", {"t": [1, 2]}, {"t": [2.0]}, time="t", label=None, column="t") == "fail"


def test_time_overlap_green() -> None:
    assert verdict("time-overlap", _days(TRAIN, 0), _days(TEST, 600), time="day", column="day") == "pass"
    coarse = _days(TEST, 600).assign(day=lambda frame: frame.day.astype("datetime64[s]"))
    assert verdict("time-overlap", pl.from_pandas(_days(TRAIN, 0)), coarse, time="day", column="day") == "pass"
    hint = run("time-overlap", _days(TRAIN, 0), _days(TEST, 0))[""]
    assert (hint.verdict, hint.fix) == ("skipped", 'Pass time="day".')
    assert verdict("time-overlap", TRAIN, TEST) == "skipped"
    assert verdict("time-overlap", _days(TRAIN, 0), _days(TEST, 0)[:0], time="day") == "skipped"


# ---- what tells the label


def test_target_leakage_red() -> None:
    told = [frame.assign(told=np.where(RNG.random(len(frame)) < 0.005, "?", np.where(frame.y, "ill", "well")))
            for frame in (TRAIN, TEST)]  # fmt: skip
    found = run("target-leakage", *told)["told"]
    assert found.verdict == "fail"
    assert found.evidence["measure"] == "2 AUC − 1"
    assert found.fix.startswith("Ask when this column is known")
    strong = [frame.assign(hint=frame.y + RNG.normal(scale=0.3, size=len(frame))) for frame in (TRAIN, TEST)]
    assert verdict("target-leakage", *strong, column="hint") == "warn"
    numbers = [frame.assign(y=frame.a + frame.b, sum=-((frame.a + frame.b) ** 3)) for frame in (TRAIN, TEST)]
    found = run("target-leakage", *numbers)["sum"]
    assert (found.verdict, found.evidence["measure"]) == ("fail", "rank correlation")
    classes = [
        frame.assign(y=frame.y + 2 * (frame.a > 0), copy=10 - frame.y - 2 * (frame.a > 0)) for frame in (TRAIN, TEST)
    ]
    assert run("target-leakage", *classes)["copy"].evidence["measure"] == "lambda"
    assert verdict("target-leakage", *classes, column="copy") == "fail"


def test_target_leakage_finds_what_only_train_knows() -> None:
    train, test = TRAIN.assign(enc=TRAIN.y + RNG.normal(scale=0.4, size=600)), TEST.assign(enc=RNG.normal(size=200))
    found = run("target-leakage", train, test)["enc"]
    assert found.verdict == "fail"
    assert "in train" in found.message
    assert "but not in test" in found.message


def test_target_leakage_green() -> None:
    assert set(found.verdict for found in run("target-leakage", TRAIN, TEST).values()) == {"pass"}
    iris = dict(leak_zoo.tables(("iris",)))["iris"]
    test = iris[::4]
    found = run(
        "target-leakage", iris.drop(index=test.index), test
    )  # petals nearly decide, but no one of the two alone
    assert {name: result.verdict.value for name, result in found.items()} == dict.fromkeys(
        ["c0", "c1", "c2", "c3"], "pass"
    )


@pytest.mark.parametrize(
    ("train", "test", "says"),
    [
        (TRAIN.drop(columns="y"), TEST, "train has no label column 'y'"),
        (TRAIN[:10], TEST, "needs 20 labelled rows on each side"),
        (TRAIN.assign(y=1), TEST, "the label has one value in train"),
        (TRAIN.assign(y=[str(i) for i in range(600)]), TEST.assign(y="1"), "the label has 600 values: no classes"),
        (TRAIN, TEST.assign(y="1"), "the label is int64 in train and text in test"),
        (TRAIN.assign(y=pd.Timestamp("2026-01-01")), TEST.assign(y=pd.Timestamp("2026-01-01")), "cannot be judged"),
    ],
)
def test_labels_that_cannot_be_judged_are_skipped(train: pd.DataFrame, test: pd.DataFrame, says: str) -> None:
    sample = Sample(read(test, label="y"), reference=read(train))
    for check in ("target-leakage", "id-leakage"):
        test_id, train_id = test.assign(id=range(len(test))), train.assign(id=range(1000, 1000 + len(train)))
        sample = Sample(read(test_id, label="y"), reference=read(train_id))
        (found,) = nb.checks[check](sample)  # type: ignore[union-attr]
        assert found.verdict == "skipped"
        assert says in found.message


def test_images_and_changed_types_are_passed_over() -> None:
    sides = [
        read(
            {"X": np.zeros((n, 2, 2)), "t": ["a"] * n if n == 60 else list(range(n)), "y": np.arange(n) % 2}, label="y"
        )
        for n in (60, 40)
    ]
    found = read_sides(sides[0], sides[1], "y")
    assert not isinstance(found, str)
    assert power_of(found, "X") is None
    assert power_of(found, "t") is None


def test_id_leakage_red() -> None:
    place = np.argsort(np.argsort(np.append(TRAIN.y, TEST.y), kind="stable"), kind="stable")
    found = run("id-leakage", TRAIN.assign(id=place[:600]), TEST.assign(id=place[600:]))["id"]
    assert found.verdict == "fail"
    loose = np.append(TRAIN.y, TEST.y) + RNG.normal(scale=1.2, size=800)
    place = np.argsort(np.argsort(loose))
    assert verdict("id-leakage", TRAIN.assign(id=place[:600]), TEST.assign(id=place[600:] + 0.0), column="id") == "warn"


def test_id_leakage_green() -> None:
    assert verdict("id-leakage", TRAIN.assign(id=range(600)), TEST.assign(id=range(600, 800)), column="id") == "pass"
    assert verdict("id-leakage", TRAIN, TEST) == "skipped"


def test_leaks_of_the_label_need_a_label_and_train() -> None:
    for check in ("target-leakage", "id-leakage"):
        assert verdict(check, TRAIN, TEST, label=None) == "skipped"
    for check in set(LEAKS) - {"label-conflicts"}:
        outcome: Any = nb.checks[check](Sample(read(TEST, label="y")))
        found = outcome if isinstance(outcome, CheckResult) else next(iter(outcome))
        assert (found.verdict, found.message) == ("skipped", "no train data was given")


# ---- rows that moved


def test_moved_rows_red(workspace: Workspace) -> None:
    both = pd.concat([TRAIN, TEST], ignore_index=True).assign(id=range(800))
    split = nb.split(both, key="id", name="s")
    shuffled = both.sample(frac=1, random_state=0)
    report = nb.leaks(shuffled[:640], shuffled[640:], split="s", suite=["moved-rows"])
    (found,) = report.results
    assert found.verdict == "fail"
    assert found.value is not None
    assert 0.3 < found.value < 0.6
    assert nb.leaks(shuffled[:640], shuffled[640:], split=split).of("moved-rows")[0] == found


def test_moved_rows_green(workspace: Workspace) -> None:
    both = pd.concat([TRAIN, TEST], ignore_index=True).assign(id=range(800))
    split = nb.split(both, key="id", name="s")
    train, test = split.take(both)
    assert nb.leaks(train, test, split=split.record).of("moved-rows")[0].verdict == "pass"
    for gone in (train.drop(columns="id"), train.assign(id=-1 - train.id)):
        assert run("moved-rows", gone, test.assign(id=10_000), split=split.record)[""].verdict == "skipped"
    assert verdict("moved-rows", train, test) == "skipped"
    with pytest.raises(NotFound, match="no split 'r'"):
        nb.leaks(train, test, split="r")
    with pytest.raises(InvalidInput, match="split is a int\nPass what nb.split returned"):
        nb.leaks(train, test, split=3)


# ---- nb.leaks


def test_leaks_runs_all_and_is_recorded(workspace: Workspace) -> None:
    report = nb.leaks(TRAIN, TEST, label="y")
    assert {found.check for found in report.results} == set(LEAKS)
    assert (report.name, report.status, report.rows) == ("leaks", Verdict.PASS, 200)
    assert workspace.store.get(CheckReport, report.id) == report
    pair = nb.leaks((TRAIN[["a", "b"]], TRAIN.y), (TEST[["a", "b"]], TEST.y), name="pair", suite=["label-conflicts"])
    assert (pair.name, pair.results[0].verdict) == ("pair", "pass")


def test_leaks_takes_thresholds_and_stops(workspace: Workspace) -> None:
    copied = pd.concat([TRAIN, TEST[:10]])
    with pytest.raises(CheckFailed, match="check 'duplicates-across' failed: 10 of 200 test rows are in train too"):
        nb.leaks(copied, TEST, on_fail="raise")
    lenient = {"duplicates-across": {"max_share": 0.5, "fail_share": 0.5}}
    assert nb.leaks(copied, TEST, suite=lenient).passed
    assert nb.leaks(TRAIN, TEST, group="a", suite={"group-overlap": {"max_share": 1.0}}).passed


def test_leaks_refuses_what_it_cannot_use(workspace: Workspace) -> None:
    for options in ({"group": "who"}, {"time": ["a", "when"]}, {"label": "z"}):
        with pytest.raises(NotFound, match="no column"):
            nb.leaks(TRAIN, TEST, **options)
    with pytest.raises(InvalidInput, match="train and test have no column in common: a, b, c … and A, B, C …"):
        nb.leaks(TRAIN, TEST.rename(columns=str.upper))
    with pytest.raises(InvalidInput, match="on_fail is 'stop'"):
        nb.leaks(TRAIN, TEST, on_fail="stop")  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="no check 'group-overlaps'"):
        nb.leaks(TRAIN, TEST, suite=["group-overlaps"])


def test_checks_of_leaks_run_in_check_only_where_they_are_asked_for(workspace: Workspace) -> None:
    assert not {found.check for found in nb.check(TEST, baseline=TRAIN).results} & set(LEAKS)
    report = nb.check(TEST, baseline=pd.concat([TRAIN, TEST[:10]]), suite=["duplicates-across"])
    assert report.status == Verdict.FAIL
    nb.snapshot(TRAIN, "train")
    assert nb.check(TEST, baseline="train", suite=["duplicates-across"]).status == Verdict.SKIPPED


def test_a_split_looks_for_its_own_leaks_without_a_look(workspace: Workspace) -> None:
    both = pd.concat([TRAIN, TEST], ignore_index=True).assign(patient=np.arange(800) // 4)
    split = nb.split(both, group="patient", seal=True, name="own")
    report = split.leaks(both, label="y")
    assert (report.name, report.passed, split.looks) == ("own", True, 0)
    assert report.of("group-overlap")[0].verdict == "pass"
    assert nb.split(both, key=np.arange(800)).leaks(both, label="y", group="patient").status == Verdict.FAIL


# ---- real tables with planted leaks


def _benchmark(count: int) -> tuple[Counter[str], Counter[str], list[str]]:
    """Return found and planted leaks by kind, and the false alarms on clean splits."""
    found, planted, false = Counter[str](), Counter[str](), []
    for name, frame in leak_zoo.tables():
        for number, view in enumerate(leak_zoo.views(frame, count)):
            train, test = leak_zoo.clean(view, f"{name}{number}")
            false += [f"{name}/{number}: {alarm}" for alarm in sorted(alarms(nb.leaks(train, test, label="y")))]
            for kind, plant in leak_zoo.KINDS.items():
                case = plant(train, test, np.random.default_rng(number))
                seen = alarms(nb.leaks(case.train, case.test, label="y", **case.options))
                planted[kind] += 1
                found[kind] += bool(seen & set(case.finders))
    return found, planted, false


def test_planted_leaks_are_found_in_real_tables_and_clean_ones_are_quiet(workspace: Workspace) -> None:
    found, planted, false = _benchmark(1)
    missed = {kind: f"{found[kind]}/{planted[kind]}" for kind in planted if found[kind] < planted[kind]}
    assert false == []
    assert sum(found.values()) >= 0.95 * sum(planted.values()), missed


@pytest.mark.slow
def test_planted_leaks_are_found_in_twenty_tables(workspace: Workspace) -> None:
    """`make bench` looks at fifty."""
    found, planted, false = _benchmark(4)
    missed = {kind: f"{found[kind]}/{planted[kind]}" for kind in planted if found[kind] < planted[kind]}
    assert false == []
    assert sum(found.values()) >= 0.95 * sum(planted.values()), missed
