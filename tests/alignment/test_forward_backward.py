"""The posterior of the path: against all paths, one by one, and what it must not depend on."""

import itertools
import math

import numpy as np
import pytest

from alignment.forward_backward import JUMP, LEAVE, REACH, RETURN, path_posterior


def move(start, end, size):
    """Probability of the next matched frame, given the place in the reference."""
    near = (1 - JUMP) / (REACH + 1) if 0 <= end - start <= REACH else 0
    return near + JUMP / size


def transition(before, after, size):
    (was_matched, place), (is_matched, next_place) = before, after
    if is_matched:
        return ((1 - LEAVE) if was_matched else RETURN) * move(place, next_place, size)
    return (LEAVE if was_matched else 1 - RETURN) * (place == next_place)


def all_paths(costs, limit):
    """The posterior by summing over every path."""
    frames, size = costs.shape
    matched, unmatched = np.zeros(costs.shape), np.zeros(frames)
    for path in itertools.product(itertools.product((True, False), range(size)), repeat=frames):
        weight = ((1 - LEAVE) if path[0][0] else LEAVE) / size
        for before, after in itertools.pairwise(path):
            weight *= transition(before, after, size)
        for t, (is_matched, place) in enumerate(path):
            weight *= math.exp(-costs[t, place]) if is_matched else math.exp(-limit) / (REACH + 1)
        for t, (is_matched, place) in enumerate(path):
            if is_matched:
                matched[t, place] += weight
            else:
                unmatched[t] += weight
    total = matched[0].sum() + unmatched[0]
    return matched / total, unmatched / total


@pytest.mark.parametrize(('frames', 'size', 'limit'), [(1, 1, 1.0), (1, 3, 0.2), (4, 3, 0.7), (3, 6, 2.0), (5, 1, 0.1)])
def test_the_posterior_is_that_of_all_paths(frames, size, limit):
    costs = np.random.default_rng(frames).uniform(0, 3, (frames, size))
    found, (matched, unmatched) = path_posterior(costs, limit), all_paths(costs, limit)
    np.testing.assert_allclose(found.matched, matched, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found.unmatched, unmatched, rtol=1e-5)


@pytest.mark.parametrize('scale', [1e-9, 1.0, 1e3, 1e8])
def test_extreme_costs_give_probabilities(scale):
    costs = scale * np.random.default_rng(0).uniform(0, 1, (30, 20))
    found = path_posterior(costs, 0.5 * scale)
    total = found.matched.sum(axis=1) + found.unmatched
    np.testing.assert_allclose(total, 1, atol=1e-5)
    assert found.matched.min() >= 0 and found.unmatched.min() >= 0


def test_two_equal_places_share_the_probability():
    costs = np.full((1, 2), 1.0)
    found = path_posterior(costs, 1.0)
    # (0.99 e^-1 / 2) for each place, 0.01 e^-1 / 4 for none.
    whole = 0.99 + 0.01 / 4
    np.testing.assert_allclose(found.matched, [[0.495 / whole] * 2], rtol=1e-6)
    np.testing.assert_allclose(found.unmatched, [0.0025 / whole], rtol=1e-6)
