"""Rank correlations against scipy's."""

import numpy as np
import pytest
from scipy.stats import kendalltau, rankdata, spearmanr

from evaluation.rank_statistics import average_ranks, count_inversions, kendall_tau_b, spearman_correlation


@pytest.mark.parametrize('kinds', [2, 5, 1000])
def test_they_are_those_of_scipy(kinds):
    rng = np.random.default_rng(kinds)
    for length in (2, 3, 10, 300):
        first, second = rng.integers(kinds, size=length) / 7, rng.integers(kinds, size=length)
        np.testing.assert_array_equal(average_ranks(first), rankdata(first))
        if np.ptp(first) and np.ptp(second):
            assert kendall_tau_b(first, second) == pytest.approx(kendalltau(first, second).statistic, abs=1e-14)
            assert spearman_correlation(first, second) == pytest.approx(spearmanr(first, second).statistic, abs=1e-12)


def test_order_ties_and_constants():
    rising = np.arange(5)
    assert (kendall_tau_b(rising, rising * 2.5), spearman_correlation(rising, rising ** 2)) == pytest.approx((1, 1))
    assert (kendall_tau_b(rising, -rising), spearman_correlation(rising, -rising)) == pytest.approx((-1, -1))
    assert kendall_tau_b(rising, np.zeros(5)) == kendall_tau_b(np.zeros(5), rising) == 0
    assert spearman_correlation(rising, np.zeros(5)) == 0
    assert kendall_tau_b(np.array([3]), np.array([4])) == 0


def test_inversions_are_those_of_a_double_loop():
    values = np.random.default_rng(0).integers(50, size=80)
    assert count_inversions(values) == sum(values[i] > values[j] for i in range(80) for j in range(i, 80))
    assert count_inversions(np.array([0])) == 0
