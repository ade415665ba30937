"""What is compared: data, a dataset or a profile becomes one side, with its profile, and its frame if it has one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbops.core.errors import InvalidInput, not_found
from nbops.core.query import Compare, Field
from nbops.core.records import Dataset
from nbops.data.columns import Frame
from nbops.data.datasets import find_dataset, is_reference, read_data
from nbops.data.digest import column_digest
from nbops.data.drifting.counting import Profile, family
from nbops.data.frames import read
from nbops.data.older import older_column_digest
from nbops.data.profiling import profile_frame
from nbops.store.using import note_used
from nbops.store.workspace import Workspace

_SNAPSHOTS = 1000  # of one number of rows, that data could be one of


@dataclass(frozen=True, eq=False)
class Side:
    """One side of a comparison.

    Attributes
    ----------
    profile : mapping or None
        ``{"rows": …, "columns": {name: …}}``; None where only the frame is needed.
    frame : Frame or None
        The data, where it is there.
    dataset : Dataset or None
    """

    profile: Profile | None
    frame: Frame | None = None
    dataset: Dataset | None = None

    @property
    def name(self) -> str:
        """What the side is called."""
        return f"{self.dataset.name}/{self.dataset.version}" if self.dataset else "data"

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.frame.rows if self.frame is not None else int(self.profile["rows"]) if self.profile else 0

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return self.frame.names if self.frame is not None else list(self.profile["columns"]) if self.profile else []

    @property
    def label(self) -> str:
        """Name of the label column, or an empty text."""
        return self.frame.label if self.frame is not None else str((self.profile or {}).get("label") or "")


def reference_side(data: Any, *, ws: Workspace, needs_data: bool) -> Side:
    """Return the reference: its profile is all that is used, unless `needs_data`.

    Raises
    ------
    NotFound
        No such dataset, or its data is needed and was not stored.
    InvalidInput
        Data that cannot be read, no rows, or a profile without the bins that a comparison needs.
    """
    side = _known_side(data, ws=ws)
    if side is None:
        frame = read(data)
        side = Side(profile_frame(frame), frame)
    elif side.dataset is not None and (needs_data or not _has_bins(side.profile)):
        frame = _stored(side.dataset, why="" if needs_data else "its profile has no bins")
        side = Side(profile_frame(frame), frame, side.dataset)
    if needs_data and side.frame is None:
        raise InvalidInput(
            "multivariate=True needs the rows of the reference, not only its profile",
            hint="Pass the data itself, or a dataset whose data is stored.",
        )
    side = _with_rows(side, "reference")
    if not _has_bins(side.profile):
        raise InvalidInput(
            "the reference profile has no bins to count into", hint="Make it again with this version of nbops."
        )
    return side


def current_side(data: Any, *, ws: Workspace, needs_data: str) -> Side:
    """Return the current data; of a dataset whose data was too large to keep, its profile.

    `needs_data` names the argument for whose sake a profile is not enough.

    Raises
    ------
    NotFound, InvalidInput
        As `reference_side`.
    """
    side = _known_side(data, ws=ws)
    if side is None:
        side = Side(None, read(data))
    elif side.dataset is not None and (needs_data or side.dataset.tags.get("stored_digest")):
        side = Side(side.profile, _stored(side.dataset), side.dataset)
    if needs_data and side.frame is None:
        raise InvalidInput(
            f"{needs_data} needs the rows of the current data, not only its profile", hint="Pass the data itself."
        )
    if side.frame is None and not _has_bins(side.profile):
        raise InvalidInput("the current profile has no bins to compare", hint="Pass the data itself.")
    return _with_rows(side, "current data")


def _known_side(data: Any, *, ws: Workspace) -> Side | None:
    """Return the side of a dataset or of a profile; None for data."""
    if is_reference(data):
        dataset = find_dataset(data, ws=ws)
        return Side(dataset.profile, None, dataset)
    if type(data).__name__ == "Profile" and hasattr(data, "to_dict"):
        data = data.to_dict()
    return Side(data) if is_profile(data) else None


def is_profile(data: Any) -> bool:
    """Return whether a mapping is a profile, not a dict of columns."""
    if not isinstance(data, Mapping) or not isinstance(data.get("rows"), int):
        return False
    columns = data.get("columns")
    return isinstance(columns, Mapping) and all(
        isinstance(told, Mapping) and "dtype" in told for told in columns.values()
    )


def _has_bins(profile: Profile | None) -> bool:
    """Return whether every column that has an order has edges, and every text its values or lengths."""
    for told in (profile or {}).get("columns", {}).values():
        kind = family(told["dtype"])
        if kind in ("number", "time", "tensor") and "edges" not in told:
            return False
        if kind == "text" and "values" not in told and "lengths" not in told:
            return False
    return bool((profile or {}).get("columns"))


def _stored(dataset: Dataset, *, why: str = "") -> Frame:
    try:
        return read(read_data(dataset))
    except LookupError as error:
        if not why:
            raise
        raise InvalidInput(
            f"dataset '{dataset.name}/{dataset.version}' cannot be a reference: {why}, and its data is not stored",
            hint="Snapshot it again with this version of nbops, or pass the data itself.",
        ) from error


def _with_rows(side: Side, what: str) -> Side:
    if not side.rows or not side.columns:
        raise InvalidInput(
            f"the {what} has no {'rows' if side.columns else 'columns'}", hint="Pass data that holds something."
        )
    return side


def chosen_columns(reference: Side, current: Side, columns: str | Sequence[str] | None, label: str) -> list[str]:
    """Return the names to compare: those of the reference, then new ones.

    Raises
    ------
    NotFound
        A name, or a label, that neither side has.
    """
    known = list(dict.fromkeys([*reference.columns, *current.columns]))
    wanted = [columns] if isinstance(columns, str) else list(columns) if columns is not None else known
    for name in [*wanted, *([label] if label else [])]:
        if name not in known:
            raise not_found("column", name, known)
    if not wanted:
        raise InvalidInput("columns is empty", hint="Name some columns, or leave it out to compare all.")
    return [name for name in known if name in set(wanted)]


def with_dataset(side: Side, *, ws: Workspace) -> Side:
    """Return a side with the snapshot that has exactly this content, if there is one.

    Digests are taken column by column, and only as long as some snapshot agrees: mostly not at all.
    """
    frame = side.frame
    if side.dataset is not None or frame is None:
        return side
    found = ws.store.find(Dataset, Compare(Field("rows"), "==", frame.rows), limit=_SNAPSHOTS)
    schema = [(column.name, column.dtype) for column in frame.columns]
    found = [dataset for dataset in found if [(c.name, c.dtype) for c in dataset.columns] == schema]
    for place, column in enumerate(frame.columns):
        if not found:
            return side
        schemes = {dataset.scheme for dataset in found}
        digests = {s: older_column_digest(column) if s is None else column_digest(column) for s in schemes}
        found = [dataset for dataset in found if dataset.columns[place].digest == digests[dataset.scheme]]
    newest = max(found, key=lambda dataset: dataset.created_at, default=None)
    if newest is not None:
        note_used(newest, frame.native)
    return Side(side.profile, frame, newest)
