"""What `nb.find` returns: records in order, with columns for the eye and for a data frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, Generic, TypeVar, overload

from nbops.core.display import Shown
from nbops.core.extras import pandas
from nbops.core.query import SPACES

R = TypeVar("R")


class Table(Shown, Sequence[R], Generic[R]):
    """An immutable sequence of records of one kind.

    Parameters
    ----------
    kind : str
        Kind of the records: ``"run"``.
    records : sequence
        The page that was asked for.
    total : int
        How many records match in all.
    """

    def __init__(self, kind: str, records: Sequence[R], *, total: int | None = None) -> None:
        self.kind = kind
        self.records = tuple(records)
        self.total = len(self.records) if total is None else total

    @overload
    def __getitem__(self, index: int) -> R: ...
    @overload
    def __getitem__(self, index: slice) -> Table[R]: ...
    def __getitem__(self, index: int | slice) -> R | Table[R]:
        if isinstance(index, slice):
            return Table(self.kind, self.records[index], total=self.total)
        return self.records[index]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[R]:
        return iter(self.records)

    def __repr__(self) -> str:
        return f"Table({self.kind}, {len(self)} of {self.total})"

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat dict per record; params, tags and metrics get dotted names."""
        found = []
        record: Any
        for record in self.records:
            fields = ((name, getattr(record, name)) for name in record.__struct_fields__ if name not in SPACES)
            row = {name: value for name, value in fields if _is_scalar(type(value))}
            for space in SPACES:
                row.update((f"{space}.{name}", value) for name, value in _map(record, space).items())
            found.append(row)
        return found

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame: one row per record, the columns of `rows`; times stay seconds since the epoch.

        A column that most records lack holds None or NaN there.
        """
        pd = pandas()
        found = {name: _array(column) for name, column in _columns(self.records).items()}
        return pd.DataFrame(found, columns=list(found), copy=False)


def _array(column: list[Any]) -> Any:
    """Return an array of a column of floats, which pandas takes as it is; any other column unchanged."""
    import numpy as np  # pandas has it

    return np.array(column) if {*map(type, column)} == {float} else column


def _columns(records: Sequence[Any]) -> dict[str, list[Any]]:
    """Return one list per column: fields as the record has them, then params, tags and metrics by name."""
    if not records:
        return {}
    found: dict[str, list[Any]] = {}
    for name in records[0].__struct_fields__:
        column = [getattr(record, name) for record in records] if name not in SPACES else []
        if any(_is_scalar(kind) for kind in {*map(type, column)}):
            found[name] = column if all(map(_is_scalar, {*map(type, column)})) else [*map(_scalar, column)]
    for space in SPACES:
        columns = _joined([_map(record, space) for record in records])
        found.update((f"{space}.{name}", columns[name]) for name in sorted(columns))
    return found


def _joined(maps: list[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the columns of many maps, None where one lacks the key. Maps with the same keys are turned at once."""
    alike: dict[tuple[str, ...], list[int]] = {}
    for at, values in enumerate(maps):
        alike.setdefault(tuple(values), []).append(at)
    columns: dict[str, list[Any]] = {}
    for keys, places in alike.items():
        turned = zip(*(maps[at].values() for at in places), strict=True)
        for key, column in zip(keys, turned, strict=True):
            if len(places) == len(maps):
                columns[key] = list(column)
                continue
            known = columns.setdefault(key, [None] * len(maps))
            for at, value in zip(places, column, strict=True):
                known[at] = value
    return columns


def _map(record: Any, space: str) -> Mapping[str, Any]:
    """Return a record's params, tags or metrics; those of a run come from its summary, the machine's included."""
    if space == "metrics" and "summary" in record.__struct_fields__:
        return {name: item.last for name, item in record.summary.items()}
    found: Mapping[str, Any] = getattr(record, space) if space in record.__struct_fields__ else {}
    return found


def _is_scalar(kind: type) -> bool:
    return issubclass(kind, str | int | float | NoneType)


def _scalar(value: Any) -> Any:
    return value if _is_scalar(type(value)) else None
