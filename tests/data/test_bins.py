"""Bins: edges are values, counts are exact, and ties, infinities of neighbours and other data do not break them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbops.data.bins import Ordered, counted, quantile_bins


@pytest.mark.parametrize("size", [1, 2, 3, 64, 65, 1000])
def test_counts_are_of_every_value(size: int) -> None:
    values = np.random.default_rng(size).normal(size=size)
    edges, counts = quantile_bins(values)
    assert edges[0] == values.min()
    assert edges[-1] == values.max()
    assert sum(counts) == size
    assert counted(values, edges).tolist() == [*counts, 0]


def test_bins_are_even_where_values_are_many() -> None:
    _, counts = quantile_bins(np.arange(64_000.0))
    assert max(counts) - min(counts[1:]) <= 2


def test_a_mass_at_one_value_has_its_edge() -> None:
    edges, counts = quantile_bins(np.array([0.0] * 900 + list(range(1, 101))))
    assert edges[0] == 0.0
    assert counts[0] == 900


def test_other_data_is_counted_in_the_same_edges() -> None:
    edges, _ = quantile_bins(np.arange(100.0), bins=4)
    assert edges == [0.0, 25.0, 50.0, 75.0, 99.0]
    assert counted(np.array([-5.0, 0.0, 25.0, 26.0, 99.0, 100.0, 1e9]), edges).tolist() == [2, 1, 1, 0, 1, 2]


def test_nothing_has_no_bins() -> None:
    assert quantile_bins(np.zeros(0)) == ([], [])


@given(st.lists(st.integers(-5, 5), max_size=300), st.integers(1, 70))
def test_counted_values_have_the_bins_of_all_values(values: list[int], bins: int) -> None:
    plain = np.array(values, np.int64)
    distinct, counts = np.unique(plain, return_counts=True)
    packed = Ordered(distinct, np.cumsum(counts))
    assert len(packed) == len(values)
    assert packed.bins(bins) == quantile_bins(plain, bins=bins)
    limits = np.arange(-7, 8)
    assert packed.count(limits).tolist() == [sum(v <= limit for v in values) for limit in limits]
    assert packed.count(limits, is_below=True).tolist() == [sum(v < limit for v in values) for limit in limits]
