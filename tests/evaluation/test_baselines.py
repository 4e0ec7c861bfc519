"""Baselines worked out by hand on small recordings."""

import numpy as np
import pytest
import torch

from evaluation.baselines import BASELINES, LABEL_FREE, ProgressBaselines, action_distance, mean_action_distance
from evaluation.counters import FrameCounters
from utils.tensorops import Action


def line(*positions):
    """Embeddings (T, 2) along a line, so that distances can be read off."""
    return torch.tensor([[float(position), 7.0] for position in positions])


# Training: pouring takes 2 and 4 frames over distances 3 and 5, stirring 1 frame over none.
TRAIN_ACTIONS = [[Action('pour', 0, 1), Action('stir', 3, 3)], [Action('pour', 1, 4)]]
TRAIN_EMBEDDINGS = [line(0, 3, 3, 50), line(90, 0, 1, 3, 5)]
OVERALL = [(1 / 2 + 1 + 1 / 4) / 3, (1 + 2 / 4) / 2, 3 / 4, 1]  # lengths 1, 2 and 4
POUR = [(1 / 2 + 1 / 4) / 2, (1 + 2 / 4) / 2, 3 / 4, 1]


def fitted(actions, embeddings):
    return ProgressBaselines(actions, mean_action_distance(actions, embeddings))


@pytest.fixture
def baselines():
    return fitted(TRAIN_ACTIONS, TRAIN_EMBEDDINGS)


def test_the_columns_are_those_of_the_table(baselines):
    assert BASELINES == ('constant', 'average_index', 'average_index_per_step', 'paced_per_step',
                         'cumulative_distance', 'survival', 'survival_per_step')
    assert set(BASELINES) - set(LABEL_FREE) == {'average_index_per_step', 'paced_per_step', 'survival_per_step'}
    predicted, = baselines.predict([Action('pour', 0, 1)], line(0, 1))
    assert tuple(predicted) == BASELINES


def test_each_baseline_by_hand(baselines):
    first, second = baselines.predict([Action('pour', 0, 4), Action('stir', 5, 6)], line(0, 1, 2, 2, 9, 9, 10))
    mean_distance = (3 + 0 + 5) / 3
    np.testing.assert_allclose(first['constant'], [0.5] * 5)
    np.testing.assert_allclose(first['average_index'], [*OVERALL, 1])
    np.testing.assert_allclose(first['average_index_per_step'], [*POUR, 1])
    np.testing.assert_allclose(first['paced_per_step'], [*POUR, 1])  # nothing completed yet
    np.testing.assert_allclose(first['cumulative_distance'], np.minimum(np.array([0, 1, 2, 2, 9]) / mean_distance, 1))
    pace = FrameCounters(TRAIN_ACTIONS).pace([Action('pour', 0, 4)])
    assert 1 < pace < 5 / 3
    np.testing.assert_allclose(second['average_index'], OVERALL[:2])
    np.testing.assert_allclose(second['average_index_per_step'], [1, 1])
    np.testing.assert_allclose(second['paced_per_step'], [1 / pace, 1])  # a stir of one frame, stretched by the pace
    np.testing.assert_allclose(second['cumulative_distance'], [0, 1 / mean_distance])


def test_an_unseen_step_takes_the_overall_curve(baselines):
    predicted, = baselines.predict([Action('whisk', 1, 3)], line(0, 0, 0, 0))
    for name in ('average_index', 'average_index_per_step', 'paced_per_step'):
        np.testing.assert_allclose(predicted[name], OVERALL[:3])


def test_pace_knows_completed_actions_only(baselines):
    def second_of(last_of_second, third):
        actions = [Action('pour', 0, 5), Action('pour', 6, last_of_second), third]
        return baselines.predict(actions, line(*range(40)))[1]['paced_per_step']

    reference = second_of(8, Action('pour', 9, 10))
    np.testing.assert_allclose(second_of(8, Action('pour', 9, 39)), reference)
    np.testing.assert_allclose(second_of(20, Action('pour', 21, 21))[:3], reference)
    alone = baselines.predict([Action('pour', 6, 8)], line(*range(40)))[0]['paced_per_step']
    assert np.all(reference[:2] < alone[:2]), 'the slow first action slows the second'


def test_predictions_stop_where_the_features_do(baselines):
    predicted, = baselines.predict([Action('pour', 2, 9)], line(0, 1, 2, 3))
    assert {name: len(curve) for name, curve in predicted.items()} == dict.fromkeys(BASELINES, 2)
    assert baselines.predict([], line(0)) == []


def test_actions_of_one_frame_have_no_path():
    baselines = fitted([[Action('stir', 0, 0)]], [line(4)])
    predicted, = baselines.predict([Action('stir', 0, 0)], line(3))
    assert [float(predicted[name][0]) for name in BASELINES[:5]] == [0.5, 1, 1, 1, 0]
    assert all(0.7 < float(predicted[name][0]) <= 1 for name in BASELINES[5:])


def test_without_training_actions_there_is_nothing_to_fit():
    with pytest.raises(ValueError, match='no actions'):
        fitted([[], []], [line(0), line(1)])


def test_altered_training_annotations_move_every_baseline_but_the_constant(baselines):
    actions, embeddings = [Action('pour', 0, 3), Action('stir', 4, 6)], line(0, 1, 1, 2, 9, 9, 10)
    altered = fitted([[Action('pour', 0, 0), Action('stir', 1, 3)], TRAIN_ACTIONS[1]], TRAIN_EMBEDDINGS)
    before, after = (one.predict(actions, embeddings) for one in (baselines, altered))
    moved = {name for name in BASELINES if any(not np.allclose(one[name], other[name])
                                               for one, other in zip(before, after, strict=True))}
    assert moved == set(BASELINES) - {'constant'}


def test_distance_begins_with_the_action():
    np.testing.assert_allclose(action_distance(line(0, 10, 11, 9, 30), Action('pour', 1, 3)), [0, 1, 3])
