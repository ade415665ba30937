"""What is learned about one column: type, missing share, domain, range, pattern, length, order."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import numpy as np

from nbops.data import expect
from nbops.data.columns import Array, Column, Mask
from nbops.data.learned.trials import Option, Trials, among_learned, by_share
from nbops.data.rules.facts import Facts, texts
from nbops.data.rules.values import latest_now
from nbops.data.tails import beyond

MAX_CATEGORIES = 200
MAX_LENGTH = 30  # of a category, in the mean; what is longer is text to read
MAX_CODES = 12  # whole numbers with at most so many different values are codes, not quantities
_WIDER = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)  # of the span, on each side
_FARTHEST = 3.0  # spans
_SHARES = (0.0, 0.001, 0.005, 0.01, 0.02, 0.05)
_Z = (2.5, 3.0, 4.0, 6.0, 10.0)
_PATTERN_ROWS = 20_000
Options = Iterator[Iterable[Option]]


def column_options(facts: Facts, name: str, trials: Trials) -> Options:
    """Yield, for each kind of rule that suits the column, its options, the strictest first."""
    column = facts.column(name)
    if column.dtype in ("null", "object", "bytes"):
        return
    yield [Option(expect.HasType(name, type=_type(column)), trials.quiet())]
    yield _missing(facts, name, trials)
    if column.is_tensor or column.dtype == "bool" or not facts.present(name):
        return
    if column.is_text:
        yield from _text(facts, name, trials)
    unique = list(_unique(facts, column, trials))
    yield from unique
    if column.is_number and not unique:  # identifiers go on beyond their range
        yield _numbers(facts, column, trials)
    elif column.values.dtype.kind == "M" and column.offsets is None:
        yield from _dates(facts, column, trials)


def _type(column: Column) -> str:
    """Return the type that later tables must have: the family, without its width."""
    if column.is_tensor or column.dtype.startswith("datetime["):
        return column.dtype
    return "number" if column.is_float else column.dtype.removeprefix("u").rstrip("0123456789")


def _missing(facts: Facts, name: str, trials: Trials) -> list[Option]:
    """At most so many cells missing: none, or the share seen plus some of its own standard errors."""
    missing = facts.column(name).missing
    if missing is None:
        return [Option(expect.NotMissing(name), trials.quiet())]
    gone = missing.any(axis=1) if missing.ndim == 2 else missing
    counts = trials.counts(np.asarray(gone, np.int64), 2)
    learned, tried = trials.learned @ counts, trials.tried @ counts
    n, m = learned.sum(axis=1), tried.sum(axis=1)
    known, seen = learned[:, 1] / n, tried[:, 1] / m
    rows, options = facts.rows, []
    share = float(np.count_nonzero(gone)) / rows
    for z in _Z:
        alarms = seen > _upper(known, n, m, z)
        limit = float(_upper(np.float64(share), np.float64(rows), np.float64(m.mean()), z))
        if limit < 0.95:
            options.append(Option(expect.NotMissing(name, max_share=_rounded_up(limit)), alarms))
    return options


def _upper(share: Any, n: Any, m: Any, z: float) -> Any:
    """Return the upper edge of a share in `m` rows that was seen in `n`, with one case added to either side."""
    middle = (share * n + 1) / (n + 2)
    return middle + z * np.sqrt(middle * (1 - middle) * (1 / n + 1 / m))


def _rounded_up(share: float) -> float:
    step = 10.0 ** (1 - math.floor(math.log10(share)))
    return min(0.99, math.ceil(share * step) / step)


def _numbers(facts: Facts, column: Column, trials: Trials) -> Iterator[Option]:
    name = column.name
    if column.values.dtype.kind in "iu":
        low, high = facts.extremes(name, column.values)
        if int(high) - int(low) < MAX_CODES:
            yield from _domain(facts, column, trials)
            return
    finite = None if column.values.dtype.kind != "f" else np.isfinite(column.values)
    there: Mask | None = finite if finite is not None and not finite.all() else facts.there(name)
    if there is not None and (not there.any() or bool(np.isinf(column.values).any())):
        return  # infinite numbers belong to this column
    yield from _ranges(column, trials, there)
    yield from _tail(facts, column, trials, there)


def _ranges(column: Column, trials: Trials, there: Mask | None) -> list[Option]:
    """Least to greatest, widened on each side by what its tail asks for, then by shares of the span.

    Never below zero where nothing was negative. A tail that asks for more than `_FARTHEST` spans has no range.
    """
    least, most = trials.extremes(column.values, there)
    low, high = float(least.min()), float(most.max())
    span = (high - low) or abs(high)
    if not math.isfinite(span):
        return []
    present = (column.values if there is None else column.values[there]).astype(np.float64)
    asked = (beyond(-present, chance=trials.limit / 2), beyond(present, chance=trials.limit / 2))
    below = 0.0 if asked[0] is None or not span else max(0.0, (low + asked[0]) / span)
    above = 0.0 if asked[1] is None or not span else max(0.0, (asked[1] - high) / span)
    if low >= 0:
        below = min(below, low / span if span else 0.0)
    if max(below, above) > _FARTHEST:
        return []
    options = []
    for wider in _WIDER:
        by = (max(below, wider), max(above, wider))
        known_low, known_high = _limits(_least(trials.learned, least), -_least(trials.learned, -most), by)
        alarms = (_least(trials.tried, least) < known_low) | (-_least(trials.tried, -most) > known_high)
        ends = _limits(np.array([low]), np.array([high]), by)
        edges = _readable(float(ends[0][0]), float(ends[1][0]), column.values.dtype.kind in "iu")
        options.append(Option(expect.InRange(column.name, low=edges[0], high=edges[1]), alarms))
    return options


def _least(chosen: Mask, values: Array) -> Array:
    """Return the least value over the chosen blocks of each trial."""
    least: Array = np.where(chosen, values, np.inf).min(axis=1)
    return least


def _limits(low: Array, high: Array, by: tuple[float, float]) -> tuple[Array, Array]:
    with np.errstate(invalid="ignore"):  # a part without any value has no limits
        span = np.where(high > low, high - low, np.abs(high))
        return np.where(low >= 0, np.maximum(low - by[0] * span, 0.0), low - by[0] * span), high + by[1] * span


def _readable(low: float, high: float, is_whole: bool) -> tuple[float | int, float | int]:
    """Return the limits rounded outwards, to a hundredth of the span's power of ten."""
    if is_whole:
        return math.floor(low), math.ceil(high)
    span = (high - low) or abs(high)
    if not span or not math.isfinite(span):
        return low, high
    digits = 2 - math.floor(math.log10(span))
    if not -15 < digits < 15:
        return low, high
    step = 10.0**digits
    return min(low, round(math.floor(low * step) / step, max(digits, 0))), max(
        high, round(math.ceil(high * step) / step, max(digits, 0))
    )


def _tail(facts: Facts, column: Column, trials: Trials, there: Mask | None) -> list[Option]:
    """Least to greatest, with some rows outside allowed: for heavy tails, where no widening helps.

    Of rows in random order, the chance that j or more of one half lie above all of the other is 2**-j.
    """
    rows = np.arange(column.rows) if there is None else np.flatnonzero(there)
    values = column.values[rows].astype(np.float64)
    reach, outside = min(64, len(values)), np.zeros(len(trials.learned))
    for side in (values, -values):
        near = np.flatnonzero(side <= np.partition(side, reach - 1)[reach - 1])  # ties at the end come along
        ends = near[np.argsort(side[near], kind="stable")][:reach]
        known = trials.learned[:, trials.block[rows[ends]]]
        beyond = np.cumsum(trials.tried[:, trials.block[rows[ends]]], axis=1)
        first = np.where(known.any(axis=1), known.argmax(axis=1), known.shape[1] - 1)
        outside += np.where(first > 0, beyond[np.arange(len(beyond)), np.maximum(first - 1, 0)], 0)
    of = trials.tried @ trials.counts(np.zeros(column.rows, np.int64), 1, there)[:, 0]
    least, most = facts.extremes(column.name, column.values)
    low, high = _readable(float(least), float(most), column.values.dtype.kind in "iu")
    return [Option(expect.InRange(column.name, low=low, high=high, max_share=share), alarms)
            for share, alarms in by_share(trials, outside, of, _SHARES[1:])]  # fmt: skip


def _domain(facts: Facts, column: Column, trials: Trials) -> list[Option]:
    """One of the values seen, with a share of others where new ones keep coming."""
    first, inverse, _ = facts.distinct(column.name)
    there = facts.there(column.name)
    bad, of = among_learned(trials, trials.counts(inverse, len(first), there))
    values = [column.value(int(row)) for row in np.sort(first)]
    known = tuple(sorted((value for value in values if value is not None), key=str))
    return [Option(expect.OneOf(column.name, values=known, max_share=share), alarms)
            for share, alarms in by_share(trials, bad, of, _SHARES)]  # fmt: skip


def _text(facts: Facts, name: str, trials: Trials) -> Options:
    column = facts.column(name)
    first, _, _ = facts.distinct(name)
    is_short = len(first) > 0 and facts.lengths(name)[first].mean() <= MAX_LENGTH
    if is_short and len(first) <= MAX_CATEGORIES and 5 * len(first) <= facts.present(name):
        yield _domain(facts, column, trials)
        return
    found = _pattern(facts, column, trials)
    if found:
        yield found
        return
    lengths = facts.lengths(name)
    there = facts.there(name)
    options = []
    for made in _ranges(Column(name, "int64", lengths), trials, there):
        rule = made.rule
        if isinstance(rule, expect.InRange):
            options.append(
                Option(
                    expect.LengthInRange(name, low=max(0, int(rule.low or 0)), high=int(rule.high or 0)), made.alarms
                )
            )
    yield options


def _pattern(facts: Facts, column: Column, trials: Trials) -> list[Option]:
    """One of up to three shapes: runs of capitals, small letters and digits, with their lengths if those are fixed."""
    there = facts.there(column.name)
    rows = np.arange(column.rows) if there is None else np.flatnonzero(there)
    rows = rows[:: max(1, len(rows) // _PATTERN_ROWS)]
    sample = texts(column, rows)
    if max(map(len, sample), default=0) > 80:
        return []
    for is_exact in (True, False):
        shapes = [shape(text, is_exact=is_exact) for text in sample]
        kinds = sorted(set(shapes))
        if len(kinds) <= 3 and any(re.search(r"\\d|[^\w\[\]{}+\-\\ ]|\\", kind) for kind in kinds):
            number = {kind: i for i, kind in enumerate(kinds)}
            codes = np.zeros(column.rows, np.int64)
            codes[rows] = [number[text] for text in shapes]
            chosen = np.zeros(column.rows, np.bool_)
            chosen[rows] = True
            bad, of = among_learned(trials, trials.counts(codes, len(kinds), chosen))
            return [Option(expect.Matches(column.name, pattern="|".join(kinds), max_share=share), alarms)
                    for share, alarms in by_share(trials, bad, of, _SHARES)]  # fmt: skip
    return []


def shape(text: str, *, is_exact: bool) -> str:
    """Return the pattern of a text: ``[A-Z]{2}\\d{4}`` of AB1234; ``[A-Z]+\\d+`` if not exact."""
    parts = []
    for kind, run in groupby(text, _class):
        count = len(list(run))
        if kind in ("[A-Z]", "[a-z]", r"\d"):
            parts.append(kind + (("" if count == 1 else f"{{{count}}}") if is_exact else "+"))
        else:
            parts.append(re.escape(kind) * count)
    return "".join(parts)


def _class(letter: str) -> str:
    if letter.isascii():
        if letter.isdigit():
            return r"\d"
        if letter.isalpha():
            return "[A-Z]" if letter.isupper() else "[a-z]"
    return letter


def _dates(facts: Facts, column: Column, trials: Trials) -> Options:
    there = facts.there(column.name)
    values = column.values if there is None else column.values[there]
    if not (values > latest_now(column)).any():
        yield [Option(expect.NotInFuture(column.name), trials.quiet())]
    if len(values) >= 20 and (values[1:] >= values[:-1]).all() and (values[1:] > values[:-1]).any():
        yield [Option(expect.Increasing(column.name, severity="warn"), trials.quiet())]


def _unique(facts: Facts, column: Column, trials: Trials) -> Options:
    """Unique where that is no accident, and where accidents are too rare to matter.

    Random values of the same room (a range, letters at each place) would have a pair with a chance of 1 - exp(-pairs);
    between the two, nobody can tell.
    """
    present = facts.present(column.name)
    if column.is_float or present < 50 or facts.rows != present:
        return
    if len(facts.distinct(column.name)[0]) < present:
        return
    if column.offsets is None and column.values.dtype.kind not in "iu":
        return
    pairs = present**2 / 2 * math.exp(-_room(facts, column))
    if trials.limit < pairs < 5:
        return
    yield [Option(expect.Unique(column.name), trials.quiet())]
    if column.is_number and (column.values[1:] > column.values[:-1]).all():
        yield [Option(expect.Increasing(column.name, severity="warn"), trials.quiet())]  # another order is no fault


def _room(facts: Facts, column: Column) -> float:
    """Return the logarithm of how many values there could be: of a range, or of the letters seen at each place."""
    if column.offsets is None:
        low, high = facts.extremes(column.name, column.values)
        return math.log(float(high) - float(low) + 1)
    rows = np.arange(column.rows)[:: max(1, column.rows // _PATTERN_ROWS)]
    sample = texts(column, rows)
    if column.dtype != "text" or any(" " in text for text in sample):
        return math.log(column.rows)  # words repeat sooner than letters tell
    longest = min(80, max(map(len, sample)))
    return sum(math.log(len({text[place : place + 1] for text in sample})) for place in range(longest))
