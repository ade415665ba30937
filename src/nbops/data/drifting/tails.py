"""Tail probabilities, written out so that drift needs no SciPy: Kolmogorov, chi-square, skewed normal, all-in-one-half.

Also the false discovery rate. SciPy is the oracle of the tests. Everything here is a plain function of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_TINY = 1e-300
_SMOOTH_SHAPE = 100.0  # from here a gamma variable's cube root is normal to within what a tail can tell


def kolmogorov_tail(x: float) -> float:
    """Return P(sup |Brownian bridge| > x): the p-value of ``sqrt(n m / (n + m)) D`` (Kolmogorov 1933, Smirnov 1948)."""
    if x <= 0.18:  # 1 to within rounding
        return 1.0
    if x < 1.18:  # the series of the theta function converges fast where the other one does not
        terms = sum(math.exp(-((2 * k - 1) ** 2) * math.pi**2 / (8 * x * x)) for k in range(1, 5))
        return max(0.0, 1.0 - math.sqrt(2 * math.pi) / x * terms)
    return min(1.0, 2 * math.fsum((-1.0) ** (k - 1) * math.exp(-2 * (k * x) ** 2) for k in range(1, 6)))


def chi_square_tail(x: float, df: float) -> float:
    """Return P(chi-square of `df` degrees of freedom > x)."""
    return gamma_tails(df / 2, x / 2)[1] if df > 0 else 1.0


def gamma_tails(shape: float, x: float) -> tuple[float, float]:
    """Return P(X ≤ x) and P(X > x) of a gamma variable of unit scale: the regularised incomplete gamma functions.

    The series below the mean, Lentz's continued fraction above it (DLMF 8.11.4 and 8.9.2).
    """
    if x <= 0:
        return 0.0, 1.0
    front = math.exp(shape * math.log(x) - x - math.lgamma(shape))
    if x < shape + 1:
        term = total = 1 / shape
        n = shape
        while abs(term) > abs(total) * 1e-16:
            n += 1
            term *= x / n
            total += term
        lower = min(1.0, front * total)
        return lower, 1.0 - lower
    b = x + 1 - shape
    c, d = 1 / _TINY, 1 / b
    fraction = d
    for i in range(1, 10_000):
        a = -i * (i - shape)
        b += 2
        d = 1 / (a * d + b or _TINY)
        c = b + a / c or _TINY
        fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    upper = min(1.0, front * fraction)
    return 1.0 - upper, upper


def skewed_p(z: float, skewness: float) -> float:
    """Return the two-sided p-value of a standardised sum whose null distribution is skewed.

    A Pearson curve of type III through mean, variance and skewness, as in permutation tests (Mielke and Berry
    2007). With few events it is near the Poisson distribution, without skewness it is the normal one.
    """
    if skewness < 0:
        z, skewness = -z, -skewness
    shape = 4 / skewness**2 if skewness > 1e-9 else math.inf
    if shape > 1e12:
        return min(1.0, math.erfc(abs(z) / math.sqrt(2)))
    x = shape + z * math.sqrt(shape)
    if x <= 0:
        return 0.0
    if shape > _SMOOTH_SHAPE:  # Wilson and Hilferty 1931
        normal = ((x / shape) ** (1 / 3) - 1 + 1 / (9 * shape)) * math.sqrt(9 * shape)
        return min(1.0, math.erfc(abs(normal) / math.sqrt(2)))
    return min(1.0, 2 * min(gamma_tails(shape, x)))


def all_in_one_p(count: int, *, size: int, other: int) -> float:
    """Return the chance that `count` marked rows of ``size + other`` all fall into the part of `size` rows."""
    if count > size:
        return 0.0
    total = size + other
    ways = math.lgamma(size + 1) - math.lgamma(size - count + 1)
    return min(1.0, math.exp(ways + math.lgamma(total - count + 1) - math.lgamma(total + 1)))


def smallest(p_values: Sequence[float]) -> float:
    """Return one p-value of several tests of one hypothesis, however they depend on each other (Bonferroni)."""
    return min(1.0, len(p_values) * min(p_values)) if p_values else 1.0


def false_discovery(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Return the q-value of each test (Benjamini and Hochberg 1995): rejecting q ≤ a keeps the false share below a."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty(len(p))
    q[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return q
