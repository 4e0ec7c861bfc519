"""Metrics of the progress within actions: means over the frames of a recording, then over recordings.

The functions take the actions of one recording. Recordings are added to running means one by one, so that the frames
of all recordings are never in memory at once.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from evaluation.baselines import BASELINES, LABEL_FREE
from evaluation.columns import describes
from evaluation.rank_statistics import spearman_correlation
from evaluation.running_means import RunningMeans
from utils.tables import Row, with_mean_row

PROGRESS_TABLE = 'action_progress'  # missing if a run has no progress head
# Class of action lengths -> shortest and longest action, in frames.
LENGTH_CLASSES = {'short': (1, 5), 'medium': (6, 20), 'long': (21, math.inf)}
Bin = tuple[int, int]  # shortest and longest action, in frames
Key = TypeVar('Key')


class ActionCurves(NamedTuple):
    """Progress at the n frames of an action that are within the features.

    Attributes:
        label: what the action is called.
        length: frames of the whole action.
        true: (n,) in (0, 1].
        predicted: name of the predictor -> (n,) in [0, 1]; 'head' and the baselines.
    """

    label: str
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
    """Return the mean over the frames of a recording's actions of |predicted - true|.

    Args:
        curves: actions of the recording.
        predictor: 'head' or a baseline.
        lengths: shortest and longest action to include, in frames.

    Returns:
        In [0, 1]; NaN if there is no such action.
    """
    return _pooled([curve for curve in curves if lengths[0] <= curve.length <= lengths[1]],
                   lambda curve: np.abs(curve.predicted[predictor] - curve.true))


@describes('action_progress',
           spearman=('higher', 'rank correlation of predicted with true progress within an action: 1 is the right '
                               'order, 0 none'))
def spearman(curves: Sequence[ActionCurves]) -> float:
    """Return Spearman's rank correlation of predicted and true progress, mean over the actions of a recording.

    In [-1, 1]; a constant curve scores 0, actions of a single frame are left out.
    """
    return _pooled([curve for curve in curves if len(curve.true) > 1],
                   # One value per action: within a recording, actions count alike, whatever their length.
                   lambda curve: np.array([spearman_correlation(curve.predicted['head'], curve.true)]))


@describes('action_progress',
           monotonicity=('higher', 'fraction of changes from frame to frame at which the progress does not fall'))
def monotonicity(curves: Sequence[ActionCurves]) -> float:
    """Return the fraction, in [0, 1], of pairs of consecutive frames over which the head's progress does not fall."""
    # (n,) -> (n - 1,): an action of one frame has no change and adds nothing.
    return _pooled(curves, lambda curve: np.diff(curve.predicted['head']) >= 0)


@describes('action_progress',
           first_frame_error=('lower', "error at an action's first frame"),
           last_frame_error=('lower', "error at an action's last frame"))
def frame_error(curves: Sequence[ActionCurves], index: int) -> float:
    """Return the mean over a recording's actions of the head's |predicted - true| at frame ``index`` (0 or -1)."""
    # The list as an index keeps the axis: (n,) -> (1,).
    return _pooled(curves, lambda curve: np.abs(curve.predicted['head'] - curve.true)[[index]])


def _pooled(curves: Sequence[ActionCurves], values: Callable[[ActionCurves], np.ndarray]) -> float:
    """Return the mean of the values of all actions of a recording; NaN if there are no values."""
    # By recording first: a recording with many or long actions must not dominate the mean over recordings.
    pooled = np.concatenate([values(curve) for curve in curves]) if curves else np.zeros(0)
    return float(pooled.mean()) if len(pooled) else math.nan


@describes('action_progress',
           num_recordings=('', 'test recordings that have an action'), num_actions=('', 'actions in test recordings'))
def recording_row(curves: Sequence[ActionCurves]) -> Row:
    """Return the columns of action_progress.csv for the actions of one recording, without skill."""
    return {
        'num_recordings': int(bool(curves)),
        'num_actions': len(curves),
        'mae': mean_absolute_error(curves),
        **{f'mae_{name}': mean_absolute_error(curves, lengths=bounds) for name, bounds in LENGTH_CLASSES.items()},
        'spearman': spearman(curves),
        'monotonicity': monotonicity(curves),
        'first_frame_error': frame_error(curves, 0),
        'last_frame_error': frame_error(curves, -1),
        **_baseline_errors(curves),
    }


def action_progress_row(recordings: RunningMeans) -> Row:
    """Return a task's row of action_progress.csv, without the task's name, from its recordings' rows."""
    row = recordings.row()
    return {**row, 'skill': skill(row)}


class StepErrors:
    """Errors of head and baselines by label: over frames, then recordings."""

    def __init__(self) -> None:
        self._steps: dict[str, RunningMeans] = defaultdict(RunningMeans)

    def add(self, curves: Sequence[ActionCurves]) -> None:
        """Add the actions of a recording."""
        for label, theirs in _grouped(curves, lambda curve: curve.label).items():
            self._steps[label].add({'num_actions': len(theirs), 'mae': mean_absolute_error(theirs),
                                    **_baseline_errors(theirs)})

    def rows(self) -> list[Row]:
        """Return a row per label, sorted by the head's error, largest first.

        Returns:
            Rows with 'step', 'num_actions', and 'mae', 'baseline_*' and 'skill' as in :func:`action_progress_row`, but
            over the actions of the label only.
        """
        rows = [{'step': label, **action_progress_row(means)} for label, means in self._steps.items()]
        return sorted(rows, key=lambda row: -row['mae'])


class LengthErrors:
    """Errors of head and baselines by length of the actions: over frames, then recordings."""

    def __init__(self) -> None:
        self._bins: dict[Bin, RunningMeans] = defaultdict(RunningMeans)

    def add(self, curves: Sequence[ActionCurves]) -> None:
        """Add the actions of a recording."""
        for bounds, theirs in _grouped(curves, _bin_of).items():
            self._bins[bounds].add({'num_actions': len(theirs), **{
                name: mean_absolute_error(theirs, name) for name in theirs[0].predicted}})

    def rows(self) -> dict[Bin, Row]:
        """Return (2^k, 2^(k + 1) - 1) frames -> 'num_actions' and predictor -> error; empty bins are left out."""
        return {bounds: means.row() for bounds, means in self._bins.items()}


def _grouped(curves: Sequence[ActionCurves], key_of: Callable[[ActionCurves], Key]) -> dict[Key, list[ActionCurves]]:
    """Return key -> the actions that have it."""
    groups: dict[Key, list[ActionCurves]] = defaultdict(list)
    for curve in curves:
        groups[key_of(curve)].append(curve)
    return groups


def _bin_of(curve: ActionCurves) -> Bin:
    """Return the shortest and the longest length of the action's bin."""
    # Lengths from 2^k to 2^(k + 1) - 1 have k + 1 bits.
    bits = int(curve.length).bit_length()
    return 2 ** (bits - 1), 2 ** bits - 1


def length_bins(tasks: Sequence[LengthErrors]) -> dict[Bin, int]:
    """Count the actions of all tasks by length: shortest and longest action of a bin -> number of actions."""
    counts: dict[Bin, int] = defaultdict(int)
    for task in tasks:
        for bounds, row in task.rows().items():
            counts[bounds] += row['num_actions']
    return dict(sorted(counts.items()))


def errors_by_length(tasks: Sequence[LengthErrors], predictor: str, bins: Sequence[Bin]) -> list[float]:
    """Return the mean absolute error per bin of lengths: over frames, then recordings, then tasks, in [0, 1].

    Args:
        tasks: actions of each task's test recordings.
        predictor: 'head' or a baseline.
        bins: from :func:`length_bins`; each bin has an action of at least one task.
    """
    rows = [task.rows() for task in tasks]
    # A task without actions in a bin does not count.
    return [float(np.mean([of_task[bounds][predictor] for of_task in rows if bounds in of_task])) for bounds in bins]


def _baseline_errors(curves: Sequence[ActionCurves]) -> Row:
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
