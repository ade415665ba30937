"""Cards of runs, series and notebook steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbops.core.display import Bundle
from nbops.core.ids import short_id
from nbops.core.records import Cell, Diagnosis, Failure, Run, Summary
from nbops.tracking.comparing.ranking import ranked
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Chip, Code, Facts, Grid, Key, Mono, Note, Part, chip
from nbops.view.figures import MAX_LINES, Figure, Line, plotly, svg
from nbops.view.format import cell, duration, number, plural, signed, text, when
from nbops.view.reading import attribute, current_workspace, curves, fresh_run, related, waiting
from nbops.view.splits import looks_of_run

PLOTLY = "application/vnd.plotly.v1+json"
_KEYS = 4  # key figures of a card
_MAX_FIGURE = 30_000
_MAX_NOTEBOOK = 2_000_000  # bytes: a larger file is not read for a card


def show_run(value: Any) -> Bundle:
    """Draw a `Run`, or a `LiveRun` as it is stored now: state, last values, one curve, parameters."""
    run: Run = attribute(value, "record", default=value)
    if run.status == "RUNNING" or not run.summary:
        run = fresh_run(run.id) or run
    return bundle(_run_card(run))


def _run_card(run: Run) -> Card:
    parts: list[Part] = [Note(said, "warn")] if (said := waiting()) else []
    shown = {name: run.summary[name] for name in run.metrics}  # without what nbops samples itself
    names = _family(shown)
    lines = curves(run, names) if names else ()
    if any(len(line.steps) > 1 for line in lines):
        parts.append(Figure(f"metrics of {run.name}", lines))
    if run.params:
        parts.append(Facts("params", tuple((k, number(v)) for k, v in run.params.items())))
    if run.tags:
        parts.append(Facts("tags", tuple(run.tags.items())))
    if run.note:
        parts.append(Note(run.note))
    if run.error:
        parts += _failure(run.error)
    parts += _found(run.id)
    parts += looks_of_run(run.id)
    apart, production = _production(run, shown)
    parts += production
    parts += _reproducible(run)
    if run.status == "RUNNING" and not shown:
        parts.append(Note("Nothing is logged yet. Log a value with nb.log(step, loss=0.5).", "dim"))
    facts = [duration(run.duration_s)] if run.ended_at else [f"since {when(run.created_at)}"]
    facts += [run.type] if run.type != "notebook" else []
    facts.append(cell(run.cell_id))
    return Card(run.name, chip(run.status), short_id(run.id), tuple(facts), _keys(shown, apart), tuple(parts))


def _reproducible(run: Run) -> list[Part]:
    """Return one line on whether the run would come out again; none while it runs, or if no cells are recorded."""
    from nbops.tracking.code.reproducibility import judge  # it brings the store along

    ws = current_workspace()
    if ws is None or run.ended_at is None:
        return []
    found = judge(ws, run, max_file_bytes=_MAX_NOTEBOOK)
    return [] if found.verdict is None else [Note(found.line, "dim")]


def _production(run: Run, shown: Mapping[str, Summary]) -> tuple[dict[str, float], list[Part]]:
    """Return how far the key figures are from those of the version in production, and which version that is."""
    from nbops.tracking.comparing.production import production_for  # it brings the store along

    ws = current_workspace()
    live = None if ws is None else production_for(ws, run, ranked(shown)[:_KEYS])
    if live is None or not live.differences:
        return {}, []
    said = f"In production: {live.version.name}@{live.alias} = {live.version.ref}."
    return {d.metric: d.differences[0] for d in live.differences if d.differences[0] is not None}, [Note(said, "dim")]


def _keys(summary: Mapping[str, Summary], apart: Mapping[str, float]) -> tuple[Key, ...]:
    keys = []
    for name in ranked(summary)[:_KEYS]:
        s = summary[name]
        notes = [f"{signed(apart[name])} to production"] if name in apart else []
        notes += [f"from {number(s.first)}"] if s.count > 1 else []
        notes += [f"{s.nan_count:,} NaN"] if s.nan_count else []
        keys.append(Key(number(s.last), name, ", ".join(notes)))
    return tuple(keys)


def _family(summary: Mapping[str, Summary]) -> list[str]:
    """Return the metrics of one picture: the loss (or the first metric) and those of its sort, ``val_loss``."""
    drawn = [name for name in summary if summary[name].count > 1]
    if not drawn:
        return []
    first = next(
        (name for name in sorted(drawn, key=lambda n: (len(n), n)) if "loss" in name.lower()), ranked(drawn)[0]
    )
    word = _last_word(first)
    return sorted((name for name in drawn if _last_word(name) == word), key=lambda n: (n != first, n))[:MAX_LINES]


def _last_word(metric: str) -> str:
    return metric.lower().replace("/", "_").replace(".", "_").split("_")[-1]


def _failure(error: Failure) -> list[Part]:
    line = f"line {error.line}" if error.line else ""
    place = ", ".join(part for part in (cell(error.cell_id), line) if part)
    said = error.message.partition("\n")[0]
    return [Note(f"{error.type}{f' in {place}' if place else ''}: {said}", "bad")]


def _found(run: str) -> list[Part]:
    found = related(Diagnosis, "parent", run, limit=5)
    return [Note(f"{chip(d.status).sign} {d.name} at step {d.step:,}, {d.layer}: {d.what}", "dim") for d in found]


def show_cell(value: Cell) -> Bundle:
    """Draw a recorded cell: state, duration, source."""
    parts: list[Part] = [Code("\n".join(value.source.splitlines()[:12]))] if value.source else []
    if value.error:
        parts += _failure(value.error)
    count = f"[{value.execution_count}]" if value.execution_count else ""
    card = Card(f"{cell(value.cell_id) or 'cell'} {count}".strip(), chip(value.status), short_id(value.id),
                (duration(value.duration_s), when(value.created_at)), parts=tuple(parts))  # fmt: skip
    return bundle(card)


def show_series(value: Any) -> Bundle:
    """Draw a `Series`: plotly's JSON for interaction, SVG and HTML without it, blocks in text."""
    name = text(attribute(value, "metric", "name", default="value"))
    line = Line(name, value.steps, value.values)
    owner = attribute(value, "run", default="")
    owner = text(attribute(owner, "name", default=owner))
    figure = Figure(f"{name} of {short_id(owner)}" if owner else name, (line,))
    count = len(value.values)
    card = Card(name, id=short_id(owner), facts=(plural(count, "point"),), parts=(figure,) if count else (
        Note("No points are logged under this name.", "dim"),))  # fmt: skip
    found = bundle(card)
    if count:
        found[PLOTLY] = plotly(figure)
        drawn = svg(figure, alone=True)
        if len(drawn) <= _MAX_FIGURE:
            found["image/svg+xml"] = drawn
    return found


def show_step(value: Any) -> Bundle:
    """Draw how a notebook step or a pipeline run ended; its run's card where it has one."""
    run = attribute(value, "run", "record")
    if isinstance(run, Run):
        return show_run(run)
    error = attribute(value, "error")
    parts: list[Part] = []
    if isinstance(error, Failure):
        parts += _failure(error)
    elif error is not None:
        parts.append(Note(text(error), "bad"))
    steps = attribute(value, "steps", default=())
    if steps and isinstance(steps, list | tuple):
        rows = tuple(_step_row(step) for step in steps)
        parts.append(Grid(("state", "step", "duration"), rows, frozenset({2})))
    output = attribute(value, "output", "path")
    title = attribute(value, "name", default=getattr(output, "name", "") or type(value).__name__)
    return bundle(Card(text(title), chip(attribute(value, "status", default="")), parts=tuple(parts)))


def _step_row(step: Any) -> tuple[Chip, Mono, str]:
    return (
        chip(attribute(step, "status", default="pending")), Mono(text(attribute(step, "name", "id", default=step))),
        duration(attribute(step, "duration_s")),
    )  # fmt: skip
