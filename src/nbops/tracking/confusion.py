"""Confusion matrices: counted from labels, kept as one small JSON artifact of a run, and read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from nbops.core.codec import decode, encode
from nbops.core.display import Shown
from nbops.core.errors import CorruptData, InvalidInput
from nbops.core.query import Both, Compare, Field
from nbops.core.records import Artifact
from nbops.store.workspace import Workspace
from nbops.tracking.runs import current

NAME = "confusion.json"
MAX_LABELS = 1000


@dataclass(frozen=True)
class Confusion(Shown):
    """How often each true label (row) was predicted as each label (column).

    Attributes
    ----------
    labels : tuple of str
        Names of rows and columns.
    counts : tuple of tuples of int, [labels, labels]
    run : str
        Id of the run that it belongs to.
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    run: str = ""

    @property
    def total(self) -> int:
        """How many predictions were counted."""
        return sum(map(sum, self.counts))

    @property
    def accuracy(self) -> float:
        """Share of predictions that are right, 0 to 1; NaN without any."""
        return sum(row[i] for i, row in enumerate(self.counts)) / self.total if self.total else float("nan")

    def __repr__(self) -> str:
        return f"Confusion({len(self.labels)} labels, {self.total:,} predictions, accuracy {self.accuracy:.4g})"


class _Stored(msgspec.Struct, frozen=True):
    labels: list[str]
    matrix: list[list[int]]


def log_confusion(y_true: Any, y_pred: Any, *, labels: Sequence[Any] | None = None) -> Confusion:
    """Count a confusion matrix and keep it with the current run, as the artifact ``confusion.json``.

    Parameters
    ----------
    y_true, y_pred : array_like [n]
        Labels as they are and as they were predicted: numbers or text.
    labels : sequence, optional
        All labels in the order of rows and columns. Where `y_true` and `y_pred` hold whole numbers and `labels`
        text, the numbers are positions in `labels`. By default all labels that occur, sorted.

    Returns
    -------
    Confusion
        As stored; `nb.compare` shows it beside those of other runs.

    Raises
    ------
    InvalidInput
        Labels of several types, arrays of unequal length or of more than one dimension, a label that `labels` lacks,
        or too many labels.
    NotFound
        No run is open.
    """
    live = current()
    found = count(y_true, y_pred, labels=labels)
    live.log_artifact(encode(_Stored(list(found.labels), [list(row) for row in found.counts])), name=NAME)
    return Confusion(found.labels, found.counts, live.id)


def count(y_true: Any, y_pred: Any, *, labels: Sequence[Any] | None = None) -> Confusion:
    """Return the confusion matrix of two columns of labels; see `log_confusion`."""
    import numpy as np

    true, predicted = np.asarray(y_true), np.asarray(y_pred)
    if true.ndim != 1 or true.shape != predicted.shape:
        raise InvalidInput(
            f"y_true has shape {true.shape} and y_pred {predicted.shape}",
            hint="Pass one label per row; of class scores take the largest: scores.argmax(1).",
        )
    if labels is None:
        names: list[Any] = _occurring(true, predicted)
    else:
        names = list(labels)
    if len(names) > MAX_LABELS:
        raise InvalidInput(f"{len(names):,} labels are too many for a matrix", hint=f"Use at most {MAX_LABELS:,}.")
    positions = {name: i for i, name in enumerate(names)}
    if len(positions) < len(names):
        raise InvalidInput("labels names a label twice", hint="Name each label once.")
    if names and all(isinstance(name, str) for name in names) and true.dtype.kind in "iu":
        positions = {i: i for i in range(len(names))}
    matrix = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(matrix, (_places(true, positions), _places(predicted, positions)), 1)
    return Confusion(tuple(str(name) for name in names), tuple(tuple(row) for row in matrix.tolist()))


def _occurring(true: Any, predicted: Any) -> list[Any]:
    import numpy as np

    try:
        found: list[Any] = np.unique(np.concatenate([true, predicted])).tolist() if len(true) else []
    except TypeError as error:
        raise InvalidInput(f"y_true and y_pred hold labels of several types: {error}", hint="Pass labels=…") from error
    return found


def _places(values: Any, positions: dict[Any, int]) -> Any:
    import numpy as np

    found, inverse = np.unique(values, return_inverse=True)
    unknown = [value for value in found.tolist() if value not in positions]
    if unknown:
        raise InvalidInput(
            f"label {unknown[0]!r} is not among the {len(positions)} labels", hint="Name all labels, or leave them out."
        )
    return np.array([positions[value] for value in found.tolist()], dtype=np.int64)[inverse]


def confusion_of(ws: Workspace, run: str) -> Confusion | None:
    """Return the newest confusion matrix of a run, or None.

    Raises
    ------
    CorruptData
        The artifact holds something else.
    """
    where = Both("and", (Compare(Field("parent"), "==", run), Compare(Field("name"), "==", NAME)))
    found = ws.store.find(Artifact, where, limit=1)
    if not found:
        return None
    with ws.artifacts.open(found[0].digest) as file:
        data = file.read()
    try:
        stored = decode(data, _Stored)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _unreadable(run) from error
    if {len(stored.matrix), *map(len, stored.matrix)} - {len(stored.labels)}:
        raise _unreadable(run)
    return Confusion(tuple(stored.labels), tuple(tuple(row) for row in stored.matrix), run)


def _unreadable(run: str) -> CorruptData:
    return CorruptData(f"'{NAME}' of run {run} holds no confusion matrix", hint="Log it with nb.log_confusion.")
