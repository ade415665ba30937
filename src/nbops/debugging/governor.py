"""When to look closely: every step at first, then as often as a cost budget allows."""

from __future__ import annotations

import math
from collections import deque
from statistics import median

DENSE_STEPS = 20
BUDGET = 0.01  # share of the training time that sampling may take
RAREST = 1000
EARLY_STEPS = 1000  # most of what can go wrong shows by then, so the watch looks some 40 times whatever steps take
_CHEAP_S = 0.1
STIRRED_STEPS = 50  # after a cheap signal moved
STIRRED_TIMES = 10  # so many times more often
_CALM_STEPS = 500  # from one such window to the next, so that a restless run stays within twice the budget


class Governor:
    """Chooses the steps to sample.

    The first 20 steps are sampled. From then on every n-th, where n is the median cost of sampling one step over
    1 % of the median time of a step, at most 1,000; it is computed anew after each sampled step. Until step 1,000 the
    next one comes after an eighth of the steps so far at the latest, if sampling takes 0.1 s at most. For 50 steps
    after `stir` they are sampled 10 times as often, once in 500 steps at most.

    Parameters
    ----------
    every : int or None
        A fixed n from the first step on, instead of the budget.
    """

    def __init__(self, *, every: int | None = None) -> None:
        self.every = every or 1
        self._is_fixed = every is not None
        self._next = 0
        self._stirred = -_CALM_STEPS - 1
        self._forced = False
        self._costs: deque[float] = deque(maxlen=20)
        self._steps: deque[float] = deque(maxlen=50)

    def wants(self, step: int) -> bool:
        """Return whether `step` (counted from 0) is to be sampled."""
        return self._forced or step >= self._next or (step < DENSE_STEPS and not self._is_fixed)

    def always(self, is_forced: bool) -> None:
        """Sample every step, whatever it costs, until told otherwise."""
        self._forced = is_forced

    def stir(self, step: int) -> None:
        """Look more often for a while: something moves."""
        if not self._is_fixed and step >= DENSE_STEPS and step - self._stirred > _CALM_STEPS:
            self._stirred = step
            self._next = min(self._next, step + 1)

    @property
    def step_s(self) -> float:
        """Median time of a step, seconds; 0 before the second one."""
        return median(self._steps) if self._steps else 0.0

    def timed(self, duration_s: float) -> None:
        """Tell the time from one step to the next, in seconds, without the cost of sampling."""
        self._steps.append(duration_s)

    def sampled(self, step: int, cost_s: float) -> None:
        """Tell what sampling `step` cost, in seconds."""
        self._costs.append(cost_s)
        if not self._is_fixed and self._steps and step + 1 >= DENSE_STEPS:
            allowed_s = BUDGET * max(median(self._steps), 1e-6)
            self.every = min(RAREST, max(1, math.ceil(median(self._costs) / allowed_s)))
        is_stirred = step - self._stirred < STIRRED_STEPS
        self._next = step + (max(1, self.every // STIRRED_TIMES) if is_stirred else self._distance(step))

    def _distance(self, step: int) -> int:
        """Return after how many steps to look again: in an early phase not later than after an eighth of the way."""
        if self._is_fixed or step + 1 >= EARLY_STEPS or not self._costs or median(self._costs) > _CHEAP_S:
            return self.every
        return min(self.every, max(4, step // 8))
