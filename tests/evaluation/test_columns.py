"""Descriptions of columns: which of several values is best, what an arrow says, and that none is missing."""

import math

import pytest

from evaluation.columns import Column, best_places, column_of, describes


@pytest.mark.parametrize(('values', 'better', 'places'), [
    ([0.2, 0.1], 'lower', {1}), ([0.2, 0.1], 'higher', {0}), ([0.2, 0.1, 0.1], 'lower', {1, 2}),
    ([0.1, 0.1], 'lower', set()), ([0.2, 0.1], '', set()), ([0.1], 'lower', set()),
    ([math.nan, 0.1, 0.2], 'lower', {1}), ([math.nan, 0.1], 'higher', set())])
def test_best_places(values, better, places):
    assert best_places(values, better) == places


def test_a_column_is_described_where_its_function_is_defined():
    @describes('my_table', my_metric=('higher', 'how good it is'))
    def metric():
        return 1

    assert metric() == 1 and column_of('my_table', 'my_metric') == Column('higher', 'how good it is')
    assert column_of('my_table', 'another') == column_of('ogpe', 'my_metric') == Column('', '')


def test_arrows_point_to_better_values():
    assert [Column(better, '').arrow.strip() for better in ('higher', 'lower', '')] == ['↑', '↓', '']
