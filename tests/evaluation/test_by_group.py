"""Results by group of recordings."""

import math

import pytest

from evaluation.by_group import rows_by_group, spread_over_groups


def test_groups_are_scored_apart_and_their_spread_is_of_groups():
    errors = [0.1, 0.3, 0.5, 0.4]
    rows = rows_by_group(['ann', 'bob', 'ann', 'bob'], lambda indices: {
        'num_recordings': len(indices), 'mae': sum(errors[index] for index in indices) / len(indices)})
    assert rows == {'ann': {'num_recordings': 2, 'mae': pytest.approx(0.3)},
                    'bob': {'num_recordings': 2, 'mae': pytest.approx(0.35)}}
    spread = spread_over_groups(rows)
    assert spread == {'num_groups': 2, 'mae_mean': pytest.approx(0.325), 'mae_std': pytest.approx(0.05 / math.sqrt(2))}


def test_groups_without_a_value_do_not_count():
    spread = spread_over_groups({'ann': {'mae': 0.2, 'edit': math.nan}, 'bob': {'mae': math.nan, 'edit': math.nan}})
    assert spread['mae_mean'] == 0.2
    assert all(math.isnan(spread[name]) for name in ('mae_std', 'edit_mean', 'edit_std'))
