"""Each further check on a sick table and on a healthy one."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import nbops as nb
from nbops.core.records import CheckResult
from nbops.data.checks.personal_data import has_iban_sum, has_luhn
from nbops.data.checks.string_mismatch import folded
from nbops.data.frames import read
from nbops.data.leaf import Located, Sample
from nbops.data.profiling import profile_frame
from nbops.data.tails import fence


def run(check: str, data: Any, *, label: Any = None, baseline: Any = None, **thresholds: Any) -> dict[str, CheckResult]:
    """Return the results of one check by column."""
    known = None if baseline is None else profile_frame(read(baseline))
    outcome: Any = nb.checks[check](Sample(read(data, label=label), known), **thresholds)
    found = [outcome] if isinstance(outcome, CheckResult) else list(outcome)
    return {one.column: one for one in found}


def rows(found: CheckResult) -> list[int]:
    return np.flatnonzero(found.mask()).tolist() if isinstance(found, Located) else []


def numbers(n: int = 1000, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(50, 10, n)


# ---- texts


def test_mixed_nulls() -> None:
    table = {
        "t": ["a", "NA", " n/a", None, "b"],
        "u": ["a", "-", "-", "b", "c"],
        "v": ["none", "some", "none", "x", "y"],
    }
    found = run("mixed-nulls", table)
    assert {name: one.verdict for name, one in found.items()} == {"t": "warn", "u": "pass", "v": "pass"}
    assert found["t"].evidence == {"spellings": {"'NA'": 1, "' n/a'": 1, "missing": 1}}
    assert rows(found["t"]) == [1, 2]


def test_string_mismatch() -> None:
    table = {"city": ["Berlin"] * 8 + ["berlin ", "BERLIN"], "size": ["1.0", "10"] * 5, "ok": ["a", "b"] * 5}
    found = run("string-mismatch", table)
    assert {name: one.verdict for name, one in found.items()} == {"city": "warn", "size": "pass", "ok": "pass"}
    assert (rows(found["city"]), found["city"].value) == ([8, 9], 0.2)
    assert found["city"].evidence["examples"] == ["'Berlin' = 'BERLIN' = 'berlin '"]
    assert folded("New-York") == folded("new york") == "newyork"
    assert run("string-mismatch", {"name": [f"Person {i}" for i in range(10)]}) == {}


def test_special_characters() -> None:
    table = {"t": ["a", "!!", "b\x00", "caf\ufffd", "é", "日本"], "u": ["", " ", "x-1", "(y)", "z\n", "€5"]}
    found = run("special-characters", table)
    assert {name: one.verdict for name, one in found.items()} == {"t": "warn", "u": "pass"}
    assert rows(found["t"]) == [1, 2, 3]


def test_string_length() -> None:
    rng = np.random.default_rng(0)
    usual = ["x" * n for n in rng.integers(3, 12, 500)]
    codes = ["AB123"] * 500
    found = run("string-length-out-of-bounds", {"t": [*usual[:-1], "y" * 4000], "c": [*codes[:-1], "A"]})
    assert {name: (one.verdict, rows(one)) for name, one in found.items()} == {
        "t": ("warn", [499]),
        "c": ("warn", [499]),
    }
    healthy = run("string-length-out-of-bounds", {"t": usual, "c": codes, "d": [f"{i}" for i in range(500)]})
    assert {one.verdict for one in healthy.values()} == {"pass"}


# ---- numbers and rows


def test_outlier_rows() -> None:
    table = pd.DataFrame({"a": numbers(), "b": numbers(seed=1), "i": np.arange(1000)})
    table.loc[[3, 7], "a"] = [1e6, -400]
    table.loc[5, "b"] = 900
    (found,) = run("outlier-rows", table).values()
    assert (found.verdict, rows(found), found.evidence["columns"]) == ("warn", [3, 5, 7], {"a": 2, "b": 1})


@pytest.mark.parametrize("name", ["normal", "uniform", "exponential", "lognormal", "standard_t", "integers", "counts"])
def test_outlier_rows_is_quiet_on_healthy_tails(name: str) -> None:
    fired = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        draw = {
            "standard_t": lambda rng=rng: rng.standard_t(4, (500, 5)),
            "integers": lambda rng=rng: rng.integers(0, 1000, (500, 5)).astype(float),
            "counts": lambda rng=rng: rng.poisson(3, (500, 5)).astype(float),
        }.get(name, lambda rng=rng: getattr(rng, name)(size=(500, 5)))
        fired += run("outlier-rows", pd.DataFrame(draw()))[""].verdict == "warn"
    assert fired <= 1


def test_a_fence_follows_the_tail_and_not_the_outliers() -> None:
    values = numbers(5000)
    limit = fence(values)
    assert limit is not None
    assert 60 < limit < 150
    spoiled = values.copy()
    spoiled[:100] = 1e9
    moved = fence(spoiled)
    assert moved is not None
    assert moved < 1e6
    assert fence(np.zeros(100)) is None
    assert fence(np.array([1e308, -1e308] * 50)) is None, "distances that overflow tell nothing"
    assert fence(np.arange(10.0)) is None


def test_conflicting_labels() -> None:
    table = {"a": [1, 1, 2, 2, 3], "b": ["x", "x", "y", "z", "x"], "y": [0, 1, 0, 1, 0]}
    (found,) = run("conflicting-labels", table, label="y").values()
    assert (found.verdict, rows(found), found.evidence) == ("fail", [0, 1], {"groups": 1})
    table["y"] = [1, 1, 0, 1, 0]
    assert run("conflicting-labels", table, label="y")["y"].verdict == "pass"
    assert run("conflicting-labels", table)[""].verdict == "skipped"
    assert run("conflicting-labels", {"a": [1, 1], "y": [0.5, 0.7]}, label="y")[""].verdict == "skipped"


# ---- columns


def test_feature_label_correlation() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 2000)
    table = pd.DataFrame({"noise": rng.normal(size=2000), "proxy": label * 10 + rng.uniform(size=2000),
                          "text": np.array(["a", "b", "c"])[label],
                          "some": label + rng.normal(0, 1, 2000), "y": label})  # fmt: skip
    found = run("feature-label-correlation", table, label="y")
    assert {name: one.verdict for name, one in found.items()} == {
        "noise": "pass",
        "proxy": "warn",
        "text": "fail",
        "some": "pass",
    }
    assert found["noise"].value == 0
    money = pd.DataFrame({"net": rng.normal(100, 20, 2000), "x": rng.normal(size=2000)})
    money["y"] = money["net"] * 1.2 + rng.normal(0, 0.1, 2000)
    assert {name: one.verdict for name, one in run("feature-label-correlation", money, label="y").items()} == {
        "net": "fail",
        "x": "pass",
    }
    assert run("feature-label-correlation", table)[""].verdict == "skipped"
    assert run("feature-label-correlation", table[:50], label="y")[""].verdict == "skipped"
    assert (
        run("feature-label-correlation", {"a": range(200), "y": [f"t{i}" for i in range(200)]}, label="y")[""].verdict
        == "skipped"
    )


def test_feature_feature_correlation() -> None:
    a = numbers()
    table = pd.DataFrame(
        {"a": a, "twice": 3 - 2 * a, "b": numbers(seed=1), "t": ["x", "y"] * 500, "u": ["Ja", "Nein"] * 500}
    )
    table.loc[::7, "twice"] = np.nan
    (found,) = run("feature-feature-correlation", table).values()
    assert (found.verdict, found.evidence["pairs"]) == ("warn", [["a", "twice"], ["t", "u"]])
    healthy = table.assign(twice=a + numbers(seed=2), u=(["x", "y", "y", "x"] * 250))
    assert run("feature-feature-correlation", healthy)[""].verdict == "pass"
    rare = pd.DataFrame({"a": [0.0] * 99 + [1.0], "b": [0.0] * 99 + [5.0]})
    assert run("feature-feature-correlation", rare)[""].verdict == "pass"
    assert run("feature-feature-correlation", np.random.default_rng(0).normal(size=(50, 3)))[""].verdict == "skipped"
    assert run("feature-feature-correlation", pd.DataFrame({"c": [1.0] * 50, "d": [2.0] * 50}))[""].verdict == "pass"


def test_identifier_in_features() -> None:
    rng = np.random.default_rng(0)
    table = {"id": rng.permutation(200) + 5000, "code": [f"A{i:03d}" for i in range(200)],
             "x": rng.permutation(200) * 1.5,
             "n": rng.integers(0, 90, 200), "note": [f"said {i}" for i in range(200)]}  # fmt: skip
    found = run("identifier-in-features", table)
    assert {name: one.verdict for name, one in found.items()} == {
        "id": "warn",
        "code": "warn",
        "x": "pass",
        "n": "pass",
        "note": "pass",
    }
    assert run("identifier-in-features", {"id": range(10)})[""].verdict == "skipped"


# ---- dates


def test_date_in_the_future() -> None:
    day = dt.date(2024, 3, 1)
    past = [day - dt.timedelta(days=i) for i in range(20)]
    table = {
        "d": [*past[:-1], dt.date(9999, 12, 31)],
        "due": [day + dt.timedelta(days=i) for i in range(20)],
        "ok": past,
    }
    found = run("date-in-the-future", table, now="2024-03-02")
    assert {name: one.verdict for name, one in found.items()} == {"d": "warn", "due": "pass", "ok": "pass"}
    assert rows(found["d"]) == [19]


def test_date_order() -> None:
    days = [dt.date(2024, 3, 1) + dt.timedelta(days=i % 31) for i in range(93)]
    swapped = [dt.date(d.year, d.day, d.month) if d.day <= 12 and i % 2 else d for i, d in enumerate(days)]
    texts = [d.strftime("%d/%m/%Y") for d in days]
    mixed = [*texts[:-2], "04/28/2024", "04/29/2024"]
    found = run("date-order", {"d": swapped, "ok": days, "t": mixed, "u": texts})
    assert {name: one.verdict for name, one in found.items()} == {"d": "warn", "ok": "pass", "t": "warn", "u": "pass"}
    low, high = dt.date(2024, 2, 27), dt.date(2024, 4, 15)  # the sure days are 13 to 31 March; 15 days of slack
    assert rows(found["d"]) == [i for i, day in enumerate(swapped) if not low <= day <= high]
    assert rows(found["t"]) == [91, 92]
    years = [dt.date(2020, 1, 1) + dt.timedelta(days=11 * i) for i in range(150)]
    assert run("date-order", {"d": years})["d"].verdict == "pass"


# ---- against a baseline


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: x * 100, "times hundreds"), (lambda x: x / 100, "divided by hundreds"),
        (lambda x: x * 1000, "times thousands"),
        (lambda x: x * 1.8 + 32, "°C to °F"), (lambda x: (x - 32) / 1.8, "°F to °C"),
        (lambda x: x / 0.3048, "times 3.281"),
        (lambda x: -x, "the sign"),
    ],
)  # fmt: skip
def test_unit_change(change: Any, says: str) -> None:
    old, new = np.random.default_rng(0).gamma(9, 3, 3000), np.random.default_rng(1).gamma(9, 3, 800)
    found = run("unit-change", {"x": change(new), "ok": new}, baseline={"x": old, "ok": old})
    assert {name: one.verdict for name, one in found.items()} == {"x": "fail", "ok": "pass"}
    assert says in found["x"].message


def test_unit_change_is_not_any_drift() -> None:
    old, rng = numbers(), np.random.default_rng(3)
    shifted = {"x": rng.normal(90, 10, 500), "y": rng.uniform(0, 5000, 500)}
    assert {one.verdict for one in run("unit-change", shifted, baseline={"x": old, "y": old}).values()} == {"pass"}
    assert run("unit-change", {"x": old})[""].verdict == "skipped"
    assert run("unit-change", {"x": old[:5]}, baseline={"x": old}) == {}


@pytest.mark.parametrize(
    ("now", "before", "verdict"), [(1000, 900, "pass"), (50, 1000, "warn"), (20_000, 1000, "warn"), (0, 10, "fail")]
)
def test_row_count_change(now: int, before: int, verdict: str) -> None:
    (found,) = run("row-count-change", {"a": np.arange(now)}, baseline={"a": np.arange(before)}).values()
    assert found.verdict == verdict
    assert found.message == f"{now:,} rows, the baseline has {before:,}"


def test_row_count_change_needs_a_baseline() -> None:
    assert run("row-count-change", {"a": [1]})[""].verdict == "skipped"
    assert run("row-count-change", {"a": [1]}, baseline={"a": np.zeros(0)})[""].verdict == "skipped"


# ---- personal data


PERSONAL = {
    "email": ["ann@example.org", "write to bob@mail.example.com"],
    "card number": ["4111 1111 1111 1111", "5500005555555559", "3400 000000 00009"],
    "IBAN": ["DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819", "CH9300762011623852957"],
    "phone number": ["+41 44 668 18 00", "(030) 1234 5678", "555-867-5309"],
    "US social security number": ["219-09-9999", "078-05-1120", "457-55-5462"],
    "Swiss AHV number": ["756.9217.0769.85", "756.9217.0769.85", "756.9217.0769.85"],
    "UK insurance number": ["QQ123456C".replace("QQ", "AB"), "CE 12 34 56 A", "JG103759A"],
}


@pytest.mark.parametrize("kind", PERSONAL)
def test_personal_data_red(kind: str) -> None:
    found = run("personal-data", {"t": PERSONAL[kind] * 5})["t"]
    assert (found.verdict, found.evidence["kind"], found.value) == ("warn", kind, 1.0)
    assert 0.8 <= found.evidence["confidence"] <= 1
    assert f"{100 * found.evidence['confidence']:.0f} % sure" in found.message


def test_personal_data_green() -> None:
    rng = np.random.default_rng(0)
    table = {
        "sku": [f"{n:016d}" for n in rng.integers(10**15, 10**16, 400)],  # 1 of 10 has the check digit by chance
        "number": rng.integers(10**15, 10**16, 400),
        "date": ["2024-01-31", "2023-05-06"] * 200,
        "version": ["1.2.3", "10.0.1"] * 200,
        "text": ["call me", "a @ b"] * 200,
        "price": ["12.50", "1,200.00"] * 200,
    }
    assert {name: one.verdict for name, one in run("personal-data", table).items() if one.verdict != "pass"} == {}
    assert run("personal-data", {"n": range(100)}) == {}


def test_cards_as_numbers_and_check_digits() -> None:
    cards = {"n": np.array([4111111111111111, 5500005555555559, 6011000990139424])}
    assert run("personal-data", cards)["n"].verdict == "warn"
    assert has_luhn("4111111111111111")
    assert not has_luhn("4111111111111112")
    assert not has_luhn("0000000000000000")
    assert has_iban_sum("DE89370400440532013000")
    assert not has_iban_sum("DE89370400440532013001")


# ---- healthy data

WARNS = {
    # data set: what may warn on it, and why
    "iris": {
        "duplicate-rows": "two flowers were measured alike, to a millimetre",
    },
    "breast_cancer": {},
    "diabetes": {},
    "digits": {"constant-column": "as a named table: three pixels at the rim are always blank"},
    "wine": {},
    "linnerud": {},
}


def healthy(name: str) -> pd.DataFrame:
    from sklearn import datasets

    loaded = getattr(datasets, f"load_{name}")(as_frame=True)
    return loaded.frame


@pytest.mark.parametrize("name", WARNS)
def test_no_check_fires_on_healthy_data(name: str, workspace: Any) -> None:
    frame = healthy(name)
    label = "target" if "target" in frame.columns else None
    report = nb.check(frame, label=label)
    fired = {r.check for r in report.results if r.verdict in ("warn", "fail", "error")}
    assert fired <= set(WARNS[name]), [r.message for r in report.results if r.verdict in ("warn", "fail", "error")]


def test_half_of_healthy_data_passes_against_the_other(workspace: Any) -> None:
    frame = pl.from_pandas(healthy("breast_cancer")).sample(fraction=1.0, shuffle=True, seed=0)
    report = nb.check(frame[:280], baseline=frame[280:], label="target", suite=["unit-change", "row-count-change"])
    assert report.status == "pass"
