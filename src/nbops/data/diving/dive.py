"""`nb.dive`: rows by up to four columns, counted exactly; a sample of points; and the rows of any cell."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbops.core.display import Shown, mimebundle
from nbops.core.errors import InvalidInput, did_you_mean, not_found
from nbops.data.columns import Frame
from nbops.data.datasets import find_dataset, is_reference, read_data
from nbops.data.diving.axes import Axis, axis_of, one_bin, span_of
from nbops.data.drifting.counting import family
from nbops.data.frames import read
from nbops.store.context import PARENT_VARIABLE
from nbops.store.using import note_used, origin_of

X_BINS, Y_BINS, FACETS, COLORS = 12, 12, 8, 7
MOST_POINTS = 1_500
MOST_ROWS = 200
ROLES = ("x", "y", "color", "facet")
_BINS = {"x": X_BINS, "y": Y_BINS, "color": COLORS, "facet": FACETS}
_LEAST_POINTS = 5  # of each group, however small it is


def dive(
    data: Any, *, x: str | None = None, y: str | None = None, color: str | None = None, facet: str | None = None,
    label: Any = None, name: str = "",
) -> Dive:  # fmt: skip
    """Look into rows: counted by columns of your choice, and listed where you click.

    Counts are taken in the kernel from all rows and are exact. Two columns of numbers are drawn as a sample of points.
    Only what is shown goes to the browser. With ipywidgets, dropdowns choose the columns and a click on a cell lists
    its rows; without it, and where a notebook is executed or exported, the same picture stands still.

    Parameters
    ----------
    data
        Data as `nb.snapshot` takes it, or a dataset (``"sales"``, ``"sales/3"``) whose data is stored.
    x, y : str, optional
        Columns across and up. Without any, the first column of numbers goes across.
    color : str, optional
        Column that colours; the label if there is one.
    facet : str, optional
        Column that makes a picture of its own for each of its values or ranges.
    label : str or array, optional
        Name of the label column, or the labels: [rows].
    name : str, optional
        What to call it.

    Returns
    -------
    Dive
        ``.by(facet="city")`` chooses other columns, ``.rows(x="20 to 40")`` lists rows, ``.counts`` are the numbers.

    Raises
    ------
    InvalidInput
        Data that cannot be read, no rows, or a column that has no bins.
    NotFound
        No such column, dataset or file, or a dataset whose data is not stored.
    """
    dataset = find_dataset(data) if is_reference(data) else None
    frame = read(read_data(dataset) if dataset is not None else data, label=label)
    if not frame.rows or not frame.columns:
        raise InvalidInput(f"there are no {'rows' if frame.columns else 'columns'} to dive into",
                           hint="Pass data that holds something.")  # fmt: skip
    known = next(iter(origin_of(data).uses), None) if dataset is None else (dataset.name, dataset.version)
    title = name or (f"{known[0]}/{known[1]}" if known else "data")
    if x is None and y is None:
        numbers = [c.name for c in frame.columns if c.is_number and c.name not in (color, facet, frame.label)]
        x = next(iter(numbers), None) or next((c.name for c in frame.columns if not c.is_tensor), None)
    made = Dive(frame, {"x": x, "y": y, "color": color or frame.label or None, "facet": facet}, title, known)
    if dataset is not None and not (isinstance(data, str) and "/" in data):
        note_used(dataset, made)
    return made


class Dive(Shown):
    """Rows seen through up to four of their columns.

    Attributes
    ----------
    frame : Frame
        The data.
    chosen : dict of str to str or None
        Column of each role: ``x``, ``y``, ``color``, ``facet``.
    name : str
    dataset : (str, int) or None
        The version of a dataset that the data is known to be.
    """

    def __init__(
        self, frame: Frame, chosen: dict[str, str | None], name: str, dataset: tuple[str, int] | None = None
    ) -> None:
        self.frame = frame
        self.name = name
        self.dataset = dataset
        self.chosen: dict[str, str | None] = dict.fromkeys(ROLES)
        self._axes: dict[tuple[str, int], Axis] = {}
        self._choose(chosen)

    def __repr__(self) -> str:
        said = ", ".join(f"{role}={column!r}" for role, column in self.chosen.items() if column)
        return f"Dive({self.name!r}, {self.frame.rows:,} rows{', ' if said else ''}{said})"

    def _ipython_display_(self) -> None:
        """Show the picture, and below it the controls where somebody can use them."""
        shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        is_live = hasattr(shell, "kernel") and PARENT_VARIABLE not in os.environ and find_spec("ipywidgets") is not None
        if not is_live:
            raise NotImplementedError  # as IPython asks of what shows itself the usual way
        from IPython.display import display

        display(mimebundle(self), raw=True)  # type: ignore[no-untyped-call]
        display(DiveControls(self))  # type: ignore[no-untyped-call]

    @property
    def columns(self) -> list[str]:
        """Names of the columns that can be chosen."""
        return [column.name for column in self.frame.columns if not column.is_tensor]

    @property
    def is_scatter(self) -> bool:
        """Whether points are drawn: across and up are numbers or times of many values."""
        return all(self._is_numeric(self.chosen[role]) for role in ("x", "y"))

    def by(self, **columns: str | None) -> Dive:
        """Return the same rows by other columns: ``by(color="city", facet=None)``; what is not named stays.

        Raises
        ------
        InvalidInput
            No such role, or a column that has no bins.
        NotFound
            No such column.
        """
        made = Dive(self.frame, self.chosen, self.name, self.dataset)
        made._axes = self._axes
        made._choose(columns)
        return made

    def axis(self, role: str) -> Axis:
        """Return the bins of a role's column; one bin of all rows where none is chosen."""
        column = self.chosen[role]
        if column is None:
            return one_bin(self.frame.rows)
        key = (column, _BINS[role])
        if key not in self._axes:
            self._axes[key] = axis_of(self.frame.column(column), most=_BINS[role])
        return self._axes[key]

    @property
    def counts(self) -> NDArray[np.int64]:
        """Exact number of rows, [facet, y, x, color] over the labels of each axis."""
        axes = [self.axis(role) for role in ("facet", "y", "x", "color")]
        codes = np.zeros(self.frame.rows, np.int64)
        for axis in axes:
            codes *= len(axis.labels)
            codes += axis.codes
        shape = tuple(len(axis.labels) for axis in axes)
        return np.bincount(codes, minlength=int(np.prod(shape))).reshape(shape)

    def points(self) -> NDArray[np.int64]:
        """Return positions of a sample of rows, of each facet and colour as many as their share, and at least a few.

        The same data gives the same sample.
        """
        facet, color = self.axis("facet"), self.axis("color")
        x, y = self.axis("x").values, self.axis("y").values
        good = np.ones(self.frame.rows, bool)
        for values in (x, y):
            good &= True if values is None else ~np.isnan(values)
        group = facet.codes.astype(np.int64) * len(color.labels) + color.codes
        share = min(1.0, MOST_POINTS / max(1, int(good.sum())))
        rng, kept = np.random.default_rng(0), []
        for code in np.unique(group[good]):
            rows = np.flatnonzero(good & (group == code))
            many = len(rows) if share == 1.0 else min(len(rows), max(_LEAST_POINTS, int(share * len(rows))))
            kept.append(rng.choice(rows, many, replace=False) if many < len(rows) else rows)
        return np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.int64)

    def span(self, role: str) -> tuple[float, float]:
        """Return from where to where the points of ``x`` or ``y`` are drawn; what lies beyond is drawn at the edge."""
        values = self.axis(role).values
        return span_of(values) if values is not None else (0.0, 0.0)

    def rows(self, *, limit: int = MOST_ROWS, **bins: str | int) -> DiveRows:
        """List the rows of a cell: ``rows(x="20 to 40", facet="Bonn")``; a bin is named by its label or its number.

        Raises
        ------
        InvalidInput
            No such role, or no column chosen for it.
        NotFound
            No such bin.
        """
        keep, said = np.ones(self.frame.rows, bool), []
        for role, wanted in bins.items():
            if role not in ROLES or self.chosen.get(role) is None:
                raise InvalidInput(
                    f"no column is chosen for '{role}'", hint=f"Use some of: {', '.join(self._given())}."
                )
            axis = self.axis(role)
            code = wanted if isinstance(wanted, int) else _place(axis, wanted)
            if not 0 <= code < len(axis.labels):
                raise not_found("bin", str(wanted), axis.labels, hint=f"'{role}' has {len(axis.labels)} bins.")
            keep &= axis.codes == code
            said.append(f"{self.chosen[role]} {axis.labels[code]}")
        positions = np.flatnonzero(keep)
        return DiveRows(self.frame, positions[: max(0, limit)], len(positions), " · ".join(said) or "all rows")

    def _given(self) -> list[str]:
        return [role for role in ROLES if self.chosen[role] is not None]

    def _is_numeric(self, column: str | None) -> bool:
        return column is not None and family(self.frame.column(column).dtype) in ("number", "time", "duration")

    def _choose(self, columns: dict[str, str | None]) -> None:
        for role, column in columns.items():
            if role not in ROLES:
                raise InvalidInput(
                    f"there is no role '{role}'", hint=did_you_mean(role, ROLES) or "Use x, y, color, facet."
                )
            if column is not None and self.frame.column(column).is_tensor:
                axis_of(self.frame.column(column), most=1)  # says that it has no bins
            self.chosen[role] = column


def _place(axis: Axis, label: str) -> int:
    if label not in axis.labels:
        raise not_found("bin", label, axis.labels, hint=f"Use one of: {', '.join(axis.labels[:12])}.")
    return axis.labels.index(label)


class DiveRows(Shown):
    """Some rows, with their positions.

    Attributes
    ----------
    frame : Frame
    positions : int array
        Positions of the rows in the data, counted from 0.
    total : int
        How many rows the cell has in all.
    title : str
        What they have in common.
    """

    def __init__(self, frame: Frame, positions: NDArray[np.int64], total: int, title: str) -> None:
        self.frame = frame
        self.positions = positions
        self.total = total
        self.title = title

    def __len__(self) -> int:
        return len(self.positions)

    def values(self, column: str) -> list[Any]:
        """Return the values of one column in these rows."""
        found = self.frame.column(column)
        return [found.value(int(row)) for row in self.positions]


class DiveControls(Shown):
    """Dropdowns and cells to click for a `Dive`; their renderer makes the widgets.

    Attributes
    ----------
    dive : Dive
    """

    def __init__(self, dive: Dive) -> None:
        self.dive = dive
