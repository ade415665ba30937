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
        return [_flat(record) for record in self.records]

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame of `rows`."""
        try:
            import pandas as pd
        except ImportError:
            raise MissingDependency.of("pandas", "pandas") from None
        return pd.DataFrame(self.rows())


def _flat(record: Any) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name in record.__struct_fields__:
        value = getattr(record, name)
        if name in ("params", "tags", "metrics"):
            row.update({f"{name}.{key}": item for key, item in value.items()})
        elif name == "summary":
            row.update({f"metrics.{key}": item.last for key, item in value.items()})
        elif isinstance(value, str | int | float | bool | None):
            row[name] = value
    return row
