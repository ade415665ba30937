"""Tail probabilities agree with SciPy over their whole range, and with counting where SciPy has no name for them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from nbops.data.drifting import tails


@pytest.mark.parametrize("x", [0.0, 0.1, 0.18, 0.3, 0.5, 0.8, 1.0, 1.17, 1.19, 1.36, 2.0, 3.0, 6.0])
def test_kolmogorov(x: float) -> None:
    assert tails.kolmogorov_tail(x) == pytest.approx(special.kolmogorov(x), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("df", [1, 2, 5, 20, 199])
@pytest.mark.parametrize("times", [0.0, 0.1, 0.5, 1.0, 1.5, 3.0, 10.0])
def test_chi_square(df: int, times: float) -> None:
    assert tails.chi_square_tail(df * times, df) == pytest.approx(stats.chi2.sf(df * times, df), rel=1e-9, abs=1e-300)


def test_no_cells_are_no_evidence() -> None:
    assert tails.chi_square_tail(3.0, 0) == 1.0


@pytest.mark.parametrize("skewness", [0.0, 1e-6, 0.01, 0.1, 0.199, 0.201, 0.5, 1.0, 2.5])
@pytest.mark.parametrize("z", [-4.0, -1.0, -0.2, 0.0, 0.5, 1.0, 3.0, 6.0])
def test_skewed_tails(skewness: float, z: float) -> None:
    curve = stats.pearson3(skewness)
    wanted = min(1.0, 2 * min(curve.cdf(z), curve.sf(z)))
    # a cube root instead of the gamma function where the skewness is small
    assert tails.skewed_p(z, skewness) == pytest.approx(wanted, rel=0.06 if skewness < 0.2 else 1e-6, abs=1e-14)
    assert tails.skewed_p(-z, -skewness) == tails.skewed_p(z, skewness)


def test_all_rows_in_one_part() -> None:
    assert tails.all_in_one_p(3, size=5, other=7) == pytest.approx(math.comb(5, 3) / math.comb(12, 3))
    assert tails.all_in_one_p(50, size=10_000, other=10_000) == pytest.approx(
        stats.hypergeom.pmf(50, 20_000, 50, 10_000)
    )
    assert tails.all_in_one_p(0, size=5, other=7) == 1.0
    assert tails.all_in_one_p(6, size=5, other=7) == 0.0


def test_smallest_of_several_p_values() -> None:
    assert tails.smallest([0.01, 0.5]) == 0.02
    assert tails.smallest([0.6, 0.9]) == 1.0
    assert tails.smallest([]) == 1.0


def test_false_discovery_rates() -> None:
    p = np.random.default_rng(0).uniform(size=200) ** 3
    assert tails.false_discovery(p) == pytest.approx(stats.false_discovery_control(p))
    assert tails.false_discovery([]).tolist() == []
