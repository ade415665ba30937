"""One moment of a watched training, as it is drawn: what the live output shows, and what `Watch.figure` returns."""

from __future__ import annotations

from dataclasses import dataclass

from nbops.core.display import Shown
from nbops.core.records import Diagnosis
from nbops.debugging.live.timeline import QUANTITIES, Column, Point


@dataclass(frozen=True)
class WatchFigure(Shown):
    """Loss, numbers of each layer over the measured steps, and findings.

    Attributes
    ----------
    curves : tuple of (name, points)
        The loss, ``(step, value)``, one for each optimizer.
    columns : tuple of Column
        The measured steps, oldest first, at most 200.
    layers : tuple of str
        In forward order, at most 40.
    of_layers : int
        How many layers the model has.
    cost : float
        Share of the time that the watch itself takes, 0 to 1.
    """

    name: str
    is_open: bool
    steps: int
    sampled: int
    curves: tuple[tuple[str, tuple[Point, ...]], ...] = ()
    columns: tuple[Column, ...] = ()
    layers: tuple[str, ...] = ()
    of_layers: int = 0
    diagnoses: tuple[Diagnosis, ...] = ()
    notes: tuple[str, ...] = ()
    run_id: str | None = None
    cost: float | None = None
    is_running: bool = False

    def matrix(self, what: str) -> tuple[tuple[str, ...], list[list[float | None]]]:
        """Return the layers that have a quantity, and its values [layers, columns]; None where it was not measured.

        Parameters
        ----------
        what : str
            ``grad_rms``, ``update_ratio``, ``dead_share`` or ``saturated_share``.
        """
        place = QUANTITIES.index(what)
        rows = []
        for layer in self.layers:
            row = [c.layers[layer][place] if layer in c.layers else None for c in self.columns]
            if any(value is not None for value in row):
                rows.append((layer, row))
        return tuple(layer for layer, _ in rows), [row for _, row in rows]
