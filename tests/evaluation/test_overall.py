"""Progress of whole recordings and remaining time, by hand."""

import numpy as np
import pytest

from evaluation.overall import LengthCounter, Overall, overall_row
from evaluation.running_means import RunningMeans


def test_the_counter_expects_the_median_of_the_recordings_that_last_so_long():
    counter = LengthCounter([4, 2, 6])
    assert counter.lengths(8)[:, 0].tolist() == [4, 4, 5, 5, 6, 6, 7, 8]  # past the longest, the end is now
    np.testing.assert_allclose(counter.lengths(3, (0.0, 1.0)), [[2, 6], [2, 6], [4, 6]])
    with pytest.raises(ValueError, match='no recordings'):
        LengthCounter([])


def test_the_row_by_hand():
    # Two frames, then four. Progress is off by 1/2 at the first frame of the first recording and exact elsewhere.
    recordings = [Overall(np.array([0.0, 1]), np.array([1.0, 1]), np.array([2.0, 2])),
                  Overall(np.array([0.25, 0.5, 0.75, 1]), np.array([3.0, 2, 1, 4]), np.array([8.0, 8, 8, 8]))]
    means = RunningMeans()
    for recording in recordings:
        means.add(overall_row(recording))
    assert means.row() == pytest.approx({'mae': (0.25 + 0) / 2, 'remaining_mae': (0.5 / 2 + 1 / 4) / 2,
                                 'baseline_counter': (0 + (1 / 4 + 2 / 4 + 3 / 4 + 1) / 2 / 4) / 2,
                                 'baseline_counter_remaining': (0 + 4 / 4) / 2})


def test_what_a_head_does_not_offer_has_no_column_and_no_answer_counts_as_zero():
    counted = np.array([2.0, 2])
    assert list(overall_row(Overall(None, counted - [1, 2], counted))) == [
        'remaining_mae', 'baseline_counter', 'baseline_counter_remaining']
    assert overall_row(Overall(np.array([np.nan, 1]), None, counted))['mae'] == 0.25
