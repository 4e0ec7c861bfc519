"""Rank correlations in numpy: importing scipy.stats takes longer than all computations with them."""

import numpy as np


def spearman_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's rank correlation of two sequences (n,), n >= 2, in [-1, 1]; 0 if either is constant."""
    ranks = np.stack([average_ranks(first), average_ranks(second)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(ranks, axis=1)
    return float(np.clip(ranks[0] @ ranks[1] / norms.prod(), -1, 1)) if norms.all() else 0.0


def average_ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks (n,) of values (n,), from 1; equal values get the mean of their ranks."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[index]


def kendall_tau_b(first: np.ndarray, second: np.ndarray) -> float:
    """Return Kendall's tau-b of two sequences (n,), in [-1, 1]; 0 if either is constant.

    Reference:
        Knight, "A Computer Method for Calculating Kendall's Tau with Ungrouped Data", JASA 1966.
    """
    first, second = (np.unique(values, return_inverse=True)[1] for values in (first, second))
    order = np.lexsort((second, first))
    first, second = first[order], second[order]
    pairs = len(first) * (len(first) - 1) // 2
    tied_first, tied_second, tied_both = (
        _pairs_within(values) for values in (first, second, first * (int(second.max()) + 1) + second))
    if pairs in (tied_first, tied_second):
        return 0.0
    # Sort by the first sequence, and ties by the second, so that ties of the first do not count as inversions.
    surplus = pairs - tied_first - tied_second + tied_both - 2 * count_inversions(second)
    return float(np.clip(surplus / np.sqrt(pairs - tied_first) / np.sqrt(pairs - tied_second), -1, 1))


def count_inversions(values: np.ndarray) -> int:
    """Count the pairs i < j with values[i] > values[j]; values (n,) are integers >= 0.

    Two values are compared at the highest bit in which they differ: with values grouped by the bits above it, in
    their original order, the count is the number of 1s before each 0 of the group. Takes n log(largest) operations,
    vectorized in numpy.
    """
    inversions = 0
    for bit in reversed(range(int(values.max()).bit_length())):
        group = values >> (bit + 1)
        order = np.argsort(group, kind='stable')
        values, group = values[order], group[order]
        ones = (values >> bit) & 1
        seen = np.cumsum(ones)
        before_group = (seen - ones)[np.searchsorted(group, group)]
        inversions += int(((seen - before_group) * (1 - ones)).sum())
    return inversions


def _pairs_within(values: np.ndarray) -> int:
    """Count the pairs of equal values."""
    counts = np.unique(values, return_counts=True)[1]
    return int((counts * (counts - 1) // 2).sum())
