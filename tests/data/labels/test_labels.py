"""Wrong labels, agreement and weak labels: against planted truth, published examples and other implementations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn import datasets
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import nbops as nb
from nbops.core.display import mimebundle
from nbops.core.errors import InvalidInput

SETS = ("iris", "wine", "breast_cancer", "digits")


def flipped(name: str, seed: int, share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels of which some are flipped, the probabilities of a model for each, and which are flipped."""
    data = getattr(datasets, f"load_{name}")()
    random = np.random.default_rng(seed)
    is_wrong = random.random(len(data.target)) < share
    size = len(set(data.target))
    labels = np.where(is_wrong, (data.target + random.integers(1, size, len(data.target))) % size, data.target)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    return labels, cross_val_predict(model, data.data, labels, method="predict_proba", cv=5), is_wrong


# ---- wrong labels ----------------------------------------------------------------------------------------------------


def test_of_flipped_labels_four_in_five_are_in_the_first_tenth() -> None:
    hits = wrong = 0
    for name in SETS:
        labels, probabilities, is_wrong = flipped(name, 0, 0.05)
        found = nb.label_issues(labels, probabilities)
        hits += int(is_wrong[found.rows[: len(labels) // 10]].sum())
        wrong += int(is_wrong.sum())
        assert abs(found.noise - is_wrong.mean()) < 0.07
        assert np.all(np.diff(found.scores) >= 0)
    assert hits >= 0.8 * wrong


@pytest.mark.parametrize("name", SETS)
def test_the_same_rows_as_cleanlab(name: str) -> None:
    """Some cells of the joint are rounded the other way, which adds a row or takes one away."""
    cleanlab = pytest.importorskip("cleanlab.filter")
    same = 0
    for seed in range(5):
        labels, probabilities, _ = flipped(name, seed, 0.05 + 0.03 * seed)
        options = {"return_indices_ranked_by": "self_confidence", "n_jobs": 1}
        theirs = cleanlab.find_label_issues(labels, probabilities, **options).tolist()
        ours = nb.label_issues(labels, probabilities).rows.tolist()
        assert len(set(ours) & set(theirs)) >= 0.93 * len(set(ours) | set(theirs))
        same += ours == theirs
    assert same >= (0 if name == "digits" else 4)


def test_clean_labels_of_a_sure_model_have_no_issue() -> None:
    labels = np.arange(300) % 3
    found = nb.label_issues(labels, np.eye(3)[labels] * 0.97 + 0.01)
    assert len(found) == 0
    assert found.noise == 0
    assert "no suspects" in mimebundle(found)["text/plain"]


def test_labels_may_be_anything_that_is_sorted_and_probabilities_a_tensor() -> None:
    labels = ["cat", "cat", "dog", "dog", "dog", "cat"]
    table = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.9, 0.1], [0.7, 0.3]])
    for given in (labels, np.array(labels), pd.Series(labels), pl.Series(labels)):
        found = nb.label_issues(given, table)
        assert (found.rows.tolist(), found.given, found.suggested) == ([4], ["dog"], ["cat"])
    turned = nb.label_issues(labels, table.flip(1), classes=["dog", "cat"])
    assert turned.rows.tolist() == [4]
    assert list(turned.to_pandas().columns) == ["row", "given", "suggested", "score"]


def test_the_only_row_of_a_class_stays() -> None:
    table = np.array([[0.9, 0.1]] * 9 + [[0.8, 0.2]])
    assert 9 not in nb.label_issues([0] * 9 + [1], table).rows


@pytest.mark.parametrize(
    ("labels", "table", "classes", "words"),
    [
        ([0, 1], [[0.5, 0.5]], None, "2 labels and 1 rows"),
        ([0, 1], [0.5, 0.5], None, "shape .2,."),
        ([0, 1], [[0.5, 0.9], [0.1, 0.9]], None, "row 0 sums to 1.4"),
        ([0, 1], [[0.5, np.nan], [0.1, 0.9]], None, "row 0 are not finite"),
        ([0, 2], [[0.5, 0.5], [0.1, 0.9]], [0, 1], "2 is none of the classes"),
        ([0, 0], [[0.5, 0.5], [0.1, 0.9]], None, "1 classes and 2 columns"),
        ([0, "a"], [[0.5, 0.5], [0.1, 0.9]], None, "several types"),
        ([[0, 1], [1, 0]], [[0.5, 0.5], [0.1, 0.9]], None, "more than one axis"),
        ([], np.zeros((0, 2)), None, "no rows"),
        ([0, None], [[0.5, 0.5], [0.1, 0.9]], None, "row 1 has no label"),
    ],
)
def test_what_cannot_be_read_is_named(labels: Any, table: Any, classes: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        nb.label_issues(labels, table, classes=classes)


# ---- agreement -------------------------------------------------------------------------------------------------------

# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), example C: four observers, twelve units
PUBLISHED = {
    "A": [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None], "B": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    "C": [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None], "D": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
}  # fmt: skip


@pytest.mark.parametrize(("scale", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_that_of_the_published_example(scale: Any, alpha: float) -> None:
    assert nb.agreement(PUBLISHED, scale=scale).alpha == pytest.approx(alpha, abs=5e-4)


def test_fleiss_kappa_is_that_of_a_published_example() -> None:
    """Ten subjects, fourteen raters, five categories; kappa is 0.210."""
    counts = [[0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
              [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]]  # fmt: skip
    rows = [[label for label, count in enumerate(row) for _ in range(count)] for row in counts]
    assert nb.agreement(rows).fleiss == pytest.approx(0.210, abs=5e-4)


def test_cohens_kappa_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    a = random.integers(0, 4, 500)
    b = np.where(random.random(500) < 0.7, a, random.integers(0, 4, 500))
    found = nb.agreement({"a": a, "b": b})
    assert found.pairs["a", "b"] == pytest.approx(cohen_kappa_score(a, b))


def test_rows_that_differ_are_named_and_empty_cells_are_no_label() -> None:
    given = {"a": ["x", "x", "y", None], "b": ["x", "y", "y", "x"], "c": ["x", "x", "y", None]}
    found = nb.agreement(given)
    assert found.rows.tolist() == [1]
    assert found.agreed == pytest.approx(2 / 3)
    assert found.fleiss is None
    assert nb.agreement(pd.DataFrame(given)).alpha == nb.agreement(pl.DataFrame(given)).alpha == found.alpha
    assert "differ in 1 row: 1" in mimebundle(found)["text/plain"]


def test_full_agreement_is_one_and_a_single_label_says_nothing() -> None:
    assert nb.agreement({"a": [1, 2], "b": [1, 2]}).alpha == 1
    found = nb.agreement({"a": [1, 1], "b": [1, 1]})
    assert np.isnan(found.alpha)
    assert "one label only" in mimebundle(found)["text/plain"]


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        ({"a": [1]}, {}, "1 source"),
        ({"a": [1, 2], "b": [1]}, {}, "differ in length"),
        ({"a": [None], "b": [None]}, {}, "no source gave any label"),
        ({"a": [1, None], "b": [None, 1]}, {}, "no row has two labels"),
        ({"a": [1], "b": [2]}, {"scale": "ratio"}, "scale is 'ratio'"),
        ({"a": ["x"], "b": ["y"]}, {"scale": "interval"}, "labels such as 'x' have no distances"),
        ({"a": [1], "b": [3]}, {"classes": [1, 2]}, "3 is none of the classes"),
        ({"a": [1], "b": ["x"]}, {}, "several types"),
        (np.array([1, 2]), {}, "1 axes"),
    ],
)
def test_annotations_that_cannot_be_read_are_named(given: Any, options: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        nb.agreement(given, **options)


# ---- weak labels -----------------------------------------------------------------------------------------------------


def weak(accuracies: list[float], *, seed: int, silent: float = 0.3) -> tuple[np.ndarray, list[list[int | None]]]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, 2000)
    columns = []
    for accuracy in accuracies:
        wrong = (truth + random.integers(1, 3, len(truth))) % 3
        said = np.where(random.random(len(truth)) < accuracy, truth, wrong)
        columns.append(
            [None if quiet else int(v) for v, quiet in zip(said, random.random(len(truth)) < silent, strict=True)]
        )
    return truth, columns


def test_reliable_sources_count_more_than_a_majority() -> None:
    accuracies = [0.95, 0.9, 0.4, 0.4, 0.4]
    truth, columns = weak(accuracies, seed=0)
    votes = {f"s{i}": column for i, column in enumerate(columns)}
    found, plain = nb.combine_labels(votes), nb.combine_labels(votes, method="majority")

    def accuracy(labels: list[Any]) -> float:
        return float(np.mean([label == true for label, true in zip(labels, truth, strict=True)]))

    assert accuracy(found.labels) > accuracy(plain.labels) + 0.1
    for one, true in zip(found.sources, accuracies, strict=True):
        assert one.accuracy == pytest.approx(true, abs=0.06)
        assert one.coverage == pytest.approx(0.7, abs=0.05)
    assert "Dawid–Skene" in mimebundle(found)["text/plain"]
    assert "majority" in mimebundle(plain)["text/plain"]


def test_rows_without_a_vote_have_no_label() -> None:
    found = nb.combine_labels({"a": ["x", None, "y"], "b": ["x", None, None]}, method="majority")
    assert found.labels == ["x", None, "y"]
    assert np.isnan(found.probabilities[1]).all()
    assert found.coverage == pytest.approx(2 / 3)


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(InvalidInput, match="method is 'snorkel'"):
        nb.combine_labels({"a": [1], "b": [1]}, method="snorkel")  # type: ignore[arg-type]
