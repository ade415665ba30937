"""Confident learning: which given labels are probably wrong, told by out-of-sample probabilities.

The method is that of Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR
70, 2021: the joint of given and true labels is counted over the rows of which the model is confident (equations 1 and
2), and of each off-diagonal cell so many rows are named as it holds, those with the largest margin (section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbops.core.display import Shown
from nbops.core.errors import InvalidInput
from nbops.core.extras import pandas
from nbops.data.labels.classes import is_nothing, numbered

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

_ROUNDING = 1e-6  # by which a mean of equal values may lie above them
_SUM_WITHIN = 0.01


@dataclass(frozen=True, eq=False)
class LabelIssues(Shown):
    """What `nb.label_issues` returns; likeliest first.

    Attributes
    ----------
    rows : int64 array, [issues]
        Positions of the labels that are probably wrong.
    given, suggested : list, [issues]
        The label of each, and the one that the model gives.
    scores : float64 array, [issues]
        The probability that the model gives to the label as it is: the lower, the likelier it is wrong.
    joint : float64 array, [classes, classes]
        Estimated share of rows with one label given (row) and another true (column); sums to 1.
    classes : tuple
        The labels, in the order of the probabilities.
    total : int
        How many rows there are.
    """

    rows: Codes
    given: list[Any]
    suggested: list[Any]
    scores: Floats
    joint: Floats
    classes: tuple[Any, ...]
    total: int

    @property
    def noise(self) -> float:
        """Estimated share of wrong labels."""
        return float(1 - np.trace(self.joint))

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"LabelIssues({len(self):,} of {self.total:,} labels, estimated noise {self.noise:.3g})"

    def to_pandas(self) -> Any:
        """Return one row for each issue: row, given, suggested, score.

        Raises
        ------
        MissingDependency
            pandas is not installed.
        """
        pd = pandas()
        return pd.DataFrame(
            {"row": self.rows, "given": self.given, "suggested": self.suggested, "score": self.scores}
        )  # fmt: skip


def label_issues(labels: Any, probabilities: Any, *, classes: Sequence[Any] | None = None) -> LabelIssues:
    """Name the labels that are probably wrong.

    Parameters
    ----------
    labels : array or list, [rows]
        The labels as given.
    probabilities : array or tensor, [rows, classes]
        Of a model that did not see the row when it was trained, as from `cross_val_predict(…, method="predict_proba")`;
        each row sums to 1. Probabilities of the training rows themselves hide the wrong labels.
    classes : list, optional
        The labels in the order of the columns; by default the labels that occur, sorted.

    Returns
    -------
    LabelIssues

    Raises
    ------
    InvalidInput
        Shapes that do not fit, values that are no probabilities, a label that is none of the classes.

    Examples
    --------
    >>> import nbops as nb
    >>> nb.label_issues([0, 0, 1, 1, 1, 0], [[.9, .1], [.8, .2], [.1, .9], [.2, .8], [.9, .1], [.7, .3]]).rows
    array([4])
    """
    table = _probabilities(probabilities)
    given = _as_list(labels)
    number = _numbers(given, classes, table)
    names, codes = list(number), np.fromiter((number[label] for label in given), np.int64, len(given))
    counts = _rounded(_joint_counts(codes, table))
    found = _named(codes, table, counts)
    scores = table[found, codes[found]]
    order = np.argsort(scores, kind="stable")
    rows = found[order]
    return LabelIssues(
        rows, [names[code] for code in codes[rows]], [names[code] for code in table[rows].argmax(axis=1)],
        scores[order], counts / max(1, counts.sum()), tuple(names), len(codes),
    )  # fmt: skip


# ---- what is given ---------------------------------------------------------------------------------------------------


def _as_list(labels: Any) -> list[Any]:
    if hasattr(labels, "detach"):
        labels = labels.detach().cpu()
    values = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    if any(isinstance(value, list) for value in values[:1]):
        raise InvalidInput(
            "labels have more than one axis", hint="Pass one label per row: labels.argmax(1) of one-hot."
        )
    return list(values)


def _probabilities(probabilities: Any) -> Floats:
    if hasattr(probabilities, "detach"):
        probabilities = probabilities.detach().cpu().float()
    table = np.asarray(probabilities, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] < 2:
        raise InvalidInput(
            f"probabilities have the shape {table.shape}", hint="Pass [rows, classes], two classes at least."
        )
    if not len(table):
        raise InvalidInput("there are no rows", hint="Pass one label and one row of probabilities each.")
    if not np.isfinite(table).all():
        row = int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0])
        raise InvalidInput(f"probabilities of row {row} are not finite", hint="Look at the model that gave them.")
    low, high, sums = table.min(), table.max(), table.sum(axis=1)
    if low < 0 or high > 1 or np.abs(sums - 1).max() > _SUM_WITHIN:
        row = int(np.abs(sums - 1).argmax())
        raise InvalidInput(
            f"probabilities go from {low:.3g} to {high:.3g}, and row {row} sums to {sums[row]:.3g}",
            hint="Pass probabilities that sum to 1 in each row: softmax the scores.",
        )
    return table


def _numbers(labels: list[Any], classes: Sequence[Any] | None, table: Floats) -> dict[Any, int]:
    if len(labels) != len(table):
        raise InvalidInput(
            f"{len(labels):,} labels and {len(table):,} rows of probabilities", hint="Pass one of each per row."
        )
    missing = next((row for row, label in enumerate(labels) if is_nothing(label)), None)
    if missing is not None:
        raise InvalidInput(f"row {missing} has no label", hint="Leave out the rows without one.")
    number = numbered(labels, classes)
    if len(number) != table.shape[1]:
        raise InvalidInput(
            f"there are {len(number)} classes and {table.shape[1]} columns of probabilities",
            hint="Pass classes= in the order of the columns.",
        )
    return number


# ---- the joint of given and true labels ------------------------------------------------------------------------------


def _joint_counts(codes: Codes, table: Floats) -> Floats:
    """Return how many rows have one label given and another true, scaled to the counts of the given ones."""
    size = table.shape[1]
    given = np.bincount(codes, minlength=size)
    own = np.bincount(codes, weights=table[np.arange(len(codes)), codes], minlength=size)
    with np.errstate(invalid="ignore", divide="ignore"):
        thresholds = np.where(given > 0, own / given, np.inf)  # mean self-confidence of each class
    is_over = table >= thresholds - _ROUNDING
    over = is_over.sum(axis=1)
    guess = np.where(over > 1, table.argmax(axis=1), is_over.argmax(axis=1))
    sure = over > 0
    joint = np.bincount(codes[sure] * size + guess[sure], minlength=size * size).reshape(size, size).astype(np.float64)
    np.fill_diagonal(joint, np.maximum(joint.diagonal(), 1))
    scaled: Floats = joint / joint.sum(axis=1, keepdims=True) * given[:, None]
    return scaled


def _rounded(joint: Floats) -> Codes:
    """Return whole numbers with the sums of the rows; of each row the largest rests are rounded up."""
    whole = np.floor(joint).astype(np.int64)
    rest = joint - whole
    for row in range(len(joint)):
        missing = round(joint[row].sum()) - int(whole[row].sum())
        whole[row, np.argsort(-rest[row], kind="stable")[:missing]] += 1
    return whole


def _named(codes: Codes, table: Floats, counts: Codes) -> Codes:
    """Return the rows that the off-diagonal counts stand for: of each cell those with the largest margin."""
    is_named = np.zeros(len(codes), np.bool_)
    for given in range(table.shape[1]):
        rows = np.flatnonzero(codes == given)
        if len(rows) < 2:  # never the only row of a class
            continue
        for true in np.flatnonzero(counts[given]):
            count = int(counts[given, true])
            if true == given or not count:
                continue
            margin = table[rows, true] - table[rows, given]
            is_named[rows[np.argsort(-margin, kind="stable")[:count]]] = True
    return np.flatnonzero(is_named & (table.argmax(axis=1) != codes))
