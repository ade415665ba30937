"""What a card needs beyond its value: curves, diagnoses, aliases. Values outside a workspace have cards too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from nbops.core.errors import NotFound
from nbops.core.query import Compare, Field
from nbops.core.records import Record, Run
from nbops.tracking.segments import newest_view
from nbops.view.figures import Line

if TYPE_CHECKING:
    from nbops.store.workspace import Workspace

R = TypeVar("R", bound=Record)


def current_workspace() -> Workspace | None:
    """Return the workspace of this process, or None where there is none yet: showing a value makes no folder."""
    from nbops.store.discovery import locate
    from nbops.store.workspace import is_open, workspace

    return workspace() if is_open() or locate().is_dir() else None


def curves(run: Run, metrics: Iterable[str]) -> tuple[Line, ...]:
    """Return the newest view of the named metrics of a run; metrics without points are left out."""
    ws = current_workspace()
    if ws is None:
        return ()
    ws.flush()
    lines = []
    for metric in metrics:
        columns = newest_view(ws.store.points(run.id, metric), run.resumes)
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


def attribute(value: Any, *names: str, default: Any = None) -> Any:
    """Return the first attribute that `value` has and that is not None."""
    for name in names:
        found = getattr(value, name, None)
        if found is not None:
            return found
    return default
