"""`Profile`: what `nb.profile` returns, and a file of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from nbops.core.codec import decode, encode
from nbops.core.display import Shown, mimebundle
from nbops.core.errors import InvalidInput
from nbops.core.extras import pandas
from nbops.data.profiles.alerts import Alert, alerts_of
from nbops.data.profiles.merging import merged

_SHOWN = ("dtype", "missing", "missing_share", "distinct", "min", "mean", "std", "max", "skew", "kurtosis", "zeros",
          "negative", "infinite", "min_length", "mean_length", "max_length")  # fmt: skip


class Profile(Shown):
    """Figures of a table and of each of its columns.

    Attributes
    ----------
    name : str
        What the table is called.
    rows : int
    columns : mapping of str to mapping
        The figures of each column, as `nbops.data.profiling.profile_frame` describes them.
    duplicate_rows : int or None
        Rows that repeat an earlier one in all columns; None where it was not counted.
    associations : mapping
        Pearson, Spearman and Cramér's V, as `nbops.data.profiles.association.associations` describes them.
    """

    def __init__(self, data: Mapping[str, Any], *, name: str = "") -> None:
        self._data = dict(data)
        self.name = name or self._data.get("name", "")

    def __repr__(self) -> str:
        return f"Profile({self.name or 'data'!r}, {self.rows:,} × {len(self.columns):,})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Profile) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self._data["rows"])

    @property
    def label(self) -> str:
        """Name of the label column, or an empty string."""
        return str(self._data.get("label", ""))

    @property
    def columns(self) -> Mapping[str, dict[str, Any]]:
        """The figures of each column by its name."""
        return MappingProxyType(self._data["columns"])

    @property
    def duplicate_rows(self) -> int | None:
        """Number of rows that repeat an earlier one."""
        return self._data.get("duplicate_rows")

    @property
    def associations(self) -> Mapping[str, Any]:
        """How columns go together; empty where it was not measured."""
        return MappingProxyType(self._data.get("associations", {}))

    @property
    def alerts(self) -> list[Alert]:
        """What stands out, worst first: each has ``kind``, ``column`` and ``text``."""
        return alerts_of(self._data)

    def named(self, name: str) -> Profile:
        """Return the same profile under another name."""
        return Profile(self._data, name=name)

    def to_dict(self) -> dict[str, Any]:
        """Return the profile as plain values: the form in which a dataset keeps it."""
        return {**self._data, **({"name": self.name} if self.name else {})}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Profile:
        """Return the profile that `to_dict` gave, or that a dataset keeps.

        Raises
        ------
        InvalidInput
            It has no ``rows`` or no ``columns``.
        """
        if not isinstance(data, Mapping) or not isinstance(data.get("columns"), Mapping) or "rows" not in data:
            raise InvalidInput("this is no profile: it has no rows and columns", hint="Pass what to_dict() gave.")
        return cls(data)

    def save(self, path: str | Path) -> Path:
        """Write the profile as JSON and return the path; equal tables give equal bytes."""
        file = Path(path)
        file.write_bytes(encode(self.to_dict()))
        return file

    @classmethod
    def load(cls, path: str | Path) -> Profile:
        """Return the profile of a file that `save` wrote.

        Raises
        ------
        InvalidInput
            The file holds no profile.
        """
        try:
            data = decode(Path(path).read_bytes(), dict)
        except msgspec.MsgspecError as error:
            raise InvalidInput(f"'{path}' holds no profile: {error}", hint="Pass a file that save() wrote.") from None
        return cls.from_dict(data)

    @staticmethod
    def merge(first: Profile, *others: Profile) -> Profile:
        """Return the profile of several partitions of one table, without reading them again.

        Counts, extremes and moments are exact; the bins are on the edges of `first`. Each column names under
        ``approximate`` what could not be put together exactly. Associations and duplicate rows are left out.

        Raises
        ------
        InvalidInput
            They have other columns, or columns of other types.
        """
        data = first.to_dict()
        for other in others:
            data = merged(data, other.to_dict())
        return Profile(data, name=first.name)

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame, a row for each column: its figures, quantiles and meaning.

        Raises
        ------
        MissingDependency
            pandas is not installed.
        """
        pd = pandas()
        rows = [_row(figures, self.rows) for figures in self.columns.values()]
        return pd.DataFrame(rows, index=pd.Index(list(self.columns), name="column", dtype="object"))

    def report(self, path: str | Path) -> Path:
        """Write a page of all columns, which needs neither a script nor a network, and return its path."""
        file = Path(path)
        file.write_text(mimebundle(ProfileReport(self))["text/html"], encoding="utf-8")
        return file


class ProfileReport(Shown):
    """The whole profile as a page of its own; its renderer draws it.

    Attributes
    ----------
    profile : Profile
    """

    def __init__(self, profile: Profile) -> None:
        self.profile = profile


def _row(figures: Mapping[str, Any], rows: int) -> dict[str, Any]:
    cells = figures.get("cells", rows)
    found = {"missing_share": figures["missing"] / cells if cells else 0.0} | dict(figures)
    row: dict[str, Any] = {key: found.get(key) for key in _SHOWN}
    row |= {f"q{share}": value for share, value in figures.get("quantiles", {}).items()}
    values = figures.get("values") or figures.get("top") or {}
    row["commonest"] = next(iter(values), None)
    meaning = figures.get("meaning", {})
    row |= {"meaning": meaning.get("type"), "unit": meaning.get("unit")}
    return row | {"approximate": ", ".join(figures.get("approximate", ()))}
