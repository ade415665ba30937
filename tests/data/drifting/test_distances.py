"""Distances and tests from counts agree with SciPy's on the same data, and hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import distance

from nbops.data.bins import counted, quantile_bins
from nbops.data.drifting import distances as far
from nbops.data.drifting.distances import Counts

RANDOM = np.random.default_rng(5)


def table(reference: np.ndarray, current: np.ndarray) -> tuple[list[float], Counts, tuple[float, float]]:
    edges, counts = quantile_bins(reference)
    both = np.stack([[*counts, 0], counted(current, edges)]).astype(np.float64)
    return edges, both, (float(len(reference)), float(len(current)))


@pytest.mark.parametrize("shift", [0.0, 0.2, 1.0])
def test_kolmogorov_smirnov_lies_close_below_that_of_the_raw_values(shift: float) -> None:
    a, b = RANDOM.normal(size=4000), RANDOM.normal(shift, size=3000)
    _, counts, sizes = table(a, b)
    found, p = far.kolmogorov_smirnov(counts, sizes)
    exact = stats.ks_2samp(a, b, method="asymp")
    assert exact.statistic - 1 / 64 - 0.01 < found <= exact.statistic + 1e-12
    assert p >= exact.pvalue * 0.99


def test_few_values_are_exact_on_the_grid() -> None:
    a, b = RANDOM.integers(0, 20, 500), RANDOM.integers(0, 22, 700)
    _, counts, sizes = table(a, b)
    assert far.kolmogorov_smirnov(counts, sizes)[0] == pytest.approx(stats.ks_2samp(a, b).statistic)


@pytest.mark.parametrize(("size", "other"), [(300, 300), (2000, 150)])
def test_ranks_agree_with_mann_whitney_and_mood(size: int, other: int) -> None:
    a, b = RANDOM.integers(0, 12, size), RANDOM.integers(1, 13, other)
    _, counts, sizes = table(a, b)
    (shift, p_shift), (spread, p_spread) = far.rank_tests(counts, sizes)
    wanted = stats.mannwhitneyu(b, a, use_continuity=False, method="asymptotic")
    assert shift == pytest.approx(2 * wanted.statistic / (size * other) - 1)
    assert p_shift == pytest.approx(wanted.pvalue, rel=0.2)
    assert abs(spread) < 0.2
    assert p_spread > 1e-4
    wider = far.rank_tests(table(RANDOM.normal(size=2000), RANDOM.normal(0, 2, 2000))[1], (2000.0, 2000.0))[1]
    assert wider[0] > 0.5
    assert wider[1] < 1e-20


def test_rare_events_are_judged_like_a_poisson_variable() -> None:
    """Ten rows among 10,200: three of them in the small part are no sensation, as a normal curve would say."""
    p = far.proportion_p((7.0, 3.0), (10_000.0, 200.0))
    exact = stats.fisher_exact([[7, 3], [9993, 197]]).pvalue
    assert exact <= p < 8 * exact
    assert far.proportion_p((0.0, 1.0), (50_000.0, 50_000.0)) == 1.0
    assert far.proportion_p((0.0, 0.0), (10.0, 10.0)) == 1.0


@pytest.mark.parametrize("hits", [(0, 9), (5, 20), (100, 100), (3, 40)])
def test_proportions_are_near_fisher_and_not_bolder(hits: tuple[int, int]) -> None:
    p = far.proportion_p((float(hits[0]), float(hits[1])), (1000.0, 1000.0))
    exact = stats.fisher_exact([[hits[0], hits[1]], [1000 - hits[0], 1000 - hits[1]]]).pvalue
    assert exact * 0.3 <= p <= exact * 6 + 0.1


def test_chi_square_pools_what_is_rare() -> None:
    counts = np.array([[50.0, 40, 2, 1, 0], [30, 60, 0, 1, 3]])
    statistic, df, p = far.chi_square(counts)
    # the three rare cells hold seven rows, too few to stand alone: they join the smallest of the others
    wanted = stats.chi2_contingency([[53, 40], [34, 60]], correction=False)
    assert (statistic, df) == (pytest.approx(wanted.statistic), 1)
    assert p == pytest.approx(wanted.pvalue)
    assert far.chi_square(np.array([[1.0, 2], [2, 1]])) == (0.0, 0, 1.0)


def test_familiar_figures_are_those_of_scipy() -> None:
    counts = np.array([[50.0, 30, 20], [20, 30, 50]])
    p, q = counts / 100
    found = far.familiar(counts)
    assert found["jensen_shannon"] == pytest.approx(distance.jensenshannon(p, q, base=2))
    assert found["hellinger"] == pytest.approx(np.sqrt(((np.sqrt(p) - np.sqrt(q)) ** 2).sum() / 2))
    assert found["psi"] == pytest.approx(((q - p) * np.log(q / p)).sum())
    assert found["total_variation"] == pytest.approx(0.3)
    assert "wasserstein_iqr" not in found


@pytest.mark.parametrize("outlier", [None, 1e9])
def test_wasserstein_is_told_in_interquartile_ranges_whatever_an_outlier_does(outlier: float | None) -> None:
    a = RANDOM.normal(size=50_000)
    a = a if outlier is None else np.append(a, outlier)
    edges, counts, _ = table(a, RANDOM.normal(0.5, size=50_000))
    assert far.familiar(counts, edges)["wasserstein_iqr"] == pytest.approx(0.5 / 1.349, rel=0.08)


def test_nothing_lies_between_equal_edges() -> None:
    edges, counts, _ = table(np.full(100, 3.0), np.full(100, 3.0))
    found = far.familiar(counts, edges)
    assert found["wasserstein_iqr"] == found["psi"] == found["total_variation"] == 0.0


def test_intervals_hold_the_truth() -> None:
    held = {"band": 0, "variation": 0, "share": 0}
    truth = 2 * stats.norm.cdf(0.15) - 1
    for seed in range(200):
        random = np.random.default_rng(seed)
        _, counts, sizes = table(random.normal(size=800), random.normal(0.3, size=500))
        low, high = far.band(far.kolmogorov_smirnov(counts, sizes)[0], sizes)
        held["band"] += low <= truth <= high
        cells = np.stack([random.multinomial(800, [0.5, 0.3, 0.2]), random.multinomial(500, [0.4, 0.3, 0.3])])
        low, high = far.total_variation(cells.astype(np.float64))[1]
        held["variation"] += low <= 0.1 <= high
        hits = float(random.binomial(800, 0.02)), float(random.binomial(500, 0.05))
        low, high = far.share_difference(hits, (800.0, 500.0))[1]
        held["share"] += low <= 0.03 <= high
    assert min(held.values()) >= 186


def test_a_difference_of_shares_has_no_sign() -> None:
    up = far.share_difference((10.0, 30.0), (100.0, 100.0))
    assert far.share_difference((30.0, 10.0), (100.0, 100.0)) == (pytest.approx(up[0]), pytest.approx(up[1]))
