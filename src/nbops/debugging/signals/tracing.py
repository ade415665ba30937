"""What is kept of each layer over the steps, so that two runs can be laid side by side. Bounded however long it lasts.

Which steps are kept depends on their number, not on time, wherever that is possible: two runs of the same training
then have them in common. Gradients are known at every step; the rest only at steps that are measured in full.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np

from nbops.debugging.views import LayerView
from nbops.store.traces import SIGNALS, Traces

DENSE_STEPS = 32  # kept whatever comes
_MOST_ROWS, _FEWEST_ROWS = 256, 64
_MOST_NUMBERS = 1_000_000
_WIDTH = len(SIGNALS)
_GRADIENT = SIGNALS.index("grad_norm")


class Named(Protocol):
    """A parameter with the name of its layer."""

    @property
    def layer(self) -> str: ...


class Tracer:
    """Collects the numbers of one watch in one run.

    The first 32 steps are kept, and then of each `stride` steps two at most: the first, and the first that was measured
    in full. The stride is 4 at first, and twice as much whenever there are too many.
    """

    def __init__(self) -> None:
        self.stride = 4
        self._index: dict[str, int] = {}
        self._kinds: dict[str, str] = {}
        self._order: dict[str, None] = {}  # forward order, as of the last step that was measured
        self._rows: dict[int, array[float]] = {}
        self._owners: tuple[str, ...] = ()  # layers of the parameters that had a gradient last
        self._parts: dict[str, list[int]] = {}  # and which of them belong to each
        self._rates: dict[int, float] = {}
        self._measured: dict[int, int] = {}  # the first step measured in full, by bucket

    def __len__(self) -> int:
        return len(self._rows)

    def wants(self, step: int) -> bool:
        """Return whether the gradients of a step are kept."""
        return step < DENSE_STEPS or step % self.stride == 0

    def gradients(
        self, step: int, have: Iterable[Named], norms: Sequence[float], *, about: Callable[[], tuple[float, float]]
    ) -> None:
        """Keep the norms of parameters' gradients, by layer; in a long training most steps are let go at once.

        Parameters
        ----------
        have, norms : iterable and sequence
            Parameters with a gradient, and the gradients' norms.
        about : callable
            Returns the factor of the loss that is still in the gradients, and the learning rate.
        """
        if not self.wants(step):
            return
        factor, rate = about()
        self._rates.setdefault(step, rate)
        owners = tuple([one.layer for one in have])
        if owners != self._owners:
            self._owners, self._parts = owners, _grouped(owners)
        row = self._row(step, self._parts)
        for layer, parts in self._parts.items():
            _fill(row, self._index[layer] * _WIDTH + _GRADIENT, math.hypot(*[norms[i] / factor for i in parts]))
        self._thin()

    def measured(self, step: int, layers: dict[str, LayerView]) -> None:
        """Keep a step that was measured in full; what is known of it already stays."""
        if self._order.keys() != layers.keys():
            self._order = dict.fromkeys([*layers, *self._order])
        if step >= DENSE_STEPS and self._measured.setdefault(step // self.stride, step) != step:
            return
        row = self._row(step, layers)
        for name, layer in layers.items():
            self._kinds[name] = layer.kind
            at = self._index[name] * _WIDTH
            for i, signal in enumerate(SIGNALS):
                value = getattr(layer, signal)
                if value is not None:
                    _fill(row, at + i, value)
        self._thin()

    def kept(self, name: str) -> Traces | None:
        """Return what is kept, or None for nothing."""
        if not self._rows:
            return None
        layers = [*self._order, *(one for one in self._index if one not in self._order)]
        layers = [one for one in layers if one in self._index]
        places = [self._index[one] for one in layers]
        steps = sorted(self._rows)
        values = np.full((len(steps), len(self._index), _WIDTH), np.nan)
        for i, step in enumerate(steps):
            row = np.asarray(self._rows[step]).reshape(-1, _WIDTH)
            values[i, : len(row)] = row
        kinds = tuple(self._kinds.get(one, "") for one in layers)
        rates = np.array([self._rates.get(step, math.nan) for step in steps])
        return Traces(name, tuple(layers), kinds, np.array(steps, dtype=np.int64), values[:, places], rates)

    def _row(self, step: int, layers: Iterable[str]) -> array[float]:
        for layer in layers:
            self._index.setdefault(layer, len(self._index))
        row = self._rows.setdefault(step, array("d"))
        row.extend([math.nan] * (len(self._index) * _WIDTH - len(row)))
        return row

    def _thin(self) -> None:
        most = max(_FEWEST_ROWS, min(_MOST_ROWS, _MOST_NUMBERS // (_WIDTH * max(1, len(self._index)))))
        while len(self._rows) > most:
            self.stride *= 2
            measured = sorted(self._measured.values())
            self._measured = {}
            for step in measured:
                self._measured.setdefault(step // self.stride, step)
            stay = set(self._measured.values())
            self._rates = {step: rate for step, rate in self._rates.items() if step in self._rows}
            self._rows = {
                step: row for step, row in self._rows.items()
                if step < DENSE_STEPS or step % self.stride == 0 or step in stay
            }  # fmt: skip


def _grouped(owners: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for i, owner in enumerate(owners):
        found.setdefault(owner, []).append(i)
    return found


def _fill(row: array[float], at: int, value: float) -> None:
    if math.isnan(row[at]):
        row[at] = value if math.isfinite(value) else math.inf
