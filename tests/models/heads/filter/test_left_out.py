"""Folds leave groups out as a whole, and intervals cover a further group."""

import pytest
import torch

from models.heads.filter.left_out import FOLDS, TAILS, choose_tail, fold_indices, weighted_quantile


@pytest.mark.parametrize(('groups', 'count', 'expected'), [
    ('aabbcc', 3, [[0, 1], [2, 3], [4, 5]]),
    ('cabcab', 2, [[1, 2, 4, 5], [0, 3]]),  # sorted groups: a and b, c
    ('aaaa', 2, [[0, 1], [2, 3]]),  # a single group: recordings
    ('abab', 5, [[0, 2], [1, 3]]),
    ('a', 5, []),
])
def test_folds_leave_groups_out(groups, count, expected):
    assert fold_indices(list(groups), count) == expected


def test_there_are_as_many_folds_as_groups_allow():
    assert len(fold_indices(range(20))) == FOLDS


def test_weighted_quantile():
    values, weights = torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1.0, 1.0, 8.0])
    assert weighted_quantile(values, weights, 0.05) == 1 and weighted_quantile(values, weights, 0.5) == 2


def draw_groups(count, between, seed, size=400):
    """Groups of normal values whose means differ with a std of ``between``."""
    generator = torch.Generator().manual_seed(seed)
    return [between * torch.randn((), generator=generator) + torch.randn(size, generator=generator)
            for _ in range(count)]


@pytest.mark.parametrize(('between', 'least', 'most'), [(0.0, 0.88, 0.92), (1.0, 0.86, 0.96)])
def test_a_further_group_is_covered(between, least, most):
    """With groups that differ, the quantiles of the calibrating groups alone cover too little of a further group."""
    covered, plain = [], []
    for seed in range(60):
        *groups, further = draw_groups(8, between, seed)
        weights = [torch.ones_like(group) for group in groups]
        for tail, results in ((choose_tail(groups, weights), covered), (TAILS[0], plain)):
            low, high = (weighted_quantile(torch.cat(groups), torch.cat(weights), level) for level in (tail, 1 - tail))
            results.append(((further >= low) & (further <= high)).float().mean().item())
    assert least < sum(covered) / len(covered) < most
    assert between == 0 or sum(plain) < sum(covered)


def test_groups_that_nothing_covers_get_the_widest_interval_and_a_single_group_the_plain_one():
    groups = [torch.zeros(10), torch.full((10,), 9.0)]
    weights = [torch.ones(10), torch.ones(10)]
    assert choose_tail(groups, weights) == TAILS[-1]
    assert choose_tail(groups[:1], weights[:1]) == TAILS[0]
