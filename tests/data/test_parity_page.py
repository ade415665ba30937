"""The page that lays the data checks beside their peers leaves nothing out, and each planted defect is found."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nbops as nb
from nbops.core.errors import InvalidInput
from nbops.data import expect
from nbops.data.leaf import IMAGES, LEAKS, SERIES
from nbops.data.rules.base import Rule

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "data-checks-parity.md"
GUIDE = PAGE.parents[1] / "how-to" / "data-checks.md"

PEERS = {
    "Anomalies": (
        "FEATURE_TYPE_LOW_FRACTION_PRESENT FEATURE_TYPE_LOW_NUMBER_PRESENT FEATURE_TYPE_NOT_PRESENT "
        "FEATURE_TYPE_HIGH_NUMBER_VALUES FEATURE_TYPE_LOW_NUMBER_VALUES FEATURE_TYPE_HIGH_UNIQUE "
        "FEATURE_TYPE_LOW_UNIQUE FEATURE_TYPE_NO_UNIQUE VALUE_NESTEDNESS_MISMATCH INVALID_FEATURE_SHAPE "
        "UNEXPECTED_DATA_TYPE SCHEMA_NEW_COLUMN SCHEMA_MISSING_COLUMN SEMANTIC_DOMAIN_UPDATE "
        "DOMAIN_INVALID_FOR_TYPE FEATURE_MISSING_NAME FEATURE_MISSING_TYPE INVALID_SCHEMA_SPECIFICATION "
        "INVALID_DOMAIN_SPECIFICATION DERIVED_FEATURE_BAD_LIFECYCLE DERIVED_FEATURE_INVALID_SOURCE "
        "STATS_NOT_AVAILBLE BOOL_TYPE_BIG_INT BOOL_TYPE_SMALL_INT BOOL_TYPE_UNEXPECTED_STRING "
        "BOOL_TYPE_UNEXPECTED_FLOAT BOOL_TYPE_INVALID_CONFIG ENUM_TYPE_INVALID_UTF8 "
        "ENUM_TYPE_UNEXPECTED_STRING_VALUES FLOAT_TYPE_BIG_FLOAT FLOAT_TYPE_SMALL_FLOAT "
        "FLOAT_TYPE_STRING_NOT_FLOAT FLOAT_TYPE_HAS_NAN FLOAT_TYPE_HAS_INF INT_TYPE_BIG_INT "
        "INT_TYPE_SMALL_INT INT_TYPE_NOT_INT_STRING COMPARATOR_L_INFTY_HIGH "
        "COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH COMPARATOR_NORMALIZED_ABSOLUTE_DIFFERENCE_HIGH "
        "COMPARATOR_LOW_NUM_EXAMPLES COMPARATOR_HIGH_NUM_EXAMPLES COMPARATOR_CONTROL_DATA_MISSING "
        "DATASET_LOW_NUM_EXAMPLES DATASET_HIGH_NUM_EXAMPLES SPARSE_FEATURE_MISSING_VALUE "
        "SPARSE_FEATURE_MISSING_INDEX SPARSE_FEATURE_LENGTH_MISMATCH SPARSE_FEATURE_NAME_COLLISION "
        "WEIGHTED_FEATURE_MISSING_VALUE WEIGHTED_FEATURE_MISSING_WEIGHT WEIGHTED_FEATURE_LENGTH_MISMATCH "
        "WEIGHTED_FEATURE_NAME_COLLISION SEQUENCE_VALUE_TOO_FEW_OCCURRENCES "
        "SEQUENCE_VALUE_TOO_MANY_OCCURRENCES SEQUENCE_VALUE_TOO_SMALL_FRACTION "
        "SEQUENCE_VALUE_TOO_LARGE_FRACTION FEATURE_COVERAGE_TOO_LOW "
        "FEATURE_COVERAGE_TOO_SHORT_AVG_TOKEN_LENGTH LOW_SUPPORTED_IMAGE_FRACTION "
        "MAX_IMAGE_BYTE_SIZE_EXCEEDED"
    ),
    "integrity": (
        "IsSingleValue MixedNulls MixedDataTypes StringMismatch SpecialCharacters PercentOfNulls "
        "DataDuplicates StringLengthOutOfBounds ConflictingLabels ClassImbalance OutlierSampleDetection "
        "FeatureLabelCorrelation FeatureFeatureCorrelation IdentifierLabelCorrelation ColumnsInfo"
    ),
    "two tables": (
        "DatasetsSizeComparison NewLabel NewCategory StringMismatchComparison DateTrainTestLeakageDuplicates "
        "DateTrainTestLeakageOverlap IndexTrainTestLeakage TrainTestSamplesMix FeatureLabelCorrelationChange "
        "FeatureDrift LabelDrift MultivariateDrift"
    ),
}


def rows(section: str) -> list[list[str]]:
    """Return the cells of the table below the heading that holds `section`."""
    text = next(part for part in PAGE.read_text(encoding="utf-8").split("\n## ") if section in part.partition("\n")[0])
    lines = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in text.splitlines() if line[:2] == "| "]
    return lines[1:]


def names_in(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def is_known(name: str) -> bool:
    """Return whether `name`, as the page writes it, is a check, a rule, or something that can be called."""
    if name.startswith("nb."):
        return hasattr(nb, name.removeprefix("nb."))
    return name in nb.checks or name in expect.KINDS


@pytest.mark.parametrize("section", PEERS)
def test_nothing_of_a_peer_is_left_out(section: str) -> None:
    found = rows(section)
    assert [row[0] for row in found] == PEERS[section].split()
    for row in found:
        assert len(row) == 4, row
        assert names_in(row[2]) or (row[2] == "none" and row[3]), row


def test_there_are_61_anomalies() -> None:
    names = PEERS["Anomalies"].split()
    assert len(names) == len(set(names)) == 61


def test_each_name_on_the_page_is_there_and_each_check_is_on_it() -> None:
    named = names_in(PAGE.read_text(encoding="utf-8"))
    assert [name for name in named if not is_known(name)] == []
    assert not is_known("in-rang")
    shipped = {name for name in nb.checks if nb.checks[name].__module__.startswith("nbops.")}
    alone = {
        "date-in-the-future",
        "date-order",
        "target-leakage",
        "label-conflicts",
        "moved-rows",
        "fit-before-split",
        "broken-text",
        "cut-text",
        "near-duplicate-texts",
        "text-shift",
        *SERIES,
        *IMAGES,
    }
    assert shipped - set(named) == alone, "what no peer has"


def test_the_guide_names_every_check_and_every_rule() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    listed = {name for line in text.splitlines() if line.startswith("| `") for name in names_in(line.split("|")[1])}
    listed |= set(names_in(text)) & set(LEAKS)
    shipped = {name for name in nb.checks if nb.checks[name].__module__.startswith("nbops.")}
    assert (shipped | set(expect.KINDS)) - listed == set()


# ---- planted defects

RNG = np.random.default_rng(0)
N = 400
CLEAN = pd.DataFrame(
    {
        "x": RNG.normal(50, 5, N), "n": RNG.integers(0, 50, N), "t": RNG.choice(["red", "green", "blue"], N),
        "d": pd.Timestamp("2024-01-01") + pd.to_timedelta(RNG.integers(0, 50, N), "D"), "y": RNG.integers(0, 2, N),
    }
)  # fmt: skip


def put(column: str, values: Any, *, rows: Any = slice(0, 1)) -> pd.DataFrame:
    """Return the clean table with some cells replaced."""
    frame = CLEAN.copy()
    if isinstance(values, str) or (not np.isscalar(values) and values is not None):
        frame[column] = frame[column].astype(object)
    frame.loc[frame.index[rows], column] = values
    return frame


def rule(made: Rule, data: Any) -> Callable[[], set[str]]:
    return lambda: fired(data, suite=made)


def check(name: str, data: Any, **options: Any) -> Callable[[], set[str]]:
    return lambda: fired(data, suite=[name], **options)


def fired(data: Any, **options: Any) -> set[str]:
    """Return the codes that warn or fail."""
    return {found.check for found in nb.check(data, **options).results if found.verdict in ("warn", "fail")}


def drifted(current: Any, *, of: Any = CLEAN, **options: Any) -> Callable[[], set[str]]:
    return lambda: {"nb.drift"} if nb.drift(of, current, **options).status in ("warn", "fail") else set()


def leaked(train: Any, test: Any, **options: Any) -> Callable[[], set[str]]:
    return lambda: {f.check for f in nb.leaks(train, test, **options).results if f.verdict in ("warn", "fail")}


def refused(make: Callable[[], Any], code: str) -> Callable[[], set[str]]:
    def call() -> set[str]:
        with pytest.raises(InvalidInput):
            make()
        return {code}

    return call


def skipped() -> set[str]:
    (found,) = nb.check(CLEAN, suite=["outside-baseline"]).results
    return {found.check} if found.verdict == "skipped" and "no baseline" in found.message else set()


def texts(*values: str) -> pd.DataFrame:
    return pd.DataFrame({"t": values})


def lists(*values: Any) -> pd.DataFrame:
    return pd.DataFrame({"v": pd.Series(list(values), dtype=object)})


def lengths(low: int, high: int) -> Rule:
    return expect.Holds(
        function=lambda df: [low <= len(one) <= high for one in df["v"]], name="lists are of that length"
    )


PAIRED = expect.Holds(function=lambda df: [len(i) == len(v) for i, v in zip(df["i"], df["v"], strict=True)])
PAIRS = pd.DataFrame(
    {"i": pd.Series([[0], [1, 2], []], dtype=object), "v": pd.Series([[1.0], [2.0], [3.0]], dtype=object)}
)
TWIN = pd.DataFrame({"x": CLEAN["x"], "z": CLEAN["x"] * 2})
WEIGHTS = pd.DataFrame({"v": [1.0, None, 3.0], "w": [0.5, 0.5, None]})
FLAG = expect.OneOf("b", values=[0, 1])
SUITE = nb.Suite.from_yaml

PLANTS: dict[str, Callable[[], set[str]]] = {
    "FEATURE_TYPE_LOW_FRACTION_PRESENT": rule(expect.NotMissing("x", max_share=0.1), put("x", None, rows=slice(0, 80))),
    "FEATURE_TYPE_LOW_NUMBER_PRESENT": rule(expect.NotMissing("x", max_share=0.5), put("x", None, rows=slice(0, 390))),
    "FEATURE_TYPE_NOT_PRESENT": check("missing-values", CLEAN.assign(x=np.nan)),
    "FEATURE_TYPE_HIGH_NUMBER_VALUES": rule(lengths(0, 2), lists([1], [1, 2, 3])),
    "FEATURE_TYPE_LOW_NUMBER_VALUES": rule(lengths(1, 2), lists([1], [])),
    "FEATURE_TYPE_HIGH_UNIQUE": rule(expect.DistinctInRange("n", high=10), CLEAN),
    "FEATURE_TYPE_LOW_UNIQUE": rule(expect.DistinctInRange("t", low=4), CLEAN),
    "FEATURE_TYPE_NO_UNIQUE": rule(expect.DistinctInRange("q", low=4), CLEAN),
    "VALUE_NESTEDNESS_MISMATCH": rule(expect.HasType("v", type="float"), lists([[1.0]], [[2.0]])),
    "INVALID_FEATURE_SHAPE": rule(expect.HasType("X", type="tensor<float64>[2,2]"), {"X": np.zeros((3, 2, 3))}),
    "UNEXPECTED_DATA_TYPE": rule(expect.HasType("n", type="int"), CLEAN.assign(n="a")),
    "SCHEMA_NEW_COLUMN": rule(expect.HasColumns(list(CLEAN), is_exact=True), CLEAN.assign(new=1)),
    "SCHEMA_MISSING_COLUMN": rule(expect.HasColumns(list(CLEAN)), CLEAN.drop(columns="n")),
    "SEMANTIC_DOMAIN_UPDATE": rule(expect.Matches("t", pattern="[a-z]+"), put("t", "ann@example.org")),
    "DOMAIN_INVALID_FOR_TYPE": rule(expect.InRange("t", low=0), CLEAN),
    "FEATURE_MISSING_NAME": refused(lambda: SUITE("rules: [{rule: unique}]"), "nb.Suite"),
    "FEATURE_MISSING_TYPE": refused(lambda: SUITE("rules: [{rule: has-type, column: a}]"), "nb.Suite"),
    "INVALID_SCHEMA_SPECIFICATION": refused(lambda: SUITE("rules: [{rule: nothing}]"), "nb.Suite"),
    "INVALID_DOMAIN_SPECIFICATION": refused(
        lambda: SUITE("rules: [{rule: in-range, column: a, low: 2, high: 1}]"), "nb.Suite"
    ),
    "BOOL_TYPE_BIG_INT": rule(FLAG, {"b": [0, 1, 2]}),
    "BOOL_TYPE_SMALL_INT": rule(FLAG, {"b": [0, 1, -1]}),
    "BOOL_TYPE_UNEXPECTED_STRING": rule(FLAG, {"b": ["0", "1", "maybe"]}),
    "BOOL_TYPE_UNEXPECTED_FLOAT": rule(FLAG, {"b": [0.0, 1.0, 0.5]}),
    "BOOL_TYPE_INVALID_CONFIG": refused(lambda: SUITE("rules: [{rule: one-of, column: a, values: []}]"), "nb.Suite"),
    "ENUM_TYPE_INVALID_UTF8": check("special-characters", texts(*["caf\ufffd"] * 5, *["tea"] * 95)),
    "ENUM_TYPE_UNEXPECTED_STRING_VALUES": rule(expect.OneOf("t", values=["red", "green", "blue"]), put("t", "pink")),
    "FLOAT_TYPE_BIG_FLOAT": rule(expect.InRange("x", high=100), put("x", 1e6)),
    "FLOAT_TYPE_SMALL_FLOAT": rule(expect.InRange("x", low=0), put("x", -1.0)),
    "FLOAT_TYPE_STRING_NOT_FLOAT": rule(expect.HasType("x", type="number"), put("x", "n/a")),
    "FLOAT_TYPE_HAS_NAN": rule(expect.NotMissing("x"), put("x", np.nan)),
    "FLOAT_TYPE_HAS_INF": rule(expect.Finite("x"), put("x", np.inf)),
    "INT_TYPE_BIG_INT": rule(expect.InRange("n", high=100), put("n", 101)),
    "INT_TYPE_SMALL_INT": rule(expect.InRange("n", low=0), put("n", -1)),
    "INT_TYPE_NOT_INT_STRING": rule(expect.HasType("n", type="int"), put("n", "1x")),
    "COMPARATOR_L_INFTY_HIGH": drifted(CLEAN.assign(t="red")),
    "COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH": drifted(CLEAN.assign(x=CLEAN["x"] + 10)),
    "COMPARATOR_NORMALIZED_ABSOLUTE_DIFFERENCE_HIGH": drifted(put("t", "blue", rows=slice(0, 150))),
    "COMPARATOR_LOW_NUM_EXAMPLES": check("row-count-change", CLEAN[:10], baseline=CLEAN),
    "COMPARATOR_HIGH_NUM_EXAMPLES": check("row-count-change", CLEAN, baseline=CLEAN[:10]),
    "COMPARATOR_CONTROL_DATA_MISSING": skipped,
    "DATASET_LOW_NUM_EXAMPLES": rule(expect.RowCount(low=1000), CLEAN),
    "DATASET_HIGH_NUM_EXAMPLES": rule(expect.RowCount(high=100), CLEAN),
    "SPARSE_FEATURE_MISSING_VALUE": rule(PAIRED, PAIRS[1:2]),
    "SPARSE_FEATURE_MISSING_INDEX": rule(PAIRED, PAIRS[2:]),
    "SPARSE_FEATURE_LENGTH_MISMATCH": rule(PAIRED, PAIRS),
    "SPARSE_FEATURE_NAME_COLLISION": refused(lambda: nb.check(pd.DataFrame([[1, 2]], columns=["a", "a"])), "nb.check"),
    "WEIGHTED_FEATURE_MISSING_VALUE": rule(expect.NotMissing("v", when="w"), WEIGHTS),
    "WEIGHTED_FEATURE_MISSING_WEIGHT": rule(expect.NotMissing("w", when="v"), WEIGHTS),
    "WEIGHTED_FEATURE_LENGTH_MISMATCH": rule(PAIRED, PAIRS),
    "WEIGHTED_FEATURE_NAME_COLLISION": refused(
        lambda: nb.check(pd.DataFrame([[1, 2]], columns=["a", "a"])), "nb.check"
    ),
    "SEQUENCE_VALUE_TOO_FEW_OCCURRENCES": rule(expect.Matches("t", pattern=r".*\bend\b.*"), texts("to the end", "no")),
    "SEQUENCE_VALUE_TOO_MANY_OCCURRENCES": rule(
        expect.Matches("t", pattern=".*(ha.*){3}", is_not=True), texts("ha ha ha", "ha")
    ),
    "SEQUENCE_VALUE_TOO_SMALL_FRACTION": rule(
        expect.Matches("t", pattern=".*a.*", max_share=0.4), texts("a", "b", "c")
    ),
    "SEQUENCE_VALUE_TOO_LARGE_FRACTION": rule(
        expect.Matches("t", pattern=".*a.*", is_not=True, max_share=0.4), texts("a", "a", "c")
    ),
    "FEATURE_COVERAGE_TOO_LOW": rule(expect.Matches("t", pattern=r"[a-z ]*", max_share=0.1), texts("abc", "日本語")),
    "FEATURE_COVERAGE_TOO_SHORT_AVG_TOKEN_LENGTH": rule(expect.LengthInRange("t", low=3), texts("a", "word")),
    "IsSingleValue": check("constant-column", CLEAN.assign(n=1)),
    "MixedNulls": check("mixed-nulls", texts("a", "NA", "null", "b")),
    "MixedDataTypes": check("mixed-types", texts(*[str(i) for i in range(50)], "n/a")),
    "StringMismatch": check("string-mismatch", texts(*["red"] * 5, "Red")),
    "SpecialCharacters": check("special-characters", texts("a", "!!!")),
    "PercentOfNulls": check("missing-values", put("x", None, rows=slice(0, 40))),
    "DataDuplicates": check("duplicate-rows", pd.concat([CLEAN, CLEAN[:40]])),
    "StringLengthOutOfBounds": check(
        "string-length-out-of-bounds", texts(*["word" * (1 + i % 3) for i in range(99)], "x" * 900)
    ),
    "ConflictingLabels": check(
        "conflicting-labels", pd.concat([CLEAN, CLEAN[:5].assign(y=1 - CLEAN["y"][:5])]), label="y"
    ),
    "ClassImbalance": check("label-imbalance", CLEAN.assign(y=[1] * 10 + [0] * (N - 10)), label="y"),
    "OutlierSampleDetection": check("outlier-rows", put("x", 9999.0)),
    "FeatureLabelCorrelation": check(
        "feature-label-correlation", CLEAN.assign(x=CLEAN["y"] + RNG.normal(0, 0.01, N)), label="y"
    ),
    "FeatureFeatureCorrelation": check("feature-feature-correlation", CLEAN.assign(z=CLEAN["x"] * 2)),
    "IdentifierLabelCorrelation": check("identifier-in-features", CLEAN.assign(id=np.arange(N))),
    "DatasetsSizeComparison": check("row-count-change", CLEAN[:4], baseline=CLEAN),
    "NewLabel": check("outside-baseline", put("t", "pink"), baseline=CLEAN, label="t"),
    "NewCategory": check("outside-baseline", put("t", "pink"), baseline=CLEAN),
    "StringMismatchComparison": check("outside-baseline", put("t", "RED"), baseline=CLEAN),
    "FeatureLabelCorrelationChange": check("feature-label-correlation", CLEAN.assign(x=CLEAN["y"] * 1.0), label="y"),
    "DateTrainTestLeakageDuplicates": leaked(CLEAN[:200], CLEAN[200:], time="d"),
    "DateTrainTestLeakageOverlap": leaked(CLEAN[:200], CLEAN[200:], time="d"),
    "IndexTrainTestLeakage": leaked(CLEAN[:200], CLEAN[200:], group="n"),
    "TrainTestSamplesMix": leaked(CLEAN[:200], CLEAN[100:300]),
    "FeatureDrift": drifted(CLEAN.assign(x=CLEAN["x"] / 1000)),
    "LabelDrift": drifted(CLEAN.assign(y=1), label="y"),
    "MultivariateDrift": drifted(
        TWIN.assign(z=TWIN["z"].sample(frac=1, random_state=0).to_numpy()), of=TWIN, multivariate=True
    ),
}


def test_every_row_that_has_an_answer_has_a_planted_defect() -> None:
    answered = {row[0] for section in PEERS for row in rows(section) if row[2] != "none"}
    assert set(PLANTS) == answered - {"ColumnsInfo"}


@pytest.mark.parametrize("name", PLANTS)
def test_the_planted_defect_is_found(name: str, workspace: Any) -> None:
    row = next(row for section in PEERS for row in rows(section) if row[0] == name)
    assert names_in(row[2])[0] in PLANTS[name]()


def test_nothing_fires_without_a_defect(workspace: Any) -> None:
    assert fired(CLEAN, label="y", baseline=CLEAN) == set()
    assert drifted(CLEAN.sample(frac=1, random_state=1), multivariate=True)() == set()
    early, late = CLEAN.sort_values("d")[:200], CLEAN.sort_values("d")[210:]
    late = late[late["d"] > early["d"].max()]
    assert leaked(early, late, time="d")() == set()
