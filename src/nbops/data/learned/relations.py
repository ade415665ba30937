"""What is learned about columns together: keys of two columns, dependencies, order of dates."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations

import numpy as np

from nbops.data import expect
from nbops.data.columns import Array, Column
from nbops.data.learned.trials import Option, Trials
from nbops.data.rules.facts import Facts

MAX_COLUMNS = 24  # pairs are many: more columns are not tried
_GLANCE = 5000  # rows that are enough to see that most pairs of columns have no such rule
_FEWEST_PAIRS = 100  # rows beyond the first of their group, without which a dependency may be an accident


def relation_options(facts: Facts, trials: Trials, *, label: str) -> Iterator[list[Option]]:
    """Yield options of rules about two columns; what holds in the whole table holds in each part of it."""
    columns = [
        c
        for c in facts.frame.columns
        if c.name != label and not c.is_tensor and c.dtype not in ("null", "object", "bytes")
    ]
    yield from _ordered(facts, [c for c in columns if c.offsets is None and c.values.dtype.kind == "M"], trials)
    discrete = [c for c in columns if not c.is_float and c.dtype != "bool"][:MAX_COLUMNS]
    sizes = {c.name: len(facts.distinct(c.name)[0]) for c in discrete}
    yield from _dependencies(facts, discrete, sizes, trials)
    if not any(size == facts.rows for size in sizes.values()):
        yield from _keys(facts, discrete, sizes, trials)


def _ordered(facts: Facts, dates: list[Column], trials: Trials) -> Iterator[list[Option]]:
    for one, two in combinations(dates[:MAX_COLUMNS], 2):
        if one.dtype != two.dtype:
            continue
        left, right = facts.there(one.name), facts.there(two.name)
        both = np.ones(facts.rows, np.bool_) if left is None else left.copy()
        both &= True if right is None else right
        if np.count_nonzero(both) < 20:
            continue
        before, after = one.values[both], two.values[both]
        for names, is_so in (((one.name, two.name), before <= after), ((two.name, one.name), after <= before)):
            if is_so.all() and (before != after).any():
                yield [Option(expect.Ordered(names), trials.quiet())]


def _dependencies(
    facts: Facts, columns: list[Column], sizes: dict[str, int], trials: Trials
) -> Iterator[list[Option]]:  # fmt: skip
    for one, two in permutations(columns, 2):
        groups, others = sizes[one.name], sizes[two.name]
        if others < 2 or others > groups or facts.rows - groups < _FEWEST_PAIRS or groups > 1000:
            continue
        left, right = facts.distinct(one.name)[1], facts.distinct(two.name)[1]
        if _pairs(left[:_GLANCE], right[:_GLANCE], others) > len(np.unique(left[:_GLANCE])):
            continue
        commonest = np.bincount(right).max() / facts.rows
        if commonest > 0.95:  # nearly constant: agrees with anything
            continue
        if _pairs(left, right, others) == groups:
            yield [Option(expect.Determines(one.name, other=two.name), trials.quiet())]


def _pairs(left: Array, right: Array, kinds: int) -> int:
    """Return how many different pairs there are; `kinds` is the number of values on the right."""
    return len(np.unique(left.astype(np.int64) * (kinds + 1) + right))


def _keys(facts: Facts, columns: list[Column], sizes: dict[str, int], trials: Trials) -> Iterator[list[Option]]:
    """The first pair of columns that tells rows apart, where random pairs of so many values would not."""
    rows = facts.rows
    for one, two in combinations(columns, 2):
        room = float(sizes[one.name]) * sizes[two.name]
        if room < rows or rows < 50 or rows**2 / (2 * room) < 5 or one.missing_count or two.missing_count:
            continue
        left, right = facts.distinct(one.name)[1], facts.distinct(two.name)[1]
        if _pairs(left, right, sizes[two.name]) == rows:
            yield [Option(expect.Key((one.name, two.name)), trials.quiet())]
            return
