"""Actions played differently, by hand; what heads make of them is in test_head_tables."""

import numpy as np
import pytest
import torch

from evaluation.contrast import contrast_of_actions, freeze, slow_down, speed_up
from evaluation.running_means import RunningMeans


def frames(*values):
    return torch.tensor(values, dtype=torch.float32).unsqueeze(1)


def test_actions_played_differently():
    frozen, stretch = freeze(frames(1, 2, 3, 4))
    assert frozen.flatten().tolist() == [1, 2, 2, 2, 3, 4] and (stretch.start, stretch.stop) == (1, 4)
    assert slow_down(frames(1, 2)).flatten().tolist() == [1, 1, 2, 2]
    assert speed_up(frames(1, 2, 3, 4)).flatten().tolist() == [2, 4]
    assert speed_up(frames(1, 2, 3)).flatten().tolist() == [1, 3]


def test_short_actions_are_left_out_with_their_contexts():
    def forward_dense(segments, contexts):
        assert contexts == ['long']
        return [segment[:, 0] for segment in segments]

    actions = contrast_of_actions([frames(1, 1), frames(0, 0.25, 0.5, 1)], ['short', 'long'], forward_dense)
    means = RunningMeans()
    means.add(actions)
    assert means.row() == pytest.approx({
        'num_actions': 1, 'final': 1, 'final_half_speed': 1, 'final_double_speed': 1, 'final_frozen': 1,
        'freeze_change': 0, 'reversed_spearman': -1})
    assert np.isnan(actions['final'][0])
    means = RunningMeans()
    means.add(contrast_of_actions([frames(1)], [None], forward_dense))
    row = means.row()
    assert row.pop('num_actions') == 0 and all(np.isnan(value) for value in row.values())
