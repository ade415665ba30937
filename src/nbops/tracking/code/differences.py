"""What differs between two runs: cells, parameters, environment, data, metrics and layers, side by side."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nbops.core.differs import differs
from nbops.core.display import Shown
from nbops.core.errors import NotFound
from nbops.core.query import Compare, Field
from nbops.core.records import Dataset, Run
from nbops.store.workspace import Workspace, workspace
from nbops.tracking.capture.background import drain
from nbops.tracking.capture.environment import package_changes
from nbops.tracking.code.fingerprints import Fingerprint, taken
from nbops.tracking.code.history import Execution, executions, run_of
from nbops.tracking.comparing.aligning import TOLERANCE, Alignment, alignments

_ALIKE = 0.5  # share of equal text from which two cells without a common id count as one, edited
_CONTEXT = ("python", "platform", "cpu_count", "hardware", "git", "seed", "seeds", "kernel")


@dataclass(frozen=True)
class Side:
    """One thing of both runs; None where a run does not have it.

    Attributes
    ----------
    name : str
    a, b : Any
        As in the first and in the second run.
    """

    name: str
    a: Any
    b: Any

    @property
    def is_same(self) -> bool:
        """Whether both runs have it alike; NaN is like NaN."""
        both_nan = all(isinstance(v, float) and math.isnan(v) for v in (self.a, self.b))
        return both_nan or (type(self.a) is type(self.b) and bool(self.a == self.b)) or _equal_numbers(self.a, self.b)


def _equal_numbers(a: Any, b: Any) -> bool:
    return isinstance(a, int | float) and isinstance(b, int | float) and a == b


@dataclass(frozen=True)
class CellDifference:
    """One cell of both notebooks.

    Attributes
    ----------
    cell_id : str
        Its id; in the second run, unless only the first has it.
    change : str
        ``same``, ``changed``, ``added`` (only the second run has it) or ``removed``.
    a, b : str
        Its sources; empty where a run does not have it.
    """

    cell_id: str
    change: str
    a: str = ""
    b: str = ""

    @property
    def lines(self) -> list[str]:
        """The changed lines with up to two around them, marked ``-``, ``+`` or blank."""
        found = difflib.unified_diff(self.a.splitlines(), self.b.splitlines(), n=2, lineterm="")
        return [line for line in found if not line.startswith(("---", "+++"))]


@dataclass(frozen=True)
class Difference(Shown):
    """The answer of `diff`: all of both runs, the same and the different.

    Attributes
    ----------
    a, b : Run
    cells : tuple of CellDifference
        In the order of the second notebook; what was executed up to the end of each run.
    params, environment, data, metrics : tuple of Side
        Datasets by name, with version and digest; metrics with their last values.
    fingerprints : (Fingerprint, Fingerprint)
        Of the first and of the second run.
    layers : tuple of Alignment
        Of runs that were watched: where their layers part. Empty if one was not.
    """

    a: Run
    b: Run
    cells: tuple[CellDifference, ...]
    params: tuple[Side, ...]
    environment: tuple[Side, ...]
    data: tuple[Side, ...]
    metrics: tuple[Side, ...]
    fingerprints: tuple[Fingerprint, Fingerprint]
    layers: tuple[Alignment, ...] = ()

    @property
    def is_same(self) -> bool:
        """Whether nothing differs."""
        if self.differing or self.changed_cells:
            return False
        return all(side.is_same for side in self.sides) and all(one.is_same for one in self.layers)

    @property
    def differing(self) -> list[str]:
        """Which of code, data, params, environment, model and results have another content."""
        return self.fingerprints[0].differing(self.fingerprints[1])

    @property
    def changed_cells(self) -> list[CellDifference]:
        """The cells that were edited, added or removed."""
        return [cell for cell in self.cells if cell.change != "same"]

    @property
    def sides(self) -> list[Side]:
        """Parameters, environment, data and metrics in one list."""
        return [*self.params, *self.environment, *self.data, *self.metrics]

    def __repr__(self) -> str:
        count = sum(not side.is_same for side in self.sides)
        return f"Difference({self.a.name!r}, {self.b.name!r}: {len(self.changed_cells)} cells, {count} values)"


def diff(a: Any, b: Any, *, tolerance: float = TOLERANCE, key: Any = None) -> Any:
    """Return what differs between two runs, two tables, or two folders of files.

    Of runs: cells, parameters, environment, data and metrics, side by side. Cells are matched by their id, and where
    the notebooks have none in common, by their text. For curves and many runs at once see `compare`. Of runs whose
    models were watched, `layers` says at which step and in which layer they part first. Of tables, see
    `nbops.data.differing.diff_data`: columns, rows by their key, and single cells.

    Parameters
    ----------
    a, b : Run, LiveRun or str; Dataset, str or data
        Two runs, their ids, or their names (the newest of that name); or two data frames, arrays or snapshots
        (``"sales/3"``).
    tolerance : float
        Of runs: how far the numbers of a layer may be apart, over the greater of the two.
    key : str or list of str, optional
        Of tables: the columns that tell rows apart.

    Returns
    -------
    Difference, DataDifference or FolderDifference

    Raises
    ------
    NotFound
        No such run or dataset.
    InvalidInput
        The tolerance is no number from 0; a key that repeats.

    Examples
    --------
    >>> import nbops as nb
    >>> nb.diff("baseline", "wider").params
    (Side(name='lr', a=0.1, b=0.01),)
    """
    ws = workspace()
    drain()
    try:
        if not all(_may_be_run(one) for one in (a, b)) or key is not None:
            raise NotFound(
                f"{_kind(a)} and {_kind(b)} are neither two runs nor two tables",
                hint="Give two runs, two data frames or two snapshots.",
            )
        one, two = run_of(ws, a), run_of(ws, b)
    except NotFound:
        for other in differs.values():
            if (found := other(a, b, key=key)) is not None:
                return found
        raise
    return Difference(
        one,
        two,
        tuple(_cells(executions(ws, one), executions(ws, two))),
        tuple(_sides(_flat(one.params), _flat(two.params))),
        tuple(_environment(one, two)),
        tuple(_sides(_data(ws, one), _data(ws, two))),
        tuple(_sides(one.metrics, two.metrics)),
        (taken(ws, one), taken(ws, two)),
        tuple(alignments(ws, one, two, tolerance=tolerance)),
    )


def _kind(value: Any) -> str:
    return repr(value) if isinstance(value, str) else type(value).__name__


def _may_be_run(value: Any) -> bool:
    return isinstance(value, str | Run) or str(getattr(value, "id", "")).startswith(Run.prefix)


def _sides(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Side]:
    for name in dict.fromkeys([*a, *b]):
        yield Side(name, a.get(name), b.get(name))


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        inner = _flat(value, f"{before}{name}.") if isinstance(value, Mapping) and value else {f"{before}{name}": value}
        found.update(inner)
    return found


def _environment(a: Run, b: Run) -> Iterator[Side]:
    contexts = [_flat({key: run.context[key] for key in _CONTEXT if key in run.context}) for run in (a, b)]
    yield from _sides(*contexts)
    try:
        changes = package_changes(a, b)
    except NotFound:  # one of them was recorded elsewhere, or before its list was made: the main libraries are known
        libraries = [{f"{n} (package)": v for n, v in run.context.get("libraries", {}).items()} for run in (a, b)]
        yield from _sides(*libraries)
        return
    for name in sorted({*changes.added, *changes.removed, *changes.changed}):
        before, after = changes.changed.get(name, (changes.removed.get(name), changes.added.get(name)))
        yield Side(f"{name} (package)", before, after)


def _data(ws: Workspace, run: Run) -> dict[str, str]:
    used = [link.source for link in ws.store.links(run.id) if link.relation == "used_by" and link.target == run.id]
    found: dict[str, list[str]] = {}
    for id in used:
        for dataset in ws.store.find(Dataset, Compare(Field("id"), "==", id), limit=1):
            found.setdefault(dataset.name, []).append(f"version {dataset.version} ({dataset.digest[:12]})")
    return {name: ", ".join(sorted(versions)) for name, versions in sorted(found.items())}


# ---- cells -----------------------------------------------------------------------------------------------------------


def _cells(a: list[Execution], b: list[Execution]) -> Iterator[CellDifference]:
    before, after = _sources(a), _sources(b)
    partner = {id: id for id in after if id in before}
    if not partner:
        partner = _by_text(before, after)
    taken = set(partner.values())
    for id in _merged(list(before), list(after), partner):
        if id in after and id in partner:
            one, two = before[partner[id]], after[id]
            yield CellDifference(id, "same" if one == two else "changed", one, two)
        elif id in after:
            yield CellDifference(id, "added", "", after[id])
        elif id not in taken:
            yield CellDifference(id, "removed", before[id], "")


def _sources(history: Iterable[Execution]) -> dict[str, str]:
    """Return the last source of each cell that ran without an error, or within the run."""
    found: dict[str, str] = {}
    for e in history:
        if e.cell.status == "ok" or e.is_inside:
            found[e.id] = e.cell.source
    return found


def _by_text(before: dict[str, str], after: dict[str, str]) -> dict[str, str]:
    """Return, for cells of the second run, the cell of the first with the same or, between such, a similar source."""
    old, new = list(before), list(after)
    matcher = difflib.SequenceMatcher(None, [before[i] for i in old], [after[i] for i in new], autojunk=False)
    partner: dict[str, str] = {}
    for _, i1, i2, j1, j2 in matcher.get_opcodes():
        for i, j in zip(range(i1, i2), range(j1, j2), strict=False):
            one, two = before[old[i]], after[new[j]]
            if one == two or difflib.SequenceMatcher(None, one, two, autojunk=False).quick_ratio() >= _ALIKE:
                partner[new[j]] = old[i]
    return partner


def _merged(before: list[str], after: list[str], partner: Mapping[str, str]) -> list[str]:
    """Return the ids of the second run, with those that only the first has behind the cell they followed."""
    back = {old: new for new, old in partner.items()}
    merged = list(after)
    place = 0
    for old in before:
        if old in back:
            place = merged.index(back[old]) + 1
        else:
            merged.insert(place, old)
            place += 1
    return merged
