"""`nb.drift`: compare current data with a reference, keep the report, and stop where the data must not have drifted."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from nbops.core.errors import CheckFailed, InvalidInput
from nbops.core.ids import new_id
from nbops.core.records import CheckReport, CheckResult, Link, Verdict
from nbops.data.drifting.chunks import chunks, follows_time, pieces
from nbops.data.drifting.classifier import MAX_CELLS, MAX_ROWS, tell_apart
from nbops.data.drifting.comparing import Compared, compare
from nbops.data.drifting.counting import Profile, family, tally, tally_profile
from nbops.data.drifting.found import ChunkDrift, ColumnDrift, DriftReport, Multivariate, by_name, excess
from nbops.data.drifting.judging import ALPHA, LIMITS, checked_alpha, checked_limits, judge
from nbops.data.drifting.sides import Side, chosen_columns, current_side, reference_side, with_dataset
from nbops.data.profiling import in_threads
from nbops.store.context import current_cell_id, current_run
from nbops.store.workspace import Workspace, workspace

__all__ = ["ALPHA", "LIMITS", "drift"]

T = TypeVar("T")
_THREADED_CELLS = 1 << 19  # below, starting threads takes longer than it saves
_MAX_THREADS = 4
_FIX = "Find out what changed where the data comes from; if it is meant, take a new reference."


def drift(
    reference: Any, current: Any, *, columns: str | Sequence[str] | None = None, label: str | None = None,
    by: int | str | None = None, multivariate: bool = False, limits: Mapping[str, float] | None = None,
    alpha: float = ALPHA, name: str = "", on_drift: Literal["report", "raise"] = "report",
) -> DriftReport:  # fmt: skip
    """Say which columns of the current data are no longer distributed as in the reference; record and return it.

    A column drifts when a difference both matters (its effect, a share of rows, reaches the limit) and is no chance
    beside all other columns (Benjamini-Hochberg). Numbers, categories, texts, times, missing and infinite cells and
    new values are compared, all by counts in the reference's profile: one outlier moves one count.

    Parameters
    ----------
    reference
        Data as `nb.snapshot` takes it, a dataset (``"digits/1"``), or a profile. Only its profile is used.
    current
        The same; of a profile, or a dataset that was too large to keep, the comparison is approximate.
    columns : str or list of str, optional
        Which columns to compare; all if None.
    label : str, optional
        Name of the label column, which is shown first; ``y`` of ``(X, y)`` if None.
    by : int or str, optional
        Compare the current data in chunks too: rows a chunk, or dates and a frequency, ``"when:D"``.
    multivariate : bool
        Whether a classifier (scikit-learn) tries to tell the sides apart by all columns together.
    limits : mapping, optional
        What matters: ``distribution`` 0.02, ``missing`` 0.005, ``infinite`` 0.001, ``unseen`` 0.002, ``auc`` 0.55.
    alpha : float
        Share of false findings that is allowed.
    name : str, optional
        Name of the report; what was compared if empty.
    on_drift : {"report", "raise"}
        Whether drift raises, after the report is recorded.

    Returns
    -------
    DriftReport

    Raises
    ------
    CheckFailed
        With ``on_drift="raise"``: names the column that drifted furthest.
    NotFound, InvalidInput
        An unknown dataset or column, unusable data or arguments.
    MissingDependency
        ``multivariate=True`` without scikit-learn.
    """
    if on_drift not in ("report", "raise"):
        raise InvalidInput(f"on_drift is {on_drift!r}", hint='Use "report" or "raise".')
    settled, started, ws = (checked_limits(limits), checked_alpha(alpha)), time.perf_counter(), workspace()
    needs = "by" if by is not None else "multivariate=True" if multivariate else ""
    sides = (
        reference_side(reference, ws=ws, needs_data=multivariate),
        current_side(current, ws=ws, needs_data=needs),
    )
    report = _report(ws, sides, columns, label or "", by, multivariate, settled, name, started)
    if on_drift == "raise" and not report.passed:
        raise _failure(report)
    return report


def _report(
    ws: Workspace, sides: tuple[Side, Side], columns: str | Sequence[str] | None, label: str, by: int | str | None,
    multivariate: bool, settled: tuple[dict[str, float], float], name: str, started: float,
) -> DriftReport:  # fmt: skip
    """Compare in all ways that were asked for, and record what was found."""
    (before, now), (limits, alpha) = sides, settled
    label = label or before.label or now.label
    names = chosen_columns(before, now, columns, label)
    judged = judge(_compared(before, now, names, limits), alpha=alpha)
    found_chunks, notes = _over_time(before, now, names, by, limits, alpha)
    together = None
    if multivariate and before.frame is not None and now.frame is not None:
        usable = [one.name for one in judged if one.verdict in ("stable", "drift")]
        if by is not None and isinstance(by, str):
            usable = [name for name in usable if name != by.rpartition(":")[0]]
        if usable:
            together = tell_apart(before.frame, now.frame, usable, alpha=alpha, limit=limits["auc"])
        if max(before.rows, now.rows) > MAX_ROWS:
            notes.append(f"the classifier saw {MAX_ROWS:,} rows of a side, drawn the same way each time")
        wide = [name for name in usable if now.frame.column(name).values[:1].size > MAX_CELLS]
        notes += [f"the classifier saw every n-th cell of '{name}', {MAX_CELLS:,} at most" for name in wide]
    if now.frame is None:
        notes.append("approximate: of the current data only a profile is there")
    before, now = with_dataset(before, ws=ws), with_dataset(now, ws=ws)
    results = _results(judged, found_chunks, together)
    record = CheckReport(
        id=new_id(CheckReport.prefix), created_at=time.time(), name=name or f"{now.name} against {before.name}",
        status=max((result.verdict for result in results), key=lambda verdict: verdict.severity, default=Verdict.PASS),
        rows=now.rows, columns=len(judged), duration_s=time.perf_counter() - started, results=results,
        dataset=now.dataset.id if now.dataset else None, parent=current_run(), cell_id=current_cell_id(),
    )  # fmt: skip
    _keep(ws, record, before)
    return DriftReport(
        record, by_name(judged), before.name, now.name, before.rows, now.rows, alpha, label, tuple(found_chunks),
        together, tuple(notes),
    )  # fmt: skip


def _compared(before: Side, now: Side, names: Sequence[str], limits: Mapping[str, float]) -> list[Compared]:
    """Return the comparison of each column, in order; NumPy counts outside Python's lock."""
    profile = before.profile or {}
    there, rows = set(now.columns), int(profile["rows"])

    def one(name: str) -> Compared:
        told = profile["columns"].get(name)
        if told is None:
            return Compared(name, family(_dtype(now, name)), verdict="new", why="the reference does not have it")
        if name not in there:
            return Compared(name, family(told["dtype"]), verdict="gone", why="the column is gone")
        if now.frame is not None:
            counted = tally(now.frame.column(name), told)
        else:
            counted = tally_profile((now.profile or {})["columns"][name], now.rows, told)
        return compare(name, told, rows, counted, limits)

    is_large = now.frame is not None and now.rows * len(names) > _THREADED_CELLS
    return in_threads(one, names, is_worth_it=is_large)


def _dtype(side: Side, name: str) -> str:
    if side.frame is not None:
        return side.frame.column(name).dtype
    return str((side.profile or {})["columns"][name]["dtype"])


def _over_time(
    before: Side, now: Side, names: Sequence[str], by: int | str | None, limits: Mapping[str, float], alpha: float
) -> tuple[list[ChunkDrift], list[str]]:
    """Return what each column does in each chunk, judged beside all columns of all chunks, and notes."""
    if by is None or now.frame is None:
        return [], []
    parts, left_out = chunks(now.frame, by)
    notes = [f"{left_out:,} rows have no date and are in no chunk"] if left_out else []
    profile, compared = before.profile or {}, list[Compared]()
    names = [name for name in names if name in profile["columns"] and name in now.columns]
    names = [name for name in names if not follows_time(now.frame.column(name))]
    if not names:
        raise InvalidInput(
            "no column is left to compare over time", hint="Choose columns that do not only say where a row stands."
        )
    for name in names:
        told: Profile = {key: value for key, value in profile["columns"][name].items() if key != "kinds"}
        for piece in pieces(now.frame.column(name), parts):
            compared.append(
                compare(name, told, int(profile["rows"]), tally(piece, told), limits, with_details=False)
            )  # fmt: skip
    judged = judge(compared, alpha=alpha)
    found = []
    for place, part in enumerate(parts):
        columns = judged[place :: len(parts)]
        drifted = sorted((one for one in columns if one.verdict == "drift"), key=lambda one: -excess(one))
        found.append(ChunkDrift(part.label, int(part.rows[0]), len(part.rows), tuple(one.name for one in drifted),
                                {one.name: one.effect for one in columns}))  # fmt: skip
    return found, notes


def _results(
    judged: Sequence[ColumnDrift], found_chunks: Sequence[ChunkDrift], together: Multivariate | None
) -> list[CheckResult]:
    """Return one result a column, one a chunk that drifts, and one of all columns together."""
    results = [_result(column) for column in judged]
    for chunk in found_chunks:
        if chunk.is_drifted:
            results.append(
                CheckResult(
                    check="drift-over-time", verdict=Verdict.FAIL, value=max(chunk.effects[c] for c in chunk.drifted),
                    unit="share", message=f"{chunk.label}: {', '.join(chunk.drifted[:5])}", fix=_FIX,
                    evidence={"start": chunk.start, "rows": chunk.rows, "columns": list(chunk.drifted)},
                )
            )  # fmt: skip
    if together is not None:
        led = f", above all by {', '.join(list(together.drivers)[:3])}" if together.drivers else ""
        results.append(
            CheckResult(
                check="drift-multivariate", verdict=Verdict.FAIL if together.is_drifted else Verdict.PASS,
                value=together.auc, limit=together.limit, unit="AUC", fix=_FIX if together.is_drifted else "",
                message=f"rows of the two sides can{'' if together.is_drifted else 'not'} be told apart{led}",
                evidence={"p": together.p, "interval": list(together.interval), "drivers": dict(together.drivers)},
            )
        )  # fmt: skip
    return results


def _result(column: ColumnDrift) -> CheckResult:
    verdict = Verdict.FAIL if column.is_drifted else Verdict.WARN if column.verdict == "new" else Verdict.PASS
    evidence: dict[str, Any] = {"verdict": column.verdict}
    if column.aspects:
        evidence |= {"p": column.p, "q": column.q, "interval": list(column.interval), **column.statistics}
    return CheckResult(
        check="drift", verdict=verdict, column=column.name, value=column.effect if column.aspects else None,
        limit=column.limit, unit="share", message=column.why, fix=_FIX if column.is_drifted else "", evidence=evidence,
    )  # fmt: skip


def _keep(ws: Workspace, record: CheckReport, before: Side) -> None:
    """Write the report, its event and its links."""
    links = [Link(source=record.dataset, relation="checked_by", target=record.id)] if record.dataset else []
    if before.dataset is not None:
        links.append(Link(source=before.dataset.id, relation="reference_of", target=record.id))
    if record.parent:
        links.append(Link(source=record.parent, relation="produced", target=record.id))
    ws.outbox.put(record, links=links, payload={"status": record.status.value, "name": record.name})


def _failure(report: DriftReport) -> CheckFailed:
    hint = "Look at the report: nb.find('checks')[0]."
    names = report.drifted
    if names:
        more = f" (and {len(names) - 1:,} more)" if len(names) > 1 else ""
        return CheckFailed(f"column '{names[0]}' drifted: {report.columns[names[0]].why}{more}", hint=hint)
    found = next(result for result in report.report.results if result.verdict is Verdict.FAIL)
    return CheckFailed(f"the data drifted: {found.message}", hint=hint)
