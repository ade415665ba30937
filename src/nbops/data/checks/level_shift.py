"""The check ``level-shift``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nbops.core.records import CheckResult
from nbops.data.leaf import Sample, checks, judged
from nbops.data.series.jumps import lasting_jumps
from nbops.data.series.lines import lines_or_why, measured_columns, values_of


@checks.register("level-shift")
def level_shift(
    sample: Sample, *, time: str | None = None, series: str | Sequence[str] | None = None, chance: float = 0.01
) -> Iterator[CheckResult]:
    """A value that jumps from one row to the next, and stays where it went.

    What it measures
        Steps that lie beyond the tail of all steps of the column (fewer than `chance` of healthy columns have any), if
        70 % of the step is still there between the medians of the ten rows before and after. WARN for any.

    Why it matters
        A sensor that was exchanged, another unit, another definition of the figure: what was learned before the jump
        does not hold after it.

    When it is wrong
        Where values are set by hand and jump by their nature (tariffs, set points); jumps within the noise of the
        column are not seen, nor is slow drift: `nb.drift(…, by=…)` looks for that.

    Fix
        Find out what changed that day; correct the older part, or train on the newer one.

    References
        Page, "Continuous inspection schemes", Biometrika 41, 1954 (on changes of level).
    """
    lines = lines_or_why(sample, time, series)
    if isinstance(lines, CheckResult):
        yield lines
        return
    for column in measured_columns(sample, time, series):
        ordered = values_of(column)[lines.order]
        jumps = lasting_jumps(ordered, lines.within(), chance=chance)
        said = "no step stays beyond the tail of all steps"
        if jumps:
            first, height = max(jumps, key=lambda jump: abs(jump[1]))
            name = lines.names[int(lines.codes[lines.order[first]])]
            whose = f" of {name}" if name else ""
            more = f"; {len(jumps) - 1} more" if len(jumps) > 1 else ""
            said = (
                f"the level{whose} moves by {height:+.4g} at {lines.moment(lines.ticks[lines.order[first]])} "
                f"and stays{more}"
            )
        yield judged(
            len(jumps),
            warn=0,
            column=column.name,
            unit="jumps",
            message=said,
            fix="Find out what changed then; correct the older part, or train on the newer one.",
            evidence={"rows": [int(lines.order[first]) for first, _ in jumps[:5]]},
        )
