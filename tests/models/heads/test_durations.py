"""Densities of durations and the pace, by hand and on drawn recordings."""

import math

import numpy as np
import pytest
import torch

from models.heads.durations import LARGEST_SHRINKAGE, Completed, Durations


def drawn(recordings=400, within=0.16, between=0.25, labels=3, seed=0):
    """Recordings with log-normal durations of about 20, 40, 60 frames and a pace each."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(recordings):
        pace = rng.normal(0, math.sqrt(between))
        made.append([Completed(k, max(1, round(20 * (k + 1) * math.exp(pace + rng.normal(0, math.sqrt(within))))))
                     for k in rng.integers(0, labels, rng.integers(1, 6))])
    return made


@pytest.fixture(scope='module')
def durations():
    fitted = Durations(3)
    fitted.fit(drawn())
    return fitted


def test_variances_and_means_are_those_of_the_drawing(durations):
    within, between, shrinkage = durations.spread.tolist()
    assert within == pytest.approx(0.16, rel=0.1) and between == pytest.approx(0.25, rel=0.15)
    assert shrinkage == pytest.approx(within / between)
    assert durations.log_means.tolist() == pytest.approx(np.log([20, 40, 60]).tolist(), abs=0.1)


@pytest.mark.parametrize(('completed', 'expected'), [
    ([], 0), ([(9, 50)], 0), ([(0, 80)], math.log(4) / 3), ([(0, 80), (-1, 1), (1, 20)], math.log(2) / 4)])
def test_log_pace_by_hand(completed, expected):
    durations = Durations(2)
    durations.log_means.copy_(torch.tensor([20.0, 40.0]).log())
    durations.spread[2] = 2.0
    completed = [Completed(*action) for action in completed]
    assert durations.log_pace(completed) == pytest.approx(expected, abs=1e-6)
    assert durations.num_known(completed) == sum(0 <= action.label < 2 for action in completed)


@pytest.mark.parametrize(('log_pace', 'known'), [(0.0, 0), (0.5, 3), (-0.4, 100)])
def test_densities_integrate_to_one_and_follow_the_pace(durations, log_pace, known):
    at = torch.linspace(-3, 12, 3000)
    mass = durations.log_density(at, log_pace, known).exp() * (at[1] - at[0])  # (K, G)
    torch.testing.assert_close(mass.sum(1), torch.ones(3), atol=0.02, rtol=0)
    torch.testing.assert_close(mass @ at, durations.log_means + log_pace, atol=0.05, rtol=0)


def test_a_known_pace_narrows_the_density(durations):
    at = torch.linspace(-3, 12, 3000)
    stds = []
    for known in (0, 1, 8):
        mass = durations.log_density(at, 0.0, known).exp() * (at[1] - at[0])
        stds.append(((mass[0] * at.square()).sum() - (mass[0] * at).sum().square()).sqrt().item())
    assert stds[0] == pytest.approx(math.sqrt(0.16 + 0.25), rel=0.1) and stds[0] > stds[1] > stds[2]
    assert stds[2] == pytest.approx(math.sqrt(0.16), rel=0.15)


def test_a_batch_of_paces_is_each_of_them(durations):
    at, paces, known = torch.linspace(0, 6, 20), torch.tensor([0.1, -0.3]), torch.tensor([1.0, 5.0])
    both = durations.log_density(at, paces, known)
    for row, pace, count in zip(both, paces, known, strict=True):
        torch.testing.assert_close(row, durations.log_density(at, pace, count))


def test_recordings_that_cannot_tell_the_pace_shrink_it_away():
    durations = Durations(1)
    durations.fit([[Completed(0, 10)], [Completed(0, 20)]])
    assert durations.spread[2] == LARGEST_SHRINKAGE


def test_a_label_without_actions_has_the_shape_of_all():
    durations = Durations(2)
    durations.fit([[Completed(0, 10), Completed(0, 20)], [Completed(0, 14)]])
    at = torch.linspace(1, 5, 50)
    density = durations.log_density(at)
    torch.testing.assert_close(density[1], density[0], atol=0.3, rtol=0)


@pytest.mark.parametrize('recordings', [[], [[], []], [[Completed(5, 3)]]])
def test_nothing_to_learn_from_is_refused(recordings):
    with pytest.raises(ValueError, match='no actions'):
        Durations(2).fit(recordings)
