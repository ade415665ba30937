"""How far two columns of counts are apart: one table of bins or categories, [2, cells], gives all distances.

Kolmogorov-Smirnov, ranks and spread for ordered cells; chi-square for any; PSI, Jensen-Shannon, Hellinger,
total variation, Wasserstein as figures that other tools know.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nbops.data.drifting.tails import chi_square_tail, kolmogorov_tail, skewed_p

Counts = NDArray[np.float64]
GROUPS = 10  # PSI and its kin are taken over tenths of the reference: finer cells only add noise
LEAST_EXPECTED = 5.0
_KS_95 = 1.3581  # the value that the Kolmogorov distribution exceeds in 5 %
_NORMAL_95 = 1.959964


def shares(counts: Counts) -> Counts:
    """Return counts [2, cells] as shares of each row."""
    told: Counts = counts / counts.sum(axis=1, keepdims=True)
    return told


def kolmogorov_smirnov(counts: Counts, sizes: tuple[float, float]) -> tuple[float, float]:
    """Return the largest difference of the distribution functions at the edges, and its p-value.

    Never above the statistic of the raw values, so the p-value is on the safe side; with ties it is too.
    """
    gaps = np.diff(np.cumsum(shares(counts), axis=1), axis=0)
    distance = min(1.0, float(np.abs(gaps).max()))
    return distance, kolmogorov_tail(distance * math.sqrt(_harmonic(sizes)))


def band(distance: float, sizes: tuple[float, float]) -> tuple[float, float]:
    """Return an interval that holds the true largest difference with at least 95 %."""
    width = _KS_95 / math.sqrt(_harmonic(sizes))
    return max(0.0, distance - width), min(1.0, distance + width)


def rank_tests(counts: Counts, sizes: tuple[float, float]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return shift and spread of the current data, each with its p-value.

    The shift is twice the mean difference of the ranks, −1 to 1: P(current > reference) − P(current < reference)
    (Wilcoxon's test, mid-ranks within a cell). The spread is that of the squared distance from the middle rank
    (Mood's test), times twelve.
    """
    both = counts.sum(axis=0)
    total = both.sum()
    ranks = (np.cumsum(both) - both / 2) / total - 0.5
    shift, p_shift = _linear(ranks, counts, sizes)
    spread, p_spread = _linear(ranks * ranks, counts, sizes)
    return (2 * shift, p_shift), (12 * spread, p_spread)


def proportion_p(hits: tuple[float, float], sizes: tuple[float, float]) -> float:
    """Return the p-value of a difference of two shares, by the permutation moments, corrected for whole rows."""
    total, found = sum(sizes), sum(hits)
    if not 0 < found < total:
        return 1.0
    share = found / total
    away = hits[1] - share * sizes[1]
    away = math.copysign(max(0.0, abs(away) - 0.5), away)
    return _permutation_p(away / sizes[1], share * (1 - share), share * (1 - share) * (1 - 2 * share), sizes)


def chi_square(counts: Counts, *, least: float = LEAST_EXPECTED) -> tuple[float, int, float]:
    """Return chi-square, its degrees of freedom and p-value; cells with less than `least` expected rows are pooled.

    What is pooled depends on the two rows together, not on which is which, so the test stays a test.
    """
    sizes = counts.sum(axis=1)
    both = counts.sum(axis=0)
    is_rare = both * sizes.min() / sizes.sum() < least
    if is_rare.any():
        rare, counts = counts[:, is_rare].sum(axis=1), counts[:, ~is_rare]
        if counts.shape[1] and rare.sum() * sizes.min() / sizes.sum() < least:
            counts = counts.copy()
            counts[:, int(counts.sum(axis=0).argmin())] += rare
        elif rare.sum():
            counts = np.column_stack([counts, rare])
    if counts.shape[1] < 2:
        return 0.0, 0, 1.0
    expected = np.outer(sizes, counts.sum(axis=0)) / sizes.sum()
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return statistic, counts.shape[1] - 1, chi_square_tail(statistic, counts.shape[1] - 1)


def total_variation(counts: Counts) -> tuple[float, tuple[float, float]]:
    """Return the share of rows that would have to change their cell, and an interval of about 95 %.

    Noise alone makes the statistic positive; its lower end is lowered by as much as noise is expected to add.
    """
    p, q = shares(counts)
    n, m = counts.sum(axis=1)
    distance = min(1.0, float(np.abs(p - q).sum() / 2))
    sides = np.sign(p - q) / 2
    variance = sum(
        float((share * sides**2).sum() - (share * sides).sum() ** 2) / size for share, size in ((p, n), (q, m))
    )
    both = counts.sum(axis=0) / (n + m)
    noise = float(np.sqrt(2 / math.pi * both * (1 - both) * (1 / n + 1 / m)).sum() / 2)
    width = _NORMAL_95 * math.sqrt(max(0.0, variance))
    return distance, (max(0.0, distance - width - noise), min(1.0, distance + width))


def share_difference(hits: tuple[float, float], sizes: tuple[float, float]) -> tuple[float, tuple[float, float]]:
    """Return the size of a difference of two shares, and its 95 % interval (Newcombe 1998, method 10)."""
    (p, low_p, high_p), (q, low_q, high_q) = (_wilson(hit, size) for hit, size in zip(hits, sizes, strict=True))
    difference = q - p
    low = difference - math.hypot(q - low_q, high_p - p)
    high = difference + math.hypot(high_q - q, p - low_p)
    if difference < 0:
        low, high = -high, -low
    return abs(difference), (max(0.0, low), high)


def familiar(counts: Counts, edges: Sequence[float] | None = None) -> dict[str, float]:
    """Return PSI, Jensen-Shannon (base 2), Hellinger and total variation, and with `edges` Wasserstein over IQR.

    The four are taken over tenths of the reference where there are edges. An empty cell counts as half a row.
    """
    grouped = counts if edges is None else _tenths(counts)
    filled = np.where(grouped > 0, grouped, 0.5)
    p, q = shares(filled)
    middle = (p + q) / 2
    divergence = float((p * np.log2(p / middle) + q * np.log2(q / middle)).sum() / 2)
    found = {
        "psi": float(((q - p) * np.log(q / p)).sum()),
        "jensen_shannon": math.sqrt(max(0.0, divergence)),
        "hellinger": math.sqrt(max(0.0, 1 - float(np.sqrt(p * q).sum()))),
        "total_variation": float(np.abs(np.subtract(*shares(grouped))).sum() / 2),
    }
    if edges is not None:
        found["wasserstein_iqr"] = _wasserstein(counts, np.asarray(edges, dtype=np.float64))
    return found


def _harmonic(sizes: tuple[float, float]) -> float:
    return sizes[0] * sizes[1] / (sizes[0] + sizes[1])


def _linear(scores: Counts, counts: Counts, sizes: tuple[float, float]) -> tuple[float, float]:
    """Return the difference of the mean scores, current less reference, and its p-value over all permutations."""
    p, q = shares(counts)
    weights = counts.sum(axis=0) / counts.sum()
    centred = scores - (weights * scores).sum()
    square = centred * centred
    variance, third = float((weights * square).sum()), float((weights * square * centred).sum())
    total = sum(sizes)
    away = float(((q - p) * centred).sum())
    return away, _permutation_p(away * sizes[0] / total, variance, third, sizes)


def _permutation_p(away: float, variance: float, third: float, sizes: tuple[float, float]) -> float:
    """Return the p-value of a mean of the current rows that is `away` from the mean of both.

    Rows are drawn without replacement from both; `variance` and `third` are central moments of what is drawn.
    """
    n, m = sizes
    total = n + m
    if total < 3 or variance <= 0:
        return 1.0
    spread = variance / m * n / (total - 1)
    skew = third / m**2 * n * (n - m) / ((total - 1) * (total - 2))
    if spread <= 1e-24:
        return 1.0
    return skewed_p(away / math.sqrt(spread), skew / spread**1.5)


def _wilson(hits: float, size: float) -> tuple[float, float, float]:
    share, z2 = hits / size, _NORMAL_95**2
    middle = (share + z2 / (2 * size)) / (1 + z2 / size)
    half = _NORMAL_95 / (1 + z2 / size) * math.sqrt(max(0.0, share * (1 - share) / size) + z2 / (4 * size**2))
    return share, max(0.0, middle - half), min(1.0, middle + half)


def _tenths(counts: Counts) -> Counts:
    """Return neighbouring cells joined so that each holds about a tenth of the reference."""
    upto = np.cumsum(counts[0]) / counts[0].sum()
    # a cell belongs to the tenth in which its middle lies
    group = np.minimum(((upto - counts[0] / counts[0].sum() / 2) * GROUPS).astype(np.intp), GROUPS - 1)
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    return np.add.reduceat(counts, starts, axis=1)


def _wasserstein(counts: Counts, edges: Counts) -> float:
    """Return the area between the distribution functions over the middle of the reference, in interquartile ranges.

    The outermost bins are left out: how wide they are, one outlier decides.
    """
    upto = np.cumsum(shares(counts), axis=1)[:, : len(edges)]
    low, high = np.searchsorted(upto[0], (0.25, 0.75))
    last = len(edges) - 1
    edges = edges / (float(np.abs(edges).max()) or 1.0)  # so that no difference can overflow
    span = float(edges[min(high, last)] - edges[min(low, last)])
    inner = slice(1, last) if last > 3 else slice(0, last + 1)
    gaps = np.abs(upto[0, inner] - upto[1, inner])
    widths = np.diff(edges[inner])
    if span <= 0 or not len(widths):
        return 0.0
    return float(((gaps[1:] + gaps[:-1]) / 2 * widths).sum() / span)
