"""Folds leave groups out as a whole, and intervals cover a further group."""

import pytest
import torch

from models.heads.filter.left_out import FOLDS, TAILS, conformal_margins, fold_indices, weighted_quantile


@pytest.mark.parametrize(('groups', 'count', 'expected'), [
    ('aabbcc', 3, [[0, 1], [2, 3], [4, 5]]),
    ('cabcab', 2, [[1, 2, 4, 5], [0, 3]]),  # sorted groups: a and b, c
    ('aaaa', 2, [[0, 1], [2, 3]]),  # a single group: recordings
    ('abab', 5, [[0, 2], [1, 3]]),
    ('a', 5, []),
])
def test_folds_leave_groups_out(groups, count, expected):
    assert fold_indices(list(groups), count) == expected


def test_recordings_are_left_out_instead_of_too_few_groups():
    assert fold_indices(list('abab'), 2, fewest_groups=3) == [[0, 1], [2, 3]]
    assert fold_indices(list('abca'), 3, fewest_groups=3) == [[0, 3], [1], [2]]


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


def margins_of(groups):
    """The margins of intervals that begin as the single point 0."""
    return conformal_margins([torch.stack([-group, group], dim=1) for group in groups],
                             [torch.ones_like(group) for group in groups])


@pytest.mark.parametrize(('between', 'least', 'most'), [(0.0, 0.88, 0.92), (1.0, 0.86, 0.96)])
def test_a_further_group_is_covered(between, least, most):
    """With groups that differ, margins that cover the calibrating groups cover too little of a further group."""
    covered, plain = [], []
    for seed in range(60):
        *groups, further = draw_groups(8, between, seed)
        for some, results in ((groups, covered), ([torch.cat(groups)], plain)):
            low, high = margins_of(some)
            results.append(((further >= -low) & (further <= high)).float().mean().item())
    assert least < sum(covered) / len(covered) < most
    assert between == 0 or sum(plain) < sum(covered)


def test_margins_by_hand():
    # 5 % of 40 values are two, so the third largest is the least margin that leaves at most these beyond it.
    values = torch.arange(40.0)
    assert margins_of([values]).tolist() == [0, 37]
    # The low end is too high by 1 to 40 frames, the high end is never passed.
    assert margins_of([-values - 1]).tolist() == [38, 0]


def test_groups_that_nothing_covers_get_the_widest_margins():
    groups = [torch.arange(400.0), 1000 + torch.arange(400.0)]
    assert margins_of(groups).tolist() == [0, 1000 + 400 - 1 - TAILS[-1] * 800]


def test_weights_count():
    outside = [torch.tensor([[-1.0, 0.0], [-1.0, 5.0]])]
    assert conformal_margins(outside, [torch.tensor([0.97, 0.03])]).tolist() == [0, 0]
    assert conformal_margins(outside, [torch.tensor([0.5, 0.5])]).tolist() == [0, 5]
