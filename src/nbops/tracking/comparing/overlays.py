"""Curves of one metric over several runs, on common steps. A resumed run shows its newest segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbops.core.display import Shown
from nbops.core.extras import pandas
from nbops.core.records import Run
from nbops.store.workspace import Workspace
from nbops.tracking.segments import newest_view

if TYPE_CHECKING:
    from nbops.store.points import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Curve:
    """One metric of one run: steps int64 [n] and values float64 [n], in the order they were logged."""

    run: str
    label: str
    steps: IntArray
    values: FloatArray

    @property
    def first_bad(self) -> int | None:
        """The first step whose value is not finite, or None."""
        import numpy as np

        bad = np.flatnonzero(~np.isfinite(self.values))
        return int(self.steps[bad].min()) if len(bad) else None

    def step_of(self, value: float) -> int | None:
        """Return the first step with this value, or None."""
        import numpy as np

        found = np.flatnonzero(self.values == value)
        return int(self.steps[found[0]]) if len(found) else None


@dataclass(frozen=True, eq=False)
class Overlay(Shown):
    """The curves of one metric."""

    metric: str
    curves: tuple[Curve, ...]

    def __repr__(self) -> str:
        return f"Overlay({self.metric}, {len(self.curves)} curves)"

    def aligned(self) -> tuple[IntArray, FloatArray]:
        """Return all steps, ascending, int64 [n], and values, float64 [curves, n], NaN where a curve has no point.

        Of several values at one step the last logged counts.
        """
        import numpy as np

        steps = np.unique(np.concatenate([c.steps for c in self.curves])) if self.curves else np.empty(0, "<i8")
        values = np.full((len(self.curves), len(steps)), np.nan)
        for row, curve in zip(values, self.curves, strict=True):
            row[np.searchsorted(steps, curve.steps)] = curve.values  # later points overwrite earlier ones
        return steps, values

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame: one row per step, one column per run."""
        pd = pandas()
        steps, values = self.aligned()
        return pd.DataFrame(values.T, index=pd.Index(steps, name="step"), columns=[c.label for c in self.curves])


def overlays(ws: Workspace, runs: Sequence[tuple[str, Run]], metrics: Sequence[str]) -> tuple[Overlay, ...]:
    """Return the curves of labelled runs for each metric that has more than one point in any of them."""
    found = []
    for metric in metrics:
        if all(run.summary[metric].count < 2 for _, run in runs if metric in run.summary):
            continue
        curves = []
        for label, run in runs:
            if metric in run.summary:
                columns = newest_view(ws.store.points(run.id, metric), run.segments)
                curves.append(Curve(run.id, label, columns.steps, columns.values))
        found.append(Overlay(metric, tuple(curves)))
    return tuple(found)
