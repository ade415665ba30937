"""Confusion matrices: counted, kept with the run, read back, and refused where labels do not fit."""

from __future__ import annotations

import math

import numpy as np
import pytest

import nbops as nb
from nbops.core.errors import CorruptData, InvalidInput, NotFound
from nbops.tracking.confusion import Confusion, count

pytestmark = pytest.mark.usefixtures("workspace")


def test_it_is_counted_and_stored_as_an_artifact_that_compare_finds() -> None:
    with nb.run("a") as run:
        found = nb.log_confusion([0, 1, 2, 2, 1], [0, 1, 1, 2, 1], labels=["cat", "dog", "owl"])
    assert found == Confusion(("cat", "dog", "owl"), ((1, 0, 0), (0, 2, 0), (0, 1, 1)), run.id)
    assert (found.total, found.accuracy) == (5, 0.8)
    artifact = nb.find("artifacts", f"parent == '{run.id}'")[0]
    assert (artifact.name, artifact.media_type) == ("confusion.json", "application/json")
    assert nb.compare(run).confusions == (("a", found),)
    assert nb.compare(run, "a").confusions[0][1].counts == found.counts


def test_the_newest_of_a_run_counts() -> None:
    with nb.run("a") as run:
        nb.log_confusion([0], [1])
        nb.log_confusion([0, 1], [0, 1])
    assert nb.compare(run).confusions[0][1].accuracy == 1.0


def test_labels_are_found_out_and_may_be_text() -> None:
    assert count(["b", "a"], np.array(["a", "a"])).labels == ("a", "b")
    assert count(np.array([3, 7]), [7, 7]).counts == ((0, 1), (0, 1))
    assert count([1, 0], [1, 0], labels=[1, 0]).labels == ("1", "0")
    assert count(["x"], ["x"], labels=["y", "x"]).counts == ((0, 0), (0, 1))
    assert math.isnan(count([], []).accuracy)


@pytest.mark.parametrize(
    ("true", "predicted", "labels", "said"),
    [
        ([0, 1], [0], None, r"y_true has shape \(2,\) and y_pred \(1,\)"),
        ([[0.1, 0.9]], [[0.2, 0.8]], None, r"shape \(1, 2\)"),
        ([0, 5], [0, 0], ["a", "b"], "label 5 is not among the 2 labels"),
        (["c"], ["a"], ["a", "b"], "label 'c' is not among"),
        ([0], [0], [0, 0], "names a label twice"),
        (range(1001), range(1001), None, "1,001 labels are too many"),
        (np.array(["a", None], dtype=object), ["a", "a"], None, "labels of several types"),
    ],
)
def test_what_cannot_be_counted_is_refused(true: object, predicted: object, labels: object, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        count(true, predicted, labels=labels)  # type: ignore[arg-type]


def test_it_needs_an_open_run() -> None:
    with pytest.raises(NotFound, match="no run is open"):
        nb.log_confusion([0], [0])


@pytest.mark.parametrize("content", [b"no json", {"labels": ["a"], "matrix": [[1, 2]]}, {"something": "else"}])
def test_another_file_of_that_name_is_told(content: object) -> None:
    with nb.run("a") as run:
        run.log_artifact(content, name="confusion.json")
    with pytest.raises(CorruptData, match="holds no confusion matrix"):
        nb.compare(run)
