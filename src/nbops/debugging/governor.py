"""When to look closely: every step at first, then as often as a cost budget allows."""

from __future__ import annotations

import math
from collections import deque
from statistics import median

DENSE_STEPS = 20
BUDGET = 0.01  # share of the training time that sampling may take
RAREST = 1000


class Governor:
    """Chooses the steps to sample.

    The first 20 steps are sampled. From then on every n-th, where n is the median cost of sampling one step over
    1 % of the median time of a step, at most 1,000; it is computed anew after each sampled step.

    Parameters
    ----------
    every : int or None
        A fixed n from the first step on, instead of the budget.
    """

    def __init__(self, *, every: int | None = None) -> None:
        self.every = every or 1
        self._is_fixed = every is not None
        self._next = 0
        self._costs: deque[float] = deque(maxlen=20)
        self._steps: deque[float] = deque(maxlen=50)

    def wants(self, step: int) -> bool:
        """Return whether `step` (counted from 0) is to be sampled."""
        return step >= self._next or (step < DENSE_STEPS and not self._is_fixed)

    def timed(self, duration_s: float) -> None:
        """Tell the time from one step to the next, in seconds, without the cost of sampling."""
        self._steps.append(duration_s)

    def sampled(self, step: int, cost_s: float) -> None:
        """Tell what sampling `step` cost, in seconds."""
        self._costs.append(cost_s)
        if not self._is_fixed and self._steps and step + 1 >= DENSE_STEPS:
            allowed_s = BUDGET * max(median(self._steps), 1e-6)
            self.every = min(RAREST, max(1, math.ceil(median(self._costs) / allowed_s)))
        self._next = step + self.every
