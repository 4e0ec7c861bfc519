"""Counters of frames, against loops and numbers worked out by hand."""

import math

import numpy as np
import pytest

from evaluation.counters import FrameCounters, average_index_curve
from utils.tensorops import Action


def naive_curve(lengths):
    """Mean true progress at the i-th frame over the actions that last that long (de Boer et al., 2023)."""
    curve = []
    for index in range(max(lengths)):
        there = [(index + 1) / length for length in lengths if length > index]
        curve.append(sum(there) / len(there))
    return curve


@pytest.mark.parametrize('lengths', [[1], [5], [1, 1], [2, 4], [7, 3, 3, 1, 12], list(range(1, 40)), [500, 1, 20]])
def test_average_index_curve_is_that_of_the_paper(lengths):
    np.testing.assert_allclose(average_index_curve(lengths), naive_curve(lengths), rtol=1e-12)


def test_average_index_curve_by_hand():
    np.testing.assert_allclose(average_index_curve([2, 4]), [(1 / 2 + 1 / 4) / 2, (1 + 2 / 4) / 2, 3 / 4, 1])


def action(name, length, start=0):
    return Action(name, start, start + length - 1)


@pytest.fixture
def counters():
    """Pouring takes 2 or 6 frames (mean 4), stirring 10."""
    return FrameCounters([[action('pour', 2), action('pour', 6, 30), action('stir', 10)]])


def test_no_actions_are_refused():
    with pytest.raises(ValueError, match='no actions'):
        FrameCounters([[], []])


def test_curves_hold_their_last_value(counters):
    overall = naive_curve([2, 6, 10])
    np.testing.assert_allclose(counters.average_index(13), [*overall, overall[-1], overall[-1], overall[-1]])
    np.testing.assert_allclose(counters.average_index(3), overall[:3])
    assert counters.average_index(0).shape == (0,)


def test_a_step_has_its_own_curve_and_an_unseen_one_the_overall(counters):
    pour = naive_curve([2, 6])
    np.testing.assert_allclose(counters.average_index_per_step('pour', 8), [*pour, 1, 1])
    np.testing.assert_allclose(counters.average_index_per_step('stir', 4), [0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(counters.average_index_per_step('whisk', 12), counters.average_index(12))


@pytest.mark.parametrize(('pace', 'expected'), [
    (1, [0.1, 0.2, 0.3]), (2, [0.05, 0.1, 0.15]), (0.5, [0.2, 0.4, 0.6]), (4, [0.025, 0.05, 0.075]),
    (0.1, [1, 1, 1])])
def test_time_is_divided_by_the_pace(counters, pace, expected):
    np.testing.assert_allclose(counters.average_index_per_step('stir', 3, pace), expected)


def test_pace_is_the_shrunken_mean_of_log_ratios(counters):
    assert counters.pace([]) == counters.pace([action('whisk', 50)]) == 1
    once, twice = (counters.pace([action('stir', 20)] * count) for count in (1, 2))
    assert 1 < once < twice < 2
    shrinkage = math.log(2) / math.log(once) - 1
    assert twice == pytest.approx(2 ** (2 / (2 + shrinkage)), rel=1e-5)
