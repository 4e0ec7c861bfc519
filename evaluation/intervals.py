"""Coverage and width of 90 % intervals."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evaluation.columns import describe
from utils.tables import MEAN, Row

INTERVALS_TABLE = 'intervals'
TENTHS_TABLE = 'intervals_by_tenth'
LEVELS = (0.05, 0.95)  # quantiles that bound a 90 % interval; heads predict exactly these
LEAST_PROGRESS = 1e-3  # smaller values are raised to it, because a progress of 0 would put the end infinitely far away
# Kind of interval -> text in the descriptions of its columns.
KINDS = {
    'progress': 'the progress within an action whose start is given',
    'end': 'the end of that action, as a fraction of its length',
    'unsegmented': 'the progress within the true action, boundaries unknown',
    'unsegmented_end': 'the end of the true action, boundaries unknown, as a fraction of its length',
    'overall': 'the progress of the whole recording',
}

describe(INTERVALS_TABLE, {
    **{f'{kind}_coverage': ('', f'fraction of frames whose 90 % interval of {text} holds the truth: 0.9 is right')
       for kind, text in KINDS.items()},
    **{f'{kind}_width': ('lower', f'mean width of the 90 % interval of {text}') for kind, text in KINDS.items()},
    **{f'baseline_survival_{kind}_{what}': ('', f'{what} of the survival baseline, of {KINDS[kind]}')
       for kind in ('progress', 'end') for what in ('coverage', 'width')},
    **{f'baseline_counter_overall_{what}': ('', f'{what} of the counter of frames, of {KINDS["overall"]}')
       for what in ('coverage', 'width')},
})


class Intervals(NamedTuple):
    """Intervals of a kind at n frames of a recording.

    Attributes:
        low: (n,), lower bounds.
        high: (n,), upper bounds.
        true: (n,), true values that the intervals should contain.
        progress: (n,) in (0, 1], the true progress of the action, or of the recording for 'overall'.
    """

    low: np.ndarray
    high: np.ndarray
    true: np.ndarray
    progress: np.ndarray


Kinds = dict[str, list[Intervals]]  # kind -> intervals of a recording, one element per action


def progress_intervals(low: np.ndarray, high: np.ndarray, length: int) -> Intervals:
    """Return the intervals of the progress (n,) at the first n frames of an action or recording of given length."""
    # A frame counts as done when it is seen: progress is 1 / length at the first frame and 1 at the last.
    true = np.arange(1, len(low) + 1) / length
    return Intervals(low, high, true, true)


def end_intervals(low: np.ndarray, high: np.ndarray, length: int) -> Intervals:
    """Return the intervals of the end of an action or recording, as a fraction of its length after its start.

    Args:
        low: (n,), 5 % quantile of the remaining frames at the first n frames, the current frame not counted.
        high: (n,), 95 % quantile.
        length: true number of frames.
    """
    # Bounds are measured from the action's start and divided by its true length: the true end is then 1 at every frame,
    # and widths are comparable between short and long actions.
    elapsed = np.arange(1, len(low) + 1)
    return Intervals((elapsed + low) / length, (elapsed + high) / length, np.ones(len(low)), elapsed / length)


def remaining_from_progress(progress: np.ndarray) -> np.ndarray:
    """Return the remaining frames (n,) implied by the progress at an action's first n frames."""
    # Progress p at frame t means a length of t / p, of which t / p - t frames remain.
    elapsed = np.arange(1, len(progress) + 1)
    return elapsed / np.maximum(progress, LEAST_PROGRESS) - elapsed


def coverage(intervals: Intervals) -> np.ndarray:
    """Return True for each frame whose interval contains the true value, (n,), with a tolerance of 1e-6."""
    # Heads compute in float32: a bound that equals the truth must not miss it by rounding.
    return (intervals.low <= intervals.true + 1e-6) & (intervals.true <= intervals.high + 1e-6)


def interval_row(kinds: Kinds) -> Row:
    """Return coverage and mean width of each kind over the frames of a recording.

    Args:
        kinds: kind (such as 'progress' or 'baseline_survival_progress') -> intervals, one element per action.

    Returns:
        ``<kind>_coverage`` in [0, 1] and ``<kind>_width``, for the kinds that have intervals.
    """
    row = {}
    for kind, parts in kinds.items():
        if parts:
            # Pool a recording's actions first, then average recordings, so that coverage weighs frames as mae does.
            pooled = _pool(parts)
            row[f'{kind}_coverage'] = float(coverage(pooled).mean())
            row[f'{kind}_width'] = float((pooled.high - pooled.low).mean())
    return row


class TenthSums:
    """Coverage and width of intervals by tenth of the true progress, frames of all recordings pooled."""

    def __init__(self) -> None:
        # Kind -> (10, 3): frames, frames whose interval holds the truth, and the sum of widths, of each tenth.
        self._sums: dict[str, np.ndarray] = {}

    def add(self, kinds: Kinds) -> None:
        """Add the intervals of a recording, see :func:`interval_row`."""
        for kind, parts in kinds.items():
            if parts:
                pooled = _pool(parts)
                # A progress of exactly t / 10 belongs to the t-th tenth, which is row t - 1.
                tenth = np.clip(np.ceil(pooled.progress * 10 - 1e-9), 1, 10).astype(int) - 1
                columns = [np.bincount(tenth, values, minlength=10)
                           for values in (np.ones(len(tenth)), coverage(pooled), pooled.high - pooled.low)]
                self._sums[kind] = self._sums.get(kind, 0) + np.stack(columns, axis=1)

    def rows(self) -> list[Row]:
        """Return ten rows, none without intervals.

        Returns:
            Rows with 'tenth' (1 to 10), 'num_frames' (of the kind with the most frames in the tenth), and the columns
            of :func:`interval_row`; NaN if a tenth has no frames.
        """
        if not self._sums:
            return []
        rows = []
        for tenth in range(10):
            # Kinds cover different frames: those of actions, or for 'overall' all frames of a recording.
            row = {'tenth': tenth + 1, 'num_frames': int(max(sums[tenth, 0] for sums in self._sums.values()))}
            for kind, sums in self._sums.items():
                frames, covered, width = sums[tenth]
                row[f'{kind}_coverage'] = float(covered / frames) if frames else math.nan
                row[f'{kind}_width'] = float(width / frames) if frames else math.nan
            rows.append(row)
        return rows


def with_mean_tenths(rows: Sequence[Row]) -> list[Row]:
    """Append ten rows ``MEAN``: the mean of each column over the tasks that have a value in a tenth, frames summed."""
    means = []
    for tenth in range(1, 11):
        same = [row for row in rows if row['tenth'] == tenth]
        # The first three columns are task, tenth, and num_frames.
        columns = {column: [row[column] for row in same if not math.isnan(row[column])] for column in list(same[0])[3:]}
        means.append({'task': MEAN, 'tenth': tenth, 'num_frames': sum(row['num_frames'] for row in same),
                      **{column: float(np.mean(values)) if values else math.nan for column, values in columns.items()}})
    return [*rows, *means]


def _pool(parts: Sequence[Intervals]) -> Intervals:
    """Concatenate the intervals of several actions."""
    return Intervals(*(np.concatenate(column) for column in zip(*parts, strict=True)))
