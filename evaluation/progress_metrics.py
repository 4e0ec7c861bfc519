"""Metrics of the progress within actions: means over frames, then recordings."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from evaluation.baselines import BASELINES, LABEL_FREE
from evaluation.columns import describes
from evaluation.rank_statistics import spearman_correlation
from utils.tables import Row, with_mean_row

PROGRESS_TABLE = 'action_progress'  # missing if a run has no progress head
# Class of action lengths -> shortest and longest action, in frames.
LENGTH_CLASSES = {'short': (1, 5), 'medium': (6, 20), 'long': (21, math.inf)}


class ActionCurves(NamedTuple):
    """Progress at the n frames of an action that are within the features.

    Attributes:
        handle: handle of the recording.
        length: frames of the whole action.
        true: (n,) in (0, 1].
        predicted: name of the predictor -> (n,) in [0, 1]; 'head' and the baselines.
    """

    handle: str
    length: int
    true: np.ndarray
    predicted: Mapping[str, np.ndarray]


@describes('action_progress',
           mae=('lower', "mean absolute error of the head's progress within actions: 0 is exact, 0.25 is what always "
                         'answering 0.5 scores'),
           mae_short=('lower', 'the same for actions of up to 5 frames'),
           mae_medium=('lower', 'the same for actions of 6 to 20 frames'),
           mae_long=('lower', 'the same for longer actions'))
def mean_absolute_error(curves: Sequence[ActionCurves], predictor: str = 'head',
                        lengths: tuple[float, float] = (1, math.inf)) -> float:
    """Return the mean over frames, then over recordings, of |predicted - true|.

    Args:
        curves: actions of the test recordings.
        predictor: 'head' or a baseline.
        lengths: shortest and longest action to include, in frames.

    Returns:
        In [0, 1]; NaN if there is no such action.
    """
    return _over_recordings([curve for curve in curves if lengths[0] <= curve.length <= lengths[1]],
                            lambda curve: np.abs(curve.predicted[predictor] - curve.true))


def length_bins(curves: Sequence[ActionCurves]) -> dict[tuple[int, int], int]:
    """Count actions by length: (2^k, 2^(k+1) - 1) frames -> number of actions; empty bins are left out."""
    # Lengths from 2^k to 2^(k + 1) - 1 have k + 1 bits.
    counts = Counter(int(curve.length).bit_length() for curve in curves)
    return {(2 ** (bits - 1), 2 ** bits - 1): counts[bits] for bits in sorted(counts)}


def errors_by_length(tasks: Sequence[Sequence[ActionCurves]], predictor: str,
                     bins: Sequence[tuple[float, float]]) -> list[float]:
    """Return the mean absolute error per bin of lengths: over frames, then recordings, then tasks, in [0, 1].

    Args:
        tasks: actions of each task's test recordings.
        predictor: 'head' or a baseline.
        bins: shortest and longest action of each bin, in frames; each bin has an action of at least one task.
    """
    # A task without actions in a bin has NaN there and does not count.
    return [float(np.nanmean([mean_absolute_error(curves, predictor, bounds) for curves in tasks])) for bounds in bins]


def errors_by_step(steps: Mapping[str, Sequence[ActionCurves]]) -> list[dict[str, str | float]]:
    """Return the errors of head and baselines per step, sorted by the head's error, largest first.

    Args:
        steps: label -> its actions in a task's test recordings; at least one action per label.

    Returns:
        Rows with 'step', 'num_actions', and 'mae', 'baseline_*' and 'skill' as in :func:`action_progress_row`, but
        over the actions of the step only.
    """
    rows = []
    for step, curves in steps.items():
        row = {'num_actions': len(curves), 'mae': mean_absolute_error(curves), **_baseline_errors(curves)}
        rows.append({'step': step, **row, 'skill': skill(row)})
    return sorted(rows, key=lambda row: -row['mae'])


@describes('action_progress',
           spearman=('higher', 'rank correlation of predicted with true progress within an action: 1 is the right '
                               'order, 0 none'))
def spearman(curves: Sequence[ActionCurves]) -> float:
    """Return Spearman's rank correlation of predicted and true progress, mean over actions, then recordings.

    In [-1, 1]; a constant curve scores 0, actions of a single frame are left out.
    """
    return _over_recordings([curve for curve in curves if len(curve.true) > 1],
                            # One value per action: within a recording, actions count alike, whatever their length.
                            lambda curve: np.array([spearman_correlation(curve.predicted['head'], curve.true)]))


@describes('action_progress',
           monotonicity=('higher', 'fraction of changes from frame to frame at which the progress does not fall'))
def monotonicity(curves: Sequence[ActionCurves]) -> float:
    """Return the fraction, in [0, 1], of pairs of consecutive frames over which the head's progress does not fall."""
    # (n,) -> (n - 1,): an action of one frame has no change and adds nothing.
    return _over_recordings(curves, lambda curve: np.diff(curve.predicted['head']) >= 0)


@describes('action_progress',
           first_frame_error=('lower', "error at an action's first frame"),
           last_frame_error=('lower', "error at an action's last frame"))
def frame_error(curves: Sequence[ActionCurves], index: int) -> float:
    """Return the mean over actions, then recordings, of the head's |predicted - true| at frame ``index`` (0 or -1)."""
    # The list as an index keeps the axis: (n,) -> (1,).
    return _over_recordings(curves, lambda curve: np.abs(curve.predicted['head'] - curve.true)[[index]])


def _over_recordings(curves: Sequence[ActionCurves], values: Callable[[ActionCurves], np.ndarray]) -> float:
    """Average the values of each recording's actions, pooled, then over recordings; NaN if there are no values."""
    by_recording = defaultdict(list)
    # By recording first: a recording with many or long actions must not dominate the mean.
    for curve in curves:
        by_recording[curve.handle].append(values(curve))
    pooled = [np.concatenate(parts) for parts in by_recording.values()]
    # A recording without values, such as one with single-frame actions in monotonicity, does not count.
    means = [part.mean() for part in pooled if len(part)]
    return float(np.mean(means)) if means else math.nan


@describes('action_progress',
           num_recordings=('', 'test recordings that have an action'), num_actions=('', 'actions in test recordings'))
def action_progress_row(curves: Sequence[ActionCurves]) -> dict[str, float]:
    """Return a task's row of action_progress.csv, without the task's name."""
    row = {
        'num_recordings': len({curve.handle for curve in curves}),
        'num_actions': len(curves),
        'mae': mean_absolute_error(curves),
        **{f'mae_{name}': mean_absolute_error(curves, lengths=bounds) for name, bounds in LENGTH_CLASSES.items()},
        'spearman': spearman(curves),
        'monotonicity': monotonicity(curves),
        'first_frame_error': frame_error(curves, 0),
        'last_frame_error': frame_error(curves, -1),
        **_baseline_errors(curves),
    }
    return {**row, 'skill': skill(row)}


def _baseline_errors(curves: Sequence[ActionCurves]) -> dict[str, float]:
    return {f'baseline_{name}': mean_absolute_error(curves, name) for name in BASELINES}


@describes('action_progress',
           skill=('higher', 'fraction of the error of the best baseline that the head saves, among those not given the '
                            'step. 1 is exact, 0 no better, below 0 worse'))
def skill(row: Mapping[str, float]) -> float:
    """Return 1 - MAE / MAE of the best baseline that is not given the step label; negative if the head is worse."""
    # A baseline that is told the label knows more than the head does, so skill ignores it.
    best = min(row[f'baseline_{name}'] for name in LABEL_FREE)
    return 1 - row['mae'] / best if best > 0 else math.nan  # a baseline without error leaves nothing to save


def finish_tables(rows: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    """Append the MEAN row to each table that has rows; its skill is computed from its own columns, not averaged."""
    tables = {name: with_mean_row(table) for name, table in rows.items() if table}
    if PROGRESS_TABLE in tables:
        mean = tables[PROGRESS_TABLE][-1]
        # From the mean errors: a mean of ratios would be dominated by tasks in which the baseline hardly errs.
        mean['skill'] = skill(mean)
    return tables
