"""Labels of several annotators or rules for the same rows, as numbers: -1 where one said nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbops.core.errors import InvalidInput
from nbops.data.labels.classes import is_nothing, numbered

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
    found = dict.fromkeys(v for values in columns.values() for v in values if not is_nothing(v))
    if not found:
        raise InvalidInput("no source gave any label", hint="Look at the columns: None and NaN are no label.")
    number = numbered(found, classes)
    codes = np.array(
        [[NOTHING if is_nothing(v) else number[v] for v in values] for values in columns.values()], np.int64
    ).T  # fmt: skip
    return Votes(codes, tuple(number), tuple(columns))


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
