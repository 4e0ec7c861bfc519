"""Progress and remaining time of whole recordings, compared with a frame counter."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evaluation.columns import describe, describes
from utils.tables import Row

OVERALL_TABLE = 'overall'
MEDIAN = (0.5,)


class Overall(NamedTuple):
    """Estimates for a whole test recording at its T frames; None if the head does not offer them.

    Attributes:
        progress: (T,) in [0, 1], frames so far as a fraction of the recording.
        remaining: (T,), frames until the end, the current frame not counted.
        counter_length: (T,), length in frames that the frame counter expects.
    """

    progress: np.ndarray | None
    remaining: np.ndarray | None
    counter_length: np.ndarray


class LengthCounter:
    """Frame counter that knows the lengths of the training recordings and that the current recording is not over yet.

    Args:
        lengths: number of frames of each training recording; at least one recording.

    Raises:
        ValueError: ``lengths`` is empty.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        if not len(lengths):
            raise ValueError('no recordings, expected at least one to learn lengths from')
        # Sorted, so that the recordings of at least t frames are a suffix.
        self._lengths = np.sort(np.asarray(lengths, dtype=float))

    def lengths(self, num_frames: int, levels: Sequence[float] = MEDIAN) -> np.ndarray:
        """Return quantiles of the length of a recording, given the number of frames so far.

        Args:
            num_frames: T, frames to predict.
            levels: (Q,) in (0, 1).

        Returns:
            (T, Q), frames: row t (from 1) has the quantiles over training recordings of at least t frames, or t if all
            training recordings are shorter.
        """
        elapsed = np.arange(1, num_frames + 1)
        first = np.searchsorted(self._lengths, elapsed)  # (T,), the first that is long enough
        # Stays so past the longest training recording: the counter then expects the end at the current frame.
        expected = np.repeat(elapsed[:, None].astype(float), len(levels), axis=1)
        # Frames with the same suffix share their quantiles: at most one np.quantile per training recording.
        for index in np.unique(first[first < len(self._lengths)]):
            expected[first == index] = np.quantile(self._lengths[index:], levels)  # (Q,) broadcast over the frames
        return expected


describe(OVERALL_TABLE, {
    'baseline_counter': ('', 'error of the progress of a counter of frames that knows the lengths of the training '
                             'recordings'),
    'baseline_counter_remaining': ('', 'error of the time that this counter expects to remain'),
})


@describes(OVERALL_TABLE,
           mae=('lower', 'mean absolute error of the progress of the whole recording (frames so far / its frames)'),
           remaining_mae=('lower', 'mean absolute error of the remaining time, as a fraction of the recording'))
def overall_row(recording: Overall) -> Row:
    """Return the columns of ``overall.csv`` for a recording: means over its frames.

    Columns that the head does not predict are left out. A NaN prediction counts as 0.
    """
    row, elapsed = {}, np.arange(1, len(recording.counter_length) + 1)
    if recording.progress is not None:
        row['mae'] = _progress_error(recording.progress)
    if recording.remaining is not None:
        row['remaining_mae'] = _remaining_error(recording.remaining)
    # Progress of the counter is t / expected length, and its remaining time the expected length - t.
    return {**row, 'baseline_counter': _progress_error(elapsed / recording.counter_length),
            'baseline_counter_remaining': _remaining_error(recording.counter_length - elapsed)}


def _progress_error(predicted: np.ndarray) -> float:
    """Return the mean over frames of |predicted (T,) - true progress|."""
    # True progress of a recording of T frames at its frame t is t / T, so it ends at 1.
    return float(np.abs(np.nan_to_num(predicted) - np.arange(1, len(predicted) + 1) / len(predicted)).mean())


def _remaining_error(predicted: np.ndarray) -> float:
    """Return the mean over frames of |predicted (T,) - true remaining frames| / T."""
    # The true remaining frames are T - 1 at the first frame and 0 at the last.
    return float(np.abs(np.nan_to_num(predicted) - np.arange(len(predicted) - 1, -1, -1)).mean() / len(predicted))
