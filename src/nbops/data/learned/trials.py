"""Back-tests: rules are learned from one part of a healthy table and tried on another, some hundred times.

Rows are put into blocks once, and what a rule needs (extremes, counts) is computed once a block, so that a trial is a
choice of blocks: its cost does not depend on the number of rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbops.data.columns import Array, Mask
from nbops.data.rules.base import Rule

BLOCKS = 64
MAX_TRIALS = 20_000
_SEED = 20_240_101


@dataclass(frozen=True, eq=False)
class Trials:
    """Blocks of rows, and which of them each trial learns from and is tried on.

    Attributes
    ----------
    block : int array
        [rows], from 0.
    learned, tried : bool array
        [trials, blocks].
    limit : float
        Largest share of trials in which a rule may be wrong.
    """

    block: NDArray[np.int64]
    learned: Mask
    tried: Mask
    limit: float

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return int(self.learned.shape[1])

    @cached_property
    def order(self) -> Array:
        """Rows, block by block."""
        return np.argsort(self.block, kind="stable")

    @cached_property
    def starts(self) -> Array:
        """Where each block begins in `order`; none is empty."""
        return np.searchsorted(self.block[self.order], np.arange(self.blocks))

    def rate(self, alarms: Mask) -> float:
        """Return the estimated share of false alarms: (alarms + 1) / (trials + 1), so never zero."""
        return round((int(np.count_nonzero(alarms)) + 1) / (len(self.learned) + 1), 5)

    def quiet(self) -> Mask:
        """Return the alarms of a rule that is never wrong here: none, bool [trials]."""
        return np.zeros(len(self.learned), np.bool_)

    def extremes(self, values: Array, there: Mask | None) -> tuple[Array, Array]:
        """Return least and greatest value of each block, float64 [blocks]; infinite where it has none."""
        wide = values.astype(np.float64)
        least = wide if there is None else np.where(there, wide, np.inf)
        most = wide if there is None else np.where(there, wide, -np.inf)
        return (np.minimum.reduceat(least[self.order], self.starts), np.maximum.reduceat(most[self.order], self.starts))

    def counts(self, codes: Array, kinds: int, there: Mask | None = None) -> Array:
        """Return how often each code (0 to `kinds` - 1) occurs in each block, float64 [blocks, kinds]."""
        rows = slice(None) if there is None else there
        flat = np.bincount(self.block[rows] * kinds + codes[rows], minlength=self.blocks * kinds)
        return flat.reshape(self.blocks, kinds).astype(np.float64)


def random_trials(rows: int, *, false_alarm_rate: float, blocks: int = BLOCKS) -> Trials:
    """Return trials on random halves: learned from one, tried on the other. The same for the same number of rows."""
    blocks = max(4, min(blocks, rows // 4))
    rng = np.random.default_rng(_SEED)
    count = min(MAX_TRIALS, max(200, math.ceil(4 / false_alarm_rate)))
    halves = rng.permuted(np.tile(np.arange(blocks) < blocks // 2, (count, 1)), axis=1)
    block = rng.permutation(rows) % blocks
    return Trials(block, halves, ~halves, false_alarm_rate)


def time_trials(times: Array, *, false_alarm_rate: float, blocks: int = BLOCKS) -> Trials:
    """Return trials in time: learned from all blocks up to one moment, tried on one block, or four, after it.

    Parameters
    ----------
    times : array
        [rows], something that can be sorted.
    """
    blocks = max(4, min(blocks, len(times) // 4))
    block = np.empty(len(times), np.int64)
    block[np.argsort(times, kind="stable")] = np.arange(len(times)) * blocks // len(times)
    pairs = [
        (now, then, width)
        for width in (1, 4) for now in range(blocks // 2, blocks) for then in range(now, blocks - width + 1)
    ]  # fmt: skip
    most = min(MAX_TRIALS, max(200, math.ceil(4 / false_alarm_rate)))
    chosen = pairs if len(pairs) <= most else [pairs[i * len(pairs) // most] for i in range(most)]
    at = np.arange(blocks)
    learned = np.array([at < now for now, _, _ in chosen])
    tried = np.array([(at >= then) & (at < then + width) for _, then, width in chosen])
    return Trials(block, learned, tried, false_alarm_rate)


@dataclass(frozen=True)
class Option:
    """A rule and the trials that it called wrong: one of several, the strictest first."""

    rule: Rule
    alarms: Mask


def among_learned(trials: Trials, counts: Array) -> tuple[Array, Array]:
    """Return how many rows of each trial are of kinds that it had not learned, and of how many: [trials] each."""
    seen = (trials.learned @ counts) > 0
    tried = trials.tried @ counts
    return (tried * ~seen).sum(axis=1), tried.sum(axis=1)


def by_share(trials: Trials, bad: Array, of: Array, shares: tuple[float, ...]) -> Iterator[tuple[float, Mask]]:
    """Yield each share that may be bad, and the trials in which more is."""
    actual = bad / np.maximum(of, 1)
    for share in shares:
        yield share, actual > share


def changed(rule: Rule, **fields: Any) -> Rule:
    """Return a rule with other fields."""
    import msgspec

    made: Rule = msgspec.structs.replace(rule, **fields)
    return made
