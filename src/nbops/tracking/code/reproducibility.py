"""Would a run come out again if its notebook ran from top to bottom? Judged from recorded cells, without executing any.

Only what the run's own cells took from others counts, back to where it came from: what else was tried in the
notebook makes no reason. `nbops.pipelines.verifying` executes the notebook and compares.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from nbops.core.display import Shown
from nbops.core.records import Run, RunStatus
from nbops.store.workspace import Workspace, workspace
from nbops.tracking.code.history import (
    EXECUTED,
    MAX_FILE_BYTES,
    Execution,
    NotebookFile,
    executions,
    notebook_file,
    run_of,
)
from nbops.tracking.code.names import Names, names_of
from nbops.tracking.code.repeating import is_repeatable, parts_set

SAVED_SOON_S = 300.0  # a notebook saved later than so long after the run may have gone on to other things
_LOGS = re.compile(r"\b(nb|nbops|run|live)\.log(_\w+)?\s*\(|(?<!\.)\blog_(params|series|artifact)\s*\(")
_OPENS = re.compile(r"\b(nb|nbops)\.(run|start)\s*\(|^%%?mlops\s+run\b", re.MULTILINE)
_MAX_NAMES = 3


@dataclass(frozen=True)
class Finding:
    """One reason why a run would not come out again.

    Attributes
    ----------
    rule : str
        ``read-from-deleted``, ``read-from-edited``, ``read-from-later``, ``read-out-of-order``,
        ``skipped-definition``, ``repeated-effect``, ``repeated-logging``, ``deleted-cell``,
        ``read-from-failed``, ``failed-cell`` or ``ended-early``.
    text : str
        The sentence that people read.
    cell_id : str
        The notebook's cell that it is about; empty if it is about none.
    names : tuple of str
        The names that were read.
    """

    rule: str
    text: str
    cell_id: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reproducibility(Shown):
    """The answer of `reproducible`.

    Attributes
    ----------
    run : Run
    verdict : bool or None
        True: nothing speaks against it. False: for `findings`. None: no cells are recorded, so it cannot be told.
    findings : tuple of Finding
    notes : tuple of str
        What the verdict rests on where that is not certain.
    """

    run: Run
    verdict: bool | None
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def reasons(self) -> list[str]:
        """The sentences of the findings."""
        return [finding.text for finding in self.findings]

    @property
    def line(self) -> str:
        """The verdict in one line, with its first reason."""
        word = {True: "yes", False: "no", None: "unknown"}[self.verdict]
        said = self.reasons or ([] if self.verdict else list(self.notes))
        more = f" (and {len(said) - 1} more)" if len(said) > 1 else ""
        return f"reproducible: {word}" + (f", because {said[0].rstrip('.')}{more}" if said else "")

    def __bool__(self) -> bool:
        return self.verdict is True

    def __repr__(self) -> str:
        return f"Reproducibility({self.run.name!r}, {self.verdict}, {len(self.findings)} findings)"


def reproducible(run: Any) -> Reproducibility:
    """Say whether a run would come out again if its notebook ran from top to bottom, and if not, why.

    Judged from the recorded cells in the order in which they were executed, against the order in which they
    stand in the notebook: which cell read a name that a deleted, edited or later cell had defined, that
    a cell in between would define, or that the same cell had changed before; which cells failed; and
    which logged to the run more than once. Nothing is executed: `verify` does that.

    Parameters
    ----------
    run : Run, LiveRun or str
        The run, its id, or its name (the newest of that name).

    Raises
    ------
    NotFound
        No such run.

    Examples
    --------
    >>> import nbops as nb
    >>> nb.reproducible("baseline").verdict
    True
    """
    ws = workspace()
    return judge(ws, run_of(ws, run))


def judge(ws: Workspace, run: Run, *, max_file_bytes: int = MAX_FILE_BYTES) -> Reproducibility:
    """Return the verdict on a stored run; a notebook file larger than `max_file_bytes` is not read."""
    history = executions(ws, run)
    if not any(e.is_inside for e in history):
        return Reproducibility(run, None, notes=("no executed cells are recorded with it",))
    file = notebook_file(run, {e.id for e in history}, max_bytes=max_file_bytes)
    case = _Case(run, history, file)
    findings = tuple(dict.fromkeys(case.findings()))
    return Reproducibility(run, not findings, findings, tuple(case.notes()))


class _Case:
    """One history against one order of cells."""

    def __init__(self, run: Run, history: list[Execution], file: NotebookFile | None) -> None:
        self.run, self.history, self.file = run, history, file
        self.last = {e.id: i for i, e in enumerate(history)}
        self.order = self._positions()
        self.inputs = self._inputs()
        self.names = {id: self.history[i].names for id, i in self.last.items()}
        self.is_current = self._saved_by(SAVED_SOON_S)
        if file is not None and self.is_current:  # cells that would run, although they never did
            for id, source in file.sources.items():
                if id not in self.names and file.counts[id] is None:
                    self.names[id] = names_of(source)

    def _saved_by(self, later_s: float) -> bool:
        end = self.run.ended_at
        return self.file is not None and (end is None or self.file.saved_at <= end + later_s)

    def _positions(self) -> dict[str, int]:
        """Return where each cell stands: as in the file, else as first executed without an error."""
        if self.file is not None:
            return {id: i for i, id in enumerate(self.file.sources)}
        fine = [e.id for e in self.history if e.cell.status == "ok"]
        return {id: i for i, id in enumerate(dict.fromkeys([*fine, *(e.id for e in self.history)]))}

    def _inputs(self) -> list[dict[str, int]]:
        """Return, for each execution, each name that it took and the execution which had written it last."""
        definers: dict[str, int] = {}
        inputs = []
        for i, e in enumerate(self.history):
            taken: dict[str, int] = {}
            queue = list(e.names.reads)
            for name in queue:
                if name in definers and name not in taken:
                    taken[name] = definers[name]
                    queue += self.history[definers[name]].names.late.get(name, ())  # a function takes them now
            inputs.append(taken)
            definers.update(dict.fromkeys(e.names.writes, i))
        return inputs

    def findings(self) -> Iterator[Finding]:
        """Yield every reason, cell by cell."""
        inside = [i for i, e in enumerate(self.history) if e.is_inside]
        yield from self._failures(inside)
        yield from self._logging(inside)
        fine = [i for i in inside if self.history[i].cell.status == "ok"]
        for i in sorted(self._reached(fine)):
            yield from self._reading(i)

    def notes(self) -> Iterator[str]:
        """Yield what the verdict rests on."""
        if self.run.status is RunStatus.RUNNING:
            yield "the run is not over: this is about its cells so far"
        if self.file is None and self.run.type not in EXECUTED:
            yield "the notebook's file was not read, so its order is taken to be that of first execution"
        elif self.file is not None and not self.is_current:
            yield "the notebook was saved long after the run, so cells deleted before cannot be told from those after"

    def _reached(self, targets: Iterable[int]) -> set[int]:
        """Return the executions that `targets` rest on, themselves included."""
        seen = set(targets)
        stack = list(seen)
        while stack:
            new = set(self.inputs[stack.pop()].values()) - seen
            seen |= new
            stack.extend(new)
        return seen

    def _failures(self, inside: list[int]) -> Iterator[Finding]:
        failed = [self.history[i] for i in inside if self.last[self.history[i].id] == i]
        failed = [e for e in failed if e.cell.status == "error"]
        for e in failed:
            kind = e.cell.error.type if e.cell.error is not None else "an error"
            yield Finding("failed-cell", f"{e.label} failed: {kind}", e.id)
        if not failed and self.run.status in (RunStatus.FAILED, RunStatus.INTERRUPTED):
            yield Finding("ended-early", f"the run ended as {self.run.status}", self.run.cell_id or "")

    def _logging(self, inside: list[int]) -> Iterator[Finding]:
        logged: dict[str, list[Execution]] = {}
        for i in inside:
            e = self.history[i]
            if e.cell.status == "ok" and _LOGS.search(e.cell.source):
                logged.setdefault(e.id, []).append(e)
        for id, times in logged.items():
            e = times[-1]
            sources = len({each.cell.source_digest for each in times})
            if len(times) > 1 and not _OPENS.search(e.cell.source):
                how = f", as {sources} different sources" if sources > 1 else ""
                yield Finding("repeated-logging", f"{e.label} logged to this run {len(times)} times{how}", id)
            elif self._is_deleted(e):
                yield Finding(
                    "deleted-cell", f"{e.label}, which logged to this run, is not in the notebook any more", id
                )

    def _is_deleted(self, e: Execution) -> bool:
        file = self.file
        return file is not None and self.is_current and e.id not in file.sources and file.saved_at >= e.cell.created_at

    def _reading(self, i: int) -> Iterator[Finding]:
        """Yield what is wrong with what one execution took, one finding per cell it took from and rule."""
        found: dict[tuple[str, str, str], list[str]] = {}
        for name, d in self.inputs[i].items():
            judged = self._judge(i, d, name)
            if judged is not None:
                found.setdefault(judged, []).append(name)
        reader = self.history[i]
        for (rule, verb, rest), names in found.items():
            shown = ", ".join(f"'{n}'" for n in names[:_MAX_NAMES]) + (" …" if len(names) > _MAX_NAMES else "")
            yield Finding(rule, f"{reader.label} {verb} {shown}{rest}", reader.id, tuple(names))

    def _judge(self, i: int, d: int, name: str) -> tuple[str, str, str] | None:
        """Return rule and words if `name`, taken by `i` from `d`, would not be the same from top to bottom."""
        reader, source = self.history[i], self.history[d]
        if source.id == reader.id:
            return self._itself(i, d, name)
        if self._is_deleted(source):
            return "read-from-deleted", "read", f", defined by {source.label}, which is not in the notebook any more"
        if source.cell.status == "error":
            return "read-from-failed", "read", f" from {source.label}, which failed"
        if self._is_edited(d, name):
            return "read-from-edited", "read", f", defined by {source.label}, which was edited afterwards"
        here, there = self.order.get(reader.id), self.order.get(source.id)
        if here is None or there is None:
            return None
        other = self._last_before(here, name)
        if other == source.id or (other and self._same_import(source.names, self.names[other], name)):
            return None
        if there > here:
            return "read-from-later", "read", f", defined by {source.label} further down"
        if other is None:
            return None
        if other in self.last:
            if name in source.names.imports and self.last[other] < i and parts_set(self._final(other), name):
                return None  # a module is one object: importing it again takes no setting back
            between = self.history[self.last[other]].label
            return "read-out-of-order", "read", f" from {source.label}, but {between} stands between and changes it"
        between = f"cell {other[:8]}"
        return "skipped-definition", "read", f" from {source.label}, but {between}, not executed, stands between"

    def _itself(self, i: int, d: int, name: str) -> tuple[str, str, str] | None:
        now, before = self.history[i].cell, self.history[d].cell
        if now.source_digest == before.source_digest:
            if is_repeatable(now.source, name):
                return None
            times = sum(e.id == now.cell_id for e in self.history[: i + 1])
            return "repeated-effect", f"ran {times} times and each time changed", ", which it starts from"
        left = parts_set(before.source, name)
        if left and left <= parts_set(now.source, name) and is_repeatable(now.source, name):
            return None
        return "read-from-edited", "read", ", as an earlier source of the same cell left it"

    def _is_edited(self, d: int, name: str) -> bool:
        source = self.history[d]
        final = self.history[self.last[source.id]]
        if final.cell.source_digest != source.cell.source_digest:
            return not self._same_import(source.names, final.names, name)
        if self.file is None or not self._saved_by(0.0) or self.file.saved_at < source.cell.created_at:
            return False
        saved = self.file.sources.get(source.id)
        if saved is None or saved.rstrip() == source.cell.source.rstrip() or source.is_cut:
            return False
        return not self._same_import(source.names, names_of(saved), name)

    def _final(self, id: str) -> str:
        return self.history[self.last[id]].cell.source

    def _last_before(self, position: int, name: str) -> str | None:
        """Return the cell that would write `name` last before `position`, from top to bottom."""
        writers = [
            id for id, names in self.names.items() if name in names.writes and self.order.get(id, position) < position
        ]
        return max(writers, key=lambda id: self.order[id], default=None)

    @staticmethod
    def _same_import(one: Names, other: Names, name: str) -> bool:
        return name in one.imports and name in other.imports
