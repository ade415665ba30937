"""What a card needs beyond its value: curves, diagnoses, aliases. Values outside a workspace have cards too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from nbops.core.errors import NotFound
from nbops.core.query import Compare, Field
from nbops.core.records import Dataset, Record, Run
from nbops.tracking.segments import newest_view
from nbops.view.figures import Line

if TYPE_CHECKING:
    from nbops.store.workspace import Workspace

R = TypeVar("R", bound=Record)


def current_workspace() -> Workspace | None:
    """Return the workspace of this process, or None where there is none yet: showing a value makes no folder."""
    from nbops.store.discovery import locate
    from nbops.store.workspace import is_open, workspace

    if not (is_open() or locate().is_dir()):
        return None
    ws = workspace()
    return None if ws.outbox.is_behind else ws


def waiting() -> str:
    """Return a sentence on records that wait because the store cannot be written to; empty if none do."""
    from nbops.store.workspace import is_open, workspace

    if not is_open() or not workspace().outbox.is_behind:
        return ""
    outbox = workspace().outbox
    return f"{outbox.waiting:,} changes and all points since wait in the journal: {outbox.reason}"


def curves(run: Run, metrics: Iterable[str]) -> tuple[Line, ...]:
    """Return the newest view of the named metrics of a run; metrics without points are left out."""
    ws = current_workspace()
    if ws is None:
        return ()
    ws.flush()
    lines = []
    for metric in metrics:
        columns = newest_view(ws.store.points(run.id, metric), run.segments)
        if len(columns):
            lines.append(Line(metric, columns.steps, columns.values))
    return tuple(lines)


def fresh_run(id: str) -> Run | None:
    """Return the run as it is stored now, with what this process has logged so far."""
    ws = current_workspace()
    if ws is None:
        return None
    ws.flush()
    try:
        return ws.store.get(Run, id)
    except NotFound:
        return None


def related(kind: type[R], field: str, value: str, *, limit: int = 20) -> list[R]:
    """Return stored records of `kind` whose `field` is `value`."""
    ws = current_workspace()
    return [] if ws is None else ws.store.find(kind, Compare(Field(field), "==", value), limit=limit)


def data_of(run: str | None) -> list[Dataset] | None:
    """Return the datasets that a run used; None where there is no workspace to ask."""
    ws = current_workspace()
    if ws is None:
        return None
    links = ws.store.links(run) if run else []
    ids = tuple(link.source for link in links if link.relation == "used_by" and link.target == run)
    return ws.store.find(Dataset, Compare(Field("id"), "in", ids)) if ids else []


def attribute(value: Any, *names: str, default: Any = None) -> Any:
    """Return the first attribute that `value` has and that is not None."""
    for name in names:
        found = getattr(value, name, None)
        if found is not None:
            return found
    return default
