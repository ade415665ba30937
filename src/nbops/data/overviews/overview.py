"""`Overview`: what `nb.overview` returns, and the plain values in which it is kept."""

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

MEDIA_TYPE = "application/vnd.nbops.overview+json"


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One table: what it is called, its rows, and the version of a dataset that it is, if it is one."""

    name: str
    rows: int
    dataset: str = ""
    version: int = 0


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What one table has in one feature. Shares are of its rows, 0 to 1; None where there is no such figure."""

    dtype: str
    missing: float
    zeros: float | None = None
    distinct: int | None = None
    distinct_exact: bool = True
    min: Any = None
    median: Any = None
    max: Any = None
    mean: float | None = None
    std: float | None = None
    commonest: str | None = None
    commonest_share: float | None = None


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One column over all tables.

    Attributes
    ----------
    name, kind : str
        Kind: number, bool, text, time, duration, tensor, null or other.
    distance : float
        Share of rows, 0 to 1, that would have to change for the furthest table to agree with the first one.
    furthest : int
        Which table that is; 0 where all agree.
    why : str
        What changed, in words.
    differs : bool
        Whether a table differs so that it matters and is no chance, as `nb.drift` judges it.
    figures : list of Figures or None
        For each table; None where it does not have the column.
    labels : list of str
        What the bars count.
    shares : list of lists of float
        Share of rows in each bar, for each table; empty where it has no bars.
    """

    name: str
    kind: str
    distance: float = 0.0
    furthest: int = 0
    why: str = ""
    differs: bool = False
    figures: list[Figures | None]
    labels: list[str] = []
    shares: list[list[float]] = []


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The form in which an overview is stored."""

    format: str = "nbops-overview-1"
    name: str
    tables: list[Side]
    features: list[Feature]
    left_out: int = 0
    notes: list[str] = []


class Overview(Shown):
    """Tables side by side.

    Attributes
    ----------
    name : str
    tables : tuple of Side
        The first is what the others are compared with.
    features : mapping of str to Feature
        By name, those that differ most first.
    left_out : int
        Features beyond the first many, which are not kept.
    notes : tuple of str
        What to know about the figures.
    is_saved : bool
        Whether the workspace keeps it with a version of a dataset.
    """

    def __init__(self, kept: _Kept, *, is_saved: bool = False) -> None:
        self._kept = kept
        self.is_saved = is_saved

    def __repr__(self) -> str:
        return f"Overview({self.name!r}, {len(self.tables)} tables, {len(self.features)} features)"

    @property
    def name(self) -> str:
        """What it is called."""
        return self._kept.name

    @property
    def tables(self) -> tuple[Side, ...]:
        """The tables, the first one is what the others are compared with."""
        return tuple(self._kept.tables)

    @property
    def features(self) -> Mapping[str, Feature]:
        """The features by name, those that differ most first."""
        return MappingProxyType({feature.name: feature for feature in self._kept.features})

    @property
    def left_out(self) -> int:
        """Number of features that are not kept."""
        return self._kept.left_out

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know about the figures."""
        return tuple(self._kept.notes)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        found: dict[str, Any] = msgspec.to_builtins(self._kept)
        return found

    def to_bytes(self) -> bytes:
        """Return it as JSON; the same tables give the same bytes."""
        return encode(self._kept)

    @classmethod
    def from_bytes(cls, data: bytes, *, is_saved: bool = False) -> Overview:
        """Return the overview that `to_bytes` gave.

        Raises
        ------
        InvalidInput
            It is no overview.
        """
        try:
            return cls(decode(data, _Kept), is_saved=is_saved)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InvalidInput(f"this is no overview: {error}", hint="Pass what to_bytes() gave.") from None

    @classmethod
    def of(
        cls,
        name: str,
        tables: list[Side],
        features: list[Feature],
        *,
        left_out: int = 0,
        notes: list[str] | None = None,
    ) -> Overview:
        """Return an overview of what was found."""
        return cls(_Kept(name=name, tables=tables, features=features, left_out=left_out, notes=notes or []))

    def saved(self) -> Overview:
        """Return the same overview, known to be kept."""
        return Overview(self._kept, is_saved=True)

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame: a row for each feature and table.

        Raises
        ------
        MissingDependency
            pandas is not installed.
        """
        pd = pandas()
        rows = [
            {"feature": feature.name, "table": side.name, "kind": feature.kind, "distance": feature.distance}
            | (msgspec.to_builtins(found) if found is not None else {})
            for feature in self._kept.features
            for side, found in zip(self._kept.tables, feature.figures, strict=True)
        ]
        return pd.DataFrame(rows)

    def report(self, path: str | Path) -> Path:
        """Write a page of all features, which needs neither a script nor a network, and return its path."""
        file = Path(path)
        file.write_text(mimebundle(OverviewPage(self))["text/html"], encoding="utf-8")
        return file


class OverviewPage(Shown):
    """The whole overview as a page of its own; its renderer draws it.

    Attributes
    ----------
    overview : Overview
    """

    def __init__(self, overview: Overview) -> None:
        self.overview = overview
