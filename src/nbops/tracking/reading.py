"""Reading back: records by query, points as arrays, and the lineage of anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from nbops.core.display import Shown
from nbops.core.errors import InvalidInput, NotFound, not_found
from nbops.core.query import Both, Compare, Field, parse, parse_order
from nbops.core.records import Cell, Link, Record, Run, kinds
from nbops.core.table import Table
from nbops.store.workspace import workspace
from nbops.tracking.lineage import resolve, walk
from nbops.tracking.segments import newest_view

if TYPE_CHECKING:
    from nbops.store.points import Cells, FloatArray, IntArray

_PLURALS = {"diagnoses": "diagnosis", "aliases": "alias", "watches": "watch"}


def kind_named(name: str) -> type[Record]:
    """Return the class of a kind given in singular or plural; `NotFound` with a did-you-mean."""
    word = name.lower()
    for form in (word, _PLURALS.get(word, ""), word.removesuffix("s")):
        if form in kinds:
            return kinds[form]
    raise not_found("kind of record", name, [f"{kind}s" for kind in kinds], hint=f"Use one of: {', '.join(kinds)}")


def find(
    kind: str, where: str | None = None, *, order_by: str | None = None, limit: int | None = 100, offset: int = 0
) -> Table[Any]:
    """Return records of one kind.

    Parameters
    ----------
    kind : str
        ``"runs"``, ``"models"``, ``"datasets"``, ``"checks"``, ``"diagnoses"``, ``"cells"`` …
    where : str, optional
        A query: ``metrics.acc > 0.9 and params.lr < 0.1 or tags.team == "x"``.
    order_by : str, optional
        ``"metrics.acc desc, created_at"``; newest first if None. Absent values come last.
    limit : int or None
        At most so many; the table's `total` tells how many match.
    offset : int
        Leave out the first so many.

    Raises
    ------
    NotFound
        No such kind.
    QuerySyntaxError
        `where` or `order_by` cannot be parsed.
    """
    if (limit is not None and limit < 0) or offset < 0:
        raise InvalidInput(f"limit {limit} and offset {offset} cannot be negative", hint="Pass 0 or more.")
    cls = kind_named(kind)
    node = parse(where) if where and where.strip() else None
    orders = parse_order(order_by)
    ws = workspace()
    ws.flush()
    records = ws.store.find(cls, node, order_by=orders, limit=limit, offset=offset)
    total = len(records) + offset if limit is None or len(records) < limit else ws.store.count(cls, node)
    return Table(cls.kind, records, total=total)


@dataclass(frozen=True)
class Series(Shown):
    """The points of one metric of one run, in the order they were logged.

    steps : int64 [n]; values : float64 [n]; times_ms : int64 [n], milliseconds since the epoch
    cells : where the cell that logged changes: (index of the first point, cell); "" stands for none
    """

    run: str
    metric: str
    steps: IntArray
    values: FloatArray
    times_ms: IntArray
    cells: Cells = ()

    def cell_at(self, step: int) -> Cell | None:
        """Return the execution of the notebook cell that logged the newest point at `step`; None outside a notebook.

        Raises
        ------
        NotFound
            No point has that step.
        """
        at = (self.steps == step).nonzero()[0]
        if not len(at):
            raise NotFound(f"'{self.metric}' has no point at step {step}", hint=f"Use one of {_few(self.steps)}.")
        name = [cell for start, cell in self.cells if start <= at[-1]][-1:]
        return _executed(self.run, name[0]) if name and name[0] else None

    def __len__(self) -> int:
        return len(self.steps)

    def __repr__(self) -> str:
        return f"Series({self.metric}, {len(self):,} points of {self.run})"


def _few(steps: IntArray) -> str:
    shown = ", ".join(str(step) for step in steps[:3].tolist())
    return f"{shown} … {int(steps[-1])}" if len(steps) > 3 else shown or "none"


def _executed(run: str, name: str) -> Cell:
    """Return the record of a cell's execution; of one that is not recorded, only what its points say."""
    cell_id, _, execution = name.partition("#")
    ws = workspace()
    ws.flush()
    same = (Compare(Field("parent"), "==", run), Compare(Field("execution"), "==", execution))
    found = ws.store.find(Cell, Both("and", same), limit=1)
    return found[0] if found else Cell(id="", created_at=0.0, parent=run, cell_id=cell_id, execution_count=None,
                                       execution=execution, source_digest="")  # fmt: skip


def series(run: Any, metric: str, *, segments: Literal["newest", "all"] = "newest") -> Series:
    """Return the points of one metric; of a run that was resumed, its newest segment where two overlap.

    Parameters
    ----------
    run : Run, LiveRun or str
        The run, its id, or its name (the newest of that name).
    metric : str
    segments : "newest" or "all"
        Of a run that was resumed: without the points that a later attempt logged anew, or all.

    Raises
    ------
    NotFound
        No such run, or it has no such metric.
    """
    if segments not in ("newest", "all"):
        raise InvalidInput(f"segments cannot be {segments!r}", hint="Use 'newest' or 'all'.")
    ws = workspace()
    ws.flush()
    record = resolve(ws, run, kind=Run) if isinstance(run, str) else ws.store.get(Run, run.id)
    if metric not in record.summary:
        has = ", ".join(sorted(record.summary)) or "none yet"
        raise not_found("metric", metric, record.summary, hint=f"Run '{record.name}' has: {has}")
    columns = newest_view(ws.store.points(record.id, metric), () if segments == "all" else record.segments)
    return Series(record.id, metric, columns.steps, columns.values, columns.times_ms, columns.cells)


@dataclass(frozen=True)
class Lineage(Shown):
    """Everything that one thing came from and led to.

    Attributes
    ----------
    root : Record
        What was asked about.
    nodes : list of Record
        The root and all that is linked to it, sources first.
    links : list of Link
        Their edges, in the direction of flow.
    """

    root: Record
    nodes: list[Record]
    links: list[Link]

    def __repr__(self) -> str:
        return f"Lineage({len(self.nodes)} records, {len(self.links)} links)"


def lineage(of: Any) -> Lineage:
    """Return where something came from and what it led to.

    Parameters
    ----------
    of : record, handle or str
        A run, dataset, model version, endpoint …; or an id, a model reference (``digits@prod``,
        ``digits/3``), or a name.
    """
    ws = workspace()
    ws.flush()
    root: Record
    if isinstance(of, str):
        root = resolve(ws, of)
    else:
        record = of if isinstance(of, Record) else getattr(of, "record", None) or getattr(of, "version", None)
        if not isinstance(record, Record):
            raise NotFound(f"a {type(of).__name__} has no lineage", hint="Pass a record, a handle, an id or a name.")
        root = record
    nodes, links = walk(ws.store, root)
    return Lineage(root, nodes, links)
