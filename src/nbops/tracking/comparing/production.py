"""What the models of compared runs have in production, and how far the runs are from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nbops.core.errors import NotFound
from nbops.core.query import Both, Compare, Field
from nbops.core.records import Alias, ModelVersion, Run
from nbops.store.workspace import Workspace
from nbops.tracking.comparing.ranking import is_more_better

ALIASES = ("prod", "production")  # the first that a model has


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
    """The version in production, its alias, the run that made it (None if it has none), and the differences to it."""

    version: ModelVersion
    alias: str
    run: Run | None
    differences: tuple[Difference, ...]


def productions(
    ws: Workspace, sources: Sequence[Run], runs: Sequence[Run], metrics: Sequence[str], notes: list[str]
) -> tuple[Production, ...]:
    """Return one `Production` for each model that one of `sources` made, with differences for all `runs`."""
    found = []
    for model in dict.fromkeys(name for run in sources for name in _made_by(ws, run)):
        live = _behind(ws, model)
        if live is None:
            notes.append(f"Model '{model}' has no version in production: set its alias '{ALIASES[0]}'.")
        else:
            found.append(_against(ws, live, runs, metrics))
    return tuple(found)


def production_for(ws: Workspace, run: Run, metrics: Sequence[str]) -> Production | None:
    """Return what one run is set against: what its model has in production, else the only model that is there.

    None where there is no such version, several models are in production and the run made none of them, or the
    version in production is the run's own.
    """
    made = _made_by(ws, run)
    if not made:
        settings = ws.store.find(Alias, Compare(Field("alias"), "in", ALIASES), limit=100)
        made = list(dict.fromkeys(setting.model for setting in settings))
        made = made if len(made) == 1 else []
    live = next((found for model in made if (found := _behind(ws, model)) is not None), None)
    return None if live is None or live[0].parent == run.id else _against(ws, live, [run], metrics)


def _made_by(ws: Workspace, run: Run) -> list[str]:
    versions = ws.store.find(ModelVersion, Compare(Field("parent"), "==", run.id), limit=20)
    return list(dict.fromkeys(version.name for version in versions))


def _behind(ws: Workspace, model: str) -> tuple[ModelVersion, str] | None:
    for alias in ALIASES:
        setting = ws.store.find(Alias, Compare(Field("name"), "==", f"{model}@{alias}"), limit=1)
        if setting:
            same = Both("and", (Compare(Field("name"), "==", model), Compare(Field("number"), "==", setting[0].number)))
            found = ws.store.find(ModelVersion, same, limit=1)
            return (found[0], alias) if found else None
    return None


def _against(
    ws: Workspace, live: tuple[ModelVersion, str], runs: Sequence[Run], metrics: Sequence[str]
) -> Production:  # fmt: skip
    version, alias = live
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
    return Production(version, alias, source, tuple(rows))
