"""What is kept of a watched run: the loss of each step and a few numbers of each layer, in bounded memory.

However long a training is, all of it is kept, more coarsely with time. No torch here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from nbops.debugging.signals.tracing import Tracer
from nbops.debugging.views import LayerView

QUANTITIES = ("grad_rms", "update_ratio", "dead_share", "saturated_share")
MAX_COLUMNS = 200
MAX_LAYERS = 40
_SPREAD = 32  # layers taken evenly; the others are kept for those with findings
_POINTS = 1024
_MAX_CURVES = 6

Point = tuple[int, float]
Numbers = tuple[float | None, ...]  # one for each of QUANTITIES


class Curve:
    """One loss over steps: the least and the greatest value of equally many steps each, at most 1,024 points."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._points: list[Point] = []
        self._waiting: list[Point] = []
        self._group = 1  # steps that become two points; one by one at first

    def add(self, step: int, value: float) -> None:
        """Add one step; a value may be NaN."""
        self._waiting.append((step, value))
        if len(self._waiting) < self._group:
            return
        self._points += _ends(self._waiting)
        self._waiting.clear()
        if len(self._points) > _POINTS:
            groups = (self._points[i : i + 4] for i in range(0, len(self._points), 4))
            self._points = [point for group in groups for point in _ends(group)]
            self._group = max(4, 2 * self._group)

    @property
    def points(self) -> list[Point]:
        """Steps with their values, ascending; the last step is among them."""
        return self._points + sorted({*_ends(self._waiting), *self._waiting[-1:]}, key=_step)


def _ends(points: list[Point]) -> list[Point]:
    """Return the points with the least and the greatest value; in place of the least the first that is not finite."""
    finite = [point for point in points if math.isfinite(point[1])]
    kept = {min(finite, key=_value), max(finite, key=_value)} if finite else set()
    if len(finite) < len(points):
        bad = next(point for point in points if not math.isfinite(point[1]))
        kept = {*([max(finite, key=_value)] if finite else []), bad}
    return sorted(kept, key=_step)


def _step(point: Point) -> int:
    return point[0]


def _value(point: Point) -> float:
    return point[1]


@dataclass(frozen=True)
class Column:
    """The numbers of one measured step, by layer."""

    step: int
    layers: dict[str, Numbers] = field(default_factory=dict)


class Timeline:
    """The numbers of one watch since it began to follow the open run: to be drawn, and to compare two runs by."""

    def __init__(self) -> None:
        self.traces = Tracer()
        self.curves: list[Curve] = []
        self.columns: list[Column] = []
        self.layers: list[str] = []  # in forward order
        self._every = self._seen = 0
        self._order: dict[str, None] = {}

    @property
    def of_layers(self) -> int:
        """How many layers have such numbers."""
        return len(self._order)

    def curve(self, optimizer: str) -> Curve:
        """Return where the loss of another optimizer goes; the sixth one shares its place with those after it."""
        if len(self.curves) < _MAX_CURVES:
            known = sum(curve.name.startswith(f"loss, {optimizer}") for curve in self.curves)
            self.curves.append(Curve(f"loss, {optimizer}{f' {known + 1}' if known else ''}"))
        return self.curves[-1]

    def add(self, step: int, layers: dict[str, LayerView], *, found: Iterable[str] = ()) -> None:
        """Add a measured step. Layers in `found` have a place among the forty that are kept.

        Columns of one step, by several optimizers, become one; of more than 200 every second one goes.
        """
        self.traces.measured(step, layers)
        self._choose([name for name in layers if name not in self._order and _has_numbers(layers[name])], found)
        numbers = {name: _numbers(layers[name]) for name in self.layers if name in layers}
        if self.columns and self.columns[-1].step == step:
            self.columns[-1].layers.update(numbers)
            return
        if self._seen % (1 << self._every) == 0:
            self.columns.append(Column(step, numbers))
        self._seen += 1
        if len(self.columns) > MAX_COLUMNS:
            self.columns = self.columns[::2]
            self._every += 1

    def _choose(self, new: list[str], found: Iterable[str]) -> None:
        if new:  # the first step, or layers that were not called before
            self._order.update(dict.fromkeys(new))
            whole = list(self._order)
            is_small = len(whole) <= MAX_LAYERS
            self.layers = whole if is_small else [whole[i * len(whole) // _SPREAD] for i in range(_SPREAD)]
        room = MAX_LAYERS - len(self.layers)
        more = (
            [name for name in dict.fromkeys(found) if name in self._order and name not in self.layers] if room else []
        )
        if more:
            chosen = {*self.layers, *more[:room]}
            self.layers = [name for name in self._order if name in chosen]


def _numbers(view: LayerView) -> Numbers:
    return view.grad_rms, view.update_ratio, view.dead_share, view.saturated_share


def _has_numbers(view: LayerView) -> bool:
    return any(value is not None for value in _numbers(view))
