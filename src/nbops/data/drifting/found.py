"""What `nb.drift` returns: one answer a column, a chunk, and the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbops.core.display import Shown
from nbops.core.errors import not_found
from nbops.core.extras import pandas
from nbops.core.records import CheckReport, Verdict
from nbops.data.drifting.bars import Bar, Histogram

Interval = tuple[float, float]


@dataclass(frozen=True)
class Aspect:
    """One thing that was compared about a column.

    Attributes
    ----------
    name : str
        ``distribution``, ``missing``, ``infinite``, ``unseen`` (new values) or ``length`` (of texts).
    effect : float
        Share of the rows, 0 to 1, that would have to change for both sides to agree.
    interval : (float, float)
        Holds the true effect with about 95 %.
    limit : float
        From where on the effect matters.
    p : float
        Chance of such a difference, or a larger one, between two samples of the same data.
    why : str
        The difference in words.
    is_drift : bool
        Whether the effect is at least the limit, and significant beside all other columns.
    """

    name: str
    effect: float
    interval: Interval
    limit: float
    p: float
    why: str
    is_drift: bool = False


@dataclass(frozen=True)
class ColumnDrift(Shown):
    """What became of one column.

    Attributes
    ----------
    name : str
    kind : str
        number, bool, text, time, duration, tensor, null or other.
    verdict : str
        ``drift``, ``stable``, ``gone`` (only in the reference), ``retyped``, ``new`` (only in the current data), or
        ``later`` (times or ids that go on where the reference ended: not judged).
    effect, interval, limit, p
        Those of the aspect that says most; see `Aspect`. `p` is of the whole column.
    q : float
        The false share among all columns that are at least as significant (Benjamini-Hochberg).
    why : str
    aspects : tuple of Aspect
    statistics : mapping of str to float
        Among them ``ks``, ``psi``, ``jensen_shannon``, ``hellinger``, ``total_variation``, ``wasserstein_iqr``.
    histogram : Histogram or tuple of Bar
        What `bars` is made of.
    """

    name: str
    kind: str
    verdict: str
    effect: float = 0.0
    interval: Interval = (0.0, 0.0)
    limit: float | None = None
    p: float = 1.0
    q: float = 1.0
    why: str = ""
    aspects: tuple[Aspect, ...] = ()
    statistics: Mapping[str, float] = field(default_factory=dict)
    histogram: Histogram | tuple[Bar, ...] = ()

    @property
    def bars(self) -> tuple[Bar, ...]:
        """Shares of both sides over the same bins or values, to look at."""
        return self.histogram.bars() if isinstance(self.histogram, Histogram) else self.histogram

    @property
    def is_drifted(self) -> bool:
        """Whether the column changed so that it matters."""
        return self.verdict in ("drift", "gone", "retyped")


@dataclass(frozen=True)
class ChunkDrift:
    """What became of the columns in one chunk of the current data.

    Attributes
    ----------
    label : str
        The time at which it starts, or its first and last row.
    start, rows : int
        Its first row in the current data, and how many it has.
    drifted : tuple of str
        Names of the columns that drift in it, the furthest first.
    effects : mapping of str to float
        Effect of each column; see `Aspect`.
    """

    label: str
    start: int
    rows: int
    drifted: tuple[str, ...]
    effects: Mapping[str, float]

    @property
    def is_drifted(self) -> bool:
        """Whether any column drifts in this chunk."""
        return bool(self.drifted)


@dataclass(frozen=True)
class Multivariate:
    """Whether a classifier can tell the two sides apart by all columns together.

    Attributes
    ----------
    auc, interval : float, (float, float)
        Share of pairs, one row of each side, that rows left out of the fit put into the right order; 0.5 is chance.
    limit : float
        From which AUC on it is drift.
    p : float
    drivers : mapping of str to float
        The columns that tell the sides apart: how much AUC is lost without each, largest first.
    rows : int
        Rows that were used, of both sides.
    is_drifted : bool
    """

    auc: float
    interval: Interval
    limit: float
    p: float
    drivers: Mapping[str, float]
    rows: int
    is_drifted: bool


class _Columns(dict[str, ColumnDrift]):
    """Columns by name; a name that is not there is answered with the nearest one."""

    def __missing__(self, name: str) -> ColumnDrift:
        raise not_found("column", name, self)


@dataclass(frozen=True)
class DriftReport(Shown):
    """What `nb.drift` found.

    Attributes
    ----------
    report : CheckReport
        The record, with one result a column: what `nb.find("checks")` and gates see.
    columns : mapping of str to ColumnDrift
        In the order of the reference.
    reference, current : str
        What was compared: ``digits/1``, or ``data``.
    reference_rows, rows : int
    alpha : float
        Share of false findings that is allowed.
    label : str
        Name of the label column, if there is one.
    chunks : tuple of ChunkDrift
        With ``by=``: one for each chunk, in order.
    multivariate : Multivariate or None
    notes : tuple of str
        What is approximate, and what was left out.
    """

    report: CheckReport
    columns: Mapping[str, ColumnDrift]
    reference: str
    current: str
    reference_rows: int
    rows: int
    alpha: float
    label: str = ""
    chunks: tuple[ChunkDrift, ...] = ()
    multivariate: Multivariate | None = None
    notes: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Id of the record."""
        return self.report.id

    @property
    def status(self) -> Verdict:
        """FAIL with drift, WARN with new columns, else PASS."""
        return self.report.status

    @property
    def passed(self) -> bool:
        """Whether nothing drifted."""
        return self.report.passed

    @property
    def drifted(self) -> list[str]:
        """Names of the columns that drifted, those furthest beyond their limit first."""
        found = [column for column in self.columns.values() if column.is_drifted]
        return [column.name for column in sorted(found, key=lambda column: -excess(column))]

    def to_pandas(self) -> Any:
        """Return a pandas data frame with one row a column, indexed by its name.

        Raises
        ------
        MissingDependency
            pandas is not installed.
        """
        pd = pandas()
        rows = [
            {
                "kind": c.kind, "verdict": c.verdict, "effect": c.effect, "low": c.interval[0], "high": c.interval[1],
                "limit": c.limit, "p": c.p, "q": c.q, "why": c.why, **c.statistics,
            }
            for c in self.columns.values()
        ]  # fmt: skip
        return pd.DataFrame(rows, index=pd.Index(list(self.columns), name="column"))


def excess(column: ColumnDrift | Aspect) -> float:
    """Return how many times the limit an effect is."""
    return column.effect / column.limit if column.limit else column.effect


def by_name(columns: Sequence[ColumnDrift]) -> Mapping[str, ColumnDrift]:
    """Return columns by their names."""
    return _Columns({column.name: column for column in columns})
