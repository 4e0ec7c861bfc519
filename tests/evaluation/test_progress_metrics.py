"""Progress metrics by hand; the examples are such that another order of averaging would give another number."""

import math

import numpy as np
import pytest

from evaluation.baselines import BASELINES
from evaluation.progress_metrics import (
    ActionCurves,
    LengthErrors,
    StepErrors,
    action_progress_row,
    errors_by_length,
    length_bins,
    recording_row,
    skill,
)
from evaluation.running_means import RunningMeans


def curve(handle, head, length=None, true=None, label='pour', **baselines):
    """An action of a recording with the head's curve; the baselines are 0.5 unless given."""
    head = np.array(head, dtype=float)
    length = length or len(head)
    true = np.arange(1, len(head) + 1) / length if true is None else np.array(true, dtype=float)
    others = {name: np.full(len(head), float(baselines.get(name, 0.5))) for name in BASELINES}
    return handle, ActionCurves(label, length, true, {'head': head, **others})


def off_by(handle, frames, error, label='pour'):
    """An action of so many frames at every one of which the head is off by ``error``."""
    return curve(handle, np.arange(1, frames + 1) / frames - error, label=label)


def by_recording_of(curves):
    """The actions of each recording, from (handle, action)."""
    return [[action for other, action in curves if other == handle] for handle in dict.fromkeys(dict(curves))]


def row_of(curves):
    """The row of a task, from (handle, action)."""
    means = RunningMeans()
    for actions in by_recording_of(curves):
        means.add(recording_row(actions))
    return action_progress_row(means)


def added(kind, curves):
    """Errors by length or label, from (handle, action)."""
    errors = kind()
    for actions in by_recording_of(curves):
        errors.add(actions)
    return errors


def test_mae_is_over_frames_then_recordings():
    curves = [off_by('a', 1, 0.4), off_by('b', 2, 0.2), off_by('a', 9, 0.1)]
    by_recording = ((0.4 + 9 * 0.1) / 10 + 0.2) / 2
    assert row_of(curves)['mae'] == pytest.approx(by_recording)
    over_all_frames, over_actions = (0.4 + 2 * 0.2 + 9 * 0.1) / 12, (0.4 + 0.2 + 0.1) / 3
    actions_first = ((0.4 + 0.1) / 2 + 0.2) / 2
    assert all(abs(by_recording - other) > 0.01 for other in (over_all_frames, over_actions, actions_first))


def test_mae_by_length_counts_whole_actions_and_is_nan_where_there_is_none():
    curves = [off_by('a', 5, 0.4), off_by('a', 6, 0.3), off_by('b', 20, 0.2), off_by('b', 21, 0.1)]
    row = row_of(curves)
    assert (row['mae_short'], row['mae_medium'], row['mae_long']) == pytest.approx((0.4, 0.25, 0.1))
    cut_off = curve('a', [0.5, 0.5], length=30)  # two frames within the features, of an action of thirty
    row = row_of([cut_off])
    assert math.isnan(row['mae_short']) and math.isnan(row['mae_medium'])
    assert row['mae_long'] == row['mae'] == pytest.approx((0.5 - 1 / 30 + 0.5 - 2 / 30) / 2)


def test_error_by_length_is_over_frames_then_recordings_then_tasks():
    tea = added(LengthErrors, [off_by('a', 4, 0.4), off_by('a', 7, 0.1), off_by('b', 5, 0.2), off_by('b', 1, 0.3)])
    pie = added(LengthErrors, [off_by('c', 6, 0.3), off_by('c', 16, 0.25)])
    bins = length_bins([tea, pie])
    assert bins == {(1, 1): 1, (4, 7): 4, (16, 31): 1} and list(bins) == sorted(bins)
    expected = [0.3, (((4 * 0.4 + 7 * 0.1) / 11 + 0.2) / 2 + 0.3) / 2, 0.25]
    assert errors_by_length([tea, pie], 'head', list(bins)) == pytest.approx(expected)
    constant = errors_by_length([tea, pie], 'constant', [(16, 31)])
    assert constant == pytest.approx([np.mean(np.abs(np.arange(1, 17) / 16 - 0.5))])


@pytest.mark.parametrize(('heads', 'expected'), [
    ([('a', [0.1, 0.2, 0.9])], 1), ([('a', [0.9, 0.2, 0.1])], -1), ([('a', [0.3, 0.3, 0.3])], 0),
    ([('a', [0.1, 0.9, 0.2])], 0.5),  # 1 - 6 * (1 + 1) / (3 * 8)
    ([('a', [0.7])], math.nan),
    ([('a', [0.7]), ('a', [0.1, 0.2])], 1),  # the action of one frame does not count as 0
    # Actions first, then recordings: ((1 - 1 + 0.5) / 3 + 1) / 2
    ([('a', [0, 1]), ('a', [1, 0]), ('a', [0.1, 0.9, 0.2]), ('b', [0.1, 0.2])], (0.5 / 3 + 1) / 2)])
def test_spearman(heads, expected):
    assert row_of([curve(*head) for head in heads])['spearman'] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(('heads', 'expected'), [
    ([('a', [0.1, 0.1, 0.2])], 1), ([('a', [0.3, 0.2, 0.1])], 0), ([('a', [0.4])], math.nan),
    # Steps of an action alone, not from one action to the next; pooled over the recording, then recordings.
    ([('a', [0.1, 0.9]), ('a', [0.2, 0.1, 0.3, 0.2])], 2 / 4),
    ([('a', [0.1, 0.9]), ('a', [0.2, 0.1, 0.3, 0.2]), ('b', [0.4]), ('c', [0.1, 0.2])], (2 / 4 + 1) / 2)])
def test_monotonicity(heads, expected):
    assert row_of([curve(*head) for head in heads])['monotonicity'] == pytest.approx(expected, nan_ok=True)


def test_errors_at_first_and_last_frame():
    curves = [curve('a', [0.5, 0.4, 0.7]), curve('a', [0.2]), curve('b', [0.5, 0.5], length=4)]
    row = row_of(curves)
    assert row['first_frame_error'] == pytest.approx((((0.5 - 1 / 3) + 0.8) / 2 + 0.25) / 2)
    assert row['last_frame_error'] == pytest.approx(((0.3 + 0.8) / 2 + 0) / 2)  # the last frame there is


def test_the_row_of_a_task_by_hand():
    row = row_of([curve('a', [0.5, 0.8], cumulative_distance=1.0, average_index=0.75), curve('b', [1.0])])
    assert list(row) == [
        'num_recordings', 'num_actions', 'mae', 'mae_short', 'mae_medium', 'mae_long', 'spearman', 'monotonicity',
        'first_frame_error', 'last_frame_error', *(f'baseline_{name}' for name in BASELINES), 'skill']
    constant, average_index = (0.25 + 0.5) / 2, (0.25 + 0.5) / 2
    expected = {'num_recordings': 2, 'num_actions': 2, 'mae': 0.05, 'mae_short': 0.05, 'spearman': 1,
                'monotonicity': 1, 'first_frame_error': 0, 'last_frame_error': 0.1, 'baseline_constant': constant,
                'baseline_average_index': average_index, 'baseline_cumulative_distance': (0.25 + 0.5) / 2,
                'skill': 1 - 0.05 / 0.375}
    assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_errors_by_step_by_hand_the_worst_step_first():
    rows = added(StepErrors, [
        off_by('a', 4, 0.1), off_by('a', 2, 0.4), off_by('b', 1, 0.6), curve('a', [0.5, 0.8], label='stir',
                                                                             average_index=0.9),
        off_by('b', 2, 0.5, 'wait')]).rows()
    assert [(row['step'], row['num_actions']) for row in rows] == [('wait', 1), ('pour', 3), ('stir', 1)]
    assert list(rows[0]) == ['step', 'num_actions', 'mae', *(f'baseline_{name}' for name in BASELINES), 'skill']
    # Over frames, then recordings: a has four frames off by 0.1 and two by 0.4, b one by 0.6.
    pour = ((4 * 0.1 + 2 * 0.4) / 6 + 0.6) / 2
    # 0.5 is off by 1/4, 0, 1/4, 1/2 in four frames, by 0, 1/2 in two, and by 1/2 in one.
    constant = ((1 + 0.5) / 6 + 0.5) / 2
    expected = {'mae': pour, 'baseline_constant': constant, 'skill': 1 - pour / constant}
    assert {name: rows[1][name] for name in expected} == pytest.approx(expected)
    expected = {'mae': 0.1, 'baseline_constant': 0.25, 'baseline_average_index': 0.25, 'skill': 0.6}
    assert {name: rows[2][name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(('mae', 'label_free', 'expected'), [
    (0.1, (0.25, 0.2, 0.4, 0.5), 0.5), (0.2, (0.25, 0.3, 0.2, 0.2), 0), (0.3, (0.2, 0.3, 0.4, 0.3), -0.5),
    (0, (0.2, 0.3, 0.4, 0.5), 1), (0.1, (0.3, 0.3, 0.4, 0.2), 0.5), (0.1, (0.2, 0, 0.4, 0.5), math.nan)])
def test_skill_is_against_the_best_baseline_without_labels(mae, label_free, expected):
    names = ('constant', 'average_index', 'cumulative_distance', 'survival')
    row = {'mae': mae, **{f'baseline_{name}': value for name, value in zip(names, label_free, strict=True)},
           'baseline_average_index_per_step': 0.01, 'baseline_paced_per_step': 0.001,
           'baseline_survival_per_step': 0.001}
    assert skill(row) == pytest.approx(expected, nan_ok=True)
