"""Executing the notebook of a run again: `verify` compares its metrics, `rerun` changes its parameters."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from nbops.core.display import Shown
from nbops.core.errors import ParameterError, did_you_mean
from nbops.core.query import Compare, Field
from nbops.core.records import Run, RunStatus, Summary, replace
from nbops.pipelines.captured import Captured, captured, executed_notebook
from nbops.pipelines.notebooks import dump_notebook, write_atomic
from nbops.pipelines.parameter_types import literal_of
from nbops.pipelines.parameters import (
    TAG,
    Parameter,
    ParameterSpec,
    check_parameters,
    parse_parameters,
    read_parameters,
)
from nbops.pipelines.steps import run_notebook
from nbops.store.workspace import Workspace, workspace
from nbops.tracking.code.history import EXECUTED, executions, run_of
from nbops.tracking.code.reproducibility import judge

TOLERANCE = 1e-6
Tolerance = float | Mapping[str, float]


class Compared(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """One number of one metric, as it was and as it came out again; None where it was not logged."""

    run: str  # name of the run, as the notebook calls it
    metric: str
    what: str  # last, min or max
    before: float | None
    after: float | None
    is_same: bool


@dataclass(frozen=True)
class Verification(Shown):
    """The answer of `verify`.

    Attributes
    ----------
    run : Run
        What was verified.
    again : Run
        The new execution, of type ``verify``.
    verdict : bool
        Whether the notebook ran through and every metric came out within the tolerance.
    compared : tuple of Compared
        Last, smallest and largest value of each metric of the run and of the runs inside it.
    reasons : tuple of str
        Why the verdict is False: what failed, which metrics differ, and what the recorded cells say about it.
    """

    run: Run
    again: Run
    verdict: bool
    compared: tuple[Compared, ...]
    reasons: tuple[str, ...]

    @property
    def differences(self) -> tuple[Compared, ...]:
        """What did not come out the same."""
        return tuple(c for c in self.compared if not c.is_same)

    def __bool__(self) -> bool:
        return self.verdict

    def __repr__(self) -> str:
        return (
            f"Verification({self.run.name!r}, {self.verdict}, {len(self.differences)} of {len(self.compared)} differ)"
        )


def verify(
    run: Any, *, tolerance: Tolerance = TOLERANCE, timeout_s: float | None = None, progress: bool = True
) -> Verification:
    """Execute the notebook of a run again, in a fresh kernel, and compare the metrics.

    The notebook is the one that the run was recorded from: the executed notebook of a step, else the cells
    executed until the run ended, each once with its last source, from top to bottom. The new execution is a
    run of type ``verify``, linked with the verified one, whose tag ``verified`` then says ``yes`` or ``no``.

    Parameters
    ----------
    run : Run, LiveRun or str
        The run, its id, or its name (the newest of that name).
    tolerance : float or mapping
        Two values are the same if they differ by at most ``tolerance * max(1, |a|, |b|)``; NaN equals NaN.
        A mapping gives it by metric, 1e-6 for the others.
    timeout_s : float, seconds, optional
        Longest time for all cells.
    progress : bool
        Show a bar on stderr.

    Raises
    ------
    NotFound
        No such run, or no cells are recorded with it.
    InvalidInput
        The source of a cell is not stored in full.

    Examples
    --------
    >>> import nbops as nb
    >>> nb.verify("baseline", tolerance=1e-3).verdict
    True
    """
    ws = workspace()
    before = run_of(ws, run)
    found = captured(ws, before)
    found.require_whole()
    again = _execute(ws, before, found, type="verify", timeout_s=timeout_s, progress=progress)
    compared = tuple(_compare(_pairs(ws, before, again), tolerance))
    reasons = tuple(_reasons(ws, before, again, compared))
    result = {"run": before.id, "verdict": not reasons, "compared": msgspec.to_builtins(compared), "reasons": reasons}
    verdict = "no" if reasons else "yes"
    with ws.store.transaction():
        again = _update(ws, again, context={**again.context, "verification": result})
        ws.store.update(Run, before.id, lambda stored: replace(stored, tags={**stored.tags, "verified": verdict}))
        before = ws.store.get(Run, before.id)
        ws.store.link(before.id, "verified_by", again.id)
    return Verification(before, again, not reasons, compared, reasons)


def rerun(
    run: Any, *, parameters: Mapping[str, Any] | None = None, timeout_s: float | None = None, progress: bool = True,
    text: bool = False, **params: Any,
) -> Run:  # fmt: skip
    """Execute the notebook of a run again with other parameters, and return the new run.

    A parameter is a name that the cell tagged ``parameters`` assigns; without such a cell, a name to which
    exactly one cell assigns a plain value (``lr = 0.1``), which is replaced there.

    Parameters
    ----------
    run : Run, LiveRun or str
        The run, its id, or its name (the newest of that name).
    parameters : mapping, optional
        New values; for names that are options here too.
    timeout_s : float, seconds, optional
        Longest time for all cells.
    progress : bool
        Show a bar on stderr.
    text : bool
        The values come from a command line, where everything is text.
    **params
        New values; all others stay as they were.

    Raises
    ------
    ParameterError
        The notebook has no such parameter, assigns it in several places, or it takes another type.
    NotebookFailed
        A cell raised; the run is recorded.
    NotFound, InvalidInput
        As for `verify`.

    Examples
    --------
    >>> import nbops as nb
    >>> again = nb.rerun("baseline", lr=0.01)
    """
    ws = workspace()
    before = run_of(ws, run)
    found = captured(ws, before)
    found.require_whole()
    wanted = {**(parameters or {}), **params}
    given: dict[str, Any] = {}
    if read_parameters(found.notebook, name=found.name).reason:
        _assign(found, wanted, text=text)
    else:
        given = {**found.parameters, **wanted}
    made = _execute(
        ws, before, found, type="step", parameters=given, timeout_s=timeout_s, progress=progress, must_pass=True,
        text=text,
    )  # fmt: skip
    again = next((new for old, new in _pairs(ws, before, made) if old.id == before.id and new is not None), made)
    ws.store.link(before.id, "rerun_as", again.id)
    return ws.store.get(Run, again.id)


def _execute(
    ws: Workspace, run: Run, found: Captured, *, type: str, parameters: Mapping[str, Any] | None = None,
    timeout_s: float | None, progress: bool, must_pass: bool = False, text: bool = False,
) -> Run:  # fmt: skip
    with _file_of(ws, found, run) as path:
        made = run_notebook(
            path, parameters=found.parameters if parameters is None else parameters, name=run.name,
            cwd=found.folder, timeout_s=timeout_s, progress=progress, raise_on_error=must_pass, text=text,
        )  # fmt: skip
    source = str(run.context.get("source", "")) or found.name
    return _update(ws, made, type=type, context={**made.context, "source": source})


@contextmanager
def _file_of(ws: Workspace, found: Captured, run: Run) -> Iterator[Path]:
    """Write the notebook where it can be executed, and take it away again."""
    folder = ws.path / "again" / f"{run.id}-{id(found):x}"
    folder.mkdir(parents=True)
    path = folder / found.name
    try:
        write_atomic(path, dump_notebook(found.notebook))
        yield path
    finally:
        path.unlink(missing_ok=True)
        folder.rmdir()


def _update(ws: Workspace, run: Run, **changes: Any) -> Run:
    ws.store.update(Run, run.id, lambda stored: replace(stored, **changes))
    return ws.store.get(Run, run.id)


# ---- comparing -------------------------------------------------------------------------------------------------------


def _pairs(ws: Workspace, before: Run, made: Run) -> list[tuple[Run, Run | None]]:
    """Return each run that is compared with its counterpart in the new execution."""
    if before.type in EXECUTED and executed_notebook(ws, before) is not None:
        return [(before, made), *_matched(_inside(ws, before), _inside(ws, made))]
    alike = [r for r in _inside(ws, made) if _is_alike(before, r)]
    nth = _earlier_alike(ws, before)
    found = alike[nth] if nth < len(alike) else None
    return [(before, found), *(_matched(_inside(ws, before), _inside(ws, found)) if found is not None else [])]


def _earlier_alike(ws: Workspace, run: Run) -> int:
    """Return how many runs like this one the same cell had opened before it: a loop opens several of one name."""
    began = max((e.cell.created_at for e in executions(ws, run) if e.is_inside and e.id == run.cell_id), default=0.0)
    runs = ws.store.find(Run, Compare(Field("owner"), "==", run.owner), limit=1000)
    return sum(began <= r.created_at < run.created_at and _is_alike(run, r) for r in runs if r.type not in EXECUTED)


def _inside(ws: Workspace, run: Run) -> list[Run]:
    """Return the runs within a run, at any depth, oldest first; not the notebooks that it executed in turn."""
    found: list[Run] = []
    for r in ws.store.find(Run, Compare(Field("parent"), "==", run.id), limit=1000):
        if r.status is not RunStatus.SUPERSEDED and r.type not in EXECUTED:
            found += [r, *_inside(ws, r)]
    return sorted(found, key=lambda r: r.created_at)


def _matched(before: list[Run], after: list[Run]) -> list[tuple[Run, Run | None]]:
    """Pair runs by name and cell, in order."""
    left = list(after)
    pairs: list[tuple[Run, Run | None]] = []
    for old in before:
        same = [r for r in left if _is_alike(old, r)]
        if same:
            left.remove(same[0])
        pairs.append((old, same[0] if same else None))
    return pairs


def _is_alike(one: Run, other: Run) -> bool:
    """Return whether one cell opened both; runs of a kernel that records no cells are told apart by name only."""
    if None not in (one.cell_id, other.cell_id) and one.cell_id != other.cell_id:
        return False
    return one.name == other.name or (_is_nameless(one) and _is_nameless(other))


def _is_nameless(run: Run) -> bool:
    return run.name == f"run-{run.id[-6:].lower()}"


def _compare(pairs: list[tuple[Run, Run | None]], tolerance: Tolerance) -> Iterator[Compared]:
    for old, new in pairs:
        after = new.summary if new is not None else {}
        for metric in dict.fromkeys([*old.metrics, *(new.metrics if new is not None else ())]):
            allowed = tolerance if isinstance(tolerance, int | float) else tolerance.get(metric, TOLERANCE)
            for what in ("last", "min", "max"):
                a, b = _value(old.summary.get(metric), what), _value(after.get(metric), what)
                is_same = a is not None and b is not None and _close(a, b, allowed)
                yield Compared(run=old.name, metric=metric, what=what, before=a, after=b, is_same=is_same)


def _value(summary: Summary | None, what: str) -> float | None:
    return None if summary is None else float(getattr(summary, what))


def _close(a: float, b: float, tolerance: float) -> bool:
    if a == b or (math.isnan(a) and math.isnan(b)):
        return True
    return abs(a - b) <= tolerance * max(1.0, abs(a), abs(b)) < math.inf


def _reasons(ws: Workspace, before: Run, again: Run, compared: tuple[Compared, ...]) -> Iterator[str]:
    if again.status is not RunStatus.FINISHED:
        error = again.error
        said = f": {error.type}: {error.message.partition(chr(10))[0]}" if error is not None else ""
        cell = f" in cell {error.cell_id[:8]}" if error is not None and error.cell_id else ""
        yield f"the notebook {str(again.status).lower()}{cell}{said}"
    metrics: dict[str, list[Compared]] = {}
    for each in compared:
        if not each.is_same:
            metrics.setdefault(each.metric, []).append(each)
    for metric, differing in metrics.items():
        first = differing[0]
        if first.after is None:
            yield f"'{metric}' was not logged again"
        elif first.before is None:
            yield f"'{metric}' was logged only now"
        else:
            yield f"'{metric}' ({first.what}) was {first.before:.6g} and is {first.after:.6g}"
    if metrics or again.status is not RunStatus.FINISHED:
        yield from judge(ws, before).reasons


# ---- parameters without a parameters cell ----------------------------------------------------------------------------


def _assign(found: Captured, params: Mapping[str, Any], *, text: bool) -> None:
    """Replace the plain values that cells assign to the names in `params`."""
    for name, value in params.items():
        places = _places(found.notebook)
        where = places.get(name, [])
        if len(where) != 1:
            raise _not_settable(found.name, name, len(where), places)
        cell, node, parameter = where[0]
        checked = check_parameters(ParameterSpec(found.name, {name: parameter}), {name: value}, text=text)
        cell.source = _with_value(cell.source, node, literal_of(checked[name]))


Place = tuple[Any, ast.expr, Parameter]  # a cell, the value in it, and what it takes


def _places(notebook: Any) -> dict[str, list[Place]]:
    """Return where ``name = constant`` stands at the top of a cell that is plain Python."""
    places: dict[str, list[Place]] = {}
    for cell in notebook.cells:
        try:
            known = parse_parameters(cell.source).parameters if cell.cell_type == "code" else {}
            tree = ast.parse(cell.source if known else "")
        except (ParameterError, SyntaxError, ValueError):  # it has magics, or is no Python: nothing is set there
            continue
        for statement in tree.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in known:
                    places.setdefault(name, []).append((cell, value, known[name]))
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if name in known:
                    places.setdefault(name, []).append((cell, value, known[name]))
    return places


def _with_value(source: str, node: ast.expr, text: str) -> str:
    """Return `source` with `text` where `node` stands; columns of `ast` count UTF-8 bytes."""
    lines = source.encode().split(b"\n")
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    before = b"\n".join([*lines[:first], lines[first][: node.col_offset]])
    after = b"\n".join([lines[last][node.end_col_offset or 0 :], *lines[last + 1 :]])
    return (before + text.encode() + after).decode()


def _not_settable(notebook: str, name: str, count: int, places: Mapping[str, Any]) -> ParameterError:
    if count > 1:
        return ParameterError(
            f"{notebook} assigns '{name}' in {count} places", hint=f"Tag the cell that sets it '{TAG}'."
        )
    known = [n for n, where in places.items() if len(where) == 1]
    hint = did_you_mean(name, known) or (f"Use one of: {', '.join(known)}" if known else "")
    return ParameterError(
        f"no cell of {notebook} assigns '{name}' a plain value", hint=hint or f"Assign it in a cell tagged '{TAG}'."
    )
