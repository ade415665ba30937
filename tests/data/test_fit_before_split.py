"""What saw the test rows before the split: found in fitted objects and in the cells that ran; healthy code is quiet."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

import nbops as nb
from nbops.core.errors import InvalidInput
from nbops.core.records import Verdict
from nbops.data.frames import read
from nbops.data.leakage.code import learned_before_split
from nbops.data.leakage.fitted import judged_objects
from nbops.store.workspace import Workspace

RNG = np.random.default_rng(0)
TABLE = pd.DataFrame(RNG.normal(size=(200, 4)), columns=list("abcd"))
Y = (TABLE.a > 0).astype(int).to_numpy()
TRAIN, TEST = TABLE[:150], TABLE[150:]

# ---- fitted objects


@pytest.mark.parametrize(
    "made",
    [StandardScaler(), MinMaxScaler(), MaxAbsScaler(), RobustScaler(), SimpleImputer(), PCA(2), KBinsDiscretizer(3),
     make_pipeline(SimpleImputer(), StandardScaler()),
     ColumnTransformer([("numbers", StandardScaler(), ["a", "b"]), ("rest", "passthrough", ["c"])])],
    ids=lambda made: type(made).__name__,
)  # fmt: skip
@pytest.mark.parametrize("kind", ["pandas", "numpy"])
def test_each_object_tells_what_it_was_fitted_on(made: Any, kind: str) -> None:
    if kind == "numpy" and isinstance(made, ColumnTransformer):
        made = ColumnTransformer([("numbers", StandardScaler(), [0, 1])])
    whole, train, test, some = (
        one if kind == "pandas" else one.to_numpy() for one in (TABLE, TRAIN, TEST, TABLE.iloc[20:90])
    )
    for rows, on in ((train, "train"), (whole, "both"), (test, "test"), (some, "other")):
        found = judged_objects(made.fit(rows), read(train), read(test))
        assert {one.on for one in found} == {on}, on


@pytest.mark.parametrize("made", [SelectKBest(k=2), LogisticRegression(), TargetEncoder(random_state=0)])
def test_objects_that_learn_from_labels_are_told_with_them(made: Any) -> None:
    sides = [read((TRAIN.to_numpy(), Y[:150])), read((TEST.to_numpy(), Y[150:]))]
    (honest,) = judged_objects(made.fit(TRAIN.to_numpy(), Y[:150]), *sides)
    (leaky,) = judged_objects(made.fit(TABLE.to_numpy(), Y), *sides)
    assert (honest.on, leaky.on) == ("train", "both")


def test_words_and_categories() -> None:
    texts = pd.DataFrame({"t": [f"word{n} common words" for n in range(60)]})
    train, test = texts[:40], texts[40:]
    for rows, on in ((train, "train"), (texts, "both")):
        (found,) = judged_objects(TfidfVectorizer().fit(rows.t), read({"t": train.t}), read({"t": test.t}))
        assert (found.on, found.attribute) == (on, "idf_")
    same = pd.DataFrame({"c": ["x", "y"] * 30})
    (found,) = judged_objects(OneHotEncoder().fit(same), read(same[:40]), read(same[40:]))
    assert found.on == "either"


def test_the_object_stays_as_it_is_and_what_cannot_be_judged_is_refused() -> None:
    scaler = StandardScaler().fit(TABLE)
    before = scaler.mean_.copy()
    judged_objects(scaler, read(TRAIN), read(TEST))
    assert (scaler.mean_ == before).all()
    with pytest.raises(InvalidInput, match="has learned nothing yet"):
        judged_objects(StandardScaler(), read(TRAIN), read(TEST))
    with pytest.raises(InvalidInput, match="fitted holds a str, which has no fit"):
        judged_objects(["scaler"], read(TRAIN), read(TEST))
    with pytest.raises(InvalidInput, match="knows column 'd', and train and test have none"):
        judged_objects(scaler, read(TRAIN[["a", "b", "c"]]), read(TEST[["a", "b", "c"]]))


def test_nb_leaks_says_what_gave_it_away(workspace: Workspace) -> None:
    scaler = StandardScaler().fit(TABLE)
    report = nb.leaks(TRAIN, TEST, fitted=[scaler, PCA(2).fit(TRAIN)])
    leaky, honest = report.of("fit-before-split")
    assert (leaky.verdict, honest.verdict) == ("fail", "pass")
    assert leaky.message.startswith("StandardScaler was fitted on train and test together: mean_ is [")
    with pytest.raises(InvalidInput, match="has learned nothing yet"):
        nb.leaks(TRAIN, TEST, fitted=StandardScaler())


# ---- code

SPLIT = "X_train, X_test, y_train, y_test = train_test_split(X, y)"
LEAKING = {
    "scaler": "X = StandardScaler().fit_transform(X)",
    "named": "scaler = MinMaxScaler()\nX = scaler.fit_transform(X)",
    "fit, then transform": "s = RobustScaler()\ns.fit(X)\nX = s.transform(X)",
    "chained": "X = StandardScaler().fit(X).transform(X)",
    "subscript": "X[cols] = scale(X[cols])",
    "loc": "X.loc[:, cols] = StandardScaler().fit_transform(X[cols])",
    "through names": "Z = PCA(5).fit_transform(X)\nX = Z[:, :3]",
    "before X": "df[cols] = StandardScaler().fit_transform(df[cols])\nX = df.drop(columns='y')",
    "imputer": "X = SimpleImputer(strategy='median').fit_transform(X)",
    "fillna": "X = X.fillna(X.mean())",
    "fillna column": "df['age'] = df['age'].fillna(df['age'].median())\nX = df[cols]",
    "inplace": "df.fillna(df.mean(), inplace=True)\nX = df[cols]",
    "by hand": "X = (X - X.mean()) / X.std()",
    "figures first": "X = (X - np.mean(X, axis=0)) / np.std(X, axis=0)",
    "by the greatest": "df['x'] /= df['x'].max()\nX = df[cols]",
    "selection": "X = SelectKBest(k=10).fit_transform(X, y)",
    "elimination": "X = RFE(model, n_features_to_select=5).fit_transform(X, y)",
    "resampling": "X, y = SMOTE().fit_resample(X, y)",
    "oversampling": "df = resample(df, replace=True)\nX, y = df[cols], df['y']",
    "groups": "df['mean'] = df.groupby('city')['y'].transform('mean')\nX = df[cols]",
    "words": "X = TfidfVectorizer().fit_transform(texts)",
    "pipeline": "X = make_pipeline(SimpleImputer(), StandardScaler()).fit_transform(X)",
    "in a branch": "if True:\n    X = StandardScaler().fit_transform(X)",
    "in a function": f"def prepare(X, y):\n    X = StandardScaler().fit_transform(X)\n    {SPLIT}\n    return X_train",
}
GRAVE = {"selection", "elimination", "resampling", "oversampling", "groups"}
CLEAN = {
    "nothing": "X = df[cols]",
    "constant": "X = X / 255",
    "logarithm": "X = np.log1p(X)",
    "zero": "X = X.fillna(0)",
    "drop": "df = df.dropna()\nX = df[cols]",
    "types": "X = X.astype('float32').clip(0, 1)",
    "one-hot": "X = OneHotEncoder().fit_transform(X)",
    "labels": "y = LabelEncoder().fit_transform(y)",
    "dummies": "X = pd.get_dummies(df, columns=['city'])",
    "row-wise": "X = X / X.sum(axis=1, keepdims=True)",
    "row-wise again": "X = normalize(X)\nX = Normalizer().fit_transform(X)",
    "last axis": "X = X - X.mean(axis=-1)",
    "polynomials": "X = PolynomialFeatures(2).fit_transform(X)",
    "hashing": "X = HashingVectorizer().fit_transform(texts)",
    "since the first day": "df['day'] = (df['date'] - df['date'].min()).dt.days\nX = df[cols]",
    "ratio": "df['ratio'] = df['a'] / df['b']\nX = df[cols]",
    "looked at": "print(X.mean(), X.std())\nX.describe()",
    "another table": "other = StandardScaler().fit_transform(Z)\nX = df[cols]",
    "threshold": "y = (df['income'] > 50_000).astype(int)\nX = df[cols]",
    "made anew": "X = StandardScaler().fit_transform(X)\nX = load()",
    "pipeline not fitted": "model = make_pipeline(StandardScaler(), LogisticRegression())\nX = df[cols]",
    "text": "words = 'a b'.split(' ')\nX = StandardScaler().fit_transform(words)\nX = df[cols]",
}
AFTER = (
    "\nscaler = StandardScaler().fit(X_train)\nX_train, X_test = scaler.transform(X_train), scaler.transform(X_test)"
)


def found_in(*cells: str, is_now: bool = False) -> list[Any]:
    return learned_before_split([(f"cell [{n}]", code) for n, code in enumerate(cells, 1)], is_now=is_now)


@pytest.mark.parametrize("name", LEAKING)
def test_what_learns_before_the_split_is_found(name: str) -> None:
    (one,) = found_in("import numpy as np\nX, y = load()", LEAKING[name], SPLIT + AFTER)[:1]
    assert one.where.startswith("cell [2], line ")
    assert one.code in " ".join(LEAKING[name].split())
    assert one.is_grave == (name in GRAVE)


@pytest.mark.parametrize("name", CLEAN)
def test_healthy_code_is_quiet(name: str) -> None:
    assert found_in("X, y = load()", CLEAN[name], SPLIT + AFTER) == []


def test_a_cell_that_was_mended_and_ran_again_counts_as_it_is_now() -> None:
    load, bad, good = "X, y = load()", "X = StandardScaler().fit_transform(X)", "X = np.log(X)"
    assert len(found_in(load, bad, SPLIT)) == 1
    assert found_in(load, bad, SPLIT, load, good, SPLIT) == []
    assert len(found_in(load, bad, SPLIT, good, SPLIT)) == 1  # X is still scaled


def test_the_split_that_is_asked_about_counts() -> None:
    cells = ["A = StandardScaler().fit_transform(A)", "A_train, A_test = train_test_split(A)",
             "B_train, B_test = train_test_split(B)"]  # fmt: skip
    assert found_in(*cells, "nb.leaks(B_train, B_test)") == []
    (one,) = found_in(*cells, "report = nb.leaks(A_train, A_test)")
    assert (one.where, one.split) == ("cell [1], line 1", "cell [2], line 1")
    assert found_in("s.split(',')", "x = StandardScaler().fit_transform(x)", "a, b = text.split(x)") == []


def test_code_that_is_no_python_is_passed_over() -> None:
    assert len(found_in("this is (no python", "X = scale(X)", "%%bash", SPLIT)) == 1
    assert learned_before_split([]) == []


def test_in_a_notebook_split_and_leaks_tell_it(workspace: Workspace, shell: Any) -> None:
    shell.run_cell("import nbops as nb, numpy as np\nfrom sklearn.preprocessing import StandardScaler").raise_error()
    shell.run_cell("X = np.random.default_rng(0).normal(size=(300, 3))", store_history=True).raise_error()
    shell.run_cell("X = StandardScaler().fit_transform(X)", store_history=True).raise_error()
    shell.run_cell("split = nb.split(X)", store_history=True).raise_error()
    proof = shell.user_ns["split"].record.proof
    assert proof["learned_before"] == ["cell [2], line 1: StandardScaler learns from all rows"]
    assert "learned before the split" in shell.user_ns["split"]._repr_mimebundle_()["text/html"]
    shell.run_cell("report = split.leaks(X)", store_history=True).raise_error()
    (found,) = shell.user_ns["report"].of("fit-before-split")
    assert (found.verdict, found.column) == (Verdict.WARN, "cell [2], line 1")
    shell.run_cell("s = StandardScaler().fit(X)\ntrain, test = split.take(X)", store_history=True).raise_error()
    report = shell.run_line_magic("mlops", "leaks train test --fitted s --only fit-before-split")
    assert report.results[0].message.startswith("StandardScaler was fitted on train and test together")
    shell.run_cell("Z = np.random.default_rng(1).normal(size=(300, 3))\nother = nb.split(Z)", store_history=True)
    assert "learned_before" not in shell.user_ns["other"].record.proof
