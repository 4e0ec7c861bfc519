"""What durations alone predict, against loops and numbers worked out by hand."""

import math

import numpy as np
import pytest

from models.heads import durations as durations_module
from models.heads.durations import (
    LARGEST_SHRINKAGE,
    SPREAD,
    ActionDurations,
    PacedDurations,
    actions_before,
    average_index_curve,
    random_effect_shrinkage,
    shrunken_log_pace,
)
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
def durations():
    """Pouring takes 2 or 6 frames (mean 4), stirring 10."""
    return ActionDurations([action('pour', 2), action('pour', 6, 30), action('stir', 10)])


def test_no_actions_are_refused():
    with pytest.raises(ValueError, match='no actions'):
        ActionDurations([])


def test_curves_hold_their_last_value(durations):
    overall = naive_curve([2, 6, 10])
    np.testing.assert_allclose(durations.average_index(13), [*overall, overall[-1], overall[-1], overall[-1]])
    np.testing.assert_allclose(durations.average_index(3), overall[:3])
    assert durations.average_index(0).shape == (0,)


def test_a_step_has_its_own_curve_and_an_unseen_one_the_overall(durations):
    pour = naive_curve([2, 6])
    np.testing.assert_allclose(durations.average_index_per_step('pour', 8), [*pour, 1, 1])
    np.testing.assert_allclose(durations.average_index_per_step('stir', 4), [0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(durations.average_index_per_step('whisk', 12), durations.average_index(12))


@pytest.mark.parametrize(('pace', 'expected'), [
    (1, [0.1, 0.2, 0.3]), (2, [0.05, 0.1, 0.15]), (0.5, [0.2, 0.4, 0.6]), (4, [0.025, 0.05, 0.075]),
    (0.1, [1, 1, 1])])
def test_time_is_divided_by_the_pace(durations, pace, expected):
    np.testing.assert_allclose(durations.average_index_per_step('stir', 3, pace), expected)


@pytest.mark.parametrize(('completed', 'expected'), [
    ([], 1), ([('whisk', 50)], 1), ([('pour', 4)], 1),
    ([('pour', 16)], 4**(1 / 2)),  # one action four times as slow, beside one credited at the average
    ([('stir', 5)], 0.5**(1 / 2)),
    ([('pour', 16), ('stir', 5), ('whisk', 9)], math.exp((math.log(4) + math.log(1 / 2)) / 3)),
    ([('pour', 8)] * 99, 2**(99 / 100))])
def test_pace_is_the_shrunken_mean_of_log_ratios(durations, completed, expected):
    assert durations.pace([action(*each) for each in completed]) == pytest.approx(expected)


def in_a_row(*steps):
    """Actions (name, length) of a recording, one after the other."""
    starts = np.cumsum([0, *(length for _, length in steps)])
    return [action(name, length, int(start)) for (name, length), start in zip(steps, starts, strict=False)]


@pytest.mark.parametrize(('elapsed', 'expected'), [
    (1, (1 / 2 + 1 / 4) / 2), (1.5, (1.5 / 2 + 1.5 / 4) / 2), (2, (2 / 2 + 2 / 4) / 2), (2.5, 2.5 / 4), (4, 1),
    (4.5, 1), (1e6, 1), (1e-3, 1e-3 * 3 / 8)])
def test_survival_curve_by_hand(monkeypatch, elapsed, expected):
    monkeypatch.setattr(durations_module, 'SPREAD', np.zeros(1))
    paced = PacedDurations([in_a_row(('pour', 2)), in_a_row(('pour', 4))])  # no pace where each has one action
    assert paced.survival_curves(np.log([elapsed])) == pytest.approx(np.array([[expected]]))


def test_a_duration_counts_as_a_few_around_it():
    curve, = PacedDurations([in_a_row(('pour', 10))]).survival_curves(np.log([1, 9.9, 10 * math.exp(0.3), 15, 999]))
    everyone = (1 + 2 * math.cosh(0.1) + 2 * math.cosh(0.2) + 2 * math.cosh(0.34)) / 70  # all seven outlast 1 frame
    longer = 0.99 * (1 + math.exp(-0.1) + math.exp(-0.2) + math.exp(-0.34)) / 4  # the middle one and the three above it
    assert curve == pytest.approx([everyone, longer, math.exp(0.3 - 0.34), 1, 1])
    assert SPREAD.std() == pytest.approx(0.2, abs=0.02) and SPREAD.sum() == pytest.approx(0)


def random_recordings(count=12, seed=0):
    """People with a pace of their own, who leave out and repeat steps."""
    rng = np.random.default_rng(seed)
    means = {'cut': 8, 'mix': 20, 'serve': 50}
    recordings = []
    for _ in range(count):
        pace = rng.normal(0, 0.4)
        steps = [(str(step), max(1, round(means[step] * math.exp(pace + rng.normal(0, 0.3)))))
                 for step in rng.choice(sorted(means), rng.integers(0, 7))]
        recordings.append(in_a_row(*steps))
    return recordings


def naive_survival(recordings, step, elapsed):
    """E[t / L | L >= t], one training duration after the other, each freed of the pace known when it began."""
    means = {}
    for name in {each.name for actions in recordings for each in actions}:
        logs = [math.log(each.length) for actions in recordings for each in actions if each.name == name]
        means[name] = sum(logs) / len(logs)
    groups = [[math.log(each.length) - means[each.name] for each in actions] for actions in recordings if actions]
    centres = [sum(group) / len(group) for group in groups]
    squares = sum((value - centre) ** 2 for group, centre in zip(groups, centres, strict=True) for value in group)
    within = squares / (sum(map(len, groups)) - len(groups))
    between = sum(centre ** 2 - within / len(group) for group, centre in zip(groups, centres, strict=True))
    shrinkage = within / (between / len(groups))
    shares = []
    for actions in recordings:
        ratios = []
        for each in actions:
            pace = sum(ratios) / (len(ratios) + shrinkage) if ratios else 0
            for spread in SPREAD if each.name == step else ():
                length = math.exp(math.log(each.length) - pace + spread)
                shares += [elapsed / length] if length >= elapsed else []
            ratios.append(math.log(each.length) - means[each.name])
    return sum(shares) / len(shares) if shares else 1.0


@pytest.mark.parametrize('seed', range(3))
def test_survival_curves_match_a_loop(seed):
    recordings = random_recordings(seed=seed)
    paced = PacedDurations(recordings)
    elapsed = np.geomspace(0.1, 500, 97)
    curves = paced.survival_curves(np.log(elapsed))
    assert paced.steps == ['cut', 'mix', 'serve'] and 0 < paced.shrinkage < LARGEST_SHRINKAGE
    expected = [[naive_survival(recordings, step, time) for time in elapsed] for step in paced.steps]
    np.testing.assert_allclose(curves, expected, rtol=1e-9)
    assert (curves > 0).all() and (curves <= 1).all()


def test_durations_are_freed_of_the_pace():
    # Everybody serves for 40 frames at a pace of 1, which takes from 10 to 160: half of it is over after 20.
    recordings = [in_a_row(*[('cut', 25 * pace)] * 9, ('serve', 10 * pace)) for pace in (1, 2, 4, 8, 16)]
    curve, = PacedDurations(recordings).survival_curves(np.log([20]))[1:]
    assert curve == pytest.approx(0.5, abs=0.02)
    counter, = PacedDurations([[actions[-1]] for actions in recordings]).survival_curves(np.log([20]))
    assert abs(counter - 0.5) > 0.1


def test_paced_durations_need_an_action():
    with pytest.raises(ValueError, match='no actions, expected at least one'):
        PacedDurations([[], []])


@pytest.mark.parametrize(('groups', 'expected'), [
    ([[1, 3], [-1, -3]], 2 / 3),  # within 4 / 2, between 4 - 2 / 2
    ([[1, 3], [-2]], 2 / ((4 - 2 / 2 + 4 - 2) / 2)),  # a group of one says nothing of the variance within
    ([[5, 5], [-5, -5, -5]], 0), ([[5, 5.001], [-5, -5.001]], pytest.approx(0, abs=1e-6)),
    ([[1, -1], [2, -2]], LARGEST_SHRINKAGE),  # no difference between groups
    ([[0, 0], [0, 0]], LARGEST_SHRINKAGE), ([[1], [-1]], LARGEST_SHRINKAGE),
    ([[1.01, -1], [1, -1.01]], LARGEST_SHRINKAGE), ([[2, 0.1], [-0.1, -2]], pytest.approx(1.805 / 0.2, rel=0.01))])
def test_shrinkage_by_hand(groups, expected):
    assert random_effect_shrinkage([np.array(group, dtype=float) for group in groups]) == pytest.approx(expected)


def test_shrinkage_finds_the_ratio_of_variances():
    rng = np.random.default_rng(0)
    groups = [rng.normal(0, 0.5) + rng.normal(0, 0.4, size) for size in rng.integers(1, 12, 4000)]
    assert random_effect_shrinkage(groups) == pytest.approx(0.16 / 0.25, rel=0.1)


@pytest.mark.parametrize(('completed', 'shrinkage', 'expected'), [
    ([], 2, 0), ([], 0, 0), ([('whisk', 9)], 2, 0), ([('pour', 16)], 0, math.log(4)),
    ([('pour', 16)], 2, math.log(4) / 3), ([('pour', 16), ('whisk', 1), ('stir', 5)], 1, math.log(2) / 3)])
def test_log_pace_by_hand(completed, shrinkage, expected):
    log_means = {'pour': math.log(4), 'stir': math.log(10)}
    found = shrunken_log_pace([action(*each) for each in completed], log_means, shrinkage)
    assert found == pytest.approx(expected)


def test_only_what_has_ended_was_before():
    actions = [Action('a', 0, 4), Action('b', 5, 9), Action('c', 11, 20), Action('d', 21, 22)]
    assert [actions_before(actions, each) for each in actions] == [actions[:count] for count in range(4)]
    assert actions_before(actions, Action('late', 9, 30)) == actions[:1]  # b still lasts at frame 9
