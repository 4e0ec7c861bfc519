"""Coverage and width of intervals, by hand."""

import numpy as np
import pytest

from evaluation.intervals import (
    TenthSums,
    end_intervals,
    interval_row,
    progress_intervals,
    remaining_from_progress,
)
from evaluation.running_means import RunningMeans


def test_coverage_and_width_are_over_frames_then_recordings():
    # True progress 1/4, 2/4, 3/4, 1: held twice of four times. The other recording: 1/2, 1 within the whole range.
    first = progress_intervals(np.array([0, 0.6, 0.5, 0]), np.array([0.25, 0.7, 1, 0.5]), 4)
    second = progress_intervals(np.zeros(2), np.ones(2), 2)
    means = RunningMeans()
    for kinds in ({'progress': [first]}, {'progress': [second]}, {}):
        means.add(interval_row(kinds))
    assert means.row() == pytest.approx({'progress_coverage': (2 / 4 + 1) / 2, 'progress_width': (1.35 / 4 + 1) / 2})


def test_the_end_is_a_fraction_of_the_length():
    # At frames 1 and 2 of four, 3 and 2 remain: the end is at 4 of 4.
    row = interval_row({'end': [end_intervals(np.array([2.0, 3]), np.array([4.0, 5]), 4)]})
    assert row == pytest.approx({'end_coverage': 1 / 2, 'end_width': 2 / 4})
    np.testing.assert_allclose(remaining_from_progress(np.array([0.25, 0.5, 1])), [3, 2, 0])
    assert np.isfinite(remaining_from_progress(np.zeros(2))).all()


def tenths(*recordings):
    sums = TenthSums()
    for kinds in recordings:
        sums.add(kinds)
    return sums.rows()


def test_tenths_of_progress():
    low = np.where(np.arange(1, 21) <= 10, 0.0, 1.1)  # right in the first half alone
    halves = [progress_intervals(low, np.full(20, 1.2), 20)]
    rows = tenths({'progress': halves}, {}, {'progress': halves})
    assert [row['tenth'] for row in rows] == list(range(1, 11)) and all(row['num_frames'] == 4 for row in rows)
    assert [row['progress_coverage'] for row in rows] == [1] * 5 + [0] * 5
    assert [row['progress_width'] for row in rows] == pytest.approx([1.2] * 5 + [0.1] * 5)
    rows = tenths({'progress': [progress_intervals(np.zeros(1), np.ones(1), 1)]})
    assert rows[9]['num_frames'] == 1 and np.isnan(rows[0]['progress_coverage'])
