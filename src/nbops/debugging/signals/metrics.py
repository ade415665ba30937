"""Metrics that the user logs with ``nb.log`` while a watch is open."""

from __future__ import annotations

import math
from dataclasses import replace

from nbops.debugging.aspects import BatchView, MetricView

_MOST = 200
_OURS = ("watch/", "system/")


class Metrics:
    """What was logged, by name; `batch` is the last batch that was measured, to compare a metric with."""

    def __init__(self) -> None:
        self._views: dict[str, MetricView] = {}
        self.batch: BatchView | None = None

    def add(self, metrics: dict[str, float]) -> bool:
        """Add one value per metric; return whether any of them is the user's own."""
        found = False
        for name, given in metrics.items():
            if name.startswith(_OURS):
                continue
            try:
                value = float(given)
            except (TypeError, ValueError):
                continue
            found = True
            known = self._views.get(name)
            if known is None:
                if len(self._views) < _MOST:
                    self._views[name] = MetricView(name, 1, value, value, value, value)
                continue
            is_lower = value < known.last
            low = value if math.isnan(known.min) else min(known.min, value)
            high = value if math.isnan(known.max) else max(known.max, value)
            self._views[name] = replace(
                known, count=known.count + 1, last=value, min=low, max=high, falls=known.falls + is_lower
            )
        return found

    def view(self) -> dict[str, MetricView]:
        """Return them all."""
        return dict(self._views)
