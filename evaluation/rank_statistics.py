"""Rank correlations in numpy: importing scipy.stats takes longer than all computations with them."""

import numpy as np


def spearman_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's rank correlation of two sequences (n,), n >= 2, in [-1, 1]; 0 if either is constant."""
    # Spearman's correlation is Pearson's correlation of the ranks.
    ranks = np.stack([average_ranks(first), average_ranks(second)])  # (2, n)
    ranks -= ranks.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(ranks, axis=1)
    # Constant ranks have a norm of 0. Rounding may exceed 1, hence the clip.
    return float(np.clip(ranks[0] @ ranks[1] / norms.prod(), -1, 1)) if norms.all() else 0.0


def average_ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks (n,) of values (n,), from 1; equal values get the mean of their ranks."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)  # (K,), (n,), (K,): K distinct values
    # The last rank of a value is the number of values up to it; the mean of its ranks is (count - 1) / 2 lower.
    return (np.cumsum(counts) - (counts - 1) / 2)[index]


def kendall_tau_b(first: np.ndarray, second: np.ndarray) -> float:
    """Return Kendall's tau-b of two sequences (n,), in [-1, 1]; 0 if either is constant.

    Reference:
        Knight, "A Computer Method for Calculating Kendall's Tau with Ungrouped Data", JASA 1966.
    """
    # Dense ranks instead of values: integers >= 0, as count_inversions requires, and ties stay ties.
    first, second = (np.unique(values, return_inverse=True)[1] for values in (first, second))
    # Sort by the first sequence, and ties by the second, so that ties of the first do not count as inversions. (lexsort
    # sorts by its last key first.)
    order = np.lexsort((second, first))
    first, second = first[order], second[order]
    pairs = len(first) * (len(first) - 1) // 2
    tied_first, tied_second, tied_both = (
        # The third array gives each pair of values its own integer.
        _pairs_within(values) for values in (first, second, first * (int(second.max()) + 1) + second))
    if pairs in (tied_first, tied_second):
        return 0.0
    # Concordant minus discordant pairs: pairs without a tie, minus twice the inversions. Pairs tied in both sequences
    # are subtracted twice, hence added once.
    surplus = pairs - tied_first - tied_second + tied_both - 2 * count_inversions(second)
    # Two roots, because the product of the numbers of pairs may exceed 64 bits.
    return float(np.clip(surplus / np.sqrt(pairs - tied_first) / np.sqrt(pairs - tied_second), -1, 1))


def count_inversions(values: np.ndarray) -> int:
    """Count the pairs i < j with values[i] > values[j]; values (n,) are integers >= 0.

    Two values are compared at the highest bit in which they differ: with values grouped by the bits above it, in
    their original order, the count is the number of 1s before each 0 of the group. Takes n log(largest) operations,
    vectorized in numpy.
    """
    inversions = 0
    for bit in reversed(range(int(values.max()).bit_length())):
        # Values that agree in all bits above the current one form a group.
        group = values >> (bit + 1)
        order = np.argsort(group, kind='stable')  # stable: the original order within a group stays
        values, group = values[order], group[order]
        ones = (values >> bit) & 1  # (n,), the current bit
        seen = np.cumsum(ones)
        # seen - ones counts the 1s before a position. At the first position of a group, these are 1s of other groups.
        before_group = (seen - ones)[np.searchsorted(group, group)]
        inversions += int(((seen - before_group) * (1 - ones)).sum())  # for each 0, the 1s before it in its group
    return inversions


def _pairs_within(values: np.ndarray) -> int:
    """Count the pairs of equal values."""
    counts = np.unique(values, return_counts=True)[1]
    return int((counts * (counts - 1) // 2).sum())
