"""Labels of frames, carried over and back to segments."""

import numpy as np
import pytest

from alignment.forward_backward import PathPosterior
from alignment.labels import agreement, carry_labels, frame_labels, label_segments
from alignment.matching import UNMATCHED, FrameMatches, match_frames
from alignment.reference import choose_reference, mean_cost
from tests.alignment.steps import recording
from utils.action import Action
from utils.errors import UserError

SEGMENTS = [Action('cut', 1, 3), Action('0', 4, 4), Action('stir', 6, 8)]


def test_labels_of_used_frames_and_back():
    assert frame_labels(SEGMENTS, range(10)) == [None, 'cut', 'cut', 'cut', '0', None, 'stir', 'stir', 'stir', None]
    assert label_segments(frame_labels(SEGMENTS, range(10)), range(10), 10) == SEGMENTS
    used = frame_labels(SEGMENTS, range(0, 10, 3))
    assert used == [None, 'cut', 'stir', None]
    # A used frame stands for those up to the next one.
    assert label_segments(used, range(0, 10, 3), 10) == [Action('cut', 3, 5), Action('stir', 6, 8)]
    assert label_segments(['cut', 'cut'], [0, 4], 9) == [Action('cut', 0, 8)]
    assert label_segments([None, None], [0, 4], 9) == []


def test_the_most_probable_label_counts_not_that_of_the_match():
    posterior = PathPosterior(np.array([[0.4, 0.3, 0.3], [0.1, 0.1, 0.1], [0.2, 0.1, 0.6]]), np.array([0, 0.7, 0.1]))
    matches = FrameMatches(np.array([0, UNMATCHED, 2]), np.ones(3), posterior, 0.0)
    carried = carry_labels(matches, ['cut', 'stir', 'stir'])
    assert carried.labels == ['stir', None, 'stir']
    assert carried.probability == pytest.approx([0.6, 0.7, 0.7])
    assert carry_labels(matches, [None, None, None]).labels == [None] * 3


def test_agreement_counts_unlabeled_frames():
    assert agreement(['a', None, 'b', None], ['a', None, 'c', 'b']) == 0.5


def test_the_reference_is_the_recording_that_the_others_are_closest_to():
    steps = [[(0, 12), (1, 20)], [(0, 12), (1, 20), (2, 15), (3, 9)], [(3, 9), (2, 15)]]
    embeddings = [recording(one, seed=seed)[0] for seed, one in enumerate(steps)]
    names = ['a', 'b', 'c']
    costs = [mean_cost(embeddings, position) for position in range(3)]
    assert costs[1] == pytest.approx(np.mean([match_frames(embeddings[other], embeddings[1]).cost
                                              for other in (0, 2)]))
    assert costs.index(min(costs)) == choose_reference(names, embeddings, None, names) == 1
    assert choose_reference(names, embeddings, None, ['c']) == 2  # the only annotated one
    assert choose_reference(names, embeddings, 'a', ['c']) == 0
    with pytest.raises(UserError, match='^d: not the name of a recording, expected one of a, b, c'):
        choose_reference(names, embeddings, 'd', names)
