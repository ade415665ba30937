"""What the models of compared runs have in production, and how far the runs are from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nbops.core.errors import NotFound
from nbops.core.query import Both, Compare, Field
from nbops.core.records import Alias, ModelVersion, Run
from nbops.store.workspace import Workspace
from nbops.tracking.ranking import is_more_better

ALIAS = "prod"


@dataclass(frozen=True)
class Difference:
    """One metric beside that of production; `values` and `differences` [runs] are None where a run lacks it."""

    metric: str
    production: float
    values: tuple[float | None, ...]
    differences: tuple[float | None, ...]
    is_more_better: bool | None


@dataclass(frozen=True)
class Production:
    """The version behind ``model@prod``, the run that made it (None if it has none), and the differences to it."""

    version: ModelVersion
    run: Run | None
    differences: tuple[Difference, ...]


def productions(
    ws: Workspace, sources: Sequence[Run], runs: Sequence[Run], metrics: Sequence[str], notes: list[str]
) -> tuple[Production, ...]:
    """Return one `Production` for each model that one of `sources` made, with differences for all `runs`."""
    models: dict[str, None] = {}
    for run in sources:
        for version in ws.store.find(ModelVersion, Compare(Field("parent"), "==", run.id), limit=20):
            models.setdefault(version.name)
    found = []
    for model in models:
        live = _behind(ws, model)
        if live is None:
            notes.append(f"Model '{model}' has no version in production: set its alias '{ALIAS}'.")
        else:
            found.append(_against(ws, live, runs, metrics))
    return tuple(found)


def _behind(ws: Workspace, model: str) -> ModelVersion | None:
    alias = ws.store.find(Alias, Compare(Field("name"), "==", f"{model}@{ALIAS}"), limit=1)
    if not alias:
        return None
    same = Both("and", (Compare(Field("name"), "==", model), Compare(Field("number"), "==", alias[0].number)))
    found = ws.store.find(ModelVersion, same, limit=1)
    return found[0] if found else None


def _against(ws: Workspace, version: ModelVersion, runs: Sequence[Run], metrics: Sequence[str]) -> Production:
    try:
        source = ws.store.get(Run, version.parent) if version.parent else None
    except NotFound:  # the run was deleted; what was registered with the version remains
        source = None
    known = {**(source.metrics if source else {}), **version.metrics}
    rows = []
    for metric in metrics:
        if metric in known:
            values = tuple(run.summary[metric].last if metric in run.summary else None for run in runs)
            apart = tuple(None if value is None else value - known[metric] for value in values)
            rows.append(Difference(metric, known[metric], values, apart, is_more_better(metric)))
    return Production(version, source, tuple(rows))
