"""What `nb.find` returns: records in order, with columns for the eye and for a data frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

from nbops.core.display import Shown
from nbops.core.errors import MissingDependency

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
        return [{f"{space}.{key}" if space else key: value for space, key, value in _cells(r)} for r in self.records]

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame: one row per record, the columns of `rows`; times stay seconds since the epoch.

        A column that most records lack holds None or NaN there.
        """
        try:
            import pandas as pd
        except ImportError:
            raise MissingDependency.of("pandas", "pandas") from None
        found = _columns(self.records)
        return pd.DataFrame(found, columns=list(found))


def _columns(records: Sequence[Any]) -> dict[str, list[Any]]:
    """Return one list per column: fields as the record has them, then params, tags and metrics by name."""
    spaces: dict[str, dict[str, list[Any]]] = {"": {}, "params": {}, "tags": {}, "metrics": {}}
    for at, record in enumerate(records):
        for space, key, value in _cells(record):
            known = spaces[space]
            column = known.get(key)
            if column is None:
                column = known[key] = [None] * at
            elif len(column) < at:
                column.extend([None] * (at - len(column)))
            column.append(value)
    found = dict(spaces.pop(""))
    for space, known in spaces.items():
        found.update((f"{space}.{key}", known[key]) for key in sorted(known))
    for column in found.values():
        column.extend([None] * (len(records) - len(column)))
    return found


def _cells(record: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield (space, key, value) of all that has a column; the space of a field is empty."""
    for name in record.__struct_fields__:
        value = getattr(record, name)
        if name in ("params", "tags", "metrics"):
            for key, item in value.items():
                yield name, key, item
        elif name == "summary":
            for key, item in value.items():
                yield "metrics", key, item.last
        elif value is None or isinstance(value, str | int | float):
            yield "", name, value
