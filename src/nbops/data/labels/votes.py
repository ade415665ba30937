"""Labels of several annotators or rules for the same rows, as numbers: -1 where one said nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbops.core.errors import InvalidInput

NOTHING = -1
_ENOUGH = 2


@dataclass(frozen=True, eq=False)
class Votes:
    """Votes in numbers.

    Attributes
    ----------
    codes : int64 array, [rows, sources]
        The number of the class that each source gave; -1 where it gave none.
    classes : tuple
        The labels by number, sorted.
    names : tuple of str
        The sources.
    """

    codes: NDArray[np.int64]
    classes: tuple[Any, ...]
    names: tuple[str, ...]

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many sources gave each class: [rows, classes]."""
        rows, sources = np.nonzero(self.codes != NOTHING)
        flat = rows * len(self.classes) + self.codes[rows, sources]
        return np.bincount(flat, minlength=len(self.codes) * len(self.classes)).reshape(len(self.codes), -1)


def read_votes(votes: Any, *, classes: Sequence[Any] | None = None) -> Votes:
    """Return votes in numbers.

    Parameters
    ----------
    votes : mapping, data frame or array
        One column a source: ``{"ada": [...], "grace": [...]}``, or [rows, sources]. None and NaN are no vote.
    classes : list, optional
        The labels in the order that they are to have; those that occur, sorted, if None.

    Raises
    ------
    InvalidInput
        Fewer than two sources, columns of unequal length, no vote at all, a label that is none of the classes.
    """
    columns = _columns(votes)
    if len(columns) < _ENOUGH:
        raise InvalidInput(f"there is {len(columns)} source of labels", hint="Pass one column for each, two at least.")
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidInput(f"sources differ in length: {lengths}", hint="Give None where a source has no label.")
    found = dict.fromkeys(v for values in columns.values() for v in values if not _is_nothing(v))
    if not found:
        raise InvalidInput("no source gave any label", hint="Look at the columns: None and NaN are no label.")
    names = list(classes) if classes is not None else _sorted(list(found))
    number = {name: code for code, name in enumerate(names)}
    unknown = next((label for label in found if label not in number), None)
    if unknown is not None:
        raise InvalidInput(f"the label {unknown!r} is none of the classes", hint=f"The classes are {names[:10]}.")
    codes = np.array(
        [[NOTHING if _is_nothing(v) else number[v] for v in values] for values in columns.values()], np.int64
    ).T  # fmt: skip
    return Votes(codes, tuple(names), tuple(columns))


def _columns(votes: Any) -> dict[str, list[Any]]:
    if isinstance(votes, Mapping):
        return {str(name): _listed(values) for name, values in votes.items()}
    if hasattr(votes, "columns"):  # a data frame of any library
        return {str(name): _listed(votes[name]) for name in votes.columns}
    table = votes if isinstance(votes, np.ndarray) else np.array([list(row) for row in votes], object)
    if table.ndim != 2:
        raise InvalidInput(f"votes have {table.ndim} axes", hint="Pass [rows, sources], or a dict of columns.")
    return {str(i): table[:, i].tolist() for i in range(table.shape[1])}


def _listed(values: Any) -> list[Any]:
    for method in ("to_list", "tolist", "to_pylist"):
        if hasattr(values, method):
            return list(getattr(values, method)())
    return list(values)


def _is_nothing(value: Any) -> bool:
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
    )


def _sorted(labels: list[Any]) -> list[Any]:
    try:
        return sorted(labels)
    except TypeError:
        raise InvalidInput("labels of several types have no order", hint="Pass classes=.") from None
