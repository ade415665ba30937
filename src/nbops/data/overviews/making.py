"""`nb.overview`: several tables side by side, kept with the version of the dataset that they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbops.core.errors import InvalidInput
from nbops.core.query import Both, Compare, Order
from nbops.core.query import Field as Key
from nbops.core.records import Artifact, Dataset
from nbops.data.columns import Frame
from nbops.data.datasets import find_dataset, is_reference
from nbops.data.drifting.comparing import Compared, compare
from nbops.data.drifting.counting import family, tally, tally_profile
from nbops.data.drifting.found import ColumnDrift
from nbops.data.drifting.judging import ALPHA, LIMITS, judge
from nbops.data.drifting.sides import Side as Given
from nbops.data.drifting.sides import with_dataset
from nbops.data.frames import read
from nbops.data.overviews.overview import MEDIA_TYPE, Feature, Figures, Overview, Side
from nbops.data.profiles.profile import Profile
from nbops.data.profiling import in_threads, profile_frame
from nbops.data.sources import is_path
from nbops.store.using import note_used
from nbops.store.workspace import Workspace, workspace

_MOST_TABLES = 6
_MOST_FEATURES, _MOST_CELLS = 500, 2_000  # features; features times tables: a page stays below a megabyte
_THREADED_CELLS = 1 << 19
_MOSTLY = 0.9


@dataclass(frozen=True, eq=False)
class _Table:
    """One table: its profile, and its frame where the data is there."""

    name: str
    profile: Mapping[str, Any]
    frame: Frame | None = None
    dataset: Dataset | None = None

    @property
    def rows(self) -> int:
        return int(self.profile["rows"])


def overview(data: Any, *, name: str = "", save: bool = True) -> Overview:
    """Show tables side by side: for each feature its shape, gaps, zeros and distinct values, by how much they differ.

    Parameters
    ----------
    data
        Several tables by name, ``{"train": train, "val": val, "serving": "requests/3"}``: the first is what the others
        are compared with. Or one table. Each is data as `nb.snapshot` takes it, a profile, or a dataset, of which only
        the stored profile is read. A dataset alone (``"sales"``, ``"sales/3"``) gives the overview that was kept with
        this version, without the data and without computing.
    name : str, optional
        What to call it; the names of the tables if empty.
    save : bool
        Whether it is kept with the version of the dataset that the first such table is.

    Returns
    -------
    Overview
        ``.features[name]``, ``.to_pandas()``, ``.report(path)``. The distance is the share of rows that would have to
        change for a table to agree with the first one: see `nb.drift`, which also says what is no chance.

    Raises
    ------
    InvalidInput
        No table, too many of them, a table without rows, or data that cannot be read.
    NotFound
        No such dataset or file.
    """
    if is_reference(data):
        dataset = find_dataset(data)
        kept = saved_overview(workspace(), dataset)
        if kept is not None:
            return kept
    given = dict(data) if _are_tables(data) else {_called(data): data}
    if not 0 < len(given) <= _MOST_TABLES:
        raise InvalidInput(f"an overview of {len(given)} tables is not to be read",
                           hint=f"Give 1 to {_MOST_TABLES} tables.")  # fmt: skip
    tables = [_table(str(key), value) for key, value in given.items()]
    made = _compared(tables, name or " · ".join(table.name for table in tables))
    for table in tables:
        if table.dataset is not None and not _is_pinned(given[table.name]):
            note_used(table.dataset, made, given[table.name])
    known = next((table.dataset for table in tables if table.dataset is not None), None)
    return _keep(workspace(), made, known) if save and known is not None else made


def saved_overview(ws: Workspace, dataset: Dataset) -> Overview | None:
    """Return the overview that was kept last with a version of a dataset, or None."""
    mine = Both("and", (Compare(Key("parent"), "==", dataset.id), Compare(Key("media_type"), "==", MEDIA_TYPE)))
    found = ws.store.find(Artifact, mine, order_by=[Order(Key("created_at"), descending=True)], limit=1)
    return stored_overview(ws, found[0]) if found else None


def stored_overview(ws: Workspace, artifact: Artifact) -> Overview:
    """Return the overview that an artifact holds."""
    with ws.artifacts.open(artifact.digest) as file:
        return Overview.from_bytes(file.read(), is_saved=True)


def _keep(ws: Workspace, made: Overview, dataset: Dataset) -> Overview:
    before = saved_overview(ws, dataset)
    if before is None or before.to_bytes() != made.to_bytes():
        file = f"overview/{dataset.name}-{dataset.version}.json"
        ws.save_artifact(made.to_bytes(), name=file, media_type=MEDIA_TYPE, parent=dataset.id)
    return made.saved()


def _are_tables(data: Any) -> bool:
    """Return whether a mapping holds tables; a dict of columns does not, nor does a profile."""
    return type(data) is dict and bool(data) and all(map(_is_table, data.values()))


def _is_table(value: Any) -> bool:
    is_known = isinstance(value, str | Dataset | Profile | Mapping | tuple) or is_path(value)
    return is_known or hasattr(value, "columns") or hasattr(value, "column_names") or getattr(value, "ndim", 1) == 2


def _called(data: Any) -> str:
    if isinstance(data, Dataset):
        return f"{data.name}/{data.version}"
    return data if isinstance(data, str) else "data"


def _is_pinned(given: Any) -> bool:
    return isinstance(given, str) and "/" in given and is_reference(given)


def _table(name: str, data: Any) -> _Table:
    if isinstance(data, Profile):
        made = _Table(name, data.to_dict())
    elif is_reference(data):
        dataset = find_dataset(data)
        made = _Table(name, dataset.profile, None, dataset)
    else:
        frame = read(data)
        side = with_dataset(Given(None, frame), ws=workspace())
        made = _Table(name, profile_frame(frame), frame, side.dataset)
    if not made.rows or not made.profile["columns"]:
        raise InvalidInput(f"the table '{name}' has no {'rows' if made.profile['columns'] else 'columns'}",
                           hint="Leave it out, or pass data that holds something.")  # fmt: skip
    return made


def _compared(tables: list[_Table], name: str) -> Overview:
    names = list(dict.fromkeys(column for table in tables for column in table.profile["columns"]))
    is_large = sum(table.rows for table in tables) * len(names) > _THREADED_CELLS
    beside = in_threads(lambda column: _beside_all(column, tables), names, is_worth_it=is_large)
    features = _features(names, tables, beside)
    order = sorted(range(len(features)), key=lambda place: (-features[place].distance, place))
    kept = [features[place] for place in order[: min(_MOST_FEATURES, _MOST_CELLS // len(tables))]]
    rough = [table.name for table in tables[1:] if table.frame is None]
    notes = [f"{' and '.join(rough)}: only a profile is there, so distances are approximate"] if rough else []
    sides = [Side(name=table.name, rows=table.rows, dataset=table.dataset.name if table.dataset else "",
                  version=table.dataset.version if table.dataset else 0) for table in tables]  # fmt: skip
    return Overview.of(name, sides, kept, left_out=len(features) - len(kept), notes=notes)


def _beside_all(name: str, tables: list[_Table]) -> list[Compared]:
    """Compare one column of each table with that of the first table which has it."""
    reference = next(table for table in tables if name in table.profile["columns"])
    return [_beside(name, reference, table) for table in tables]


def _features(names: list[str], tables: list[_Table], beside: list[list[Compared]]) -> list[Feature]:
    """Judge each table's columns beside each other, as `nb.drift` does, and put the tables side by side."""
    judged = [judge([row[place] for row in beside], alpha=ALPHA) for place in range(len(tables))]
    return [
        _feature(name, tables, beside[at], [column[at] for column in judged]) for at, name in enumerate(names)
    ]  # fmt: skip


def _feature(name: str, tables: list[_Table], beside: list[Compared], judged: list[ColumnDrift]) -> Feature:
    told = [table.profile["columns"].get(name) for table in tables]
    apart = [1.0 if one.verdict in ("gone", "retyped") else one.effect for one in judged]
    furthest = max(range(len(tables)), key=lambda place: apart[place])
    distance, differs = apart[furthest], any(one.is_drifted for one in judged)
    why = judged[furthest].why if distance else ""
    if judged[furthest].verdict == "gone":
        why = "no such column"
    labels, shares = _bars(beside) if not _is_free_text(beside) else ([], [[] for _ in tables])
    first = next(one for one in told if one is not None)
    return Feature(
        name=name, kind=family(first["dtype"]), distance=round(distance, 6), why=why, differs=differs,
        furthest=furthest if distance > 0 else 0, labels=labels, shares=shares,
        figures=[_figures(one, table.rows) if one is not None else None
                 for one, table in zip(told, tables, strict=True)],
    )  # fmt: skip


def _beside(name: str, reference: _Table, table: _Table) -> Compared:
    before, now = reference.profile["columns"][name], table.profile["columns"].get(name)
    if now is None:
        return Compared(name, family(before["dtype"]), verdict="gone", why="no such column")
    if table.frame is not None and table is not reference:
        counted = tally(table.frame.column(name), before)
    else:
        counted = tally_profile(now, table.rows, before)
    return compare(name, before, reference.rows, counted, LIMITS)


def _bars(found: list[Compared]) -> tuple[list[str], list[list[float]]]:
    """Return what the bars count, and their heights for each table."""
    each: list[dict[str, float]] = []
    for one in found:
        histogram = one.histogram
        bars = histogram if isinstance(histogram, tuple) else histogram.bars()
        each.append({bar.label: round(bar.current, 4) for bar in bars})
    labels = list(dict.fromkeys(label for bars in each for label in bars))
    for last in ("other", "new"):  # a value may be called so too: then it merely moves
        if last in labels:
            labels.append(labels.pop(labels.index(last)))
    return labels, [[bars.get(label, 0.0) for label in labels] if bars else [] for bars in each]


def _is_free_text(beside: list[Compared]) -> bool:
    """Return whether nearly all values of the first table are none of its commonest ones."""
    histogram = beside[0].histogram
    bars = histogram if isinstance(histogram, tuple) else ()
    return any(bar.label == "other" and bar.reference > _MOSTLY for bar in bars)


def _figures(told: Mapping[str, Any], rows: int) -> Figures:
    cells = told.get("cells", rows) or 1
    values = told.get("values") or told.get("top") or {}
    commonest = next(iter(values), None)
    zeros = told.get("zeros")
    return Figures(
        dtype=told["dtype"], missing=told["missing"] / cells, zeros=None if zeros is None else zeros / cells,
        distinct=told.get("distinct"), distinct_exact=told.get("distinct_exact", True),
        min=_end(told.get("min")), median=told.get("quantiles", {}).get("0.5"), max=_end(told.get("max")),
        mean=told.get("mean"), std=told.get("std"), commonest=None if commonest is None else commonest[:60],
        commonest_share=None if commonest is None else values[commonest] / cells,
    )  # fmt: skip


def _end(value: Any) -> Any:
    """Return an extreme; of a time without what is zero at its end."""
    return value.partition(".")[0].removesuffix("T00:00:00").replace("T", " ") if isinstance(value, str) else value
