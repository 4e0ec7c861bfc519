"""The baselines that know the order and the durations of steps and that an action still goes on."""

import numpy as np
import pytest

from evaluation.survival import SurvivalBaseline
from utils.tensorops import Action


def recording(*steps):
    """Actions that touch, from (label, frames)."""
    actions, start = [], 0
    for label, frames in steps:
        actions.append(Action(label, start, start + frames - 1))
        start += frames
    return actions


@pytest.fixture(scope='module')
def baseline():
    """Pouring takes about 10 frames, and stirring, which always comes after it, about 100."""
    rng = np.random.default_rng(0)
    return SurvivalBaseline([recording(('pour', round(10 * pace)), ('stir', round(100 * pace)))
                             for pace in rng.uniform(0.9, 1.1, 30)])


def test_the_order_tells_the_step_as_well_as_its_label(baseline):
    first, second = recording(('pour', 10), ('stir', 100))
    guessed, given = baseline.survival([], 10), baseline.survival_per_step([], 10, first.name)
    np.testing.assert_allclose(guessed, given, atol=0.08)
    np.testing.assert_allclose(given[:5, 0], np.arange(1, 6) / 10, atol=0.1)
    guessed, given = baseline.survival([first], 100), baseline.survival_per_step([first], 100, second.name)
    np.testing.assert_allclose(guessed, given, atol=0.08)
    np.testing.assert_allclose(given[:90, 0], np.arange(1, 91) / 100, atol=0.1)


def test_an_action_that_goes_on_is_longer_than_thought(baseline):
    progress = baseline.survival_per_step([], 60, 'pour')[:, 0]
    assert np.all((progress > 0) & (progress <= 1)) and progress[40] < 1
    assert progress[:40].max() > progress[5]


def test_an_action_may_be_a_hundred_times_longer_than_its_label_ever_was():
    steps = ('press', 1), ('stir', 400)  # a step that is annotated as one frame
    unusual = SurvivalBaseline([recording(*steps)] * 3)
    for quantiles in (unusual.survival_per_step([], 300, 'press', (0.05, 0.5, 0.95)),
                      unusual.survival([], 300, (0.05, 0.5, 0.95))):
        assert np.all((quantiles > 0) & (quantiles <= 1)) and np.all(np.diff(quantiles, axis=1) >= 0)


def test_a_slow_recording_stays_slow(baseline):
    usual, slow = (baseline.survival(recording(('pour', frames)), 50)[:, 0] for frames in (10, 30))
    assert np.all(slow[10:] < usual[10:])


def test_quantiles_are_ordered_and_cover(baseline):
    low, median, high = baseline.survival(recording(('pour', 10)), 100, (0.05, 0.5, 0.95)).T
    assert np.all((low <= median) & (median <= high))
    truth = np.arange(1, 101) / 100
    assert np.mean((low <= truth) & (truth <= high)) > 0.9


def test_unseen_labels_are_guessed_and_nothing_to_fit_is_refused(baseline):
    np.testing.assert_array_equal(baseline.survival_per_step([], 5, 'whisk'), baseline.survival([], 5))
    assert np.isfinite(baseline.survival(recording(('whisk', 3)), 5)).all()
    with pytest.raises(ValueError, match='no actions'):
        SurvivalBaseline([[], []])
