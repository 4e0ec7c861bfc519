"""Meanings of the columns: which of several values is best, and what an arrow says."""

import math

import pytest

from evaluation.glossary import COLUMNS, Meaning, best_places, meaning_of


@pytest.mark.parametrize(('values', 'better', 'places'), [
    ([0.2, 0.1], 'lower', {1}), ([0.2, 0.1], 'higher', {0}), ([0.2, 0.1, 0.1], 'lower', {1, 2}),
    ([0.1, 0.1], 'lower', set()), ([0.2, 0.1], '', set()), ([0.1], 'lower', set()),
    ([math.nan, 0.1, 0.2], 'lower', {1}), ([math.nan, 0.1], 'higher', set())])
def test_best_places(values, better, places):
    assert best_places(values, better) == places


def test_a_column_that_is_not_listed_has_no_direction():
    assert meaning_of('my_metric') == Meaning('', '') and meaning_of('ogpe') == COLUMNS['ogpe']


def test_arrows_point_to_better_values():
    assert [Meaning(better, '').arrow.strip() for better in ('higher', 'lower', '')] == ['↑', '↓', '']
    assert (COLUMNS['mae'].better, COLUMNS['skill'].better, COLUMNS['num_actions'].better) == ('lower', 'higher', '')
