"""One column compared: what of it changed, by how much, how surely, and in words.

Nothing is judged here: whether a difference matters depends on the limits, and on all other columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from nbops.data.drifting import distances as far
from nbops.data.drifting.bars import Bar, Histogram, bars_of_values, value_text
from nbops.data.drifting.counting import Profile, Tally, family, known_values
from nbops.data.drifting.distances import Counts
from nbops.data.drifting.found import Aspect
from nbops.data.drifting.tails import all_in_one_p, smallest
from nbops.data.drifting.wording import moved, of_kind, quoted, spread_out
from nbops.data.leaf import percent

FEW = 20  # numbers with at most so many different values are compared as categories too
_UNIQUE, _SPARSEST = 0.98, 2  # of a counter: its share of distinct values (which may be estimated), its span a row
_ALL_LATER = 0.99  # from this share on beyond the reference's end, times and ids have simply gone on


@dataclass(frozen=True)
class Compared:
    """One column before it is judged; `verdict` is set where there is nothing to judge."""

    name: str
    kind: str
    aspects: tuple[Aspect, ...] = ()
    verdict: str = ""
    why: str = ""
    statistics: Mapping[str, float] = field(default_factory=dict)
    histogram: Histogram | tuple[Bar, ...] = ()

    @property
    def p(self) -> float:
        """The p-value of the column: all its aspects are stable."""
        return smallest([aspect.p for aspect in self.aspects])


@dataclass(frozen=True, eq=False)
class _Pair:
    """What both sides of a column have: the reference's profile and size, the current tally, the limits."""

    reference: Profile
    rows: float
    tally: Tally
    limits: Mapping[str, float]

    def of_all(self, reference: float, current: float) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return counts of rows on both sides, and of how many."""
        return (reference, current), (self.rows, self.tally.rows)


def compare(
    name: str, reference: Profile, rows: int, tally: Tally, limits: Mapping[str, float], *, with_details: bool = True
) -> Compared:
    """Return what changed about one column.

    Parameters
    ----------
    name : str
    reference : mapping
        Its profile.
    rows : int
        Rows of the reference.
    tally : Tally
        The current data, counted against this profile.
    limits : mapping of str to float
        From where on the effect of each aspect matters.
    with_details : bool
        Whether figures and bars to look at are wanted.
    """
    kind, now = family(reference["dtype"]), family(tally.dtype)
    pair = _Pair(reference, rows, tally, limits)
    if "null" not in (kind, now) and _shape(reference["dtype"], kind) != _shape(tally.dtype, now):
        return Compared(name, kind, verdict="retyped", why=f"was {reference['dtype']}, is now {tally.dtype}")
    aspects = [_missing(pair), _infinite(pair)]
    statistics: dict[str, float] = {}
    histogram: Histogram | tuple[Bar, ...] = ()
    if tally.bins is not None and len(reference.get("edges", ())):
        counts = _with_reference(reference["counts"], tally.bins, rows=rows, reference=reference)
        if _is_later(pair, kind, counts):
            end = value_text(kind, reference["edges"][-1])
            why = f"goes on where the reference ended, {end}"
            return Compared(name, kind, tuple(filter(None, aspects)), "later", why)
        if counts[1].sum():
            aspects.append(_ordered(pair, kind, counts, statistics, with_details=with_details))
            histogram = Histogram(kind, reference["edges"], counts[0].tolist(), counts[1].tolist())
    elif tally.values is not None:
        aspects += _categories(pair, kind, tally.values, statistics, with_details=with_details)
        histogram = bars_of_values(reference, tally, rows) if with_details else ()
    if tally.lengths is not None and tally.lengths.sum() and sum(reference["lengths"]["counts"]):
        aspects.append(_lengths(pair, tally.lengths, statistics))
    return Compared(name, kind, tuple(filter(None, aspects)), statistics=statistics, histogram=histogram)


def _shape(dtype: str, kind: str) -> str:
    """Return what must agree: the kind, of tensors their shape too."""
    return dtype.partition("[")[2] if kind == "tensor" else kind


def _missing(pair: _Pair) -> Aspect | None:
    scale = _scale(pair)
    return _proportion(pair, "missing", pair.reference["missing"] * scale, pair.tally.missing, "are missing")


def _infinite(pair: _Pair) -> Aspect | None:
    before = (pair.reference.get("infinite") or 0) * _scale(pair)
    return _proportion(pair, "infinite", before, pair.tally.infinite, "are infinite")


def _scale(pair: _Pair) -> float:
    """Return rows a cell: cells of one row of a tensor are no independent observations."""
    return pair.rows / max(1, pair.reference["cells"]) if "cells" in pair.reference else 1.0


def _proportion(pair: _Pair, name: str, before: float, now: float, words: str) -> Aspect | None:
    if not before and not now:
        return None
    hits, sizes = pair.of_all(before, now)
    effect, interval = far.share_difference(hits, sizes)
    why = f"{percent(now / sizes[1])} {words}, {percent(before / sizes[0])} before"
    return Aspect(name, effect, interval, pair.limits[name], far.proportion_p(hits, sizes), why)


def _with_reference(before: object, now: Counts, *, rows: int, reference: Profile) -> Counts:
    """Return both rows of counts, with an empty bin of the reference above its last edge."""
    first = np.append(np.asarray(before, dtype=np.float64), 0.0)
    if "cells" in reference:
        first *= rows / max(1, reference["cells"])
    return np.stack([first, np.asarray(now, dtype=np.float64)])


def _is_later(pair: _Pair, kind: str, counts: Counts) -> bool:
    """Return whether times, or a counter, continue behind the end of the reference."""
    total = counts[1].sum()
    if not total or counts[1, -1] < _ALL_LATER * total:
        return False
    return kind == "time" or _is_counter(pair.reference)


def _is_counter(reference: Profile) -> bool:
    """Return whether a profile is of whole numbers that hardly ever repeat and leave few gaps, as row numbers."""
    present, edges = sum(reference["counts"]), reference["edges"]
    never_repeats = reference.get("distinct", 0) >= _UNIQUE * present
    is_dense = edges[-1] - edges[0] <= _SPARSEST * present
    return reference["dtype"].startswith(("int", "uint")) and present > FEW and never_repeats and is_dense


def _ordered(
    pair: _Pair, kind: str, counts: Counts, statistics: dict[str, float], *, with_details: bool
) -> Aspect:  # fmt: skip
    """Compare numbers or times by the largest difference of their distribution functions, by ranks and by spread."""
    edges = pair.reference["edges"]
    sizes = (float(counts[0].sum()), float(counts[1].sum()))
    distance, p_ks = far.kolmogorov_smirnov(counts, sizes)
    (shift, p_shift), (spread, p_spread) = far.rank_tests(counts, sizes)
    effect, interval = distance, far.band(distance, sizes)
    tests: dict[str, float] = {"shift": p_shift, "spread": p_spread, "ks": p_ks}
    statistics |= {"ks": distance, "ks_p": p_ks, "shift": shift, "shift_p": p_shift, "spread": spread,
                   "spread_p": p_spread}  # fmt: skip
    if _has_few(pair.reference) and kind != "tensor":
        statistic, df, tests["values"] = far.chi_square(counts)
        statistics |= {"chi_square": statistic, "df": df, "chi_square_p": tests["values"]}
        effect, interval = far.total_variation(counts)
    if with_details:
        statistics |= far.familiar(counts, edges)
    says: dict[str, Callable[[], str]] = {
        "shift": lambda: moved(edges, counts, shift),
        "spread": lambda: spread_out(counts, spread),
        "ks": lambda: of_kind(kind, edges, counts),
        "values": lambda: of_kind(kind, edges, counts, is_one=True),
    }
    clearest = min(tests, key=lambda test: tests[test])
    why = says[clearest]() if with_details else ""
    return Aspect("distribution", effect, interval, pair.limits["distribution"], smallest(list(tests.values())), why)


def _has_few(reference: Profile) -> bool:
    return 1 < len(reference["edges"]) <= FEW and len(reference["edges"]) == reference.get("distinct")


def _lengths(pair: _Pair, now: Counts, statistics: dict[str, float]) -> Aspect:
    told = pair.reference["lengths"]
    counts = _with_reference(told["counts"], now, rows=0, reference={})
    sizes = (float(counts[0].sum()), float(counts[1].sum()))
    distance, p_ks = far.kolmogorov_smirnov(counts, sizes)
    (shift, p_shift), (_, p_spread) = far.rank_tests(counts, sizes)
    statistics |= {"length_ks": distance, "length_shift": shift}
    why = "texts are " + moved(told["edges"], counts, shift, words=("longer", "shorter"))
    p = smallest([p_ks, p_shift, p_spread])
    return Aspect("length", distance, far.band(distance, sizes), pair.limits["distribution"], p, why)


def _categories(
    pair: _Pair, kind: str, now: Counts, statistics: dict[str, float], *, with_details: bool
) -> list[Aspect | None]:  # fmt: skip
    known = known_values(pair.reference)
    if "top" in pair.reference and "values" not in pair.reference:
        return _commonest(pair, known, now)
    before = np.array(list(known.values()), np.float64)
    sizes = (float(before.sum()), float(now.sum() + pair.tally.new_rows))
    if not min(sizes):
        return []
    new = pair.tally.new_counts
    counts = np.stack([np.append(before, np.zeros(len(new))), np.append(now, new)])
    statistic, df, p = far.chi_square(counts)
    statistics |= {"chi_square": statistic, "df": df, "chi_square_p": p}
    if with_details:
        statistics |= far.familiar(counts)
    effect, interval = far.total_variation(counts)
    names = [*known, *pair.tally.new]
    change = np.diff(far.shares(counts), axis=0)[0]
    most = int(np.abs(change[: len(names)]).argmax())
    before_share, now_share = counts[:, most] / sizes
    why = f"{quoted(names[most])} is {percent(now_share)} of the values, {percent(before_share)} before"
    found: list[Aspect | None] = [Aspect("distribution", effect, interval, pair.limits["distribution"], p, why)]
    return [*found, _unseen(pair, sizes, len(known))] if kind != "bool" else found


def _unseen(pair: _Pair, sizes: tuple[float, float], known: int) -> Aspect | None:
    """Compare values that the reference does not have: could the commonest have fallen to this side by chance?"""
    tally = pair.tally
    if not tally.new or not tally.new_rows:
        return None if not known else Aspect("unseen", 0.0, (0.0, 0.0), pair.limits["unseen"], 1.0, "no new values")
    value, most = max(tally.new.items(), key=lambda pair: pair[1])
    p = all_in_one_p(round(most), size=round(sizes[1]), other=round(sizes[0])) * (known + tally.new_distinct)
    effect, interval = far.share_difference((0.0, tally.new_rows), sizes)
    more = f" (and {tally.new_distinct - 1:,} more)" if tally.new_distinct > 1 else ""
    why = f"{quoted(value)}{more} is new: {percent(tally.new_rows / sizes[1])} of the values"
    return Aspect("unseen", effect, interval, pair.limits["unseen"], min(1.0, p), why)


def _commonest(pair: _Pair, known: Mapping[str, int], now: Counts) -> list[Aspect | None]:
    """Compare the commonest values of free text, one by one; each of all its values could have been the one found."""
    tally = pair.tally
    sizes = (max(1.0, pair.rows - pair.reference["missing"]), max(1.0, tally.rows - tally.missing))
    tests = max(pair.reference.get("distinct", 0), len(known)) + tally.new_distinct
    before = [(value, float(count), float(current)) for (value, count), current in zip(known.items(), now, strict=True)]
    least = min(known.values(), default=0)  # what the reference does not list, it had at most so often
    new = [(value, float(least), count) for value, count in tally.new.items() if count / sizes[1] > least / sizes[0]]
    words = {"distribution": "is {0} of the texts, {1} before", "unseen": "is {0} of the texts, at most {1} before"}
    found: list[Aspect | None] = []
    for name, listed in (("distribution", before), ("unseen", new)):
        if not listed:
            continue
        p, (value, old, current) = min(
            ((far.proportion_p((old, current), sizes), (value, old, current)) for value, old, current in listed),
            key=lambda pair: pair[0],
        )
        effect, interval = far.share_difference((old, current), sizes)
        why = f"{quoted(value)} " + words[name].format(percent(current / sizes[1]), percent(old / sizes[0]))
        found.append(Aspect(name, effect, interval, pair.limits[name], min(1.0, p * tests), why))
    return found
