"""Cards of memory: what a step takes, and what an out-of-memory error was about."""

from __future__ import annotations

from typing import Any

from nbops.core.display import Bundle
from nbops.debugging.memory.trace import (
    ACTIVATIONS,
    BATCH,
    BUFFERS,
    GRADIENTS,
    PARAMETERS,
    STATE,
    TEMPORARY,
)
from nbops.view import stacks
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Chip, Facts, Key, Note, Part, Picture
from nbops.view.comparing import PLOTLY
from nbops.view.format import number, plural, size
from nbops.view.stacks import Stacks

_MODULES = 4  # so many are named
# what is drawn as one part
_PARTS = (
    ("parameters", (PARAMETERS,)), ("gradients", (GRADIENTS,)), ("optimizer state", (STATE,)),
    ("activations", (ACTIVATIONS,)), ("temporary", (TEMPORARY,)), ("batch and buffers", (BATCH, BUFFERS)),
)  # fmt: skip
_HELD = "allocator and CUDA"


def show_memory(value: Any) -> Bundle:
    """Draw a `MemoryReport`: whether the step fits, what it is made of, and what would need less."""
    drawn = chart_of(value)
    parts: list[Part] = [Picture(stacks.svg(drawn), tuple(drawn.lines()))]
    modules = [(name or "(root)", size(count)) for name, count in list(value.estimate.peak.modules.items())[:_MODULES]]
    if modules:
        parts.append(Facts("Most activations", tuple(modules)))
    parts += [Note(note, "dim") for note in value.notes]
    facts = (f"batch {value.estimate.batch:,}", value.optimizer, value.device)
    return bundle(Card(f"memory of {value.model}", _chip(value), "", facts, _keys(value), tuple(parts)))


def show_chart(value: Any) -> Bundle:
    """Draw a `MemoryChart`: the bars alone, interactive where plotly is."""
    drawn = chart_of(value.report)
    found = bundle(Card(drawn.title, parts=(Picture(stacks.svg(drawn), tuple(drawn.lines())),)))
    found[PLOTLY] = stacks.plotly(drawn)
    found["image/svg+xml"] = stacks.svg(drawn, alone=True)
    return found


def show_out_of_memory(value: Any) -> Bundle:
    """Draw an `OutOfMemory`: who asked for how much, and the breakdown of the step."""
    where = f" in {value.layer}" if value.layer else ""
    when = f" during the {value.phase}" if value.phase else ""
    asked = f"{size(value.asked_bytes)} were asked for" if value.asked_bytes else "Memory was asked for"
    parts: list[Part] = [Note(f"{asked}{where}{when}, and there was no room.")]
    chip = Chip("✕", "out of memory", "bad")
    report = value.report
    if report is None:
        parts.append(Note("See what a step takes: %mlops memory MODEL BATCH", "dim"))
        return bundle(Card("out of memory", chip, parts=tuple(parts)))
    drawn = chart_of(report)
    parts.append(Picture(stacks.svg(drawn), tuple(drawn.lines())))
    parts += [Note(advice) for advice in _advice(report)]
    parts += [Note(note, "dim") for note in report.notes]
    facts = (f"batch {report.estimate.batch:,}", report.optimizer, report.device)
    return bundle(Card(f"memory of {report.model}", chip, "", facts, _keys(report), tuple(parts)))


def chart_of(report: Any) -> Stacks:
    """Return a report as bars: the step as given, batch sizes, and what would need less."""
    names = [*(name for name, _ in _PARTS), _HELD]
    rows = [("as given", report.estimate)]
    rows += [(one.name, one) for one in report.by_batch if one.batch != report.estimate.batch]
    rows += [(one.name, one) for one in report.options if one.reserved != report.estimate.reserved]
    bars = tuple((name, _parts(report, one)) for name, one in rows)
    used = [i for i in range(len(names)) if any(values[i] for _, values in bars)]
    kept = tuple((name, tuple(values[i] for i in used)) for name, values in bars)
    return Stacks(f"memory of {report.model}", tuple(names[i] for i in used), kept, report.device_bytes)


def _parts(report: Any, estimate: Any) -> tuple[int, ...]:
    parts = estimate.peak.parts
    return (
        *(sum(parts.get(sort, 0) for sort in sorts) for _, sorts in _PARTS),
        report.need_of(estimate) - estimate.allocated,
    )


def _chip(report: Any) -> Chip:
    if report.fits is None:
        return Chip("≈", "estimated", "dim")
    return Chip("✓", "fits", "ok") if report.fits else Chip("✕", "does not fit", "bad")


def _keys(report: Any) -> tuple[Key, ...]:
    keys = [Key(size(report.needed_bytes), "needed", "estimated")]
    if report.device_bytes is not None:
        keys.append(Key(size(report.device_bytes), "on the device"))
    if report.largest_batch is not None:
        keys.append(Key(number(report.largest_batch), "largest batch", "estimated"))
    frozen = report.parameters - report.trainable
    keys.append(Key(number(report.parameters), "parameters", f"{number(frozen)} frozen" if frozen else ""))
    return tuple(keys[:4])


def _advice(report: Any) -> list[str]:
    """Return what to do, the least change first."""
    if report.largest_batch:
        return [f"A batch of {report.largest_batch:,} fits; accumulate gradients to keep the effective batch size."]
    if report.device_bytes is None:
        return []
    fitting = [one.name for one in report.options if report.need_of(one) <= report.device_bytes]
    if fitting:
        return [f"{plural(len(fitting), 'change')} would make it fit: {', '.join(fitting)}."]
    return ["None of the changes alone makes it fit; combine them, or take a smaller model."]
